//! The Lua scripts on a real Redis against the shard that the simulation trusts: the same random calls, the same answers.

use crate::{
    redis_server::RedisServer,
    simulation::{
        life::{Known, LifeId},
        shard::Shard as Model,
    },
};
use bytes::Bytes;
use decant::{
    codec::{envelope::Serialization, key::Key, transcode::Transcoder},
    config::Distribution,
    outbox::{Accepted, Outbox, OutboxSettings, Raised},
    phase::{Phase, ahead::Ahead},
    protocol::{
        Fence, Rules,
        pending::Look,
        world::{Content, Refusal, Stored, Token, Unheard},
    },
    tier::{
        redis::{RedisUrl, Shard},
        shards::{ShardMap, ShardPlace},
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
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
    let settings = OutboxSettings { ttl_s: 1_000_000, lease_ms, tries_max: TRIES_MAX, look_max: 100_000 };
    let transcoder = Arc::new(Transcoder::new(Serialization::Json, None));
    let outbox = Outbox::new(vec![shard.clone()], map, "stash", transcoder, settings);
    shard.open();
    outbox
}

/// Longer than the test: what it makes quiet is so until the test ends that.
const LONG_MS: u64 = 3_600_000;

/// A decant as far as it remembers the shard.
struct Member {
    lua: Outbox,
    model: Known,
    lease_ms: u64,
}

struct Pair {
    redis: RedisServer,
    model: Model,
    /// The model's clock: grows with each call.
    now: u64,
    /// Every intent is expired for the first, which makes all the calls; the second only compares.
    members: [Member; 2],
    /// The model's names of lives, by the script's.
    lives: BTreeMap<String, LifeId>,
    snapshot: Model,
    random: fastrand::Rng,
    /// Handed out, each with the key it was for.
    tokens: Vec<(Token, Key)>,
    fences: Vec<Fence>,
    done: Vec<&'static str>,
}

/// Who finishes something is not heard by a server that was not compared.
fn same<T: std::fmt::Debug + PartialEq>(lua: Result<T, Unheard>, accepted: bool, model: impl FnOnce() -> T) {
    match lua {
        Ok(lua) if accepted => assert_eq!(lua, model()),
        Err(Unheard(why)) if !accepted => assert!(why.contains("LIFE"), "{why}"),
        other => panic!("accepted: {accepted}, {other:?}"),
    }
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
        self.now += 1;
        match self.random.u8(..40) {
            0..16 => self.begin().await,
            16..30 => self.finish().await,
            30..32 => self.look().await,
            32..34 => self.past(),
            34..36 => self.raise().await,
            _ => self.life().await,
        }
    }

    /// The first member was accepted in the life that the shard is in.
    fn accepted(&self) -> bool {
        self.model.accepts(self.members[0].model.life)
    }

    async fn begin(&mut self) {
        let (until, now, key) = (soon(), self.now, self.key());
        let (fence, intent) = (self.fence().to_text(), self.new_token(&key));
        let roll = self.random.u8(..7);
        let (content, add) = (self.content(), self.random.u8(..4) == 0);
        let lua = &self.members[0].lua;
        if !self.accepted() {
            // Nothing begins on it, as if it had no fence.
            let refused = lua.apply(&key, &fence, &content, Some(intent), add, until).await.unwrap_err();
            assert_eq!(refused, Refusal::Fence(None));
            assert_eq!(lua.read(&key, &fence, until).await.unwrap_err(), Refusal::Fence(None));
            assert_eq!(lua.take(&key, &fence, intent, until).await.unwrap_err(), Refusal::Fence(None));
            assert_eq!(lua.mark(&key, &fence, intent, until).await.unwrap_err(), Refusal::Fence(None));
            return;
        }
        self.done.push(match roll {
            0..3 => {
                let intent = (self.random.u8(..6) > 0).then_some(intent);
                let applied = lua.apply(&key, &fence, &content, intent, add, until).await;
                assert_eq!(applied, self.model.apply(&key, &fence, &content, intent, add, now));
                "apply"
            }
            3 => {
                let read = match self.random.bool() {
                    true => lua.read(&key, &fence, until).await,
                    false => lua.read_many(0, std::slice::from_ref(&key), &fence, until).await.remove(0),
                };
                assert_eq!(read, self.model.read(&key, &fence, now));
                "read"
            }
            4..6 => {
                let taken = match self.random.bool() {
                    true => lua.take(&key, &fence, intent, until).await,
                    false => lua.take_many(0, &[(key.clone(), intent)], &fence, until).await.remove(0),
                };
                assert_eq!(taken, self.model.take(&key, &fence, intent, now));
                "take"
            }
            _ => {
                assert_eq!(lua.mark(&key, &fence, intent, until).await, self.model.mark(&key, &fence, intent, now));
                "mark"
            }
        });
    }

    async fn finish(&mut self) {
        let (until, now, key) = (soon(), self.now, self.key());
        let intent = self.token(&key);
        let (content, generation) = (self.content(), self.generation(&key));
        let expired = [intent, self.token(&key), self.token(&key)];
        let claimer = self.new_token(&key);
        let accepted = self.accepted();
        let (lua, model) = (&self.members[0].lua, &mut self.model);
        self.done.push(match self.random.u8(..7) {
            0..2 => {
                let settled = match self.random.bool() {
                    true => lua.settle(&key, intent, generation, until).await,
                    false => lua.settle_many(0, &[(key.clone(), intent, generation)], until).await.remove(0),
                };
                same(settled, accepted, || model.settle(&key, intent, generation, now));
                "settle"
            }
            2 => {
                let owned = lua.mirror(&key, intent, &content, until).await;
                same(owned, accepted, || model.mirror(&key, intent, &content, now));
                "mirror"
            }
            3 => {
                same(lua.release(&key, intent, until).await, accepted, || model.release(&key, intent, now));
                "release"
            }
            4..6 => {
                let claimed = lua.claim(&key, &expired, claimer, until).await;
                same(claimed, accepted, || model.claim(&key, &expired, claimer, 0, now));
                "claim"
            }
            _ => {
                let given_up = lua.give_up(&key, intent, "a reason\nof two lines", until).await;
                same(given_up, accepted, || model.give_up(&key, intent, "", now));
                "give_up"
            }
        });
    }

    /// Redis evicts, or MediaWiki writes past decant.
    fn past(&mut self) {
        let key = self.key();
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

    async fn look(&mut self) {
        let (until, lua) = (soon(), &self.members[0].lua);
        let seen = lua.known()["main"].writes;
        let look = lua.look(0, until).await.unwrap();
        let (keys, fence) = self.model.look(100_000);
        let Look::Keys(_) = &keys else { panic!("the bound is higher than that") };
        assert_eq!(look.fence, fence);
        assert_eq!(look.keys, keys);
        let of_before = |fence: &Fence| {
            self.model.open().filter(|(key, direction)| fence.is_of_before(key, *direction)).count() as u64
        };
        assert_eq!(look.of_before, look.fence.as_ref().map(of_before));
        assert_eq!((look.writes, look.suspect.is_some()), (self.model.writes(), self.model.life.suspect));
        assert_eq!(look.quiet_ms > 0, self.now < self.model.life.quiet);
        assert_eq!(look.must_compare, !self.accepted() || self.model.writes() < seen, "seen {seen}");
        if look.must_compare {
            // It has ended the connection, and makes another.
            self.compare(0).await;
        }
        let lua = &self.members[0].lua;
        let mut listed = look.intents;
        let mut expected = self.model.expired(0, usize::MAX, self.now);
        listed.sort();
        expected.sort();
        assert!(listed == expected, "{} intents listed, {} expected", listed.len(), expected.len());
        let mut expired = lua.expired(0, 0, 100_000, until).await.unwrap();
        expired.sort();
        assert!(expired == expected, "{} expired, {} expected", expired.len(), expected.len());
        self.done.push("look");
    }

    async fn raise(&mut self) {
        // Seldom: what was begun under a fence is to be seen for a while.
        if self.random.u8(..4) > 0 {
            return;
        }
        let version = (self.fences.len() as u64).saturating_sub(self.random.u64(..2)) + 1;
        let phase = *self.random.choice(&Phase::ALL).unwrap();
        // Of these keys the first covers one, the second some.
        let rules = [None, Some(Ahead::matching("*2").unwrap()), Some("share:0.5".parse().unwrap())];
        let ahead = rules[self.random.usize(..3)].clone().filter(|_| phase.next().is_some());
        let fence = Fence { version, phase, ahead, ..self.fences[0].clone() };
        // Once in a while by the member whose lease is long: a mark then waits for what may still arrive.
        let member = &self.members[self.random.usize(..2)];
        let settled = self.random.bool();
        let raised = member.lua.raise(0, &fence, settled, soon()).await;
        if !self.model.accepts(member.model.life) {
            assert!(raised.unwrap_err().to_string().contains("LIFE"));
            return;
        }
        let raised = raised.unwrap();
        assert_eq!(raised == Raised::Done, self.model.raise(&fence, settled, member.lease_ms, self.now));
        if raised == Raised::Done && Some(&fence) != self.fences.last() {
            self.fences.push(fence);
        }
        self.done.push("raise");
    }

    /// The server forgets, is compared, is believed again.
    async fn life(&mut self) {
        match self.random.u8(..8) {
            0 => {
                copy_all(&self.redis, 0, 1);
                self.snapshot = self.model.clone();
                self.done.push("snapshot");
            }
            1 if self.random.bool() => self.restore().await,
            1 if self.random.u8(..4) == 0 => self.restart().await,
            2..6 => {
                let member = self.random.usize(..2);
                self.compare(member).await;
            }
            6 => {
                let accepted = self.members[0].lua.accept_loss(0, "me", soon()).await.unwrap();
                assert_eq!(accepted == Accepted::Done, self.model.accept(self.now));
                self.done.push("accept");
            }
            7 if self.random.u8(..3) == 0 && self.model.life.quiet > 0 => {
                redis::cmd("HDEL").arg(LIFE).arg("quiet").exec(&mut self.redis.client()).unwrap();
                self.model.life.quiet = 0;
            }
            _ => {}
        }
    }

    /// Everything, or what came after the snapshot, is lost; and often another process serves.
    async fn restore(&mut self) {
        let flushed = self.random.u8(..4) == 0;
        if flushed {
            redis::cmd("FLUSHDB").exec(&mut self.redis.client()).unwrap();
        } else {
            copy_all(&self.redis, 1, 0);
        }
        let run = self.model.run;
        self.model = if flushed { Model::new(Rules::ALL) } else { self.snapshot.clone() };
        self.model.run = run;
        if self.random.bool() {
            self.restart().await;
        }
        self.done.push("restore");
    }

    /// Another process serves what the one before held.
    async fn restart(&mut self) {
        self.members.iter().for_each(|member| member.lua.shards()[0].close());
        redis::cmd("SAVE").exec(&mut self.redis.client()).unwrap();
        self.redis.restart();
        self.model.run += 1;
        let first = self.random.usize(..2);
        self.compare(first).await;
        self.compare(1 - first).await;
        self.done.push("restart");
    }

    async fn compare(&mut self, member: usize) {
        let member = &mut self.members[member];
        // What is remembered between two comparisons is tested where it is written.
        member.model.writes = member.lua.known()["main"].writes;
        let shard = &member.lua.shards()[0];
        shard.close();
        shard.open();
        assert!(shard.wait_up(soon()).await, "{:?}", shard.why_down());
        member.model = self.model.adopt(member.model, member.lease_ms, self.now);
        let Some(decant::outbox::Known { life, writes }) = member.lua.known().remove("main") else { panic!() };
        // The product remembers the highest of a life.
        member.model.writes = member.model.writes.max(writes);
        assert_eq!(writes, member.model.writes);
        let of_model = member.model.life.unwrap();
        assert_eq!(*self.lives.entry(life).or_insert(of_model), of_model, "one life has one name");
        self.done.push("compare");
    }
}

/// One database becomes what the other is.
fn copy_all(redis: &RedisServer, from: u32, to: u32) {
    let open = |db| redis::Client::open(redis.url_with("", db)).unwrap().get_connection().unwrap();
    let (mut source, mut target) = (open(from), open(to));
    redis::cmd("FLUSHDB").exec(&mut target).unwrap();
    for key in redis::cmd("KEYS").arg("*").query::<Vec<Vec<u8>>>(&mut source).unwrap() {
        redis::cmd("COPY").arg(&key).arg(&key).arg("DB").arg(to).exec(&mut source).unwrap();
    }
}

const LIFE: &str = "prefix:decant|stash|life";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[tokio::test]
async fn the_scripts_do_what_the_model_does() {
    let seed = std::env::var("DECANT_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("DECANT_TEST_SEED={seed}");
    let redis = RedisServer::start();
    let (mut model, mut members) = (Model::new(Rules::ALL), Vec::new());
    for lease_ms in [0, LONG_MS] {
        let lua = outbox(&redis, lease_ms);
        assert!(lua.shards()[0].wait_up(soon()).await);
        members.push(Member { lua, model: model.adopt(Known::default(), lease_ms, 0), lease_ms });
    }
    let first = Fence {
        version: 1,
        phase: Phase::KaskFirst,
        stash: "stash".into(),
        shards: "digest".into(),
        member: "m".into(),
        ahead: None,
    };
    assert_eq!(members[0].lua.fence(0, soon()).await.unwrap(), None);
    assert_eq!(members[0].lua.raise(0, &first, false, soon()).await.unwrap(), Raised::Done);
    assert!(model.raise(&first, false, 0, 0));
    copy_all(&redis, 0, 1);
    let mut pair = Pair {
        redis,
        snapshot: model.clone(),
        model,
        now: 0,
        lives: BTreeMap::new(),
        members: members.try_into().unwrap_or_else(|_| panic!("two members")),
        random: fastrand::Rng::with_seed(seed),
        tokens: Vec::new(),
        fences: vec![first],
        done: Vec::new(),
    };
    for _ in 0..CALLS {
        pair.call().await;
    }
    for (call, least) in [
        ("apply", 100),
        ("read", 100),
        ("take", 100),
        ("settle", 100),
        ("mark", 100),
        ("mirror", 100),
        ("release", 100),
        ("claim", 100),
        ("give_up", 100),
        ("look", 100),
        ("past", 100),
        ("raise", 100),
        ("snapshot", 50),
        ("restore", 20),
        ("restart", 20),
        ("compare", 100),
        ("accept", 50),
    ] {
        let count = pair.done.iter().filter(|done| **done == call).count();
        assert!(count >= least, "{call} was called {count} times only");
    }
}

/// A claim needs the lease to be over by Redis's own clock.
#[tokio::test]
async fn nothing_younger_than_the_lease_is_claimed() {
    let redis = RedisServer::start();
    let (young, expired) = (outbox(&redis, 3_600_000), outbox(&redis, 0));
    let until = Instant::now() + Duration::from_secs(5);
    let fence = Fence {
        version: 1,
        phase: Phase::KaskFirst,
        stash: "stash".into(),
        shards: "d".into(),
        member: "m".into(),
        ahead: None,
    };
    for outbox in [&young, &expired] {
        assert!(outbox.shards()[0].wait_up(until).await);
    }
    young.raise(0, &fence, false, until).await.unwrap();
    let key = Key::from_bytes("k");
    let applied = young.apply(&key, &fence.to_text(), &Content::Nothing, Some(Token(1)), false, until).await.unwrap();
    assert_eq!(young.expired(0, 3_600_000, 10, until).await.unwrap(), []);
    use decant::protocol::world::{Applied, Claimed, Held};
    assert_eq!(young.claim(&key, &[Token(1)], Token(2), until).await, Ok(Claimed::Nothing));
    let claimed = expired.claim(&key, &[Token(1)], Token(2), until).await;
    let Applied::Done { generation, .. } = applied else { panic!("{applied:?}") };
    assert_eq!(claimed, Ok(Claimed::ToKask { generation, held: Held::Is(Content::Nothing) }));
}

/// A full Redis refuses what begins something, and does nothing of it; what finishes something still works.
#[tokio::test]
async fn a_full_redis_does_a_script_whole_or_not_at_all() {
    let redis = RedisServer::with_flags(&["--maxmemory-policy", "noeviction"]);
    let outbox = outbox(&redis, 0);
    let until = Instant::now() + Duration::from_secs(5);
    assert!(outbox.shards()[0].wait_up(until).await);
    let fence = Fence {
        version: 1,
        phase: Phase::KaskFirst,
        stash: "stash".into(),
        shards: "d".into(),
        member: "m".into(),
        ahead: None,
    };
    outbox.raise(0, &fence, false, until).await.unwrap();
    let (text, key, other) = (fence.to_text(), Key::from_bytes("k"), Key::from_bytes("l"));
    let value = Content::Body(Bytes::from_static(b"JSON..1"));
    let applied = outbox.apply(&key, &text, &value, Some(Token(1)), false, until).await.unwrap();
    outbox.apply(&other, &text, &value, Some(Token(7)), false, until).await.unwrap();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").exec(&mut redis.client()).unwrap();
    use decant::protocol::world::{Applied, Claimed, Refusal, Settled};
    let Applied::Done { generation: first, .. } = applied else { panic!("{applied:?}") };
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
        Ok(Claimed::ToKask { generation, .. }) if generation == first
    ));
    assert_eq!(
        outbox.settle(&key, Token(5), first, until).await,
        Ok(Settled::Gone { alone: true }),
        "a full Redis still drains"
    );
    let deleted = outbox.apply(&other, &text, &Content::Nothing, Some(Token(6)), false, until).await;
    assert!(deleted.is_ok(), "a delete makes room: {deleted:?}");
}
