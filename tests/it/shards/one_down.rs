//! One of three shards is killed, or hangs: that is only its own keys' trouble.

use super::{
    names_on,
    stage::{Stage, stage},
};
use crate::whole::{BASE, Whole, intents, redis_holds, wait_until};
use serde_json::{Value, json};

/// The one that is away, as the config counts and names it.
const AWAY: usize = 1;
const AWAY_NAME: &str = "shard02";
const KEYS_EACH: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Away {
    Killed,
    Hangs,
}

impl Stage {
    fn lose(&mut self, how: Away) {
        match how {
            Away::Killed => self.servers[AWAY].kill(),
            Away::Hangs => self.servers[AWAY].sigstop(),
        }
    }

    fn bring_back(&mut self, how: Away) {
        match how {
            Away::Killed => self.servers[AWAY].restart(),
            Away::Hangs => self.servers[AWAY].sigcont(),
        }
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        [0, 2].into_iter()
    }
}

fn shards_told(decant: &Whole) -> Vec<(String, bool)> {
    let told = decant.admin_get("/v1/stashes/echoseen");
    let one = |shard: &Value| (shard["name"].as_str().unwrap().to_owned(), shard["up"].as_bool().unwrap());
    told["shards"].as_array().unwrap().iter().map(one).collect()
}

/// Status, readiness, metrics and the refusal of a move name the shard, and only that one.
fn assert_told(decant: &Whole, next: &str) {
    wait_until("the shard is known to be away", || !shards_told(decant)[AWAY].1);
    let names = ["shard01", "shard02", "shard03"];
    let expected: Vec<(String, bool)> = names.map(|name| (name.to_owned(), name != AWAY_NAME)).to_vec();
    assert_eq!(shards_told(decant), expected);
    for (name, up) in expected {
        let label = format!("shard=\"{name}\"");
        wait_until("the metric tells", || decant.metric("decant_shard_up", &[&label]) == f64::from(u8::from(up)));
    }
    assert_eq!(decant.metric("decant_tier_up", &["tier=\"redis\""]), 0.0);
    let ready = decant.ask_admin("/readyz");
    let told: Value = serde_json::from_slice(&ready.body).unwrap();
    let down = told["stashes"][0]["shards_down"].as_array().unwrap();
    assert_eq!((ready.status(), down.len(), &down[0]["name"]), (200, 1, &json!(AWAY_NAME)), "{told:#}");
    let (status, told) = decant.ask_move(next, json!({}));
    assert_eq!((status, &told["type"]), (409, &json!("urn:decant:problem:guard-failed")), "{told:#}");
    let guards = told["guards"].as_array().unwrap();
    let guard = guards.iter().find(|guard| guard["name"] == "redis_answers").unwrap();
    assert_eq!((&guard["ok"], &guard["figure"]), (&json!(false), &json!(format!("no answer from {AWAY_NAME}"))));
}

/// A client of the other shards' keys sees nothing of it.
fn assert_goes_on(decant: &Whole, keys: &[String], round: usize) {
    let (kept, changed, deleted) = (&keys[0], &keys[1], &keys[2]);
    assert_eq!(decant.got(kept), (200, "JSON..\"old\"".into()), "{kept}");
    let body = format!("JSON..\"{round}\"");
    assert_eq!(decant.set(changed, &body).status(), 201, "{changed}");
    assert_eq!(decant.got(changed), (200, body.clone()), "{changed}");
    assert_eq!(decant.set(deleted, &body).status(), 201, "{deleted}");
    assert_eq!(decant.delete(deleted).status(), 204, "{deleted}");
    assert_eq!(decant.got(deleted).0, 404, "{deleted}");
    let add =
        format!("POST {BASE}{deleted} HTTP/1.1\r\nHost: t\r\nIf-None-Match: *\r\nContent-Length: 7\r\n\r\nJSON..1");
    assert_eq!(crate::support::exchange(decant.data, add).status(), 201, "{deleted}");
}

