//! A record that is shared, by the code that ships: what each member reads of it, promises, acknowledges and changes, over a model of etcd.
//! Members are cut off from it, their leases run out, the one that makes a move dies on the way, and an operator declares others gone.

use super::{
    Fault,
    mover::{Allowed, Step},
    register::Register,
    scheduler::{Schedule, member},
};
use decant::{
    etcd::Txn,
    fleet::{Duty, Entries, Kept, Keys, Own, Promise, Proposal, Registration, Report, View},
    phase::{
        Phase,
        record::{PhaseRecord, State},
        step::Goal,
    },
    protocol::{Belief, Fence, Safeguard, world::Millis},
};

/// A member that etcd has not heard of for so long is silent.
const LEASE: Millis = 3_000;
/// Who makes a move gives up after this.
const PROMISED_WITHIN: Millis = 8_000;

/// The shared record, and who follows it.
pub struct Fleet {
    register: Register,
    keys: Keys,
    members: Vec<Member>,
    making: Option<Making>,
    /// Leases of sessions that are over, and since when: nobody keeps them.
    orphans: Vec<(i64, Millis)>,
}

/// What a decant knows, and etcd of it.
#[derive(Default)]
struct Member {
    /// It does not reach etcd.
    cut: bool,
    /// Its session: the lease under which it says that it is alive.
    lease: Option<i64>,
    heard: Millis,
    /// The proposal that it has promised for, or is about to, and the version that it writes nothing alone under meanwhile.
    promised: Option<(i64, u64)>,
    /// It was declared gone, and knows it.
    ousted: bool,
}

/// A move that an operator makes through a decant.
struct Making {
    decant: usize,
    step: Step,
    proposal: Proposal,
    until: Millis,
}

impl Fleet {
    pub fn new(fence: &Fence, decants: usize) -> Fleet {
        let keys = Keys::new("/decant", "s");
        let mut register = Register::default();
        let first = PhaseRecord { state: State::Settled, ..record(fence) };
        assert!(register.commit(&keys.first(&first)));
        Fleet {
            register,
            keys,
            members: (0..decants).map(|_| Member::default()).collect(),
            making: None,
            orphans: Vec::new(),
        }
    }

    fn view(&self) -> View {
        Entries::new(self.register.range(self.keys.root())).view(&self.keys)
    }

    fn record(&self) -> Kept<PhaseRecord> {
        self.view().record.expect("there always is one")
    }

    pub fn is_settled(&self) -> bool {
        let view = self.view();
        self.making.is_none() && view.proposal.is_none() && self.record().is.state == State::Settled
    }

    pub fn is_cut(&self, decant: usize) -> bool {
        self.members[decant].cut
    }

    pub fn cut(&mut self, decant: usize, cut: bool) {
        self.members[decant].cut = cut;
    }

    /// Another process: it has promised nothing, and its session is over.
    pub fn starts(&mut self, decant: usize, now: Millis) {
        let before = std::mem::take(&mut self.members[decant]);
        self.orphans.extend(before.lease.map(|lease| (lease, now)));
        self.members[decant].cut = before.cut;
    }

    /// It ends in the middle of a move, or not; how far that is.
    pub fn ends(&mut self, decant: usize, raised: bool) -> Option<&'static str> {
        if self.making.take_if(|making| making.decant == decant).is_some() {
            return Some("a mover died while it asked for promises");
        }
        let record = self.record().is;
        let moves = record.state == State::Moving && record.member == member(decant);
        moves.then_some(if raised {
            "a mover died before its move had settled"
        } else {
            "a mover died before the fence was raised"
        })
    }
}

fn record(fence: &Fence) -> PhaseRecord {
    PhaseRecord {
        stash: fence.stash.clone(),
        phase: fence.phase,
        ahead: fence.ahead.clone(),
        from: None,
        version: fence.version,
        state: State::Moving,
        since_unix_ms: 0,
        by: "operator".into(),
        reason: "because".into(),
        forced: false,
        guards: Vec::new(),
        member: fence.member.clone(),
        driver: None,
        kask_stale_since_unix_ms: None,
        mirror_unclean_since_unix_ms: None,
    }
}

