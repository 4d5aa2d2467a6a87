//! For each phase: which tiers are asked, what they answer, and what they hold afterwards.

use crate::{
    redis_server::RedisServer,
    support::ask,
    whole::{BASE, Kask, Setup, Whole, redis_holds, redis_set, wait_until},
};

struct Stage {
    redis: RedisServer,
    kask: Kask,
    decant: Whole,
}

fn stage(phase: &'static str, stash: &str) -> Stage {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let setup = Setup { stash: stash.to_owned(), ..Setup::new(&redis, phase).with_kask(&kask) };
    let decant = Whole::start(&setup);
    Stage { redis, kask, decant }
}

impl Stage {
    /// Requests to a tier so far; Redis's looks at the outbox and the mover's steps are not a client's.
    fn asked(&self) -> (f64, f64) {
        let kask = self.decant.metric("decant_tier_requests_total", &["tier=\"kask\""]);
        let redis = ["read", "take", "apply", "mark", "mirror"].iter().map(|op| {
            let op = format!("op=\"{op}\"");
            self.decant.metric("decant_tier_requests_total", &["tier=\"redis\"", &op])
        });
        (kask, redis.sum())
    }

    /// What an operation asks of Kask and of Redis, once its background work is over.
    fn asks(&self, operation: impl FnOnce(&Whole)) -> (f64, f64) {
        let before = self.asked();
        operation(&self.decant);
        self.decant.wait_drained(&self.redis);
        let after = self.asked();
        (after.0 - before.0, after.1 - before.1)
    }

    /// Waits until an operation that can be repeated asks just this. Where this decant has not looked at the outbox for a while (a busy
    /// machine), it asks Redis first, and rightly so.
    fn wait_asks(&self, what: &str, expected: (f64, f64), operation: impl Fn(&Whole)) {
        wait_until(what, || self.asks(&operation) == expected);
    }

    /// Until nothing is pending any more as far as this decant knows, so that the next read takes the plain path.
    fn wait_quiet(&self) {
        self.decant.wait_drained(&self.redis);
        wait_until("nothing is pending", || self.decant.metric("decant_keys_pending", &[]) == 0.0);
    }

    fn holds(&self, key: &str) -> (Option<String>, Option<String>) {
        (self.kask.holds(key), redis_holds(&self.redis, key))
    }
}

fn some(kask: &str, redis: &str) -> (Option<String>, Option<String>) {
    (Some(kask.to_owned()), Some(redis.to_owned()))
}

fn tier(stage: &Stage, key: &str) -> Option<String> {
    stage.decant.get(key).header("decant-tier").map(str::to_owned)
}

#[test]
fn redis_only_asks_redis_alone() {
    let stage = stage("redis-only", "");
    assert_eq!(stage.asks(|d| assert_eq!(d.set("k", "JSON..42").status(), 201)), (0.0, 1.0));
    assert_eq!(stage.holds("k"), (None, Some("42".into())));
    assert_eq!(stage.asks(|d| assert_eq!(d.got("k"), (200, "JSON..42".into()))), (0.0, 1.0));
    assert_eq!(tier(&stage, "k").as_deref(), Some("redis"));
    assert_eq!(stage.asks(|d| assert_eq!(d.delete("k").status(), 204)), (0.0, 1.0));
    assert_eq!(stage.holds("k"), (None, None));
    assert_eq!(stage.asks(|d| assert_eq!(d.got("k").0, 404)), (0.0, 1.0));
    stage.kask.put("only-in-kask", "JSON..1");
    assert_eq!(stage.decant.got("only-in-kask").0, 404);
}

#[test]
fn dual_write_writes_both_and_reads_redis() {
    let stage = stage("dual-write", "shadow_share = 0.0");
    assert_eq!(stage.asks(|d| assert_eq!(d.set("k", "JSON..\"v\"").status(), 201)), (1.0, 1.0));
    assert_eq!(stage.holds("k"), some("JSON..\"v\"", "s:1:\"v\";"));
    assert_eq!(stage.asks(|d| assert_eq!(d.got("k"), (200, "JSON..\"v\"".into()))), (0.0, 1.0));
    assert_eq!(tier(&stage, "k").as_deref(), Some("redis"));
    stage.kask.put("only-in-kask", "JSON..1");
    assert_eq!(stage.asks(|d| assert_eq!(d.got("only-in-kask").0, 404)), (0.0, 1.0));
    redis_set(&stage.redis, "old", "i:7;");
    assert_eq!(stage.asks(|d| assert_eq!(d.got("old").0, 200)), (0.0, 1.0));
    assert_eq!(stage.kask.holds("old"), None, "dual-write repairs nothing");
    assert_eq!(stage.asks(|d| assert_eq!(d.delete("k").status(), 204)), (1.0, 1.0));
    assert_eq!(stage.holds("k"), (None, None));
}

#[test]
fn dual_write_compares_a_sample_with_kask() {
    let stage = stage("dual-write", "shadow_share = 1.0");
    stage.decant.set("same", "JSON..1");
    redis_set(&stage.redis, "missing", "s:1:\"v\";");
    redis_set(&stage.redis, "other", "s:1:\"v\";");
    stage.kask.put("other", "JSON..\"w\"");
    stage.wait_quiet();
    for (key, result) in [("same", "match"), ("missing", "missing"), ("other", "mismatch")] {
        let label = format!("result=\"{result}\"");
        // A read whose key may be pending is not compared.
        wait_until(result, || {
            assert_eq!(stage.decant.get(key).status(), 200);
            stage.decant.metric("decant_shadow_reads_total", &[&label]) >= 1.0
        });
    }
}

