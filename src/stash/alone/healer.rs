//! Heals what was written to Kask alone, once Redis is back: every key gets an intent as a write does, and is mirrored.

use super::{Alone, of_another_version, writer::Order};
use crate::{
    codec::key::Key,
    phase::{Phase, Sequencer},
    protocol::{Belief, World, copy::Ended, heal::heal, world::Refusal},
    stash::{Stash, pace::Pace},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// How often the healer looks whether there is something to do.
const HEAL_EVERY: Duration = Duration::from_millis(250);
/// Keys healed at once: clients come first.
const HEALS_AT_ONCE: usize = 4;
/// Keys of one round.
const BATCH_MAX: usize = 512;

/// A key to be healed, and which of its lone writes is the last so far.
#[derive(Debug)]
pub(super) struct Ripe {
    key: Key,
    stamp: u64,
}

impl Alone {
    /// Keys whose last lone write is a lease old: whatever Kask was sent for them has been applied, or never will be.
    pub(super) fn ripe(&self, version: u64, lease: Duration) -> Vec<Ripe> {
        let standing = self.shared.standing();
        let Some(standing) = standing.as_ref().filter(|s| s.version == version && !s.closing) else {
            return Vec::new();
        };
        let ripe = standing.keys.iter().filter(|(_, noted)| noted.waiting && noted.at.elapsed() >= lease);
        ripe.map(|(key, noted)| Ripe { key: key.clone(), stamp: noted.stamp }).take(BATCH_MAX).collect()
    }

    /// The key is healed, as far as it was not written alone again meanwhile.
    pub(super) fn healed(&self, ripe: &Ripe) {
        let mut standing = self.shared.standing();
        let Some(standing) = standing.as_mut() else { return };
        if let Some(noted) = standing.keys.get_mut(&ripe.key).filter(|noted| noted.waiting && noted.stamp == ripe.stamp)
        {
            noted.waiting = false;
            standing.waiting -= 1;
        }
    }

    /// The key was tried in vain: others come first now.
    fn put_off(&self, ripe: &Ripe) {
        let mut standing = self.shared.standing();
        if let Some(noted) = standing.as_mut().and_then(|standing| standing.keys.get_mut(&ripe.key)) {
            noted.at = Instant::now();
        }
    }

    /// Removes the journal if nothing waits in it; whether there is nothing to heal.
    pub(super) async fn finish(&self) -> bool {
        let over = match self.shared.standing().as_ref() {
            None => return true,
            Some(standing) if standing.trouble.is_some() => return true,
            Some(standing) => standing.waiting == 0,
        };
        if over {
            let (done, finished) = oneshot::channel();
            if self.orders.send(Order::Finish { done }).await.is_ok() {
                let _ = finished.await;
            }
        }
        over
    }

    /// A journal of another version of the phase is never healed from; where Redis is the sequencer there is no mirror, and it is put aside.
    pub(super) async fn compare(&self, belief: &Belief) {
        let now = belief.fence.version;
        let set_aside = {
            let mut standing = self.shared.standing();
            let Some(standing) = standing.as_mut() else { return };
            // A phase that is not confirmed yet has version 0. A newer journal than the phase can only be a found one.
            if now == 0 || standing.version == now || standing.version > now && !standing.found {
                return;
            }
            if standing.trouble.is_none() {
                let path = super::path_in(std::path::Path::new(""), &self.shared.stash);
                let trouble = of_another_version(&path, standing.version, now);
                tracing::error!(stash = self.shared.stash, trouble, "the mirror is unclean and will not be healed");
                standing.give_up(trouble);
            }
            !belief.fence.has(Phase::RedisStandby)
                && belief.phase().sequencer() == Sequencer::Redis
                && standing.version < now
        };
        if set_aside {
            let (done, finished) = oneshot::channel();
            if self.orders.send(Order::SetAside { version: now, done }).await.is_ok() {
                let _ = finished.await;
            }
        }
    }
}

impl Stash {
    /// Heals until stopped. What is not healed then stays in the journal, and is healed by the next process.
    pub async fn heal_alone(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if !self.heal_round(&stop).await {
                tokio::select! { () = stop.cancelled() => {}, () = sleep(HEAL_EVERY) => {} }
            }
        }
    }

    /// Heals what is ripe on the shards that answer; whether that was anything.
    async fn heal_round(&self, stop: &CancellationToken) -> bool {
        let belief = self.site.belief();
        let alone = &self.site.world.alone;
        alone.compare(&belief).await;
        if !belief.fence.has(Phase::RedisStandby) {
            return false;
        }
        if alone.finish().await {
            return false;
        }
        let Some(outbox) = &self.site.world.outbox else { return false };
        // What is healed is what Kask holds: without Kask nothing can be.
        if !outbox.shards().iter().any(|shard| shard.answers()) || self.pace() == Pace::WithoutKask {
            return false;
        }
        let ripe = alone.ripe(belief.fence.version, Duration::from_millis(self.site.settings.lease));
        let away: Arc<Vec<AtomicBool>> =
            Arc::new(outbox.shards().iter().map(|shard| AtomicBool::new(!shard.answers())).collect());
        let places = Arc::new(Semaphore::new(HEALS_AT_ONCE));
        let mut healing = JoinSet::new();
        for ripe in ripe {
            let needed = if self.pace() == Pace::Many { 1 } else { HEALS_AT_ONCE };
            let Ok(place) = places.clone().acquire_many_owned(needed as u32).await else { break };
            let shard = self.site.world.shard_of(&ripe.key);
            if stop.is_cancelled() {
                break;
            }
            if away.get(shard).is_none_or(|away| away.load(Ordering::Acquire)) {
                continue;
            }
            let (site, belief, away) = (self.site.clone(), belief.clone(), away.clone());
            healing.spawn(async move {
                let ended = heal(&site, &ripe.key, &belief).await;
                drop(place);
                match ended {
                    Ok(Ended::Settled { .. }) => {
                        site.world.alone.healed(&ripe);
                        return true;
                    }
                    Ok(Ended::Left | Ended::Lost) | Err(Refusal::Transit) => site.world.alone.put_off(&ripe),
                    Err(Refusal::Fence(_) | Refusal::NotDone(_) | Refusal::Unknown(_)) => {
                        away[shard].store(true, Ordering::Release);
                    }
                }
                false
            });
        }
        healing.join_all().await.into_iter().any(|healed| healed)
    }
}
