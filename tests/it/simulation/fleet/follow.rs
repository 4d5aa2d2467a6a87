//! What a member does by the record, by the rules of `src/stash/mover/fleet.rs`: believes it, raises its fence, and does its duties.

use super::{
    Fleet, Happened, Pact,
    member::{Given, fence_of},
};
use crate::simulation::scheduler::Schedule;
use decant::{
    fleet::{Duty, Kept, Own, Promise, driver, happening},
    phase::{
        Phase, Sequencer,
        record::{PhaseRecord, State, What},
    },
    protocol::Belief,
};

impl Fleet {
    /// One look at what is to be done; at most one effect.
    pub fn follow(&mut self, s: &mut Schedule, decant: usize) {
        self.compare_journal(s, decant);
        if !self.members[decant].confirmed {
            return self.cut_off(s, decant);
        }
        let believed = s.decants[decant].site.belief().fence.version;
        let view = self.members[decant].view.clone();
        let Some(record) = view.record.as_ref().filter(|record| record.is.version >= believed) else {
            return self.restore(s, decant, view.record.as_ref());
        };
        if self.adopt(s, decant, &record.is) && s.rng.bool() {
            return;
        }
        self.let_go(s, decant, record.is.version);
        if self.raise(s, decant, &record.is) && s.rng.bool() {
            return;
        }
        let over = record.is.state == State::Moving && self.is_over(s, decant, &record.is);
        let member = &self.members[decant];
        let own = Own { member: &member.name, believes: record.is.version, over, proposes: member.making.is_some() };
        if let Some(duty) = view.duties(&own).first() {
            self.perform(s, decant, record, *duty);
        }
    }

    fn adopt(&mut self, s: &Schedule, decant: usize, record: &PhaseRecord) -> bool {
        let (site, fence, settled) = (&s.decants[decant].site, fence_of(record), record.is_settled());
        let belief = site.belief();
        let member = &mut self.members[decant];
        if belief.own && belief.settled == settled && belief.fence == fence && member.copy.as_ref() == Some(record) {
            return false;
        }
        s.sim().say(|| format!("d{decant} follows {}, version {}, settled: {settled}", record.told(), record.version));
        site.beliefs.set(Belief::new(fence, settled, true));
        (member.serving, member.copy) = (true, Some(record.clone()));
        true
    }

    /// etcd is away: who serves goes on, who starts serves by what the fence says.
    fn cut_off(&mut self, s: &mut Schedule, decant: usize) {
        let site = s.decants[decant].site.clone();
        let belief = site.belief();
        let member = &self.members[decant];
        if member.ousted && belief.own {
            site.beliefs.set(Belief { own: false, ..(*belief).clone() });
        }
        if member.serving || !member.failed {
            return;
        }
        let copy = member.copy.clone().filter(|_| !self.holds(Pact::ByFence));
        let believes = match copy {
            Some(copy) => Belief::new(fence_of(&copy), copy.is_settled(), true),
            None if !Self::reaches(s, decant) => return,
            None => match s.sim().shard.fence().cloned() {
                Some(fence) => Belief::new(fence, false, false),
                None => return,
            },
        };
        s.sim().say(|| format!("d{decant} starts cut off from etcd, in {}", believes.text));
        site.beliefs.set(believes);
        self.members[decant].serving = true;
        self.count(Happened::StartedCutOff);
    }

    fn reaches(s: &Schedule, decant: usize) -> bool {
        let mut sim = s.sim();
        !sim.cut[decant] && sim.is_connected(decant)
    }

    /// The view is older than the fence. That etcd holds nothing newer either is found out by trying; here it always does.
    fn restore(&mut self, s: &mut Schedule, decant: usize, stands: Option<&Kept<PhaseRecord>>) {
        if !Self::reaches(s, decant) {
            return;
        }
        let Some(fence) = s.sim().shard.fence().cloned() else { return };
        if stands.is_some_and(|stands| stands.is.version >= fence.version) {
            return;
        }
        let name = self.members[decant].name.clone();
        let Some(copy) = self.members[decant].copy.clone().filter(|copy| fence_of(copy) == fence) else { return };
        let record = PhaseRecord { state: State::Moving, driver: Some(name.clone()), ..copy };
        let happened = happening(&record, What::Restored, name.clone(), (&name, "older than the fence"), s.sim().now);
        let txn = self.keys.restore(stands, &record, &happened);
        if let Ok(true) = self.commit(s, decant, "restores the record", &txn) {
            s.sim().log.fail(format!("d{decant} wrote over a record that it had not seen"));
        }
    }

    /// The move was made: for good. It was given up: taken back.
    fn let_go(&mut self, s: &Schedule, decant: usize, version: u64) {
        let member = &mut self.members[decant];
        let proposed = member.view.proposal.as_ref().map(|proposal| proposal.created);
        match member.given.take() {
            Some(given) if version > given.version => {}
            Some(given) if proposed == Some(given.proposal) => member.given = Some(given),
            Some(given) => {
                s.sim().say(|| format!("d{decant} takes its promise back"));
                s.sim().promised[decant] = given.before;
            }
            None => {}
        }
    }

