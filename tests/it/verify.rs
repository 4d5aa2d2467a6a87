//! `decant verify` on a real Redis and a Kask: what it finds, what it mends, and what it may say.

use crate::{
    redis_server::RedisServer,
    support::run_decant,
    whole::{Kask, Setup, Whole, redis_holds, redis_set, wait_until},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

impl Whole {
    /// `decant verify ARGS`: status, standard output, standard error.
    pub fn verify(&self, args: &[&str]) -> (i32, String, String) {
        let admin = format!("http://{}", self.admin);
        run_decant(["verify", "--admin", &admin].into_iter().chain(args.iter().copied()))
    }

    /// The status and the report.
    pub fn verified(&self, args: &[&str]) -> (i32, Value) {
        let (code, out, err) = self.verify(&[args, &["--json"]].concat());
        assert_eq!(err, "", "{out}");
        (code, serde_json::from_str(&out).unwrap_or_else(|fault| panic!("{fault}: {out}")))
    }

    pub fn verify_page(&self) -> Value {
        self.admin_get("/v1/stashes/echoseen/verify")
    }

    /// Begins a run; status and answer.
    pub fn begin_verify(&self, body: &Value) -> (u16, Value) {
        let raw = self.admin_send("POST", "/v1/stashes/echoseen/verify", &body.to_string());
        (raw.status(), serde_json::from_slice(&raw.body).unwrap())
    }
}

/// The keys of a report that are not 0 or empty, but for the sum.
fn found(report: &Value) -> BTreeMap<String, Value> {
    let keys = report["keys"].as_object().unwrap().clone();
    let empty = |value: &Value| *value == json!(0) || *value == json!({});
    keys.into_iter().filter(|(name, value)| name != "compared" && !empty(value)).collect()
}

fn counts(expected: Value) -> BTreeMap<String, Value> {
    expected.as_object().unwrap().clone().into_iter().collect()
}

/// An intent that was given up on, as its script leaves it.
fn damaged_record(redis: &RedisServer, key: &str, newest: &str) {
    let (token, record) = ("0000000000000000000000000000000a", format!("decant|echoseen|record|{key}"));
    let mut pipe = redis::pipe();
    pipe.cmd("HSET").arg(&record).arg("direction").arg("kask").arg("generation").arg(9).arg("newest").arg(newest);
    pipe.cmd("HSET").arg(&record).arg(token).arg("damaged 5");
    pipe.cmd("ZADD").arg("decant|echoseen|to-kask").arg("+inf").arg(format!("{token}{key}"));
    pipe.exec(&mut redis.client()).unwrap();
}

#[test]
fn every_class_is_found_exactly_and_no_key_is_told() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    for n in 0..40 {
        assert_eq!(decant.set(&format!("equal{n}"), &format!("JSON..{n}")).status(), 201);
    }
    decant.wait_drained(&redis);
    for n in 0..7 {
        redis_set(&redis, &format!("secret-missing{n}"), "i:1;");
    }
    for n in 0..3 {
        redis_set(&redis, &format!("different{n}"), "s:1:\"a\";");
        kask.put(&format!("different{n}"), "JSON..\"bb\"");
    }
    redis_set(&redis, "spelled", "a:1:{s:1:\"a\";a:2:{i:0;i:1;i:1;i:2;}}");
    kask.put("spelled", "JSON..{ \"a\": [1, 2] }");
    redis_set(&redis, "object", "O:8:\"stdClass\":0:{}");
    redis_set(&redis, "infinite", "d:INF;");
    redis::cmd("RPUSH").arg("list").arg("x").exec(&mut redis.client()).unwrap();
    redis_set(&redis, "large", format!("s:17000000:\"{}\";", "x".repeat(17_000_000)));
    for odd in [&b"a/b"[..], b".", b"\xff\xfe", b""] {
        redis::cmd("SET").arg(odd).arg("i:1;").exec(&mut redis.client()).unwrap();
    }
    redis_set(&redis, "held:lock", "1");
    damaged_record(&redis, "deleted", "delete");
    kask.put("deleted", "JSON..1");
    damaged_record(&redis, "stuck", "old");
    redis_set(&redis, "stuck", "i:1;");

    let (code, report) = decant.verified(&[]);
    let expected = json!({ "equal": 41, "missing": 7, "different": 3, "tombstone": 1, "pending": 1,
        "untranscodable": { "object": 1, "not_finite": 1, "redis_type": 1, "too_large": 1 },
        "unstorable": { "slash": 1, "dots": 1, "not_utf8": 1, "empty": 1 } });
    assert_eq!((code, found(&report)), (1, counts(expected)), "{report:#}");
    assert_eq!((&report["keys"]["compared"], &report["left_out"]["locks"]), (&json!(61), &json!(1)));
    assert_eq!((&report["complete"], &report["arrived"]), (&json!(true), &json!(false)), "{report:#}");
    assert_eq!((&report["equal_percent"], &report["phase"]), (&json!("67.2131"), &json!("dual-write")));
    assert!(report["summary"].as_str().unwrap().contains("7 missing in Kask, 3 different"), "{report:#}");
    // Hashed keys and kinds, nothing of a key or a value.
    let listed = report["differences"].as_array().unwrap();
    assert_eq!(listed.len(), 20);
    assert!(
        listed
            .iter()
            .all(|difference| difference["key_hash"].as_str().unwrap().len() == 16 && difference["key"].is_null())
    );
    assert!(!report.to_string().contains("secret"), "{report:#}");
    let different = listed.iter().find(|difference| difference["class"] == "different").unwrap();
    let told = ["redis_kind", "kask_kind", "redis_bytes", "kask_bytes"].map(|name| different[name].clone());
    assert_eq!(told, [json!("string"), json!("string"), json!(9), json!(10)]);
    for (class, keys) in [("equal", 41.0), ("missing", 7.0), ("untranscodable", 4.0), ("unstorable", 4.0)] {
        assert_eq!(decant.metric("decant_verify_keys_total", &[&format!("result=\"{class}\"")]), keys, "{class}");
    }

    // For a person; keys only where they are asked for, and never on disk.
    let (code, out, _) = decant.verify(&["--show-keys", "--match", "secret*"]);
    assert!(code == 1 && out.contains("  missing    7\n") && out.contains("secret-missing0"), "{out}");
    let kept = std::fs::read_to_string(decant.dir.path().join("state/echoseen.verify.json")).unwrap();
    assert!(kept.contains("7 missing in Kask") && !kept.contains("secret-missing"), "{kept}");
    let (_, hashes) = decant.verified(&["--match", "secret*"]);
    let hash = &hashes["differences"][0]["key_hash"];
    assert!(listed.iter().any(|difference| difference["key_hash"] == *hash), "a key keeps its hash");
}

