//! A member makes a move, by the rules of `src/stash/mover/propose.rs`: proposed, promised, weighed, begun; or taken back.

use super::{Fleet, Happened, Pact};
use crate::simulation::scheduler::Schedule;
use decant::{
    etcd::{Then, When},
    fleet::{Kept, Promise, Proposal, Report, View},
    phase::{
        Phase,
        guard::{Figures, Fitness, guards_of},
        proof::{BackfillProof, VerifyProof},
        record::{Line, Made, PhaseRecord},
        step::{Goal, Step, step},
    },
    protocol::world::Millis,
    stash::mover::of_all,
};

/// Promises are waited for so long.
const PROMISED_WITHIN: Millis = 8_000;

/// A move that was proposed.
pub struct Making {
    record: Kept<PhaseRecord>,
    proposal: Proposal,
    step: Step,
    force: bool,
    until: Millis,
}

impl Making {
    /// This very proposal, as it stands in etcd.
    fn stands(&self, view: &View) -> Option<Kept<Proposal>> {
        view.proposal.clone().filter(|stands| stands.is == self.proposal)
    }
}

impl Fleet {
    /// `begin`: an operator may ask for another move.
    pub fn make(&mut self, s: &mut Schedule, decant: usize, begin: bool) {
        match self.members[decant].making.take() {
            Some(making) => self.go_on(s, decant, making),
            None if begin && self.moves_left > 0 && self.members[decant].confirmed => self.propose(s, decant),
            None => {}
        }
    }

    fn propose(&mut self, s: &mut Schedule, decant: usize) {
        let view = self.members[decant].view.clone();
        let Some(record) = view.record.clone().filter(|record| record.is.is_settled()) else { return };
        if view.proposal.is_some() {
            return self.count(Happened::RefusedAsSecond);
        }
        let Some(step) = self.any_step(s, &record.is) else { return };
        if self.holds(Pact::HoldUps) && !view.hold_ups().is_empty() {
            return self.count(Happened::RefusedForHoldUps);
        }
        let force = s.rng.u32(0..100) < self.kind.force_percent;
        let says = view.members.iter().filter_map(|(name, member)| Some((name.as_str(), &member.report.as_ref()?.is)));
        let Some(next) = self.weigh(s, decant, &record, &step, force, says) else {
            return self.count(Happened::RefusedByGuards);
        };
        self.moves_left -= 1;
        let now = s.sim().now;
        let proposal = Proposal {
            to: next.phase,
            ahead: next.ahead,
            version: next.version,
            by: "root".into(),
            member: next.member,
            since_unix_ms: now,
        };
        let Some(session) = self.members[decant].session else { return };
        let txn = self.keys.propose(&record, &proposal, session.lease);
        match self.commit(s, decant, &format!("proposes {:?} {:?}", proposal.to, proposal.ahead), &txn) {
            Ok(true) => {
                let until = now + PROMISED_WITHIN;
                self.members[decant].making = Some(Making { record, proposal, step, force, until });
            }
            Ok(false) => self.count(Happened::RefusedAsSecond),
            Err(_) => {}
        }
    }

    fn any_step(&self, s: &mut Schedule, record: &PhaseRecord) -> Option<Step> {
        let ahead = s.rng.u32(0..100) < s.mix.ahead_percent;
        let goal = match (&record.ahead, ahead) {
            (Some(_), _) if s.rng.u32(0..2) == 0 => Goal::NoneAhead,
            (_, true) => Goal::Ahead(s.any_rule()),
            _ => Goal::Phase(s.mix.route[s.rng.usize(0..s.mix.route.len())]),
        };
        let step = step(record.phase, record.ahead.as_ref(), &goal).ok()?;
        (s.mix.route.contains(&step.from) && s.mix.route.contains(&step.to)).then_some(step)
    }

