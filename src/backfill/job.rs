//! One run at work: what its shards, pages and batches share.

use super::{
    filters::Sieve,
    holds::{Holder, Holds},
    ledger::Ledger,
    pace::Pace,
    patience::Around,
};
use crate::{
    codec::key::Key,
    outbox::Outbox,
    phase::Phase,
    protocol::{World, backfill::copies_in, world::KaskGot},
    stash::Stash,
    tier::redis::Shard,
};
use std::{
    future::Future,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// Batches under way at once, over all shards. Together with the keys of a batch this bounds what is open in the outbox and what
/// is asked of Kask at once: three eighths of the connections that a decant holds to it.
pub(super) const BATCHES_AT_ONCE: usize = 6;
/// Keys of one batch.
pub(super) const BATCH_KEYS: usize = 16;
/// Bytes of one batch's values, as they were when it was put together; one value alone may be larger.
pub(super) const BATCH_BYTES: u64 = 1024 * 1024;
/// So many names that are only passed by cost Redis about what one key does that is copied.
const NAMES_PER_KEY: usize = 16;
/// How often a tier that is away is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

// Far below what a decant remembers as pending before it reads all keys of a shard with care.
const _: () = assert!(BATCHES_AT_ONCE * BATCH_KEYS * 10 <= 10_000);

/// Why a run stops before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// An operator said so; the run's state says what.
    Told,
    /// decant ends; the next start goes on.
    Stopping,
    /// Not by itself, but it can be resumed.
    Pause(String),
    /// What it has done is worth nothing any more.
    Void(String),
    /// As many keys as were asked for are copied.
    Limit,
}

/// The run is to stop; see [`Job::why`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Halted;

pub(super) struct Job {
    pub(super) stash: Arc<Stash>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) sieve: Sieve,
    pub(super) dry_run: bool,
    pub(super) pace: Pace,
    pub(super) holds: Holds,
    /// Keys met since the job began, for the rate.
    pub(super) met: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Keys that Kask took or had, by shard: it works, and so does that shard.
    good: Vec<AtomicU64>,
    /// Keys that Kask failed for since the last that it took or had.
    bad_in_a_row: AtomicU64,
    /// Keys that may still be copied; none: no limit.
    left: Option<Mutex<u64>>,
    places: Arc<Semaphore>,
    halted: CancellationToken,
    why: OnceLock<Halt>,
    /// What Kask said last when it failed.
    kask_said: Mutex<String>,
}

/// What a [`Job`] is made of.
pub(super) struct JobParts {
    pub stash: Arc<Stash>,
    pub outbox: Arc<Outbox>,
    pub ledger: Arc<Ledger>,
    pub sieve: Sieve,
    pub dry_run: bool,
    pub pace: Pace,
    pub left: Option<u64>,
}

impl Job {
    pub(super) fn new(parts: JobParts) -> Arc<Job> {
        let JobParts { stash, outbox, ledger, sieve, dry_run, pace, left } = parts;
        let good = outbox.shards().iter().map(|_| AtomicU64::new(0)).collect();
        Arc::new(Job {
            stash,
            outbox,
            ledger,
            sieve,
            dry_run,
            pace,
            holds: Holds::default(),
            met: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            good,
            bad_in_a_row: AtomicU64::new(0),
            left: left.map(Mutex::new),
            places: Arc::new(Semaphore::new(BATCHES_AT_ONCE)),
            halted: CancellationToken::new(),
            why: OnceLock::new(),
            kask_said: Mutex::default(),
        })
    }

    /// The first word counts.
    pub(super) fn halt(&self, why: Halt) {
        let _ = self.why.set(why);
        self.halted.cancel();
    }

    pub(super) fn why(&self) -> Option<&Halt> {
        self.why.get()
    }

    pub(super) fn is_halted(&self) -> bool {
        self.halted.is_cancelled()
    }

    /// Waits for `work`, unless the run is to stop.
    pub(super) async fn unless_halted<F: Future>(&self, work: F) -> Result<F::Output, Halted> {
        tokio::select! {
            biased;
            () = self.halted.cancelled() => Err(Halted),
            output = work => Ok(output),
        }
    }

    /// A place for one batch.
    async fn place(&self) -> Result<OwnedSemaphorePermit, Halted> {
        self.unless_halted(self.places.clone().acquire_owned()).await?.map_err(|_| Halted)
    }

    /// Waits as the pace says for names that no batch will hold: Redis had to give them all the same.
    pub(super) async fn pass_by(&self, names: usize) -> Result<(), Halted> {
        if names == 0 {
            return Ok(());
        }
        self.take(names.div_ceil(NAMES_PER_KEY), 0).await
    }

    /// Waits as the pace says.
    pub(super) async fn take(&self, keys: usize, bytes: u64) -> Result<(), Halted> {
        let spent = |limiter, length| self.holds.spent(Holder::from(limiter), length);
        self.unless_halted(self.pace.take(keys, bytes, spent)).await
    }

