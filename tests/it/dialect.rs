//! Kask's dialect over a raw socket, row by row, as decant speaks it and as Kask does.

use crate::support::{Raw, Wire, exchange};
use decant::{
    dialect::{About, Answer, AnswerFuture, Dialect, KeyValue, Manners, Mount, Operation, Pages, Verb},
    http::{Drained, Limits, Room, serve},
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// A store in memory whose keys `panic`, `fail`, `away` and `bad` do what they say; `gate` waits for the test.
pub struct Memory {
    pub values: Mutex<HashMap<Vec<u8>, bytes::Bytes>>,
    pub seen: Mutex<Vec<Operation>>,
    /// One permit for each operation on `gate` that was begun.
    pub begun: Semaphore,
    /// Each operation on `gate` takes one permit to go on.
    pub gate: Semaphore,
}

impl Memory {
    pub fn new() -> Memory {
        let closed = || Semaphore::new(0);
        Memory { values: Mutex::default(), seen: Mutex::default(), begun: closed(), gate: closed() }
    }
}

/// With a copy of the body, and the body itself, which takes room as long as it is kept.
fn unheld(mut op: Operation) -> (Operation, Option<bytes::Bytes>) {
    let Verb::Set { body, .. } = &mut op.verb else { return (op, None) };
    let held = std::mem::replace(body, bytes::Bytes::copy_from_slice(body));
    (op, Some(held))
}

impl KeyValue for Memory {
    fn call(&self, op: Operation) -> AnswerFuture<'_> {
        Box::pin(async move {
            let (op, _held_meanwhile) = unheld(op);
            self.seen.lock().unwrap().push(op.clone());
            let key = op.key.as_bytes().to_vec();
            match key.as_slice() {
                b"panic" => panic!("as the test asked"),
                b"fail" => return Answer::Failed { detail: "secret.example:9042 is down".to_owned() },
                b"away" => return Answer::Unavailable { detail: "Redis <a> is away".to_owned(), retry_after_s: 3 },
                b"bad" => return Answer::BadRequest { detail: "not so".to_owned() },
                _ => {}
            }
            if key == b"gate" {
                self.begun.add_permits(1);
                self.gate.acquire().await.unwrap().forget();
            }
            let mut values = self.values.lock().unwrap();
            match op.verb {
                Verb::Get { .. } => match values.get(&key) {
                    Some(body) => Answer::Hit { body: body.clone(), tier: Some("kask") },
                    None => Answer::Missing,
                },
                Verb::Set { only_if_absent: true, .. } if values.contains_key(&key) => Answer::Exists,
                Verb::Set { body, .. } => {
                    values.insert(key, body);
                    Answer::Stored
                }
                Verb::Delete => {
                    values.remove(&key);
                    Answer::Deleted
                }
            }
        })
    }
}

fn room(limits: &Limits) -> Room {
    Room::new(limits.held_bytes_max, limits.body_bytes_max)
}

/// A dialect over [`Memory`], mounted at `/echoseen/v1/` and `/other/`.
pub struct Server {
    pub addr: SocketAddr,
    pub store: Arc<Memory>,
    pub stop: CancellationToken,
    pub dialect: Dialect,
    pub task: JoinHandle<Drained>,
    pub runtime: Runtime,
}

impl Server {
    pub fn start(manners: Manners, limits: Limits) -> Server {
        let store = Arc::new(Memory::new());
        let mount = |base: &str| Mount { base_uri: base.parse().unwrap(), store: store.clone() };
        let about = About { version: "1".into(), build_date: "2".into(), build_host: "3".into(), rustc: "4".into() };
        let pages = Pages { about, metrics: Arc::new(|| "up 1\n".to_owned()) };
        let mounts = vec![mount("/echoseen/v1/"), mount("/other/")];
        let dialect = Dialect::new(mounts, manners, pages, None, limits.clone(), room(&limits)).unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = runtime.spawn(serve(listener, dialect.clone(), limits, stop.clone()));
        Server { addr, store, stop, dialect, task, runtime }
    }

    fn both() -> [(Manners, Server); 2] {
        [Manners::DECANT, Manners::KASK].map(|manners| (manners, Server::start(manners, Limits::default())))
    }
}