#[test]
fn kask_first_reads_kask_then_redis_and_repairs() {
    let stage = stage("kask-first", "");
    assert_eq!(stage.asks(|d| assert_eq!(d.set("k", "JSON..\"v\"").status(), 201)), (1.0, 1.0));
    assert_eq!(stage.holds("k"), some("JSON..\"v\"", "s:1:\"v\";"));
    stage.wait_quiet();
    stage.wait_asks("a hit asks Kask alone", (1.0, 0.0), |d| assert_eq!(d.got("k"), (200, "JSON..\"v\"".into())));
    assert_eq!(tier(&stage, "k").as_deref(), Some("kask"));
    redis_set(&stage.redis, "old", "s:14:\"20191018142328\";");
    assert_eq!(stage.decant.got("old"), (200, "JSON..\"20191018142328\"".into()));
    stage.decant.wait_drained(&stage.redis);
    assert_eq!(stage.holds("old"), some("JSON..\"20191018142328\"", "s:14:\"20191018142328\";"));
    stage.wait_quiet();
    assert_eq!(tier(&stage, "old").as_deref(), Some("kask"));
    stage.wait_asks("a miss asks both", (1.0, 1.0), |d| assert_eq!(d.got("nobody").0, 404));
    assert_eq!(stage.asks(|d| assert_eq!(d.delete("k").status(), 204)), (1.0, 1.0));
    assert_eq!(stage.holds("k"), (None, None));
    stage.wait_quiet();
    assert_eq!(stage.decant.got("k").0, 404);
}

#[test]
fn redis_standby_writes_kask_and_mirrors() {
    let stage = stage("redis-standby", "");
    let set = stage.asks(|d| assert_eq!(d.set("k", "JSON..\"v\"").status(), 201));
    assert_eq!(set, (2.0, 2.0), "MARK, POST, MIRROR, and Kask is read again");
    assert_eq!(stage.holds("k"), some("JSON..\"v\"", "s:1:\"v\";"));
    stage.wait_quiet();
    stage.wait_asks("a hit asks Kask alone", (1.0, 0.0), |d| assert_eq!(d.got("k").0, 200));
    redis_set(&stage.redis, "only-in-redis", "i:1;");
    stage.wait_asks("so does a miss", (1.0, 0.0), |d| assert_eq!(d.got("only-in-redis").0, 404));
    assert_eq!(stage.asks(|d| assert_eq!(d.delete("k").status(), 204)), (2.0, 2.0));
    assert_eq!(stage.holds("k"), (None, None));
}

#[test]
fn kask_only_holds_no_connection_to_redis() {
    let stage = stage("redis-standby", "");
    stage.decant.set("k", "JSON..1");
    stage.decant.move_to("kask-only");
    let connected = || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut stage.redis.client()).unwrap();
        list.lines().count() - 1 // this one
    };
    wait_until("decant lets go of Redis", || connected() == 0);
    assert_eq!(stage.asks(|d| assert_eq!(d.set("k", "JSON..2").status(), 201)), (1.0, 0.0));
    assert_eq!(stage.asks(|d| assert_eq!(d.got("k"), (200, "JSON..2".into()))), (1.0, 0.0));
    assert_eq!(redis_holds(&stage.redis, "k").as_deref(), Some("1"), "Redis is left as it was");
    assert_eq!(stage.asks(|d| assert_eq!(d.delete("k").status(), 204)), (1.0, 0.0));
    assert_eq!(stage.asks(|d| assert_eq!(d.got("k").0, 404)), (1.0, 0.0));
}

/// BagOStuff's `add` and READ_LATEST over HTTP.
#[test]
fn add_and_latest() {
    for phase in ["redis-only", "dual-write", "kask-first", "redis-standby"] {
        let stage = stage(phase, "");
        let add = |body: &str| {
            let head = format!(
                "POST {BASE}k HTTP/1.1\r\nHost: t\r\nIf-None-Match: *\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            crate::support::exchange(stage.decant.data, head).status()
        };
        assert_eq!(add("JSON..1"), 201, "{phase}");
        assert_eq!(add("JSON..2"), 412, "{phase}");
        stage.wait_quiet();
        assert_eq!(add("JSON..2"), 412, "{phase}");
        assert_eq!(stage.decant.got("k"), (200, "JSON..1".into()), "{phase}");
        let latest = crate::support::exchange(
            stage.decant.data,
            format!("GET {BASE}k HTTP/1.1\r\nHost: t\r\nCache-Control: no-cache\r\n\r\n"),
        );
        let sequencer = if phase == "redis-standby" { "kask" } else { "redis" };
        assert_eq!((latest.status(), latest.header("decant-tier")), (200, Some(sequencer)), "{phase}");
        assert_eq!(ask(stage.decant.data, "DELETE", &format!("{BASE}k"), b"").status(), 204);
        assert_eq!(add("JSON..3"), 201, "{phase}: after a delete");
    }
}
