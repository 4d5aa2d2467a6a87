//! Counts the writes to Kask alone that are under way, and shuts them out before a move: the fence cannot stop a decant that cannot reach
//! Redis, so that it must promise first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    /// Nothing begins under a phase of this version or an older one.
    promised: u64,
    /// As `promised`, and the move has begun: that will not change.
    kept: u64,
}

/// Shared by all writes of a stash.
#[derive(Debug, Default)]
pub struct Gate {
    /// A `std` mutex: held to compare and count.
    state: Mutex<State>,
    changed: Notify,
}

/// One write to Kask alone, from before it is noted to after Kask has answered it.
#[derive(Debug)]
pub struct LoneWrite(Arc<Gate>);

/// "No more writes alone under this phase": taken back when dropped, for good when kept.
#[derive(Debug)]
pub struct Promise {
    gate: Arc<Gate>,
    before: u64,
    version: u64,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while a move is being weighed. `None`: the phase is over, or `until` has come.
    pub async fn enter_by(self: &Arc<Gate>, version: u64, until: Instant) -> Option<LoneWrite> {
        loop {
            let changed = self.changed.notified();
            if let Some(inside) = self.enter(version) {
                return Some(inside);
            }
            if version <= self.state().kept || timeout_at(until, changed).await.is_err() {
                return None;
            }
        }
    }

    /// `None`: this decant has promised not to.
    fn enter(self: &Arc<Gate>, version: u64) -> Option<LoneWrite> {
        let mut state = self.state();
        if version <= state.promised {
            return None;
        }
        state.under_way += 1;
        Some(LoneWrite(self.clone()))
    }

    /// From now on nothing enters under `version`. One move at a time: promises do not overlap.
    pub fn promise(self: &Arc<Gate>, version: u64) -> Promise {
        let mut state = self.state();
        let before = state.promised;
        state.promised = before.max(version);
        Promise { gate: self.clone(), before, version }
    }

    /// Waits for the writes under way; how many are left at `until`.
    pub async fn emptied(&self, until: Instant) -> usize {
        loop {
            let changed = self.changed.notified();
            let left = self.state().under_way;
            if left == 0 || timeout_at(until, changed).await.is_err() {
                return left;
            }
        }
    }
}

impl Promise {
    /// The move has begun: the old phase does not come back.
    pub fn keep(self) {
        self.gate.state().kept = self.version;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        {
            let mut state = self.gate.state();
            state.promised = state.kept.max(self.before);
        }
        self.gate.changed.notify_waiters();
    }
}

impl Drop for LoneWrite {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_promise_shuts_the_gate_and_waits_for_who_is_inside() {
        let gate = Arc::new(Gate::default());
        let soon = || Instant::now() + Duration::from_millis(200);
        let inside = gate.enter(3).unwrap();
        let promise = gate.promise(3);
        assert!(gate.enter(3).is_none() && gate.enter(2).is_none(), "a straggler of an older phase neither");
        assert_eq!(gate.emptied(soon()).await, 1);
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.emptied(soon()).await }
        });
        tokio::task::yield_now().await;
        drop(inside);
        assert_eq!(waiting.await.unwrap(), 0);
        drop(promise);
        assert!(gate.enter(3).is_some(), "taken back");
        let entering = || {
            let gate = gate.clone();
            tokio::spawn(async move { gate.enter_by(3, soon()).await.is_some() })
        };
        let (promise, waiting) = (gate.promise(3), entering());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(promise);
        assert!(waiting.await.unwrap(), "it waited, and went on");
        let (promise, waiting) = (gate.promise(3), entering());
        tokio::task::yield_now().await;
        promise.keep();
        assert!(!waiting.await.unwrap());
        let began = Instant::now();
        assert!(gate.enter_by(3, soon()).await.is_none() && began.elapsed() < Duration::from_millis(100), "kept");
        assert!(gate.enter(4).is_some(), "the next phase is another matter");
    }
}
