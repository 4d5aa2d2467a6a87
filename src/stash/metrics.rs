//! A stash's metrics. Handles are kept: the hot path looks nothing up.

use super::traffic::Counts;
use crate::{
    codec::transcode,
    outbox::UNREAD,
    phase::{Phase, ahead::Ahead},
    protocol::{
        read::{ReadAnswer, ServedBy},
        world::{By, Direction, Event},
        write::WriteAnswer,
    },
    telemetry::seldom::Seldom,
};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

/// A counter that can be read here as well: the exporter's cannot.
struct Readable {
    shown: Counter,
    total: AtomicU64,
}

impl Readable {
    fn new(shown: Counter) -> Readable {
        Readable { shown, total: AtomicU64::new(0) }
    }

    fn increment(&self) {
        self.shown.increment(1);
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// Reads since the start, by the tier whose value was answered; `none`: a miss, or no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reads {
    pub kask: u64,
    pub redis: u64,
    pub none: u64,
}

struct ReadCounts {
    kask: Readable,
    redis: Readable,
    none: Readable,
}

/// The label of keys that are not one phase ahead, and of those that are.
const AHEAD: [&str; 2] = ["false", "true"];
const OPS: [&str; 2] = ["read", "write"];
/// How a write ends for its client; `failed`: it may have been done all the same.
const WRITES: [&str; 3] = ["done", "refused", "failed"];

/// Kask fails for some keys while it answers for others: one failure does not make it away.
const KASK_FAILURES_IN_A_ROW: u32 = 5;

/// The handles of one stash.
pub struct StashMetrics {
    stash: String,
    /// Of the keys that are not ahead, and of those that are.
    reads: [ReadCounts; 2],
    durations: [[Histogram; 2]; 2],
    writes: [[Counter; 3]; 2],
    fallbacks: Readable,
    kask_requests: AtomicU64,
    kask_errors: AtomicU64,
    writes_in_phase: AtomicU64,
    /// The phase that they are counted in; none: none yet.
    counted_in: Mutex<Option<Phase>>,
    shadows: [Readable; 4],
    repairs: [Counter; 5],
    waited: Counter,
    settled: [Counter; 4],
    mirror_failures: Counter,
    phase: [Gauge; 5],
    phase_ahead: [Gauge; 5],
    phase_since: Gauge,
    move_under_way: Gauge,
    pub keys_pending: Gauge,
    pub intents: Gauge,
    pub oldest_seconds: Gauge,
    pub damaged: Gauge,
    pub mirror_unclean: Gauge,
    redis_up: Gauge,
    kask_up: Gauge,
    /// Kask's failures since its last answer; a few in a row mean that it is away.
    kask_failures: AtomicU32,
    fence_unusable: Seldom,
}

/// The handles of one shard.
pub struct ShardMetrics {
    up: Gauge,
    pub intents: Gauge,
    suspect: Gauge,
    pub evicted: Gauge,
}

impl ShardMetrics {
    pub(super) fn new(stash: &str, shard: &str) -> ShardMetrics {
        let labels = [("stash", stash.to_owned()), ("shard", shard.to_owned())];
        ShardMetrics {
            up: gauge!("decant_shard_up", &labels),
            intents: gauge!("decant_shard_intents", &labels),
            suspect: gauge!("decant_shard_suspect", &labels),
            evicted: gauge!("decant_shard_evicted_keys", &labels),
        }
    }

    pub(super) fn is_suspect(&self, suspect: bool) {
        self.suspect.set(if suspect { 1.0 } else { 0.0 });
    }

