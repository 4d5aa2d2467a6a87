//! etcd as a fleet meets it: the reference register, with leases that run out, watches that are told later, and changes that arrive late.

use super::super::register::Register;
use decant::{
    etcd::{Entry, Event, Then, Txn, When},
    protocol::world::Millis,
};
use std::collections::BTreeMap;

/// A member that is not heard for so long is silent.
pub const LEASE: Millis = 800;

/// One etcd.
#[derive(Debug)]
pub struct Etcd {
    register: Register,
    /// What is watched.
    root: String,
    /// When each lease runs out.
    leases: BTreeMap<i64, Millis>,
    /// What was given up on and is still on its way.
    pub late: Vec<(String, Txn)>,
}

impl Etcd {
    pub fn new(root: &str) -> Etcd {
        Etcd { register: Register::default(), root: root.to_owned(), leases: BTreeMap::new(), late: Vec::new() }
    }

    pub fn grant(&mut self, now: Millis) -> i64 {
        let lease = self.register.grant();
        self.keep(lease, now);
        lease
    }

    /// The lease lasts from now on again, if it has not run out.
    pub fn keep(&mut self, lease: i64, now: Millis) {
        self.leases.insert(lease, now + LEASE);
    }

    pub fn has(&self, lease: i64) -> bool {
        self.leases.contains_key(&lease)
    }

    /// It runs out whenever it is looked at next.
    pub fn let_run_out(&mut self, lease: i64) {
        self.leases.insert(lease, 0);
    }

    /// What goes with the leases that have run out, for those who watch.
    pub fn expire(&mut self, now: Millis) -> Vec<Vec<Event>> {
        let over: Vec<i64> = self.leases.iter().filter(|(_, until)| **until <= now).map(|(lease, _)| *lease).collect();
        self.leases.retain(|lease, _| !over.contains(lease));
        over.into_iter().map(|lease| self.register.expire(lease)).filter(|events| !events.is_empty()).collect()
    }

    pub fn holds(&self, when: &When) -> bool {
        self.register.holds(when)
    }

    pub fn range(&self, prefix: &str) -> Vec<Entry> {
        self.register.range(prefix)
    }

    /// Whether it was done, and what those who watch are told. Nothing is put under a lease that is over.
    pub fn commit(&mut self, txn: &Txn) -> (bool, Vec<Event>) {
        let is_over = |then: &Then| matches!(then, Then::Put { lease: Some(lease), .. } if !self.has(*lease));
        if txn.then.iter().any(is_over) {
            return (false, Vec::new());
        }
        let before = self.register.range(&self.root);
        let done = self.register.commit(txn);
        let after = if done { self.register.range(&self.root) } else { before.clone() };
        let put = after.iter().filter(|entry| !before.contains(entry)).cloned().map(Event::Put);
        let stays = |gone: &Entry| after.iter().any(|entry| entry.key == gone.key);
        let gone = before.iter().filter(|entry| !stays(entry)).map(|entry| Event::Gone(entry.key.clone()));
        (done, put.chain(gone).collect())
    }
}
