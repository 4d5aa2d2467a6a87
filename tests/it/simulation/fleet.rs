//! Decants that share their record in etcd, each with its own view of it: the pure parts of `src/fleet` as they ship, over a register that
//! stands for etcd.
//!
//! Every member watches, promises, acknowledges, raises the fence and finishes moves by itself, one effect at a time, in an order that the
//! seed decides, while clients go on. It can be cut off from etcd, from Redis or from both, and it can end between any two effects; what it
//! knows of etcd is as old as its watch is late. Any of them moves: by any step that there is, some of them forced.

pub mod etcd;
pub mod follow;
pub mod making;
pub mod member;
pub mod scenarios;
pub mod session;
pub mod trouble;

use super::{
    scheduler::{Schedule, member as name_of},
    world::Sim,
};
use decant::{
    etcd::{Event, Txn},
    fleet::{Entries, Keys, View},
    phase::record::{Made, PhaseRecord, State},
    phase::step::Step,
    protocol::Fence,
};
use etcd::Etcd;
use member::Member;
use std::collections::BTreeMap;

/// What of a fleet a schedule has.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// How probable it is that an operator forces a move, in percent.
    pub force_percent: u32,
    /// Who ended starts again at one of so many occasions.
    pub back_at: u32,
    /// How many of the members have a watch that is late, in percent.
    pub slow_percent: u32,
    pub without: Option<Pact>,
}

/// A rule without which members harm each other: removed in turn, the simulation must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pact {
    /// A move begins once every member has promised.
    Promises,
    /// Who has promised begins nothing alone.
    Gate,
    /// Who is silent, or behind, holds a move up.
    HoldUps,
    /// A promise stands until etcd has shown that its proposal is gone.
    Stands,
    /// A move settles only when the shards show that it is over.
    Over,
    /// What a member says in its promise counts for the guards.
    Says,
    /// Who is forgotten may have written alone: the mirror counts as unclean.
    Unclean,
    /// Who starts cut off from etcd goes by the fence, not by its own copy, and writes nothing alone.
    ByFence,
    /// An operator forgets only who has ended.
    Ended,
    /// A proposal that no move waits for is taken back.
    Withdraw,
}

impl Pact {
    pub const ALL: [Pact; 10] = [
        Pact::Promises,
        Pact::Gate,
        Pact::HoldUps,
        Pact::Stands,
        Pact::Over,
        Pact::Says,
        Pact::Unclean,
        Pact::ByFence,
        Pact::Ended,
        Pact::Withdraw,
    ];
}

/// What happened in a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happened {
    MoveBegun,
    MoveForced,
    CanarySet,
    CanaryCleared,
    Settled,
    TakenOver,
    RefusedByGuards,
    RefusedForHoldUps,
    /// Another's proposal, or move, was faster.
    RefusedAsSecond,
    RefusedForPromises,
    Withdrawn,
    /// As a duty: the move that made the proposal has ended.
    WithdrawnLater,
    DiedWithProposal,
    /// The record says that the move has begun, and no fence does.
    DiedBeforeFence,
    DiedWhileMoving,
    DiedAfterPromise,
    CutFromEtcd,
    CutFromRedis,
    CutFromBoth,
    PromisedAndCut,
    LeaseLost,
    ArrivedLate,
    Unheard,
    /// Serves by what the fence says.
    StartedCutOff,
    Forgotten,
    /// Who was forgotten belongs to the fleet anew.
    CameBack,
    SetAside,
    /// A move was proposed: who is new waits.
    JoinedLater,
}

impl Happened {
    pub const ALL: [Happened; 28] = {
        use Happened::*;
        [
            MoveBegun,
            MoveForced,
            CanarySet,
            CanaryCleared,
            Settled,
            TakenOver,
            RefusedByGuards,
            RefusedForHoldUps,
            RefusedAsSecond,
            RefusedForPromises,
            Withdrawn,
            WithdrawnLater,
            DiedWithProposal,
            DiedBeforeFence,
            DiedWhileMoving,
            DiedAfterPromise,
            CutFromEtcd,
            CutFromRedis,
            CutFromBoth,
            PromisedAndCut,
            LeaseLost,
            ArrivedLate,
            Unheard,
            StartedCutOff,
            Forgotten,
            CameBack,
            SetAside,
            JoinedLater,
        ]
    };
}

/// The change may have been made, or not, or may be made later.
pub struct Unanswered;

/// All members, and the etcd that they share.
pub struct Fleet {
    pub etcd: Etcd,
    pub keys: Keys,
    pub members: Vec<Member>,
    pub happened: BTreeMap<Happened, u64>,
    moves_left: u32,
    kind: Kind,
}

impl Fleet {
    pub fn new(kind: Kind, first: &Fence, moves: u32, members: usize) -> Fleet {
        let keys = Keys::new("/sim", "s");
        let mut etcd = Etcd::new(keys.root());
        let record = first_record(first);
        etcd.commit(&keys.first(&record));
        Fleet {
            members: (0..members).map(Member::new).collect(),
            happened: BTreeMap::new(),
            moves_left: moves,
            etcd,
            keys,
            kind,
        }
    }

    pub fn back_at(&self) -> u32 {
        self.kind.back_at
    }

    pub fn holds(&self, pact: Pact) -> bool {
        self.kind.without != Some(pact)
    }

