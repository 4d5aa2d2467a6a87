//! A running decant for each guard, at which that guard fails and no other.

use crate::{
    liar::{Act, Liar},
    redis_server::RedisServer,
    whole::{Kask, Setup, Whole, redis_set, wait_until},
};
use serde_json::json;

/// What fails alone, before which step, and what is told of it.
pub struct Case {
    pub guard: &'static str,
    pub to: &'static str,
    pub stage: fn() -> Stage,
    pub figure: &'static str,
}

const fn case(guard: &'static str, to: &'static str, stage: fn() -> Stage, figure: &'static str) -> Case {
    Case { guard, to, stage, figure }
}

/// One for each guard that there is: a test holds this to the code.
pub const CASES: &[Case] = &[
    case("redis_answers", "kask-first", with_redis_away, "no answer from main"),
    case("kask_answers", "kask-first", with_kask_away, "refused"),
    case("nothing_damaged", "kask-first", with_a_damaged_intent, "1 damaged intents"),
    case("no_shard_suspect", "kask-first", with_an_emptied_redis, "main: "),
    case("nothing_evicted", "dual-write", with_a_redis_that_evicted, " keys evicted since kask-first began"),
    case("redis_fit", "dual-write", with_a_redis_that_evicts_anything, "main: maxmemory-policy is allkeys-lru ("),
    case("kask_takes_writes", "dual-write", with_a_kask_that_takes_no_writes, "a probe was not written: "),
    case("no_backlog", "kask-first", with_a_backlog, "1001 writes are open in the outbox"),
    case("kask_not_stale", "dual-write", back_in_redis_only, "nobody says so"),
    case("kask_was_not_stale", "kask-first", forced_out_of_redis_only, "although Kask may have held older values"),
    case("backfill_finished", "redis-standby", backfilled_before_kask_went_stale, "writes have gone past Kask since"),
    case("verified", "redis-standby", copied_and_not_compared, "no run of verify over every key has ended"),
    case("still_in_kask", "redis-standby", with_a_kask_that_was_emptied, "0 of 1 sampled keys are in Kask"),
    case("mirror_is_clean", "kask-first", back_in_redis_standby, "writes have gone past Redis"),
    case("redis_missed_nothing", "redis-standby", in_kask_only, "it lacks 1 that were acknowledged"),
    case("shadow_agrees", "kask-first", differing_in_shadow, "Kask had another value for "),
    case("rehearsal", "redis-standby", fallen_back_a_moment_ago, "fell back on Redis: misses of the next phase"),
    case("soaked", "kask-only", in_redis_standby_for_a_moment, "redis-standby has held for "),
    case("kask_errors", "kask-only", with_a_kask_that_failed, " requests to Kask failed in the last hour ("),
    case("nobody_else_writes", "dual-write", beside_another_writer, " (set, "),
    case("nobody_else_reads", "kask-only", beside_a_reader, " (get, "),
];

pub struct Stage {
    pub decant: Whole,
    pub redis: RedisServer,
    /// None: embedded, or a liar.
    _kask: Option<Kask>,
    /// Clients of Redis that must last as long as the stage.
    pub held: Vec<redis::Connection>,
    /// What a liar runs on.
    _runtime: Option<tokio::runtime::Runtime>,
}

impl Stage {
    pub fn new(phase: &'static str, stash: &str) -> Stage {
        let redis = RedisServer::start();
        let decant = Whole::start(&Setup { stash: stash.to_owned(), ..Setup::new(&redis, phase) });
        Stage { decant, redis, _kask: None, held: Vec::new(), _runtime: None }
    }

    fn with_kask(phase: &'static str, stash: &str) -> (Stage, Kask) {
        let (redis, kask) = (RedisServer::start(), Kask::start());
        let setup = Setup { stash: stash.to_owned(), ..Setup::new(&redis, phase).with_kask(&kask) };
        (Stage { decant: Whole::start(&setup), redis, _kask: None, held: Vec::new(), _runtime: None }, kask)
    }

    fn beside(self, kask: Kask) -> Stage {
        Stage { _kask: Some(kask), ..self }
    }