    /// Waits until a batch of a shard may begin: the phase copies, both tiers are there, and the batch has a place. A shard that is away
    /// is waited for without one, since the others' batches need it.
    pub(super) async fn ready(&self, shard: usize, place: &mut Option<OwnedSemaphorePermit>) -> Result<(), Halted> {
        loop {
            if self.is_halted() {
                return Err(Halted);
            }
            if let Some(halt) = verdict(self.stash.site.belief().phase()) {
                self.halt(halt);
                return Err(Halted);
            }
            if self.away(shard).is_some() {
                *place = None;
                self.redis_is_there(shard).await?;
                continue;
            }
            if place.is_none() {
                *place = Some(self.place().await?);
                // All of it is looked at anew: places are waited for.
                continue;
            }
            if self.kask_is_there().await? {
                return Ok(());
            }
        }
    }

    fn away(&self, shard: usize) -> Option<&Arc<Shard>> {
        self.outbox.shards().get(shard).filter(|shard| !shard.is_up())
    }

    /// Whether it is; else one wait for it is over.
    pub(super) async fn redis_is_there(&self, shard: usize) -> Result<bool, Halted> {
        let Some(asked) = self.away(shard) else { return Ok(true) };
        let down = asked.why_down().unwrap_or_default();
        let _waiting = self.holds.wait(Holder::Redis, format!("shard {} is away: {down}", asked.name));
        self.unless_halted(asked.wait_up(Instant::now() + LOOK_EVERY)).await
    }

    /// Whether it is; else one wait for it is over. A read of a key that nobody has is the probe, as soon as one is due.
    async fn kask_is_there(&self) -> Result<bool, Halted> {
        let world = &self.stash.site.world;
        if !world.kask_is_away() {
            return Ok(true);
        }
        let said = self.kask_said.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let _waiting = self.holds.wait(Holder::Kask, format!("Kask does not answer: {said}"));
        let probe = Key::from_bytes(format!("decant-probe-{:016x}", fastrand::u64(..)));
        let asked = world.kask_get(&probe, world.now() + self.stash.site.settings.budget);
        match self.unless_halted(asked).await? {
            KaskGot::Error(_) => {
                self.unless_halted(sleep(LOOK_EVERY)).await?;
                Ok(false)
            }
            KaskGot::Hit(_) | KaskGot::Miss => Ok(true),
        }
    }

    /// Kask took a key of a shard, or had it.
    pub(super) fn kask_did(&self, shard: usize) {
        if let Some(good) = self.good.get(shard) {
            good.fetch_add(1, Ordering::Relaxed);
        }
        self.bad_in_a_row.store(0, Ordering::Relaxed);
    }

    pub(super) fn around(&self, shard: usize) -> Around {
        let good = |good: &AtomicU64| good.load(Ordering::Relaxed);
        Around {
            good: self.good.iter().map(good).sum(),
            good_on_shard: self.good.get(shard).map_or(0, good),
            bad_in_a_row: self.bad_in_a_row.load(Ordering::Relaxed),
        }
    }

    pub(super) fn kask_failed(&self, why: &str) {
        self.bad_in_a_row.fetch_add(1, Ordering::Relaxed);
        why.clone_into(&mut self.kask_said.lock().unwrap_or_else(|e| e.into_inner()));
    }

    /// How many of `wanted` keys may be copied under `limit`.
    pub(super) fn reserve(&self, wanted: usize) -> usize {
        let Some(left) = &self.left else { return wanted };
        let mut left = left.lock().unwrap_or_else(|e| e.into_inner());
        let granted = usize::try_from(*left).unwrap_or(usize::MAX).min(wanted);
        *left -= granted as u64;
        granted
    }

    /// They were not copied after all.
    pub(super) fn give_back(&self, keys: usize) {
        if let Some(left) = &self.left {
            *left.lock().unwrap_or_else(|e| e.into_inner()) += keys as u64;
        }
    }

    /// Keys that were met, and the bytes of their values.
    pub(super) fn has_met(&self, keys: u64, bytes: u64) {
        self.met.fetch_add(keys, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What a phase means for a run; none: it goes on.
pub(super) fn verdict(phase: Phase) -> Option<Halt> {
    match phase {
        phase if copies_in(phase) => None,
        Phase::RedisOnly => Some(Halt::Void(
            "the stash went back to redis-only, where writes go past Kask: what was copied may be old; begin anew after the next \
             move to dual-write"
                .into(),
        )),
        phase => Some(Halt::Pause(format!(
            "the stash moved on to {phase}, where Kask decides and nothing is copied from Redis; it can be resumed after a way back to \
             kask-first"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_phases_copy() {
        for phase in Phase::ALL {
            match (phase, verdict(phase)) {
                (Phase::DualWrite | Phase::KaskFirst, None) => {}
                (Phase::RedisOnly, Some(Halt::Void(_))) => {}
                (Phase::RedisStandby | Phase::KaskOnly, Some(Halt::Pause(_))) => {}
                odd => panic!("{odd:?}"),
            }
        }
    }
}
