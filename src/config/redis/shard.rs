//! One Redis checked: where it is, who decant is to it, and how TLS is spoken.

use super::{HASHED_AS_BYTES_MAX, tls};
use crate::config::fault::Place;
use crate::config::image::{SecretText, ShardImage};
use crate::config::model::{Login, RedisPlace, SentinelConfig, ShardConfig};
use crate::config::review::Review;
use crate::config::secret_file;
use crate::config::urls::{self, RedisParts};
use std::path::PathBuf;

/// Redis's own.
const SENTINEL_PORT: u16 = 26_379;

/// The tables that a shard's keys stand in.
pub(super) struct Tables {
    pub own: String,
    /// The redis table, where it is not the shard's own: what is left out in the shard's counts from there.
    pub all: String,
}

impl Tables {
    /// The path of a key, for a fault: where it stands, or could.
    pub fn key(&self, name: &str, review: &Review) -> String {
        let (own, all) = (format!("{}.{name}", self.own), format!("{}.{name}", self.all));
        if !review.place_known(&own) && review.place_known(&all) { all } else { own }
    }

    fn refused(&self, names: &[&str], review: &Review) -> bool {
        names.iter().any(|name| review.is_faulty(&format!("{}.{name}", self.own)))
    }
}

/// `image`: with what counts for all shards filled in. `own_login`: the shard's table has a user or password of its own.
pub(super) fn shard(
    tables: &Tables,
    name: &str,
    image: ShardImage,
    own_login: bool,
    review: &mut Review,
) -> Option<ShardConfig> {
    let hashed_as = hashed_as(tables, name, image.hashed_as.as_deref(), review);
    let at = match (image.url.is_some() || image.url_file.is_some(), image.sentinels.is_some()) {
        (true, true) => {
            let todo = "leave url out (to ask the Sentinels for the primary), or sentinels";
            review.fault(&tables.key("sentinels", review), "is set, and a url as well", todo);
            None
        }
        (true, false) => by_url(tables, &image, own_login, review),
        (false, true) => by_sentinels(tables, &image, review).map(RedisPlace::Sentinels),
        (false, false) => {
            if !tables.refused(&["url", "url_file", "sentinels"], review) {
                let todo =
                    "set it to \"redis://host:6379/0\", or name a url_file that holds it, or sentinels and master";
                review.fault(&format!("{}.url", tables.own), "is missing", todo);
            }
            None
        }
    };
    let speaks_tls = match &at {
        None => return None,
        Some(RedisPlace::Url(url)) => url.is_tls(),
        Some(RedisPlace::Sentinels(_)) => image.tls.unwrap_or(false),
    };
    let tls = if speaks_tls { Some(tls::tls(tables, &image, review)?) } else { None };
    if tls.is_none() {
        tls::unused(&tables.own, review);
    }
    Some(ShardConfig { name: name.to_owned(), hashed_as: hashed_as?, weight: image.weight.unwrap_or(1), at: at?, tls })
}

fn by_url(tables: &Tables, image: &ShardImage, own_login: bool, review: &mut Review) -> Option<RedisPlace> {
    for (key, set) in
        [("master", image.master.is_some()), ("database", image.database.is_some()), ("tls", image.tls.is_some())]
    {
        if set {
            let todo = "remove it, or name sentinels instead of url; a URL says by itself: rediss:// for TLS, /0 for the database";
            review.fault(&tables.key(key, review), "means something beside sentinels only", todo);
        }
    }
    let url_key = format!("{}.url", tables.own);
    let from_file = matches!(review.place(&url_key), Place::File { .. });
    let in_file = image.url.is_some() && from_file;
    let key = if image.url.is_some() { url_key.clone() } else { format!("{}.url_file", tables.own) };
    let url = secret_file::either(&url_key, image.url.clone(), image.url_file.as_deref(), review)?;
    let Ok(text) = std::str::from_utf8(url.expose()) else {
        review.fault(&key, "holds bytes that are not UTF-8", "write it as UTF-8");
        return None;
    };
    // What counts for all shards does not count for one whose URL says otherwise.
    let login = match own_login || !urls::has_login(text) {
        true => login(tables, "", (&image.username, &image.password, &image.password_file), review)?,
        false => Login::default(),
    };
    let password = login.password.as_ref().map(|password| std::str::from_utf8(password.expose()));
    let Ok(password) = password.transpose() else {
        let key = tables.key("password_file", review);
        review.fault(&key, "holds bytes that are not UTF-8", "write the password as UTF-8");
        return None;
    };
    let username = login.username.as_deref();
    let parts = RedisParts { url: text, username, password, credentials_allowed: !in_file };
    urls::redis_url(&parts).map_err(|(what, todo)| review.fault(&key, what, todo)).ok().map(RedisPlace::Url)
}

/// Who decant is to a Redis or, with `prefix`, to its Sentinels. None: a fault, which is in `review`.
fn login(
    tables: &Tables,
    prefix: &str,
    (username, password, file): (&Option<String>, &Option<SecretText>, &Option<PathBuf>),
    review: &mut Review,
) -> Option<Login> {
    let named = password.is_some() || file.is_some();
    let name = format!("{prefix}password");
    let key = match password {
        Some(_) => tables.key(&name, review),
        None => tables.key(&format!("{name}_file"), review).trim_end_matches("_file").to_owned(),
    };
    let password = secret_file::either(&key, password.clone(), file.as_deref(), review);
    (password.is_some() || !named).then(|| Login { username: username.clone(), password })
}

fn by_sentinels(tables: &Tables, image: &ShardImage, review: &mut Review) -> Option<SentinelConfig> {
    let mut sentinels = Vec::new();
    let mut faulty = false;
    for text in image.sentinels.iter().flatten() {
        match urls::host_and_port(text, SENTINEL_PORT) {
            Some(place) => sentinels.push(place),
            None => {
                let todo = "write each Sentinel as \"host:26379\", or \"[::1]:26379\"; TLS and passwords have keys of their own";
                review.fault(&tables.key("sentinels", review), format!("{text:?} is no host and port"), todo);
                faulty = true;
            }
        }
    }
    let master_key = format!("{}.master", tables.own);
    let todo = "set it to the name that the Sentinels watch this Redis under, such as \"mymaster\"";
    let master = review.required(&master_key, image.master.clone().filter(|name| !name.is_empty()), todo);
    let login = login(tables, "", (&image.username, &image.password, &image.password_file), review);
    let at_sentinel = (&image.sentinel_username, &image.sentinel_password, &image.sentinel_password_file);
    let sentinel_login = self::login(tables, "sentinel_", at_sentinel, review);
    if faulty {
        return None;
    }
    Some(SentinelConfig {
        sentinels,
        master: master?,
        database: image.database.unwrap_or(0),
        login: login?,
        sentinel_login: sentinel_login?,
    })
}

fn hashed_as(tables: &Tables, name: &str, text: Option<&str>, review: &mut Review) -> Option<String> {
    let text = text.unwrap_or(name);
    if text.is_empty() || text.len() > HASHED_AS_BYTES_MAX {
        let what = format!("is {} bytes long, and must have 1 to {HASHED_AS_BYTES_MAX}", text.len());
        let todo =
            "write what nutcracker or MediaWiki hashes for this server, or leave it out to hash the shard's name";
        review.fault(&format!("{}.hashed_as", tables.own), what, todo);
        return None;
    }
    Some(text.to_owned())
}
