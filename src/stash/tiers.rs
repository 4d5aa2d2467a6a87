//! The protocol's world, for real: the outbox on Redis, Kask over HTTP, the Tokio clock.

use super::{Alone, LoneWrite, StashMetrics, current_forward, with_forward};
use crate::{
    codec::key::Key,
    http::Room,
    outbox::Outbox,
    protocol::{
        World,
        world::{
            Applied, Background, Claimed, Content, Event, KaskGot, KaskPut, Millis, Owned, Refusal, Seen, Settled,
            Stored, Taken, Token, Unheard,
        },
    },
    tier::{
        breaker::Asker,
        kask::{KaskRead, KaskTier, KaskWrite},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// Both tiers of one stash.
pub struct Tiers {
    /// `None` where the config names no Redis: only `kask-only` is possible then.
    pub outbox: Option<Arc<Outbox>>,
    pub kask: Arc<KaskTier>,
    /// Writes to Kask alone.
    pub alone: Arc<Alone>,
    pub metrics: Arc<StashMetrics>,
    pub tasks: TaskTracker,
    /// For large values read from Redis.
    pub room: Room,
    /// The zero of [`World::now`].
    pub started: Instant,
    /// Bound of one step on Redis.
    pub redis_timeout: Duration,
}

impl Tiers {
    fn instant(&self, at: Millis) -> Instant {
        self.started + Duration::from_millis(at)
    }

    fn redis_until(&self, until: Millis) -> Instant {
        self.instant(until).min(Instant::now() + self.redis_timeout)
    }

    fn outbox(&self) -> Result<&Outbox, Unheard> {
        self.outbox.as_deref().ok_or_else(|| Unheard("no Redis is configured for this stash".into()))
    }

    /// A value that was read, and the room that it takes. What was begun on Redis for a value that finds no room is left to the reaper.
    fn held(&self, value: Stored) -> Result<Stored, Refusal> {
        Ok(match value {
            Stored::Body(body) => {
                Stored::Body(self.room.hold(body).map_err(|full| Refusal::Unknown(full.to_string()))?)
            }
            other => other,
        })
    }

    fn begin_on(&self) -> Result<&Outbox, Refusal> {
        self.outbox().map_err(|Unheard(why)| Refusal::NotDone(why))
    }
}

impl World for Tiers {
    type Lone = LoneWrite;

    fn now(&self) -> Millis {
        self.started.elapsed().as_millis() as Millis
    }

    async fn sleep(&self, length: Millis) {
        tokio::time::sleep(Duration::from_millis(length)).await;
    }

    fn spawn(&self, work: Background) {
        self.tasks.spawn(with_forward(current_forward(), work));
    }

    fn token(&self) -> Token {
        Token(fastrand::u128(..))
    }

    fn shard_of(&self, key: &Key) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.map().shard_of(key))
    }

    async fn apply(
        &self,
        key: &Key,
        fence: &str,
        content: &Content,
        intent: Option<Token>,
        only_if_absent: bool,
        until: Millis,
    ) -> Result<Applied, Refusal> {
        self.begin_on()?.apply(key, fence, content, intent, only_if_absent, self.redis_until(until)).await
    }

    async fn read(&self, key: &Key, fence: &str, until: Millis) -> Result<Seen, Refusal> {
        let seen = self.begin_on()?.read(key, fence, self.redis_until(until)).await?;
        Ok(Seen { value: self.held(seen.value)?, ..seen })
    }

    async fn take(&self, key: &Key, fence: &str, intent: Token, until: Millis) -> Result<Taken, Refusal> {
        Ok(match self.begin_on()?.take(key, fence, intent, self.redis_until(until)).await? {
            Taken::Value { value, generation } => Taken::Value { value: self.held(value)?, generation },
            Taken::Shown { value, doubtful } => Taken::Shown { value: self.held(value)?, doubtful },
            nothing => nothing,
        })
    }

    async fn settle(&self, key: &Key, intent: Token, generation: u64, until: Millis) -> Result<Settled, Unheard> {
        self.outbox()?.settle(key, intent, generation, self.redis_until(until)).await
    }

    async fn read_many(&self, keys: &[Key], fence: &str, until: Millis) -> Vec<Result<Seen, Refusal>> {
        let Some(first) = keys.first() else { return Vec::new() };
        match self.begin_on() {
            Ok(outbox) => outbox.read_many(self.shard_of(first), keys, fence, self.redis_until(until)).await,
            Err(refusal) => vec![Err(refusal); keys.len()],
        }
    }

    async fn take_many(&self, keys: &[(Key, Token)], fence: &str, until: Millis) -> Vec<Result<Taken, Refusal>> {
        let Some((first, _)) = keys.first() else { return Vec::new() };
        match self.begin_on() {
            Ok(outbox) => outbox.take_many(self.shard_of(first), keys, fence, self.redis_until(until)).await,
            Err(refusal) => vec![Err(refusal); keys.len()],
        }
    }

    async fn settle_many(&self, copies: &[(Key, Token, u64)], until: Millis) -> Vec<Result<Settled, Unheard>> {
        let Some((first, ..)) = copies.first() else { return Vec::new() };
        match self.outbox() {
            Ok(outbox) => outbox.settle_many(self.shard_of(first), copies, self.redis_until(until)).await,
            Err(unheard) => vec![Err(unheard); copies.len()],
        }
    }

    async fn mark(&self, key: &Key, fence: &str, intent: Token, until: Millis) -> Result<(), Refusal> {
        self.begin_on()?.mark(key, fence, intent, self.redis_until(until)).await
    }

    async fn mirror(&self, key: &Key, intent: Token, content: &Content, until: Millis) -> Result<Owned, Unheard> {
        self.outbox()?.mirror(key, intent, content, self.redis_until(until)).await
    }

    async fn release(&self, key: &Key, intent: Token, until: Millis) -> Result<Owned, Unheard> {
        self.outbox()?.release(key, intent, self.redis_until(until)).await
    }

    async fn claim(&self, key: &Key, expired: &[Token], intent: Token, until: Millis) -> Result<Claimed, Unheard> {
        self.outbox()?.claim(key, expired, intent, self.redis_until(until)).await
    }

    async fn give_up(&self, key: &Key, intent: Token, reason: &str, until: Millis) -> Result<(), Unheard> {
        self.outbox()?.give_up(key, intent, reason, self.redis_until(until)).await
    }

    async fn kask_get(&self, key: &Key, until: Millis) -> KaskGot {
        let got = self.kask.get(key, self.instant(until), &current_forward()).await;
        self.metrics.kask_answered(!matches!(got, KaskRead::Error(_)));
        match got {
            KaskRead::Hit(body) => KaskGot::Hit(body),
            KaskRead::Miss => KaskGot::Miss,
            KaskRead::Error(error) => KaskGot::Error(error.to_string()),
        }
    }

    fn kask_is_away(&self) -> bool {
        self.kask.breaker().refuses(Asker::Reluctant)
    }

    fn is_busy(&self) -> bool {
        self.kask.is_busy()
    }

    async fn kask_put(&self, key: &Key, content: &Content, until: Millis) -> KaskPut {
        let (deadline, forward) = (self.instant(until), current_forward());
        let written = match content {
            Content::Body(body) => self.kask.put(key, body.clone(), deadline, &forward).await,
            Content::Nothing => self.kask.delete(key, deadline, &forward).await,
        };
        self.metrics.kask_answered(matches!(written, KaskWrite::Done | KaskWrite::Refused(_)));
        match written {
            KaskWrite::Done => KaskPut::Done,
            KaskWrite::Refused(error) => KaskPut::Refused(error.to_string()),
            KaskWrite::NotSent(error) => KaskPut::NotSent(error.to_string()),
            KaskWrite::Unknown(error) => KaskPut::Unknown(error.to_string()),
        }
    }

    async fn note_alone(&self, key: &Key, version: u64) -> Result<LoneWrite, Unheard> {
        self.alone.note(key, version).await
    }

    fn note(&self, event: Event) {
        self.metrics.event(event);
    }
}
