//! A sample of Redis's keys, looked for in Kask: enough to notice that it was emptied, or was not; not to prove either.

use super::Stash;
use crate::{
    codec::key::Key,
    phase::Phase,
    protocol::{
        World,
        world::{KaskGot, Millis, Seen, Stored},
    },
    scan::{Place, Step, Walk},
};
use bytes::Bytes;
use std::{collections::HashSet, time::Duration};
use tokio::time::{Instant, timeout_at};

/// Everything for one sample; half of it for finding keys.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a sample found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub sampled: u64,
    pub in_kask: u64,
}

/// Looks for the first keys that SCAN gives, which are in no order that means anything: at most `most`, over all shards, and of them those
/// that are in `phase`, for some may be ahead.
///
/// # Errors
/// Why Redis does not tell its keys.
pub async fn take(stash: &Stash, phase: Phase, most: usize) -> Result<Sample, String> {
    let (scan_until, until) = (Instant::now() + SAMPLE_TIMEOUT / 2, Instant::now() + SAMPLE_TIMEOUT);
    let mut sample = Sample::default();
    let shards = stash.views.len().max(1);
    for shard in 0..stash.views.len() {
        for key in some_keys(stash, shard, most.div_ceil(shards), scan_until).await? {
            if Instant::now() >= until {
                return Ok(sample);
            }
            if stash.site.belief().phase_of(&key) == phase && key.fault().is_none() {
                look_for(stash, &key, &mut sample).await;
            }
        }
    }
    Ok(sample)
}

async fn some_keys(stash: &Stash, shard: usize, most: usize, until: Instant) -> Result<HashSet<Key>, String> {
    let mut keys = HashSet::new();
    let Some(outbox) = &stash.site.world.outbox else { return Ok(keys) };
    let mut walk = Walk::new(outbox.clone(), shard, Place::Start, None);
    while keys.len() < most {
        match timeout_at(until, walk.next()).await {
            Ok(Ok(Step::Page(page))) => keys.extend(page.keys.into_iter().take(most - keys.len())),
            Ok(Ok(Step::BegunAgain)) => {}
            Ok(Ok(Step::End)) => break,
            Err(_) if !keys.is_empty() => break,
            Ok(Err(fault)) => return Err(format!("SCAN on shard {}: {fault}", stash.shard_name(shard))),
            Err(_) => return Err(format!("SCAN on shard {} gave no key in time", stash.shard_name(shard))),
        }
    }
    Ok(keys)
}

/// Redis is read before and after Kask: only what nobody wrote meanwhile, and nobody is copying, counts.
async fn look_for(stash: &Stash, key: &Key, sample: &mut Sample) {
    let site = &stash.site;
    let until = site.world.now() + site.settings.budget;
    let Some(before) = at_rest(stash, key, until).await else { return };
    let in_kask = match site.world.kask_get(key, until).await {
        KaskGot::Hit(_) => true,
        KaskGot::Miss => false,
        KaskGot::Error(_) => return,
    };
    if at_rest(stash, key, until).await.as_ref() == Some(&before) {
        sample.sampled += 1;
        sample.in_kask += u64::from(in_kask);
    }
}

/// Redis's value, if it has one that can be copied and no intent is open.
async fn at_rest(stash: &Stash, key: &Key, until: Millis) -> Option<Bytes> {
    let seen = stash.site.world.read(key, &stash.site.belief().text, until).await.ok()?;
    match seen {
        Seen { record: None, value: Stored::Body(body), .. } => Some(body),
        _ => None,
    }
}