fn problem(kind: &str, instance: &str) -> String {
    let (title, detail) = match kind {
        "bad_request" => ("Bad request", "The request was incorrect or malformed"),
        "not_found" => ("Not found", "The value you requested was not found"),
        "server_error" => ("Internal server error", "The server encountered an error with your request"),
        _ => panic!("{kind}"),
    };
    problem_saying(kind, title, detail, instance)
}

fn problem_saying(kind: &str, title: &str, detail: &str, instance: &str) -> String {
    format!(
        "{{\n  \"type\": \"https://www.mediawiki.org/wiki/Kask/errors/{kind}\",\n  \"title\": \"{title}\",\n  \
         \"detail\": \"{detail}\",\n  \"instance\": \"{instance}\"\n}}\n"
    )
}

/// The whole expected answer; decant's manners add the request's id.
fn want(manners: Manners, status: &str, headers: &[&str], body: impl AsRef<[u8]>) -> Raw {
    let mut headers: Vec<String> = headers.iter().map(|h| (*h).to_owned()).collect();
    if manners.request_id {
        headers.push("X-Request-Id: t-1".to_owned());
    }
    headers.sort();
    Raw { status_line: format!("HTTP/1.1 {status}"), headers, body: body.as_ref().to_vec() }
}

fn want_problem(manners: Manners, status: &str, extra: &[&str], body: &str) -> Raw {
    let length = format!("Content-Length: {}", body.len());
    let common = ["Content-Type: application/json", "X-Content-Type-Options: nosniff", &length];
    want(manners, status, &[&common, extra].concat(), body)
}

fn send(server: &Server, line: &str, rest: &str) -> Raw {
    exchange(server.addr, format!("{line} HTTP/1.1\r\nHost: h\r\nX-Request-Id: t-1\r\n{rest}"))
}

const EMPTY: &str = "\r\n";

#[test]
fn set_get_delete() {
    for (m, server) in &Server::both() {
        let stored = want(*m, "201 Created", &["Content-Length: 0"], "");
        let tier = "Decant-Tier: kask";
        let octets = "Content-Type: application/octet-stream";
        let k = "/echoseen/v1/enwiki%3Aecho";
        assert_eq!(send(server, &format!("POST {k}"), "Content-Length: 5\r\n\r\nhello"), stored);
        let hit = want(*m, "200 OK", &[octets, "Content-Length: 5", tier], "hello");
        assert_eq!(send(server, &format!("GET {k}"), EMPTY), hit);
        assert_eq!(send(server, &format!("GET {k}?"), EMPTY), hit, "a bare ? is no query");
        assert_eq!(send(server, "GET /echoseen%2Fv1/enwiki:echo", EMPTY), hit, "a path is compared decoded");
        assert_eq!(send(server, "GET http://h/echoseen/v1/enwiki:echo", EMPTY), hit, "the absolute form");
        // Go's buffer: up to 2048 bytes a length, above it chunks.
        for (length, framing) in [(2048, "Content-Length: 2048"), (2049, "Transfer-Encoding: chunked")] {
            let value = "v".repeat(length);
            let post = format!("Content-Length: {length}\r\n\r\n{value}");
            assert_eq!(send(server, "POST /echoseen/v1/big", &post), stored);
            let hit = want(*m, "200 OK", &[octets, framing, tier], &value);
            assert_eq!(send(server, "GET /echoseen/v1/big", EMPTY), hit);
        }
        let gone = want(*m, "204 No Content", &[], "");
        assert_eq!(send(server, &format!("DELETE {k}"), EMPTY), gone);
        assert_eq!(send(server, &format!("DELETE {k}"), "Content-Length: 0\r\n\r\n"), gone, "nothing there is fine");
        let missing = problem("not_found", "/echoseen/v1/enwiki:echo");
        assert_eq!(send(server, &format!("GET {k}"), EMPTY), want_problem(*m, "404 Not Found", &[], &missing));
    }
}