    /// Until nothing is pending as far as this decant knows.
    fn wait_quiet(&self) {
        self.decant.wait_drained(&self.redis);
        wait_until("nothing is pending", || self.decant.metric("decant_keys_pending", &[]) == 0.0);
    }

    fn wait_metric(&self, name: &str, labels: &[&str]) {
        wait_until(name, || {
            self.decant.get("k");
            self.decant.metric(name, labels) >= 1.0
        });
    }

    fn write(&self, key: &str) {
        assert_eq!(self.decant.set(key, "JSON..1").status(), 201);
    }

    fn force(&self, to: &str) {
        self.decant.begin_move(to, json!({ "force": true }));
        self.decant.wait_settled(to);
    }
}

fn with_redis_away() -> Stage {
    let mut stage = Stage::new("dual-write", "");
    stage.redis.kill();
    stage
}

fn with_kask_away() -> Stage {
    let (stage, mut kask) = Stage::with_kask("dual-write", "");
    kask.kill_9();
    stage.beside(kask)
}

/// Kask has nothing, and refuses every write for good.
fn with_a_kask_that_refuses(phase: &'static str) -> Stage {
    with_a_kask_that_answers(phase, |head| match head.starts_with("GET ") {
        true => ("404 Not Found", "not_found"),
        false => ("400 Bad Request", "bad_request"),
    })
}

/// A probe is answered, and no key of Redis.
pub fn with_a_kask_that_fails_for_keys() -> Stage {
    let stage = with_a_kask_that_answers("redis-only", |head| match head.contains("/decant-probe-") {
        true => ("404 Not Found", "not_found"),
        false => ("500 Internal Server Error", "internal_server_error"),
    });
    redis_set(&stage.redis, "k", "i:1;");
    stage
}

