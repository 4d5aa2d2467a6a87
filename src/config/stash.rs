//! One `[stash.NAME]` table checked: its tiers, its time budget, its outbox.

use super::BaseUri;
use super::image::millis;
use super::image::{BackfillImage, GuardsImage, KaskImage, OutboxImage, StashImage};
use super::model::{
    BackfillConfig, GuardsConfig, KaskConfig, KaskEndpoint, OnTierFailure, OutboxConfig, Replication, StashConfig,
};
use super::review::Review;
use super::{redis, secret_file, urls};
use crate::phase::Phase;
use std::{net::SocketAddr, time::Duration};

/// The Envoy in front gives up after 2.5 s, and everything for one request fits in that.
const REQUEST_BUDGET: Duration = Duration::from_millis(2_500);
/// How long a Kask holds a request while its Cassandra hangs, after which it may still apply it (measured).
const KASK_HOLDS: Duration = Duration::from_secs(12);
const KASK_TIMEOUT: Duration = Duration::from_millis(1_200);
const SHADOW_SHARE: f64 = 0.01;
/// Names become labels, file names and parts of Redis keys.
const NAME_BYTES_MAX: usize = 64;

/// The base URI alone, so that stashes can be compared whatever else is wrong with them.
pub(super) fn base_uri(name: &str, text: Option<&str>, review: &mut Review) -> Option<BaseUri> {
    let key = format!("stash.{name}.base_uri");
    let text =
        review.required(&key, text, "set it to the path of Kask's that MediaWiki asks, such as \"/echoseen/v1/\"")?;
    text.parse().map_err(|fault| review.fault(&key, format!("{fault}"), "write it as \"/echoseen/v1/\"")).ok()
}

/// `own`: the listeners' keys and addresses, which no tier may be at.
pub(super) fn stash(
    name: &str,
    image: StashImage,
    base_uri: Option<BaseUri>,
    own: &[(&str, SocketAddr)],
    review: &mut Review,
) -> Option<StashConfig> {
    let at = |key: &str| format!("stash.{name}.{key}");
    check_name(&format!("stash.{name}"), name, review);
    let todo = "set it to the phase of the first start: redis-only changes nothing yet";
    let phase = review.required(&at("phase"), image.phase, todo);
    let todo = "set it to RESTBagOStuff's serialization_type, json or php: a wrong one makes every read a miss";
    let serialization = review.required(&at("serialization"), image.serialization, todo);
    let todo = "set it to Kask's own default_ttl, in seconds (31536000 is a year, 0 never expires)";
    let default_ttl_s = review.required(&at("default_ttl"), image.default_ttl, todo);
    let hmac_file = image.hmac_key_file.as_deref();
    let hmac_key = secret_file::either(&at("hmac_key"), image.hmac_key, hmac_file, review);
    let kask = kask(name, &image.kask, own, review);
    let redis_written = image.redis.is_some();
    let redis = image.redis.and_then(|image| redis::redis(name, image, review));
    if !redis_written && phase.is_none_or(Phase::uses_redis) && !review.is_faulty(&at("redis")) {
        let todo = format!("add [stash.{name}.redis] with a url; only a stash in kask-only can do without");
        review.fault(&at("redis"), "is missing, and the phase needs Redis", todo);
    }
    let kask_timeout = millis(image.kask.timeout_ms, KASK_TIMEOUT);
    budget(name, kask_timeout, redis.as_ref().map_or(redis::TIMEOUT, |redis| redis.timeout), redis_written, review);
    let embedded = image.kask.embedded.unwrap_or(false);
    let outbox = outbox(name, &image.outbox, kask_timeout, embedded, review);
    Some(StashConfig {
        name: name.to_owned(),
        base_uri: base_uri?,
        phase: phase?,
        serialization: serialization?,
        hmac_key,
        default_ttl_s: default_ttl_s?,
        replication: image.replication.unwrap_or(Replication::Sync),
        on_tier_failure: image.on_tier_failure.unwrap_or(OnTierFailure::Heal),
        shadow_share: image.shadow_share.unwrap_or(SHADOW_SHARE),
        guards: guards(&image.guards, embedded),
        kask: kask?,
        redis,
        outbox,
        backfill: backfill(&image.backfill),
    })
}

pub(super) fn check_name(key: &str, name: &str, review: &mut Review) {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let fits =
        name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains("__") && name.len() <= NAME_BYTES_MAX;
    if !(plain && fits) {
        let what = format!("the name {name:?} cannot be used: it becomes a label, a file name and part of variables");
        let todo = format!("begin it with a-z; then a-z, 0-9 and single \"_\", at most {NAME_BYTES_MAX} in all");
        review.fault(key, what, todo);
    }
}

