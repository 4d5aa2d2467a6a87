//! `[stash.NAME.redis]` checked: its shards, and how keys are spread over them.

use super::image::{DistributionImage, RedisImage, ShardImage, millis};
use super::model::{AfterLoss, Distribution, KetamaHash, RedisConfig, RedisUrl, ShardConfig};
use super::review::Review;
use super::stash::check_name;
use super::urls::{self, RedisParts};
use super::{fault::Place, secret_file};
use std::{path::Path, time::Duration};

pub(super) const TIMEOUT: Duration = Duration::from_millis(400);
/// The shard that `redis.url` alone makes.
const ONLY_SHARD: &str = "main";
/// Each has a connection, a reaper and a look every 100 ms of its own.
const SHARDS_MAX: usize = 256;
/// With the number of a point behind it, a longer one does not fit nutcracker's own buffer.
const HASHED_AS_BYTES_MAX: usize = 255;

pub(super) fn redis(name: &str, mut image: RedisImage, review: &mut Review) -> Option<RedisConfig> {
    let table = format!("stash.{name}.redis");
    let only = ShardImage {
        url: image.url.take(),
        url_file: image.url_file.take(),
        username: image.username.take(),
        password_file: image.password_file.take(),
        password: image.password.take(),
        ..ShardImage::default()
    };
    let single = only.url.is_some() || only.url_file.is_some();
    let shards = match (single, image.shards.is_empty()) {
        (true, true) => vec![shard(&table, ONLY_SHARD, only, review)],
        (false, false) => {
            let each = std::mem::take(&mut image.shards).into_iter().map(|(shard_name, image)| {
                let key = format!("{table}.shards.{shard_name}");
                check_name(&key, &shard_name, review);
                shard(&key, &shard_name, image, review)
            });
            each.collect()
        }
        (true, false) => {
            review.fault(&table, "has a url and shards", "leave one of them out");
            vec![None]
        }
        (false, true) => {
            let refused = ["url", "url_file", "shards"].iter().any(|key| review.is_faulty(&format!("{table}.{key}")));
            if !refused {
                review.fault(&table, "names no Redis", "set url = \"redis://127.0.0.1:6379/0\"");
            }
            vec![None]
        }
    };
    let distribution = distribution(&table, &image, shards.len(), review);
    let shards: Vec<ShardConfig> = shards.into_iter().collect::<Option<_>>()?;
    told_apart(&table, distribution?, &shards, review);
    Some(RedisConfig {
        shards,
        distribution: distribution?,
        prefix: image.prefix.unwrap_or_default(),
        timeout: millis(image.timeout_ms, TIMEOUT),
        after_loss: image.after_loss.unwrap_or(AfterLoss::Serve),
    })
}

fn distribution(table: &str, image: &RedisImage, shards: usize, review: &mut Review) -> Option<Distribution> {
    let key = format!("{table}.distribution");
    let word = image.distribution.unwrap_or(DistributionImage::Single);
    if !matches!(word, DistributionImage::Ketama) {
        for (name, set) in [("hash", image.hash.is_some()), ("hash_tag", image.hash_tag.is_some())] {
            if set {
                let todo = "remove it, or set distribution = \"ketama\"";
                review.fault(&format!("{table}.{name}"), "means something for distribution = \"ketama\" only", todo);
            }
        }
    }
    if shards > SHARDS_MAX {
        let what = format!("names {shards} shards, and a stash can have {SHARDS_MAX}");
        review.fault(&format!("{table}.shards"), what, "spread the keys over fewer");
        return None;
    }
    match word {
        DistributionImage::Single if shards > 1 && !review.is_faulty(&key) => {
            let what = format!("is \"single\", and {shards} shards are named");
            let todo = "set it to what has placed the keys so far: \"ketama\" for nutcracker (twemproxy), \"mediawiki\" for \
                        RedisBagOStuff with several servers";
            review.fault(&key, what, todo);
            None
        }
        DistributionImage::Single => Some(Distribution::Single),
        DistributionImage::Mediawiki => Some(Distribution::Mediawiki),
        DistributionImage::Ketama => {
            let tag = match image.hash_tag.as_deref().map(|tag| <[u8; 2]>::try_from(tag.as_bytes())).transpose() {
                Ok(tag) => tag,
                Err(_) => {
                    let todo = "write it as nutcracker's hash_tag, such as \"{}\", or leave it out";
                    review.fault(&format!("{table}.hash_tag"), "is not two characters of ASCII", todo);
                    return None;
                }
            };
            Some(Distribution::Ketama { hash: image.hash.unwrap_or(KetamaHash::Fnv1a64), tag })
        }
    }
}

