//! What befalls a fleet: members that are cut off, leases that run out, changes that arrive late, and operators who forget.

use super::{Fleet, Happened};
use crate::simulation::{Fault, scheduler::Schedule};

impl Fleet {
    /// No faults from here on.
    pub fn mend(&mut self) {
        for member in &mut self.members {
            (member.cut, member.slow, member.dozes) = (false, false, false);
        }
        self.etcd.late.clear();
        self.moves_left = 0;
    }

    pub fn trouble(&mut self, s: &mut Schedule, decant: usize) {
        let strikes = |fault| s.sim.lock().unwrap().strikes(fault);
        let member = &mut self.members[decant];
        match s.rng.u32(0..4) {
            0 if member.cut => {
                member.cut = s.rng.u32(0..3) > 0;
                let cut = member.cut;
                s.sim().say(|| format!("d{decant} {} etcd", if cut { "still lacks" } else { "reaches" }));
            }
            0 if strikes(Fault::EtcdCut) => self.cut(s, decant),
            1 if strikes(Fault::LeaseOver) => {
                if let Some(session) = member.session {
                    s.sim().say(|| format!("d{decant} keeps its lease too late"));
                    self.etcd.let_run_out(session.lease);
                    member.dozes = true;
                    self.leases(s);
                    self.members[decant].dozes = false;
                }
            }
            2 => self.arrive(s),
            3 if s.decants[decant].alive && member.confirmed => {
                let ended = self.holds(super::Pact::Ended);
                let gone: Vec<usize> =
                    (0..self.members.len()).filter(|other| !ended || !s.decants[*other].alive).collect();
                if !gone.is_empty() {
                    let gone = gone[s.rng.usize(0..gone.len())];
                    self.forget(s, decant, gone);
                }
            }
            _ => {}
        }
    }

    fn cut(&mut self, s: &mut Schedule, decant: usize) {
        let sim = &mut *s.sim.lock().unwrap();
        self.members[decant].cut = true;
        sim.cut[decant] |= s.rng.bool();
        let both = sim.cut[decant];
        sim.say(|| format!("d{decant} is cut off from {}", if both { "etcd and the shard" } else { "etcd" }));
        if self.members[decant].given.is_some() {
            self.count(Happened::PromisedAndCut);
        }
        self.count(if both { Happened::CutFromBoth } else { Happened::CutFromEtcd });
    }

    pub fn cut_from_redis(&mut self, decant: usize) {
        self.count(if self.members[decant].cut { Happened::CutFromBoth } else { Happened::CutFromRedis });
    }

    fn arrive(&mut self, s: &mut Schedule) {
        if self.etcd.late.is_empty() {
            return;
        }
        let at = s.rng.usize(0..self.etcd.late.len());
        let (name, txn) = self.etcd.late.swap_remove(at);
        if s.rng.u32(0..3) > 0 {
            let (done, events) = self.etcd.commit(&txn);
            s.sim().say(|| format!("{name}: arrives at last: {done}"));
            self.tell(events);
            self.count(Happened::ArrivedLate);
        }
    }
}
