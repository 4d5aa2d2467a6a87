//! What the protocol needs of the outside: two tiers, a clock, a place for work that goes on in the background.

use super::Fence;
use crate::codec::key::Key;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::{fmt, future::Future, pin::Pin};

/// Milliseconds on a clock that never goes back; its zero means nothing.
pub type Millis = u64;

/// Work handed to [`World::spawn`].
pub type Background = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The newest content of a key, as Kask is to hold it.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// The body that RESTBagOStuff wrote or would have written.
    Body(Bytes),
    /// Deleted.
    Nothing,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Body(body) => write!(f, "Body({} bytes)", body.len()),
            Content::Nothing => f.write_str("Nothing"),
        }
    }
}

/// SHA-256 of a Kask body: all that the record keeps of a set, so that an evicted value can be recognised in Kask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(body: &[u8]) -> Digest {
        Digest(Sha256::digest(body).into())
    }
}

/// The owner token of an intent: random, unique, 16 bytes as 32 hex digits. A claim replaces it; who does not hold the current one can neither settle nor mirror.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Token(pub u128);

/// Which tier a key's intents copy to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    ToKask,
    ToRedis,
}

/// The kind of the newest write that a record knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Newest {
    /// A set, with the digest of its Kask body.
    Set(Digest),
    Delete,
    /// Made by TAKE or MARK: nothing newer than what the sequencer holds exists.
    Old,
}

/// What all intents of a key share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub direction: Direction,
    pub newest: Newest,
}

/// Redis's value, told as Kask's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stored {
    Body(Bytes),
    Absent,
    /// There is a value that Kask's side cannot carry; the reason is a metric label.
    Untranscodable(&'static str),
}

/// Why a script that was to begin something, or to read, did not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The shard's fence is not what this decant believes; this is it (none: the shard has lost it).
    Fence(Option<Fence>),
    /// The key has an open intent of another direction.
    Transit,
    /// Nothing was done: Redis refused (full, read-only), or could not be reached.
    NotDone(String),
    /// The request was sent and no answer came: it may have been done.
    Unknown(String),
}

/// A script that finishes something could not be heard: the reaper will come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unheard(pub String);

/// APPLY's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// `others`: the key had other intents, so another copy may be under way.
    Done { generation: u64, others: bool },
    /// Only with `only_if_absent`: the key has a value, nothing was done.
    Exists,
}

/// READ's answer: record and value of one instant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub record: Option<Record>,
    pub value: Stored,
    /// The shard lost writes, and nothing tells that this value is newer than that: Kask's, where it has one, is.
    pub doubtful: bool,
}

/// TAKE's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// An intent was added.
    Value { value: Stored, generation: u64 },
    /// No value (or a remembered delete): no intent was added.
    Nothing,
    /// A value that is not to be copied now, for it may be older than what Kask held: no intent was added. `doubtful` as of [`Seen`].
    Shown { value: Stored, doubtful: bool },
    /// A value of a type that no RedisBagOStuff writes: no intent was added.
    Odd(&'static str),
}

/// What Redis says of the key, for a copier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Held {
    Is(Content),
    /// The record says `set`, and the value is gone: evicted or expired.
    Evicted(Digest),
    /// The record says `old`, and the value is gone: nothing is known, nothing is to be copied.
    Unknown,
    /// There is a value that cannot be copied.
    Untranscodable(&'static str),
}

/// SETTLE's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settled {
    /// The intent is gone; `alone`: it was the key's last.
    Gone { alone: bool },
    /// Another has claimed it.
    Lost,
    /// The server has only just come, and may have forgotten intents: this one stays for the reaper, who copies once more.
    Kept,
    /// A newer write exists: copy this, then settle with its generation.
    Newer { generation: u64, held: Held },
}

/// Whether the caller still owned its intent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owned {
    Yes,
    Lost,
}

/// CLAIM's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// Settled or claimed by another meanwhile.
    Nothing,
    ToKask {
        generation: u64,
        held: Held,
    },
    ToRedis,
}

/// Kask's answer to a GET.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KaskGot {
    Hit(Bytes),
    Miss,
    /// Not a miss: nobody knows.
    Error(String),
}

/// Kask's answer to a POST or DELETE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KaskPut {
    Done,
    /// A definite 4xx: nothing was stored, and asking again will not change that.
    Refused(String),
    /// Surely never applied.
    NotSent(String),
    /// Applied, or not, or later.
    Unknown(String),
}