    pub(super) fn is_up(&self, up: bool) {
        self.up.set(if up { 1.0 } else { 0.0 });
    }
}
/// How a shadow read ends: the first three were compared.
const SHADOWS: [&str; 4] = ["match", "mismatch", "missing", "error"];
/// How a read-repair ends.
const REPAIRS: [&str; 5] = ["copied", "untranscodable", "nothing", "lost", "left"];

const COPIERS: [By; 4] = [By::Writer, By::Repair, By::Backfill, By::Reaper];

impl StashMetrics {
    pub fn new(stash: &str) -> StashMetrics {
        let name = || stash.to_owned();
        let served = |by: &'static str, ahead: &'static str| {
            Readable::new(counter!("decant_reads_total", "stash" => name(), "served_by" => by, "ahead" => ahead))
        };
        let reads = |ahead| ReadCounts {
            kask: served("kask", ahead),
            redis: served("redis", ahead),
            none: served("none", ahead),
        };
        let fallbacks = Readable::new(counter!("decant_fallback_hits_total", "stash" => name()));
        // From nothing on, so that the first increase shows as one.
        for reason in transcode::REASONS.into_iter().chain(UNREAD) {
            untranscodable(stash, Direction::ToKask, reason).increment(0);
        }
        let metrics = StashMetrics {
            reads: AHEAD.map(reads),
            durations: AHEAD.map(|ahead| {
                OPS.map(|op| histogram!("decant_operation_duration_seconds", "stash" => name(), "op" => op, "ahead" => ahead))
            }),
            writes: AHEAD.map(|ahead| {
                WRITES.map(|outcome| counter!("decant_writes_total", "stash" => name(), "outcome" => outcome, "ahead" => ahead))
            }),
            fallbacks,
            kask_requests: AtomicU64::new(0),
            kask_errors: AtomicU64::new(0),
            writes_in_phase: AtomicU64::new(0),
            counted_in: Mutex::default(),
            shadows: SHADOWS.map(|result| {
                Readable::new(counter!("decant_shadow_reads_total", "stash" => name(), "result" => result))
            }),
            repairs: REPAIRS.map(|outcome| counter!("decant_repairs_total", "stash" => name(), "outcome" => outcome)),
            waited: counter!("decant_writes_waited_total", "stash" => name()),
            settled: COPIERS.map(|by| counter!("decant_outbox_settled_total", "stash" => name(), "by" => by.name())),
            mirror_failures: counter!("decant_mirror_failures_total", "stash" => name()),
            phase: Phase::ALL.map(|phase| gauge!("decant_phase", "stash" => name(), "phase" => phase.name())),
            phase_ahead: Phase::ALL
                .map(|phase| gauge!("decant_phase_ahead", "stash" => name(), "phase" => phase.name())),
            phase_since: gauge!("decant_phase_since_timestamp_seconds", "stash" => name()),
            move_under_way: gauge!("decant_move_under_way", "stash" => name()),
            keys_pending: gauge!("decant_keys_pending", "stash" => name()),
            intents: gauge!("decant_outbox_intents", "stash" => name()),
            oldest_seconds: gauge!("decant_outbox_oldest_seconds", "stash" => name()),
            damaged: gauge!("decant_damaged_intents", "stash" => name()),
            mirror_unclean: gauge!("decant_mirror_unclean", "stash" => name()),
            redis_up: gauge!("decant_tier_up", "stash" => name(), "tier" => "redis"),
            kask_up: gauge!("decant_tier_up", "stash" => name(), "tier" => "kask"),
            kask_failures: AtomicU32::new(0),
            fence_unusable: Seldom::default(),
            stash: name(),
        };
        // Nothing has failed yet.
        metrics.kask_up.set(1.0);
        metrics
    }

    /// Kask answered, or failed to.
    pub(super) fn kask_answered(&self, well: bool) {
        self.kask_requests.fetch_add(1, Ordering::Relaxed);
        self.kask_errors.fetch_add(u64::from(!well), Ordering::Relaxed);
        if well {
            self.kask_failures.store(0, Ordering::Relaxed);
            self.kask_up.set(1.0);
        } else if self.kask_failures.fetch_add(1, Ordering::Relaxed) + 1 == KASK_FAILURES_IN_A_ROW {
            self.kask_up.set(0.0);
        }
    }

    pub(super) fn kask_is_up(&self) -> bool {
        self.kask_failures.load(Ordering::Relaxed) < KASK_FAILURES_IN_A_ROW
    }

    pub(super) fn redis_is_up(&self, up: bool) {
        self.redis_up.set(if up { 1.0 } else { 0.0 });
    }

    /// Marks the phase in force.
    pub fn set_phase(&self, now: Phase, ahead: Option<&Ahead>) {
        let before = self.counted_in.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if before != Some(now) {
            self.writes_in_phase.store(0, Ordering::Relaxed);
        }
        let of_ahead = now.next().filter(|_| ahead.is_some());
        for ((phase, gauge), ahead) in Phase::ALL.into_iter().zip(&self.phase).zip(&self.phase_ahead) {
            gauge.set(if phase == now { 1.0 } else { 0.0 });
            ahead.set(if Some(phase) == of_ahead { 1.0 } else { 0.0 });
        }
    }

