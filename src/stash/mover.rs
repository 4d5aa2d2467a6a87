//! Moves between phases: the durable record, the fence on every shard, and the news that a move has settled.
//!
//! A move is made durable as begun, then the fence is raised on every shard, and that is all: from that instant no decant, however
//! stale, can begin a write or copy of the old phase there. What was begun finishes in its own direction. When no intent of another
//! direction is left, the record says `settled`.

mod begin;
mod drive;
mod figures;
mod fleet;
mod gauges;
mod joint;
mod propose;
mod request;
mod start;

use super::Stash;
use crate::{
    fleet::{FileStore, Shared},
    phase::{
        Phase,
        record::{Line, PhaseRecord, State},
    },
    protocol::{Belief, Fence},
    telemetry::seldom::Seldom,
};
use arc_swap::ArcSwapOption;
use fleet::Joined;
pub use fleet::{FleetFigures, MemberFigures};
pub use joint::of_all;
pub use request::{ForgetFault, HistoryFault, MoveFault, MoveRequest, Moved};
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
    store: Store,
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

/// Where the record is kept.
enum Store {
    /// On this decant's own disk.
    File(Box<FileStore>),
    /// In etcd, shared by the fleet.
    Fleet(Box<Joined>),
}

/// One for each trouble.
#[derive(Debug, Default)]
struct Troubles {
    unconfirmed: Seldom,
    unrecorded: Seldom,
    unraised: Seldom,
    untold: Seldom,
}

pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Mover {
    /// With a record the stash serves at once; without, [`Mover::run`] asks the shards first.
    pub fn new(stash: Arc<Stash>, store: FileStore, member: String, first_phase: Phase) -> Arc<Mover> {
        let record = store.record();
        let mover = Mover::with(stash, Store::File(Box::new(store)), member, first_phase);
        if let Some(record) = record {
            mover.believe(&record);
            mover.stash.confirm();
        }
        Arc::new(mover)
    }

    /// A member of a fleet. It serves once the record in etcd is read or, with etcd away, a fence is seen.
    pub fn of_fleet(stash: Arc<Stash>, shared: Arc<Shared>, first_phase: Phase) -> Arc<Mover> {
        let member = shared.member().to_owned();
        let told = stash.clone();
        shared.report_by(Box::new(move || told.report()));
        Arc::new(Mover::with(stash, Store::Fleet(Box::new(Joined::new(shared))), member, first_phase))
    }

    fn with(stash: Arc<Stash>, store: Store, member: String, first_phase: Phase) -> Mover {
        Mover {
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
        }
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

    /// Whether this decant may move: the fence names it, or it is a member of a fleet.
    pub fn may_move_here(&self) -> bool {
        match &self.store {
            Store::File(_) => self.shown().is_some_and(|record| record.member == self.member),
            Store::Fleet(joined) => joined.shared.known().is_confirmed(),
        }
    }

    /// The moves so far, oldest first.
    pub async fn moves(&self) -> Result<Vec<PhaseRecord>, HistoryFault> {
        let lines = self.history().await?.into_iter();
        let moves = lines.filter_map(|line| match line {
            Line::Moved(record) => Some(*record),
            Line::Happened(_) => None,
        });
        Ok(moves.collect())
    }

    /// What happened to the record so far, moves and else, oldest first.
    pub async fn history(&self) -> Result<Vec<Line>, HistoryFault> {
        match &self.store {
            Store::File(store) => {
                let moves = store.history().await?;
                Ok(moves.into_iter().map(|record| Line::Moved(Box::new(record))).collect())
            }
            Store::Fleet(joined) => Ok(joined.shared.history().await?),
        }
    }

    /// Until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if self.stash.redis_is_in_use() {
            self.stash.open_shards();
        }
        match &self.store {
            Store::File(store) => self.run_alone(store, stop).await,
            Store::Fleet(joined) => self.run_in_fleet(joined, stop).await,
        }
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
        let own = match &self.store {
            Store::File(_) => record.member == self.member,
            // A move needs the promise of every member: so each may go on alone, until it is declared gone.
            Store::Fleet(joined) => !joined.shared.known().ousted,
        };
        let settled = record.state == State::Settled;
        self.stash.site.beliefs.set(Belief::new(self.fence_of(record), settled, own));
        self.shown.store(Some(Arc::new(record.clone())));
        self.unconfirmed.store(None);
        self.stash.metrics.set_phase(record.phase, record.ahead.as_ref());
        self.stash.metrics.set_move(record.since_unix_ms, !settled);
        self.stash.site.world.alone.record_says(record.mirror_unclean_since_unix_ms.is_some());
    }

    /// Confirms the phase, then keeps fence and record in step until stopped.
    async fn run_alone(&self, store: &FileStore, stop: CancellationToken) {
        while !stop.is_cancelled() && self.shown().is_none() {
            if let Err(why) = self.first_start(store).await {
                if self.troubles.unconfirmed.is_due() {
                    tracing::warn!(stash = self.stash.name, why, "the phase is not confirmed yet");
                }
                self.unconfirmed.store(Some(Arc::new(why)));
                tokio::select! { () = stop.cancelled() => {}, () = sleep(RETRY_EVERY) => {} }
            }
        }
        while !stop.is_cancelled() {
            match self.drive(store).await {
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
