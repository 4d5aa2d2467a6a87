//! A member of a fleet: follows the record in etcd, and does what is a member's to do: promise, acknowledge, finish what nobody finishes.

use super::{DRIVE_EVERY, ForgetFault, Mover, Store, start::LEARNED, unix_ms};
use crate::{
    fleet::{Duty, Kept, Known, Own, Promise as Promised, Shared, driver, happening},
    phase::{
        Phase,
        record::{PhaseRecord, State, What},
    },
    protocol::{Belief, Fence},
    stash::alone::Promise,
};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// What a member holds beside the record.
pub(super) struct Joined {
    pub shared: Arc<Shared>,
    /// A `std` mutex: held to look and replace.
    promised: Mutex<Option<Given>>,
    /// Since etcd was last reached, its history has what this decant's own disk tells of.
    told: AtomicBool,
}

/// A promise that stands: nothing is written alone under `version` until the proposal is gone.
struct Given {
    proposal: i64,
    version: u64,
    promise: Promise,
}

impl Joined {
    pub fn new(shared: Arc<Shared>) -> Joined {
        Joined { shared, promised: Mutex::default(), told: AtomicBool::new(false) }
    }

    fn promised(&self) -> MutexGuard<'_, Option<Given>> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The move was made: for good. It was given up: taken back. Only what etcd confirms counts; till then the promise stands.
    fn let_go(&self, known: &Known, version: u64) {
        let mut promised = self.promised();
        let proposed = known.view.proposal.as_ref().map(|proposal| proposal.created);
        match promised.take() {
            Some(given) if version > given.version => given.promise.keep(),
            Some(given) if proposed == Some(given.proposal) => *promised = Some(given),
            _ => {}
        }
    }

    fn has_given(&self, proposal: i64) -> bool {
        self.promised().as_ref().is_some_and(|given| given.proposal == proposal)
    }
}

/// What a decant tells of its fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetFigures {
    /// `file`: the record is on the disk of the decant that the fence names. `etcd`: it is shared.
    pub store: String,
    /// Why the record in etcd is not known to be this one; none: it is watched.
    pub trouble: Option<String>,
    /// A move that promises are asked for, in words.
    pub proposal: Option<String>,
    /// By name.
    pub members: Vec<MemberFigures>,
}

/// One decant of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberFigures {
    pub name: String,
    /// `follows`; `behind`: alive, and not at the record's version yet; `silent`: its lease ran out. With `file`: `seen`.
    pub standing: String,
    /// It writes nothing under an older version of the phase any more.
    pub version: u64,
    pub phase: Option<Phase>,
    /// Its build.
    pub decant: String,
    /// This one.
    pub here: bool,
    /// The fence names it.
    pub named: bool,
    /// When it said so, by its own clock; none: it is silent.
    pub said_unix_ms: Option<u64>,
    /// Since when it has been silent, as far as this decant saw it.
    pub silent_since_unix_ms: Option<u64>,
    /// Why Redis lacks writes that it made.
    pub written_alone: Option<String>,
    pub reads_kask: u64,
    pub reads_redis: u64,
    pub reads_none: u64,
    pub keys_pending: u64,
    pub in_flight: u64,
    /// Kask counts as away for it.
    pub kask_away: bool,
    /// Shards of Redis that do not answer it.
    pub shards_away: Vec<String>,
}