/// A status and a problem of Kask's, by the head of a request.
fn with_a_kask_that_answers(
    phase: &'static str,
    answer: impl Fn(&str) -> (&'static str, &'static str) + Send + Sync + 'static,
) -> Stage {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kask = runtime.block_on(Liar::start_by(move |_, asked| {
        let (status, problem) = answer(&asked.head);
        let body = format!(r#"{{"type":"https://www.mediawiki.org/wiki/Kask/errors/{problem}"}}"#);
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
        Act::Say((head + &body).into_bytes())
    }));
    let redis = RedisServer::start();
    let setup = Setup {
        kask_url: Some(format!("http://{}/echoseen/v1/", kask.address)),
        outbox: "tries_max = 2".to_owned(),
        ..Setup::new(&redis, phase)
    };
    Stage { decant: Whole::start(&setup), redis, _kask: None, held: Vec::new(), _runtime: Some(runtime) }
}

fn with_a_damaged_intent() -> Stage {
    let stage = with_a_kask_that_refuses("dual-write");
    stage.write("k");
    stage
}

fn with_a_kask_that_takes_no_writes() -> Stage {
    with_a_kask_that_refuses("redis-only")
}

fn with_a_redis_that_evicts_anything() -> Stage {
    let redis = RedisServer::with_flags(&["--maxmemory-policy", "allkeys-lru"]);
    let decant = Whole::start(&Setup::new(&redis, "redis-only"));
    Stage { decant, redis, _kask: None, held: Vec::new(), _runtime: None }
}

/// Writes of a decant that is not there, and that nobody takes over: one more than may be open.
fn with_a_backlog() -> Stage {
    let stage = Stage::new("dual-write", "");
    let mut zadd = redis::cmd("ZADD");
    zadd.arg("decant|echoseen|to-kask");
    for i in 0..1001 {
        zadd.arg("+inf").arg(format!("{i:032x}k{i}"));
    }
    zadd.exec(&mut stage.redis.client()).unwrap();
    stage
}

fn with_an_emptied_redis() -> Stage {
    let stage = Stage::new("dual-write", "");
    stage.write("k");
    stage.wait_quiet();
    redis::cmd("FLUSHALL").exec(&mut stage.redis.client()).unwrap();
    stage
}

fn with_a_redis_that_evicted() -> Stage {
    let redis = RedisServer::with_flags(&["--maxmemory", "4mb", "--maxmemory-policy", "volatile-lru"]);
    let decant = Whole::start(&Setup::new(&redis, "kask-first"));
    let value = format!("JSON..\"{}\"", "x".repeat(100_000));
    let mut written = 0;
    wait_until("something is evicted", || {
        written += 1;
        decant.set(&format!("k{written}"), &value);
        decant.metric("decant_shard_evicted_keys", &[]) > 0.0
    });
    decant.wait_drained(&redis);
    Stage { decant, redis, _kask: None, held: Vec::new(), _runtime: None }
}

fn back_in_redis_only() -> Stage {
    let stage = Stage::new("dual-write", "");
    stage.decant.move_to("redis-only");
    stage
}

fn forced_out_of_redis_only() -> Stage {
    let stage = back_in_redis_only();
    stage.force("dual-write");
    stage
}

/// What it copied is still equal, which proves nothing of what else was written meanwhile.
fn backfilled_before_kask_went_stale() -> Stage {
    let stage = Stage::new("dual-write", "");
    stage.write("k");
    stage.wait_quiet();
    stage.decant.copy();
    stage.decant.move_to("redis-only");
    stage.force("dual-write");
    stage.force("kask-first");
    assert_eq!(stage.decant.compare()["complete"], true);
    stage
}

fn copied_and_not_compared() -> Stage {
    let stage = Stage::new("kask-first", "");
    stage.write("k");
    stage.wait_quiet();
    stage.decant.copy();
    stage
}

/// All is proven, of a Kask that is not there any more.
fn with_a_kask_that_was_emptied() -> Stage {
    let (stage, mut kask) = Stage::with_kask("kask-first", "");
    stage.write("k");
    stage.wait_quiet();
    stage.decant.copy_and_compare();
    kask.wipe();
    stage.beside(kask)
}

fn back_in_redis_standby() -> Stage {
    let stage = Stage::new("kask-only", "");
    stage.write("k");
    stage.force("redis-standby");
    stage
}

fn in_kask_only() -> Stage {
    let stage = Stage::new("kask-only", "");
    stage.write("k");
    stage
}

/// Kask has another value than Redis, which is the store.
fn differing_in_shadow() -> Stage {
    let (stage, kask) = Stage::with_kask("dual-write", "shadow_share = 1.0");
    redis_set(&stage.redis, "k", "s:1:\"v\";");
    kask.put("k", "JSON..\"w\"");
    stage.wait_quiet();
    stage.wait_metric("decant_shadow_reads_total", &["result=\"mismatch\""]);
    stage.beside(kask)
}

/// All is copied, and somebody needed it from Redis within the hour.
fn fallen_back_a_moment_ago() -> Stage {
    let stage = Stage::new("kask-first", "guards.soak_s = 3600");
    redis_set(&stage.redis, "k", "s:1:\"v\";");
    stage.wait_quiet();
    stage.wait_metric("decant_fallback_hits_total", &[]);
    stage.decant.copy_and_compare();
    stage
}

fn in_redis_standby_for_a_moment() -> Stage {
    Stage::new("redis-standby", "guards.soak_s = 3600")
}

fn with_a_kask_that_failed() -> Stage {
    let (stage, kask) = Stage::with_kask("redis-standby", "guards.kask_errors_max = 0.0");
    kask.hang();
    assert_eq!(stage.decant.get("k").status(), 503);
    kask.go_on();
    wait_until("Kask answers again", || stage.decant.get("k").status() == 404);
    stage.beside(kask)
}

pub fn beside_another_writer() -> Stage {
    let mut stage = Stage::new("redis-only", "");
    let mut other = stage.redis.client();
    redis::cmd("SET").arg("k").arg("i:1;").exec(&mut other).unwrap();
    stage.held.push(other);
    stage
}

/// As a MediaWiki that was never switched to decant.
pub fn beside_a_reader() -> Stage {
    let mut stage = Stage::new("redis-standby", "");
    let mut other = stage.redis.client();
    let _: Option<String> = redis::cmd("GET").arg("k").query(&mut other).unwrap();
    stage.held.push(other);
    stage
}
