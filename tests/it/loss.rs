//! A real Redis that forgets: it evicts, it restarts from a snapshot, a replica without the last writes is promoted, it is emptied.
//! What was acknowledged and is lost there is told; nothing that Kask has is harmed by it.

use crate::{
    redis_server::RedisServer,
    support::run_decant,
    whole::{Kask, Setup, Whole, redis_holds, redis_set, wait_until},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn cli(decant: &Whole, args: &[&str]) -> (i32, String, String) {
    let admin = format!("http://{}", decant.admin);
    run_decant(args.iter().copied().chain(["--admin", &admin]))
}

fn call(redis: &RedisServer, words: &[&str]) {
    let mut cmd = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        cmd.arg(*word);
    });
    cmd.exec(&mut redis.client()).unwrap();
}

fn shard(decant: &Whole) -> Value {
    decant.admin_get("/v1/stashes/echoseen/shards")["shards"][0].clone()
}

fn wait_suspect(decant: &Whole) {
    wait_until("the loss is noticed", || shard(decant)["suspect"].is_object());
    assert_eq!(decant.metric("decant_shard_suspect", &[]), 1.0);
}

/// Connected again, and past the quiet lease.
fn wait_quiet_over(decant: &Whole) {
    wait_until("the quiet lease is over", || {
        let shard = shard(decant);
        shard["up"] == true && shard["quiet_ms"] == 0 && shard["seen_ms_ago"].as_u64().is_some_and(|ms| ms < 1_000)
    });
}

fn guard(decant: &Whole, to: &str, name: &str) -> (u16, Value) {
    let (status, told) = decant.ask_move(to, json!({ "dry_run": true }));
    let guards = told["guards"].as_array().cloned().unwrap_or_default();
    let found = guards.into_iter().find(|guard| guard["name"] == name);
    (status, found.unwrap_or_else(|| panic!("no guard {name}: {told:#}")))
}

/// What a snapshot keeps, and what is written after it.
struct Story {
    redis: RedisServer,
    kask: Kask,
    decant: Whole,
}

impl Story {
    fn begin(phase: &'static str, after_loss: &str) -> Story {
        let (redis, kask) = (RedisServer::start(), Kask::start());
        let setup =
            Setup { redis: format!("after_loss = \"{after_loss}\"\n"), ..Setup::new(&redis, phase).with_kask(&kask) };
        let decant = Whole::start(&setup);
        Story { redis, kask, decant }
    }

    /// Copied to Kask, all but `only`, which somebody has put into Redis past decant.
    fn write_before(&self) {
        for key in ["stays", "changes", "goes"] {
            assert_eq!(self.decant.set(key, "JSON..1").status(), 201);
        }
        redis_set(&self.redis, "only", "1");
        self.decant.wait_drained(&self.redis);
    }

    fn write_after(&self) {
        assert_eq!(self.decant.set("changes", "JSON..2").status(), 201);
        assert_eq!(self.decant.delete("goes").status(), 204);
        self.decant.wait_drained(&self.redis);
    }

    /// Killed, and back with what it had saved.
    fn restart_from_a_snapshot(&mut self) {
        self.write_before();
        call(&self.redis, &["SAVE"]);
        self.write_after();
        self.redis.restart();
    }
}

#[test]
fn a_restart_from_a_snapshot_is_noticed_and_kask_stays_right() {
    let mut story = Story::begin("kask-first", "serve");
    story.restart_from_a_snapshot();
    let Story { redis, kask, decant } = &story;
    wait_suspect(decant);
    assert_eq!(redis_holds(redis, "changes").as_deref(), Some("1"), "Redis has forgotten");
    assert_eq!(decant.got("changes"), (200, "JSON..2".into()));
    assert_eq!(decant.got("stays"), (200, "JSON..1".into()));
    // Nobody knows any more which of the two was deleted: both are served, and neither is copied.
    for key in ["only", "goes"] {
        let raw = decant.get(key);
        assert_eq!((raw.status(), raw.header("Decant-Tier")), (200, Some("redis")), "{key}");
    }
    assert!(decant.metric("decant_doubtful_reads_total", &["outcome=\"served\""]) >= 2.0);
    wait_quiet_over(decant);
    assert_eq!(decant.got("goes").0, 200);
    assert_eq!(decant.set("new", "JSON..3").status(), 201, "writes go on");
    decant.wait_drained(redis);
    assert_eq!(kask.holds("new").as_deref(), Some("JSON..3"));
    assert_eq!(
        (kask.holds("goes"), kask.holds("only")),
        (None, None),
        "what was deleted in Kask does not come back there"
    );
    let (status, told) = guard(decant, "redis-standby", "no_shard_suspect");
    assert!(status == 409 && told["ok"] == false && told["figure"].as_str().unwrap().contains("missing"), "{told}");
    let status = decant.admin_get("/v1/stashes/echoseen");
    assert!(status["attention"].to_string().contains("came back without acknowledged writes"), "{status:#}");
}

