//! `redis-standby` while Redis is away: Kask is written alone, the mirror is durably unclean, and healed when Redis is back.

use crate::{
    redis_server::RedisServer,
    whole::{Kask, Setup, Whole, intents, redis_holds, redis_set, wait_until},
};
use decant::{
    codec::key::Key,
    stash::alone::journal::{Entry, Header, Journal, path_in},
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

struct Stage {
    redis: RedisServer,
    kask: Kask,
    decant: Whole,
    setup: Setup,
}

/// A Redis that keeps all that it acknowledged.
fn stage() -> Stage {
    let redis = RedisServer::with_flags(&["--appendonly", "yes", "--appendfsync", "always"]);
    let kask = Kask::start();
    let setup = Setup::new(&redis, "redis-standby").with_kask(&kask);
    let decant = Whole::start(&setup);
    Stage { redis, kask, decant, setup }
}

impl Stage {
    fn journal(&self) -> PathBuf {
        path_in(&self.decant.dir.path().join("state"), "echoseen")
    }

    fn told(&self) -> Value {
        self.decant.admin_get("/v1/stashes/echoseen")["alone"].clone()
    }

    fn unclean(&self) -> bool {
        self.decant.metric("decant_mirror_unclean", &[]) == 1.0
    }

    fn set(&self, key: &str, body: &str) {
        let raw = self.decant.set(key, body);
        assert_eq!(raw.status(), 201, "{key}: {}", raw.text());
    }

    fn delete(&self, key: &str) {
        let raw = self.decant.delete(key);
        assert_eq!(raw.status(), 204, "{key}: {}", raw.text());
    }

    /// Three keys in both tiers.
    fn seeded(self) -> Stage {
        for key in ["changed", "deleted", "kept"] {
            self.set(key, "JSON..\"old\"");
        }
        self.decant.wait_drained(&self.redis);
        self
    }

    /// What a client does meanwhile; not one of its requests fails.
    fn written_alone(&self) {
        for round in 0..3 {
            self.set("changed", &format!("JSON..\"new{round}\""));
            self.delete("deleted");
            self.set("fresh", "JSON..1");
            assert_eq!(self.decant.got("changed"), (200, format!("JSON..\"new{round}\"")));
            assert_eq!(self.decant.got("deleted").0, 404);
            assert_eq!(self.decant.got("kept"), (200, "JSON..\"old\"".into()));
            assert_eq!(self.decant.got("nobody").0, 404);
        }
    }

    fn assert_noted(&self) {
        assert!(self.journal().exists() && self.unclean());
        let told = self.told();
        assert_eq!((&told["keys"], &told["overflowed"], &told["trouble"]), (&json!(3), &json!(false), &Value::Null));
        assert!(told["since"].is_string(), "{told}");
    }

    fn assert_healed(&self) {
        wait_until("the mirror is clean", || !self.unclean());
        assert!(!self.journal().exists());
        assert_eq!(self.told()["since"], Value::Null);
        self.decant.wait_drained(&self.redis);
        assert_eq!(redis_holds(&self.redis, "changed").as_deref(), Some("s:4:\"new2\";"));
        assert_eq!(redis_holds(&self.redis, "deleted"), None);
        assert_eq!(redis_holds(&self.redis, "fresh").as_deref(), Some("1"));
        assert_eq!(redis_holds(&self.redis, "kept").as_deref(), Some("s:3:\"old\";"));
        assert_eq!(self.kask.holds("changed").as_deref(), Some("JSON..\"new2\""));
    }

    fn assert_refused_as_unclean(&self, figure: &str) {
        let (status, told) = self.decant.ask_move("kask-first", json!({}));
        assert_eq!((status, &told["type"]), (409, &json!("urn:decant:problem:guard-failed")), "{told:#}");
        let guards = told["guards"].as_array().unwrap();
        let guard = guards.iter().find(|guard| guard["name"] == "mirror_is_clean").unwrap();
        assert_eq!(guard["ok"], false);
        assert!(guard["figure"].as_str().unwrap().contains(figure), "{guard}");
    }

    fn log_has(&self, text: &str) -> bool {
        self.decant.log.lock().unwrap().iter().any(|line| line.contains(text))
    }
}

#[test]
fn redis_killed_and_back() {
    let mut stage = stage().seeded();
    stage.redis.kill();
    stage.written_alone();
    stage.assert_noted();
    stage.assert_refused_as_unclean("3 keys");
    stage.redis.restart();
    stage.assert_healed();
    stage.decant.wait_no_shard_came_back("kask-first");
    stage.decant.move_to("kask-first");
    assert_eq!(stage.decant.got("changed"), (200, "JSON..\"new2\"".into()));
}

/// Redis takes connections and says nothing: writes wait for it once, and go on.
#[test]
fn redis_hangs_and_goes_on() {
    let stage = stage().seeded();
    stage.redis.sigstop();
    stage.written_alone();
    stage.assert_noted();
    stage.redis.sigcont();
    stage.assert_healed();
    wait_until("no intent is left", || intents(&stage.redis) == 0);
    stage.decant.move_to("kask-first");
}

/// A key whose mirror Redis's end cut off is read from Kask all the same.
#[test]
fn a_pending_key_is_kasks_to_answer() {
    let mut stage = stage().seeded();
    stage.redis.sigstop();
    stage.set("changed", "JSON..\"new\"");
    stage.redis.kill();
    wait_until("the connection is known as broken", || stage.decant.metric("decant_tier_up", &["redis"]) == 0.0);
    stage.set("changed", "JSON..\"newer\"");
    assert_eq!(stage.decant.got("changed"), (200, "JSON..\"newer\"".into()));
    stage.redis.restart();
    wait_until("the mirror is clean", || !stage.unclean());
    assert_eq!(redis_holds(&stage.redis, "changed").as_deref(), Some("s:5:\"newer\";"));
}

#[test]
fn decant_killed_before_it_could_heal() {
    let mut stage = stage().seeded();
    stage.redis.kill();
    stage.written_alone();
    stage.decant.kill_9();
    stage.decant.restart();
    stage.assert_noted();
    // It writes alone again at once, into the same journal.
    stage.set("fresh", "JSON..1");
    stage.assert_noted();
    stage.redis.restart();
    stage.assert_healed();
}

/// Killed again and again while it heals: it starts over each time.
#[test]
fn decant_killed_while_it_heals() {
    const KEYS: usize = 400;
    let mut stage = stage();
    stage.redis.kill();
    for key in 0..KEYS {
        stage.set(&format!("key{key}"), &format!("JSON..{key}"));
    }
    stage.redis.restart();
    let names: Vec<String> = (0..KEYS).map(|key| format!("key{key}")).collect();
    let mut client = stage.redis.client();
    let mut healed = || {
        let held: Vec<Option<usize>> = redis::cmd("MGET").arg(&names).query(&mut client).unwrap();
        held.into_iter().enumerate().filter(|(key, value)| *value == Some(*key)).count()
    };
    for some in [1, KEYS / 2] {
        wait_until("some keys are healed", || healed() >= some);
        stage.decant.kill_9();
        assert!(stage.journal().exists(), "not all: {} of {KEYS}", healed());
        stage.decant.restart();
    }
    wait_until("the mirror is clean", || !stage.unclean());
    assert_eq!(healed(), KEYS);
    stage.decant.wait_drained(&stage.redis);
}

/// Redis answers again only after the lease of a write that Kask may still be about to apply.
#[test]
fn healing_waits_for_a_lease() {
    let mut stage = stage().seeded();
    let lease = Duration::from_millis(stage.setup.lease_ms);
    stage.redis.kill();
    let began = Instant::now();
    stage.set("changed", "JSON..\"new2\"");
    stage.redis.restart();
    wait_until("Redis is healed", || redis_holds(&stage.redis, "changed").as_deref() == Some("s:4:\"new2\";"));
    assert!(began.elapsed() >= lease, "{:?}", began.elapsed());
}

#[test]
fn who_is_not_named_by_the_fence_writes_nothing_alone() {
    let mut stage = stage().seeded();
    let other = Whole::start_unserved(&stage.setup);
    wait_until("the other decant serves", || other.got("kept").0 == 200);
    stage.redis.kill();
    assert_eq!(other.set("changed", "JSON..\"new\"").status(), 503);
    assert_eq!(other.delete("changed").status(), 503);
    assert_eq!(other.got("changed"), (200, "JSON..\"old\"".into()));
    assert!(!path_in(&other.dir.path().join("state"), "echoseen").exists());
    stage.set("changed", "JSON..\"new\"");
    stage.redis.restart();
    wait_until("the mirror is clean", || !stage.unclean());
    assert_eq!(redis_holds(&stage.redis, "changed").as_deref(), Some("s:3:\"new\";"));
}

/// Starts decant again on a journal that a test made, after the decant before it was killed.
fn on_journal(stage: &mut Stage, change: impl FnOnce(&Path)) {
    stage.decant.kill_9();
    change(&stage.journal());
    stage.decant.restart();
}

fn make(path: &Path, version: u64, entries: &[Entry]) {
    let mut journal = Journal::create(path, &Header::new("echoseen", version, 1_000)).unwrap();
    journal.append(entries).unwrap();
}

fn some_key() -> Entry {
    Entry::Key(Key::from_bytes(&b"changed"[..]))
}

#[test]
fn an_overflowed_journal_is_told() {
    let mut stage = stage().seeded();
    on_journal(&mut stage, |path| make(path, 1, &[some_key(), Entry::Overflowed]));
    assert!(stage.unclean() && stage.log_has("has overflowed"));
    assert_eq!(stage.told()["overflowed"], true);
    stage.assert_refused_as_unclean("has overflowed");
    stage.redis.kill();
    stage.written_alone();
    stage.redis.restart();
    stage.decant.wait_drained(&stage.redis);
    assert!(stage.unclean() && stage.journal().exists(), "never healed from guesses");
    // By force, Redis becomes the sequencer as it is; what is known of its gaps is kept aside.
    stage.decant.begin_move("kask-first", json!({ "force": true }));
    stage.decant.wait_settled("kask-first");
    wait_until("the journal is set aside", || !stage.journal().exists() && !stage.unclean());
    assert!(stage.journal().with_extension("journal.before-2").exists());
}

#[test]
fn a_damaged_journal_is_named() {
    let mut stage = stage().seeded();
    on_journal(&mut stage, |path| {
        make(path, 1, &[some_key(), some_key()]);
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() - 30;
        bytes[middle] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    });
    assert!(stage.unclean() && stage.log_has("echoseen.alone.journal damaged at byte"));
    assert!(stage.told()["trouble"].as_str().unwrap().contains("not guessed around"));
    stage.assert_refused_as_unclean("damaged at byte");
}

#[test]
fn a_journal_of_another_version_of_the_phase_is_told() {
    let mut stage = stage().seeded();
    stage.redis.kill();
    stage.set("changed", "JSON..\"new\"");
    // Forwards by force, with Redis away: it is retired as it is.
    stage.decant.begin_move("kask-only", json!({ "force": true }));
    wait_until("the journal is told", || stage.told()["trouble"].is_string());
    assert!(stage.told()["trouble"].as_str().unwrap().contains("belongs to version 1 of the phase, which is 2 now"));
    assert!(stage.decant.phase()["mirror_unclean_since"].is_string());
    stage.redis.restart();
    stage.decant.wait_settled("kask-only");
    stage.decant.begin_move("redis-standby", json!({ "force": true }));
    stage.decant.wait_settled("redis-standby");
    assert_eq!(redis_holds(&stage.redis, "changed").as_deref(), Some("s:3:\"old\";"), "not healed");
    assert!(stage.unclean());
    stage.assert_refused_as_unclean("belongs to version 1");
    // And with Redis away again, writes go on.
    stage.redis.kill();
    stage.set("changed", "JSON..\"newer\"");
}

/// A Redis that takes no writes (it is full) is as good as away. A move waits for the lone writes under way, since no fence stops them.
#[test]
fn a_move_waits_for_lone_writes_under_way() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    // As long as the config allows: the guards' own look at Kask gives up half a second earlier.
    let kask_timeout = Duration::from_millis(1_700);
    let setup =
        Setup { kask_timeout_ms: 1_700, lease_ms: 4_000, ..Setup::new(&redis, "redis-standby").with_kask(&kask) };
    let decant = Whole::start(&setup);
    redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).exec(&mut redis.client()).unwrap();
    kask.hang();
    std::thread::scope(|threads| {
        let began = Instant::now();
        let write = threads.spawn(|| decant.set("k", "JSON..1").status());
        wait_until("it is written alone", || decant.metric("decant_mirror_unclean", &[]) == 1.0);
        decant.begin_move("kask-only", json!({ "force": true }));
        let took = began.elapsed();
        assert_eq!(write.join().unwrap(), 503, "its outcome is unknown");
        assert!(took >= kask_timeout, "moved after {took:?}");
    });
    kask.go_on();
}

