//! Keeps the samples that windows of time are told from.

use super::{
    Stash,
    traffic::{SLOT, Slot, Traffic, Windows},
};
use crate::protocol::World as _;
use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

impl Stash {
    /// Samples once a slot until stopped.
    pub async fn watch_traffic(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(Duration::from_millis(SLOT));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let totals = self.metrics.totals();
            self.traffic().sample(self.site.world.now(), totals);
        }
    }

    /// The last minute, hour and day.
    pub fn windows(&self) -> Windows {
        self.traffic().windows(self.site.world.now(), self.metrics.totals())
    }

    /// The last hour slot by slot.
    pub fn slots(&self) -> Vec<Slot> {
        self.traffic().slots(self.site.world.now(), self.metrics.totals())
    }

    /// How long no read has fallen back on Redis, in milliseconds; at most as long as this decant has run.
    pub fn without_fallback_ms(&self) -> u64 {
        self.traffic().without_fallback_ms(self.site.world.now(), self.metrics.totals())
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
