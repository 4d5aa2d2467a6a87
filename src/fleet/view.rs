//! What stands in etcd of one stash, at one revision. Pure.

use super::keys::{Keys, Named};
use crate::{
    etcd::{Entry, Event},
    phase::{
        Phase,
        ahead::Ahead,
        guard::Met,
        proof::{BackfillProof, VerifyProof},
        record::PhaseRecord,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// A decant of the fleet: it belongs to it until it leaves or is forgotten, alive or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    pub since_unix_ms: u64,
    /// Its build.
    pub decant: String,
    /// It believes this version of the phase, and writes nothing under an older one any more.
    pub acknowledged: u64,
}

/// What a decant says of itself while it is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Of its process.
    pub process: String,
    /// When it said so, by its own clock, in ms since 1970.
    pub at_unix_ms: u64,
    /// The version of the phase that it believes in.
    pub version: u64,
    pub phase: Option<Phase>,
    /// Why Redis lacks writes that this decant made past it; none: it has them.
    pub written_alone: Option<String>,
    /// Reads since its start, by the tier that answered.
    pub reads_kask: u64,
    pub reads_redis: u64,
    pub reads_none: u64,
    pub keys_pending: u64,
    /// As it last saw the shards.
    pub outbox: u64,
    pub damaged: u64,
    pub in_flight: u64,
    /// For the guards of whoever moves.
    pub met: Met,
    /// Kask counts as away for it.
    pub kask_away: bool,
    /// Shards of Redis that it uses, and that do not answer it.
    pub shards_away: Vec<String>,
    /// What it has shown, for the guards of a move by whoever.
    pub backfill: Option<BackfillProof>,
    pub verify: Option<VerifyProof>,
}

impl Report {
    /// Others wait for what differs: anything but counts and times.
    pub fn differs_in_word(&self, other: &Report) -> bool {
        let word = |report: &Report| Report {
            process: report.process.clone(),
            version: report.version,
            phase: report.phase,
            written_alone: report.written_alone.clone(),
            kask_away: report.kask_away,
            shards_away: report.shards_away.clone(),
            backfill: report.backfill.clone(),
            verify: report.verify.clone(),
            ..Report::default()
        };
        word(self) != word(other)
    }
}

/// A move that is being made: promises are asked for, nothing has changed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub to: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<Ahead>,
    /// That the move would have.
    pub version: u64,
    pub by: String,
    /// The decant that makes it.
    pub member: String,
    pub since_unix_ms: u64,
}

/// "I write nothing alone before this move is made or given up."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The proposal, by the revision at which it came to be.
    pub proposal: i64,
    /// What the member says of itself at that time: what it had written alone, and its figures for the guards.
    pub says: Report,
}

/// A value and the revisions of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<T> {
    pub is: T,
    pub created: i64,
    pub changed: i64,
}

/// One decant of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub registration: Kept<Registration>,
    /// None: it is silent.
    pub report: Option<Kept<Report>>,
    pub promise: Option<Kept<Promise>>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub record: Option<Kept<PhaseRecord>>,
    pub proposal: Option<Kept<Proposal>>,
    pub members: BTreeMap<String, Member>,
    /// The key, and why it cannot be read. With a record among them there is one, though not in `record`.
    pub unreadable: Vec<(String, String)>,
}

/// The keys as they came, kept up to date by a watch.
#[derive(Clone, Debug, Default)]
pub struct Entries(BTreeMap<String, Entry>);

impl Entries {
    pub fn new(entries: Vec<Entry>) -> Entries {
        Entries(entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect())
    }

    pub fn apply(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Put(entry) => drop(self.0.insert(entry.key.clone(), entry)),
                Event::Gone(key) => drop(self.0.remove(&key)),
            }
        }
    }

    pub fn view(&self, keys: &Keys) -> View {
        let mut view = View::default();
        let (mut reports, mut promises) = (BTreeMap::new(), BTreeMap::new());
        for (key, entry) in &self.0 {
            let unreadable = &mut view.unreadable;
            match keys.named(key) {
                Some(Named::Record) => view.record = read(entry, unreadable),
                Some(Named::Proposal) => view.proposal = read(entry, unreadable),
                Some(Named::Member(member)) => {
                    if let Some(registration) = read(entry, unreadable) {
                        let member = member.to_owned();
                        view.members.insert(member, Member { registration, report: None, promise: None });
                    }
                }
                Some(Named::Alive(member)) => drop(reports.insert(member, read(entry, unreadable))),
                Some(Named::Promise(member)) => drop(promises.insert(member, read(entry, unreadable))),
                None => {}
            }
        }
        for (name, member) in &mut view.members {
            member.report = reports.remove(name.as_str()).flatten();
            member.promise = promises.remove(name.as_str()).flatten();
        }
        view
    }
}

fn read<T: DeserializeOwned>(entry: &Entry, unreadable: &mut Vec<(String, String)>) -> Option<Kept<T>> {
    match serde_json::from_slice(&entry.value) {
        Ok(is) => Some(Kept { is, created: entry.created, changed: entry.changed }),
        Err(why) => {
            unreadable.push((entry.key.clone(), why.to_string()));
            None
        }
    }
}
