//! Keys drawn at random, for samples.

use super::{Glob, PAGE_TIMEOUT, Page, done};
use crate::{
    outbox::{Outbox, ShardFault},
    tier::{
        redis::{Shard, value::into_bytes},
        shards::ShardMap,
    },
};
use redis::Value;
use tokio::time::Instant;

/// Asks one shard for `names` names, drawn by Redis itself; the same may be drawn again. What is no key of this stash, or does not fit
/// `only`, is counted and left out, as in a walk. An empty shard gives an empty page.
///
/// # Errors
/// Why Redis gave none.
pub async fn draw(outbox: &Outbox, shard: usize, only: Option<&Glob>, names: usize) -> Result<Page, ShardFault> {
    match outbox.shards().get(shard) {
        Some(connection) => draw_from(connection, outbox.map(), shard, only, names).await,
        None => Ok(Page::default()),
    }
}

/// The same, of a server that no outbox is on. `shard`: its place in `map`.
///
/// # Errors
/// Why Redis gave none.
pub async fn draw_from(
    connection: &Shard,
    map: &ShardMap,
    shard: usize,
    only: Option<&Glob>,
    names: usize,
) -> Result<Page, ShardFault> {
    let mut page = Page::default();
    let mut ask = redis::pipe();
    (0..names).for_each(|_| {
        ask.cmd("RANDOMKEY");
    });
    for answer in connection.pipeline(ask, Instant::now() + PAGE_TIMEOUT).await? {
        let name = match done(answer)? {
            Value::Nil => continue,
            name => into_bytes(name)?,
        };
        page.keys.extend(page.counts.key_of(name, map, shard, only));
    }
    Ok(page)
}
