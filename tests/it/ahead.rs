//! Keys that are one phase ahead of their stash, on a real Redis and a Kask: through every step, for every decant, and back.

use crate::{
    etcd_server::EtcdServer,
    fleet,
    redis_server::RedisServer,
    support::run_decant,
    whole::{Kask, Setup, Whole, redis_holds, redis_set, wait_until},
};
use serde_json::{Value, json};

const AHEAD: &str = "/v1/stashes/echoseen/phase/ahead";
/// One that the rule of these tests covers, and one that it does not.
const CANARY: &str = "testwiki:k";
const OTHER: &str = "enwiki:k";

fn canaries() -> Value {
    json!({ "match": "testwiki:*" })
}

/// Status and answer.
fn send(decant: &Whole, method: &str, rule: Value, more: Value) -> (u16, Value) {
    let mut body = json!({ "reason": "a test", "by": "test" });
    for fields in [rule, more] {
        body.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
    }
    let raw = decant.admin_send(method, AHEAD, &body.to_string());
    (raw.status(), serde_json::from_slice(&raw.body).unwrap_or(Value::Null))
}

fn set(decant: &Whole, rule: Value, more: Value) {
    let (status, told) = send(decant, "PUT", rule, more);
    assert_eq!(status, 200, "{told:#}");
    let version = told["record"]["version"].clone();
    wait_until("the rule has settled", || {
        let record = decant.phase();
        record["version"] == version && record["state"] == "settled"
    });
}

fn clear(decant: &Whole, more: Value) {
    let (status, told) = send(decant, "DELETE", json!({}), more);
    assert_eq!(status, 200, "{told:#}");
    wait_until("they are back", || decant.phase()["ahead"].is_null() && decant.phase()["state"] == "settled");
}

fn failing(told: &Value) -> Vec<&str> {
    let guards = told["guards"].as_array().into_iter().flatten();
    guards.filter(|guard| guard["ok"] == false).filter_map(|guard| guard["name"].as_str()).collect()
}

struct Stage {
    redis: RedisServer,
    kask: Kask,
    decant: Whole,
}

impl Stage {
    fn start(phase: &'static str) -> Stage {
        let (redis, kask) = (RedisServer::start(), Kask::start());
        let decant = Whole::start(&Setup::new(&redis, phase).with_kask(&kask));
        Stage { redis, kask, decant }
    }

    /// Writes this key, and tells in which tiers it is once all is settled: Kask, Redis.
    fn written(&self, key: &str) -> (bool, bool) {
        let value = format!("JSON..{}", fastrand::u32(..));
        assert_eq!(self.decant.set(key, &value).status(), 201);
        self.decant.wait_drained(&self.redis);
        assert_eq!(self.decant.got(key), (200, value.clone()));
        let held = (self.kask.holds(key) == Some(value.clone()), redis_holds(&self.redis, key));
        (held.0, held.1.is_some_and(|held| value.ends_with(&held[..])))
    }

    /// The tier that answers, once nothing is pending.
    fn answers(&self, key: &str) -> Option<String> {
        self.decant.wait_drained(&self.redis);
        wait_until("nothing is pending", || self.decant.metric("decant_keys_pending", &[]) == 0.0);
        self.decant.get(key).header("decant-tier").map(str::to_owned)
    }
}

/// Where a write goes and who answers, for a key of the phase: Kask, Redis, and the tier that is read first.
fn expected(phase: &str) -> ((bool, bool), &'static str) {
    match phase {
        "redis-only" => ((false, true), "redis"),
        "dual-write" => ((true, true), "redis"),
        "kask-first" | "redis-standby" => ((true, true), "kask"),
        _ => ((true, false), "kask"),
    }
}

const PHASES: [&str; 5] = ["redis-only", "dual-write", "kask-first", "redis-standby", "kask-only"];

