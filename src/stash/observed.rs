//! What this decant saw of clients while the phase has held, and who else is at its Redis: figures for the guards.

use super::{
    Stash,
    strangers::{Strangers, strangers},
    traffic::Window,
};
use crate::{
    phase::guard::{Met, Observed},
    tier::redis::{Shard, value::into_bytes},
};
use std::time::Duration;
use tokio::time::Instant;

/// A shard is asked for its clients this long.
const CLIENTS_TIMEOUT: Duration = Duration::from_secs(1);

impl Stash {
    /// `ask`: also ask the shards for their clients.
    pub(super) async fn observed(&self, ask: bool) -> Observed {
        let mut seen = Observed {
            soak_ms: u64::try_from(self.guards.soak.as_millis()).unwrap_or(u64::MAX),
            shadow_mismatch_max: self.guards.shadow_mismatch_max,
            kask_errors_max: self.guards.kask_errors_max,
            met: self.met(),
            ..Observed::default()
        };
        let shards = self.site.world.outbox.iter().flat_map(|outbox| outbox.shards());
        // A shard that is down is another guard's to tell.
        for shard in shards.filter(|shard| ask && shard.is_up()) {
            match clients(shard).await {
                Ok(list) => {
                    let Strangers { writers, readers } = strangers(&list, shard.db());
                    seen.strangers.extend(writers);
                    seen.readers.extend(readers);
                }
                Err(why) => seen.strangers_unseen.push(format!("{} does not tell its clients: {why}", shard.name)),
            }
        }
        seen
    }

    /// What this decant's clients met.
    pub(super) fn met(&self) -> Met {
        let Window { counts, .. } = self.windows().hour;
        Met {
            reads: counts.kask + counts.redis + counts.none,
            fallbacks: counts.fallbacks,
            without_fallback_ms: self.without_fallback_ms(),
            compared: counts.compared,
            mismatched: counts.differing.saturating_sub(counts.missing),
            missing: counts.missing,
            kask_requests: counts.kask_requests,
            kask_errors: counts.kask_errors,
            writes: self.metrics.writes_in_phase(),
        }
    }
}

async fn clients(shard: &Shard) -> Result<String, String> {
    let mut list = redis::cmd("CLIENT");
    list.arg("LIST");
    let reply = shard.command(list, Instant::now() + CLIENTS_TIMEOUT).await.map_err(|fault| fault.to_string())?;
    let bytes = into_bytes(reply).map_err(|fault| fault.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
