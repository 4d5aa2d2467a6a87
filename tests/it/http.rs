//! The accept loop: who is cut, who waits, who is let finish.

use crate::{
    dialect::Server,
    support::{PATIENCE, Wire, exchange, request},
};
use decant::{dialect::Manners, http::Limits};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

const SHORT: Duration = Duration::from_millis(150);
/// Longer than any test waits for something that is not to happen.
const LONG: Duration = Duration::from_secs(60);

fn limits() -> Limits {
    Limits { header_timeout: LONG, body_timeout: LONG, idle_timeout: LONG, drain_timeout: LONG, ..Limits::default() }
}

fn get(path: &str) -> String {
    format!("GET /echoseen/v1/{path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// Waits until `n` operations on the key `gate` have begun.
fn begun(server: &Server, n: u32) {
    let begun = async { server.store.begun.acquire_many(n).await.unwrap().forget() };
    server.runtime.block_on(async { tokio::time::timeout(PATIENCE, begun).await.unwrap() });
}

#[test]
fn slow_headers_are_cut_however_they_trickle() {
    let server = Server::start(Manners::DECANT, Limits { header_timeout: SHORT, ..limits() });
    let mut wire = Wire::connect(server.addr);
    wire.send(get("k"));
    assert_eq!(wire.answer(false).status(), 404);
    let began = Instant::now();
    let head = b"GET /echoseen/v1/k HTTP/1.1\r\nX-Slow: ";
    // Never still for long, and over in a multiple of the time granted.
    let cut = head.iter().chain(std::iter::repeat_n(&b'x', 400)).any(|byte| {
        std::thread::sleep(SHORT / 20);
        !wire.try_send([*byte])
    });
    assert!(cut, "not cut in {:?}", began.elapsed());
    assert!(began.elapsed() >= SHORT, "cut too early: {:?}", began.elapsed());
}

#[test]
fn a_connection_that_lies_still_is_cut_and_one_in_use_is_not() {
    let server = Server::start(Manners::DECANT, Limits { idle_timeout: SHORT * 4, header_timeout: SHORT, ..limits() });
    let mut silent = Wire::connect(server.addr);
    let mut used = Wire::connect(server.addr);
    let began = Instant::now();
    // Past the idle time in all, but never idle for that long; and longer than the header time between two requests.
    for _ in 0..4 {
        used.send(get("k"));
        assert_eq!(used.answer(false).status(), 404);
        std::thread::sleep(SHORT + SHORT / 4);
    }
    used.assert_closes();
    silent.assert_closes();
    assert!(began.elapsed() >= SHORT * 4);
    // A request that is being worked on is not idle.
    let mut working = Wire::connect(server.addr);
    working.send(get("gate"));
    begun(&server, 1);
    std::thread::sleep(SHORT * 6);
    server.store.gate.add_permits(1);
    assert_eq!(working.answer(false).status(), 404);
}

#[test]
fn a_slow_body_is_answered_408_and_closed() {
    let server = Server::start(Manners::DECANT, Limits { body_timeout: SHORT, ..limits() });
    let mut wire = Wire::connect(server.addr);
    wire.send("POST /echoseen/v1/k HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc");
    let late = wire.answer(false);
    assert_eq!(late.status_line, "HTTP/1.1 408 Request Timeout");
    assert_eq!(late.header("connection"), Some("close"));
    assert!(late.text().contains("errors/request_timeout"), "{}", late.text());
    wire.assert_closes();
    assert!(server.store.seen.lock().unwrap().is_empty(), "a part of a body was stored");
}

#[test]
fn a_body_that_breaks_off_is_not_stored() {
    let server = Server::start(Manners::DECANT, limits());
    for half in ["Content-Length: 100\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"] {
        let mut wire = Wire::connect(server.addr);
        wire.send(format!("POST /echoseen/v1/k HTTP/1.1\r\nHost: h\r\n{half}"));
        wire.close_half();
        assert_eq!(wire.answer(false).status(), 400, "{half}");
        wire.assert_closes();
    }
    assert!(server.store.seen.lock().unwrap().is_empty());
}

#[test]
fn over_the_cap_a_connection_waits_for_one_to_end() {
    let server = Server::start(Manners::DECANT, Limits { connections_max: 2, ..limits() });
    let mut held: Vec<Wire> = (0..2).map(|_| Wire::connect(server.addr)).collect();
    for wire in &mut held {
        wire.send(get("k"));
        wire.answer(false);
    }
    let mut third = Wire::connect(server.addr);
    third.send(get("gate"));
    std::thread::sleep(SHORT);
    assert_eq!(server.store.begun.available_permits(), 0, "a third connection was served");
    held.pop();
    begun(&server, 1);
    server.store.gate.add_permits(1);
    assert_eq!(third.answer(false).status(), 404);
}

/// Who lies still and has not been cut yet gives way to who waits, and who works does not.
#[test]
fn over_the_cap_who_lies_still_gives_way() {
    let limits = Limits { connections_max: 2, header_timeout: SHORT, idle_timeout: PATIENCE * 4, ..limits() };
    let server = Server::start(Manners::DECANT, limits);
    let mut working = Wire::connect(server.addr);
    working.send(get("gate"));
    begun(&server, 1);
    let mut still = Wire::connect(server.addr);
    still.send(get("k"));
    still.answer(false);
    assert_eq!(exchange(server.addr, get("k")).status(), 404, "who waited was not served");
    still.assert_closes();
    server.store.gate.add_permits(1);
    assert_eq!(working.answer(false).status(), 404);
}

#[test]
fn a_stop_lets_requests_finish_and_takes_no_more() {
    let server = Server::start(Manners::DECANT, limits());
    let mut idle = Wire::connect(server.addr);
    idle.send(get("k"));
    idle.answer(false);
    let mut working = Wire::connect(server.addr);
    working.send(request("POST", "/echoseen/v1/gate", b"value"));
    begun(&server, 1);
    server.stop.cancel();
    idle.assert_closes();
    while std::net::TcpStream::connect(server.addr).is_ok() {
        std::thread::yield_now();
    }
    assert!(!server.task.is_finished(), "did not wait for the request");
    server.store.gate.add_permits(1);
    assert_eq!(working.answer(false).status(), 201);
    working.assert_closes();
    let drained = server.runtime.block_on(server.task).unwrap();
    assert_eq!(drained.cut, 0);
}

#[test]
fn a_drain_has_an_end() {
    let server = Server::start(Manners::DECANT, Limits { drain_timeout: SHORT, ..limits() });
    let mut hangs = Wire::connect(server.addr);
    hangs.send(get("gate"));
    begun(&server, 1);
    server.stop.cancel();
    hangs.assert_closes();
    let drained = server.runtime.block_on(server.task).unwrap();
    assert_eq!(drained.cut, 1);
}

#[test]
fn a_write_runs_to_its_end_without_its_client() {
    let server = Server::start(Manners::DECANT, limits());
    let mut wire = Wire::connect(server.addr);
    wire.send(request("POST", "/echoseen/v1/gate", b"value"));
    begun(&server, 1);
    drop(wire);
    server.stop.cancel();
    server.store.gate.add_permits(1);
    server.runtime.block_on(server.task).unwrap();
    server.runtime.block_on(server.dialect.settled());
    assert_eq!(server.store.values.lock().unwrap()[b"gate".as_slice()], "value");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(Manners::DECANT, limits());
    let mut wire = Wire::connect(server.addr);
    let post = request("POST", "/echoseen/v1/k", b"one");
    wire.send([post, get("k").into_bytes(), get("missing").into_bytes()].concat());
    let statuses: Vec<u16> = (0..3).map(|_| wire.answer(false).status()).collect();
    assert_eq!(statuses, [201, 200, 404]);
}

#[test]
fn bodies_share_their_room() {
    let one = 1024 * 1024;
    // Room for one large body; the first bytes of each are free.
    let server = Server::start(Manners::DECANT, Limits { body_bytes_max: one, held_bytes_max: one, ..limits() });
    let mut first = Wire::connect(server.addr);
    first.send(request("POST", "/echoseen/v1/gate", &vec![b'x'; one]));
    begun(&server, 1);
    let second = exchange(server.addr, request("POST", "/echoseen/v1/k", &vec![b'y'; one]));
    assert_eq!((second.status(), second.header("retry-after")), (503, Some("1")));
    assert_eq!(exchange(server.addr, request("POST", "/echoseen/v1/k", b"small")).status(), 201);
    server.store.gate.add_permits(1);
    assert_eq!(first.answer(false).status(), 201);
    assert_eq!(exchange(server.addr, request("POST", "/echoseen/v1/k", &vec![b'y'; one])).status(), 201);
}

/// Each byte that goes out is a sign of life, but not for ever: a large answer takes room that others need.
#[test]
fn who_takes_an_answer_drop_by_drop_is_cut() {
    let short = Limits { idle_timeout: SHORT * 10, header_timeout: SHORT, answer_timeout: SHORT, ..limits() };
    let server = Server::start(Manners::DECANT, short);
    // More than the kernel takes on the way, and twenty seconds' worth at this pace, which never lets it wait for as long as the idle time.
    let whole = 64 * 1024 * 1024;
    server.store.values.lock().unwrap().insert(b"large".to_vec(), vec![b'x'; whole].into());
    let mut slow = TcpStream::connect(server.addr).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.write_all(get("large").as_bytes()).unwrap();
    let began = Instant::now();
    let (mut drop, mut taken) = (vec![0; 64 * 1024], 0);
    let ended = loop {
        match slow.read(&mut drop) {
            Ok(0) => break Ok(()),
            Ok(read) => taken += read,
            Err(fault) => break Err(fault.kind()),
        }
        assert!(began.elapsed() < PATIENCE, "it is still being served");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(taken < whole && matches!(ended, Ok(()) | Err(ErrorKind::ConnectionReset)), "{taken} bytes, {ended:?}");
}

#[test]
fn a_client_that_closes_its_half_is_still_answered() {
    let server = Server::start(Manners::DECANT, limits());
    let mut wire = Wire::connect(server.addr);
    wire.send(get("gate"));
    wire.close_half();
    begun(&server, 1);
    std::thread::sleep(SHORT);
    server.store.gate.add_permits(1);
    assert_eq!(wire.answer(false).status(), 404);
    wire.assert_closes();
}