#[test]
fn a_fix_goes_through_the_protocol_and_the_next_run_proves_it() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let mut decant = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    for n in 0..300 {
        redis_set(&redis, &format!("old{n}"), format!("i:{n};"));
    }
    kask.put("old7", "JSON..\"other\"");
    let (code, report) = decant.verified(&["--fix", "--rate", "10000"]);
    assert_eq!((code, found(&report)), (0, counts(json!({ "fixed": 300 }))), "{report:#}");
    assert_eq!(kask.holds("old7").as_deref(), Some("JSON..7"));
    assert_eq!(crate::whole::intents(&redis), 0);
    assert_eq!(decant.metric("decant_outbox_settled_total", &["by=\"backfill\""]), 300.0);

    let (code, out, err) = decant.verify(&[]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("  equal      300 (100 %)\n") && out.contains("everything arrived: 300 keys"), "{out}");
    assert!(out.contains("not compared: keys that only Kask holds"), "{out}");
    // It is kept, and told of in the status.
    decant.kill_9();
    decant.restart();
    assert_eq!(decant.verify_page()["report"]["summary"], "everything arrived: 300 keys, equal in both tiers");
    let brief = &decant.admin_get("/v1/status")["stashes"][0]["verify"];
    assert_eq!((&brief["running"], &brief["last"]["arrived"]), (&json!(null), &json!(true)), "{brief:#}");
    let (code, out, _) = decant.verify(&["--last"]);
    assert!(code == 0 && out.contains("everything arrived: 300 keys"), "{out}");
}

#[test]
fn a_sample_never_claims_everything() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    for n in 0..2_000 {
        redis_set(&redis, &format!("k{n}"), "1");
    }
    assert_eq!(decant.verified(&["--fix"]).0, 0);
    let (code, report) = decant.verified(&["--sample", "100"]);
    let compared = report["keys"]["compared"].as_u64().unwrap();
    assert!(code == 1 && (90..=100).contains(&compared), "{report:#}");
    assert_eq!((&report["keys"]["equal"], &report["arrived"]), (&json!(compared), &json!(false)));
    assert_eq!(report["equal_percent"], json!(null), "100 % is for proofs");
    assert!(report["summary"].as_str().unwrap().contains("a sample proves nothing of the other keys"), "{report:#}");
    // More than there is: everything is compared, and still it was not asked for as a proof.
    let (code, report) = decant.verified(&["--sample", "5000", "--match", "k1*"]);
    assert_eq!((code, &report["keys"]["compared"]), (1, &json!(1_111)), "{report:#}");
    let (code, report) = decant.verified(&["--match", "k1*"]);
    assert_eq!((code, &report["keys"]["compared"], &report["arrived"]), (0, &json!(1_111), &json!(true)), "{report:#}");
    for n in 0..2_000 {
        assert_eq!(crate::support::ask(kask.addr, "DELETE", &format!("{}k{n}", crate::whole::BASE), b"").status(), 204);
    }
    let (code, report) = decant.verified(&["--sample", "50"]);
    assert!(code == 1 && report["keys"]["missing"].as_u64().unwrap() >= 40, "{report:#}");
}

