//! What an operator does about a damaged intent.

use super::{
    Outbox,
    reply::{Reply, token_text},
    scripts,
    shard_state::{Damaged, ShardFault, parse_damaged},
};
use crate::{
    protocol::world::Token,
    tier::redis::{Script, value::as_bytes},
};
use tokio::time::Instant;

/// What is to become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again, as if for the first time.
    Retry,
    /// It is forgotten: the key's tiers stay as they are, and may differ for good.
    Drop,
}

impl Outbox {
    /// Whether there was such an intent, on any shard. Its key is known to the shard; an operator needs only the id.
    ///
    /// # Errors
    /// No shard that answers has it, and one does not answer.
    pub async fn judge(&self, token: Token, verdict: Verdict, until: Instant) -> Result<bool, ShardFault> {
        let mut unheard = None;
        for shard in 0..self.shards().len() {
            // One that hangs leaves the others their part of the time.
            let left = until.saturating_duration_since(Instant::now());
            let part = Instant::now() + left / u32::try_from(self.shards().len() - shard).unwrap_or(u32::MAX);
            let damaged = match self.damaged_one(shard, token, part).await {
                Ok(Some(damaged)) => damaged,
                Ok(None) => continue,
                Err(fault) => {
                    unheard.get_or_insert(fault);
                    continue;
                }
            };
            let script: &'static Script = match verdict {
                Verdict::Retry => &scripts::RETRY,
                Verdict::Drop => &scripts::DROP,
            };
            let name = token_text(token);
            let args: [&[u8]; 2] = [damaged.key.as_bytes(), name.as_bytes()];
            let reply = Reply::new(self.run(script, &damaged.key, &args, until).await?)?;
            return Ok(reply.text(0)? == "yes");
        }
        unheard.map_or(Ok(false), Err)
    }

    async fn damaged_one(&self, shard: usize, token: Token, until: Instant) -> Result<Option<Damaged>, ShardFault> {
        let name = token_text(token);
        let mut get = redis::cmd("HGET");
        get.arg(self.names.damaged.as_slice()).arg(&name);
        match self.shards()[shard].command(get, until).await? {
            redis::Value::Nil => Ok(None),
            told => Ok(parse_damaged(name.as_bytes(), as_bytes(&told)?)),
        }
    }
}
