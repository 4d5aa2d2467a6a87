//! The Lua scripts on a real Redis against the shard that the simulation trusts: the same random calls, the same answers.

use crate::{redis_server::RedisServer, simulation::shard::Shard as Model};
use bytes::Bytes;
use decant::{
    codec::{envelope::Serialization, key::Key, transcode::Transcoder},
    config::Distribution,
    outbox::{Outbox, OutboxSettings, Raised},
    phase::Phase,
    protocol::{
        Fence, Rules,
        pending::Look,
        world::{Content, Stored, Token},
    },
    tier::{
        redis::{RedisUrl, Shard},
        shards::{ShardMap, ShardPlace},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

#[tokio::test]
async fn the_list_of_decants_is_bounded_and_forgets_who_is_gone() {
    use decant::outbox::Announcement;
    let redis = RedisServer::start();
    let outbox = outbox(&redis, 1_000);
    let until = || Instant::now() + Duration::from_secs(10);
    outbox.shards()[0].wait_up(until()).await;
    let says = |version| Announcement { version, store: "file".into(), decant: "0.1.0".into() };
    let mut client = redis.client();
    let mut set = |name: &str, value: &str| {
        redis::cmd("HSET").arg("prefix:decant|stash|members").arg(name).arg(value).exec(&mut client).unwrap();
    };
    // Long gone; what is no announcement; and one that says it in a newer way.
    set("gone", "1000 1 file 0.1.0");
    set("odd", "nonsense");
    let known = outbox.announce(0, "m0", &says(3), until()).await.unwrap();
    assert_eq!(known.iter().map(|one| one.member.as_str()).collect::<Vec<_>>(), ["m0"]);
    assert!(known[0].ms_ago < 10_000 && known[0].says == says(3), "{known:?}");
    for n in 1..80 {
        outbox.announce(0, &format!("m{n:02}"), &says(n), until()).await.unwrap();
    }
    let known = outbox.announce(0, "last", &says(9), until()).await.unwrap();
    assert_eq!(known.len(), 64);
    assert!(known.iter().any(|one| one.member == "last") && known.iter().all(|one| one.member != "m0"), "{known:?}");
    let kept: usize = redis::cmd("HLEN").arg("prefix:decant|stash|members").query(&mut redis.client()).unwrap();
    assert_eq!(kept, 64);
}

const CALLS: usize = 12_000;
const KEYS: usize = 3;
/// As the model's.
const TRIES_MAX: u32 = crate::simulation::shard::TRIES_MAX;

fn outbox(redis: &RedisServer, lease_ms: u64) -> Outbox {
    let url = RedisUrl::parse(&redis.url()).unwrap();
    let map = ShardMap::new(Distribution::Single, vec![ShardPlace::named("main")], "prefix:").unwrap();
    let shard = Arc::new(Shard::new("main", url, "stash"));
    shard.open();
    let settings = OutboxSettings { ttl_s: 1_000_000, lease_ms, tries_max: TRIES_MAX, look_max: 100_000 };
    Outbox::new(vec![shard], map, "stash", Arc::new(Transcoder::new(Serialization::Json, None)), settings)
}

struct Pair {
    redis: RedisServer,
    /// Every intent is expired.
    lua: Outbox,
    model: Model,
    random: fastrand::Rng,
    /// Handed out, each with the key it was for.
    tokens: Vec<(Token, Key)>,
    fences: Vec<Fence>,
    done: Vec<&'static str>,
}

impl Pair {
    fn key(&mut self) -> Key {
        Key::from_bytes(format!("wiki:key {}", self.random.usize(..KEYS)))
    }

    fn content(&mut self) -> Content {
        match self.random.u8(..4) {
            0 => Content::Nothing,
            1 => Content::Body(Bytes::from(format!("JSON..{}", self.random.u8(..5)))),
            _ => Content::Body(Bytes::from(format!("JSON..\"v{}\"", self.random.u8(..5)))),
        }
    }

    /// Mostly one that was handed out for this key, sometimes another's, sometimes one that nobody knows.
    fn token(&mut self, key: &Key) -> Token {
        let known =
            self.tokens.iter().filter(|(_, of)| of == key || self.random.clone().u8(..8) == 0).map(|(token, _)| *token);
        let known: Vec<Token> = known.collect();
        match self.random.choice(&known) {
            Some(token) if self.random.u8(..16) > 0 => *token,
            _ => Token(self.random.u128(..)),
        }
    }

    fn new_token(&mut self, key: &Key) -> Token {
        let token = Token(self.random.u128(..));
        self.tokens.push((token, key.clone()));
        token
    }

    /// Forgets those whose intent is gone, so that the rest is asked for again.
    fn forget_gone(&mut self) {
        let model = &self.model;
        self.tokens.retain(|(token, key)| model.intents(key).contains_key(token));
    }

    /// Mostly the newest.
    fn fence(&mut self) -> Fence {
        let newest = self.fences[self.fences.len() - 1].clone();
        if self.random.u8(..8) > 0 { newest } else { self.random.choice(&self.fences).unwrap().clone() }
    }

    fn generation(&mut self, key: &Key) -> u64 {
        let now = self.model.record(key).map_or(0, |(_, generation)| generation);
        if self.random.bool() { now } else { now.saturating_sub(self.random.u64(..3)) }
    }

    async fn call(&mut self) {
        if self.random.u8(..16) == 0 {
            self.forget_gone();
        }
        let until = Instant::now() + Duration::from_secs(5);
        let key = self.key();
        match self.random.u8(..16) {
            0..3 => {
                let (fence, content, add) = (self.fence().to_text(), self.content(), self.random.u8(..4) == 0);
                let intent = (self.random.u8(..6) > 0).then(|| self.new_token(&key));
                let lua = self.lua.apply(&key, &fence, &content, intent, add, until).await;
                assert_eq!(lua, self.model.apply(&key, &fence, &content, intent, add, 0));
                self.done.push("apply");
            }
            3 => {
                let fence = self.fence().to_text();
                let lua = match self.random.bool() {
                    true => self.lua.read(&key, &fence, until).await,
                    false => self.lua.read_many(0, std::slice::from_ref(&key), &fence, until).await.remove(0),
                };
                assert_eq!(lua, self.model.read(&key, &fence, 0));
                self.done.push("read");
            }
            4..6 => {
                let (fence, intent) = (self.fence().to_text(), self.new_token(&key));
                let lua = match self.random.bool() {
                    true => self.lua.take(&key, &fence, intent, until).await,
                    false => self.lua.take_many(0, &[(key.clone(), intent)], &fence, until).await.remove(0),
                };
                assert_eq!(lua, self.model.take(&key, &fence, intent, 0));
                self.done.push("take");
            }
            6..8 => {
                let (intent, generation) = (self.token(&key), self.generation(&key));
                let lua = match self.random.bool() {
                    true => self.lua.settle(&key, intent, generation, until).await,
                    false => self.lua.settle_many(0, &[(key.clone(), intent, generation)], until).await.remove(0),
                };
                assert_eq!(lua, Ok(self.model.settle(&key, intent, generation, 0)));
                self.done.push("settle");
            }
            8 => {
                let (fence, intent) = (self.fence().to_text(), self.new_token(&key));
                assert_eq!(self.lua.mark(&key, &fence, intent, until).await, self.model.mark(&key, &fence, intent, 0));
                self.done.push("mark");
            }
            9 => {
                let (intent, content) = (self.token(&key), self.content());
                assert_eq!(
                    self.lua.mirror(&key, intent, &content, until).await,
                    Ok(self.model.mirror(&key, intent, &content, 0))
                );
                self.done.push("mirror");
            }
            10 => {
                let intent = self.token(&key);
                assert_eq!(self.lua.release(&key, intent, until).await, Ok(self.model.release(&key, intent, 0)));
                self.done.push("release");
            }
            11 => {
                let expired = [self.token(&key), self.token(&key), self.token(&key)];
                let intent = self.new_token(&key);
                assert_eq!(
                    self.lua.claim(&key, &expired, intent, until).await,
                    Ok(self.model.claim(&key, &expired, intent, 0, 0))
                );
                self.done.push("claim");
            }
            12 => {
                let intent = self.token(&key);
                self.lua.give_up(&key, intent, "a reason\nof two lines", until).await.unwrap();
                self.model.give_up(&key, intent, "", 0);
                self.done.push("give_up");
            }
            13 => self.look(until).await,
            14 => {
                // Redis evicts, or MediaWiki writes past decant.
                let name = [b"prefix:", key.as_bytes()].concat();
                if self.random.bool() {
                    redis::cmd("DEL").arg(name).exec(&mut self.redis.client()).unwrap();
                    self.model.set_value(&key, Stored::Absent);
                } else {
                    redis::cmd("SET").arg(name).arg("i:9;").exec(&mut self.redis.client()).unwrap();
                    self.model.set_value(&key, Stored::Body(Bytes::from_static(b"JSON..9")));
                }
                self.done.push("past");
            }
            _ => self.raise(until).await,
        }
    }

    async fn look(&mut self, until: Instant) {
        let look = self.lua.look(0, until).await.unwrap();
        let (keys, fence) = self.model.look(100_000);
        let Look::Keys(_) = &keys else { panic!("the bound is higher than that") };
        assert_eq!(look.fence, fence);
        assert_eq!(look.keys, keys);
        let mut listed = look.intents;
        let mut expected = self.model.expired(0, usize::MAX, 0);
        listed.sort();
        expected.sort();
        assert!(listed == expected, "{} intents listed, {} expected", listed.len(), expected.len());
        let mut expired = self.lua.expired(0, 0, 100_000, until).await.unwrap();
        expired.sort();
        assert!(expired == expected, "{} expired, {} expected", expired.len(), expected.len());
        self.done.push("look");
    }

    async fn raise(&mut self, until: Instant) {
        // Seldom: what was begun under a fence is to be seen for a while.
        if self.random.u8(..4) > 0 {
            return;
        }
        let version = (self.fences.len() as u64).saturating_sub(self.random.u64(..2)) + 1;
        let phase = *self.random.choice(&Phase::ALL).unwrap();
        let fence = Fence { version, phase, ..self.fences[0].clone() };
        let raised = self.lua.raise(0, &fence, until).await.unwrap();
        assert_eq!(raised == Raised::Done, self.model.raise(&fence));
        if raised == Raised::Done && Some(&fence) != self.fences.last() {
            self.fences.push(fence);
        }
        self.done.push("raise");
    }
}

#[tokio::test]
async fn the_scripts_do_what_the_model_does() {
    let seed = std::env::var("DECANT_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("DECANT_TEST_SEED={seed}");
    let redis = RedisServer::start();
    let lua = outbox(&redis, 0);
    assert!(lua.shards()[0].wait_up(Instant::now() + Duration::from_secs(5)).await);
    let first = Fence {
        version: 1,
        phase: Phase::KaskFirst,
        stash: "stash".into(),
        shards: "digest".into(),
        member: "m".into(),
    };
    let mut pair = Pair {
        redis,
        lua,
        model: Model::new(Rules::ALL),
        random: fastrand::Rng::with_seed(seed),
        tokens: Vec::new(),
        fences: vec![first.clone()],
        done: Vec::new(),
    };
    let until = Instant::now() + Duration::from_secs(5);
    assert_eq!(pair.lua.fence(0, until).await.unwrap(), None);
    assert_eq!(pair.lua.raise(0, &first, until).await.unwrap(), Raised::Done);
    assert!(pair.model.raise(&first));
    for _ in 0..CALLS {
        pair.call().await;
    }
    for call in
        ["apply", "read", "take", "settle", "mark", "mirror", "release", "claim", "give_up", "look", "past", "raise"]
    {
        let count = pair.done.iter().filter(|done| **done == call).count();
        assert!(count > 100, "{call} was called {count} times only");
    }
}

/// A claim needs the lease to be over by Redis's own clock.
#[tokio::test]
async fn nothing_younger_than_the_lease_is_claimed() {
    let redis = RedisServer::start();
    let (young, expired) = (outbox(&redis, 3_600_000), outbox(&redis, 0));
    let until = Instant::now() + Duration::from_secs(5);
    let fence =
        Fence { version: 1, phase: Phase::KaskFirst, stash: "stash".into(), shards: "d".into(), member: "m".into() };
    for outbox in [&young, &expired] {
        assert!(outbox.shards()[0].wait_up(until).await);
    }
    young.raise(0, &fence, until).await.unwrap();
    let key = Key::from_bytes("k");
    young.apply(&key, &fence.to_text(), &Content::Nothing, Some(Token(1)), false, until).await.unwrap();
    assert_eq!(young.expired(0, 3_600_000, 10, until).await.unwrap(), []);
    use decant::protocol::world::{Claimed, Held};
    assert_eq!(young.claim(&key, &[Token(1)], Token(2), until).await, Ok(Claimed::Nothing));
    let claimed = expired.claim(&key, &[Token(1)], Token(2), until).await;
    assert_eq!(claimed, Ok(Claimed::ToKask { generation: 1, held: Held::Is(Content::Nothing) }));
}

/// A full Redis refuses what begins something, and does nothing of it; what finishes something still works.
#[tokio::test]
async fn a_full_redis_does_a_script_whole_or_not_at_all() {
    let redis = RedisServer::with_flags(&["--maxmemory-policy", "noeviction"]);
    let outbox = outbox(&redis, 0);
    let until = Instant::now() + Duration::from_secs(5);
    assert!(outbox.shards()[0].wait_up(until).await);
    let fence =
        Fence { version: 1, phase: Phase::KaskFirst, stash: "stash".into(), shards: "d".into(), member: "m".into() };
    outbox.raise(0, &fence, until).await.unwrap();
    let (text, key, other) = (fence.to_text(), Key::from_bytes("k"), Key::from_bytes("l"));
    let value = Content::Body(Bytes::from_static(b"JSON..1"));
    outbox.apply(&key, &text, &value, Some(Token(1)), false, until).await.unwrap();
    outbox.apply(&other, &text, &value, Some(Token(7)), false, until).await.unwrap();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").exec(&mut redis.client()).unwrap();
    use decant::protocol::world::{Claimed, Refusal, Settled};
    let refused =
        outbox.apply(&key, &text, &Content::Body(Bytes::from_static(b"JSON..2")), Some(Token(2)), false, until).await;
    assert!(matches!(&refused, Err(Refusal::NotDone(why)) if why.contains("OOM")), "{refused:?}");
    assert!(matches!(outbox.take(&key, &text, Token(3), until).await, Err(Refusal::NotDone(_))));
    assert!(matches!(outbox.mark(&Key::from_bytes("m"), &text, Token(4), until).await, Err(Refusal::NotDone(_))));
    let seen = outbox.read(&key, &text, until).await.unwrap();
    assert_eq!(seen.value, Stored::Body(Bytes::from_static(b"JSON..1")), "nothing was done");
    let look = outbox.look(0, until).await.unwrap();
    assert_eq!(look.intents.len(), 2, "no intent was added");
    assert!(matches!(
        outbox.claim(&key, &[Token(1)], Token(5), until).await,
        Ok(Claimed::ToKask { generation: 1, .. })
    ));
    assert_eq!(
        outbox.settle(&key, Token(5), 1, until).await,
        Ok(Settled::Gone { alone: true }),
        "a full Redis still drains"
    );
    let deleted = outbox.apply(&other, &text, &Content::Nothing, Some(Token(6)), false, until).await;
    assert!(deleted.is_ok(), "a delete makes room: {deleted:?}");
}
