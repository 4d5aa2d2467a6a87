//! The fleet as Prometheus sees it: how many decants there are by their standing, and whether the record is known to be the one in force.

use super::Mover;
use crate::fleet::Standing;
use metrics::gauge;
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Between two looks; far below the time between two scrapes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Of one that shares its record with nobody: it was heard of on the shards.
pub(super) const SEEN: &str = "seen";

impl Mover {
    /// Until stopped.
    pub async fn count_members(self: Arc<Self>, stop: CancellationToken) {
        let stash = || self.stash().name.clone();
        let standings = Standing::ALL.map(Standing::name).into_iter().chain([SEEN]);
        let members: Vec<(&str, metrics::Gauge)> = standings
            .map(|standing| (standing, gauge!("decant_fleet_members", "stash" => stash(), "standing" => standing)))
            .collect();
        let confirmed = gauge!("decant_record_confirmed", "stash" => stash());
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let fleet = self.fleet();
            for (standing, gauge) in &members {
                gauge.set(fleet.members.iter().filter(|member| member.standing == *standing).count() as f64);
            }
            let known = self.shown().is_some() && fleet.trouble.is_none();
            confirmed.set(if known { 1.0 } else { 0.0 });
        }
    }
}