    fn go_on(&mut self, s: &mut Schedule, decant: usize, making: Making) {
        let (view, now) = (self.members[decant].view.clone(), s.sim().now);
        if !self.members[decant].confirmed {
            return self.take_back(s, decant, &making);
        }
        let Some(stands) = making.stands(&view) else {
            // It is not seen yet, or is gone.
            if now < making.until && s.rng.u32(0..8) > 0 {
                self.members[decant].making = Some(making);
            }
            return;
        };
        let missing: Vec<String> = view.unpromised(stands.created).into_iter().map(str::to_owned).collect();
        let silent = |name: &String| view.is_silent(name);
        let waits = match (self.holds(Pact::Promises), self.holds(Pact::HoldUps)) {
            (false, _) => false,
            (_, false) => missing.iter().any(|name| !silent(name)),
            _ => !missing.is_empty(),
        };
        if waits && now < making.until && !missing.iter().any(silent) {
            self.members[decant].making = Some(making);
            return;
        }
        if waits {
            self.count(Happened::RefusedForPromises);
            return self.take_back(s, decant, &making);
        }
        self.begin(s, decant, making, ((*view).clone(), &stands), &missing);
    }

    fn begin(
        &mut self,
        s: &mut Schedule,
        decant: usize,
        making: Making,
        (mut view, stands): (View, &Kept<Proposal>),
        missing: &[String],
    ) {
        // Without the rule, who has not promised is taken to have.
        for name in missing {
            if let Some(member) = view.members.get_mut(name) {
                let is = Promise { proposal: stands.created, says: Report::default() };
                member.promise = Some(Kept { is, created: 0, changed: 0 });
            }
        }
        self.empty_kask(s, &making);
        let heard = self.holds(Pact::Says);
        let says = view.members.iter().filter(|_| heard);
        let says = says.filter_map(|(name, member)| Some((name.as_str(), &member.promise.as_ref()?.is.says)));
        let Some(next) = self.weigh(s, decant, &making.record, &making.step, making.force, says) else {
            self.count(Happened::RefusedByGuards);
            return self.take_back(s, decant, &making);
        };
        let Some(mut txn) = self.keys.begin(&making.record, &view, stands, &next) else {
            return self.take_back(s, decant, &making);
        };
        let of_missing =
            |when: &When| matches!(when, When::Same(key, 0) if missing.iter().any(|name| key.ends_with(name)));
        txn.when.retain(|when| !of_missing(when));
        let begun = self.commit(s, decant, &format!("begins {}, version {}", next.told(), next.version), &txn);
        if !matches!(begun, Ok(true)) {
            return self.take_back(s, decant, &making);
        }
        self.count(Happened::MoveBegun);
        let (was, is) = (&making.record.is.ahead, &next.ahead);
        for (what, so) in [
            (Happened::MoveForced, next.forced),
            (Happened::CanarySet, is.is_some()),
            (Happened::CanaryCleared, was.is_some() && is.is_none() && next.phase == making.record.is.phase),
        ] {
            if so {
                self.count(what);
            }
        }
    }

    /// What is not seen is a duty for later.
    fn take_back(&mut self, s: &mut Schedule, decant: usize, making: &Making) {
        let Some(stands) = making.stands(&self.members[decant].view) else { return };
        if let Ok(true) = self.commit(s, decant, "takes its proposal back", &self.keys.withdraw(&stands)) {
            self.count(Happened::Withdrawn);
        }
    }

