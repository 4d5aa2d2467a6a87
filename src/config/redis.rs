//! `[stash.NAME.redis]` checked: its shards, and how keys are spread over them.

mod shard;
mod tls;

use super::image::{DistributionImage, RedisImage, ShardImage, millis};
use super::model::{AfterLoss, Distribution, KetamaHash, RedisConfig, RedisPlace, ShardConfig};
use super::review::Review;
use super::stash::check_name;
use shard::{Tables, shard};
use std::{collections::BTreeMap, time::Duration};

pub(super) const TIMEOUT: Duration = Duration::from_millis(400);
/// The shard that `redis.url` alone makes.
const ONLY_SHARD: &str = "main";
/// Each has a connection, a reaper and a look every 100 ms of its own.
const SHARDS_MAX: usize = 256;
/// With the number of a point behind it, a longer one does not fit nutcracker's own buffer.
const HASHED_AS_BYTES_MAX: usize = 255;

pub(super) fn redis(name: &str, mut image: RedisImage, review: &mut Review) -> Option<RedisConfig> {
    let table = format!("stash.{name}.redis");
    let (all, images) = (image.take_connection(), std::mem::take(&mut image.shards));
    let names_one = all.url.is_some() || all.url_file.is_some() || all.master.is_some();
    let shards = match (names_one, images.is_empty()) {
        (true, false) => {
            let todo = "leave one of them out; each shard's table has a url, or a master, of its own";
            review.fault(&table, "names a Redis, and shards as well", todo);
            vec![None]
        }
        (false, false) => shards(&table, images, &all, review),
        (_, true) if names_one || all.sentinels.is_some() => {
            let tables = Tables { own: table.clone(), all: table.clone() };
            vec![shard(&tables, ONLY_SHARD, all, true, review)]
        }
        (_, true) => {
            let keys = ["url", "url_file", "sentinels", "shards"];
            let refused = keys.iter().any(|key| review.is_faulty(&format!("{table}.{key}")));
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

fn shards(
    table: &str,
    images: BTreeMap<String, ShardImage>,
    all: &ShardImage,
    review: &mut Review,
) -> Vec<Option<ShardConfig>> {
    let mut shards = Vec::new();
    for (name, image) in images {
        let tables = Tables { own: format!("{table}.shards.{name}"), all: table.to_owned() };
        check_name(&tables.own, &name, review);
        let own_login = image.has_login();
        shards.push(shard(&tables, &name, image.or(all), own_login, review));
    }
    let known = || shards.iter().flatten();
    if known().count() == shards.len() {
        if all.sentinels.is_some() && !known().any(|shard| matches!(shard.at, RedisPlace::Sentinels(_))) {
            let todo = "remove it, or give the shards it is for a master instead of a url";
            review.fault(&format!("{table}.sentinels"), "is asked for no shard: each has a url", todo);
        }
        if !known().any(|shard| shard.tls.is_some()) {
            tls::unused(table, review);
        }
    }
    shards
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
            if other.at.to_string() == shard.at.to_string() {
                let what = format!("is the Redis of shard {} too", other.name);
                let by = if matches!(shard.at, RedisPlace::Url(_)) { "url" } else { "master" };
                review.fault(&key(by), what, "name another Redis, or leave one of the two shards out");
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