#[test]
fn what_only_a_suspect_redis_has_can_be_held_back_until_the_loss_is_accepted() {
    let mut story = Story::begin("kask-first", "hold");
    story.restart_from_a_snapshot();
    let Story { redis, kask, decant } = &story;
    wait_suspect(decant);
    assert_eq!((decant.got("goes").0, decant.got("only").0), (404, 404));
    assert_eq!(decant.got("stays"), (200, "JSON..1".into()));
    assert!(decant.metric("decant_doubtful_reads_total", &["outcome=\"held\""]) >= 2.0);
    let (code, out, _) = cli(decant, &["shard", "show"]);
    assert!(code == 1 && out.contains("LOST") && out.contains("writes that were counted are missing"), "{out}");
    wait_quiet_over(decant);
    let (code, _, err) = cli(decant, &["shard", "accept-loss", "main", "--reason", " "]);
    assert!(code == 2 && err.contains("for a reason"), "{err}");
    assert_eq!(cli(decant, &["shard", "accept-loss", "../phase", "--reason", "x"]).0, 64);
    let (code, out, err) = cli(decant, &["shard", "accept-loss", "main", "--reason", "the disk", "--by", "ops"]);
    assert!(code == 0 && out.contains("by ops: the disk"), "{out}{err}");
    wait_until("every look shows it", || shard(decant)["suspect"].is_null());
    let (code, out, _) = cli(decant, &["shard", "show", "main"]);
    assert!(code == 0 && out.contains("by ops: the disk"), "{out}");
    let (code, _, err) = cli(decant, &["shard", "accept-loss", "main", "--reason", "again"]);
    assert!(code == 2 && err.contains("nothing to accept"), "{err}");
    // It counts again: served, and copied.
    assert_eq!(decant.got("only"), (200, "JSON..1".into()));
    decant.wait_drained(redis);
    wait_until("it is copied", || kask.holds("only").is_some());
    assert_eq!(guard(decant, "redis-standby", "no_shard_suspect").1["ok"], true);
}

#[test]
fn a_loss_is_not_accepted_while_copies_may_still_arrive() {
    let redis = RedisServer::start();
    let setup = Setup { lease_ms: 20_000, ..Setup::new(&redis, "kask-first") };
    let decant = Whole::start(&setup);
    assert_eq!(decant.set("key", "JSON..1").status(), 201);
    call(&redis, &["FLUSHALL"]);
    wait_suspect(&decant);
    let (code, _, err) = cli(&decant, &["shard", "accept-loss", "main", "--reason", "I emptied it"]);
    assert!(code == 2 && err.contains("may still arrive"), "{err}");
    let (_, told) = guard(&decant, "redis-standby", "no_shard_suspect");
    assert_eq!(told["ok"], false, "{told}");
}

#[test]
fn a_promoted_replica_without_the_last_writes_is_noticed() {
    let mut story = Story::begin("kask-first", "hold");
    let port = story.redis.port.to_string();
    let mut replica = RedisServer::with_flags(&["--replicaof", "127.0.0.1", &port]);
    story.write_before();
    wait_until("the replica has it all", || {
        redis_holds(&replica, "only").is_some() && redis_holds(&replica, "goes").is_some()
    });
    // It falls behind, and is promoted where the primary was.
    call(&replica, &["REPLICAOF", "NO", "ONE"]);
    story.write_after();
    story.redis.kill();
    call(&replica, &["CONFIG", "SET", "port", &port]);
    replica.port = story.redis.port;
    let decant = &story.decant;
    wait_suspect(decant);
    assert_eq!(redis_holds(&replica, "changes").as_deref(), Some("1"), "it has never had the last writes");
    assert_eq!(decant.got("changes"), (200, "JSON..2".into()));
    assert_eq!(decant.got("goes").0, 404);
    assert_eq!(decant.set("changes", "JSON..3").status(), 201);
    assert_eq!(decant.got("changes"), (200, "JSON..3".into()));
    wait_quiet_over(decant);
    decant.wait_drained(&replica);
    assert_eq!(story.kask.holds("changes").as_deref(), Some("JSON..3"));
    assert_eq!(story.kask.holds("goes"), None);
}