#[test]
fn runs_are_one_at_a_time_are_seen_under_way_and_can_be_cancelled() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let mut decant = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    for n in 0..500 {
        redis_set(&redis, &format!("k{n}"), "1");
    }
    let (code, _, err) = decant.verify(&["--last"]);
    assert!(code == 1 && err.contains("there was no run yet"), "{err}");
    let (status, begun) = decant.begin_verify(&json!({ "rate": 20 }));
    assert_eq!(status, 202, "{begun}");
    wait_until("the run is under way", || decant.verify_page()["running"]["compared"].as_u64().is_some_and(|n| n > 3));
    let running = decant.verify_page()["running"].clone();
    assert_eq!((&running["id"], &running["held_back_by"]), (&begun["id"], &json!("rate limit")), "{running:#}");
    assert!(running["of"].as_u64().unwrap() > 500, "decant's own names are walked past as well: {running:#}");
    assert_eq!(running["shards"][0]["name"], "main", "{running:#}");
    let (status, refused) = decant.begin_verify(&json!({}));
    assert_eq!((status, &refused["id"]), (409, &begun["id"]), "{refused}");
    let (code, out, err) = decant.verify(&[]);
    assert!(code == 2 && out.is_empty() && err.contains("is under way since"), "{code} {out} {err}");
    let (code, out, _) = decant.verify(&["--last"]);
    assert!(code == 1 && out.contains("held back by rate limit"), "{out}");
    let status = run_decant(["status", "--admin", &format!("http://{}", decant.admin)]).1;
    assert!(status.contains("  verify       ") && status.contains("held back by rate limit"), "{status}");

    assert_eq!(decant.verify(&["--cancel"]).0, 0);
    wait_until("it has ended", || decant.verify_page()["running"].is_null());
    let report = decant.verify_page()["report"].clone();
    assert_eq!(
        (&report["id"], &report["arrived"], &report["incomplete"]),
        (&begun["id"], &json!(false), &json!(["it was cancelled"]))
    );
    assert_eq!(decant.verify(&["--cancel"]).0, 2, "there is nothing to cancel");

    // A run ends with its process, and is told of as cut off.
    let (_, begun) = decant.begin_verify(&json!({ "rate": 20 }));
    wait_until("the run is under way", || decant.verify_page()["running"]["compared"].as_u64().is_some_and(|n| n > 3));
    decant.kill_9();
    decant.restart();
    let page = decant.verify_page();
    assert_eq!((&page["running"], &page["report"]["id"]), (&json!(null), &begun["id"]), "{page:#}");
    assert_eq!(page["report"]["incomplete"], json!(["decant ended while it was under way"]));
    let left: Vec<_> =
        std::fs::read_dir(decant.dir.path().join("state")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("notes")), "{left:?}");
}

/// The walk begins again in the new process, so that SCAN gives keys a second time.
#[test]
fn a_redis_that_is_restarted_under_a_run_is_walked_again_and_counts_stay_exact() {
    let (mut redis, kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    for n in 0..3_000 {
        redis_set(&redis, &format!("k{n}"), "1");
    }
    assert_eq!(decant.verified(&["--fix"]).0, 0);
    for n in 0..3_000 {
        if n % 100 == 0 {
            redis_set(&redis, &format!("k{n}"), "2");
        }
    }
    decant.begin_verify(&json!({ "rate": 1500 }));
    wait_until("some are compared", || decant.verify_page()["running"]["compared"].as_u64().is_some_and(|n| n > 700));
    redis::cmd("SAVE").exec(&mut redis.client()).unwrap();
    redis.restart();
    wait_until("the run has ended", || decant.verify_page()["running"].is_null());
    let report = decant.verify_page()["report"].clone();
    assert_eq!(found(&report), counts(json!({ "equal": 2_970, "different": 30 })), "{report:#}");
    let looked_at = decant.metric("decant_verify_keys_total", &["result=\"equal\""]);
    assert!(looked_at > 2_970.0 + 400.0, "keys were given twice: {looked_at}");
}

#[test]
fn a_table_that_grows_and_shrinks_under_a_walk_changes_no_count() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    for n in 0..2_000 {
        redis_set(&redis, &format!("k{n}"), "1");
    }
    assert_eq!(decant.verified(&["--fix"]).0, 0);
    let stop = AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = redis.client();
            while !stop.load(Ordering::Relaxed) {
                for (command, range) in [("SET", 0..40_000), ("DEL", 0..40_000)] {
                    let mut pipe = redis::pipe();
                    for n in range {
                        let cmd = pipe.cmd(command).arg(format!("other{n}"));
                        if command == "SET" {
                            cmd.arg("1");
                        }
                    }
                    pipe.exec(&mut client).unwrap();
                }
            }
        });
        let report = decant.verified(&["--match", "k*", "--rate", "1500"]);
        stop.store(true, Ordering::Relaxed);
        report
    });
    assert_eq!((report.0, found(&report.1)), (0, counts(json!({ "equal": 2_000 }))), "{:#}", report.1);
}