/// What a client of the lost shard's keys is told: a read of a value, a read of none, a write, a delete.
fn assert_answers(decant: &Whole, keys: &[String], expected: (u16, u16, u16, u16)) {
    let told = (
        decant.got(&keys[0]).0,
        decant.got(&keys[3]).0,
        decant.set(&keys[4], "JSON..\"alone\"").status(),
        decant.delete(&keys[5]).status(),
    );
    assert_eq!(told, expected);
}

fn one_is_away(phase: &'static str, next: &str, expected: (u16, u16, u16, u16), how: Away) {
    println!("{phase}, {how:?}");
    let mut stage = stage(phase, KEYS_EACH);
    let decant = Whole::start(&stage.setup);
    for keys in &stage.keys {
        assert_eq!(decant.set(&keys[0], "JSON..\"old\"").status(), 201);
        assert_eq!(decant.set(&keys[5], "JSON..\"old\"").status(), 201);
    }
    stage.servers.iter().for_each(|server| decant.wait_drained(server));
    wait_until("nothing is pending", || decant.metric("decant_keys_pending", &[]) == 0.0);
    stage.lose(how);
    for round in 0..3 {
        stage.others().for_each(|shard| assert_goes_on(&decant, &stage.keys[shard], round));
        assert_answers(&decant, &stage.keys[AWAY], expected);
    }
    assert_told(&decant, next);
    stage.others().for_each(|shard| assert_goes_on(&decant, &stage.keys[shard], 9));
    stage.bring_back(how);
    let keys = &stage.keys[AWAY];
    wait_until("the shard is written again", || decant.set(&keys[1], "JSON..\"back\"").status() == 201);
    assert_goes_on(&decant, keys, 10);
    wait_until("every shard is up", || shards_told(&decant).iter().all(|(_, up)| *up));
    if phase == "redis-standby" {
        wait_until("the mirror is clean", || decant.metric("decant_mirror_unclean", &[]) == 0.0);
        assert_eq!(redis_holds(&stage.servers[AWAY], &keys[4]).as_deref(), Some("s:5:\"alone\";"));
        assert_eq!(redis_holds(&stage.servers[AWAY], &keys[5]), None);
    }
    stage.servers.iter().for_each(|server| decant.wait_drained(server));
    if next != "redis-only" {
        decant.wait_no_shard_came_back(next);
    }
    decant.move_to(next);
    for (server, keys) in stage.servers.iter().zip(&stage.keys) {
        let strays = names_on(server).into_iter().filter(|name| !keys.iter().any(|key| key.as_bytes() == name));
        assert_eq!(strays.count(), 0, "a key went to another shard");
        assert_eq!(decant.got(&keys[0]), (200, "JSON..\"old\"".into()));
    }
}

#[test]
fn redis_only() {
    for how in [Away::Killed, Away::Hangs] {
        one_is_away("redis-only", "dual-write", (503, 503, 503, 503), how);
    }
}

#[test]
fn dual_write() {
    for how in [Away::Killed, Away::Hangs] {
        one_is_away("dual-write", "kask-first", (503, 503, 503, 503), how);
    }
}

/// What Kask has it answers; what it lacks, only Redis knows.
#[test]
fn kask_first() {
    for how in [Away::Killed, Away::Hangs] {
        one_is_away("kask-first", "dual-write", (200, 503, 503, 503), how);
    }
}

/// Nothing is refused: the lost shard's keys are written to Kask alone, and healed.
#[test]
fn redis_standby() {
    for how in [Away::Killed, Away::Hangs] {
        one_is_away("redis-standby", "kask-first", (200, 404, 201, 204), how);
    }
}