#[test]
fn a_replica_that_has_every_write_is_not_suspect() {
    let mut story = Story::begin("kask-first", "hold");
    let port = story.redis.port.to_string();
    let mut replica = RedisServer::with_flags(&["--replicaof", "127.0.0.1", &port]);
    story.write_before();
    story.write_after();
    // decant writes nothing of its own accord that counts: what stands in the one stands in the other at last.
    let counted = |server: &RedisServer| redis_holds(server, "decant|echoseen|generation");
    wait_until("the replica has it all", || counted(&replica).is_some() && counted(&replica) == counted(&story.redis));
    story.redis.kill();
    call(&replica, &["REPLICAOF", "NO", "ONE"]);
    call(&replica, &["CONFIG", "SET", "port", &port]);
    replica.port = story.redis.port;
    let decant = &story.decant;
    wait_until("it is connected to", || shard(decant)["quiet_ms"].as_u64().is_some_and(|ms| ms > 0));
    wait_quiet_over(decant);
    assert_eq!(shard(decant)["suspect"], Value::Null);
    assert_eq!(decant.got("only"), (200, "JSON..1".into()));
    assert_eq!(guard(decant, "redis-standby", "no_shard_suspect").1["ok"], true);
}

#[test]
fn a_decant_that_was_away_meanwhile_notices_when_it_is_back() {
    let mut story = Story::begin("kask-first", "hold");
    story.write_before();
    call(&story.redis, &["SAVE"]);
    story.write_after();
    // What it has seen is written down within a moment of its answers.
    let seen = story.decant.dir.path().join("state/echoseen.seen");
    let counted = redis_holds(&story.redis, "decant|echoseen|generation").unwrap();
    let told = format!("\"writes\":{counted}");
    wait_until("what was seen is on disk", || {
        String::from_utf8_lossy(&std::fs::read(&seen).unwrap_or_default()).contains(&told)
    });
    story.decant.kill_9();
    story.redis.restart();
    story.decant.restart();
    wait_suspect(&story.decant);
    assert_eq!(story.decant.got("changes"), (200, "JSON..2".into()));
    assert_eq!(story.decant.got("goes").0, 404);
}

#[test]
fn a_mirror_that_lost_writes_is_no_way_back_also_once_that_is_accepted() {
    let mut story = Story::begin("redis-standby", "serve");
    story.restart_from_a_snapshot();
    let decant = &story.decant;
    wait_suspect(decant);
    assert_eq!(decant.got("changes"), (200, "JSON..2".into()));
    assert_eq!(decant.got("goes").0, 404, "Kask alone is read");
    assert_eq!(guard(decant, "kask-first", "no_shard_suspect").1["ok"], false);
    wait_quiet_over(decant);
    let (code, _, err) = cli(decant, &["shard", "accept-loss", "main", "--reason", "x"]);
    assert_eq!(code, 0, "{err}");
    wait_until("every look shows it", || shard(decant)["suspect"].is_null());
    let (status, told) = guard(decant, "kask-first", "mirror_is_clean");
    assert!(status == 409 && told["ok"] == false && told["figure"].as_str().unwrap().contains("lost writes"), "{told}");
    decant.begin_move("kask-first", json!({ "force": true }));
    decant.wait_settled("kask-first");
    wait_until("Redis is written first again", || shard(decant)["mirror_lost_since"].is_null());
}

