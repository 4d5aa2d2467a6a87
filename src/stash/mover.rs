//! Moves between phases: the durable record, the fence on every shard, and the news that a move has settled.
//!
//! A move is made durable as begun, then the fence is raised on every shard, and that is all: from that instant no decant, however
//! stale, can begin a write or copy of the old phase there. What was begun finishes in its own direction. When no intent of another
//! direction is left, the record says `settled`.

mod begin;
mod figures;
mod request;

use super::{Seen, ShardView, Stash};
use crate::{
    outbox::Raised,
    phase::{
        Phase,
        record::{PhaseRecord, RecordFault, RecordFile, State},
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
    file: RecordFile,
    /// This decant's name in fences and records.
    member: String,
    first_phase: Phase,
    /// The record as it is on disk; the lock lets one operator move at a time.
    record: Mutex<Option<PhaseRecord>>,
    /// The record for those who only look: the lock is held while a move is being weighed.
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
    /// Reads the record. With one, the stash serves at once; without, [`Mover::run`] asks the shards first.
    pub fn open(
        stash: Arc<Stash>,
        file: RecordFile,
        member: String,
        first_phase: Phase,
    ) -> Result<Arc<Mover>, RecordFault> {
        let record = file.load()?;
        let mover = Mover {
            stash,
            file,
            member,
            first_phase,
            record: Mutex::new(None),
            shown: ArcSwapOption::empty(),
            unconfirmed: ArcSwapOption::empty(),
            raised: std::sync::Mutex::default(),
            begun: Notify::new(),
            troubles: Troubles::default(),
        };
        if let Some(record) = record {
            mover.believe(&record);
            mover.stash.confirm();
            return Ok(Arc::new(Mover { record: Mutex::new(Some(record)), ..mover }));
        }
        Ok(Arc::new(mover))
    }

    pub fn stash(&self) -> &Arc<Stash> {
        &self.stash
    }

    pub fn member(&self) -> &str {
        &self.member
    }

    /// The record; none while starting.
    pub async fn record(&self) -> Option<PhaseRecord> {
        self.record.lock().await.clone()
    }

    /// The record, without waiting for a move that is being weighed; none while starting.
    pub fn shown(&self) -> Option<Arc<PhaseRecord>> {
        self.shown.load_full()
    }

    /// What keeps the phase from being confirmed; none once it is, or before it was tried.
    pub fn why_unconfirmed(&self) -> Option<String> {
        self.unconfirmed.load_full().map(|why| why.to_string())
    }

    pub fn history(&self) -> Result<Vec<PhaseRecord>, RecordFault> {
        self.file.history()
    }

    fn fence_of(&self, record: &PhaseRecord) -> Fence {
        Fence {
            version: record.version,
            phase: record.phase,
            stash: self.stash.name.clone(),
            shards: self.stash.shards_digest(),
            member: record.member.clone(),
        }
    }

    fn believe(&self, record: &PhaseRecord) {
        let own = record.member == self.member;
        let settled = record.state == State::Settled;
        self.stash.site.beliefs.set(Belief::new(self.fence_of(record), settled, own));
        self.shown.store(Some(Arc::new(record.clone())));
        self.unconfirmed.store(None);
        self.stash.metrics.set_phase(record.phase);
        self.stash.site.world.alone.record_says(record.mirror_unclean_since_unix_ms.is_some());
    }

    /// Confirms the phase, then keeps fence and record in step until stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if self.stash.redis_is_in_use() {
            self.stash.open_shards();
        }
        while !stop.is_cancelled() && self.record.lock().await.is_none() {
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

    /// No record yet: the shards' fence is the record of who came first; without one, this decant raises the first.
    async fn first_start(&self) -> Result<(), String> {
        let mut slot = self.record.lock().await;
        let mut seen: Option<Fence> = None;
        // Also where the config says kask-only: others may share these shards, and be in another phase.
        for (shard, until) in self.all_shards() {
            let fence = self.stash.fence_on(shard, until).await.map_err(|why| match self.first_phase {
                Phase::KaskOnly => format!("{why}; if this Redis is gone for good, remove it from the stash's config"),
                _ => why,
            })?;
            seen = seen.into_iter().chain(fence).max_by_key(|fence| fence.version);
        }
        let mut record = match seen {
            Some(fence) => self.adopted(&fence)?,
            None => self.first_record(),
        };
        if record.member == self.member {
            self.file.store(&record).map_err(|fault| fault.to_string())?;
            if let Some(other) = self.raise_everywhere(&record).await? {
                record = self.adopted(&other)?;
            }
        }
        // Stored before it is told of: this is tried again four times a second.
        self.file.store(&record).and_then(|()| self.file.append(&record)).map_err(|fault| fault.to_string())?;
        self.believe(&record);
        *slot = Some(record);
        self.stash.confirm();
        Ok(())
    }

    fn first_record(&self) -> PhaseRecord {
        PhaseRecord {
            stash: self.stash.name.clone(),
            phase: self.first_phase,
            version: 1,
            state: State::Moving,
            since_unix_ms: unix_ms(),
            by: "decant".into(),
            reason: "first start".into(),
            forced: false,
            member: self.member.clone(),
            kask_stale_since_unix_ms: None,
            mirror_unclean_since_unix_ms: None,
        }
    }

    /// A record of what another decant's fence says.
    fn adopted(&self, fence: &Fence) -> Result<PhaseRecord, String> {
        if fence.shards != self.stash.shards_digest() {
            return Err(other_shards(fence));
        }
        Ok(PhaseRecord {
            phase: fence.phase,
            version: fence.version,
            reason: "learned from the fence".into(),
            by: fence.member.clone(),
            member: fence.member.clone(),
            state: if fence.member == self.member { State::Moving } else { State::Settled },
            kask_stale_since_unix_ms: self.perhaps_stale(fence).filter(|_| fence.version > 1),
            mirror_unclean_since_unix_ms: self.perhaps_unclean(fence).filter(|_| fence.version > 1),
            ..self.first_record()
        })
    }

    /// Of a move of this decant's own whose record is lost: what may have gone past Kask counts as gone past it.
    fn perhaps_stale(&self, fence: &Fence) -> Option<u64> {
        (fence.member == self.member && fence.phase == Phase::RedisOnly).then(unix_ms)
    }

    /// The same of Redis, which `kask-only` may have come before.
    fn perhaps_unclean(&self, fence: &Fence) -> Option<u64> {
        (fence.member == self.member && fence.phase == Phase::RedisStandby).then(unix_ms)
    }

    fn all_shards(&self) -> impl Iterator<Item = (usize, Instant)> + use<> {
        (0..self.stash.views.len()).map(|shard| (shard, Instant::now() + SHARD_TIMEOUT))
    }

    /// Raises the fence on every shard; `Some` where one has another's of this version or a newer.
    async fn raise_everywhere(&self, record: &PhaseRecord) -> Result<Option<Fence>, String> {
        let fence = self.fence_of(record);
        for (shard, until) in self.all_shards() {
            match self.stash.raise_on(shard, &fence, until).await? {
                Raised::Done => {}
                Raised::Refused(Some(other)) => return Ok(Some(other)),
                Raised::Refused(None) => {
                    return Err("a shard's fence cannot be read; was it written by a newer decant?".into());
                }
            }
        }
        Ok(None)
    }

    /// One look at what is still to be done: learn, raise, settle.
    async fn drive(&self) -> Result<(), RecordFault> {
        let mut slot = self.record.lock().await;
        let Some(record) = slot.as_mut() else { return Ok(()) };
        let belief = self.stash.site.belief();
        if belief.fence.version > record.version {
            let learned = self.learned(record, &belief.fence);
            return self.replace(record, learned);
        }
        if record.member != self.member {
            return Ok(());
        }
        if let Some(other) = self.raise_where_needed(record).await {
            tracing::error!(
                stash = self.stash.name,
                lost = record.phase.name(),
                phase = other.phase.name(),
                version = other.version,
                by = other.member,
                "another move took this version first, and stands; was state_dir copied, or restored from a backup?"
            );
            let learned = self.learned(record, &other);
            return self.replace(record, learned);
        }
        if record.state == State::Moving && self.is_over(record) {
            let settled = PhaseRecord { state: State::Settled, ..record.clone() };
            self.file.store(&settled)?;
            *record = settled;
            self.believe(record);
            tracing::info!(
                stash = self.stash.name,
                phase = record.phase.name(),
                version = record.version,
                "the move has settled"
            );
        }
        if !self.stash.redis_is_in_use() {
            self.stash.close_shards();
        }
        Ok(())
    }

    /// Takes over what stands on the shards. Durable first: what cannot be written is tried again, and leaves no line in the history.
    fn replace(&self, record: &mut PhaseRecord, next: PhaseRecord) -> Result<(), RecordFault> {
        self.file.store(&next)?;
        *record = next;
        self.believe(record);
        self.file.append(record)
    }

    fn learned(&self, record: &PhaseRecord, fence: &Fence) -> PhaseRecord {
        PhaseRecord {
            phase: fence.phase,
            version: fence.version,
            state: if fence.member == self.member { State::Moving } else { State::Settled },
            since_unix_ms: unix_ms(),
            by: fence.member.clone(),
            reason: "learned from the fence".into(),
            forced: false,
            member: fence.member.clone(),
            kask_stale_since_unix_ms: self
                .perhaps_stale(fence)
                .map(|now| record.kask_stale_since_unix_ms.unwrap_or(now)),
            mirror_unclean_since_unix_ms: self
                .perhaps_unclean(fence)
                .filter(|_| record.phase != Phase::KaskFirst || fence.version != record.version + 1)
                .map(|now| record.mirror_unclean_since_unix_ms.unwrap_or(now)),
            stash: record.stash.clone(),
        }
    }

    /// A missing or older fence is raised again from the record, never lowered. `Some`: another's of the same version was raised
    /// before this one ever was.
    async fn raise_where_needed(&self, record: &PhaseRecord) -> Option<Fence> {
        let retired = !record.phase.uses_redis() && record.state == State::Settled;
        if retired {
            return None;
        }
        let fence = self.fence_of(record);
        for (shard, until) in self.all_shards() {
            let stands = self.stash.views[shard].last().and_then(|seen| seen.fence);
            if stands.is_some_and(|stands| stands == fence || stands.version > fence.version) {
                continue;
            }
            let why = match self.stash.raise_on(shard, &fence, until).await {
                Ok(Raised::Done) => {
                    self.troubles.unraised.over();
                    continue;
                }
                // The next look learns of it.
                Ok(Raised::Refused(Some(other))) if other.version > fence.version && other.shards == fence.shards => {
                    continue;
                }
                Ok(Raised::Refused(Some(other))) if other.shards == fence.shards => return Some(other),
                Ok(Raised::Refused(Some(other))) => other_shards(&other),
                Ok(Raised::Refused(None)) => "it cannot be read; was it written by a newer decant?".to_owned(),
                Err(why) => why,
            };
            if self.troubles.unraised.is_due() {
                let shard = self.stash.shard_name(shard);
                tracing::warn!(stash = self.stash.name, shard, why, "the fence is not raised yet");
            }
        }
        None
    }

    /// Every shard shows the new fence, has done so for long enough, and shows no intent of another direction. The outbox of a server that
    /// has only just come may be empty because it was forgotten: what it told of must have arrived.
    fn is_over(&self, record: &PhaseRecord) -> bool {
        let fence = self.fence_of(record);
        // One look at each shard decides: fence and intents are of the same instant.
        let looks: Vec<Option<Seen>> = self.stash.views.iter().map(ShardView::last).collect();
        let raised = looks.iter().all(|look| look.as_ref().is_some_and(|seen| seen.fence.as_ref() == Some(&fence)));
        self.raised_for_long_enough(raised, record.version)
            && looks.iter().flatten().all(|seen| seen.quiet_ms == 0 && intents_of_others(record.phase, seen) == 0)
    }

    /// No decant's fresh look is from before the fence was raised everywhere. Without this pause two quick moves could let a decant that
    /// missed both read a tier which is not written any more.
    fn raised_for_long_enough(&self, everywhere: bool, version: u64) -> bool {
        let mut raised = self.raised.lock().unwrap_or_else(|e| e.into_inner());
        match *raised {
            Some((of, since)) if everywhere && of == version => {
                since.elapsed() >= Duration::from_millis(self.stash.site.settings.settle_wait)
            }
            _ => {
                *raised = everywhere.then(|| (version, Instant::now()));
                false
            }
        }
    }
}

/// Intents that a phase does not make itself: they are of the phase before.
fn intents_of_others(phase: Phase, seen: &Seen) -> u64 {
    match phase {
        Phase::RedisOnly | Phase::KaskOnly => seen.to_kask + seen.to_redis,
        Phase::DualWrite | Phase::KaskFirst => seen.to_redis,
        Phase::RedisStandby => seen.to_kask,
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
