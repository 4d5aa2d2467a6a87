//! Moves between phases: the durable record, the fence on every shard, and the news that a move has settled.
//!
//! A move is made durable as begun, then the fence is raised on every shard, and that is all: from that instant no decant, however
//! stale, can begin a write or copy of the old phase there. What was begun finishes in its own direction. When no intent of another
//! direction is left, the record says `settled`.

use super::{Stash, alone::Promise, sample};
use crate::{
    codec::key::Key,
    outbox::Raised,
    phase::{
        Phase,
        guard::{self, Figures, Guard, NoStep},
        record::{PhaseRecord, RecordFault, RecordFile, State},
    },
    protocol::{
        Belief, Fence, World,
        world::{KaskGot, Millis},
    },
};
use arc_swap::ArcSwapOption;
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
/// Kask's probe before a move may take this long, in milliseconds.
const PROBE_MS: Millis = 1_200;

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
}

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct MoveRequest {
    /// The phase that the operator believes in; none: whatever holds.
    pub from: Option<Phase>,
    pub to: Phase,
    pub reason: String,
    pub by: String,
    pub force: bool,
    pub dry_run: bool,
    /// The operator's word that Kask was emptied since writes went past it.
    pub kask_emptied: bool,
}

/// A move that began, or would.
#[derive(Clone, Debug)]
pub struct Moved {
    pub record: PhaseRecord,
    pub guards: Vec<Guard>,
    pub dry_run: bool,
}

