//! Moves between phases: the durable record, the fence on every shard, and the news that a move has settled.
//!
//! A move is made durable as begun, then the fence is raised on every shard, and that is all: from that instant no decant, however
//! stale, can begin a write or copy of the old phase there. What was begun finishes in its own direction. When no intent of another
//! direction is left, the record says `settled`.

mod begin;
mod drive;
mod figures;
mod request;
mod start;

use super::Stash;
use crate::{
    fleet::FileStore,
    phase::{
        Phase,
        file::RecordFault,
        record::{PhaseRecord, State},
    },
    protocol::{Belief, Fence},
    telemetry::seldom::Seldom,
};
use arc_swap::ArcSwapOption;
pub use request::{MoveFault, MoveRequest, Moved};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{Mutex, Notify},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// How often a move under way is looked at again.
const DRIVE_EVERY: Duration = Duration::from_millis(50);
/// How often a first start asks again while a shard does not answer.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// A shard's fence and outbox are asked for this long.
const SHARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Moves one stash.
pub struct Mover {
    stash: Arc<Stash>,
    /// The record, and the history.
    store: FileStore,
    /// This decant's name in fences and records.
    member: String,
    first_phase: Phase,
    /// Held while the record changes, and while a move is being weighed: one operator moves at a time.
    changing: Mutex<()>,
    /// The record that this decant has confirmed and believes.
    shown: ArcSwapOption<PhaseRecord>,
    /// Why the phase is not confirmed yet.
    unconfirmed: ArcSwapOption<String>,
    /// Since when every shard has shown the fence of which version. A `std` mutex: held for a comparison.
    raised: std::sync::Mutex<Option<(u64, Instant)>>,
    /// Wakes the driver when a move has begun.
    begun: Notify,
    /// What lasts is met twenty times a second, and told of seldom.
    troubles: Troubles,
}

/// One for each trouble.
#[derive(Debug, Default)]
struct Troubles {
    unconfirmed: Seldom,
    unrecorded: Seldom,
    unraised: Seldom,
}

pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Mover {
    /// With a record the stash serves at once; without, [`Mover::run`] asks the shards first.
    pub fn new(stash: Arc<Stash>, store: FileStore, member: String, first_phase: Phase) -> Arc<Mover> {
        let mover = Mover {
            stash,
            store,
            member,
            first_phase,
            changing: Mutex::default(),
            shown: ArcSwapOption::empty(),
            unconfirmed: ArcSwapOption::empty(),
            raised: std::sync::Mutex::default(),
            begun: Notify::new(),
            troubles: Troubles::default(),
        };
        if let Some(record) = mover.store.record() {
            mover.believe(&record);
            mover.stash.confirm();
        }
        Arc::new(mover)
    }

    pub fn stash(&self) -> &Arc<Stash> {
        &self.stash
    }

    pub fn member(&self) -> &str {
        &self.member
    }

    /// The record; none while starting.
    pub fn shown(&self) -> Option<Arc<PhaseRecord>> {
        self.shown.load_full()
    }

    /// What keeps the phase from being confirmed; none once it is, or before it was tried.
    pub fn why_unconfirmed(&self) -> Option<String> {
        self.unconfirmed.load_full().map(|why| why.to_string())
    }

    pub fn history(&self) -> Result<Vec<PhaseRecord>, RecordFault> {
        self.store.history()
    }

    fn fence_of(&self, record: &PhaseRecord) -> Fence {
        Fence {
            version: record.version,
            phase: record.phase,
            stash: self.stash.name.clone(),
            shards: self.stash.shards_digest(),
            member: record.member.clone(),
            ahead: record.ahead.clone(),
        }
    }

    fn believe(&self, record: &PhaseRecord) {
        let own = record.member == self.member;
        let settled = record.state == State::Settled;
        self.stash.site.beliefs.set(Belief::new(self.fence_of(record), settled, own));
        self.shown.store(Some(Arc::new(record.clone())));
        self.unconfirmed.store(None);
        self.stash.metrics.set_phase(record.phase);
        self.stash.metrics.set_move(record.since_unix_ms, !settled);
        self.stash.site.world.alone.record_says(record.mirror_unclean_since_unix_ms.is_some());
    }

    /// Confirms the phase, then keeps fence and record in step until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if self.stash.redis_is_in_use() {
            self.stash.open_shards();
        }
        while !stop.is_cancelled() && self.shown().is_none() {
            if let Err(why) = self.first_start().await {
                if self.troubles.unconfirmed.is_due() {
                    tracing::warn!(stash = self.stash.name, why, "the phase is not confirmed yet");
                }
                self.unconfirmed.store(Some(Arc::new(why)));
                tokio::select! { () = stop.cancelled() => {}, () = sleep(RETRY_EVERY) => {} }
            }
        }
        while !stop.is_cancelled() {
            match self.drive().await {
                Ok(()) => self.troubles.unrecorded.over(),
                Err(fault) if self.troubles.unrecorded.is_due() => {
                    tracing::error!(stash = self.stash.name, fault = %fault, "the phase record is not up to date");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(DRIVE_EVERY) => {}
                () = self.begun.notified() => {}
            }
        }
    }

    fn all_shards(&self) -> impl Iterator<Item = (usize, Instant)> + use<> {
        (0..self.stash.views.len()).map(|shard| (shard, Instant::now() + SHARD_TIMEOUT))
    }
}

/// A fence of decants that place keys otherwise, or the same shards spelt otherwise.
fn other_shards(fence: &Fence) -> String {
    format!(
        "it was raised by {} with another list of shards (version {}, {}): give every decant of the stash the same redis settings, to the \
         letter; or, if all its shards have moved or been renamed, stop its decants, delete the key that ends in |fence on each, and start",
        fence.member, fence.version, fence.phase
    )
}
