//! One task a shard: looks at the outbox, so that pending keys and moves made elsewhere are known, and sends what has expired to the reaper.

use super::{Stash, pace::Pace};
use crate::{
    codec::key::Key,
    outbox::{ShardLook, Suspect},
    phase::ahead::told,
    protocol::{
        Fence, World,
        belief::Adoption,
        reap::{Watch, lease, reap},
        world::Token,
    },
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// Keys that one shard's reaper heals at once: clients come first.
const REAPS_AT_ONCE: usize = 8;
/// Keys handed to the reaper in one batch; the rest is still there at the next look.
const REAP_BATCH_MAX: usize = 512;
/// Expired intents a direction that are watched where a look lists none. Each is watched for a lease before it is claimed, so this many
/// drain a lease: with a batch's worth, hours of an outage of Kask would take days.
const EXPIRED_WATCHED_MAX: usize = 10_000;

/// How often a shard is asked what it has evicted.
const EVICTIONS_EVERY: Duration = Duration::from_secs(1);

/// What a shard looked like last, for status and moves. A `std` mutex: held to copy a few numbers.
#[derive(Debug, Default)]
pub struct ShardView(Mutex<Option<Seen>>);

/// One look's figures.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When the look was sent.
    pub sent: Instant,
    pub to_kask: u64,
    pub to_redis: u64,
    /// Intents that are of the phase before the fence's; none: nobody knows.
    pub of_before: Option<u64>,
    pub damaged: u64,
    pub oldest_ms: Option<u64>,
    /// The shard's fence; none: it has lost it.
    pub fence: Option<Fence>,
    pub writes: u64,
    pub quiet_ms: u64,
    /// The shard came back without acknowledged writes, and no operator has accepted that.
    pub suspect: Option<Suspect>,
    /// Who accepted the last such loss, when and why.
    pub accepted: Option<String>,
    /// Redis is a mirror, and lacks writes since.
    pub mirror_lost_unix_ms: Option<u64>,
    /// Keys evicted since `kask-first` began.
    pub evicted: u64,
}

impl ShardView {
    pub fn last(&self) -> Option<Seen> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    fn set(&self, seen: Seen) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = Some(seen);
    }
}

/// Each key with what has expired of it, the oldest first.
type Due = Vec<(Key, Vec<Token>)>;

