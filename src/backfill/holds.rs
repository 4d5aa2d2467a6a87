//! What holds a run back: where its time went in the last turn, and what it waits for now.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// What a run can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// The operator's limits.
    Limit,
    /// Clients' latency.
    Brake,
    Kask,
    Redis,
}

impl Holder {
    pub(super) const ALL: [Holder; 4] = [Holder::Limit, Holder::Brake, Holder::Kask, Holder::Redis];

    pub fn name(self) -> &'static str {
        match self {
            Holder::Limit => "limit",
            Holder::Brake => "brake",
            Holder::Kask => "kask",
            Holder::Redis => "redis",
        }
    }
}

/// What holds a run back at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub what: Holder,
    /// What it waits for, where it does not get on at all.
    pub why: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Microseconds of the turn under way, by [`Holder`].
    spent: [AtomicU64; 4],
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Where most of the last turn's time went.
    last: Option<Holder>,
    /// Who stands still, and for what. As many as there are batches and walks.
    waits: BTreeMap<u64, Hold>,
    next: u64,
}

/// Something stands still as long as this lives.
pub(super) struct Waiting<'a> {
    holds: &'a Holds,
    id: u64,
}

impl Holds {
    pub(super) fn spent(&self, on: Holder, length: Duration) {
        self.spent[on as usize].fetch_add(length.as_micros() as u64, Ordering::Relaxed);
    }

    pub(super) fn wait(&self, what: Holder, why: String) -> Waiting<'_> {
        let mut inner = self.lock();
        inner.next += 1;
        let id = inner.next;
        inner.waits.insert(id, Hold { what, why: Some(why) });
        Waiting { holds: self, id }
    }

    /// A turn is over.
    pub(super) fn turn(&self) {
        let spent = Holder::ALL.map(|holder| (self.spent[holder as usize].swap(0, Ordering::Relaxed), holder));
        self.lock().last = spent.into_iter().filter(|(spent, _)| *spent > 0).max().map(|(_, holder)| holder);
    }

    /// None: nothing was done yet.
    pub(super) fn now(&self) -> Option<Hold> {
        let inner = self.lock();
        inner.waits.values().next().cloned().or(inner.last.map(|what| Hold { what, why: None }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.holds.lock().waits.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_most_of_the_turn_is_named_and_who_stands_still_comes_first() {
        let holds = Holds::default();
        assert_eq!(holds.now(), None);
        holds.spent(Holder::Redis, Duration::from_millis(2));
        holds.spent(Holder::Kask, Duration::from_millis(3));
        holds.turn();
        assert_eq!(holds.now(), Some(Hold { what: Holder::Kask, why: None }));
        let waiting = holds.wait(Holder::Redis, "away".into());
        assert_eq!(holds.now(), Some(Hold { what: Holder::Redis, why: Some("away".into()) }));
        drop(waiting);
        holds.spent(Holder::Brake, Duration::from_millis(1));
        holds.turn();
        assert_eq!(holds.now().unwrap().what, Holder::Brake, "each turn begins at nothing");
    }
}
