//! One shard of a run: its pages in order, a few of them at a time.

use super::{
    holds::Holder,
    job::{Halted, Job},
    ledger::Worked,
    page,
    patience::Pass,
};
use crate::{
    codec::key::Key,
    scan::{Counts, Place, Step, Walk, names_on},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Pages of a shard under way at once, so that the next is at hand when one ends.
const PAGES_AHEAD: usize = 3;
/// Before a shard that gave no page is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Keys that are tried again together, at the end of a run.
const AGAIN_KEYS: usize = 512;

/// A page under way.
struct Ahead {
    keys: Vec<Key>,
    counts: Counts,
    /// Behind the page.
    place: Place,
    work: JoinHandle<Worked>,
}

/// Walks one shard to its end, or until the run is to stop.
pub(super) async fn shard(job: Arc<Job>, shard: usize, from: Place) {
    let mut walk = Walk::new(job.outbox.clone(), shard, from, job.sieve.only.clone());
    let mut ahead = VecDeque::new();
    loop {
        let full = ahead.len() >= PAGES_AHEAD || *walk.place() == Place::End || job.is_halted();
        if !full {
            match next(&job, shard, &mut walk).await {
                Ok(Step::Page(page)) => {
                    let passed = (page.counts.names as usize).saturating_sub(page.keys.len());
                    ahead.push_back(begin(&job, shard, page.keys, page.counts, &walk));
                    // Halted or not: the loop looks.
                    let _ = job.pass_by(passed).await;
                }
                Ok(Step::BegunAgain) => {
                    // What is under way is of the process before: it is met again.
                    for Ahead { work, .. } in ahead.drain(..) {
                        let _ = work.await;
                    }
                    tracing::warn!(
                        stash = job.stash.name,
                        shard = job.stash.shard_name(shard),
                        "this shard is another Redis process than before: the backfill walks it from the beginning"
                    );
                    let map = job.outbox.map();
                    job.ledger.begin_again(shard, |key| map.shard_of(key) == shard);
                }
                Ok(Step::End) | Err(Halted) => {}
            }
            continue;
        }
        let Some(Ahead { keys, counts, place, work }) = ahead.pop_front() else { return };
        // It cannot have panicked: a batch that does is told of there.
        let worked = work.await.unwrap_or_else(|_| Worked { cut: true, ..Worked::default() });
        if worked.cut {
            end(&job, shard, ahead, keys, worked).await;
            return;
        }
        job.ledger.commit(shard, &keys, counts, Some(place), worked);
    }
}

/// A page was cut off. Where the limit was reached its copies count, and nothing will be met again; else it is met again, whole.
async fn end(job: &Job, shard: usize, ahead: VecDeque<Ahead>, keys: Vec<Key>, worked: Worked) {
    let mut rest = vec![(keys, worked)];
    for Ahead { keys, work, .. } in ahead {
        rest.push((keys, work.await.unwrap_or_default()));
    }
    if job.why() == Some(&super::job::Halt::Limit) {
        for (keys, worked) in rest {
            job.ledger.commit(shard, &keys, Counts::default(), None, worked);
        }
    }
}

fn begin(job: &Arc<Job>, shard: usize, keys: Vec<Key>, counts: Counts, walk: &Walk) -> Ahead {
    let (own, given) = (job.clone(), keys.clone());
    let work = tokio::spawn(async move { page::work(&own, shard, Pass::First, given).await });
    Ahead { keys, counts, place: walk.place().clone(), work }
}

async fn next(job: &Job, shard: usize, walk: &mut Walk) -> Result<Step, Halted> {
    loop {
        while !job.redis_is_there(shard).await? {}
        let began = Instant::now();
        let step = job.unless_halted(walk.next()).await?;
        job.holds.spent(Holder::Redis, began.elapsed());
        match step {
            Ok(step) => return Ok(step),
            Err(fault) => {
                let _waiting = job.holds.wait(Holder::Redis, format!("SCAN: {fault}"));
                job.unless_halted(sleep(AGAIN_AFTER)).await?;
            }
        }
    }
}

/// Asks how many names a shard has, for the share that is done.
pub(super) async fn count_names(job: &Job, shard: usize) {
    if let Ok(names) = names_on(&job.outbox, shard).await {
        job.ledger.change(|run| {
            if let Some(of) = run.shards.get_mut(shard) {
                of.names = Some(names);
            }
        });
    }
}

/// Tries those keys once more that a tier had failed for.
pub(super) async fn failed_again(job: &Arc<Job>) {
    let map = job.outbox.map();
    let mut by_shard: Vec<Vec<Key>> = vec![Vec::new(); map.len()];
    job.ledger.failed().into_iter().for_each(|key| by_shard[map.shard_of(&key)].push(key));
    for (shard, keys) in by_shard.iter().enumerate() {
        for some in keys.chunks(AGAIN_KEYS) {
            let worked = page::work(job, shard, Pass::Again, some.to_vec()).await;
            // With the limit reached within, those not met stay listed as they are; nothing is counted of them.
            if worked.cut {
                return;
            }
            job.ledger.commit_again(shard, some, worked);
        }
    }
}