#[test]
fn a_test_wiki_takes_every_step_before_the_others_do() {
    let stage = Stage::start("redis-only");
    let decant = &stage.decant;
    for (phase, next) in PHASES.into_iter().zip(PHASES.into_iter().skip(1)) {
        if next == "redis-standby" {
            let (status, told) = send(decant, "PUT", canaries(), json!({}));
            assert_eq!((status, failing(&told)), (409, vec!["backfill_finished", "verified"]), "{told:#}");
            decant.copy_and_compare();
        }
        let emptied = json!({ "kask_emptied": true });
        set(decant, canaries(), emptied);
        let record = decant.phase();
        assert_eq!((&record["phase"], &record["from"]), (&json!(phase), &json!(phase)));
        assert_eq!((&record["ahead"]["phase"], &record["ahead"]["match"]), (&json!(next), &json!("testwiki:*")));
        for (key, of) in [(CANARY, next), (OTHER, phase)] {
            let (tiers, first) = expected(of);
            if of == "kask-only" {
                redis::cmd("DEL").arg(key).exec(&mut stage.redis.client()).unwrap();
            }
            assert_eq!(stage.written(key), tiers, "{key} in {of}");
            assert_eq!(stage.answers(key).as_deref(), Some(first), "{key} in {of}");
            let told = decant.admin_get(&format!("/v1/stashes/echoseen/keys/{key}"));
            assert_eq!(told["phase"], of, "{told:#}");
        }
        let ahead = |phase: &str| decant.metric("decant_phase_ahead", &[&format!("phase=\"{phase}\"")]);
        assert_eq!((ahead(next), ahead(phase)), (1.0, 0.0));
        // Only on, or back.
        for to in PHASES {
            let expected = if to == next { 200 } else { 422 };
            let (status, told) = decant.ask_move(to, json!({ "dry_run": true, "force": true }));
            assert_eq!(status, expected, "{phase} to {to}: {told:#}");
        }
        if next != "kask-only" {
            decant.move_to(next);
            assert!(decant.phase()["ahead"].is_null(), "all are there now");
            assert_eq!(stage.written(CANARY), expected(next).0);
            assert_eq!(stage.written(OTHER), expected(next).0);
        }
    }
    // Of the last step the way back always loses something, also for some keys only.
    let (status, told) = send(decant, "DELETE", json!({}), json!({}));
    assert_eq!((status, failing(&told)), (409, vec!["redis_missed_nothing"]), "{told:#}");
    clear(decant, json!({ "force": true }));
    let record = decant.phase();
    assert!(record["forced"] == true && record["mirror_unclean_since"].is_string(), "{record:#}");
    let (status, told) = decant.ask_move("kask-first", json!({ "dry_run": true }));
    assert_eq!((status, failing(&told)), (409, vec!["mirror_is_clean"]), "{told:#}");
}

#[test]
fn what_only_redis_has_is_read_by_the_phase_of_its_key() {
    let stage = Stage::start("dual-write");
    let decant = &stage.decant;
    for key in [CANARY, OTHER] {
        redis_set(&stage.redis, key, "i:7;");
        stage.kask.put(key, "JSON..8");
    }
    assert_eq!((decant.got(CANARY).1, decant.got(OTHER).1), ("JSON..7".to_owned(), "JSON..7".to_owned()));
    set(decant, canaries(), json!({}));
    wait_until("Kask answers for the test wiki", || decant.got(CANARY) == (200, "JSON..8".to_owned()));
    assert_eq!(decant.got(OTHER), (200, "JSON..7".to_owned()));
    let reads = |ahead: &str| decant.metric("decant_reads_total", &["served_by=\"kask\"", ahead]);
    assert!(reads("ahead=\"true\"") >= 1.0);
    assert_eq!(reads("ahead=\"false\""), 0.0);
    clear(decant, json!({}));
    wait_until("Redis answers again", || decant.got(CANARY) == (200, "JSON..7".to_owned()));
    // From where writes went past Kask it is stale again.
    decant.move_to("redis-only");
    let empty = json!({ "kask_emptied": true });
    assert_eq!(send(decant, "PUT", canaries(), empty.clone()).0, 409, "a sample shows that Kask was not emptied");
    stage.kask.remove(CANARY);
    stage.kask.remove(OTHER);
    wait_until("a lease has passed", || send(decant, "PUT", canaries(), dry(&empty)).0 == 200);
    set(decant, canaries(), empty);
    assert!(decant.phase()["kask_stale_since"].is_null());
    clear(decant, json!({}));
    assert!(decant.phase()["kask_stale_since"].is_string());
}