fn fence(record: &PhaseRecord) -> Fence {
    Fence {
        version: record.version,
        phase: record.phase,
        stash: record.stash.clone(),
        shards: "x".into(),
        member: record.member.clone(),
        ahead: record.ahead.clone(),
    }
}

impl Schedule {
    fn fleet(&mut self) -> &mut Fleet {
        self.mover.fleet.as_mut().expect("the record is shared")
    }

    /// One step of anybody: a member follows, an operator goes on with a move or begins one, a lease runs out.
    pub fn fleet_on(&mut self, begin: bool) {
        match self.rng.u32(0..10) {
            0..6 => {
                let decant = self.rng.usize(0..self.decants.len());
                self.follow(decant);
            }
            6..9 => self.make(begin),
            _ => self.leases_run_out(),
        }
    }

    fn leases_run_out(&mut self) {
        let now = self.sim().now;
        let fleet = self.fleet();
        let over: Vec<i64> =
            fleet.orphans.iter().filter(|(_, since)| now > since + LEASE).map(|(lease, _)| *lease).collect();
        fleet.orphans.retain(|(lease, _)| !over.contains(lease));
        over.into_iter().for_each(|lease| drop(fleet.register.expire(lease)));
        for decant in 0..self.decants.len() {
            let silent = !self.decants[decant].alive || self.fleet().members[decant].cut;
            let one = &mut self.fleet().members[decant];
            if let Some(lease) = one.lease.filter(|_| silent && now > one.heard + LEASE) {
                one.lease = None;
                let gone = self.fleet().register.expire(lease);
                self.sim().say(|| format!("the lease of d{decant} runs out: {} keys go", gone.len()));
            }
        }
    }

    /// What a member does whenever etcd tells it something, and now and then.
    fn follow(&mut self, decant: usize) {
        if !self.decants[decant].alive || self.fleet().members[decant].cut {
            return;
        }
        let name = member(decant);
        if self.fleet().members[decant].lease.is_none() {
            self.register(decant);
        }
        let now = self.sim().now;
        let fleet = self.fleet();
        fleet.members[decant].heard = now;
        let view = fleet.view();
        let (Some(record), Some(me)) = (view.record.clone(), view.members.get(&name)) else {
            // It was declared gone: it learns so, and belongs to the fleet anew.
            let one = &mut fleet.members[decant];
            one.ousted = true;
            let lease = one.lease.take();
            fleet.orphans.extend(lease.map(|lease| (lease, now)));
            let belief = self.decants[decant].site.belief();
            self.decants[decant].site.beliefs.set(Belief::new(belief.fence.clone(), belief.settled, false));
            return;
        };
        assert!(me.report.is_some(), "its session stands");
        let proposed = view.proposal.as_ref().map(|proposal| proposal.created);
        let one = &mut fleet.members[decant];
        one.ousted = false;
        one.promised = one.promised.filter(|(of, version)| record.is.version == *version && proposed == Some(*of));
        let settled = record.is.state == State::Settled && one.promised.is_none();
        self.decants[decant].site.beliefs.set(Belief::new(fence(&record.is), settled, true));
        self.raise_through(decant, &record.is);
        let over = record.is.state == State::Moving && self.is_over();
        let own = Own { member: &name, believes: record.is.version, over };
        for duty in view.duties(&own) {
            self.perform(decant, &view, &record, duty);
        }
    }

    fn register(&mut self, decant: usize) {
        let fleet = self.mover.fleet.as_mut().expect("the record is shared");
        let view = fleet.view();
        let seen = view.members.get(&member(decant));
        let registration = seen.map_or_else(Registration::default, |seen| seen.registration.is.clone());
        let lease = fleet.register.grant();
        let txn = fleet.keys.register(&member(decant), seen, &registration, &Report::default(), lease);
        assert!(fleet.register.commit(&txn));
        let one = &mut fleet.members[decant];
        (one.lease, one.promised) = (Some(lease), None);
        self.sim().say(|| format!("d{decant} is a member of the fleet"));
    }

