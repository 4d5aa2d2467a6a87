//! The keys that have an intent, page by page.

use super::{
    Outbox,
    reply::parse_member,
    shard_state::{ShardFault, own_key},
};
use crate::{
    codec::key::Key,
    protocol::world::Direction,
    tier::redis::value::{OddReply, as_array, as_bytes, element},
};
use tokio::time::Instant;

/// Intents asked of one step.
const STEP: usize = 250;

impl Outbox {
    /// A page of the keys with an intent of this direction, damaged ones as well, and the cursor of the next; 0 begins and ends. A key that
    /// has its intent all the time is given, perhaps more than once.
    pub async fn open_keys(
        &self,
        shard: usize,
        direction: Direction,
        cursor: u64,
        until: Instant,
    ) -> Result<(u64, Vec<Key>), ShardFault> {
        let name = match direction {
            Direction::ToKask => &self.names.to_kask,
            Direction::ToRedis => &self.names.to_redis,
        };
        let mut scan = redis::cmd("ZSCAN");
        scan.arg(name.as_slice()).arg(cursor).arg("COUNT").arg(STEP);
        let reply = self.shards()[shard].command(scan, until).await?;
        let items = as_array(&reply)?;
        let next = std::str::from_utf8(as_bytes(element(items, 0)?)?).ok().and_then(|text| text.parse().ok());
        let next = next.ok_or_else(|| OddReply::new("a cursor", "another text"))?;
        let fields = as_array(element(items, 1)?)?.iter().map(as_bytes).collect::<Result<Vec<_>, _>>()?;
        let members = fields.chunks_exact(2).filter_map(|pair| parse_member(pair[0]));
        Ok((next, members.map(|(_, key)| own_key(key)).collect()))
    }
}