impl Mover {
    pub(super) async fn run_in_fleet(&self, joined: &Joined, stop: CancellationToken) {
        let mut watched = joined.shared.watch();
        while !stop.is_cancelled() {
            let known = watched.borrow_and_update().clone();
            match self.follow(joined, &known).await {
                Ok(()) => self.troubles.unrecorded.over(),
                Err(why) => {
                    if self.troubles.unrecorded.is_due() {
                        tracing::warn!(
                            stash = self.stash.name,
                            why,
                            "the record in etcd is not followed to the end yet"
                        );
                    }
                    if self.shown().is_none() {
                        self.unconfirmed.store(Some(Arc::new(why)));
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(DRIVE_EVERY) => {}
                _ = watched.changed() => {}
            }
        }
    }

    async fn follow(&self, joined: &Joined, known: &Known) -> Result<(), String> {
        if !known.is_confirmed() {
            joined.told.store(false, Ordering::Relaxed);
            self.troubles.untold.over();
            return self.cut_off(known).await;
        }
        let key = joined.shared.keys.record();
        if let Some((_, why)) = known.view.unreadable.iter().find(|(unreadable, _)| *unreadable == key) {
            return Err(format!("the record in etcd cannot be read: {why}; was it written by a newer decant?"));
        }
        let believed = self.stash.site.belief().fence.version;
        let record = match known.record() {
            Some(record) if record.is.version >= believed => record,
            stands => return self.restore(joined, stands).await,
        };
        self.adopt(joined, &record.is).await;
        joined.let_go(known, record.is.version);
        // Who has promised may not have been told yet that the next move has begun.
        let settled = record.is.is_settled() && joined.promised().is_none();
        if let Some(other) = self.raise_where_needed(&record.is, settled).await {
            return Err(format!(
                "{} raised another fence of version {}; does it share this record?",
                other.member, other.version
            ));
        }
        let over = record.is.state == State::Moving && self.is_over(&record.is);
        // Seen after the view: a proposal of a move that begins only now is not in it.
        let proposes = self.changing.try_lock().is_err();
        let own = Own { member: &self.member, believes: record.is.version, over, proposes };
        for duty in known.view.duties(&own) {
            self.perform(joined, known, record, duty).await?;
        }
        // Whoever restored the record may not be who made the moves. What fails is tried again as seldom as it is told of.
        if !joined.told.load(Ordering::Relaxed) && self.troubles.untold.is_due() {
            match self.tell_past(joined, None).await {
                Ok(()) => joined.told.store(true, Ordering::Relaxed),
                Err(fault) => tracing::warn!(
                    stash = self.stash.name,
                    fault,
                    "the history in etcd may lack moves that this decant made; it tries again"
                ),
            }
        }
        if !self.stash.redis_is_in_use() {
            self.stash.close_shards();
        }
        Ok(())
    }

    /// The record is what this decant believes from now on.
    async fn adopt(&self, joined: &Joined, record: &PhaseRecord) {
        let belief = self.stash.site.belief();
        let settled = record.state == State::Settled;
        let same = belief.own && belief.settled == settled && belief.fence == self.fence_of(record);
        if same && self.shown().is_some_and(|shown| *shown == *record) {
            return;
        }
        if !settled {
            self.stash.open_shards();
        }
        self.believe(record);
        self.stash.confirm();
        tracing::info!(
            stash = self.stash.name,
            phase = record.told(),
            version = record.version,
            settled,
            "the record in etcd is followed"
        );
        if let Err(fault) = joined.shared.keep_copy(record).await {
            tracing::warn!(stash = self.stash.name, fault = %fault, "this decant's own copy of the record is not up to date");
        }
    }

    /// etcd is away. Who serves goes on; who starts serves by what the shards' fences say, as who cannot move.
    async fn cut_off(&self, known: &Known) -> Result<(), String> {
        let trouble = || known.trouble.clone().unwrap_or_else(|| "it is not reached".into());
        let belief = self.stash.site.belief();
        if known.ousted && belief.own {
            self.stash.site.beliefs.set(Belief { own: false, ..(*belief).clone() });
            // Nobody asks this decant for a promise any more: the fence alone tells it of moves.
            self.stash.open_shards();
        }
        if self.stash.is_confirmed() {
            return Ok(());
        }
        if !known.has_failed() {
            return Err(trouble());
        }
        match self.stands_on_shards().await {
            (Some(fence), _) => {
                let record = PhaseRecord { state: State::Moving, ..self.adopted(&fence)? };
                self.stash.site.beliefs.set(Belief::new(fence, false, false));
                self.stash.metrics.set_phase(record.phase, record.ahead.as_ref());
                self.shown.store(Some(Arc::new(record)));
                self.stash.confirm();
                Ok(())
            }
            (None, _) => Err(format!("etcd: {}", trouble())),
        }
    }

    /// The newest fence, and why a shard could not be asked.
    async fn stands_on_shards(&self) -> (Option<Fence>, Option<String>) {
        let (mut seen, mut away) = (None::<Fence>, None);
        for (shard, until) in self.all_shards() {
            match self.stash.fence_on(shard, until).await {
                Ok(fence) => seen = seen.into_iter().chain(fence).max_by_key(|fence| fence.version),
                Err(why) => away = away.or(Some(why)),
            }
        }
        (seen, away)
    }

    /// There is no record, or one that is older than the fence: the first start of all, or etcd has lost it.
    async fn restore(&self, joined: &Joined, stands: Option<&Kept<PhaseRecord>>) -> Result<(), String> {
        let (shared, keys) = (&joined.shared, &joined.shared.keys);
        self.stash.open_shards();
        let (fence, away) = self.stands_on_shards().await;
        if let Some(why) = away {
            return Err(self.needs_every_shard(&why));
        }
        let txn = match fence {
            None if stands.is_none() => keys.first(&self.first_record()),
            // A record that was changed meanwhile is seen at the next look.
            None => return Ok(()),
            Some(fence) => {
                if stands.is_some_and(|stands| stands.is.version >= fence.version) {
                    return Ok(());
                }
                let record = self.record_of(shared, &fence).await?;
                let happened = happening(
                    &record,
                    What::Restored,
                    self.member.clone(),
                    (&self.member, "etcd holds no record as new as the fence on the shards"),
                    unix_ms(),
                );
                // What a guard looks for in the history must be there before anybody can move.
                self.tell_past(joined, Some(&record)).await?;
                keys.restore(stands, &record, &happened)
            }
        };
        shared.commit(|_| txn).await.map(drop).map_err(|fault| fault.to_string())
    }

    /// The history survives the record: moves of before it was shared, and the `last` one, unless that is only what a fence said.
    async fn tell_past(&self, joined: &Joined, last: Option<&PhaseRecord>) -> Result<(), String> {
        let last = last.filter(|last| last.reason != LEARNED).map(|last| PhaseRecord { driver: None, ..last.clone() });
        let told = joined.shared.tell_past(last.as_ref()).await.map_err(|fault| fault.to_string())?;
        if told > 0 {
            tracing::info!(stash = self.stash.name, moves = told, "etcd is told of moves that its history lacked");
        }
        Ok(())
    }

    /// This decant's own copy, where the fence says that it is the newest; else what the fence alone says, and the worst of what it does not.
    async fn record_of(&self, shared: &Arc<Shared>, fence: &Fence) -> Result<PhaseRecord, String> {
        let adopted = self.adopted(fence)?;
        let reading = shared.clone();
        let copy = tokio::task::spawn_blocking(move || reading.copy()).await.map_err(|ended| ended.to_string())?;
        let copy = copy.map_err(|fault| fault.to_string())?;
        let record = copy.filter(|copy| self.fence_of(copy) == *fence).unwrap_or(adopted);
        // Only who shared the record, or moved, knows what has gone past a tier.
        let guessed = record.reason == LEARNED && record.version > 1;
        let now = unix_ms();
        Ok(PhaseRecord {
            state: State::Moving,
            driver: Some(self.member.clone()),
            kask_stale_since_unix_ms: record
                .kask_stale_since_unix_ms
                .or((guessed && record.phase == Phase::RedisOnly).then_some(now)),
            mirror_unclean_since_unix_ms: record
                .mirror_unclean_since_unix_ms
                .or((guessed && (record.has(Phase::RedisStandby) || record.phase == Phase::KaskOnly)).then_some(now)),
            ..record
        })
    }

    async fn perform(
        &self,
        joined: &Joined,
        known: &Known,
        record: &Kept<PhaseRecord>,
        duty: Duty,
    ) -> Result<(), String> {
        let (shared, keys) = (&joined.shared, &joined.shared.keys);
        let told = |fault: crate::etcd::Fault| format!("etcd: {fault}");
        match duty {
            Duty::Promise(proposal) => {
                if !joined.has_given(proposal) {
                    let until = Instant::now() + Duration::from_millis(self.stash.site.settings.budget);
                    let promised = self.stash.site.world.alone.promise(record.is.version, until).await;
                    let promise = promised
                        .map_err(|left| format!("{left} writes to Kask alone are under way: a move has to wait"))?;
                    *joined.promised() = Some(Given { proposal, version: record.is.version, promise });
                }
                let promise = Promised { proposal, says: shared.says() };
                shared.commit(|lease| keys.promise(&self.member, &promise, lease)).await.map_err(told)?;
            }
            Duty::Withdraw(_) => {
                let Some(proposal) = &known.view.proposal else { return Ok(()) };
                if shared.commit(|_| keys.withdraw(proposal)).await.map_err(told)? {
                    let (stash, to) = (&self.stash.name, proposal.is.to.name());
                    tracing::warn!(stash, to, "the proposal of a move that is not made any more is taken back");
                }
            }
            Duty::Acknowledge(version) => {
                let Some(me) = known.view.members.get(&self.member) else { return Ok(()) };
                shared.commit(|_| keys.acknowledge(&self.member, &me.registration, version)).await.map_err(told)?;
            }
            Duty::TakeOver => {
                if shared.commit(|_| keys.take_over(record, &self.member, unix_ms())).await.map_err(told)? {
                    let (stash, from) = (&self.stash.name, driver(&record.is));
                    tracing::warn!(
                        stash,
                        from,
                        version = record.is.version,
                        "a move whose maker is silent is finished here"
                    );
                }
            }
            Duty::Settle => {
                if shared.commit(|_| keys.settle(record)).await.map_err(told)? {
                    let (stash, phase) = (&self.stash.name, record.is.told());
                    tracing::info!(stash, phase, version = record.is.version, "the move has settled");
                }
            }
        }
        Ok(())
    }

    /// An operator declares a silent member gone.
    pub async fn forget(&self, name: &str, by: &str, reason: &str) -> Result<(), ForgetFault> {
        let Store::Fleet(joined) = &self.store else { return Err(ForgetFault::NoFleet) };
        if reason.trim().is_empty() {
            return Err(ForgetFault::NoReason);
        }
        let known = joined.shared.known();
        let away = || ForgetFault::Etcd(known.trouble.clone().unwrap_or_else(|| "there is no record yet".into()));
        let record = known.record().filter(|_| known.is_confirmed()).ok_or_else(away)?;
        let member = known.view.members.get(name).ok_or_else(|| ForgetFault::NoSuchMember(name.to_owned()))?;
        if member.report.is_some() {
            return Err(ForgetFault::Alive(name.to_owned()));
        }
        let keys = &joined.shared.keys;
        let done = joined.shared.commit(|_| keys.forget(record, (name, member), (by, reason), unix_ms())).await;
        match done {
            Ok(true) => {
                tracing::warn!(stash = self.stash.name, member = name, by, reason, "a member was declared gone");
                Ok(())
            }
            Ok(false) => Err(ForgetFault::Changed),
            Err(fault) => Err(ForgetFault::Etcd(fault.to_string())),
        }
    }

    /// Who is of the fleet, and how each stands.
    pub fn fleet(&self) -> FleetFigures {
        let named = self.stash.site.belief().fence.member.clone();
        match &self.store {
            Store::File(_) => self.seen_on_shards(&named),
            Store::Fleet(joined) => self.members(&joined.shared.known(), &named),
        }
    }

    fn members(&self, known: &Known, named: &str) -> FleetFigures {
        let view = &known.view;
        let members = view.members.iter().map(|(name, member)| {
            let report = member.report.as_ref().map(|report| report.is.clone()).unwrap_or_default();
            MemberFigures {
                name: name.clone(),
                standing: view.standing(member).name().to_owned(),
                version: member.registration.is.acknowledged,
                phase: report.phase,
                decant: member.registration.is.decant.clone(),
                here: *name == self.member,
                named: name == named,
                said_unix_ms: member.report.as_ref().map(|report| report.is.at_unix_ms),
                silent_since_unix_ms: known.silent_since.get(name).copied(),
                written_alone: report.written_alone,
                reads_kask: report.reads_kask,
                reads_redis: report.reads_redis,
                reads_none: report.reads_none,
                keys_pending: report.keys_pending,
                in_flight: report.in_flight,
                kask_away: report.kask_away,
                shards_away: report.shards_away,
            }
        });
        let proposal = view.proposal.as_ref().map(|proposal| super::propose::proposed(&proposal.is).to_string());
        FleetFigures { store: "etcd".into(), trouble: known.trouble.clone(), proposal, members: members.collect() }
    }

    fn seen_on_shards(&self, named: &str) -> FleetFigures {
        let belief = self.stash.site.belief();
        let here = MemberFigures {
            name: self.member.clone(),
            standing: "follows".into(),
            version: belief.fence.version,
            phase: Some(belief.phase()),
            decant: env!("CARGO_PKG_VERSION").into(),
            said_unix_ms: Some(unix_ms()),
            here: true,
            named: self.member == named,
            ..MemberFigures::default()
        };
        let others = self.stash.neighbours().into_iter().map(|other| MemberFigures {
            named: other.member == named,
            name: other.member,
            standing: super::gauges::SEEN.into(),
            version: other.version,
            decant: other.decant,
            said_unix_ms: Some(unix_ms().saturating_sub(other.heard_ms_ago)),
            ..MemberFigures::default()
        });
        let mut members: Vec<MemberFigures> = std::iter::once(here).chain(others).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        FleetFigures { store: "file".into(), trouble: None, proposal: None, members }
    }

    /// This decant ends: with nothing owed to Redis it leaves the fleet.
    pub async fn end(&self) {
        let Store::Fleet(joined) = &self.store else { return };
        let owes = self.stash.site.world.alone.why_unclean();
        if let Err(fault) = joined.shared.end(owes.is_none()).await {
            tracing::warn!(stash = self.stash.name, fault = %fault, "etcd was not told that this decant ends: it counts as silent");
        } else if let Some(owes) = owes {
            tracing::warn!(
                stash = self.stash.name,
                owes,
                "this decant stays a member of the fleet, silent, until it is back"
            );
        }
    }

    /// The session with etcd; none where the record is on the disk.
    pub fn shared(&self) -> Option<Arc<Shared>> {
        match &self.store {
            Store::File(_) => None,
            Store::Fleet(joined) => Some(joined.shared.clone()),
        }
    }
}
