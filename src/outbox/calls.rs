//! One function a script, in the protocol's words.

use super::{
    Names,
    reply::{Reply, newest_text, odd, odd_unheard, refused, token_text, unheard},
    scripts,
    witness::{Known, Witness},
};
use crate::{
    codec::{key::Key, transcode::Transcoder},
    protocol::world::{Applied, Claimed, Content, Owned, Refusal, Seen, Settled, Stored, Taken, Token, Unheard},
    tier::{
        redis::{RedisFailure, Script, Shard, Told, value::OddReply},
        shards::ShardMap,
    },
};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};
use tokio::{sync::Notify, time::Instant};

/// Lengths and counts of one stash's outbox.
#[derive(Clone, Debug)]
pub struct OutboxSettings {
    /// TTL of what decant writes to Redis, in seconds; 0: none.
    pub ttl_s: u64,
    pub lease_ms: u64,
    /// A definite refusal counts as a try; after so many the intent is damaged.
    pub tries_max: u32,
    /// A look lists at most so many intents.
    pub look_max: usize,
}

/// The outbox of one stash, on all its shards.
pub struct Outbox {
    pub(super) shards: Vec<Arc<Shard>>,
    pub(super) map: ShardMap,
    pub(super) names: Names,
    pub(super) transcoder: Arc<Transcoder>,
    pub(super) settings: OutboxSettings,
    /// One for each shard.
    pub(super) witnesses: Vec<Arc<Witness>>,
    news: Arc<Notify>,
}

/// The longest reason kept with a damaged intent, in characters.
const REASON_CHARS_MAX: usize = 200;

impl Outbox {
    pub fn new(
        shards: Vec<Arc<Shard>>,
        map: ShardMap,
        stash: &str,
        transcoder: Arc<Transcoder>,
        settings: OutboxSettings,
    ) -> Outbox {
        let names = Names::new(map.prefix(), stash);
        let news = Arc::new(Notify::new());
        let witness = || Arc::new(Witness::new(names.clone(), settings.lease_ms, news.clone()));
        let witnesses: Vec<Arc<Witness>> = shards.iter().map(|_| witness()).collect();
        shards.iter().zip(&witnesses).for_each(|(shard, witness)| shard.greet_with(witness.clone()));
        Outbox { shards, map, names, transcoder, settings, witnesses, news }
    }

    /// What an earlier process of `member` knew of the shards, by their names. Before they are opened.
    pub fn recall(&self, member: &str, known: &BTreeMap<String, Known>) {
        for (shard, witness) in self.shards.iter().zip(&self.witnesses) {
            witness.recall(member, known.get(&shard.name).cloned().unwrap_or_default());
        }
    }

    /// What is to be recalled after a restart.
    pub fn known(&self) -> BTreeMap<String, Known> {
        self.shards.iter().zip(&self.witnesses).map(|(shard, witness)| (shard.name.clone(), witness.known())).collect()
    }

