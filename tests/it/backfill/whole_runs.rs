//! What a run copies, counts and tells; how it is stopped, changed and taken up again.

use super::stage::{PATH, Stage, counted, keys, php, seed, send, wait_for};
use crate::{
    redis_server::RedisServer,
    whole::{Setup, Whole, intents, redis_set, wait_until},
};
use serde_json::json;

#[test]
fn what_kask_lacks_is_copied_and_what_cannot_be_is_told() {
    let stage = Stage::new("kask-first");
    let all = seed(&stage.redis, 2_000);
    redis_set(&stage.redis, "number", "42");
    redis_set(&stage.redis, "wiki:key 7:lock", "1");
    redis_set(&stage.redis, "object", "O:8:\"stdClass\":0:{}");
    redis_set(&stage.redis, "a/b", php("x"));
    redis_set(&stage.redis, "a/c", php("x"));
    redis::cmd("SET").arg(b"\xff").arg(php("x")).exec(&mut stage.redis.client()).unwrap();
    redis::cmd("HSET").arg("hash").arg("f").arg("v").exec(&mut stage.redis.client()).unwrap();
    stage.kask.put("wiki:key%201", "JSON..\"value 1\"");
    stage.kask.put("wiki:key%202", "JSON..\"an older value\"");

    let view = stage.run(json!({ "by": "me" }));
    let mut found = keys(&view);
    let (copied, equal) = (found.remove("copied").unwrap(), found.remove("equal").unwrap());
    // A request that a busy machine took too long for is found done.
    assert!(copied + equal == 2_001 && copied > 1_900, "{view:#}");
    assert_eq!(found, counted([("untranscodable", 2), ("unstorable", 3)]), "{view:#}");
    assert_eq!(view["share"], 1.0);
    assert_eq!(view["walked"]["locks"], 1);
    let reasons = json!({ "unstorable: not_utf8": 1, "unstorable: slash": 2, "untranscodable: object": 1, "untranscodable: redis_type": 1 });
    assert_eq!(view["reasons"], reasons);
    assert_eq!((view["not_moved"].as_u64(), view["listed"].as_u64()), (Some(5), Some(5)));
    assert!(view.get("stayed").is_none(), "keys are personal data");
    stage.assert_all_in_kask(all.into_iter().chain(["number".to_owned()]));
    assert_eq!(stage.kask.holds("wiki:key%207:lock"), None);
    assert_eq!(intents(&stage.redis), 0);

    let listed = stage.decant.admin_get(&format!("{PATH}?keys=1"));
    let mut stayed: Vec<&str> =
        listed["stayed"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap()).collect();
    stayed.sort_unstable();
    assert_eq!(stayed, ["\\xff", "a/b", "a/c", "hash", "object"]);
    wait_until("the metrics tell", || {
        stage.decant.metric("decant_backfill_keys_total", &["outcome=\"copied\""]) == copied as f64
            && stage.decant.metric("decant_backfill_progress_ratio", &[]) == 1.0
    });
    let settled = stage.decant.metric("decant_outbox_settled_total", &["by=\"backfill\""]);
    assert!(settled >= copied as f64, "{settled} of {copied}");

    // Once more: everything is there, and nothing is written.
    let posts = stage.asked_of_kask("put");
    let view = stage.run(json!({}));
    assert_eq!(keys(&view), counted([("equal", 2_001), ("untranscodable", 2), ("unstorable", 3)]), "{view:#}");
    assert_eq!(stage.asked_of_kask("put"), posts);
    let complete = &view["complete"];
    assert_eq!((complete["keys"].as_u64(), complete["impossible"].as_u64()), (Some(2_001), Some(5)), "{complete}");
}

/// Slow enough to be caught at work, and far from its end.
const SLOW: u64 = 400;

fn at_work(stage: &Stage) {
    stage.start(json!({ "keys_per_s": SLOW, "by": "me" }));
    wait_until("a page is done", || stage.view()["walked"]["names"].as_u64().unwrap_or(0) > 0);
}

