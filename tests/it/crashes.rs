//! decant killed at the worst moments, and what heals afterwards.

use crate::{
    redis_server::RedisServer,
    support::request,
    whole::{BASE, Kask, Setup, Whole, intents, redis_holds, wait_until},
};
use std::{io::Write, net::TcpStream};

/// Sends a write and does not wait for the answer.
fn send(decant: &Whole, method: &str, key: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(decant.data).unwrap();
    stream.write_all(&request(method, &format!("{BASE}{key}"), body.as_bytes())).unwrap();
    stream
}

/// APPLY has happened, the copy has not: Kask takes the connection and says nothing.
fn killed_between_apply_and_copy(method: &str, body: &str) -> (RedisServer, Kask, Whole) {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let mut decant = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    assert_eq!(decant.set("k", "JSON..\"old\"").status(), 201);
    decant.wait_drained(&redis);
    kask.hang();
    let _client = send(&decant, method, "k", body);
    wait_until("APPLY", || intents(&redis) == 1);
    decant.kill_9();
    kask.go_on();
    (redis, kask, decant)
}

#[test]
fn a_set_that_lost_its_decant_before_the_copy_is_healed_by_the_reaper() {
    let (redis, kask, mut decant) = killed_between_apply_and_copy("POST", "JSON..\"new\"");
    assert_eq!(redis_holds(&redis, "k").as_deref(), Some("s:3:\"new\";"));
    decant.restart();
    assert_eq!(decant.got("k"), (200, "JSON..\"new\"".into()), "a pending key is read from Redis");
    decant.wait_drained(&redis);
    assert_eq!(kask.holds("k").as_deref(), Some("JSON..\"new\""));
    assert_eq!(decant.metric("decant_outbox_settled_total", &["by=\"reaper\""]), 1.0);
}

#[test]
fn a_delete_that_lost_its_decant_before_the_copy_stays_deleted() {
    let (redis, kask, mut decant) = killed_between_apply_and_copy("DELETE", "");
    decant.restart();
    assert_eq!(decant.got("k").0, 404, "the record remembers the delete, though Kask may still hold the value");
    decant.wait_drained(&redis);
    assert_eq!((kask.holds("k"), redis_holds(&redis, "k")), (None, None));
    assert_eq!(decant.got("k").0, 404);
}

#[test]
fn a_mirror_that_lost_its_decant_is_healed_from_kask() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let mut decant = Whole::start(&Setup::new(&redis, "redis-standby").with_kask(&kask));
    kask.hang();
    let _client = send(&decant, "POST", "k", "JSON..\"new\"");
    wait_until("MARK", || intents(&redis) == 1);
    decant.kill_9();
    kask.go_on();
    // Kask applied what it was sent, or did not: the mirror must come to the same.
    decant.restart();
    decant.wait_drained(&redis);
    let as_redis = kask.holds("k").map(|_| "s:3:\"new\";".to_owned());
    assert_eq!(redis_holds(&redis, "k"), as_redis);
}

#[test]
fn sigterm_answers_what_it_has_accepted() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let mut decant = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    kask.hang();
    let mut client = send(&decant, "POST", "k", "JSON..1");
    wait_until("APPLY", || intents(&redis) == 1);
    decant.signal("TERM");
    kask.go_on();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut client, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    assert_eq!(decant.wait(), Some(0));
    assert_eq!(redis_holds(&redis, "k").as_deref(), Some("1"));
}

#[test]
fn a_damaged_phase_record_is_named_and_nothing_is_served() {
    let redis = RedisServer::start();
    let mut decant = Whole::start(&Setup::new(&redis, "kask-first"));
    decant.signal("TERM");
    decant.wait();
    let path = decant.dir.path().join("state/echoseen.phase.json");
    std::fs::write(&path, "{\"stash\": \"echos").unwrap();
    let config = decant.dir.path().join("proxy.toml");
    let (code, out, err) = crate::support::run_decant(["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(code, 2, "{out}{err}");
    assert!(err.contains("echoseen.phase.json is damaged") && err.contains("restore it from a backup"), "{err}");
}
