//! A read: which tier answers, and when Redis is asked first.

use super::{
    Belief, Safeguard, Site, World,
    pending::Pending,
    repair,
    world::{Digest, Direction, Event, KaskGot, Millis, Newest, Record, Refusal, Seen, Stored, Taken},
};
use crate::{codec::key::Key, phase::Phase};
use bytes::Bytes;
use std::sync::Arc;

/// Who answered a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedBy {
    Kask,
    Redis,
}

/// What the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadAnswer {
    Hit {
        body: Bytes,
        by: ServedBy,
    },
    Missing,
    /// A tier that is needed cannot answer: nobody knows whether there is a value.
    Unavailable(String),
}

/// What one try came to.
enum Try {
    Answer(ReadAnswer),
    /// The phase has changed under the read.
    StartOver,
    /// The shard has no fence that this decant can follow. It is about to be raised, or nobody is there to raise it.
    Unconfirmed,
}

/// How often a read starts over before it gives up: every start-over is a move that was learned of.
const START_OVERS_MAX: usize = 8;
/// How long a read waits, in milliseconds, for a fence that is about to be raised: several looks, and far less than its budget.
const UNCONFIRMED_WAIT: Millis = 500;

/// Reads a key. `latest` asks the sequencer first. An answer that comes after the budget is none: what a read that overslept has seen can
/// be from before several moves, and Kask may have been emptied and filled again meanwhile.
pub async fn read<W: World>(site: &Arc<Site<W>>, key: &Key, latest: bool, began: Millis) -> ReadAnswer {
    let until = began + site.settings.budget;
    let confirmed_by = until.min(began + UNCONFIRMED_WAIT);
    let mut start_overs = 0;
    while start_overs < START_OVERS_MAX {
        // Pending first: a look that shows a newer fence is learned of before it counts as fresh, so the belief read after it is as new.
        let known = site.pending_of(key);
        let belief = site.belief();
        let reading = Reading { site, key, belief: &belief, known, until };
        match reading.once(latest).await {
            Try::Answer(_) if site.world.now() > until => break,
            Try::Answer(answer) => return answer,
            Try::StartOver => start_overs += 1,
            Try::Unconfirmed if site.world.now() + site.settings.transit_poll < confirmed_by => {
                site.world.sleep(site.settings.transit_poll).await;
            }
            Try::Unconfirmed => {
                return ReadAnswer::Unavailable("the phase in force could not be confirmed on the shard".into());
            }
        }
    }
    ReadAnswer::Unavailable("the read could not be finished in its time under one phase".into())
}

struct Reading<'a, W> {
    site: &'a Arc<Site<W>>,
    key: &'a Key,
    /// Read once: the whole try follows one phase.
    belief: &'a Belief,
    /// Whether the key was pending just before the belief was read.
    known: Pending,
    until: Millis,
}