#[test]
fn after_kill_9_it_goes_on_where_it_was() {
    let mut stage = Stage::new("dual-write");
    let all = seed(&stage.redis, 6_000);
    stage.start(json!({ "keys_per_s": 2_000 }));
    let begun = stage.view()["begun_unix_ms"].clone();
    for life in 1..=2 {
        // What is on disk is what counts.
        let file = stage.decant.dir.path().join("state/echoseen.backfill.json");
        let kept = || serde_json::from_slice::<serde_json::Value>(&std::fs::read(&file).unwrap()).unwrap();
        let walked = || kept()["shards"][0]["tally"]["walked"]["names"].as_u64().unwrap();
        wait_until("a checkpoint", || walked() >= 1_000 * life);
        stage.decant.kill_9();
        let before = walked();
        stage.decant.restart();
        let view = stage.view();
        assert_eq!((view["state"].as_str(), &view["begun_unix_ms"]), (Some("running"), &begun), "{view:#}");
        assert!(view["walked"]["names"].as_u64().unwrap() >= before, "it goes on from {before}: {view:#}");
    }
    let body = json!({ "keys_per_s": 0, "by": "me" });
    assert_eq!(send(&stage.decant, "PATCH", &body).status(), 200);
    let view = stage.ended("finished");
    let keys = keys(&view);
    assert_eq!(keys.values().sum::<u64>(), 6_000, "{view:#}");
    // What was copied and not yet written down is met again: a few pages a life, not all of it.
    assert!(keys.get("equal").copied().unwrap_or(0) <= 2 * 4 * 600, "{view:#}");
    stage.assert_all_in_kask(all);
}

#[test]
fn one_at_a_time_and_the_second_is_told_of_the_first() {
    let stage = Stage::new("kask-first");
    seed(&stage.redis, 3_000);
    at_work(&stage);
    let raw = send(&stage.decant, "POST", &json!({ "by": "another" }));
    assert_eq!(raw.status(), 409, "{}", raw.text());
    assert!(raw.text().contains("begun by me at 20"), "{}", raw.text());
    let (code, _, err) = stage.cli(&["start"]);
    assert!(code == 1 && err.contains("begun by me at"), "{code} {err}");
    assert_eq!(stage.decant.admin_get("/v1/status")["stashes"][0]["backfill"]["state"], "running");
    let admin = format!("http://{}", stage.decant.admin);
    let (_, out, _) = crate::support::run_decant(["--admin", &admin, "status"]);
    assert!(out.contains("backfill") && out.contains("running, "), "{out}");
}

#[test]
fn it_is_paused_resumed_and_cancelled_and_keeps_its_place() {
    let mut stage = Stage::new("kask-first");
    let all = seed(&stage.redis, 3_000);
    at_work(&stage);
    let (code, out, err) = stage.cli(&["pause", "--by", "operator"]);
    assert!(code == 0 && out.contains("paused") && out.contains("by operator"), "{out}{err}");
    let place = stage.view()["walked"]["names"].as_u64().unwrap();
    let (code, _, err) = stage.cli(&["pause"]);
    assert!(code == 1 && err.contains("no backfill that is running"), "{err}");
    assert_eq!(send(&stage.decant, "POST", &json!({})).status(), 409, "a paused one is one");

    // It stays paused over a restart, and goes on from its place.
    stage.decant.kill_9();
    stage.decant.restart();
    assert_eq!(stage.view()["state"], "paused");
    let (code, out, err) = stage.cli(&["resume", "--keys-per-s", "0"]);
    assert!(code == 0, "{out}{err}");
    let view = stage.ended("finished");
    assert_eq!(keys(&view).values().sum::<u64>(), 3_000);
    assert!(place > 0 && view["walked"]["names"].as_u64().unwrap() >= 3_000);
    stage.assert_all_in_kask(all);

    at_work(&stage);
    let (code, out, err) = stage.cli(&["--json", "cancel"]);
    assert!(code == 0 && out.contains("\"state\": \"cancelled\""), "{out}{err}");
    let (code, _, err) = stage.cli(&["resume"]);
    assert!(code == 1 && err.contains("no backfill that can be resumed"), "{err}");
    // The next one begins at the beginning, and is none of the last one's.
    let view = stage.run(json!({}));
    assert_eq!(keys(&view), counted([("equal", 3_000)]), "{view:#}");
}

#[test]
fn its_pace_changes_while_it_runs() {
    let stage = Stage::new("kask-first");
    seed(&stage.redis, 3_000);
    stage.start(json!({ "keys_per_s": 20 }));
    wait_until("the limit holds it", || stage.view()["held_by"]["what"] == "limit");
    let crawled = stage.view();
    assert!(crawled["keys_per_s"].as_f64().unwrap() < 100.0 && crawled["state"] == "running", "{crawled:#}");
    let (code, out, err) = stage.cli(&["pace", "--keys-per-s", "0", "--bytes-per-s", "100M"]);
    assert!(code == 0, "{out}{err}");
    let view = stage.ended("finished");
    assert_eq!(view["limits"], json!({ "keys_per_s": 0, "bytes_per_s": 100_000_000 }));
    assert_eq!(send(&stage.decant, "PATCH", &json!({ "keys_per_s": 1 })).status(), 409, "nothing is under way");
}

