//! Where the keys of a run come from: a walk over the shard, then its outbox; or a draw.

use super::run::Run;
use crate::{
    codec::key::Key,
    outbox::{Outbox, ShardFault},
    protocol::world::Direction,
    scan::{Place, Step, Walk, draw},
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

/// A shard that gives nothing for so long is given up; the others go on.
const SHARD_PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(250);
/// A page of the outbox must be there within this.
const OUTBOX_TIMEOUT: Duration = Duration::from_secs(2);
/// Names asked for in one draw.
const DRAW_NAMES: usize = 256;
/// A draw that gives so many names for each key that is wanted is over: nearly nothing fits, or there is hardly more.
const DRAWS_PER_KEY: u64 = 20;

/// Nobody takes the keys any more, or the shard is given up; the run knows.
struct Over;

/// Sends the keys of one shard, until there are no more or nobody takes them.
pub(super) async fn feed(run: Arc<Run>, outbox: Arc<Outbox>, shard: usize, keys: mpsc::Sender<Key>) {
    let feed = Feed { run: &run, outbox: &outbox, shard, keys };
    let fed = match run.to_draw(shard) {
        Some(wanted) => feed.drawn(wanted).await,
        None => feed.walked().await,
    };
    if fed.is_ok() {
        run.live.shard_done(shard);
    }
}

struct Feed<'a> {
    run: &'a Run,
    outbox: &'a Arc<Outbox>,
    shard: usize,
    keys: mpsc::Sender<Key>,
}

impl Feed<'_> {
    async fn walked(&self) -> Result<(), Over> {
        let mut walk = Walk::new(self.outbox.clone(), self.shard, Place::Start, self.run.only.clone());
        let mut patience = Patience::default();
        loop {
            match walk.next().await {
                Ok(Step::Page(page)) => {
                    patience.answered();
                    self.run.walked(self.shard, page.counts);
                    self.send(page.keys).await?;
                }
                Ok(Step::BegunAgain) => self.run.live.walks_again(self.shard),
                Ok(Step::End) => break,
                Err(fault) => patience.again(self, &fault).await?,
            }
        }
        // A key that was deleted has no value to be found by; as long as Kask may still hold it, it has an intent.
        for direction in [Direction::ToKask, Direction::ToRedis] {
            self.under_way(direction).await?;
        }
        Ok(())
    }

    async fn under_way(&self, direction: Direction) -> Result<(), Over> {
        let (mut cursor, mut patience) = (0, Patience::default());
        loop {
            match self.outbox.open_keys(self.shard, direction, cursor, Instant::now() + OUTBOX_TIMEOUT).await {
                Ok((next, mut keys)) => {
                    patience.answered();
                    keys.retain(|key| self.run.only.as_ref().is_none_or(|only| only.fits(key.as_bytes())));
                    self.send(keys).await?;
                    if next == 0 {
                        return Ok(());
                    }
                    cursor = next;
                }
                Err(fault) => patience.again(self, &fault).await?,
            }
        }
    }

    async fn drawn(&self, wanted: u64) -> Result<(), Over> {
        let (mut drawn, mut names, mut patience) = (HashSet::new(), 0, Patience::default());
        while (drawn.len() as u64) < wanted && names < wanted.saturating_mul(DRAWS_PER_KEY).saturating_add(1_000) {
            match draw(self.outbox, self.shard, self.run.only.as_ref(), DRAW_NAMES).await {
                Ok(mut page) => {
                    patience.answered();
                    self.run.walked(self.shard, page.counts);
                    names += DRAW_NAMES as u64;
                    let full = |drawn: &HashSet<u64>| drawn.len() as u64 >= wanted;
                    page.keys.retain(|key| !full(&drawn) && drawn.insert(self.run.short_hash(key)));
                    self.send(page.keys).await?;
                }
                Err(fault) => patience.again(self, &fault).await?,
            }
        }
        Ok(())
    }

    async fn send(&self, keys: Vec<Key>) -> Result<(), Over> {
        for key in keys {
            self.keys.send(key).await.map_err(|_| Over)?;
        }
        Ok(())
    }
}

/// How long a shard has given nothing.
#[derive(Default)]
struct Patience(Option<Instant>);

impl Patience {
    fn answered(&mut self) {
        self.0 = None;
    }

    /// Waits before the next try, or gives the shard up.
    async fn again(&mut self, feed: &Feed<'_>, fault: &ShardFault) -> Result<(), Over> {
        feed.run.live.shard_trouble(feed.shard, &fault.to_string());
        let since = *self.0.get_or_insert_with(Instant::now);
        if since.elapsed() >= SHARD_PATIENCE {
            let name = feed.run.stash.shard_name(feed.shard);
            feed.run.lacks(format!("shard {name} gave no more keys: {fault}"));
            return Err(Over);
        }
        tokio::select! {
            () = feed.run.stop.cancelled() => Err(Over),
            () = sleep(AGAIN) => Ok(()),
        }
    }
}