    /// The record of the move, if the guards pass or are overridden.
    fn weigh<'a>(
        &self,
        s: &Schedule,
        decant: usize,
        record: &Kept<PhaseRecord>,
        step: &Step,
        force: bool,
        says: impl Iterator<Item = (&'a str, &'a Report)>,
    ) -> Option<PhaseRecord> {
        let name = &self.members[decant].name;
        let figures = of_all(&self.figures(s, decant, &record.is), name, says);
        let guards = guards_of(&record.is, step, &figures);
        let passed = guards.iter().all(|guard| guard.ok);
        if !passed && !force {
            let failed: Vec<&str> = guards.iter().filter(|guard| !guard.ok).map(|guard| guard.name).collect();
            s.sim().say(|| format!("d{decant}: the move to {step:?} is refused by {failed:?}"));
            return None;
        }
        let sim = s.sim();
        let alone = sim.journal.iter().any(|line| line.decant == decant).then_some(sim.now);
        let made =
            Made { by: "root", reason: "a test", member: name, now_unix_ms: sim.now, alone_since_unix_ms: alone };
        Some(record.is.after(step, &made, &guards))
    }

    /// What the mover measures itself. What nobody can measure in one instant, it has had time for: a backfill and a verify, if they
    /// would find all well now.
    fn figures(&self, s: &Schedule, decant: usize, record: &PhaseRecord) -> Figures {
        let sim = s.sim();
        let stale = |key: &&decant::codec::key::Key| {
            s.mover.fence().phase_of(key) == Phase::RedisOnly && sim.kask.get(key).is_some()
        };
        let copied = s.mover.backfilled(&s.keys, &sim);
        let (version, phase) = (record.version, Phase::KaskFirst);
        let backfill = BackfillProof {
            begun_unix_ms: sim.now,
            ended_unix_ms: sim.now,
            phase,
            version,
            keys: 1,
            impossible: 0,
            failed: 0,
        };
        let verify = VerifyProof {
            begun_unix_ms: sim.now,
            ended_unix_ms: sim.now,
            phase,
            version,
            complete: true,
            compared: 1,
            missing: 0,
            different: 0,
            pending: 0,
            uncarried: 0,
            misplaced: 0,
            foreign: 0,
        };
        let lines = self.etcd.range(self.keys.history());
        let history = lines.iter().filter_map(|line| match serde_json::from_slice(&line.value).ok()? {
            Line::Moved(record) => Some(*record),
            Line::Happened(_) => None,
        });
        Figures {
            shards_away: if sim.cut[decant] { vec!["s".into()] } else { Vec::new() },
            sampled: s.keys.len() as u64,
            in_kask: s.keys.iter().filter(stale).count() as u64,
            evicted: u64::from(s.mover.has_evicted()),
            backfill: copied.then_some(backfill),
            verify: copied.then_some(verify),
            history: history.collect(),
            written_alone: self.says(decant, 0, &sim).written_alone,
            kask_emptied: true,
            fitness: Fitness { kask_takes: Some(Ok(())), ..Fitness::default() },
            lease_ms: sim.lease,
            now_unix_ms: sim.now,
            ..Figures::default()
        }
    }

    /// The operator empties Kask before it is written again; where keys are ahead, it was emptied for them, unless they were forced.
    fn empty_kask(&self, s: &Schedule, making: &Making) {
        let (record, sim) = (&making.record, &mut *s.sim.lock().unwrap());
        let entered = (making.step.from, making.step.to) == (Phase::RedisOnly, Phase::DualWrite);
        let stale_since = record.is.kask_stale_since_unix_ms;
        let ripe = stale_since.is_none_or(|since| sim.now >= since + sim.lease);
        let holds_older = record.is.ahead.is_none() || stale_since.is_some();
        let newest = self.etcd.holds(&When::Unchanged(self.keys.record(), record.changed));
        if entered && !making.force && holds_older && ripe && newest {
            sim.say(|| "Kask is emptied".into());
            sim.kask.wipe();
            sim.log.wiped();
        }
    }

    /// An operator declares a silent member gone.
    pub fn forget(&mut self, s: &mut Schedule, decant: usize, gone: usize) {
        let (name, now) = (self.members[gone].name.clone(), s.sim().now);
        let view = self.members[decant].view.clone();
        let (Some(record), Some(member)) = (&view.record, view.members.get(&name)) else { return };
        if member.report.is_some() {
            return;
        }
        let mut txn = self.keys.forget(record, (&name, member), ("root", "a test"), now);
        if !self.holds(Pact::Unclean) {
            txn.then.retain(|then| !matches!(then, Then::Put { key, .. } if *key == self.keys.record()));
        }
        if let Ok(true) = self.commit(s, decant, &format!("forgets {name}"), &txn) {
            self.count(Happened::Forgotten);
        }
    }
}