fn dry(request: &Value) -> Value {
    let mut dry = request.clone();
    dry["dry_run"] = true.into();
    dry
}

/// A value that was deleted meanwhile is in Kask still, and in no sample of Redis's keys.
#[test]
fn keys_that_were_forced_ahead_over_a_stale_kask_leave_it_stale() {
    let stage = Stage::start("dual-write");
    let decant = &stage.decant;
    assert_eq!(stage.written(OTHER), (true, true));
    decant.move_to("redis-only");
    assert_eq!(decant.delete(OTHER).status(), 204);
    assert!(stage.kask.holds(OTHER).is_some(), "this is what stale means");
    let since = decant.phase()["kask_stale_since"].clone();
    set(decant, canaries(), json!({ "force": true }));
    assert_eq!(decant.phase()["kask_stale_since"], since);
    let stale = |to: &str, more: Value, guard: &str| {
        let (status, told) = decant.ask_move(to, more);
        assert_eq!((status, failing(&told)), (409, vec![guard]), "{told:#}");
    };
    stale("dual-write", json!({}), "kask_not_stale");
    // The operator says so, and it is done.
    stage.kask.remove(OTHER);
    let empty = json!({ "kask_emptied": true });
    wait_until("a lease has passed", || decant.ask_move("dual-write", dry(&empty)).0 == 200);
    decant.begin_move("dual-write", empty);
    decant.wait_settled("dual-write");
    assert_eq!(decant.ask_move("kask-first", json!({ "dry_run": true })).0, 200);
    // And once more, forced again and again.
    decant.move_to("redis-only");
    set(decant, canaries(), json!({ "force": true }));
    decant.begin_move("dual-write", json!({ "force": true }));
    decant.wait_settled("dual-write");
    stale("kask-first", json!({ "dry_run": true }), "kask_was_not_stale");
}

#[test]
fn a_share_grows_and_nothing_else_changes_it() {
    let stage = Stage::start("dual-write");
    let decant = &stage.decant;
    set(decant, json!({ "share": 0.01 }), json!({}));
    let refused = |rule: Value| send(decant, "PUT", rule, json!({ "force": true })).0;
    assert_eq!(refused(json!({ "share": 0.01 })), 422);
    assert_eq!(refused(json!({ "share": 0.001 })), 422);
    assert_eq!(refused(canaries()), 422);
    assert_eq!(refused(json!({ "share": 1 })), 400);
    let before = decant.phase();
    let (status, told) = send(decant, "PUT", json!({ "share": 0.5 }), json!({ "dry_run": true }));
    assert_eq!((status, &told["record"]["ahead"]["share"]), (200, &json!(0.5)), "{told:#}");
    assert_eq!(decant.phase(), before, "a dry run changes nothing");
    set(decant, json!({ "share": 0.5 }), json!({}));
    let phase = |n: u32| decant.admin_get(&format!("/v1/stashes/echoseen/keys/k{n}"))["phase"] == "kask-first";
    let ahead = (0..40).filter(|n| phase(*n)).count();
    assert!((8..=32).contains(&ahead), "{ahead} of 40 keys are ahead");
    clear(decant, json!({}));
    assert_eq!(send(decant, "DELETE", json!({}), json!({})).0, 422, "no key is ahead");
}