#[test]
fn what_cannot_be_compared_makes_a_run_incomplete() {
    let (mut redis, mut kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    for n in 0..20 {
        redis_set(&redis, &format!("k{n}"), "1");
    }
    assert_eq!(decant.verified(&["--fix"]).0, 0);
    kask.kill_9();
    let (code, report) = decant.verified(&[]);
    assert_eq!((code, found(&report)), (1, counts(json!({ "unknown": 20 }))), "{report:#}");
    assert!(
        report["incomplete"][0].as_str().unwrap().starts_with("20 keys could not be asked for: Kask: "),
        "{report:#}"
    );
    kask.restart();

    // A move ends a run: what was compared was compared in another phase.
    let (_, begun) = decant.begin_verify(&json!({ "rate": 5 }));
    wait_until("some are compared", || decant.verify_page()["running"]["compared"].as_u64().is_some_and(|n| n > 2));
    decant.move_to("dual-write");
    wait_until("the run has ended", || decant.verify_page()["running"].is_null());
    let report = decant.verify_page()["report"].clone();
    assert_eq!(
        (&report["id"], &report["complete"], &report["phase"]),
        (&begun["id"], &json!(false), &json!("kask-first"))
    );
    assert!(report["incomplete"].to_string().contains("kask-first"), "{report:#}");

    decant.begin_verify(&json!({ "rate": 5 }));
    wait_until("some are compared", || decant.verify_page()["running"]["compared"].as_u64().is_some_and(|n| n > 2));
    redis.kill();
    wait_until("the run has ended", || decant.verify_page()["running"].is_null());
    let report = decant.verify_page()["report"].clone();
    assert_eq!(report["complete"], false, "{report:#}");
    redis.restart();
}

#[test]
fn phases_that_nothing_can_be_compared_or_mended_in_refuse() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup::new(&redis, "redis-only").with_kask(&kask));
    let (status, told) = decant.begin_verify(&json!({ "fix": true }));
    assert!(status == 409 && told["detail"].as_str().unwrap().contains("redis-only nothing is copied"), "{told}");
    assert_eq!(decant.begin_verify(&json!({ "sample": 0 })).0, 400);
    let kask_only = Whole::start(&Setup::without_redis());
    let (status, told) = kask_only.begin_verify(&json!({}));
    assert!(status == 409 && told["detail"].as_str().unwrap().contains("nothing to compare"), "{told}");
    let (code, _, err) = kask_only.verify(&[]);
    assert!(code == 2 && err.contains("nothing to compare"), "{err}");
}

/// Kask counts: what differs in the mirror is brought to what Kask holds, and what only the mirror has is told and left alone.
#[test]
fn in_redis_standby_the_mirror_is_compared() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup::new(&redis, "redis-standby").with_kask(&kask));
    for n in 0..10 {
        assert_eq!(decant.set(&format!("k{n}"), &format!("JSON..{n}")).status(), 201);
    }
    decant.wait_drained(&redis);
    assert_eq!(decant.verified(&[]).0, 0);
    redis_set(&redis, "k3", "4");
    redis_set(&redis, "never-copied", "i:1;");
    let (code, report) = decant.verified(&["--fix"]);
    assert_eq!((code, found(&report)), (1, counts(json!({ "equal": 9, "fixed": 1, "missing": 1 }))), "{report:#}");
    assert!(report["summary"].as_str().unwrap().contains("1 only in Redis"), "{report:#}");
    assert_eq!(redis_holds(&redis, "k3").as_deref(), Some("3"), "Kask counts");
    assert_eq!((redis_holds(&redis, "never-copied").as_deref(), kask.holds("never-copied")), (Some("i:1;"), None));
    assert_eq!(crate::whole::intents(&redis), 0);
}