/// No two shards are one Redis, and none is hashed as another.
fn told_apart(table: &str, distribution: Distribution, shards: &[ShardConfig], review: &mut Review) {
    for (i, shard) in shards.iter().enumerate() {
        let key = |name: &str| format!("{table}.shards.{}.{name}", shard.name);
        for other in &shards[..i] {
            if other.url.to_string() == shard.url.to_string() {
                let what = format!("is the Redis of shard {} too", other.name);
                review.fault(&key("url"), what, "name another Redis, or leave one of the two shards out");
            }
            if other.hashed_as == shard.hashed_as {
                let what = format!("{:?} is what shard {} is hashed as", shard.hashed_as, other.name);
                review.fault(&key("hashed_as"), what, "give each shard the string that its own place was hashed with");
            }
        }
        if shard.weight != 1 && !matches!(distribution, Distribution::Ketama { .. }) {
            let todo = "remove it, or set distribution = \"ketama\"";
            review.fault(&key("weight"), "means something for distribution = \"ketama\" only", todo);
        }
        let spread = shards.len() > 1;
        match distribution {
            Distribution::Ketama { .. } if spread => hashed_by_nutcracker(&key("hashed_as"), &shard.hashed_as, review),
            Distribution::Mediawiki if spread => hashed_by_mediawiki(&key("hashed_as"), &shard.hashed_as, review),
            Distribution::Single | Distribution::Ketama { .. } | Distribution::Mediawiki => {}
        }
    }
}

fn hashed_by_nutcracker(key: &str, text: &str, review: &mut Review) {
    let number = |part: Option<&str>| part.is_some_and(|part| part.bytes().all(|b| b.is_ascii_digit()));
    let mut parts = text.rsplitn(3, ':');
    if number(parts.next()) && number(parts.next()) && parts.next().is_some() {
        let what = format!("{text:?} ends with a port and a weight, and nutcracker hashes no weight");
        let todo = "leave \":weight\" away, and set weight; of a server with a name, nutcracker hashes the name alone";
        review.fault(key, what, todo);
    } else if text.ends_with(":11211") {
        let what = format!("{text:?} has the port 11211, which nutcracker does not hash");
        review.fault(key, what, "leave \":11211\" away");
    } else if text.bytes().any(|b| b.is_ascii_whitespace()) {
        let what = format!("{text:?} holds a space");
        review.fault(
            key,
            what,
            "of a server with a name nutcracker hashes the name alone: what stands behind the space",
        );
    }
}

fn hashed_by_mediawiki(key: &str, text: &str, review: &mut Review) {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let what = format!("{text:?} is a number, which PHP takes for a place in the list and does not hash");
        review.fault(key, what, "write the server as MediaWiki's servers has it, such as \"10.0.0.1:6379\"");
    }
}

fn shard(table: &str, name: &str, image: ShardImage, review: &mut Review) -> Option<ShardConfig> {
    let url_key = format!("{table}.url");
    let from_file = matches!(review.place(&url_key), Place::File { .. });
    let in_file = image.url.is_some() && from_file;
    let has_url = image.url.is_some() || image.url_file.is_some();
    let key = if image.url.is_some() { url_key.clone() } else { format!("{table}.url_file") };
    let password =
        secret_file::either(&format!("{table}.password"), image.password, image.password_file.as_deref(), review);
    let url = secret_file::either(&url_key, image.url, image.url_file.as_deref().map(Path::new), review);
    if !has_url && !review.is_faulty(&url_key) && !review.is_faulty(&format!("{table}.url_file")) {
        review.fault(&url_key, "is missing", "set it to \"redis://host:6379/0\", or name a url_file that holds it");
    }
    let url = url?;
    let (Ok(text), Ok(password)) =
        (std::str::from_utf8(url.expose()), password.as_ref().map(|p| std::str::from_utf8(p.expose())).transpose())
    else {
        review.fault(&key, "holds, or its password does, bytes that are not UTF-8", "write both as UTF-8");
        return None;
    };
    let username = image.username.as_deref();
    let parts = RedisParts { url: text, username, password, credentials_allowed: !in_file };
    let url: RedisUrl = urls::redis_url(&parts).map_err(|(what, todo)| review.fault(&key, what, todo)).ok()?;
    let hashed_as = hashed_as(table, name, image.hashed_as, review)?;
    Some(ShardConfig { name: name.to_owned(), hashed_as, weight: image.weight.unwrap_or(1), url })
}

fn hashed_as(table: &str, name: &str, text: Option<String>, review: &mut Review) -> Option<String> {
    let text = text.unwrap_or_else(|| name.to_owned());
    if text.is_empty() || text.len() > HASHED_AS_BYTES_MAX {
        let what = format!("is {} bytes long, and must have 1 to {HASHED_AS_BYTES_MAX}", text.len());
        let todo =
            "write what nutcracker or MediaWiki hashes for this server, or leave it out to hash the shard's name";
        review.fault(&format!("{table}.hashed_as"), what, todo);
        return None;
    }
    Some(text)
}