    pub fn count(&mut self, what: Happened) {
        *self.happened.entry(what).or_default() += 1;
    }

    /// As etcd holds it now.
    pub fn truth(&self) -> View {
        Entries::new(self.etcd.range(self.keys.root())).view(&self.keys)
    }

    /// All moves were tried, and none is being made.
    pub fn is_done(&self) -> bool {
        if self.moves_left > 0 {
            return false;
        }
        let view = self.truth();
        view.record.is_some_and(|record| record.is.is_settled()) && view.proposal.is_none()
    }

    pub fn why_stuck(&self) -> String {
        let view = self.truth();
        let record = view.record.as_ref().map(|record| (record.is.told(), record.is.version, record.is.state));
        format!("{record:?}, proposal {:?}, {:?}", view.proposal.as_ref().map(|stands| &stands.is), view.hold_ups())
    }

    /// Makes a change through a member's own connection.
    fn commit(&mut self, s: &mut Schedule, decant: usize, what: &str, txn: &Txn) -> Result<bool, Unanswered> {
        use super::Fault::{LateTxn, UnheardTxn};
        let sim = &mut *s.sim.lock().unwrap();
        let strikes = |sim: &mut Sim, fault| sim.strikes(fault);
        if self.members[decant].cut {
            sim.say(|| format!("d{decant} {what}: etcd is not reached"));
            return Err(Unanswered);
        }
        if strikes(sim, LateTxn) {
            sim.say(|| format!("d{decant} {what}: given up on, still on its way"));
            self.etcd.late.push((format!("d{decant} {what}"), txn.clone()));
            return Err(Unanswered);
        }
        let (done, events) = self.etcd.commit(txn);
        let unheard = strikes(sim, UnheardTxn);
        sim.say(|| format!("d{decant} {what}: {done}{}", if unheard { ", and the answer is lost" } else { "" }));
        self.tell(events);
        if unheard {
            self.count(Happened::Unheard);
            return Err(Unanswered);
        }
        Ok(done)
    }

    /// Who watches is told later.
    fn tell(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        for member in self.members.iter_mut().filter(|member| member.session.is_some()) {
            member.inbox.push_back(events.clone());
        }
    }

    /// Leases of who lives and reaches etcd are kept; the others run out.
    fn leases(&mut self, s: &Schedule) {
        let now = s.sim().now;
        for (decant, member) in self.members.iter().enumerate() {
            if let (Some(session), true, false) = (&member.session, s.decants[decant].alive, member.cut)
                && self.etcd.has(session.lease)
                && !member.dozes
            {
                self.etcd.keep(session.lease, now);
            }
        }
        for events in self.etcd.expire(now) {
            s.sim().say(|| format!("a lease runs out: {events:?}"));
            self.tell(events);
        }
    }
}

fn first_record(first: &Fence) -> PhaseRecord {
    let step = Step { phase: first.phase, ahead: None, from: first.phase, to: first.phase };
    let nothing = PhaseRecord {
        stash: "s".into(),
        phase: first.phase,
        ahead: None,
        from: None,
        version: 0,
        state: State::Settled,
        since_unix_ms: 0,
        by: String::new(),
        reason: String::new(),
        forced: false,
        guards: Vec::new(),
        member: String::new(),
        driver: None,
        kask_stale_since_unix_ms: None,
        mirror_unclean_since_unix_ms: None,
    };
    let made =
        Made { by: "decant", reason: "first start", member: &name_of(0), now_unix_ms: 0, alone_since_unix_ms: None };
    PhaseRecord { state: State::Settled, ..nothing.after(&step, &made, &[]) }
}

impl Schedule {
    /// One step of one member, or of what befalls them.
    pub fn members_go_on(&mut self, begin: bool) {
        let Some(mut fleet) = self.fleet.take() else { return };
        fleet.leases(self);
        let decant = self.rng.usize(0..fleet.members.len());
        if begin && self.rng.u32(0..8) == 0 {
            fleet.trouble(self, decant);
        } else if self.decants[decant].alive {
            match self.rng.u32(0..8) {
                0..3 => fleet.session_of(self, decant),
                3..6 => fleet.follow(self, decant),
                6 => fleet.make(self, decant, begin),
                _ => fleet.report(self, decant),
            }
        }
        self.fleet = Some(fleet);
    }

    pub fn members_go_on_for_long(&mut self) {
        let members = self.fleet.as_ref().map_or(0, |fleet| fleet.members.len());
        for _ in 0..members * 20 {
            self.members_go_on(false);
        }
    }

    /// The last move is over, and every member knows.
    pub fn is_settled(&mut self) -> bool {
        let Some(fleet) = &self.fleet else { return self.mover.is_settled() };
        let view = fleet.truth();
        let Some(record) = &view.record else { return false };
        let knows = |decant: usize| {
            let (belief, member) = (self.decants[decant].site.belief(), &fleet.members[decant]);
            member.serving && member.confirmed && belief.settled && belief.fence.version == record.is.version
        };
        let known = (0..self.decants.len()).all(knows) && view.hold_ups().is_empty();
        let settled = known && record.is.is_settled() && view.proposal.is_none();
        if settled {
            self.sim().forced = record.is.mirror_unclean_since_unix_ms.is_some();
        }
        settled
    }
}