/// What Kask missed is healed on the shards that are there.
#[test]
fn the_others_reapers_go_on() {
    let mut stage = stage("kask-first", KEYS_EACH);
    let decant = Whole::start(&stage.setup);
    stage.kask.hang();
    for shard in stage.others() {
        assert_eq!(decant.set(&stage.keys[shard][0], "JSON..\"v\"").status(), 201);
        assert_eq!(intents(&stage.servers[shard]), 1);
    }
    stage.lose(Away::Hangs);
    stage.kask.go_on();
    for shard in stage.others() {
        decant.wait_drained(&stage.servers[shard]);
        assert_eq!(stage.kask.holds(&stage.keys[shard][0]).as_deref(), Some("JSON..\"v\""));
    }
    stage.bring_back(Away::Hangs);
}

fn ready(decant: &Whole) -> (u16, String) {
    let raw = decant.ask_admin("/readyz");
    (raw.status(), raw.text())
}

/// What the shard that is away knows is not guessed, and told to be missing.
#[test]
fn a_first_start_waits_for_every_shard() {
    let mut stage = stage("redis-only", KEYS_EACH);
    stage.lose(Away::Killed);
    let decant = Whole::start_unserved(&stage.setup);
    wait_until("it tells what it waits for", || {
        let (status, told) = ready(&decant);
        status == 503 && told.contains(AWAY_NAME) && told.contains("needs every shard")
    });
    assert_eq!(decant.set(&stage.keys[0][0], "JSON..1").status(), 503);
    stage.bring_back(Away::Killed);
    wait_until("it serves", || ready(&decant).0 == 200);
    for keys in &stage.keys {
        assert_eq!(decant.set(&keys[0], "JSON..1").status(), 201);
    }
}

/// Who starts again, and who comes to join, serves the keys of the shards that are there.
#[test]
fn others_starts_need_not_wait() {
    for how in [Away::Killed, Away::Hangs] {
        let mut stage = stage("kask-first", KEYS_EACH);
        let mut first = Whole::start(&stage.setup);
        stage.lose(how);
        first.kill_9();
        first.restart_unserved();
        let second = Whole::start_unserved(&stage.setup);
        for decant in [&first, &second] {
            wait_until("it serves", || ready(decant).0 == 200);
            for shard in stage.others() {
                let key = &stage.keys[shard][0];
                wait_until("its shard is looked at", || decant.set(key, "JSON..1").status() == 201);
                assert_eq!(decant.got(key), (200, "JSON..1".into()));
            }
            assert_eq!(decant.set(&stage.keys[AWAY][0], "JSON..1").status(), 503);
        }
        stage.bring_back(how);
        for decant in [&first, &second] {
            wait_until("all is well", || decant.set(&stage.keys[AWAY][0], "JSON..1").status() == 201);
        }
    }
}

/// The id alone does not tell on which shard an intent is: those that are away keep none of the others from being judged.
#[test]
fn a_damaged_intent_of_another_shard_is_judged() {
    let mut stage = stage("kask-first", KEYS_EACH);
    let decant = Whole::start(&stage.setup);
    let token = "0123456789abcdef0123456789abcdef";
    let (key, name) = (&stage.keys[2][0], |what: &str| format!("decant|echoseen|{what}"));
    let record = [("direction", "kask"), ("generation", "1"), ("newest", "old"), (token, "damaged 5")];
    redis::pipe()
        .hset(name("damaged"), token, format!("1700000000000 5 kask Kask refused\n{key}"))
        .hset_multiple(name(&format!("record|{key}")), &record)
        .zadd(name("to-kask"), format!("{token}{key}"), "+inf")
        .exec(&mut stage.servers[2].client())
        .unwrap();
    stage.lose(Away::Hangs);
    let drop_it = |id: &str| {
        let path = format!("/v1/stashes/echoseen/damaged/{id}");
        let head = format!("DELETE {path} HTTP/1.1\r\nHost: {}\r\n\r\n", decant.admin);
        crate::support::exchange(decant.admin, head).status()
    };
    assert_eq!(drop_it("ffffffffffffffffffffffffffffffff"), 503, "nobody knows");
    assert_eq!(drop_it(token), 200);
    stage.bring_back(Away::Hangs);
    wait_until("everybody knows", || drop_it("ffffffffffffffffffffffffffffffff") == 404);
}
