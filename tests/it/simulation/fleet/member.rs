//! What one member holds: of etcd what its watch has told it, of its own what outlasts it and what does not.

use super::{super::scheduler::member as name_of, Fleet, Happened, making::Making};
use crate::simulation::{scheduler::fence, world::Sim};
use decant::{
    etcd::Event,
    fleet::{Entries, Report, View},
    phase::{
        Phase,
        record::{PhaseRecord, State},
    },
    protocol::{Fence, world::Millis},
};
use std::{collections::VecDeque, sync::Arc};

#[derive(Clone, Copy, Debug)]
pub struct Session {
    pub lease: i64,
    /// The revision at which it came to belong to the fleet; 0: that is not seen yet.
    pub registered: i64,
}

/// A promise that stands: nothing is written alone under `version` until the proposal is gone.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    pub proposal: i64,
    pub version: u64,
    pub before: u64,
}

pub struct Member {
    pub name: String,
    /// This process.
    pub process: u64,
    /// Its own copy of the record: outlasts the process.
    pub copy: Option<PhaseRecord>,
    /// It cannot reach etcd; that outlasts the process as well.
    pub cut: bool,
    /// Its watch is late.
    pub slow: bool,
    /// It keeps no lease for now.
    pub dozes: bool,
    pub session: Option<Session>,
    pub inbox: VecDeque<Vec<Event>>,
    pub entries: Entries,
    /// What it last learned.
    pub view: Arc<View>,
    /// The view is what etcd holds, but for what is on its way.
    pub confirmed: bool,
    /// etcd was tried in vain.
    pub failed: bool,
    pub ousted: bool,
    /// Clients are served.
    pub serving: bool,
    pub given: Option<Given>,
    pub making: Option<Making>,
    /// Since when the shard has shown the fence of which version.
    pub raised: Option<(u64, Millis)>,
}

impl Member {
    pub fn new(decant: usize) -> Member {
        Member {
            name: name_of(decant),
            process: 0,
            copy: None,
            cut: false,
            slow: false,
            dozes: false,
            session: None,
            inbox: VecDeque::new(),
            entries: Entries::default(),
            view: Arc::default(),
            confirmed: false,
            failed: false,
            ousted: false,
            serving: false,
            given: None,
            making: None,
            raised: None,
        }
    }
}

/// What the fence of a record is.
pub fn fence_of(record: &PhaseRecord) -> Fence {
    let (member, ahead) = (record.member.clone(), record.ahead.clone());
    Fence { member, ahead, ..fence(record.version, record.phase, 0) }
}

impl Fleet {
    /// Another process of this member: nothing is known yet. What it believes until then.
    pub fn starts(&mut self, decant: usize, sim: &mut Sim) -> Fence {
        let old = &mut self.members[decant];
        let (process, copy, cut) = (old.process + 1, old.copy.take(), old.cut);
        *old = Member { process, copy, cut, slow: sim.rng.u32(0..100) < self.kind.slow_percent, ..Member::new(decant) };
        sim.promised[decant] = 0;
        fence(0, Phase::RedisOnly, decant)
    }

    /// It is gone from one instant to the next. What it held in etcd goes with its lease.
    pub fn died(&mut self, decant: usize, sim: &Sim) {
        let member = &self.members[decant];
        let truth = self.truth();
        let moving = truth.record.as_ref().map(|record| &record.is).filter(|record| record.state == State::Moving);
        let own = moving.filter(|record| decant::fleet::driver(record) == member.name);
        let unraised = |record: &PhaseRecord| sim.shard.fence().is_none_or(|fence| fence.version < record.version);
        let mut died = Vec::new();
        died.extend(member.making.is_some().then_some(Happened::DiedWithProposal));
        died.extend(member.given.is_some().then_some(Happened::DiedAfterPromise));
        died.extend(own.map(|record| match unraised(record) {
            true => Happened::DiedBeforeFence,
            false => Happened::DiedWhileMoving,
        }));
        died.into_iter().for_each(|what| self.count(what));
        let member = &mut self.members[decant];
        (member.session, member.making, member.serving, member.confirmed) = (None, None, false, false);
        member.inbox.clear();
    }

    /// What it says of itself.
    pub fn says(&self, decant: usize, version: u64, sim: &Sim) -> Report {
        let alone = sim.journal.iter().filter(|line| line.decant == decant).count();
        Report {
            process: format!("{decant}.{}", self.members[decant].process),
            at_unix_ms: sim.now,
            version,
            written_alone: (alone > 0).then(|| format!("{alone} keys")),
            shards_away: if sim.cut[decant] { vec!["s".into()] } else { Vec::new() },
            ..Report::default()
        }
    }
}