impl<W: World> Reading<'_, W> {
    /// Everything but the straight way through Kask is boxed: those futures are large, and most reads never need them.
    async fn once(&self, latest: bool) -> Try {
        match self.belief.phase_of(self.key) {
            Phase::RedisOnly | Phase::DualWrite => Box::pin(self.redis_store()).await,
            Phase::KaskFirst => match self.known {
                Pending::No if !latest => self.kask_then_redis().await,
                known => Box::pin(self.redis_asked_first(known, latest)).await,
            },
            Phase::RedisStandby => match self.known {
                Pending::No => self.kask_stands().await,
                known => Box::pin(self.redis_asked_first(known, false)).await,
            },
            Phase::KaskOnly => self.kask_stands().await,
        }
    }

    /// Redis is the store.
    async fn redis_store(&self) -> Try {
        match self.redis_read().await {
            Ok(Seen { record: Some(Record { direction: Direction::ToRedis, .. }), .. }) => self.kask_stands().await,
            Ok(seen) => Try::Answer(self.stored(seen.value)),
            Err(refusal) => self.refused(refusal),
        }
    }

    /// Kask's answer, whatever it is.
    async fn kask_stands(&self) -> Try {
        Try::Answer(match self.site.world.kask_get(self.key, self.until).await {
            KaskGot::Hit(body) => hit(body, ServedBy::Kask),
            KaskGot::Miss => ReadAnswer::Missing,
            KaskGot::Error(why) => ReadAnswer::Unavailable(why),
        })
    }

    /// The tiers may differ for this key, and then the record decides; or the client asks for what the sequencer, Redis, has.
    async fn redis_asked_first(&self, known: Pending, latest: bool) -> Try {
        let seen = match self.redis_read().await {
            Ok(seen) => seen,
            Err(refusal @ Refusal::Fence(_)) => return self.refused(refusal),
            // Nobody but this decant can have left `redis-standby`, and it has not: Kask is the sequencer.
            Err(_) if self.belief.may_be_alone(self.key) => return self.kask_stands().await,
            Err(refusal) if matches!(known, Pending::Yes | Pending::Among) => return self.refused(refusal),
            // Nobody knows whether the key is pending, and Redis cannot tell: what it was last known as counts. A decant that has never
            // looked knows no key as pending.
            Err(_) => return self.kask_as_always().await,
        };
        let checked = self.site.rules.holds(Safeguard::CheckedRead);
        match seen.record {
            Some(Record { direction: Direction::ToRedis, .. }) if checked => self.kask_stands().await,
            Some(Record { newest, .. }) => match (seen.value, newest) {
                (Stored::Absent, Newest::Delete) => Try::Answer(ReadAnswer::Missing),
                (Stored::Absent, Newest::Set(digest)) => self.kask_by_digest(digest).await,
                (Stored::Absent, Newest::Old) => self.kask_as_always().await,
                (value, _) => Try::Answer(self.stored(value)),
            },
            // What the sequencer has counts first, unless it came back without its latest writes.
            None if (latest || !checked) && seen.value != Stored::Absent && !seen.doubtful => {
                Try::Answer(self.stored(seen.value))
            }
            None => self.kask_as_always().await,
        }
    }

    async fn kask_as_always(&self) -> Try {
        if self.belief.phase_of(self.key) == Phase::KaskFirst {
            self.kask_then_redis().await
        } else {
            self.kask_stands().await
        }
    }

    /// Redis evicted the newest value: Kask's counts only if it is that one.
    async fn kask_by_digest(&self, digest: Digest) -> Try {
        if !self.site.rules.holds(Safeguard::EvictDigest) {
            return self.kask_as_always().await;
        }
        Try::Answer(match self.site.world.kask_get(self.key, self.until).await {
            KaskGot::Hit(body) if Digest::of(&body) == digest => hit(body, ServedBy::Kask),
            KaskGot::Hit(_) | KaskGot::Miss => ReadAnswer::Missing,
            KaskGot::Error(why) => ReadAnswer::Unavailable(why),
        })
    }

    async fn kask_then_redis(&self) -> Try {
        match self.site.world.kask_get(self.key, self.until).await {
            KaskGot::Hit(body) => Try::Answer(hit(body, ServedBy::Kask)),
            KaskGot::Miss => {
                let answered = Box::pin(self.fall_back()).await;
                if matches!(answered, Try::Answer(ReadAnswer::Hit { by: ServedBy::Redis, .. })) {
                    self.site.world.note(Event::FellBack);
                }
                answered
            }
            KaskGot::Error(why) => Box::pin(self.kask_failed(why)).await,
        }
    }

    /// Kask misses: Redis may still have it. What it has is answered at once and copied in the background.
    async fn fall_back(&self) -> Try {
        let Some(place) = repair::Place::take(self.site, self.key) else {
            return match self.redis_read().await {
                Ok(Seen { record: Some(Record { direction: Direction::ToRedis, .. }), .. }) => self.kask_stands().await,
                Ok(seen) => Try::Answer(self.fallen_back(seen.value, seen.doubtful)),
                Err(refusal) => self.refused(refusal),
            };
        };
        let asked_at = self.site.world.now();
        let intent = self.site.world.token();
        match self.site.world.take(self.key, &self.belief.text, intent, self.until).await {
            Ok(Taken::Nothing) => Try::Answer(ReadAnswer::Missing),
            Ok(Taken::Shown { value, doubtful }) => Try::Answer(self.fallen_back(value, doubtful)),
            Ok(Taken::Odd(reason)) => Try::Answer(self.stored(Stored::Untranscodable(reason))),
            Ok(Taken::Value { value, generation }) => {
                place.repair(intent, generation, &value, asked_at);
                Try::Answer(self.stored(value))
            }
            Err(Refusal::Transit) => self.kask_stands().await,
            Err(Refusal::NotDone(_)) => match self.redis_read().await {
                // Redis is full: it can answer, but takes no intent; this read repairs nothing.
                Ok(seen) => Try::Answer(self.fallen_back(seen.value, seen.doubtful)),
                Err(refusal) => self.refused(refusal),
            },
            Err(refusal) => self.refused(refusal),
        }
    }

    /// An error is not a miss: Redis may know; if it does not, nobody does. No repair after an error.
    async fn kask_failed(&self, why: String) -> Try {
        match self.redis_read().await {
            Ok(Seen { record: Some(Record { direction: Direction::ToRedis, .. }), .. }) => {
                Try::Answer(ReadAnswer::Unavailable(why))
            }
            Ok(Seen { value: value @ Stored::Body(_), doubtful, .. }) => match self.fallen_back(value, doubtful) {
                ReadAnswer::Missing => Try::Answer(ReadAnswer::Unavailable(why)),
                answer => Try::Answer(answer),
            },
            Ok(Seen { record: Some(Record { newest: Newest::Delete, .. }), .. }) => Try::Answer(ReadAnswer::Missing),
            Ok(_) => Try::Answer(ReadAnswer::Unavailable(why)),
            Err(refusal) => self.refused(refusal),
        }
    }

    async fn redis_read(&self) -> Result<Seen, Refusal> {
        self.site.world.read(self.key, &self.belief.text, self.until).await
    }

    /// What Redis has and Kask has not. `doubtful`: it may be older than what Kask had, or deleted since; a setting says whether it is told.
    fn fallen_back(&self, value: Stored, doubtful: bool) -> ReadAnswer {
        if doubtful && value != Stored::Absent {
            let held = self.site.settings.hold_doubtful;
            self.site.world.note(Event::Doubtful { held });
            if held {
                return ReadAnswer::Missing;
            }
        }
        self.stored(value)
    }

    fn stored(&self, value: Stored) -> ReadAnswer {
        match value {
            Stored::Body(body) => ReadAnswer::Hit { body, by: ServedBy::Redis },
            Stored::Absent => ReadAnswer::Missing,
            Stored::Untranscodable(reason) => {
                self.site.world.note(Event::Untranscodable(Direction::ToKask, reason));
                ReadAnswer::Missing
            }
        }
    }

    fn refused(&self, refusal: Refusal) -> Try {
        match refusal {
            Refusal::Fence(seen) if self.site.learn(seen.as_ref()) => Try::StartOver,
            Refusal::Fence(_) => Try::Unconfirmed,
            Refusal::Transit => unavailable("the key is in transit between the tiers"),
            Refusal::NotDone(why) | Refusal::Unknown(why) => unavailable(why),
        }
    }
}

fn hit(body: Bytes, by: ServedBy) -> ReadAnswer {
    ReadAnswer::Hit { body, by }
}

fn unavailable(why: impl Into<String>) -> Try {
    Try::Answer(ReadAnswer::Unavailable(why.into()))
}
