//! One migrating store: takes an operation, reads the phase once, runs the protocol over the two tiers, and answers.

pub mod alone;
mod answer;
mod figures;
mod fitness;
pub mod inspect;
pub mod load;
mod looker;
pub mod memory;
mod metrics;
pub mod mover;
mod neighbours;
mod observed;
mod pace;
pub mod sample;
mod shadow;
mod shards;
mod strangers;
mod tiers;
pub mod traffic;
mod watch_traffic;

use crate::{
    codec::key::Key,
    config::{AfterLoss, GuardsConfig, OnTierFailure, Replication, StashConfig},
    dialect::{Answer, AnswerFuture, Context, KeyValue, Operation, Verb},
    phase::proof::{BackfillProof, VerifyProof},
    protocol::{
        Beliefs, Rules, Settings, Site,
        read::read,
        world::{Content, Millis, World},
        write::{Change, WriteAnswer, write},
    },
    tier::Forward,
};
pub use alone::Alone;
use alone::LoneWrite;
use arc_swap::ArcSwapOption;
pub use figures::{ShardFigures, StashFigures, SuspectFigures};
use load::Load;
pub use looker::{Seen, ShardView};
use memory::Memory;
use metrics::ShardMetrics;
pub use metrics::{Reads, StashMetrics};
use neighbours::Heard;
pub use neighbours::Neighbour;
use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
pub use tiers::Tiers;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;
use traffic::Traffic;

tokio::task_local! {
    /// Of the request being served: what goes along to Kask. Background work of a request carries it on.
    static FORWARD: Forward;
}

/// Most read-repairs under way at once in one stash, a quarter of the places that Kask has; reads over it are answered without one.
const REPAIRS_MAX: usize = 64;
/// Everything for one request, so that an answer is there before the Envoy in front gives up at 2.5 s.
const BUDGET: Duration = Duration::from_millis(2_400);
/// How often a write asks again for a key in transit.
const TRANSIT_POLL: Duration = Duration::from_millis(10);
/// What a client is told to wait, in seconds, when a tier is away or the stash is not ready.
const RETRY_AFTER_S: u32 = 1;

/// One migrating store of this decant.
pub struct Stash {
    pub name: String,
    pub site: Arc<Site<Tiers>>,
    pub metrics: Arc<StashMetrics>,
    /// The last look at each shard, for status and moves.
    pub views: Vec<ShardView>,
    /// What other decants said on each shard.
    heard: Vec<Heard>,
    /// Where the phase is recorded: `file` or `etcd`.
    store: &'static str,
    /// One for each shard.
    shard_metrics: Vec<ShardMetrics>,
    /// A `std` mutex: held to keep one sample, or to read a window.
    traffic: Mutex<Traffic>,
    shadow_share: f64,
    guards: GuardsConfig,
    /// The phase has been confirmed: by the record, or by the shards' fences. Until then nothing is served.
    confirmed: AtomicBool,
    /// How long clients' operations take.
    pub load: Load,
    /// What has been shown about this stash, for the guards.
    pub proofs: Proofs,
    /// One permit for each operation under way, writes until they have ended.
    places: Arc<Semaphore>,
    places_max: usize,
    /// Writes, repairs and mirrors that go on without their client; awaited on shutdown.
    tasks: TaskTracker,
    look_every: Duration,
    redis_timeout: Duration,
    /// What was seen of the shards, on disk.
    memory: OnceLock<Arc<Mutex<Memory>>>,
    default_ttl_s: u64,
}

/// Each is told by what showed it, and kept by that.
#[derive(Debug, Default)]
pub struct Proofs {
    pub backfill: ArcSwapOption<BackfillProof>,
    pub verify: ArcSwapOption<VerifyProof>,
}

/// What [`Stash::new`] is built from besides the config.
pub struct StashParts {
    pub tiers: Tiers,
    pub metrics: Arc<StashMetrics>,
    pub beliefs: Beliefs,
    pub shards: usize,
    pub places_max: usize,
    pub tasks: TaskTracker,
    /// Where the phase is recorded: `file` or `etcd`.
    pub store: &'static str,
}

impl Stash {
    pub fn new(config: &StashConfig, parts: StashParts) -> Arc<Stash> {
        let outbox = parts.tiers.outbox.iter();
        let shard_metrics = outbox
            .flat_map(|outbox| outbox.shards())
            .map(|shard| ShardMetrics::new(&config.name, &shard.name))
            .collect();
        let traffic = Traffic::new(parts.tiers.now(), parts.metrics.totals());
        let site = Site::new(parts.tiers, Rules::ALL, settings(config), parts.beliefs, parts.shards);
        Arc::new(Stash {
            name: config.name.clone(),
            site,
            metrics: parts.metrics,
            views: (0..parts.shards).map(|_| ShardView::default()).collect(),
            heard: (0..parts.shards).map(|_| Heard::default()).collect(),
            store: parts.store,
            shard_metrics,
            traffic: Mutex::new(traffic),
            shadow_share: config.shadow_share,
            guards: config.guards,
            confirmed: AtomicBool::new(false),
            load: Load::default(),
            proofs: Proofs::default(),
            places: Arc::new(Semaphore::new(parts.places_max)),
            places_max: parts.places_max,
            tasks: parts.tasks,
            look_every: config.outbox.look_every,
            memory: OnceLock::new(),
            redis_timeout: config.redis.as_ref().map_or(Duration::from_millis(400), |redis| redis.timeout),
            default_ttl_s: config.default_ttl_s,
        })
    }

