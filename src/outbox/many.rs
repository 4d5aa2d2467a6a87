//! The scripts of several keys of one shard, sent in one go; and what such keys weigh.

use super::{
    Outbox,
    reply::{Reply, odd, odd_unheard, refused, token_text, unheard},
    scripts,
    shard_state::ShardFault,
};
use crate::{
    codec::key::Key,
    protocol::world::{Refusal, Seen, Settled, Taken, Token, Unheard},
    tier::redis::{
        RedisFailure, Script, Told,
        value::{OddReply, as_int},
    },
};
use redis::Value;
use tokio::time::Instant;

/// What a key weighs, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// None: the value is no string.
    pub bytes: Option<u64>,
    pub life: Life,
}

/// How long Redis keeps a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// There is no such key any more.
    Gone,
    /// It has no TTL.
    Forever,
    Left {
        ms: u64,
    },
}

/// What Redis answers PTTL where there is no key, and where it has no TTL.
const PTTL_GONE: i64 = -2;

impl Outbox {
    /// Lengths and remaining lives, in the order of `keys`, all of shard `shard`.
    pub async fn weigh_many(&self, shard: usize, keys: &[Key], until: Instant) -> Result<Vec<Weight>, ShardFault> {
        let Some(asked) = self.shards.get(shard) else { return Ok(Vec::new()) };
        let mut ask = redis::Pipeline::with_capacity(keys.len() * 2);
        for key in keys {
            let name = self.map.redis_key(key);
            ask.cmd("STRLEN").arg(&name).cmd("PTTL").arg(&name);
        }
        let answers = asked.pipeline(ask, until).await?;
        answers.chunks_exact(2).map(|pair| weight(&pair[0], &pair[1])).collect()
    }

    pub async fn read_many(
        &self,
        shard: usize,
        keys: &[Key],
        fence: &str,
        until: Instant,
    ) -> Vec<Result<Seen, Refusal>> {
        let calls = keys.iter().map(|key| (key, vec![fence.as_bytes().to_vec()])).collect();
        self.begin_many(shard, &scripts::READ, calls, until, |_, reply| self.seen(reply)).await
    }

    pub async fn take_many(
        &self,
        shard: usize,
        keys: &[(Key, Token)],
        fence: &str,
        until: Instant,
    ) -> Vec<Result<Taken, Refusal>> {
        let args = |(key, token): &(Key, Token)| {
            vec![fence.as_bytes().to_vec(), key.as_bytes().to_vec(), token_text(*token).into_bytes()]
        };
        let calls = keys.iter().map(|of| (&of.0, args(of))).collect();
        self.begin_many(shard, &scripts::TAKE, calls, until, |key, reply| self.taken(key, reply)).await
    }

    /// `copies`: key, intent, and the generation that was copied.
    pub async fn settle_many(
        &self,
        shard: usize,
        copies: &[(Key, Token, u64)],
        until: Instant,
    ) -> Vec<Result<Settled, Unheard>> {
        let args = |(key, token, generation): &(Key, Token, u64)| {
            vec![key.as_bytes().to_vec(), token_text(*token).into_bytes(), generation.to_string().into_bytes()]
        };
        let calls = copies.iter().map(|copy| (&copy.0, args(copy))).collect();
        let answers = self.run_many(shard, &scripts::SETTLE, calls, until).await;
        let settled = |answer: Result<Told, RedisFailure>| {
            Reply::new(answer.map_err(unheard)?).and_then(|reply| self.settled(&reply)).map_err(odd_unheard)
        };
        answers.into_iter().map(settled).collect()
    }

    async fn begin_many<T>(
        &self,
        shard: usize,
        script: &'static Script,
        calls: Vec<(&Key, Vec<Vec<u8>>)>,
        until: Instant,
        read: impl Fn(&Key, &Reply) -> Result<T, OddReply>,
    ) -> Vec<Result<T, Refusal>> {
        let keys: Vec<&Key> = calls.iter().map(|(key, _)| *key).collect();
        let begun = |(key, answer): (&Key, Result<Told, RedisFailure>)| {
            let reply = Reply::new(answer.map_err(refused)?).map_err(odd)?;
            match reply.refusal().map_err(odd)? {
                Some(refusal) => Err(refusal),
                None => read(key, &reply).map_err(odd),
            }
        };
        let answers = self.run_many(shard, script, calls, until).await;
        keys.into_iter().zip(answers).map(begun).collect()
    }

    async fn run_many(
        &self,
        shard: usize,
        script: &'static Script,
        calls: Vec<(&Key, Vec<Vec<u8>>)>,
        until: Instant,
    ) -> Vec<Result<Told, RedisFailure>> {
        let Some(asked) = self.shards.get(shard) else { return Vec::new() };
        let count = calls.len();
        let calls = calls.into_iter().map(|(key, args)| (self.keys_of(key), args)).collect();
        match asked.script_many(script, calls, until).await {
            Ok(answers) => answers,
            Err(failure) => vec![Err(failure); count],
        }
    }
}

fn weight(length: &Value, life: &Value) -> Result<Weight, ShardFault> {
    let bytes = match length {
        Value::ServerError(error) if error.code() == "WRONGTYPE" => None,
        Value::ServerError(error) => return Err(RedisFailure::refused(error).into()),
        length => Some(as_int(length)?.max(0) as u64),
    };
    let life = match life {
        Value::ServerError(error) => return Err(RedisFailure::refused(error).into()),
        life => match as_int(life)? {
            PTTL_GONE => Life::Gone,
            ms if ms < 0 => Life::Forever,
            ms => Life::Left { ms: ms as u64 },
        },
    };
    Ok(Weight { bytes, life })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_told_apart() {
        let told = |length: i64, life: i64| weight(&Value::Int(length), &Value::Int(life)).unwrap();
        assert_eq!(told(0, -2), Weight { bytes: Some(0), life: Life::Gone });
        assert_eq!(told(7, -1), Weight { bytes: Some(7), life: Life::Forever });
        assert_eq!(told(7, 1500), Weight { bytes: Some(7), life: Life::Left { ms: 1500 } });
        assert!(weight(&Value::Nil, &Value::Int(1)).is_err());
    }
}
