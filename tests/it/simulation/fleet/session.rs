//! A member's session with etcd, by the rules of `src/fleet/session.rs`: registers, watches, reports, and begins anew when any of that fails.

use super::{Fleet, Happened, Pact, member::Session};
use crate::simulation::scheduler::Schedule;
use decant::fleet::{Entries, Registration, Report};
use std::sync::Arc;

impl Fleet {
    /// The next thing that its session has to do, or what its watch tells next.
    pub fn session_of(&mut self, s: &mut Schedule, decant: usize) {
        match self.members[decant].session {
            None => self.register(s, decant),
            Some(_) if self.members[decant].cut => {
                // It notices at some time: a connection that is cut is not closed.
                if s.rng.u32(0..3) == 0 {
                    self.lost(s, decant, false);
                }
            }
            Some(_) if self.members[decant].slow && s.rng.u32(0..12) > 0 => {}
            Some(session) => self.hear(s, decant, session),
        }
    }

    fn register(&mut self, s: &mut Schedule, decant: usize) {
        let now = s.sim().now;
        if self.members[decant].cut {
            self.members[decant].failed = true;
            return;
        }
        let lease = self.etcd.grant(now);
        let says = self.report_of(s, decant);
        let entries = Entries::new(self.etcd.range(self.keys.root()));
        let view = entries.view(&self.keys);
        let name = self.members[decant].name.clone();
        let seen = view.members.get(&name);
        if seen.is_none() && view.proposal.is_some() {
            self.count(Happened::JoinedLater);
            self.members[decant].failed = true;
            return;
        }
        if seen.is_none() && (self.members[decant].process > 1 || self.members[decant].copy.is_some()) {
            self.count(Happened::CameBack);
        }
        let registration = seen.map_or_else(
            || Registration { since_unix_ms: now, ..Registration::default() },
            |seen| seen.registration.is.clone(),
        );
        let txn = self.keys.register(&name, seen, &registration, &says, lease);
        let member = &mut self.members[decant];
        (member.entries, member.session) = (entries, Some(Session { lease, registered: 0 }));
        member.inbox.clear();
        if !matches!(self.commit(s, decant, "registers", &txn), Ok(true)) {
            self.lost(s, decant, false);
        }
    }

    fn hear(&mut self, s: &mut Schedule, decant: usize, session: Session) {
        let member = &mut self.members[decant];
        let Some(events) = member.inbox.pop_front() else { return };
        member.entries.apply(events);
        let (view, process) = (member.entries.view(&self.keys), format!("{decant}.{}", member.process));
        let me = view.members.get(&member.name);
        let mine = me.and_then(|me| me.report.as_ref()).is_some_and(|report| report.is.process == process);
        if session.registered > 0 && !mine {
            if me.is_some() {
                self.count(Happened::LeaseLost);
            }
            let ousted = me.is_none();
            return self.lost(s, decant, ousted);
        }
        if mine {
            let registered = me.map_or(0, |me| me.registration.created);
            member.session = Some(Session { registered, ..session });
            (member.view, member.confirmed, member.failed, member.ousted) = (Arc::new(view), true, false, false);
        }
    }

    /// What was known stays, and is not confirmed any more.
    pub fn lost(&mut self, s: &mut Schedule, decant: usize, ousted: bool) {
        s.sim().say(|| format!("d{decant} has lost its session{}", if ousted { ": it was forgotten" } else { "" }));
        if !self.holds(Pact::Stands) {
            self.members[decant].given = None;
            s.sim().promised[decant] = 0;
        }
        let member = &mut self.members[decant];
        (member.session, member.confirmed, member.failed) = (None, false, true);
        member.ousted |= ousted;
        member.inbox.clear();
    }

    pub fn report_of(&self, s: &Schedule, decant: usize) -> Report {
        let version = s.decants[decant].site.belief().fence.version;
        self.says(decant, version, &s.sim())
    }

    /// What it says of itself now and then; one that was forgotten learns so by it.
    pub fn report(&mut self, s: &mut Schedule, decant: usize) {
        let member = &self.members[decant];
        let (Some(session), true) = (member.session, member.confirmed) else { return };
        let report = self.report_of(s, decant);
        let stood = member.view.members.get(&member.name).and_then(|me| me.report.as_ref());
        if stood.is_some_and(|stood| !stood.is.differs_in_word(&report)) && s.rng.u32(0..40) > 0 {
            return;
        }
        let txn = self.keys.report(&self.members[decant].name, session.registered, &report, session.lease);
        match self.commit(s, decant, "reports", &txn) {
            Ok(true) => {}
            // A lease that is over is told as such.
            Ok(false) if self.etcd.has(session.lease) => self.lost(s, decant, true),
            _ => self.lost(s, decant, false),
        }
    }
}
