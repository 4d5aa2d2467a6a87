//! A batch: a few keys of one shard that go through Redis and Kask together.

use super::{
    age::Age,
    holds::Holder,
    job::{Halt, Job},
    ledger::Worked,
    not_moved::Why,
    page::outcome_of,
    patience::{Failure, Next, Pass, Patience},
    tally::{Amount, Outcome},
};
use crate::{
    codec::key::Key,
    outbox::Weight,
    protocol::backfill::{Looked, Moved, Trouble, copy_many, is_held, look_many},
    stash::mover::unix_ms,
};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

/// One key on its way.
#[derive(Debug)]
pub(super) struct Item {
    pub key: Key,
    pub weight: Weight,
    /// Of the value, as it was weighed.
    pub bytes: u64,
}

/// Goes on until every key's fate is known, or the run is to stop.
pub(super) async fn work(job: &Job, shard: usize, pass: Pass, mut items: Vec<Item>) -> Worked {
    let mut worked = Worked::default();
    let mut patience = Patience::new(pass, job.around(shard));
    let mut place = None;
    while !items.is_empty() {
        let bytes = items.iter().map(|item| item.bytes).sum();
        let ready = async {
            job.ready(shard, &mut place).await?;
            job.take(items.len(), bytes).await
        };
        if ready.await.is_err() {
            worked.cut = true;
            return worked;
        }
        let asked = items.len();
        let (again, cut) = attempt(job, shard, items, &mut worked).await;
        job.has_met((asked - again.len()) as u64, bytes);
        if cut {
            job.halt(Halt::Limit);
            worked.cut = true;
            return worked;
        }
        for (_, trouble) in &again {
            if let Trouble::Kask(why) = trouble {
                job.kask_failed(why);
            }
        }
        let next = patience.after(again.iter().map(|(_, trouble)| Failure::from(trouble)), asked, job.around(shard));
        if again.iter().all(|(_, trouble)| Failure::from(trouble).holder() == Holder::Redis) {
            // It waits for its shard, and the keys of others go on meanwhile.
            place = None;
        }
        items = wait(job, next, again, &mut worked).await;
    }
    worked
}

/// What could not be done now, and whether the limit was reached within.
async fn attempt(job: &Job, shard: usize, items: Vec<Item>, worked: &mut Worked) -> (Vec<(Item, Trouble)>, bool) {
    let mut again = Vec::new();
    let found = look(job, items, worked, &mut again).await;
    let mut lacking = compare(job, shard, found, worked, &mut again).await;
    let granted = job.reserve(lacking.len());
    let cut = granted < lacking.len();
    lacking.truncate(granted);
    if job.dry_run {
        count_lacking(job, &lacking, worked);
        return (again, cut);
    }
    // The values are read again, with their intents: those at hand are not needed any more.
    let items: Vec<Item> = lacking.into_iter().map(|(item, _)| item).collect();
    let keys: Vec<Key> = items.iter().map(|item| item.key.clone()).collect();
    let began = Instant::now();
    let moved = copy_many(&job.stash.site, &keys).await;
    job.holds.spent(Holder::Kask, began.elapsed());
    for (item, moved) in items.into_iter().zip(moved) {
        if let Moved::Copied { bytes } = moved {
            worked.tally.count(Outcome::Copied);
            worked.tally.bytes += bytes as u64;
            job.kask_did(shard);
            continue;
        }
        job.give_back(1);
        match moved {
            Moved::Copied { .. } => {}
            Moved::Nothing => worked.tally.count(Outcome::Gone),
            Moved::Untranscodable(reason) => {
                worked.stays(item.key, Why { outcome: Outcome::Untranscodable, reason, detail: None });
            }
            Moved::Refused(why) => {
                worked.stays(item.key, Why { outcome: Outcome::Refused, reason: "kask", detail: Some(why) });
            }
            Moved::Failed(trouble) => again.push((item, trouble)),
        }
    }
    (again, cut)
}