/// In `redis-standby` Kask decides, and nothing of before is on its way there: no write waits for the quiet lease of a server that came
/// back without anything, or of one that has lost its fence.
#[test]
fn a_mirror_that_is_emptied_keeps_no_write_waiting() {
    let (mut redis, kask) = (RedisServer::start(), Kask::start());
    let setup = Setup { lease_ms: 20_000, ..Setup::new(&redis, "redis-standby").with_kask(&kask) };
    let decant = Whole::start(&setup);
    assert_eq!(decant.set("k", "JSON..1").status(), 201);
    decant.wait_drained(&redis);
    for emptied in ["restarted", "flushed"] {
        match emptied {
            "restarted" => redis.restart_empty(),
            _ => call(&redis, &["FLUSHALL"]),
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            let asked = Instant::now();
            let status = decant.set("k", "JSON..2").status();
            assert!(
                status == 201 && asked.elapsed() < Duration::from_secs(1),
                "{emptied}: {status} {:?}",
                asked.elapsed()
            );
        }
        let quiet = shard(&decant)["quiet_ms"].as_u64().unwrap();
        assert!(quiet > 10_000, "{emptied}: the quiet lease has not begun: {quiet}");
        wait_until("it is mirrored", || redis_holds(&redis, "k").as_deref() == Some("2"));
    }
}

#[test]
fn eviction_costs_nothing_in_kask_first_and_is_told_before_the_way_back() {
    const VALUES: usize = 150;
    let redis = RedisServer::with_flags(&["--maxmemory", "4mb", "--maxmemory-policy", "volatile-lru"]);
    let decant = Whole::start(&Setup::new(&redis, "dual-write"));
    decant.move_to("kask-first");
    assert_eq!(guard(&decant, "dual-write", "nothing_evicted").1["ok"], true);
    let value = |i: usize| format!("JSON..\"{i}{}\"", "x".repeat(50_000));
    for i in 0..VALUES {
        assert_eq!(decant.set(&format!("key{i}"), &value(i)).status(), 201, "{i}");
    }
    decant.wait_drained(&redis);
    let gone = (0..VALUES).filter(|i| redis_holds(&redis, &format!("key{i}")).is_none()).count();
    assert!(gone > 0, "nothing was evicted");
    for i in 0..VALUES {
        assert!(decant.got(&format!("key{i}")) == (200, value(i)), "key{i}");
    }
    for name in ["fence", "generation", "life"] {
        let kept: bool =
            redis::cmd("EXISTS").arg(format!("decant|echoseen|{name}")).query(&mut redis.client()).unwrap();
        assert!(kept, "{name}");
    }
    let (status, told) = guard(&decant, "dual-write", "nothing_evicted");
    assert!(status == 409 && told["ok"] == false, "{told}");
    wait_until("it is counted", || decant.metric("decant_shard_evicted_keys", &[]) >= gone as f64);
    let status = decant.admin_get("/v1/stashes/echoseen");
    assert!(status["attention"].to_string().contains("evicted"), "{status:#}");
    assert_eq!(shard(&decant)["suspect"], Value::Null, "eviction is no loss");
    // Once Redis alone is read, it begins anew.
    decant.begin_move("dual-write", json!({ "force": true }));
    decant.wait_settled("dual-write");
    decant.move_to("kask-first");
    assert_eq!(guard(&decant, "dual-write", "nothing_evicted").1["ok"], true);
}

#[test]
fn what_redis_evicted_is_known_after_its_restart() {
    let flags =
        ["--maxmemory", "4mb", "--maxmemory-policy", "volatile-lru", "--appendonly", "yes", "--appendfsync", "always"];
    let mut redis = RedisServer::with_flags(&flags);
    let decant = Whole::start(&Setup::new(&redis, "kask-first"));
    let value = format!("JSON..\"{}\"", "x".repeat(100_000));
    let evicted = || decant.metric("decant_shard_evicted_keys", &[]);
    let mut i = 0;
    wait_until("something is evicted, and that is counted", || {
        i += 1;
        decant.set(&format!("key{i}"), &value);
        evicted() > 0.0
    });
    let before = evicted();
    redis.restart();
    wait_until("it is connected to", || shard(&decant)["quiet_ms"].as_u64().is_some_and(|ms| ms > 0));
    wait_quiet_over(&decant);
    assert_eq!(shard(&decant)["suspect"], Value::Null, "it has lost nothing");
    assert!(shard(&decant)["evicted"].as_f64().unwrap() >= before);
    assert_eq!(guard(&decant, "dual-write", "nothing_evicted").1["ok"], false);
}