    /// From now on operations are served.
    pub fn confirm(&self) {
        self.confirmed.store(true, Ordering::Release);
    }

    pub fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Acquire)
    }

    /// Keys whose tiers may differ, as far as this decant knows, over all shards.
    pub fn keys_pending(&self) -> usize {
        self.site.pending.iter().map(|shard| shard.count()).sum()
    }

    /// Operations under way, with the writes that go on after their answer.
    pub fn in_flight(&self) -> usize {
        self.places_max - self.places.available_permits()
    }

    /// Operations under way, as a share of those that are taken at once.
    pub fn fullness(&self) -> f64 {
        self.in_flight() as f64 / self.places_max.max(1) as f64
    }

    async fn run(&self, key: Key, verb: Verb) -> Answer {
        if !self.is_confirmed() {
            return unavailable("decant is starting: the phase in force is not confirmed yet");
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return unavailable("too many operations are under way");
        };
        let (began, entered) = (self.site.world.now(), Instant::now());
        let answer = match verb {
            Verb::Get { latest } => {
                let answer = read(&self.site, &key, latest, began).await;
                self.metrics.read_served(&answer, self.is_ahead(&key), entered.elapsed());
                self.shadow(&key, &answer);
                drop(place);
                answer::read(answer)
            }
            Verb::Set { body, only_if_absent } => {
                let change = Change { content: Content::Body(body), only_if_absent };
                answer::stored(self.measured(key, change, began, place).await)
            }
            Verb::Delete => {
                let change = Change { content: Content::Nothing, only_if_absent: false };
                answer::deleted(self.measured(key, change, began, place).await)
            }
        };
        self.load.record(entered.elapsed());
        answer
    }

    /// By what this decant believes now.
    fn is_ahead(&self, key: &Key) -> bool {
        self.site.belief().fence.is_ahead(key)
    }

    async fn measured(
        &self,
        key: Key,
        change: Change,
        began: Millis,
        place: tokio::sync::OwnedSemaphorePermit,
    ) -> WriteAnswer {
        let (ahead, entered) = (self.is_ahead(&key), Instant::now());
        let answer = self.detached(key, change, began, place).await;
        self.metrics.written(&answer, ahead, entered.elapsed());
        answer
    }

    /// Runs a write to its end, whether or not the client waits for the answer.
    async fn detached(
        &self,
        key: Key,
        change: Change,
        began: Millis,
        place: tokio::sync::OwnedSemaphorePermit,
    ) -> WriteAnswer {
        let (tell, told) = oneshot::channel();
        let (site, metrics) = (self.site.clone(), self.metrics.clone());
        self.tasks.spawn(with_forward(current_forward(), async move {
            // The client may be gone: then nobody hears the answer, and the write goes on all the same.
            let answered = |answer| {
                if matches!(answer, WriteAnswer::Done) {
                    metrics.wrote();
                }
                drop(tell.send(answer));
            };
            write(&site, &key, &change, began, answered).await;
            drop(place);
        }));
        told.await.unwrap_or_else(|_| WriteAnswer::Unavailable {
            why: "the write ended without an answer".into(),
            unknown: true,
            in_transit: false,
        })
    }
}

impl KeyValue for Stash {
    fn call(&self, operation: Operation) -> AnswerFuture<'_> {
        let Operation { key, verb, context: Context { request_id, traceparent, tracestate } } = operation;
        let forward = Forward { request_id, traceparent, tracestate };
        Box::pin(with_forward(forward, self.run(key, verb)))
    }
}

async fn with_forward<F: Future>(forward: Forward, work: F) -> F::Output {
    FORWARD.scope(forward, work).await
}

/// What goes along to Kask: the request's, or nothing where no request is being served (the reaper).
fn current_forward() -> Forward {
    FORWARD.try_with(Forward::clone).unwrap_or_default()
}

fn unavailable(why: &str) -> Answer {
    Answer::Unavailable { detail: why.to_owned(), retry_after_s: RETRY_AFTER_S }
}

fn settings(config: &StashConfig) -> Settings {
    let millis = |length: Duration| length.as_millis() as Millis;
    let lease = millis(config.outbox.lease);
    Settings {
        lease,
        // Far inside the lease, whatever its length, and no longer than a request may take.
        copy_window: millis(BUDGET).min(lease * 4 / 5),
        look_fresh: millis(config.outbox.look_fresh),
        settle_wait: millis(config.outbox.settle_wait),
        budget: millis(BUDGET),
        transit_poll: millis(TRANSIT_POLL),
        answer_before_copy: config.replication == Replication::Async,
        fail_on_tier_failure: config.on_tier_failure == OnTierFailure::Fail,
        repairs_max: REPAIRS_MAX,
        hold_doubtful: config.redis.as_ref().is_some_and(|redis| redis.after_loss == AfterLoss::Hold),
    }
}
