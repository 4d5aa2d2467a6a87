//! More than decant can hold: what it is given and what it is to give is bounded, and what is over that is told to come back later.

use crate::{
    redis_server::RedisServer,
    support::{Wire, ask, exchange, request},
    whole::{BASE, Kask, PATIENCE, Setup, Whole, redis_set, wait_until},
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

const LARGE: usize = 4 * 1024 * 1024;

fn body(length: usize) -> String {
    format!("JSON..\"{}\"", "x".repeat(length))
}

fn get(key: &str) -> String {
    format!("GET {BASE}{key} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// Answers of both tiers that nobody takes fill the room; then large values are refused, reads and writes alike, and small ones are not.
#[test]
fn answers_that_are_not_taken_do_not_fill_the_memory() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let limits = format!("held_bytes_max = {}\n", 4 * LARGE);
    // Four MiB take their time where an unoptimised build shares the processors with other tests.
    let redis_lines = "timeout_ms = 800\n".to_owned();
    let setup = Setup::new(&redis, "kask-first").with_kask(&kask);
    let decant = Whole::start(&Setup { limits, redis: redis_lines, kask_timeout_ms: 700, ..setup });
    kask.put("in-kask", &body(LARGE));
    redis_set(&redis, "in-redis", format!("s:{LARGE}:\"{}\";", "x".repeat(LARGE)));
    // Redis is asked first for what is to be the latest, and nothing is repaired.
    let latest = format!("GET {BASE}in-redis HTTP/1.1\r\nHost: h\r\nCache-Control: no-cache\r\n\r\n");
    for large in [get("in-kask"), latest] {
        assert_eq!(exchange(decant.data, &large).status(), 200);
        let mut slow = Vec::new();
        // Some of each answer is on its way to the client already, which takes no room; more may go there at any time.
        let mut refused = |asked: &[u8]| {
            let mut raw = exchange(decant.data, asked);
            while raw.status() != 503 {
                assert!(slow.len() < 8, "{} answers are held, and {}", slow.len(), raw.status_line);
                let mut wire = Wire::connect(decant.data);
                wire.send(&large);
                slow.push(wire);
                raw = exchange(decant.data, asked);
            }
            assert_eq!(raw.header("retry-after"), Some("1"));
            raw.text()
        };
        let told = refused(large.as_bytes());
        assert!(told.contains("limits.held_bytes_max"), "{told}");
        refused(&request("POST", &format!("{BASE}k"), body(LARGE).as_bytes()));
        assert_eq!(ask(decant.data, "POST", &format!("{BASE}small"), body(100).as_bytes()).status(), 201);
        assert_eq!(decant.get("small").status(), 200);
        drop(slow);
        wait_until("there is room again", || exchange(decant.data, &large).status() == 200);
    }
    assert_eq!(decant.metric("decant_breaker_opened_total", &[]), 0.0, "that is no tier's fault");
}

/// Each operation waits for a Kask that hangs, and holds its place meanwhile. Who finds none is told so, and does not wait.
#[test]
fn what_is_over_the_requests_in_flight_is_refused_at_once() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let limits = "requests_in_flight_max = 2\n".to_owned();
    let setup = Setup::new(&redis, "kask-first").with_kask(&kask);
    let decant = Whole::start(&Setup { limits, kask_timeout_ms: 1_200, lease_ms: 3_000, ..setup });
    let (decant, seen, until) = (&decant, &AtomicBool::new(false), Instant::now() + PATIENCE);
    kask.hang();
    std::thread::scope(|scope| {
        for key in ["a", "b"] {
            scope.spawn(move || {
                while !seen.load(Ordering::Relaxed)
                    && Instant::now() < until
                    && decant.set(key, "JSON..1").status() != 500
                {}
            });
        }
        wait_until("both places are taken", || {
            let asked = Instant::now();
            let refused = decant.set("c", "JSON..1");
            let at_once = asked.elapsed() < Duration::from_millis(500);
            let told = (refused.status(), refused.header("retry-after")) == (503, Some("1"));
            seen.store(told && at_once && refused.text().contains("too many operations"), Ordering::Relaxed);
            seen.load(Ordering::Relaxed)
        });
    });
    kask.go_on();
    wait_until("there is room again", || decant.set("c", "JSON..1").status() == 201);
}