/// Redis and Kask as the protocol sees them. Each Redis call is one atomic script on the key's own shard. `until` is when the
/// caller gives up; an implementation may give up earlier.
pub trait World: Send + Sync + 'static {
    /// A write to Kask alone is under way as long as this lives.
    type Lone: Send;

    fn now(&self) -> Millis;
    fn sleep(&self, length: Millis) -> impl Future<Output = ()> + Send;
    fn spawn(&self, work: Background);
    fn token(&self) -> Token;
    /// The shard that holds the key, its intents and its record.
    fn shard_of(&self, key: &Key) -> usize;

    /// Sets (or deletes) the value, writes the record and adds the intent. `intent: None` (only `redis-only`): no record, no intent.
    fn apply(
        &self,
        key: &Key,
        fence: &str,
        content: &Content,
        intent: Option<Token>,
        only_if_absent: bool,
        until: Millis,
    ) -> impl Future<Output = Result<Applied, Refusal>> + Send;
    fn read(&self, key: &Key, fence: &str, until: Millis) -> impl Future<Output = Result<Seen, Refusal>> + Send;
    fn take(
        &self,
        key: &Key,
        fence: &str,
        intent: Token,
        until: Millis,
    ) -> impl Future<Output = Result<Taken, Refusal>> + Send;
    fn settle(
        &self,
        key: &Key,
        intent: Token,
        generation: u64,
        until: Millis,
    ) -> impl Future<Output = Result<Settled, Unheard>> + Send;
    /// READ of several keys of one shard, in their order.
    fn read_many(
        &self,
        keys: &[Key],
        fence: &str,
        until: Millis,
    ) -> impl Future<Output = Vec<Result<Seen, Refusal>>> + Send;
    /// TAKE of several keys of one shard, in their order.
    fn take_many(
        &self,
        keys: &[(Key, Token)],
        fence: &str,
        until: Millis,
    ) -> impl Future<Output = Vec<Result<Taken, Refusal>>> + Send;
    /// SETTLE of several keys of one shard, in their order; with the generation that was copied.
    fn settle_many(
        &self,
        copies: &[(Key, Token, u64)],
        until: Millis,
    ) -> impl Future<Output = Vec<Result<Settled, Unheard>>> + Send;
    fn mark(
        &self,
        key: &Key,
        fence: &str,
        intent: Token,
        until: Millis,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;
    fn mirror(
        &self,
        key: &Key,
        intent: Token,
        content: &Content,
        until: Millis,
    ) -> impl Future<Output = Result<Owned, Unheard>> + Send;
    /// Removes a mirror's intent.
    fn release(&self, key: &Key, intent: Token, until: Millis) -> impl Future<Output = Result<Owned, Unheard>> + Send;
    /// Replaces expired intents of the key by one of the caller's.
    fn claim(
        &self,
        key: &Key,
        expired: &[Token],
        intent: Token,
        until: Millis,
    ) -> impl Future<Output = Result<Claimed, Unheard>> + Send;
    /// Counts a try that will not do better next time; after a few the intent is damaged.
    fn give_up(
        &self,
        key: &Key,
        intent: Token,
        reason: &str,
        until: Millis,
    ) -> impl Future<Output = Result<(), Unheard>> + Send;

    fn kask_get(&self, key: &Key, until: Millis) -> impl Future<Output = KaskGot> + Send;
    /// Kask has been found away: a write would be refused unsent. Only a hint, which says nothing of what was sent before.
    fn kask_is_away(&self) -> bool;
    /// Clients keep Kask busy: what can wait, or be left out, should.
    fn is_busy(&self) -> bool;
    /// Sent when first polled: nothing may come between a deadline check and this call.
    fn kask_put(&self, key: &Key, content: &Content, until: Millis) -> impl Future<Output = KaskPut> + Send;

    /// Before a write to Kask alone: makes "this mirror is unclean" durable and notes the key. Refused: nothing may be written.
    fn note_alone(&self, key: &Key, version: u64) -> impl Future<Output = Result<Self::Lone, Unheard>> + Send;

    /// Tells the metrics.
    fn note(&self, event: Event);
}

/// What metrics and logs learn of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An intent was removed, by whom.
    Settled(By),
    /// A write waited for a key in transit (told once a write).
    Waited,
    /// Kask missed a read, and Redis answered it.
    FellBack,
    /// A read-repair ended.
    Repair(&'static str),
    /// A value could not cross, in which direction and why.
    Untranscodable(Direction, &'static str),
    /// A mirror did not reach Redis at first; the reaper heals it.
    MirrorFailed,
    /// A fence was missing, older or another's.
    FenceUnusable,
    /// A read fell back on a value of a Redis that lost writes; `held`: it was answered as a miss.
    Doubtful { held: bool },
}

/// Who copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    Writer,
    Repair,
    Backfill,
    Reaper,
}

impl By {
    pub fn name(self) -> &'static str {
        match self {
            By::Writer => "writer",
            By::Repair => "repair",
            By::Backfill => "backfill",
            By::Reaper => "reaper",
        }
    }
}