/// What Redis holds of them, as far as it is to be copied.
async fn look(
    job: &Job,
    items: Vec<Item>,
    worked: &mut Worked,
    again: &mut Vec<(Item, Trouble)>,
) -> Vec<(Item, Bytes)> {
    let keys: Vec<Key> = items.iter().map(|item| item.key.clone()).collect();
    let began = Instant::now();
    let looked = look_many(&job.stash.site, &keys).await;
    job.holds.spent(Holder::Redis, began.elapsed());
    let (mut found, now_ms) = (Vec::with_capacity(items.len()), unix_ms());
    for (item, looked) in items.into_iter().zip(looked) {
        match looked {
            Looked::Body(body) => {
                let value = || job.outbox.transcoder().value(&body);
                match job.sieve.by_body(&item.weight, &body, value, now_ms) {
                    Some(skip) => worked.tally.count(outcome_of(skip)),
                    None => found.push((item, body)),
                }
            }
            Looked::Nothing => worked.tally.count(Outcome::Gone),
            Looked::Untranscodable(reason) => {
                worked.stays(item.key, Why { outcome: Outcome::Untranscodable, reason, detail: None });
            }
            Looked::Failed(trouble) => again.push((item, trouble)),
        }
    }
    found
}

/// Those that Kask does not hold as they are.
async fn compare(
    job: &Job,
    shard: usize,
    found: Vec<(Item, Bytes)>,
    worked: &mut Worked,
    again: &mut Vec<(Item, Trouble)>,
) -> Vec<(Item, Bytes)> {
    let (site, transcoder) = (&job.stash.site, job.outbox.transcoder());
    let began = Instant::now();
    let asked = found.iter().map(|(item, body)| is_held(site, &item.key, |held| transcoder.same_value(held, body)));
    let held = join_all(asked).await;
    job.holds.spent(Holder::Kask, began.elapsed());
    let mut lacking = Vec::with_capacity(found.len());
    for ((item, body), held) in found.into_iter().zip(held) {
        match held {
            Ok(true) => {
                worked.tally.count(Outcome::Equal);
                job.kask_did(shard);
            }
            Ok(false) => lacking.push((item, body)),
            Err(why) => again.push((item, Trouble::Kask(why))),
        }
    }
    lacking
}

fn count_lacking(job: &Job, lacking: &[(Item, Bytes)], worked: &mut Worked) {
    let now_ms = unix_ms();
    for (item, body) in lacking {
        let value = job.outbox.transcoder().value(body);
        let age = Age::of(job.sieve.written_ms(&item.weight, value.as_ref(), now_ms), now_ms);
        let bytes = body.len() as u64;
        worked.tally.count(Outcome::Lacking);
        worked.tally.bytes += bytes;
        *worked.tally.ages.entry(age).or_default() += Amount { keys: 1, bytes };
    }
}

/// Sorts out what is tried again, after a while, and what is not.
async fn wait(job: &Job, next: Next, again: Vec<(Item, Trouble)>, worked: &mut Worked) -> Vec<Item> {
    let Some((_, trouble)) = again.first() else { return Vec::new() };
    let (why, holder) = (said(trouble), Failure::from(trouble).holder());
    match next {
        Next::Again(length) => {
            let _waiting = job.holds.wait(holder, why);
            // Halted or not, the caller looks.
            let _ = job.unless_halted(sleep(length)).await;
            again.into_iter().map(|(item, _)| item).collect()
        }
        Next::Leave => {
            for (item, trouble) in again {
                let why = Why {
                    outcome: Outcome::Failed,
                    reason: Failure::from(&trouble).name(),
                    detail: Some(said(&trouble)),
                };
                worked.stays(item.key, why);
            }
            Vec::new()
        }
        Next::Stop => {
            job.halt(Halt::Pause(format!("Kask fails nearly every copy ({why}); mend it, then resume")));
            again.into_iter().map(|(item, _)| item).collect()
        }
    }
}

fn said(trouble: &Trouble) -> String {
    match trouble {
        Trouble::Redis(why) | Trouble::Kask(why) => why.clone(),
        Trouble::Fence => "the shard's fence is not the one that this decant follows".into(),
        Trouble::Transit => "the key is still on its way to Redis".into(),
        Trouble::Phase(phase) => format!("nothing is copied in {phase}"),
    }
}
