//! A stash's shards, as the mover asks for them.

use super::Stash;
use crate::{outbox::Raised, protocol::Fence};
use tokio::time::Instant;

impl Stash {
    /// Digest of the list of shards; `none` where the config names no Redis.
    pub fn shards_digest(&self) -> String {
        self.site.world.outbox.as_ref().map_or_else(|| "none".to_owned(), |outbox| outbox.map().digest().to_owned())
    }

    pub fn shard_name(&self, shard: usize) -> String {
        self.site
            .world
            .outbox
            .as_ref()
            .and_then(|outbox| outbox.shards().get(shard))
            .map(|s| s.name.clone())
            .unwrap_or_default()
    }

    /// `serve` or `hold`: what a read is told that only a shard which lost writes has a value for.
    pub fn after_loss(&self) -> &'static str {
        if self.site.settings.hold_doubtful { "hold" } else { "serve" }
    }

    /// Connects to every shard, in the background; those that are open stay as they are.
    pub fn open_shards(&self) {
        if let Some(outbox) = &self.site.world.outbox {
            outbox.shards().iter().for_each(|shard| shard.open());
        }
    }

    /// Redis is retired: no connection is held.
    pub fn close_shards(&self) {
        if let Some(outbox) = &self.site.world.outbox {
            outbox.shards().iter().for_each(|shard| shard.close());
            self.metrics.redis_is_up(false);
            self.shard_metrics.iter().for_each(|shard| shard.is_up(false));
        }
    }

    /// The fence on a shard; an error says why the shard cannot be asked.
    pub async fn fence_on(&self, shard: usize, until: Instant) -> Result<Option<Fence>, String> {
        let Some(outbox) = &self.site.world.outbox else { return Err("no Redis is configured for this stash".into()) };
        outbox.shards()[shard].wait_up(until).await;
        outbox.fence(shard, until).await.map_err(|fault| format!("shard {}: {fault}", self.shard_name(shard)))
    }

    /// `settled`: nothing of before this fence is left to arrive in Kask.
    pub async fn raise_on(&self, shard: usize, fence: &Fence, settled: bool, until: Instant) -> Result<Raised, String> {
        let Some(outbox) = &self.site.world.outbox else { return Err("no Redis is configured for this stash".into()) };
        let raised = outbox.raise(shard, fence, settled, until).await;
        raised.map_err(|fault| format!("shard {}: {fault}", self.shard_name(shard)))
    }
}