fn kask(name: &str, image: &KaskImage, own: &[(&str, SocketAddr)], review: &mut Review) -> Option<KaskConfig> {
    let at = |key: &str| format!("stash.{name}.kask.{key}");
    let timeout = millis(image.timeout_ms, KASK_TIMEOUT);
    let endpoint = match (image.embedded.unwrap_or(false), image.url.as_deref()) {
        (true, None) => KaskEndpoint::Embedded,
        (true, Some(_)) => {
            let todo = "leave out embedded (to use the Kask at url), or url (to use the one in this process)";
            review.fault(&at("url"), "is set, and embedded = true as well", todo);
            return None;
        }
        (false, None) => {
            let refused = review.is_faulty(&at("url")) || review.is_faulty(&at("embedded"));
            if !refused {
                let todo = "set url = \"http://kask.example:8081/echoseen/v1/\", or embedded = true to try decant out";
                review.fault(&format!("stash.{name}.kask"), "names no Kask", todo);
            }
            return None;
        }
        (false, Some(text)) => {
            let url = urls::kask_url(text).map_err(|(what, todo)| review.fault(&at("url"), what, todo)).ok()?;
            let address = url.socket_addrs_of_literal();
            if let Some((key, listen)) = own.iter().find(|(_, listen)| address == Some(*listen)) {
                let what = format!("is decant itself ({key} = {listen}): every request would come back");
                review.fault(&at("url"), what, "name the Kask behind decant");
                return None;
            }
            KaskEndpoint::Url(url.into())
        }
    };
    Some(KaskConfig { endpoint, timeout })
}

/// The address of a URL whose host is an IP address; names are not resolved here.
trait LiteralAddress {
    fn socket_addrs_of_literal(&self) -> Option<SocketAddr>;
}

impl LiteralAddress for url::Url {
    fn socket_addrs_of_literal(&self) -> Option<SocketAddr> {
        let ip = match self.host()? {
            url::Host::Ipv4(ip) => ip.into(),
            url::Host::Ipv6(ip) => ip.into(),
            url::Host::Domain(_) => return None,
        };
        Some(SocketAddr::new(ip, self.port_or_known_default()?))
    }
}

/// A write waits for Redis, then Kask, and for Redis once more where its fence turned out to differ.
fn budget(name: &str, kask: Duration, redis: Duration, redis_written: bool, review: &mut Review) {
    let sum = kask + 2 * redis;
    if redis_written && sum > REQUEST_BUDGET {
        let what = format!(
            "{} ms for Kask and twice {} ms for Redis are {} ms, and a request must end within {} ms",
            kask.as_millis(),
            redis.as_millis(),
            sum.as_millis(),
            REQUEST_BUDGET.as_millis()
        );
        review.fault(&format!("stash.{name}.kask.timeout_ms"), what, "lower this, or redis.timeout_ms");
    }
}

fn backfill(image: &BackfillImage) -> BackfillConfig {
    let default = BackfillConfig::default();
    BackfillConfig {
        keys_per_s: image.keys_per_s.unwrap_or(default.keys_per_s),
        bytes_per_s: image.bytes_per_s.unwrap_or(default.bytes_per_s),
        harmless: millis(image.harmless_ms, default.harmless),
    }
}

fn guards(image: &GuardsImage, embedded: bool) -> GuardsConfig {
    let default = if embedded { GuardsConfig::UNSOAKED } else { GuardsConfig::default() };
    GuardsConfig {
        soak: image.soak_s.map_or(default.soak, Duration::from_secs),
        shadow_mismatch_max: image.shadow_mismatch_max.unwrap_or(default.shadow_mismatch_max),
        kask_errors_max: image.kask_errors_max.unwrap_or(default.kask_errors_max),
    }
}

fn outbox(name: &str, image: &OutboxImage, kask: Duration, embedded: bool, review: &mut Review) -> OutboxConfig {
    let at = |key: &str| format!("stash.{name}.outbox.{key}");
    let default = OutboxConfig::default();
    let outbox = OutboxConfig {
        lease: millis(image.lease_ms, default.lease),
        look_every: millis(image.look_every_ms, default.look_every),
        look_fresh: millis(image.look_fresh_ms, default.look_fresh),
        settle_wait: millis(image.settle_wait_ms, default.settle_wait),
        pending_keys_max: image.pending_keys_max.unwrap_or(default.pending_keys_max),
        tries_max: image.tries_max.unwrap_or(default.tries_max),
    };
    let short_allowed = image.allow_short_lease.unwrap_or(false);
    let safe = outbox.lease > KASK_HOLDS + kask;
    let lease_ms = outbox.lease.as_millis();
    if outbox.lease <= 2 * kask {
        let what = format!("{lease_ms} ms is not more than twice the {} ms of kask.timeout_ms", kask.as_millis());
        review.fault(&at("lease_ms"), what, "raise it, or lower kask.timeout_ms; 15000 is right with a real Kask");
    } else if !safe && !embedded && !short_allowed {
        let what = format!(
            "{lease_ms} ms is not more than the {} ms that Kask can hold a request while Cassandra hangs, \
             so a late write could undo a newer one",
            (KASK_HOLDS + kask).as_millis()
        );
        let todo = "leave it at 15000, or set allow_short_lease = true where no Cassandra is behind this Kask";
        review.fault(&at("lease_ms"), what, todo);
    } else if !safe && !embedded {
        let what = format!("{lease_ms} ms is shorter than Kask can hold a request: only for a Kask without Cassandra");
        review.warn(&at("lease_ms"), what);
    }
    if outbox.look_fresh <= outbox.look_every {
        let what = "is not longer than look_every_ms: every look would be stale before the next, and all keys pending";
        review.fault(&at("look_fresh_ms"), what, "keep it at twice look_every_ms");
    }
    if outbox.settle_wait <= outbox.look_fresh {
        let what = "is not longer than look_fresh_ms: another decant could still serve the older value";
        review.fault(&at("settle_wait_ms"), what, "raise it above look_fresh_ms");
    }
    outbox
}
