//! Which keys a run copies.

use super::stage::{Stage, counted, keys, php, seed, send};
use crate::whole::{redis_set, wait_until};
use serde_json::json;

fn set_for(stage: &Stage, key: &str, value: &str, seconds: u64) {
    redis::cmd("SET").arg(key).arg(value).arg("EX").arg(seconds).exec(&mut stage.redis.client()).unwrap();
}

const YEAR: u64 = 31_536_000;
const DAY: u64 = 86_400;

/// Echo's seen times: some written long ago by their TTL, some by what they are, some that nobody can tell, some Echo's own default.
fn echo() -> Stage {
    let stage = Stage::new("kask-first");
    let key = |i: usize| format!("enwiki:echo:seen:alert:time:{i}");
    set_for(&stage, &key(1), &php("x"), YEAR - 300 * DAY);
    set_for(&stage, &key(2), &php("x"), YEAR - DAY);
    redis_set(&stage.redis, &key(3), php("20150101000000"));
    redis_set(&stage.redis, &key(4), php("20990101000000"));
    redis_set(&stage.redis, &key(5), php("19700101000001"));
    redis_set(&stage.redis, &key(6), php("no timestamp"));
    // By its TTL it is old, by what it says it is not.
    set_for(&stage, &key(7), &php("20990101000000"), 5 * DAY);
    redis_set(&stage.redis, "enwiki:other", php("y"));
    stage
}

#[test]
fn by_name() {
    let stage = echo();
    let view = stage.run(json!({ "match": "*:echo:seen:*:[1-3]" }));
    assert_eq!(keys(&view), counted([("copied", 3)]), "{view:#}");
    assert_eq!(view["walked"]["unmatched"], 5);
    assert_eq!(stage.kask.holds("enwiki:other"), None);
    assert!(view["complete"].is_null(), "with a filter it shows nothing: {view:#}");
}

#[test]
fn by_when_they_were_written_and_by_what_is_as_good_as_nothing() {
    let stage = echo();
    let long_ago = "2020-01-01T00:00:00Z";
    let view = stage.run(json!({ "written_after": long_ago, "skip_values": ["19700101000001"] }));
    assert_eq!(keys(&view), counted([("copied", 6), ("written_before", 1), ("skipped_value", 1)]), "{view:#}");
    assert_eq!(stage.kask.holds("enwiki:echo:seen:alert:time:3"), None);
    assert_eq!(stage.kask.holds("enwiki:echo:seen:alert:time:5"), None);
    let (code, out, err) = stage.cli(&["start", "--written-after", "100d", "--match", "*:1", "--dry-run"]);
    assert!(code == 0 && out.contains("written before") && !out.contains("would be copied"), "{out}{err}");
    // Sessions of an hour in a stash of a year: their TTL tells only with the one that they were written with.
    set_for(&stage, "session", &php("s"), 3_000);
    let asked = json!({ "match": "session", "written_after": long_ago, "written_ttl_s": 3_600, "dry_run": true });
    assert_eq!(keys(&stage.run(asked)), counted([("lacking", 1)]));
}

#[test]
fn by_how_long_they_live_and_how_many_they_are() {
    let stage = echo();
    set_for(&stage, "short", &php("x"), 50);
    let view = stage.run(json!({ "min_ttl_s": 60, "limit": 4 }));
    assert!(
        keys(&view)["copied"] == 4 && view["why"].as_str().unwrap().contains("as many keys as were asked"),
        "{view:#}"
    );
    let view = stage.run(json!({ "min_ttl_s": 60 }));
    assert_eq!(keys(&view), counted([("copied", 4), ("equal", 4), ("short_lived", 1)]), "{view:#}");
    assert_eq!(stage.kask.holds("short"), None);
}

#[test]
fn a_dry_run_writes_nothing_and_tells_ages() {
    let stage = echo();
    let complete = stage.run(json!({ "match": "enwiki:other" }));
    assert_eq!(keys(&complete), counted([("copied", 1)]));
    let posts = stage.asked_of_kask("put");
    let view = stage.run(json!({ "dry_run": true }));
    assert_eq!(keys(&view), counted([("lacking", 7), ("equal", 1)]), "{view:#}");
    let ages = view["ages"].as_object().unwrap();
    let of = |age: &str| ages.get(age).map_or(0, |amount| amount["keys"].as_u64().unwrap());
    // A future timestamp is as young as can be.
    assert_eq!(
        [of("under_a_day"), of("under_a_week"), of("under_a_year"), of("a_year_or_more"), of("unknown")],
        [2, 1, 1, 2, 1],
        "{ages:?}"
    );
    let bytes: u64 = ages.values().map(|amount| amount["bytes"].as_u64().unwrap()).sum();
    assert_eq!(Some(bytes), view["bytes"].as_u64());
    assert_eq!((stage.asked_of_kask("put"), crate::whole::intents(&stage.redis)), (posts, 0));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let stage = Stage::new("kask-first");
    for (body, says) in [
        (json!({ "match": "" }), "the pattern is empty"),
        (json!({ "written_after": "soon" }), "is no time"),
        (json!({ "written_ttl_s": 0 }), "nothing tells when"),
        (json!({ "limit": 0 }), "0 keys are no backfill"),
        (json!({ "skip_values": vec!["x"; 17] }), "at most 16 values"),
        (json!({ "skip": ["x"] }), "unknown field"),
        (json!([]), "not what is taken here"),
    ] {
        let raw = send(&stage.decant, "POST", &body);
        assert!(raw.status() == 400 && raw.text().contains(says), "{body}: {}", raw.text());
    }
    assert_eq!(stage.view(), json!({ "stash": "echoseen", "trouble": null }), "nothing has begun");
}

/// Redis has to give every name, also those that are only passed by.
#[test]
fn names_that_do_not_fit_are_walked_at_the_pace_too() {
    let stage = Stage::new("kask-first");
    seed(&stage.redis, 4_000);
    stage.start(json!({ "match": "another:*", "keys_per_s": 1 }));
    wait_until("the limit holds it back", || stage.view()["held_by"]["what"] == "limit");
    assert_eq!(stage.view()["state"], "running", "{:#}", stage.view());
    assert_eq!(send(&stage.decant, "PATCH", &json!({ "keys_per_s": 0 })).status(), 200);
    let view = stage.ended("finished");
    assert_eq!(view["walked"]["unmatched"], 4_000, "{view:#}");
}
