//! A stash's outbox: counts, and what was given up on.

use super::{
    problem::Problem,
    views::{DamagedView, JudgedView, OutboxView, ShardOutboxView},
};
use crate::{
    codec::show::{self, rfc3339},
    outbox::{Damaged, Verdict},
    protocol::world::{Direction, Token},
    stash::{Stash, inspect::hex},
};
use http::StatusCode;
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tokio::time::Instant;

/// Damaged intents listed a shard.
const DAMAGED_MAX: usize = 1_000;
/// Characters of a key that are shown.
const KEY_CHARS_MAX: usize = 1_024;
/// Hex digits of a key's digest: enough to find one's own, too few to be a key.
const DIGEST_CHARS: usize = 16;
/// One shard is asked for so long.
const SHARD_TIMEOUT: Duration = Duration::from_secs(2);

/// `keys`: whether keys are shown, which are personal data.
pub(super) async fn view(stash: &Stash, keys: bool) -> OutboxView {
    let figures = stash.figures();
    let mut shards = Vec::with_capacity(figures.shards.len());
    for (index, shard) in figures.shards.into_iter().enumerate() {
        let (damaged_intents, error) = match shard.damaged {
            // The last look says that there is none: nothing to ask for.
            Some(0) => (Vec::new(), None),
            _ => match damaged(stash, index).await {
                Ok(list) => (list.iter().map(|damaged| shown(damaged, keys)).collect(), None),
                Err(why) => (Vec::new(), Some(why)),
            },
        };
        shards.push(ShardOutboxView {
            name: shard.name,
            to_kask: shard.to_kask,
            to_redis: shard.to_redis,
            damaged: shard.damaged,
            oldest_ms: shard.oldest_ms,
            seen_ms_ago: shard.seen_ms_ago,
            error,
            damaged_intents,
        });
    }
    let sum = |figure: fn(&ShardOutboxView) -> Option<u64>| shards.iter().filter_map(figure).sum();
    OutboxView {
        stash: stash.name.clone(),
        to_kask: sum(|shard| shard.to_kask),
        to_redis: sum(|shard| shard.to_redis),
        damaged: sum(|shard| shard.damaged),
        oldest_ms: shards.iter().filter_map(|shard| shard.oldest_ms).max(),
        shards,
    }
}

async fn damaged(stash: &Stash, shard: usize) -> Result<Vec<Damaged>, String> {
    let Some(outbox) = stash.site.world.outbox.as_deref() else { return Ok(Vec::new()) };
    let until = Instant::now() + SHARD_TIMEOUT;
    outbox.damaged(shard, DAMAGED_MAX, until).await.map_err(|fault| fault.to_string())
}

/// Retries or forgets a damaged intent.
pub(super) async fn judge(stash: &Stash, id: &str, verdict: Verdict) -> Result<JudgedView, Problem> {
    let unknown = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no-such-intent",
            "there is no damaged intent of this id; the outbox lists them (it may have been retried or dropped already)",
        )
    };
    let well_formed = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let token = u128::from_str_radix(id, 16).ok().filter(|_| well_formed).map(Token).ok_or_else(unknown)?;
    let outbox = stash.site.world.outbox.as_deref().ok_or_else(unknown)?;
    let judged = outbox.judge(token, verdict, Instant::now() + SHARD_TIMEOUT).await;
    match judged.map_err(|fault| Problem::busy(format!("a shard could not be asked: {fault}")))? {
        false => Err(unknown()),
        true => {
            let now = match verdict {
                Verdict::Retry => "retried",
                Verdict::Drop => "dropped",
            };
            tracing::info!(stash = stash.name, intent = id, now, "an operator judged a damaged intent");
            Ok(JudgedView { id: id.to_owned(), now: now.to_owned() })
        }
    }
}

fn shown(damaged: &Damaged, keys: bool) -> DamagedView {
    let mut key_sha256 = hex(&Sha256::digest(damaged.key.as_bytes()));
    key_sha256.truncate(DIGEST_CHARS);
    DamagedView {
        id: format!("{:032x}", damaged.token.0),
        key_sha256,
        key: keys.then(|| show::bytes(damaged.key.as_bytes(), KEY_CHARS_MAX).0),
        since: rfc3339(damaged.since_unix_ms),
        tries: damaged.tries,
        direction: match damaged.direction {
            Direction::ToKask => "kask".to_owned(),
            Direction::ToRedis => "redis".to_owned(),
        },
        reason: damaged.reason.clone(),
    }
}