/// A forced move while Redis is away costs no client anything: who comes while it waits goes on in the next phase.
#[test]
fn writes_go_on_while_a_move_waits() {
    let mut stage = stage().seeded();
    stage.redis.kill();
    let (stage, over) = (&stage, &AtomicBool::new(false));
    std::thread::scope(|threads| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                threads.spawn(move || {
                    let mut statuses = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        statuses.push(stage.decant.set(&format!("key{client}"), "JSON..1").status());
                    }
                    statuses
                })
            })
            .collect();
        wait_until("they write alone", || stage.unclean());
        stage.decant.begin_move("kask-only", json!({ "force": true }));
        wait_until("they write in the next phase", || stage.told()["trouble"].is_string());
        over.store(true, Ordering::Relaxed);
        for client in clients {
            let statuses = client.join().unwrap();
            assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
        }
    });
}

/// A clean journal's mirror takes nothing that Redis was given by others: what is healed is what Kask holds.
#[test]
fn nothing_is_copied_from_redis() {
    let mut stage = stage().seeded();
    stage.redis.kill();
    stage.delete("deleted");
    stage.redis.restart();
    redis_set(&stage.redis, "deleted", "i:1;");
    wait_until("the mirror is clean", || !stage.unclean());
    assert_eq!((stage.kask.holds("deleted"), redis_holds(&stage.redis, "deleted")), (None, None));
}