#[test]
fn the_command_line_follows_it_and_says_what_stays_behind() {
    let stage = Stage::new("kask-first");
    seed(&stage.redis, 500);
    let (code, out, err) = stage.cli(&["start"]);
    assert!(code == 0 && out.contains("state") && out.contains("finished"), "{out}{err}");
    assert!(out.contains("100.0 % of all names") && err.contains("Ctrl-C only stops following"), "{out}{err}");
    redis_set(&stage.redis, "a/b", php("x"));
    let (code, out, _) = stage.cli(&["start"]);
    assert!(code == 1 && out.contains("not moved") && out.contains("unstorable: slash"), "{out}");
    assert!(!out.contains("a/b"), "keys are personal data: {out}");
    let (code, out, _) = stage.cli(&["status", "--keys"]);
    assert!(code == 0 && out.contains("a/b  unstorable, slash"), "{out}");
    let (code, out, _) = stage.cli(&["--json", "status"]);
    let view: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(code == 0 && view["keys"]["equal"] == 500, "{out}");
    let (code, out, err) = stage.cli(&["--json", "start", "--detach", "--dry-run"]);
    assert!(code == 0 && serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{out}{err}");
    stage.ended("finished");
    assert_eq!(stage.cli(&["start", "--match", ""]).0, 64);
}

#[test]
fn phases_decide_whether_it_copies() {
    let stage = Stage::new("redis-only");
    let all = seed(&stage.redis, 8_000);
    let raw = send(&stage.decant, "POST", &json!({}));
    assert!(raw.status() == 409 && raw.text().contains("the stash is in redis-only"), "{}", raw.text());
    stage.decant.move_to("dual-write");
    at_work(&stage);
    // From one phase that copies to the other: nothing happens to it.
    stage.decant.move_to("kask-first");
    let walked = stage.view()["walked"]["names"].as_u64().unwrap();
    wait_until("it goes on", || stage.view()["walked"]["names"].as_u64().unwrap() > walked);
    stage.decant.begin_move("redis-standby", json!({ "force": true }));
    let view = stage.ended("paused");
    assert!(view["why"].as_str().unwrap().contains("moved on to redis-standby"), "{view:#}");
    stage.decant.wait_settled("redis-standby");
    stage.decant.move_to("kask-first");
    let (code, _, err) = stage.cli(&["resume", "--keys-per-s", "0"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(keys(&stage.ended("finished")).values().sum::<u64>(), 8_000);
    stage.assert_all_in_kask(all);

    at_work(&stage);
    stage.decant.move_to("dual-write");
    stage.decant.move_to("redis-only");
    wait_until("it is void", || stage.view()["state"] == "void");
    assert!(stage.view()["why"].as_str().unwrap().contains("redis-only"), "{:#}", stage.view());
    assert_eq!(send(&stage.decant, "PATCH", &json!({ "state": "running" })).status(), 409);
}

/// Two decants on one Redis and one Kask, both copying: the protocol keeps them apart.
#[test]
fn two_backfills_at_once() {
    let stage = Stage::new("kask-first");
    let all = seed(&stage.redis, 3_000);
    let second = Whole::start(&Setup::new(&stage.redis, "kask-first").with_kask(&stage.kask));
    stage.start(json!({}));
    assert_eq!(send(&second, "POST", &json!({})).status(), 201);
    for view in [stage.ended("finished"), wait_for(&second, "finished")] {
        let keys = keys(&view);
        assert_eq!(keys.values().sum::<u64>(), 3_000, "{view:#}");
        assert!(keys.keys().all(|outcome| outcome == "copied" || outcome == "equal"), "{view:#}");
    }
    stage.decant.wait_drained(&stage.redis);
    stage.assert_all_in_kask(all);
}

#[test]
fn a_stop_writes_down_where_it_was() {
    let mut stage = Stage::with(RedisServer::start(), |setup| setup);
    seed(&stage.redis, 3_000);
    at_work(&stage);
    stage.decant.signal("TERM");
    assert_eq!(stage.decant.wait(), Some(0));
    stage.decant.restart();
    let view = stage.view();
    assert!(view["state"] == "running" && view["walked"]["names"].as_u64().unwrap() > 0, "{view:#}");
}