    /// When the last move began, and whether it goes on.
    pub(super) fn set_move(&self, since_unix_ms: u64, under_way: bool) {
        self.phase_since.set(since_unix_ms as f64 / 1000.0);
        self.move_under_way.set(if under_way { 1.0 } else { 0.0 });
    }

    /// `ahead`: of a key that is.
    pub(super) fn read_served(&self, answer: &ReadAnswer, ahead: bool, took: Duration) {
        let reads = &self.reads[usize::from(ahead)];
        match answer {
            ReadAnswer::Hit { by: ServedBy::Kask, .. } => reads.kask.increment(),
            ReadAnswer::Hit { by: ServedBy::Redis, .. } => reads.redis.increment(),
            ReadAnswer::Missing | ReadAnswer::Unavailable(_) => reads.none.increment(),
        }
        self.durations[usize::from(ahead)][0].record(took);
    }

    pub(super) fn written(&self, answer: &WriteAnswer, ahead: bool, took: Duration) {
        let outcome = match answer {
            WriteAnswer::Done => 0,
            WriteAnswer::Exists | WriteAnswer::Refused(_) => 1,
            WriteAnswer::HalfDone(_) | WriteAnswer::Unavailable { .. } => 2,
        };
        self.writes[usize::from(ahead)][outcome].increment(1);
        self.durations[usize::from(ahead)][1].record(took);
    }

    /// A write was acknowledged.
    pub(super) fn wrote(&self) {
        self.writes_in_phase.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn writes_in_phase(&self) -> u64 {
        self.writes_in_phase.load(Ordering::Relaxed)
    }

    pub fn reads(&self) -> Reads {
        let sum = |of: fn(&ReadCounts) -> &Readable| self.reads.iter().map(|counts| of(counts).get()).sum();
        Reads { kask: sum(|counts| &counts.kask), redis: sum(|counts| &counts.redis), none: sum(|counts| &counts.none) }
    }

    /// What was counted since the start, for windows of time.
    pub(super) fn totals(&self) -> Counts {
        let [same, mismatch, missing, _] = &self.shadows;
        let differing = mismatch.get() + missing.get();
        let Reads { kask, redis, none } = self.reads();
        Counts {
            kask,
            redis,
            none,
            fallbacks: self.fallbacks.get(),
            kask_requests: self.kask_requests.load(Ordering::Relaxed),
            kask_errors: self.kask_errors.load(Ordering::Relaxed),
            compared: same.get() + differing,
            differing,
            missing: missing.get(),
        }
    }

    /// What the protocol tells. The labels that are looked up here belong to rare events, and to few of them.
    pub(super) fn event(&self, event: Event) {
        match event {
            Event::Settled(by) => {
                if let Some((_, counter)) = COPIERS.iter().zip(&self.settled).find(|(copier, _)| **copier == by) {
                    counter.increment(1);
                }
            }
            Event::Waited => self.waited.increment(1),
            Event::FellBack => self.fallbacks.increment(),
            Event::Repair(outcome) => {
                if let Some((_, counter)) = REPAIRS.iter().zip(&self.repairs).find(|(name, _)| **name == outcome) {
                    counter.increment(1);
                }
            }
            Event::Untranscodable(direction, reason) => untranscodable(&self.stash, direction, reason).increment(1),
            Event::MirrorFailed => self.mirror_failures.increment(1),
            // Each request meets it, and a waiting write a hundred times a second.
            Event::FenceUnusable if self.fence_unusable.is_due() => {
                tracing::warn!(
                    stash = self.stash,
                    "a shard's fence is missing, older or another's, or its server not compared yet; nothing begins on it until that is so"
                );
            }
            Event::FenceUnusable => {}
            Event::Doubtful { held } => {
                let outcome = if held { "held" } else { "served" };
                counter!("decant_doubtful_reads_total", "stash" => self.stash.clone(), "outcome" => outcome)
                    .increment(1);
            }
        }
    }

    /// `result` is one of [`SHADOWS`].
    pub(super) fn shadow(&self, result: &'static str) {
        if let Some((_, counter)) = SHADOWS.iter().zip(&self.shadows).find(|(name, _)| **name == result) {
            counter.increment();
        }
    }
}

fn untranscodable(stash: &str, direction: Direction, reason: &'static str) -> Counter {
    let direction = match direction {
        Direction::ToKask => "redis_to_kask",
        Direction::ToRedis => "kask_to_redis",
    };
    counter!("decant_untranscodable_total", "stash" => stash.to_owned(), "direction" => direction, "reason" => reason)
}