#[test]
fn the_command_line_sets_shows_and_clears() {
    let mut stage = Stage::start("dual-write");
    let cli = |decant: &Whole, args: &[&str]| {
        let admin = format!("http://{}", decant.admin);
        let (code, out, err) = run_decant(args.iter().copied().chain(["--admin", &admin]));
        (code, out + &err)
    };
    let decant = &stage.decant;
    for wrong in
        [&["phase", "ahead", "set", "--reason", "r"][..], &["phase", "ahead", "set", "--share", "2", "--reason", "r"]]
    {
        assert_eq!(cli(decant, wrong).0, 64, "{wrong:?}");
    }
    let (code, told) = cli(decant, &["phase", "ahead", "set", "--match", "testwiki:*", "--dry-run"]);
    assert!(code == 0 && told.contains("would begin; nothing was done"), "{told}");
    let (code, told) =
        cli(decant, &["phase", "ahead", "set", "--match", "testwiki:*", "--reason", "try it", "--by", "me"]);
    let begun = "dual-write -> dual-write, with keys like testwiki:* in kask-first has settled after";
    assert!(code == 0 && told.contains(begun), "{told}");
    for (args, expected) in [
        (&["phase", "show"][..], "keys like testwiki:* in kask-first"),
        (&["status"], "keys like testwiki:* in kask-first"),
        (&["fleet", "show"], "keys like testwiki:* in kask-first"),
        (&["phase", "history"], "ahead       keys like testwiki:* in kask-first"),
    ] {
        let (code, told) = cli(decant, args);
        assert!(code == 0 && told.contains(expected), "{args:?}: {told}");
    }
    let (code, told) = cli(decant, &["phase", "set", "redis-only", "--reason", "r"]);
    assert!(code == 1 && told.contains("the stash can only follow them to kask-first"), "{told}");
    // It outlives its decant.
    stage.decant.kill_9();
    stage.decant.restart();
    let decant = &stage.decant;
    assert_eq!(decant.phase()["ahead"]["match"], "testwiki:*");
    let (code, told) = cli(decant, &["phase", "ahead", "clear", "--reason", "it works", "--by", "me"]);
    let ended = "dual-write, with keys like testwiki:* in kask-first -> dual-write has settled after";
    assert!(code == 0 && told.contains(ended), "{told}");
    let (_, told) = cli(decant, &["phase", "history", "--short"]);
    assert!(told.contains("no key any more"), "{told}");
}

#[test]
fn every_decant_knows_the_same_keys_ahead() {
    let (etcd, redis, kask) = (EtcdServer::start(), RedisServer::start(), Kask::start());
    for tables in [String::new(), fleet::tables(&etcd.url())] {
        redis::cmd("FLUSHALL").exec(&mut redis.client()).unwrap();
        let setup = Setup { tables, ..Setup::new(&redis, "dual-write").with_kask(&kask) };
        let decants = [Whole::start(&setup), Whole::start(&setup)];
        // No move begins before every decant of a fleet follows.
        let dry_run = json!({ "dry_run": true });
        wait_until("both follow", || send(&decants[0], "PUT", canaries(), dry_run.clone()).0 == 200);
        set(&decants[0], canaries(), json!({}));
        let known =
            |decant: &Whole, key: &str| decant.admin_get(&format!("/v1/stashes/echoseen/keys/{key}"))["phase"].clone();
        wait_until("the other knows", || known(&decants[1], CANARY) == "kask-first");
        assert_eq!((known(&decants[0], CANARY), known(&decants[1], OTHER)), (json!("kask-first"), json!("dual-write")));
        wait_until("and tells it", || decants[1].phase()["ahead"]["match"] == "testwiki:*");
        // What one writes the other reads, each key by its phase.
        for key in [CANARY, OTHER] {
            assert_eq!(decants[0].set(key, "JSON..1").status(), 201);
            assert_eq!(decants[1].got(key), (200, "JSON..1".to_owned()), "{key}");
        }
        wait_until("both follow", || send(&decants[0], "DELETE", json!({}), dry_run.clone()).0 == 200);
        clear(&decants[0], json!({}));
        wait_until("the other knows that too", || known(&decants[1], CANARY) == "dual-write");
    }
}