    /// Raises the fence where it is missing or older.
    fn raise(&mut self, s: &mut Schedule, decant: usize, record: &PhaseRecord) -> bool {
        let fence = fence_of(record);
        let retired = !record.phase.uses_redis() && record.is_settled();
        let older = s.sim().shard.fence().is_none_or(|stands| stands.version <= fence.version && *stands != fence);
        if retired || !older || !Self::reaches(s, decant) {
            return false;
        }
        let settled = record.is_settled() && self.members[decant].given.is_none();
        let sim = &mut *s.sim.lock().unwrap();
        if !sim.shard.raise(&fence, settled, sim.lease, sim.now) {
            sim.log.fail(format!("two fences of version {}", fence.version));
            return true;
        }
        sim.say(|| format!("d{decant} raises the fence: {}", fence.to_text()));
        let old = s.mover.fence().clone();
        if fence.version > old.version {
            for key in s.keys.iter().filter(|_| record.forced) {
                let step = (old.phase_of(key), fence.phase_of(key));
                if step.0 != step.1 && step != (Phase::KaskOnly, Phase::RedisStandby) {
                    sim.log.override_of(key);
                }
            }
            s.mover.follows(&fence, &s.keys, sim);
        }
        true
    }

    /// The shard shows the fence, has done so for long enough, and no intent of another direction.
    fn is_over(&mut self, s: &Schedule, decant: usize, record: &PhaseRecord) -> bool {
        if !self.holds(Pact::Over) {
            return true;
        }
        let fence = fence_of(record);
        let reaches = Self::reaches(s, decant);
        let sim = s.sim();
        let raised = &mut self.members[decant].raised;
        let shown = reaches && sim.shard.fence() == Some(&fence);
        let long = match *raised {
            Some((version, since)) if shown && version == fence.version => sim.now >= since + s.settings.settle_wait,
            _ => {
                *raised = shown.then_some((fence.version, sim.now));
                false
            }
        };
        long && sim.now >= sim.shard.life.quiet && *s.mover.fence() == fence && s.mover.no_other_direction(&sim)
    }

    fn perform(&mut self, s: &mut Schedule, decant: usize, record: &Kept<PhaseRecord>, duty: Duty) {
        let now = s.sim().now;
        let name = self.members[decant].name.clone();
        match duty {
            Duty::Promise(proposal) => self.promise(s, decant, record.is.version, proposal),
            Duty::Withdraw(_) => {
                let stands = self.members[decant].view.proposal.clone();
                let Some(stands) = stands.filter(|_| self.holds(Pact::Withdraw)) else { return };
                if let Ok(true) = self.commit(s, decant, "takes a proposal back later", &self.keys.withdraw(&stands)) {
                    self.count(Happened::WithdrawnLater);
                }
            }
            Duty::Acknowledge(version) => {
                let Some(me) = self.members[decant].view.members.get(&name).cloned() else { return };
                let txn = self.keys.acknowledge(&name, &me.registration, version);
                let _ = self.commit(s, decant, &format!("acknowledges version {version}"), &txn);
            }
            Duty::TakeOver => {
                let txn = self.keys.take_over(record, &name, now);
                let from = driver(&record.is).to_owned();
                if let Ok(true) = self.commit(s, decant, &format!("takes over from {from}"), &txn) {
                    self.count(Happened::TakenOver);
                }
            }
            Duty::Settle => {
                if let Ok(true) = self.commit(s, decant, "settles the move", &self.keys.settle(record)) {
                    self.count(Happened::Settled);
                }
            }
        }
    }

    fn promise(&mut self, s: &mut Schedule, decant: usize, version: u64, proposal: i64) {
        let member = &mut self.members[decant];
        if member.given.is_none_or(|given| given.proposal != proposal) {
            let before = s.sim().promised[decant];
            member.given = Some(Given { proposal, version, before });
            if self.holds(Pact::Gate) {
                s.sim().promised[decant] = before.max(version);
            }
        }
        if s.is_alone(decant) {
            return;
        }
        let Some(session) = self.members[decant].session else { return };
        let promise = Promise { proposal, says: self.report_of(s, decant) };
        let txn = self.keys.promise(&self.members[decant].name, &promise, session.lease);
        let _ = self.commit(s, decant, "promises", &txn);
    }

    /// A journal of another version is never healed from; where Redis is the sequencer again, it is set aside.
    fn compare_journal(&mut self, s: &Schedule, decant: usize) {
        let belief = s.decants[decant].site.belief();
        if belief.fence.has(Phase::RedisStandby) || belief.phase().sequencer() == Sequencer::Kask {
            return;
        }
        let mut sim = s.sim();
        let lines = sim.journal.len();
        sim.journal.retain(|line| line.decant != decant || line.version >= belief.fence.version);
        if sim.journal.len() < lines {
            sim.say(|| format!("d{decant} sets its journal aside"));
            drop(sim);
            self.count(Happened::SetAside);
        }
    }
}