    /// Whoever reaches the shard raises what the record says.
    fn raise_through(&mut self, decant: usize, record: &PhaseRecord) {
        let fence = fence(record);
        let can = {
            let mut sim = self.sim();
            !sim.cut[decant] && sim.is_connected(decant) && sim.shard.fence() != Some(&fence)
        };
        if can {
            self.raise_now(&fence);
        }
    }

    fn perform(&mut self, decant: usize, view: &View, record: &Kept<PhaseRecord>, duty: Duty) {
        let name = member(decant);
        let alone = self.alone_under_way_of(decant);
        let wrote = self.sim().journal.iter().any(|line| line.decant == decant);
        let site = self.decants[decant].site.clone();
        let fleet = self.mover.fleet.as_mut().expect("the record is shared");
        let Some(lease) = fleet.members[decant].lease else { return };
        match duty {
            Duty::Promise(proposal) => {
                fleet.members[decant].promised = Some((proposal, record.is.version));
                let belief = site.belief();
                site.beliefs.set(Belief::new(belief.fence.clone(), false, belief.own));
                if alone {
                    return;
                }
                let report = Report { written_alone: wrote.then(|| "some".to_owned()), ..Report::default() };
                let says = Promise { proposal, says: report };
                let done = fleet.register.commit(&fleet.keys.promise(&name, &says, lease));
                self.sim().say(|| format!("d{decant} promises: {done}"));
            }
            Duty::Acknowledge(version) => {
                let Some(me) = view.members.get(&name) else { return };
                fleet.register.commit(&fleet.keys.acknowledge(&name, &me.registration, version));
            }
            Duty::TakeOver => {
                if fleet.register.commit(&fleet.keys.take_over(record, &name, 0)) {
                    self.met("a move was taken over");
                    self.sim().say(|| format!("d{decant} finishes the move of {}", record.is.member));
                }
            }
            Duty::Settle => {
                // Somebody else may have changed the record in this very step.
                if fleet.register.commit(&fleet.keys.settle(record)) {
                    self.sim().say(|| format!("the move has settled, says d{decant}"));
                }
            }
        }
    }

    /// An operator begins a move, or goes on with it.
    fn make(&mut self, begin: bool) {
        let Some(making) = self.fleet().making.take() else {
            if begin && self.mover.moves_left > 0 {
                self.propose();
            }
            return;
        };
        let now = self.sim().now;
        let view = self.fleet().view();
        if self.fleet().members[making.decant].cut {
            // It cannot even take its proposal back: that goes with its lease.
            if now <= making.until {
                self.fleet().making = Some(making);
            }
            return;
        }
        let Some(stands) = view.proposal.clone().filter(|stands| stands.is == making.proposal) else { return };
        let needed = self.sim().rules.holds(Safeguard::Members);
        if view.unpromised(stands.created).is_empty() || !needed {
            return self.begin_made(&making, &view, &stands);
        }
        if now > making.until || !begin {
            self.met("a move was refused for want of a promise");
            self.sim().say(|| "not every member has promised".into());
            let fleet = self.fleet();
            let _ = fleet.register.commit(&fleet.keys.withdraw(&stands));
            return;
        }
        self.fleet().making = Some(making);
    }