    /// Waits until more is known than when this was last called.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    pub fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    pub fn transcoder(&self) -> &Transcoder {
        &self.transcoder
    }

    pub fn map(&self) -> &ShardMap {
        &self.map
    }

    /// Runs a script of one key.
    pub(super) async fn run(
        &self,
        script: &'static Script,
        key: &Key,
        args: &[&[u8]],
        until: Instant,
    ) -> Result<Told, RedisFailure> {
        let keys = self.keys_of(key);
        self.shards[self.map.shard_of(key)].script(script, &keys.each_ref().map(Cow::as_ref), args, until).await
    }

    /// What a script of one key is given as KEYS.
    pub(super) fn keys_of(&self, key: &Key) -> [Cow<'_, [u8]>; 8] {
        let value_key = self.map.redis_key(key);
        let record_key = self.names.record(&value_key);
        let names = &self.names;
        let shared = [&names.to_kask, &names.to_redis, &names.damaged, &names.fence, &names.generation, &names.life];
        let [to_kask, to_redis, damaged, fence, generation, life] = shared.map(|name| Cow::Borrowed(name.as_slice()));
        [Cow::Owned(value_key), Cow::Owned(record_key), to_kask, to_redis, damaged, fence, generation, life]
    }

    async fn begin(
        &self,
        script: &'static Script,
        key: &Key,
        args: &[&[u8]],
        until: Instant,
    ) -> Result<Reply, Refusal> {
        let reply = Reply::new(self.run(script, key, args, until).await.map_err(refused)?).map_err(odd)?;
        match reply.refusal().map_err(odd)? {
            Some(refusal) => Err(refusal),
            None => Ok(reply),
        }
    }

    async fn finish(
        &self,
        script: &'static Script,
        key: &Key,
        args: &[&[u8]],
        until: Instant,
    ) -> Result<Reply, Unheard> {
        Reply::new(self.run(script, key, args, until).await.map_err(unheard)?).map_err(odd_unheard)
    }

    /// The shard of `key` told how many writes it has counted, at `index`; what it counted.
    fn counted(&self, key: &Key, reply: &Reply, index: usize) -> Result<u64, OddReply> {
        let writes = reply.number(index)?;
        self.witnesses[self.map.shard_of(key)].saw(&reply.life, writes);
        Ok(writes)
    }

    /// The value as Redis is to hold it.
    fn redis_value(&self, content: &Content) -> (&'static [u8], Vec<u8>) {
        match content {
            Content::Body(body) => (b"set", self.transcoder.to_redis(body)),
            Content::Nothing => (b"delete", Vec::new()),
        }
    }

    pub async fn apply(
        &self,
        key: &Key,
        fence: &str,
        content: &Content,
        intent: Option<Token>,
        only_if_absent: bool,
        until: Instant,
    ) -> Result<Applied, Refusal> {
        let (verb, bytes) = self.redis_value(content);
        let token = intent.map(token_text).unwrap_or_default();
        let newest = newest_text(content);
        let ttl = self.settings.ttl_s.to_string();
        let absent: &[u8] = if only_if_absent { b"1" } else { b"0" };
        let args: [&[u8]; 8] = [
            fence.as_bytes(),
            key.as_bytes(),
            token.as_bytes(),
            newest.as_bytes(),
            verb,
            &bytes,
            ttl.as_bytes(),
            absent,
        ];
        let reply = self.begin(&scripts::APPLY, key, &args, until).await?;
        if reply.text(0).map_err(odd)? == "exists" {
            return Ok(Applied::Exists);
        }
        let generation = self.counted(key, &reply, 1).map_err(odd)?;
        Ok(Applied::Done { generation, others: reply.int(2).map_err(odd)? == 1 })
    }

    pub async fn read(&self, key: &Key, fence: &str, until: Instant) -> Result<Seen, Refusal> {
        let reply = self.begin(&scripts::READ, key, &[fence.as_bytes()], until).await?;
        self.seen(&reply).map_err(odd)
    }

    pub(super) fn seen(&self, reply: &Reply) -> Result<Seen, OddReply> {
        let value = reply.stored(3, &self.transcoder)?;
        Ok(Seen { record: reply.record(1)?, value, doubtful: reply.int(5)? == 1 })
    }

    pub async fn take(&self, key: &Key, fence: &str, intent: Token, until: Instant) -> Result<Taken, Refusal> {
        let token = token_text(intent);
        let reply =
            self.begin(&scripts::TAKE, key, &[fence.as_bytes(), key.as_bytes(), token.as_bytes()], until).await?;
        self.taken(key, &reply).map_err(odd)
    }

    pub(super) fn taken(&self, key: &Key, reply: &Reply) -> Result<Taken, OddReply> {
        Ok(match (reply.text(0)?, reply.stored(0, &self.transcoder)?) {
            ("shown", value) => Taken::Shown { value, doubtful: reply.int(2)? == 1 },
            ("type" | "large", Stored::Untranscodable(reason)) => Taken::Odd(reason),
            (_, Stored::Absent) => Taken::Nothing,
            (_, value) => {
                self.counted(key, reply, 3)?;
                Taken::Value { value, generation: reply.number(2)? }
            }
        })
    }

    pub async fn settle(&self, key: &Key, intent: Token, generation: u64, until: Instant) -> Result<Settled, Unheard> {
        let (token, generation) = (token_text(intent), generation.to_string());
        let args: [&[u8]; 3] = [key.as_bytes(), token.as_bytes(), generation.as_bytes()];
        let reply = self.finish(&scripts::SETTLE, key, &args, until).await?;
        self.settled(&reply).map_err(odd_unheard)
    }

    pub(super) fn settled(&self, reply: &Reply) -> Result<Settled, OddReply> {
        Ok(match reply.text(0)? {
            "kept" => Settled::Kept,
            "gone" => Settled::Gone { alone: reply.int(1)? == 1 },
            "newer" => Settled::Newer { generation: reply.number(1)?, held: reply.held(2, &self.transcoder)? },
            _ => Settled::Lost,
        })
    }

    pub async fn mark(&self, key: &Key, fence: &str, intent: Token, until: Instant) -> Result<(), Refusal> {
        let token = token_text(intent);
        let args: [&[u8]; 3] = [fence.as_bytes(), key.as_bytes(), token.as_bytes()];
        let reply = self.begin(&scripts::MARK, key, &args, until).await?;
        self.counted(key, &reply, 1).map_err(odd)?;
        Ok(())
    }

    pub async fn mirror(&self, key: &Key, intent: Token, content: &Content, until: Instant) -> Result<Owned, Unheard> {
        let (verb, bytes) = self.redis_value(content);
        let (token, ttl) = (token_text(intent), self.settings.ttl_s.to_string());
        let reply =
            self.finish(&scripts::MIRROR, key, &[token.as_bytes(), verb, &bytes, ttl.as_bytes()], until).await?;
        let owned = owned(&reply)?;
        if owned == Owned::Yes {
            self.counted(key, &reply, 1).map_err(odd_unheard)?;
        }
        Ok(owned)
    }

    pub async fn release(&self, key: &Key, intent: Token, until: Instant) -> Result<Owned, Unheard> {
        owned(&self.finish(&scripts::RELEASE, key, &[key.as_bytes(), token_text(intent).as_bytes()], until).await?)
    }

    pub async fn claim(&self, key: &Key, expired: &[Token], intent: Token, until: Instant) -> Result<Claimed, Unheard> {
        let (token, lease) = (token_text(intent), self.settings.lease_ms.to_string());
        let expired: Vec<String> = expired.iter().copied().map(token_text).collect();
        let mut args: Vec<&[u8]> = vec![key.as_bytes(), token.as_bytes(), lease.as_bytes()];
        args.extend(expired.iter().map(String::as_bytes));
        let reply = self.finish(&scripts::CLAIM, key, &args, until).await?;
        let read = || -> Result<Claimed, OddReply> {
            let claimed = match reply.text(0)? {
                "kask" => Claimed::ToKask { generation: reply.number(2)?, held: reply.held(3, &self.transcoder)? },
                "redis" => Claimed::ToRedis,
                _ => return Ok(Claimed::Nothing),
            };
            self.counted(key, &reply, 1)?;
            Ok(claimed)
        };
        read().map_err(odd_unheard)
    }

    pub async fn give_up(&self, key: &Key, intent: Token, reason: &str, until: Instant) -> Result<(), Unheard> {
        let (token, tries) = (token_text(intent), self.settings.tries_max.to_string());
        let reason: String =
            reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_CHARS_MAX).collect();
        let args: [&[u8]; 4] = [key.as_bytes(), token.as_bytes(), reason.as_bytes(), tries.as_bytes()];
        self.finish(&scripts::GIVE_UP, key, &args, until).await.map(|_| ())
    }
}

fn owned(reply: &Reply) -> Result<Owned, Unheard> {
    Ok(if reply.text(0).map_err(odd_unheard)? == "yes" { Owned::Yes } else { Owned::Lost })
}
