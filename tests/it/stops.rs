//! Ends and starts: what a stop leaves whole, what ends it early, and a start while a tier is down.

use crate::{
    faults::wire::Line,
    redis_server::RedisServer,
    support::{Wire, request},
    whole::{BASE, Kask, Setup, Whole, intents, redis_holds, wait_until},
};
use serde_json::Value;
use std::{
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Each write has a key of its own, so that what was done can be told from what was not.
#[test]
fn sigterm_under_load_cuts_no_accepted_write() {
    const CLIENTS: usize = 12;
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let mut decant = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    let (data, done) = (decant.data, AtomicUsize::new(0));
    let told = thread::scope(|scope| {
        let client = |name: usize| {
            let (mut line, mut told, done) = (Line::default(), Vec::new(), &done);
            move || {
                for round in 0.. {
                    let key = format!("{name}-{round}");
                    // Some in two pieces' worth of bytes: a body that is on its way when the signal comes.
                    let body = format!("JSON..\"{}\"", "x".repeat(if round % 4 == 0 { 200_000 } else { 10 }));
                    let reply = line.ask(data, &request("POST", &format!("{BASE}{key}"), body.as_bytes()));
                    let status = reply.map(|reply| reply.status).ok();
                    told.push((key, status));
                    match status {
                        Some(201) => done.fetch_add(1, Ordering::Relaxed),
                        Some(other) => panic!("{other} while it drains"),
                        // It was closed before it was sent, or is gone.
                        None => break,
                    };
                }
                told
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|name| scope.spawn(client(name))).collect();
        wait_until("writes are under way", || done.load(Ordering::Relaxed) > 20 * CLIENTS);
        decant.signal("TERM");
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(decant.wait(), Some(0));
    assert!(TcpStream::connect(data).is_err(), "it still listens");
    for (key, status) in &told {
        let held = redis_holds(&redis, key).is_some();
        assert_eq!(held, *status == Some(201), "{key}, answered {status:?}: Redis holds it: {held}");
    }
    // What was copied in the background has been waited for.
    assert_eq!(intents(&redis), 0);
    assert!(told.iter().all(|(key, status)| kask.holds(key).is_some() == (*status == Some(201))));
}

/// Half of a write, which decant would wait for long.
fn half_a_write(decant: &Whole) -> Wire {
    let mut wire = Wire::connect(decant.data);
    wire.send(format!("POST {BASE}half HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"));
    // It is being read.
    assert_eq!(wire.answer(false).status(), 100);
    wire.send("JSON..");
    wire
}

fn stopping(limits: &str) -> (RedisServer, Whole, Wire) {
    let redis = RedisServer::start();
    let limits = format!("body_timeout_ms = 300000\n{limits}\n");
    let decant = Whole::start(&Setup { limits, ..Setup::new(&redis, "kask-first") });
    let half = half_a_write(&decant);
    decant.signal("TERM");
    let data = decant.data;
    wait_until("it takes no more connections", || TcpStream::connect(data).is_err());
    (redis, decant, half)
}

#[test]
fn a_second_sigterm_ends_a_drain() {
    let (redis, mut decant, mut half) = stopping("drain_timeout_ms = 300000");
    decant.signal("TERM");
    assert_eq!(decant.wait(), Some(2));
    half.assert_closes();
    let log = decant.log.lock().unwrap().clone();
    assert!(log.iter().any(|line| line.contains("a second signal")), "{:?}", log.last());
    assert_eq!(redis_holds(&redis, "half"), None);
}

#[test]
fn a_drain_ends_with_its_limit() {
    let (redis, mut decant, mut half) = stopping("drain_timeout_ms = 300");
    half.assert_closes();
    assert_eq!(decant.wait(), Some(0));
    let log = decant.log.lock().unwrap().clone();
    let cut = |line: &String| line.contains("the data listener has drained") && line.contains("\"cut\":1");
    assert!(log.iter().any(cut), "{:?}", log.last());
    assert_eq!(redis_holds(&redis, "half"), None);
}

fn ready(decant: &Whole) -> (u16, String) {
    let raw = decant.ask_admin("/readyz");
    (raw.status(), raw.text())
}

#[test]
fn a_start_without_redis_says_why_and_serves_when_it_is_back() {
    let (mut redis, kask) = (RedisServer::start(), Kask::start());
    let mut decant = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    assert_eq!(decant.set("k", "JSON..1").status(), 201);
    decant.wait_drained(&redis);
    decant.kill_9();
    redis.kill();
    decant.restart_unserved();
    wait_until("it says why", || {
        let told = ready(&decant).1;
        told.contains("\"main\"") && told.contains("Connection refused")
    });
    let refused = decant.set("k", "JSON..2");
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")));
    redis.restart();
    wait_until("it serves", || ready(&decant).0 == 200 && decant.set("k", "JSON..3").status() == 201);
    assert_eq!(decant.got("k"), (200, "JSON..3".into()));
}

fn kask_down(decant: &Whole) -> Value {
    decant.admin_get("/readyz")["stashes"][0]["kask_down"].clone()
}

/// Redis has everything: a Kask that is down keeps nobody from starting, and gets what it lacks.
#[test]
fn a_start_without_kask_serves_what_redis_holds() {
    let (redis, mut kask) = (RedisServer::start(), Kask::start());
    let mut decant = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    assert_eq!(decant.set("k", "JSON..1").status(), 201);
    decant.wait_drained(&redis);
    decant.kill_9();
    kask.kill_9();
    decant.restart_unserved();
    wait_until("it is ready", || ready(&decant).0 == 200);
    assert_eq!(decant.got("k"), (200, "JSON..1".into()));
    wait_until("it is told, and changes nothing", || {
        assert_eq!(decant.get("nobody").status(), 503, "an error is not a miss");
        let told = kask_down(&decant);
        told.as_str().is_some_and(|why| why.starts_with("it")) && ready(&decant).0 == 200
    });
    assert_eq!(decant.set("new", "JSON..2").status(), 201);
    kask.restart();
    decant.wait_drained(&redis);
    assert_eq!(kask.holds("new").as_deref(), Some("JSON..2"));
    wait_until("it is asked again", || decant.get("nobody").status() == 404);
    assert_eq!(kask_down(&decant), Value::Null);
}

/// What Redis still holds is found, and found in Kask from then on; a delete stays one.
#[test]
fn a_wiped_kask_is_filled_again() {
    let (redis, mut kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    let keys: Vec<String> = (0..20).map(|n| format!("key{n}")).collect();
    assert!(keys.iter().all(|key| decant.set(key, "JSON..1").status() == 201));
    assert_eq!((decant.set("gone", "JSON..1").status(), decant.delete("gone").status()), (201, 204));
    decant.wait_drained(&redis);
    kask.wipe();
    let refilled = |key: &String| {
        let mut answer = decant.got(key);
        // Its connections are dead, and found to be.
        wait_until("it is answered", || {
            answer = decant.got(key);
            answer.0 != 503
        });
        answer
    };
    assert!(keys.iter().all(|key| refilled(key) == (200, "JSON..1".into())));
    assert_eq!(refilled(&"gone".to_owned()).0, 404);
    wait_until("Kask holds everything again", || keys.iter().all(|key| kask.holds(key).as_deref() == Some("JSON..1")));
    assert_eq!(kask.holds("gone"), None);
}
