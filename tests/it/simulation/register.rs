//! etcd as the shared record means it: keys with their revisions, leases, and changes that are made whole or not at all.
//!
//! It knows nothing of tasks or faults. So it can stand in for etcd in a simulation, and beside a real one as the reference its answers are
//! compared with.

use decant::etcd::{Entry, Event, Then, Txn, When};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
struct Kept {
    entry: Entry,
    lease: Option<i64>,
}

/// The reference register.
#[derive(Debug, Default)]
pub struct Register {
    revision: i64,
    keys: BTreeMap<String, Kept>,
    leases: i64,
}

impl Register {
    /// A new lease.
    pub fn grant(&mut self) -> i64 {
        self.leases += 1;
        self.leases
    }

    /// The lease runs out, and its keys go.
    pub fn expire(&mut self, lease: i64) -> Vec<Event> {
        let gone: Vec<String> =
            self.keys.iter().filter(|(_, kept)| kept.lease == Some(lease)).map(|(key, _)| key.clone()).collect();
        if !gone.is_empty() {
            self.revision += 1;
        }
        gone.iter().for_each(|key| drop(self.keys.remove(key)));
        gone.into_iter().map(Event::Gone).collect()
    }

    pub fn holds(&self, when: &When) -> bool {
        let entry = |key: &String| self.keys.get(key).map(|kept| &kept.entry);
        match when {
            When::Absent(key) => entry(key).is_none(),
            When::Same(key, created) => entry(key).map_or(0, |entry| entry.created) == *created,
            When::Unchanged(key, changed) => entry(key).map_or(0, |entry| entry.changed) == *changed,
        }
    }

    /// Whether every condition held.
    pub fn commit(&mut self, txn: &Txn) -> bool {
        if !txn.when.iter().all(|when| self.holds(when)) {
            return false;
        }
        let changes = txn.then.iter().any(|then| match then {
            Then::Put { .. } => true,
            Then::Delete(key) => self.keys.contains_key(key),
        });
        self.revision += i64::from(changes);
        for then in &txn.then {
            match then {
                Then::Delete(key) => drop(self.keys.remove(key)),
                Then::Put { key, value, lease } => {
                    let created = self.keys.get(key).map_or(self.revision, |kept| kept.entry.created);
                    let entry = Entry { key: key.clone(), value: value.clone(), created, changed: self.revision };
                    self.keys.insert(key.clone(), Kept { entry, lease: *lease });
                }
            }
        }
        true
    }

    /// Everything under a prefix, by the key.
    pub fn range(&self, prefix: &str) -> Vec<Entry> {
        let under = self.keys.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        under.map(|(_, kept)| kept.entry.clone()).collect()
    }
}