    fn propose(&mut self) {
        let decant = self.rng.usize(0..self.decants.len());
        let view = self.fleet().view();
        let Some(record) = view.record.as_ref() else { return };
        let one = &self.fleet().members[decant];
        let session = one.lease.filter(|_| !one.cut);
        let Some(lease) = session else { return };
        if !self.decants[decant].alive || record.is.state == State::Moving || view.proposal.is_some() {
            return;
        }
        if !view.hold_ups().is_empty() {
            return self.hold_up(&view, record);
        }
        let steps = self.steps();
        if steps.is_empty() {
            self.mover.moves_left = 0;
            return;
        }
        let step = steps[self.rng.usize(0..steps.len())].clone();
        // The product knows the same steps.
        let goal = match &step.ahead {
            Some(ahead) => Goal::Ahead(ahead.clone()),
            None if step.phase == record.is.phase => Goal::NoneAhead,
            None => Goal::Phase(step.phase),
        };
        let known = decant::phase::step::step(record.is.phase, record.is.ahead.as_ref(), &goal);
        assert_eq!(known.map(|known| (known.from, known.to)), Ok(step.keys));
        self.mover.moves_left -= 1;
        let now = self.sim().now;
        let proposal = Proposal {
            to: step.phase,
            ahead: step.ahead.clone(),
            version: record.is.version + 1,
            by: "operator".into(),
            member: member(decant),
            since_unix_ms: now,
        };
        let fleet = self.fleet();
        assert!(fleet.register.commit(&fleet.keys.propose(record, &proposal, lease)));
        self.sim().say(|| format!("d{decant} asks for promises: {step:?}"));
        self.fleet().making = Some(Making { decant, step, proposal, until: now + PROMISED_WITHIN });
    }

    /// A silent member holds every move up, until it is back or an operator declares it gone.
    fn hold_up(&mut self, view: &View, record: &Kept<PhaseRecord>) {
        self.met("a member held a move up");
        let silent = view.members.iter().find(|(_, member)| member.report.is_none());
        let says_so = self.rng.u32(0..4) == 0;
        let Some((name, gone)) = silent.filter(|_| says_so) else { return };
        let fleet = self.mover.fleet.as_mut().expect("the record is shared");
        let txn = fleet.keys.forget(record, (name, gone), ("operator", "gone"), 0);
        if fleet.register.commit(&txn) {
            self.met("a member was declared gone");
            let sim = &mut *self.sim.lock().unwrap();
            sim.say(|| format!("{name} is declared gone"));
            // As the record says it now.
            sim.forced |= record.is.has(Phase::RedisStandby) || record.is.phase == Phase::KaskOnly;
        }
    }

    fn begin_made(&mut self, making: &Making, view: &View, stands: &Kept<Proposal>) {
        let allowed = self.weigh(&making.step, false);
        if allowed == Allowed::No {
            self.sim().say(|| format!("{:?} is refused", making.step));
            let fleet = self.fleet();
            let _ = fleet.register.commit(&fleet.keys.withdraw(stands));
            return;
        }
        let next = Fence {
            version: stands.is.version,
            phase: making.step.phase,
            stash: "s".into(),
            shards: "x".into(),
            member: member(making.decant),
            ahead: making.step.ahead.clone(),
        };
        let needed = self.sim().rules.holds(Safeguard::Members);
        let unclean = self.sim().unclean();
        let next_record = PhaseRecord { mirror_unclean_since_unix_ms: unclean.then_some(0), ..record(&next) };
        let fleet = self.fleet();
        // Without the promises: as if nobody had to.
        let forced_upon = || Txn::default().put(fleet.keys.record(), serde_json::to_vec(&next_record).unwrap());
        let txn = fleet.keys.begin(view, stands, &next_record);
        let Some(txn) = txn.or_else(|| (!needed).then(forced_upon)) else { return };
        if fleet.register.commit(&txn) {
            if !needed {
                let _ = fleet.register.commit(&fleet.keys.withdraw(stands));
            }
            self.begun(&making.step, next, allowed);
        }
    }

    pub fn harm_the_record(&mut self, decant: usize) -> bool {
        let strikes = |schedule: &Schedule| schedule.sim.lock().unwrap().strikes(Fault::CutRecord);
        let Some(fleet) = self.mover.fleet.as_mut() else { return false };
        if fleet.is_cut(decant) {
            let back = self.rng.u32(0..4) == 0;
            if back {
                self.fleet().cut(decant, false);
                self.sim().say(|| format!("d{decant} reaches etcd again"));
            }
            return back;
        }
        if !strikes(self) {
            return false;
        }
        self.fleet().cut(decant, true);
        let both = self.rng.bool();
        let sim = &mut *self.sim.lock().unwrap();
        sim.say(|| format!("d{decant} is cut off from etcd{}", if both { ", and from the shard" } else { "" }));
        sim.cut[decant] |= both;
        true
    }
}
