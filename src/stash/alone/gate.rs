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
}

/// Shared by all writes of a stash.
#[derive(Debug, Default)]
pub struct Gate {
    /// A `std` mutex: held to compare and count.
    state: Mutex<State>,
    ended: Notify,
}

/// One write to Kask alone, from before it is noted to after Kask has answered it.
#[derive(Debug)]
pub struct LoneWrite(Arc<Gate>);

/// "No more writes alone under this phase": taken back when dropped, for good when kept.
#[derive(Debug)]
pub struct Promise {
    gate: Arc<Gate>,
    before: u64,
    kept: bool,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None`: this decant has promised not to.
    pub fn enter(self: &Arc<Gate>, version: u64) -> Option<LoneWrite> {
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
        Promise { gate: self.clone(), before, kept: false }
    }

    /// Waits for the writes under way; how many are left at `until`.
    pub async fn emptied(&self, until: Instant) -> usize {
        loop {
            let ended = self.ended.notified();
            let left = self.state().under_way;
            if left == 0 || timeout_at(until, ended).await.is_err() {
                return left;
            }
        }
    }
}

impl Promise {
    /// The move has begun: the old phase does not come back.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.kept {
            self.gate.state().promised = self.before;
        }
    }
}

impl Drop for LoneWrite {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
        self.0.ended.notify_waiters();
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
        gate.promise(3).keep();
        assert!(gate.enter(3).is_none(), "kept");
        assert!(gate.enter(4).is_some(), "the next phase is another matter");
    }
}