/// Why a move did not begin. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum MoveFault {
    #[error("decant is starting: the phase in force is not confirmed yet; try again")]
    Starting,
    #[error("this decant is {own}, and the fence names {named}: ask that one to move")]
    NotOwner { own: String, named: String },
    #[error("the phase is {} (version {}, since the move by {}), not {expected}", .now.phase, .now.version, .now.by)]
    Stale { expected: Phase, now: Box<PhaseRecord> },
    #[error("the move to {} by {} has not settled yet; see `decant status`", .0.phase, .0.by)]
    UnderWay(Box<PhaseRecord>),
    #[error(transparent)]
    NoStep(#[from] NoStep),
    #[error("refused: {}", failing(.guards))]
    Guarded { record: Box<PhaseRecord>, guards: Vec<Guard> },
    #[error("{0} writes to Kask alone are still under way; try again")]
    LoneWrites(usize),
    #[error("a reason is needed: it stays in the history")]
    NoReason,
    #[error("no Redis is configured for this stash: it can only be kask-only")]
    NoRedis,
    #[error(transparent)]
    Record(#[from] RecordFault),
}

fn failing(guards: &[Guard]) -> String {
    let texts: Vec<String> =
        guards.iter().filter(|g| !g.ok).map(|g| format!("{}: {} (needs: {})", g.name, g.figure, g.needs)).collect();
    texts.join("; ")
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
                tracing::warn!(stash = self.stash.name, why, "the phase is not confirmed yet");
                self.unconfirmed.store(Some(Arc::new(why)));
                tokio::select! { () = stop.cancelled() => {}, () = sleep(RETRY_EVERY) => {} }
            }
        }
        while !stop.is_cancelled() {
            if let Err(fault) = self.drive().await {
                tracing::error!(stash = self.stash.name, fault = %fault, "the phase record is not up to date");
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
        for (shard, until) in self.shards_in_use(self.first_phase) {
            let fence = self.stash.fence_on(shard, until).await?;
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
        self.file.append(&record).and_then(|()| self.file.store(&record)).map_err(|fault| fault.to_string())?;
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
            return Err(format!(
                "the fence was raised by {} with another list of shards; make both decants' redis settings the same",
                fence.member
            ));
        }
        Ok(PhaseRecord {
            phase: fence.phase,
            version: fence.version,
            reason: "learned from the fence".into(),
            by: fence.member.clone(),
            member: fence.member.clone(),
            state: if fence.member == self.member { State::Moving } else { State::Settled },
            ..self.first_record()
        })
    }

    fn shards_in_use(&self, phase: Phase) -> Vec<(usize, Instant)> {
        let count = if phase.uses_redis() { self.stash.views.len() } else { 0 };
        (0..count).map(|shard| (shard, Instant::now() + SHARD_TIMEOUT)).collect()
    }

    /// Raises the fence on every shard; `Some` where one has another's of this version or a newer.
    async fn raise_everywhere(&self, record: &PhaseRecord) -> Result<Option<Fence>, String> {
        let fence = self.fence_of(record);
        for (shard, until) in self.shards_in_use(record.phase) {
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
            *record = self.learned(record, &belief.fence);
            self.file.append(record)?;
            self.file.store(record)?;
            self.believe(record);
            return Ok(());
        }
        if record.member != self.member {
            return self.retire_if_over(record);
        }
        self.raise_where_needed(record).await;
        if record.state == State::Moving
            && self.raised_for_long_enough(record)
            && self.nothing_else_is_under_way(record)
        {
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
        self.retire_if_over(record)
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
            ..record.clone()
        }
    }

    /// A missing or older fence is raised again from the record, never lowered.
    async fn raise_where_needed(&self, record: &PhaseRecord) {
        let retired = !record.phase.uses_redis() && record.state == State::Settled;
        if retired {
            return;
        }
        let fence = self.fence_of(record);
        for (shard, view) in self.stash.views.iter().enumerate() {
            let version = view.last().and_then(|seen| seen.fence_version);
            if version.is_none_or(|version| version < record.version)
                && let Err(why) = self.stash.raise_on(shard, &fence, Instant::now() + SHARD_TIMEOUT).await
            {
                tracing::debug!(stash = self.stash.name, shard, why, "the fence is not raised yet");
            }
        }
    }

    /// Every shard has shown the new fence for so long that no decant's fresh look is from before it. Without this pause two quick moves
    /// could let a decant that missed both read a tier which is not written any more.
    fn raised_for_long_enough(&self, record: &PhaseRecord) -> bool {
        let everywhere = self.stash.views.iter().all(|view| {
            let version = view.last().and_then(|seen| seen.fence_version);
            version == Some(record.version)
        });
        let mut raised = self.raised.lock().unwrap_or_else(|e| e.into_inner());
        match *raised {
            Some((version, since)) if everywhere && version == record.version => {
                since.elapsed() >= Duration::from_millis(self.stash.site.settings.settle_wait)
            }
            _ => {
                *raised = everywhere.then(|| (record.version, Instant::now()));
                false
            }
        }
    }

    /// Every shard has shown the new fence and no intent of another direction since.
    fn nothing_else_is_under_way(&self, record: &PhaseRecord) -> bool {
        self.stash.views.iter().all(|view| {
            view.last().is_some_and(|seen| {
                let others = match record.phase {
                    Phase::RedisOnly | Phase::KaskOnly => seen.to_kask + seen.to_redis,
                    Phase::DualWrite | Phase::KaskFirst => seen.to_redis,
                    Phase::RedisStandby => seen.to_kask,
                };
                seen.fence_version == Some(record.version) && others == 0
            })
        })
    }

    /// In `kask-only` no connection to Redis is held once the move has settled.
    fn retire_if_over(&self, record: &PhaseRecord) -> Result<(), RecordFault> {
        if !record.phase.uses_redis() && record.state == State::Settled {
            self.stash.close_shards();
        }
        Ok(())
    }

    /// Begins a move, or says why not. It is settled later: see [`Mover::record`].
    pub async fn move_to(&self, request: MoveRequest) -> Result<Moved, MoveFault> {
        let mut slot = self.record.lock().await;
        let record = slot.as_ref().ok_or(MoveFault::Starting)?;
        self.may_move(record, &request)?;
        let mut figures = self.figures(record, &request).await;
        let (mut guards, mut next) = self.weigh(record, &request, &figures)?;
        if request.dry_run {
            return Ok(Moved { record: next, guards, dry_run: true });
        }
        let promise = self.promise_not_alone(record).await?;
        if promise.is_some() {
            // What was written alone while the guards were measured counts as well.
            figures.written_alone = self.stash.site.world.alone.why_unclean();
            (guards, next) = self.weigh(record, &request, &figures)?;
        }
        self.file.append(&next)?;
        self.file.store(&next)?;
        tracing::info!(
            stash = self.stash.name,
            from = record.phase.name(),
            to = next.phase.name(),
            version = next.version,
            by = next.by,
            forced = next.forced,
            "a move has begun"
        );
        *slot = Some(next.clone());
        self.believe(&next);
        if let Some(promise) = promise {
            promise.keep();
        }
        self.stash.open_shards();
        self.begun.notify_one();
        Ok(Moved { record: next, guards, dry_run: false })
    }

    fn weigh(
        &self,
        record: &PhaseRecord,
        request: &MoveRequest,
        figures: &Figures,
    ) -> Result<(Vec<Guard>, PhaseRecord), MoveFault> {
        let guards = guard::guards(record, request.to, figures);
        let passed = guards.iter().all(|g| g.ok);
        if !passed && !request.force {
            return Err(MoveFault::Guarded { record: Box::new(record.clone()), guards });
        }
        Ok((guards, self.next_record(record, request, !passed)))
    }

    /// Before the fence is raised: it cannot stop a decant that cannot reach Redis.
    async fn promise_not_alone(&self, record: &PhaseRecord) -> Result<Option<Promise>, MoveFault> {
        if record.phase != Phase::RedisStandby {
            return Ok(None);
        }
        let until = Instant::now() + Duration::from_millis(self.stash.site.settings.budget);
        let promised = self.stash.site.world.alone.promise(record.version, until).await;
        promised.map(Some).map_err(MoveFault::LoneWrites)
    }

    fn may_move(&self, record: &PhaseRecord, request: &MoveRequest) -> Result<(), MoveFault> {
        if record.member != self.member {
            return Err(MoveFault::NotOwner { own: self.member.clone(), named: record.member.clone() });
        }
        if let Some(expected) = request.from.filter(|from| *from != record.phase) {
            return Err(MoveFault::Stale { expected, now: Box::new(record.clone()) });
        }
        if !guard::is_settled(record) {
            return Err(MoveFault::UnderWay(Box::new(record.clone())));
        }
        guard::step(record.phase, request.to)?;
        if request.to.uses_redis() && self.stash.site.world.outbox.is_none() {
            return Err(MoveFault::NoRedis);
        }
        if request.reason.trim().is_empty() && !request.dry_run {
            return Err(MoveFault::NoReason);
        }
        Ok(())
    }

    fn next_record(&self, record: &PhaseRecord, request: &MoveRequest, overridden: bool) -> PhaseRecord {
        let now = unix_ms();
        PhaseRecord {
            stash: record.stash.clone(),
            phase: request.to,
            version: record.version + 1,
            state: State::Moving,
            since_unix_ms: now,
            by: request.by.clone(),
            reason: request.reason.clone(),
            forced: overridden,
            member: self.member.clone(),
            kask_stale_since_unix_ms: match request.to {
                Phase::RedisOnly => Some(now),
                _ => None,
            },
            mirror_unclean_since_unix_ms: match (record.phase, request.to) {
                (Phase::KaskOnly, Phase::RedisStandby) => Some(record.since_unix_ms),
                (_, Phase::RedisStandby | Phase::KaskOnly) => {
                    record.mirror_unclean_since_unix_ms.or(self.stash.site.world.alone.since_unix_ms())
                }
                _ => None,
            },
        }
    }

    async fn figures(&self, record: &PhaseRecord, request: &MoveRequest) -> Figures {
        let site = &self.stash.site;
        if record.phase.uses_redis() || request.to.uses_redis() {
            self.stash.open_shards();
        }
        let mut figures = Figures {
            kask_emptied: request.kask_emptied,
            lease_ms: site.settings.lease,
            now_unix_ms: unix_ms(),
            written_alone: site.world.alone.why_unclean(),
            damaged: self.stash.views.iter().filter_map(|view| view.last()).map(|seen| seen.damaged).sum(),
            ..Figures::default()
        };
        for (shard, until) in self.shards_in_use(Phase::RedisOnly) {
            if self.stash.fence_on(shard, until).await.is_err() {
                figures.shards_away.push(self.stash.shard_name(shard));
            }
        }
        let probe = Key::from_bytes(format!("decant-probe-{:016x}", fastrand::u64(..)));
        if let KaskGot::Error(why) = site.world.kask_get(&probe, site.world.now() + PROBE_MS).await {
            figures.kask_fails = Some(why);
        }
        let wanted = matches!(
            (record.phase, request.to),
            (Phase::RedisOnly, Phase::DualWrite) | (Phase::KaskFirst, Phase::RedisStandby)
        );
        if wanted && figures.shards_away.is_empty() && figures.kask_fails.is_none() {
            let sample = sample::take(&self.stash).await;
            (figures.sampled, figures.not_in_kask, figures.in_kask) =
                (sample.sampled, sample.not_in_kask, sample.in_kask);
        }
        figures
    }
}