impl Stash {
    /// Looks at one shard until stopped.
    pub async fn watch_shard(self: Arc<Self>, shard: usize, stop: CancellationToken) {
        let mut due_to = self.begin_reaper(&stop);
        let mut watch = Watch::default();
        let mut evictions_asked = Instant::now();
        loop {
            if due_to.is_closed() && !stop.is_cancelled() {
                tracing::error!(stash = self.name, shard, "the reaper ended; it begins again");
                due_to = self.begin_reaper(&stop);
            }
            if self.redis_is_in_use() {
                self.look_once(shard, &mut watch, &due_to).await;
                self.announce(shard).await;
                if evictions_asked.elapsed() >= EVICTIONS_EVERY {
                    evictions_asked = Instant::now();
                    self.sum_up_evictions(shard).await;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(self.look_every) => {}
            }
        }
    }

    /// Redis counts from its start; what it evicted before a restart is known because it was asked.
    async fn sum_up_evictions(&self, shard: usize) {
        let Some(outbox) = &self.site.world.outbox else { return };
        // Unheard: the next time tells. The look shows the sum.
        let _ = outbox.evicted(shard, Instant::now() + self.redis_timeout).await;
    }

    fn begin_reaper(self: &Arc<Self>, stop: &CancellationToken) -> mpsc::Sender<Due> {
        let (due_to, due) = mpsc::channel(1);
        self.tasks.spawn(self.clone().reap_shard(due, stop.clone()));
        due_to
    }

    /// In `kask-only`, once the move has settled, the decant that the fence names holds no connection to Redis. Others go on looking at the
    /// fence as long as there is one to look at: nothing else tells them of a way back.
    pub(super) fn redis_is_in_use(&self) -> bool {
        let belief = self.site.belief();
        belief.phase().uses_redis() || !belief.settled || !belief.own
    }

    async fn look_once(&self, shard: usize, watch: &mut Watch, due_to: &mpsc::Sender<Due>) {
        let Some(outbox) = &self.site.world.outbox else { return };
        self.metrics.redis_is_up(outbox.shards().iter().all(|shard| shard.answers()));
        self.shard_metrics[shard].is_up(outbox.shards()[shard].answers());
        let (sent, sent_at) = (self.site.world.now(), Instant::now());
        let Ok(look) = outbox.look(shard, sent_at + self.redis_timeout).await else { return };
        // The fence first: a look that shows a newer phase must not count as fresh before the phase is believed.
        if self.site.beliefs.learn(look.fence.as_ref()) == Adoption::Adopted {
            let now = self.site.belief();
            let phase = told(now.phase(), now.fence.ahead.as_ref());
            tracing::info!(stash = self.name, phase, version = now.fence.version, "learned of a move from the fence");
        }
        self.site.pending[shard].looked(look.keys.clone(), sent);
        self.show_suspect(shard, look.suspect.as_ref());
        self.views[shard].set(Seen {
            sent: sent_at,
            to_kask: look.to_kask,
            to_redis: look.to_redis,
            of_before: look.of_before,
            damaged: look.damaged,
            oldest_ms: look.oldest_ms,
            fence: look.fence.clone(),
            writes: look.writes,
            quiet_ms: look.quiet_ms,
            suspect: look.suspect.clone(),
            accepted: look.accepted.clone(),
            mirror_lost_unix_ms: look.mirror_lost_unix_ms,
            evicted: look.evicted,
        });
        self.shard_metrics[shard].evicted.set(look.evicted as f64);
        self.shard_metrics[shard].intents.set((look.to_kask + look.to_redis) as f64);
        self.show_outbox();
        // What the reaper would take up is not to be believed before the shard has been compared.
        if look.must_compare {
            tracing::warn!(
                stash = self.name,
                shard = self.shard_name(shard),
                "Redis holds less than was seen in it; it is compared"
            );
            return;
        }
        let due = self.due(shard, look, watch).await;
        if !due.is_empty() {
            // A full channel means that the reaper is at work; what is due is still due at the next look.
            let _ = due_to.try_send(due);
        }
    }

    /// Told when it begins and when it ends, by every decant.
    fn show_suspect(&self, shard: usize, suspect: Option<&Suspect>) {
        let was = self.views[shard].last().is_some_and(|seen| seen.suspect.is_some());
        let name = self.shard_name(shard);
        self.shard_metrics[shard].is_suspect(suspect.is_some());
        match suspect {
            Some(suspect) if !was => tracing::error!(
                stash = self.name,
                shard = name,
                noticed_by = suspect.member,
                writes_seen = suspect.seen,
                writes_kept = suspect.reached,
                "this Redis has lost acknowledged writes: nothing is copied from what it held before until an operator \
                 accepts the loss (decant shard accept-loss)"
            ),
            None if was => tracing::warn!(stash = self.name, shard = name, "the loss of writes has been accepted"),
            _ => {}
        }
    }

    /// The sum over the shards, as metrics.
    fn show_outbox(&self) {
        let seen: Vec<Seen> = self.views.iter().filter_map(ShardView::last).collect();
        let sum = |figure: fn(&Seen) -> u64| seen.iter().map(figure).sum::<u64>() as f64;
        self.metrics.intents.set(sum(|s| s.to_kask + s.to_redis));
        self.metrics.damaged.set(sum(|s| s.damaged));
        self.metrics.oldest_seconds.set(seen.iter().filter_map(|s| s.oldest_ms).max().unwrap_or(0) as f64 / 1000.0);
        self.metrics.keys_pending.set(self.keys_pending() as f64);
        let fence = &self.site.belief().fence;
        self.metrics.set_phase(fence.phase, fence.ahead.as_ref());
    }

    /// What this decant has itself seen for a lease. CLAIM asks Redis's clock as well.
    async fn due(&self, shard: usize, look: ShardLook, watch: &mut Watch) -> Due {
        let (lease, quiet) = (lease(&self.site), look.quiet_ms > 0);
        let listed = match (&look.keys, &self.site.world.outbox) {
            (crate::protocol::pending::Look::Everything, Some(outbox)) => {
                let until = Instant::now() + self.redis_timeout;
                // Unheard is not empty: what has been watched so far must not be forgotten.
                let Ok(listed) = outbox.expired(shard, lease, EXPIRED_WATCHED_MAX, until).await else {
                    return Due::new();
                };
                listed
            }
            _ => look.intents,
        };
        let mut due = watch.expired(&listed, lease, self.site.world.now());
        // It would be refused.
        if quiet {
            return Due::new();
        }
        due.retain(|(_, expired)| self.is_worth_claiming(expired));
        due.truncate(REAP_BATCH_MAX);
        due
    }

    /// A claim makes one intent of a key's many, and that is worth something also while Kask is away: a hot key would gather them. But it
    /// takes a lease until what was claimed is due again; one that is left alone is due at once when Kask is back.
    fn is_worth_claiming(&self, expired: &[Token]) -> bool {
        expired.len() > 1 || self.pace() != Pace::WithoutKask
    }

    async fn reap_shard(self: Arc<Self>, mut due: mpsc::Receiver<Due>, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(REAPS_AT_ONCE));
        loop {
            let batch = tokio::select! {
                () = stop.cancelled() => return,
                batch = due.recv() => batch,
            };
            let Some(batch) = batch else { return };
            for (key, expired) in batch {
                // What is left of the batch is another's, or the next start's.
                if stop.is_cancelled() {
                    return;
                }
                let needed = if self.pace() == Pace::Many { 1 } else { REAPS_AT_ONCE };
                let Ok(place) = places.clone().acquire_many_owned(needed as u32).await else { return };
                if !self.is_worth_claiming(&expired) {
                    continue;
                }
                let site = self.site.clone();
                self.tasks.spawn(async move {
                    reap(&site, &key, &expired).await;
                    drop(place);
                });
            }
            // The next batch begins when this one is done, so that no key is claimed twice at once.
            let Ok(_all) = places.acquire_many(REAPS_AT_ONCE as u32).await else { return };
        }
    }
}