#[test]
fn bodies_come_in_every_framing() {
    for (m, server) in &Server::both() {
        let stored = want(*m, "201 Created", &["Content-Length: 0"], "");
        let chunks = "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
        assert_eq!(send(server, "POST /echoseen/v1/k", chunks), stored);
        assert_eq!(send(server, "GET /echoseen/v1/k", EMPTY).body, b"abcde");
        // Expect: the body is sent only after the server asked for it.
        let mut wire = Wire::connect(server.addr);
        wire.send("POST /echoseen/v1/k HTTP/1.1\r\nHost: h\r\nX-Request-Id: t-1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
        assert_eq!(wire.answer(false).status_line, "HTTP/1.1 100 Continue");
        wire.send("xyz");
        assert_eq!(wire.answer(false), stored);
        // The connection goes on.
        wire.send("GET /echoseen/v1/k HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(wire.answer(false).body, b"xyz");
        let bad = want_problem(*m, "400 Bad Request", &[], &problem("bad_request", "/echoseen/v1/k"));
        for nothing in [EMPTY, "Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
            assert_eq!(send(server, "POST /echoseen/v1/k", nothing), bad, "{nothing:?}");
        }
    }
}

#[test]
fn http_1_0_needs_no_host_and_is_closed() {
    for (m, server) in &Server::both() {
        exchange(server.addr, "POST /echoseen/v1/k HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi");
        let mut wire = Wire::connect(server.addr);
        wire.send("GET /echoseen/v1/k HTTP/1.0\r\nX-Request-Id: t-1\r\n\r\n");
        let mut hit = want(
            *m,
            "200 OK",
            &["Content-Type: application/octet-stream", "Content-Length: 2", "Decant-Tier: kask"],
            "hi",
        );
        hit.status_line = "HTTP/1.0 200 OK".to_owned();
        assert_eq!(wire.answer(false), hit);
        wire.assert_closes();
    }
}

/// Each line is a request under the base URI that no store is asked about: request, status, problem, instance.
#[test]
fn keys_and_methods_that_are_refused() {
    let rows = [
        ("GET /echoseen/v1/", "404 Not Found", "not_found", "/echoseen/v1/"),
        ("POST /echoseen/v1/", "404 Not Found", "not_found", "/echoseen/v1/"),
        ("GET /echoseen/v1/a/b", "404 Not Found", "not_found", "/echoseen/v1/a/b"),
        ("GET /echoseen/v1/a%2Fb", "404 Not Found", "not_found", "/echoseen/v1/a/b"),
        ("DELETE /echoseen/v1/a%2fb", "404 Not Found", "not_found", "/echoseen/v1/a/b"),
        ("POST /echoseen/v1/a%2Fb", "404 Not Found", "not_found", "/echoseen/v1/a/b"),
        ("PATCH /echoseen/v1/a/b", "404 Not Found", "not_found", "/echoseen/v1/a/b"),
        // Kask redirects these; a redirect is followed to another key.
        ("GET /echoseen/v1/a%2F%2Fb", "404 Not Found", "not_found", "/echoseen/v1/a//b"),
        ("GET /echoseen/v1/.", "404 Not Found", "not_found", "/echoseen/v1/."),
        ("GET /echoseen/v1/..", "404 Not Found", "not_found", "/echoseen/v1/.."),
        ("DELETE /echoseen/v1/%2E%2e", "404 Not Found", "not_found", "/echoseen/v1/.."),
        ("GET /echoseen/v1/foo/echoseen/v1/bar", "404 Not Found", "not_found", "/echoseen/v1/foo/echoseen/v1/bar"),
        ("GET /echoseen/v1/k?x=1", "400 Bad Request", "bad_request", "/echoseen/v1/k"),
        ("GET /echoseen/v1/%FFx", "400 Bad Request", "bad_request", "/echoseen/v1/\\ufffdx"),
        ("GET /echoseen/v1/%3Ca%3E%26?x", "400 Bad Request", "bad_request", "/echoseen/v1/\\u003ca\\u003e\\u0026"),
        ("PATCH /echoseen/v1/k", "400 Bad Request", "bad_request", "/echoseen/v1/k"),
        ("OPTIONS /echoseen/v1/k", "400 Bad Request", "bad_request", "/echoseen/v1/k"),
        ("TRACE /echoseen/v1/k", "400 Bad Request", "bad_request", "/echoseen/v1/k"),
        ("FROB /echoseen/v1/k", "400 Bad Request", "bad_request", "/echoseen/v1/k"),
    ];
    for (m, server) in &Server::both() {
        for (line, status, kind, instance) in rows {
            let refused = want_problem(*m, status, &[], &problem(kind, instance));
            assert_eq!(send(server, line, EMPTY), refused, "{line}");
        }
        assert_eq!(server.store.seen.lock().unwrap().len(), 0, "a store was asked");
    }
}

#[test]
fn what_is_beside_the_base_is_gos() {
    for (m, server) in &Server::both() {
        let nosniff = "X-Content-Type-Options: nosniff";
        let text = "Content-Type: text/plain; charset=utf-8";
        let outside = want(*m, "404 Not Found", &[text, nosniff, "Content-Length: 19"], "404 page not found\n");
        for line in ["GET /", "POST /echoseen/", "GET /echoseen/v1x/k", "DELETE /nowhere?x=1", "OPTIONS *"] {
            assert_eq!(send(server, line, EMPTY), outside, "{line}");
        }
        let html = "Content-Type: text/html; charset=utf-8";
        let to = "Location: /echoseen/v1/";
        let page = "<a href=\"/echoseen/v1/\">Moved Permanently</a>.\n\n";
        let moved = want(*m, "301 Moved Permanently", &[html, to, "Content-Length: 48"], page);
        assert_eq!(send(server, "GET /echoseen/v1", EMPTY), moved);
        let moved = want(*m, "301 Moved Permanently", &[to, "Content-Length: 0"], "");
        assert_eq!(send(server, "POST /echoseen/v1", "Content-Length: 0\r\n\r\n"), moved);
        assert_eq!(send(server, "HEAD /echoseen/v1", EMPTY), want(*m, "301 Moved Permanently", &[html, to], ""));
        let moved = send(server, "GET /echoseen/v1?a=1&b", EMPTY);
        assert!(moved.text().contains("href=\"/echoseen/v1/?a=1&amp;b\""), "{}", moved.text());
        assert_eq!(moved.header("location"), Some("/echoseen/v1/?a=1&b"));
    }
}

#[test]
fn what_go_cannot_parse_closes_the_connection() {
    for (m, server) in &Server::both() {
        let text = "Content-Type: text/plain; charset=utf-8";
        let wanted = want(*m, "400 Bad Request", &[text, "Connection: close", "Content-Length: 15"], "400 Bad Request");
        for request in [
            "GET /echoseen/v1/k HTTP/1.1\r\nX-Request-Id: t-1\r\n\r\n",
            "GET /echoseen/v1/k HTTP/1.1\r\nHost: a\r\nHost: b\r\nX-Request-Id: t-1\r\n\r\n",
            "GET /echoseen/v1/a%zz HTTP/1.1\r\nHost: h\r\nX-Request-Id: t-1\r\n\r\n",
            "POST /echoseen/v1/a% HTTP/1.1\r\nHost: h\r\nX-Request-Id: t-1\r\n\r\n",
            "GET /nowhere/%4 HTTP/1.1\r\nHost: h\r\nX-Request-Id: t-1\r\n\r\n",
        ] {
            let mut wire = Wire::connect(server.addr);
            wire.send(request);
            assert_eq!(wire.answer(false), wanted, "{request:?}");
            wire.assert_closes();
        }
        // hyper itself refuses this one, without a body.
        let mut wire = Wire::connect(server.addr);
        wire.send("GET /echoseen/v1/a b HTTP/1.1\r\nHost: h\r\n\r\n");
        let refused = wire.answer(false);
        assert_eq!((refused.status(), refused.header("connection")), (400, Some("close")));
        wire.assert_closes();
    }
}

#[test]
fn a_key_is_decoded_exactly_once() {
    let server = Server::start(Manners::DECANT, Limits::default());
    send(&server, "POST /echoseen/v1/enwiki%3Aa%253Ab%3Ac%2525d%3Ae%20f+g%C3%A9", "Content-Length: 1\r\n\r\nx");
    let seen = server.store.seen.lock().unwrap().pop().unwrap();
    assert_eq!(seen.key.as_bytes(), "enwiki:a%3Ab:c%25d:e f+gé".as_bytes());
    assert_eq!(send(&server, "GET /echoseen/v1/enwiki%3Aa%3Ab%3Ac%25d%3Ae%20f+g%C3%A9", EMPTY).status(), 404);
}

#[test]
fn failures_of_the_store() {
    for (m, server) in &Server::both() {
        for method in ["GET", "DELETE"] {
            let failed = problem("server_error", "/echoseen/v1/fail");
            let failed = want_problem(*m, "500 Internal Server Error", &[], &failed);
            assert_eq!(send(server, &format!("{method} /echoseen/v1/fail"), EMPTY), failed);
        }
        let away =
            problem_saying("unavailable", "Service unavailable", "Redis \\u003ca\\u003e is away", "/echoseen/v1/away");
        let away = want_problem(*m, "503 Service Unavailable", &["Retry-After: 3"], &away);
        assert_eq!(send(server, "GET /echoseen/v1/away", EMPTY), away);
        let bad = problem_saying("bad_request", "Bad request", "not so", "/echoseen/v1/bad");
        assert_eq!(send(server, "GET /echoseen/v1/bad", EMPTY), want_problem(*m, "400 Bad Request", &[], &bad));
        // A panic is an answer, and the connection lives on.
        let mut wire = Wire::connect(server.addr);
        for _ in 0..2 {
            wire.send("GET /echoseen/v1/panic HTTP/1.1\r\nHost: h\r\nX-Request-Id: t-1\r\n\r\n");
            let failed = problem("server_error", "/echoseen/v1/panic");
            assert_eq!(wire.answer(false), want_problem(*m, "500 Internal Server Error", &[], &failed));
        }
    }
}

#[test]
fn put_head_and_conditions_are_decants_alone() {
    let [(decant, d), (kask, k)] = Server::both();
    let stored = want(decant, "201 Created", &["Content-Length: 0"], "");
    assert_eq!(send(&d, "PUT /echoseen/v1/k", "Content-Length: 3\r\n\r\nabc"), stored);
    let octets = "Content-Type: application/octet-stream";
    let head = want(decant, "200 OK", &[octets, "Content-Length: 3", "Decant-Tier: kask"], "");
    assert_eq!(send(&d, "HEAD /echoseen/v1/k", EMPTY), head);
    let long = "v".repeat(5000);
    send(&d, "PUT /echoseen/v1/long", &format!("Content-Length: 5000\r\n\r\n{long}"));
    assert_eq!(send(&d, "HEAD /echoseen/v1/long", EMPTY).header("content-length"), Some("5000"));
    let exists =
        problem_saying("precondition_failed", "Precondition failed", "The key has a value already", "/echoseen/v1/k");
    let exists = want_problem(decant, "412 Precondition Failed", &[], &exists);
    assert_eq!(send(&d, "POST /echoseen/v1/k", "If-None-Match: *\r\nContent-Length: 1\r\n\r\nz"), exists);
    send(&d, "GET /echoseen/v1/k", "Cache-Control: max-age=0, No-Cache\r\n\r\n");
    send(&d, "GET /echoseen/v1/k", "Cache-Control: max-age=0\r\n\r\n");
    let seen = d.store.seen.lock().unwrap();
    let verbs: Vec<&Verb> = seen.iter().rev().take(2).map(|op| &op.verb).collect();
    assert_eq!(verbs, [&Verb::Get { latest: false }, &Verb::Get { latest: true }]);

    let bad = want_problem(kask, "400 Bad Request", &[], &problem("bad_request", "/echoseen/v1/k"));
    assert_eq!(send(&k, "PUT /echoseen/v1/k", "Content-Length: 3\r\n\r\nabc"), bad);
    let head = Raw { body: Vec::new(), ..bad };
    assert_eq!(send(&k, "HEAD /echoseen/v1/k", EMPTY), head);
    for _ in 0..2 {
        let stored = send(&k, "POST /echoseen/v1/k", "If-None-Match: *\r\nContent-Length: 1\r\n\r\nz");
        assert_eq!(stored.status(), 201, "real Kask does not hear conditions");
    }
}

#[test]
fn decants_own_keys_are_reserved_at_decant_alone() {
    let [(decant, d), (_, k)] = Server::both();
    let detail = "Keys that begin with \\\"decant|\\\" are reserved for decant's own records";
    let bad = problem_saying("bad_request", "Bad request", detail, "/echoseen/v1/decant|x");
    let bad = want_problem(decant, "400 Bad Request", &[], &bad);
    assert_eq!(send(&d, "POST /echoseen/v1/decant%7Cx", "Content-Length: 1\r\n\r\nz"), bad);
    assert_eq!(send(&k, "POST /echoseen/v1/decant%7Cx", "Content-Length: 1\r\n\r\nz").status(), 201);
}

#[test]
fn limits_on_keys_headers_and_bodies() {
    let limits = Limits { body_bytes_max: 1000, key_bytes_max: 20, header_bytes_max: 8192, ..Limits::default() };
    for m in [Manners::DECANT, Manners::KASK] {
        let server = Server::start(m, limits.clone());
        let fits = format!("Content-Length: 1000\r\n\r\n{}", "b".repeat(1000));
        assert_eq!(send(&server, "POST /echoseen/v1/k", &fits).status(), 201);
        let refused = if m.says_too_large {
            let body = problem_saying(
                "payload_too_large",
                "Payload too large",
                "The request body is larger than this server accepts",
                "/echoseen/v1/k",
            );
            want_problem(m, "413 Payload Too Large", &["Connection: close"], &body)
        } else {
            let body = problem("server_error", "/echoseen/v1/k");
            want_problem(m, "500 Internal Server Error", &["Connection: close"], &body)
        };
        let declared = format!("Content-Length: 1001\r\n\r\n{}", "b".repeat(1001));
        let chunked = format!("Transfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n", "b".repeat(1001));
        let expected = "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n";
        for body in [declared.as_str(), chunked.as_str(), expected] {
            assert_eq!(send(&server, "POST /echoseen/v1/k", body), refused, "{m:?} {body:.50}");
        }
        let key = "k".repeat(21);
        let path = format!("/echoseen/v1/{key}");
        let bad = want_problem(m, "400 Bad Request", &[], &problem("bad_request", &path));
        assert_eq!(send(&server, &format!("GET {path}"), EMPTY), bad);
        assert_eq!(send(&server, &format!("GET {}", &path[..path.len() - 1]), EMPTY).status(), 404);
        let many = format!("X-Pad: {}\r\n\r\n", "p".repeat(9000));
        assert_eq!(send(&server, "GET /echoseen/v1/k", &many).status(), 431);
    }
}

#[test]
fn request_ids_are_kept_or_made() {
    let server = Server::start(Manners::DECANT, Limits::default());
    let made = exchange(server.addr, "GET /echoseen/v1/k HTTP/1.1\r\nHost: h\r\n\r\n");
    let made = made.header("x-request-id").unwrap().to_owned();
    assert_eq!(made.len(), 36, "{made}");
    assert_eq!(server.store.seen.lock().unwrap()[0].context.request_id, made);
    let traced = "X-Request-Id: a<b>c\r\ntraceparent: 00-1-2-01\r\ntracestate: x=y\r\n\r\n";
    exchange(server.addr, format!("GET /echoseen/v1/k HTTP/1.1\r\nHost: h\r\n{traced}"));
    let context = server.store.seen.lock().unwrap()[1].context.clone();
    assert_eq!(context.request_id, "abc");
    assert_eq!(
        (context.traceparent.unwrap(), context.tracestate.unwrap()),
        ("00-1-2-01".parse().unwrap(), "x=y".parse().unwrap())
    );
}

#[test]
fn the_pages() {
    for (m, server) in &Server::both() {
        let health = "{\"version\":\"1\",\"build_date\":\"2\",\"build_host\":\"3\",\"rustc\":\"4\"}";
        let length = format!("Content-Length: {}", health.len());
        let wanted = want(*m, "200 OK", &["Content-Type: application/json", &length], health);
        for method in ["GET", "POST", "DELETE"] {
            assert_eq!(send(server, &format!("{method} /healthz"), EMPTY), wanted);
        }
        let text = "Content-Type: text/plain; version=0.0.4; charset=utf-8";
        assert_eq!(send(server, "GET /metrics", EMPTY), want(*m, "200 OK", &[text, "Content-Length: 5"], "up 1\n"));
        let openapi = send(server, "GET /openapi", EMPTY);
        assert_eq!(openapi.header("content-type"), Some("application/x-yaml"));
        let yaml = openapi.text();
        for part in ["  \"/echoseen/v1/{key}\":", "  \"/other/{key}\":", "KASK:V:INTEGRATION_TEST_VALUE", "x-amples:"] {
            assert!(yaml.contains(part), "{part} in {yaml}");
        }
        assert!(!yaml.contains("{{"), "{yaml}");
    }
}

#[test]
fn two_stores_cannot_have_one_place() {
    let store = Arc::new(Memory::new());
    let mount = || Mount { base_uri: "/a/".parse().unwrap(), store: store.clone() };
    let pages = Pages { about: About::this_build(), metrics: Arc::new(String::new) };
    let fault = {
        let (limits, room) = (Limits::default(), room(&Limits::default()));
        Dialect::new(vec![mount(), mount()], Manners::KASK, pages, None, limits, room).err().unwrap()
    };
    assert_eq!(fault.to_string(), "two stores have the base URI /a/; give each its own");
}
