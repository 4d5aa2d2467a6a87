//! A page of keys: weighed, sifted, and put together to batches.

use super::{
    batch::{self, Item},
    filters::Skip,
    holds::Holder,
    job::{BATCH_BYTES, BATCH_KEYS, Halted, Job},
    ledger::Worked,
    not_moved::Why,
    patience::Pass,
    tally::Outcome,
};
use crate::{
    codec::key::{Key, KeyFault},
    outbox::{Life, REDIS_TYPE, Weight},
    tier::kask::URL_TOO_LONG,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// A page's weights must be there within this.
const WEIGH_TIMEOUT: Duration = Duration::from_secs(2);
/// Before a shard that failed is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// What became of the keys, all of one shard.
pub(super) async fn work(job: &Arc<Job>, shard: usize, pass: Pass, keys: Vec<Key>) -> Worked {
    let mut worked = Worked::default();
    let kask = &job.stash.site.world.kask;
    let mut possible = Vec::with_capacity(keys.len());
    for key in keys {
        let fault = key.fault().map(KeyFault::name).or_else(|| (!kask.takes(&key)).then_some(URL_TOO_LONG));
        match fault {
            Some(reason) => worked.stays(key, Why { outcome: Outcome::Unstorable, reason, detail: None }),
            None => possible.push(key),
        }
    }
    let Ok(weights) = weigh(job, shard, &possible).await else {
        worked.cut = true;
        return worked;
    };
    let weighed = possible.len();
    let items = sift(job, possible, weights, &mut worked);
    job.has_met(worked.tally.looked_at(), 0);
    if job.pass_by(weighed - items.len()).await.is_err() {
        worked.cut = true;
        return worked;
    }
    let mut running = JoinSet::new();
    for items in batches(items, job.pace.batch_keys(BATCH_KEYS)) {
        let job = job.clone();
        running.spawn(async move { batch::work(&job, shard, pass, items).await });
    }
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(batch) => worked.add(batch),
            Err(fault) => {
                tracing::error!(stash = job.stash.name, fault = %fault, "a batch of the backfill panicked; please report this");
                worked.cut = true;
            }
        }
    }
    worked
}

async fn weigh(job: &Job, shard: usize, keys: &[Key]) -> Result<Vec<Weight>, Halted> {
    loop {
        while !job.redis_is_there(shard).await? {}
        let began = Instant::now();
        let weighed = job.unless_halted(job.outbox.weigh_many(shard, keys, began + WEIGH_TIMEOUT)).await?;
        job.holds.spent(Holder::Redis, began.elapsed());
        match weighed {
            Ok(weights) => return Ok(weights),
            Err(fault) => {
                let _waiting = job.holds.wait(Holder::Redis, fault.to_string());
                job.unless_halted(sleep(AGAIN_AFTER)).await?;
            }
        }
    }
}

/// What needs no look at the value.
fn sift(job: &Job, keys: Vec<Key>, weights: Vec<Weight>, worked: &mut Worked) -> Vec<Item> {
    let mut items = Vec::with_capacity(keys.len());
    for (key, weight) in keys.into_iter().zip(weights) {
        match (weight.life, weight.bytes, job.sieve.by_weight(&weight)) {
            (Life::Gone, ..) => worked.tally.count(Outcome::Gone),
            (_, None, _) => {
                worked.stays(key, Why { outcome: Outcome::Untranscodable, reason: REDIS_TYPE, detail: None });
            }
            (_, _, Some(skip)) => worked.tally.count(outcome_of(skip)),
            (_, Some(bytes), None) => items.push(Item { key, weight, bytes }),
        }
    }
    items
}

pub(super) fn outcome_of(skip: Skip) -> Outcome {
    match skip {
        Skip::WrittenBefore => Outcome::WrittenBefore,
        Skip::Value => Outcome::SkippedValue,
        Skip::ShortLived => Outcome::ShortLived,
    }
}

/// Cut where a batch would hold too many keys or bytes. A value over the bound is a batch of its own.
fn batches(items: Vec<Item>, keys_max: usize) -> Vec<Vec<Item>> {
    let mut batches: Vec<Vec<Item>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        match batches.last_mut() {
            Some(last) if last.len() < keys_max && bytes + item.bytes <= BATCH_BYTES => {
                bytes += item.bytes;
                last.push(item);
            }
            _ => {
                bytes = item.bytes;
                batches.push(vec![item]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_few_keys_and_few_bytes() {
        let items = |sizes: &[u64]| {
            let item = |bytes: &u64| Item {
                key: Key::from_bytes(bytes.to_string()),
                weight: Weight { bytes: Some(*bytes), life: Life::Forever },
                bytes: *bytes,
            };
            batches(sizes.iter().map(item).collect(), 3).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(items(&[]), [0; 0]);
        assert_eq!(items(&[1; 7]), [3, 3, 1]);
        assert_eq!(items(&[1, BATCH_BYTES, 1, BATCH_BYTES - 1, 1, BATCH_BYTES * 9, 1]), [1, 1, 2, 1, 1, 1]);
    }
}
