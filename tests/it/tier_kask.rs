//! The Kask client against a server that lies, breaks off and says nothing.

use crate::liar::{Act, Liar};
use bytes::Bytes;
use decant::codec::key::Key;
use decant::tier::Forward;
use decant::tier::kask::{KINDS, KaskLimits, KaskRead, KaskTier, KaskWrite};
use http::HeaderValue;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

const TIMEOUT: Duration = Duration::from_millis(500);
const BODY_BYTES_MAX: usize = 8192;
const SECRET: &str = "sessionid0123";

fn tier(url: &str) -> KaskTier {
    let limits = KaskLimits { body_bytes_max: BODY_BYTES_MAX, connections_max: 4, ..KaskLimits::default() };
    KaskTier::with_limits(url, TIMEOUT, "test", limits).unwrap()
}

fn key() -> Key {
    Key::from_bytes(SECRET.as_bytes().to_vec())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn problem(status: &str, kind: &str) -> Vec<u8> {
    let body = format!(
        "{{\n  \"type\": \"https://www.mediawiki.org/wiki/Kask/errors/{kind}\",\n  \"title\": \"T\",\n  \"instance\": \"/kv/v1/{SECRET}\"\n}}\n"
    );
    answer(status, "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n", &body)
}

fn good() -> Act {
    Act::Say(answer("200 OK", "Content-Type: application/octet-stream\r\n", "JSON..42"))
}

fn of_read(read: &KaskRead) -> String {
    match read {
        KaskRead::Hit(body) => format!("hit {}", String::from_utf8_lossy(body)),
        KaskRead::Miss => "miss".into(),
        KaskRead::Error(error) => checked("error", error.kind, &error.detail),
    }
}

fn of_write(write: &KaskWrite) -> String {
    match write {
        KaskWrite::Done => "done".into(),
        KaskWrite::Refused(error) => checked("refused", error.kind, &error.detail),
        KaskWrite::NotSent(error) => checked("not sent", error.kind, &error.detail),
        KaskWrite::Unknown(error) => checked("unknown", error.kind, &error.detail),
    }
}

/// Every error a test sees has a known label, and says nothing about the key.
fn checked(outcome: &str, kind: &str, detail: &str) -> String {
    assert!(KINDS.contains(&kind), "{kind} has no counter");
    assert!(!detail.is_empty() && !detail.contains(SECRET), "{detail}");
    format!("{outcome} {kind}")
}

/// The first request meets `act`, all others a good answer. Checks what a GET, a POST and a DELETE make of it, that none was sent twice, and
/// that the pool still works afterwards.
async fn row(name: &str, act: Act, get: &str, post: &str, delete: &str) {
    let begun = Instant::now();
    for (op, expected) in [("get", get), ("post", post), ("delete", delete)] {
        let act = act.clone();
        let liar = Liar::start(move |number| if number == 0 { act.clone() } else { good() }).await;
        let tier = tier(&liar.url());
        let (key, ctx) = (key(), Forward::default());
        let got = match op {
            "get" => of_read(&tier.get(&key, soon(), &ctx).await),
            "post" => of_write(&tier.put(&key, Bytes::from_static(b"JSON..1"), soon(), &ctx).await),
            _ => of_write(&tier.delete(&key, soon(), &ctx).await),
        };
        assert_eq!(got, expected, "{name}: {op}");
        assert_eq!(liar.seen().len(), 1, "{name}: {op} was sent more than once");
        assert_eq!(of_read(&tier.get(&key, soon(), &ctx).await), "hit JSON..42", "{name}: after the {op}");
    }
    assert!(begun.elapsed() < 3 * (TIMEOUT + Duration::from_secs(2)), "{name} took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kask_says() {
    let say = |bytes| Act::Say(bytes);
    row("200", good(), "hit JSON..42", "done", "done").await;
    row("200 empty", say(answer("200 OK", "", "")), "error empty_body", "done", "done").await;
    let created = "unknown unexpected_status";
    row("201", say(answer("201 Created", "", "")), "error unexpected_status", "done", created).await;
    row("204", say(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()), "error unexpected_status", "done", "done").await;
    row("404", say(problem("404 Not Found", "not_found")), "miss", "refused status_4xx", "done").await;
    let refused = "refused status_4xx";
    row("400", say(problem("400 Bad Request", "bad_request")), "error status_4xx", refused, refused).await;
    let failed = "unknown status_5xx";
    row("500", say(problem("500 Internal Server Error", "server_error")), "error status_5xx", failed, failed).await;
    row("503", say(answer("503 Service Unavailable", "", "no healthy upstream")), "error status_5xx", failed, failed)
        .await;
    let cut = b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nx".to_vec();
    row("500, half", Act::SayAndClose(cut), "error status_5xx", failed, failed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_kask() {
    let (get, write) = ("error not_kask", "unknown not_kask");
    let say = |status, headers, body| Act::Say(answer(status, headers, body));
    let plain = "Content-Type: text/plain; charset=utf-8\r\n";
    row("wrong base", say("404 Not Found", plain, "404 page not found\n"), get, write, write).await;
    let json = "Content-Type: application/json\r\n";
    row("another API", say("404 Not Found", json, r#"{"type":"about:blank"}"#), get, write, write).await;
    row("no type", say("404 Not Found", json, r#"{"error":"not_found"}"#), get, write, write).await;
    row("a web page", say("200 OK", "Content-Type: text/html\r\n", "<html>log in"), get, write, write).await;
    row("a rate limit", say("429 Too Many Requests", "", ""), get, write, write).await;
    row("no patience", Act::Say(problem("408 Request Timeout", "x")), get, write, write).await;
    let too_large = "refused status_4xx";
    row("a size limit", say("413 Too Large", "", "<html>"), "error status_4xx", too_large, too_large).await;
    // Another problem of Kask's under 404 is a refusal, but no miss.
    let refused = "refused status_4xx";
    row("404, other", Act::Say(problem("404 Not Found", "gone")), "error status_4xx", refused, refused).await;
    let (get, write) = ("error redirect", "unknown redirect");
    row("redirect", say("301 Moved Permanently", "Location: /kv/v1/other\r\n", ""), get, write, write).await;
    row("307", say("307 Temporary Redirect", "Location: /kv/v1/other\r\n", "x"), get, write, write).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_answers() {
    let close = |text: &str| Act::SayAndClose(text.as_bytes().to_vec());
    let (get, write) = ("error closed", "unknown closed");
    row("closed at once", close(""), get, write, write).await;
    row("half a head", close("HTTP/1.1 200 OK\r\nContent-Le"), get, write, write).await;
    let (get, write) = ("error garbage", "unknown garbage");
    row("no HTTP", close("SSH-2.0-OpenSSH_9.2p1\r\n\r\n"), get, write, write).await;
    row("HTTP/2", close("HTTP/2 200\r\n\r\n"), get, write, write).await;
    row("two lengths", close("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), get, write, write)
        .await;
    row("bad chunk", close("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab"), get, write, write).await;
    let (get, write) = ("error half_body", "unknown half_body");
    row("half a body", close("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nJSON"), get, write, write).await;
    row("half a chunk", close("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nJSON"), get, write, write)
        .await;
    row(
        "no last chunk",
        close("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nJSON\r\n"),
        get,
        write,
        write,
    )
    .await;
    row("no end to check", close("HTTP/1.1 200 OK\r\n\r\nJSON..42"), get, write, write).await;
    row("half a problem", close("HTTP/1.1 404 No\r\nContent-Length: 99\r\n\r\n{"), get, write, write).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_and_too_slow() {
    let (get, write) = ("error too_large", "unknown too_large");
    let flood = |head: &str| {
        Act::Flood(head.as_bytes().to_vec(), b"400\r\n".iter().chain(&[b'x'; 1024]).chain(b"\r\n").copied().collect())
    };
    row("a huge length", flood("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), get, write, write).await;
    row("endless chunks", flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), get, write, write).await;
    row("an endless problem", flood("HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n"), get, write, write).await;
    let head = Act::Flood(b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 1024]);
    row("an endless head", head, get, write, write).await;
    let long = format!("X: {}\r\n", "x".repeat(200_000));
    row("a long head", Act::SayAndClose(answer("200 OK", &long, "JSON..42")), get, write, write).await;
    let (get, write) = ("error timeout", "unknown timeout");
    row("silence", Act::Silence, get, write, write).await;
    let drip = |bytes| Act::Drip(bytes, Duration::from_millis(20));
    row("a slow head", drip(answer("200 OK", "Content-Type: application/octet-stream\r\n", "x")), get, write, write)
        .await;
    let mut body = answer("200 OK", "", &"x".repeat(1000));
    let rest = body.split_off(30);
    let act = Act::Drip([body, rest].concat(), Duration::from_millis(5));
    row("a slow body", act, get, write, write).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_value_comes_whole() {
    let body = "v".repeat(BODY_BYTES_MAX);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n{}\r\n1800\r\n{}\r\n0\r\n\r\n",
        &body[..2048],
        &body[2048..]
    );
    let liar = Liar::start(move |_| Act::Say(chunked.clone().into_bytes())).await;
    assert_eq!(tier(&liar.url()).get(&key(), soon(), &Forward::default()).await, KaskRead::Hit(body.into()));
}

/// What follows an answer's end must not become the answer of the next request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_second_answer_is_not_taken() {
    let forged = [answer("200 OK", "", "mine"), answer("200 OK", "", "forged")].concat();
    let liar = Liar::start(move |number| if number == 0 { Act::Say(forged.clone()) } else { good() }).await;
    let (tier, key, ctx) = (tier(&liar.url()), key(), Forward::default());
    assert_eq!(of_read(&tier.get(&key, soon(), &ctx).await), "hit mine");
    assert_eq!(of_read(&tier.get(&key, soon(), &ctx).await), "hit JSON..42");
    assert_eq!(liar.seen()[1].connection, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_on_the_wire() {
    let liar = Liar::start(|_| Act::Say(answer("200 OK", "", "x"))).await;
    let tier = tier(&liar.url());
    let key = Key::from_bytes(&b"enwiki:a%3Ab:e f/\xc3\xa9+~-_."[..]);
    let ctx = Forward {
        request_id: "id-1".into(),
        traceparent: Some(HeaderValue::from_static("00-aa-bb-01")),
        tracestate: Some(HeaderValue::from_static("v=1")),
    };
    assert_eq!(of_write(&tier.put(&key, Bytes::from_static(b"JSON..1"), soon(), &ctx).await), "done");
    let odd = Forward { request_id: "a\nb".into(), traceparent: None, ..ctx.clone() };
    assert_eq!(of_write(&tier.delete(&key, soon(), &odd).await), "done");
    assert_eq!(of_read(&tier.get(&key, soon(), &Forward::default()).await), "hit x");

    let seen = liar.seen();
    let path = "/kv/v1/enwiki%3Aa%253Ab%3Ae%20f%2F%C3%A9%2B~-_.";
    for (request, method) in seen.iter().zip(["POST", "DELETE", "GET"]) {
        assert!(request.head.starts_with(&format!("{method} {path} HTTP/1.1\r\n")), "{}", request.head);
        assert_eq!(request.header("host"), Some(liar.address.to_string().as_str()));
    }
    assert_eq!(seen[0].header("content-type"), Some("application/octet-stream"));
    assert_eq!((seen[0].header("content-length"), seen[0].body.as_slice()), (Some("7"), &b"JSON..1"[..]));
    let traced = |i: usize| ["x-request-id", "traceparent", "tracestate"].map(|name| seen[i].header(name));
    assert_eq!(traced(0), [Some("id-1"), Some("00-aa-bb-01"), Some("v=1")]);
    assert_eq!(traced(1), [None; 3]);
    // A connection is given back a moment after the answer: on a busy machine the next request may have opened another by then.
    for _ in 0..100 {
        assert_eq!(of_read(&tier.get(&key, soon(), &ctx).await), "hit x");
    }
    let seen = liar.seen();
    assert!(seen.windows(2).any(|pair| pair[0].connection == pair[1].connection), "one after the other they share one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn surely_not_sent() {
    let (key, ctx, body) = (key(), Forward::default(), Bytes::from_static(b"x"));
    // Nobody listens.
    let free = TcpSocket::new_v4().unwrap();
    free.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let tier_of = |address| tier(&format!("http://{address}/kv/v1/"));
    let nobody = tier_of(free.local_addr().unwrap());
    assert_eq!(of_write(&nobody.put(&key, body.clone(), soon(), &ctx).await), "not sent connect");
    assert_eq!(of_write(&nobody.delete(&key, soon(), &ctx).await), "not sent connect");
    assert_eq!(of_read(&nobody.get(&key, soon(), &ctx).await), "error connect");

    // The deadline has passed.
    let liar = Liar::start(|_| good()).await;
    let late = tier(&liar.url());
    assert_eq!(of_write(&late.put(&key, body.clone(), Instant::now(), &ctx).await), "not sent deadline");
    // A URL has no place for it.
    let long = Key::from_bytes(vec![b':'; 65_000]);
    assert_eq!(of_write(&late.put(&long, body.clone(), soon(), &ctx).await), "refused key_too_long");
    assert_eq!(of_read(&late.get(&long, soon(), &ctx).await), "error key_too_long");
    assert!(liar.seen().is_empty());
}

/// A peer that does not even answer the dial is known before the deadline as surely not asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_without_an_answer_was_surely_not_sent() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Fill the backlog until the kernel lets dials hang.
    let mut full = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        full.push(stream.unwrap());
        assert!(full.len() < 100, "the backlog never fills");
    }
    let begun = Instant::now();
    let tier = tier(&format!("http://{address}/"));
    assert_eq!(of_write(&tier.delete(&key(), soon(), &Forward::default()).await), "not sent connect");
    assert!(begun.elapsed() < 4 * TIMEOUT, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_is_bounded_and_recovers() {
    let liar = Liar::start(|number| if number < 1 { Act::Silence } else { good() }).await;
    let limits = KaskLimits { connections_max: 1, ..KaskLimits::default() };
    let tier = KaskTier::with_limits(&liar.url(), TIMEOUT, "test", limits).unwrap();
    let (key, ctx) = (key(), Forward::default());
    let short = Instant::now() + TIMEOUT / 4;
    // join! polls in order: the first has the only place when the others come.
    let (held, second, third) = tokio::join!(
        tier.get(&key, soon(), &ctx),
        tier.put(&key, Bytes::from_static(b"x"), short, &ctx),
        tier.get(&key, short, &ctx),
    );
    assert_eq!(of_read(&held), "error timeout");
    assert_eq!(of_write(&second), "not sent pool_full");
    assert_eq!(of_read(&third), "error pool_full");
    assert_eq!(of_read(&tier.get(&key, soon(), &ctx).await), "hit JSON..42");
    assert_eq!(liar.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooled_connection_closed_while_idle_costs_nothing() {
    let Act::Say(bytes) = good() else { unreachable!() };
    let mut liar = Liar::start(move |_| Act::SayAndClose(bytes.clone())).await;
    let (tier, key, ctx) = (tier(&liar.url()), key(), Forward::default());
    for round in 0..20 {
        assert_eq!(of_read(&tier.get(&key, soon(), &ctx).await), "hit JSON..42");
        // The client hangs up too once it has noticed: from then on the pool must not offer that connection.
        assert_eq!(timeout(Duration::from_secs(5), liar.hung_up.recv()).await, Ok(Some(round)));
    }
    assert_eq!(liar.seen().len(), 20);
}

/// Kask closes each connection right after its answer: whatever a request then meets, nothing is ever sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_ever_sent_twice() {
    let Act::Say(bytes) = good() else { unreachable!() };
    let liar = Liar::start(move |number| match number % 3 {
        0 => Act::SayAndClose(bytes.clone()),
        1 => Act::Say(bytes.clone()),
        _ => Act::SayAndClose(Vec::new()),
    })
    .await;
    let (tier, key) = (std::sync::Arc::new(tier(&liar.url())), key());
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let (tier, key) = (tier.clone(), key.clone());
        tasks.spawn(async move {
            let mut not_sent = Vec::new();
            for i in 0..100 {
                let ctx = Forward { request_id: format!("{worker}-{i}"), ..Forward::default() };
                let write = tier.put(&key, Bytes::from_static(b"x"), soon(), &ctx).await;
                match of_write(&write).as_str() {
                    "done" | "unknown closed" => {}
                    other if other.starts_with("not sent") => not_sent.push(ctx.request_id),
                    other => panic!("{other}"),
                }
            }
            not_sent
        });
    }
    let not_sent = tasks.join_all().await.concat();
    let mut times: HashMap<String, u32> = HashMap::new();
    for request in liar.seen() {
        *times.entry(request.header("x-request-id").unwrap().to_owned()).or_default() += 1;
    }
    assert!(times.values().all(|&n| n == 1), "{times:?}");
    assert!(not_sent.iter().all(|id| !times.contains_key(id)), "{not_sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_is_counted_once() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let liar = Liar::start(|n| if n == 0 { good() } else { Act::Say(problem("404 Not Found", "not_found")) }).await;
    let tier = metrics::with_local_recorder(&recorder, || tier(&liar.url()));
    let (key, ctx) = (key(), Forward::default());
    tier.get(&key, soon(), &ctx).await;
    tier.get(&key, soon(), &ctx).await;
    tier.put(&key, Bytes::from_static(b"x"), soon(), &ctx).await;
    tier.delete(&key, soon(), &ctx).await;
    let text = recorder.handle().render();
    let line = |op: &str, outcome: &str, n: u32| {
        format!("decant_tier_requests_total{{stash=\"test\",tier=\"kask\",op=\"{op}\",outcome=\"{outcome}\"}} {n}\n")
    };
    for line in [
        line("get", "hit", 1),
        line("get", "miss", 1),
        line("put", "status_4xx", 1),
        line("put", "done", 0),
        line("delete", "done", 1),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    let count = "decant_tier_request_duration_seconds_count{stash=\"test\",tier=\"kask\",op=\"get\"} 2\n";
    assert!(text.contains(count), "{text}");
    assert!(!text.contains(SECRET));
}

#[test]
fn a_url_that_cannot_be_kask_is_refused() {
    let fault = |url: &str| KaskTier::new(url, TIMEOUT, "test").map(|_| ()).unwrap_err().to_string();
    for (url, says) in [
        ("https://kask.example/v1/", "TLS proxy"),
        ("kask.example/v1/", "no URL"),
        ("ftp://kask.example/v1/", "begin with http://"),
        ("http://u:p@kask.example/v1/", "no user"),
        ("http://kask.example/v1/?x=1", "no query"),
        ("http://kask.example/v1/#f", "no fragment"),
        ("http://kask.example/v1", "end with a slash"),
    ] {
        assert!(fault(url).contains(says), "{url}: {}", fault(url));
    }
    assert!(KaskTier::new("http://[::1]:8081/echoseen/v1/", TIMEOUT, "test").is_ok());
}

/// Kask closes an idle connection, and the client finds out only when a request lies already in the connection's queue: not a byte of it was written,
/// so it may go out on a new connection. One thread, which looks at its sockets between any two polls, makes that order certain.
#[test]
fn a_request_that_was_never_written_goes_out_on_another_connection() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (close, closing) = std::sync::mpsc::channel();
    let (on_closed, closed) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let answer_one = || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(&answer("201 Created", "", "")).unwrap();
            stream
        };
        let idle = answer_one();
        closing.recv().unwrap();
        drop(idle);
        on_closed.send(()).unwrap();
        answer_one()
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(1).build().unwrap();
    runtime.block_on(async {
        let (tier, key, ctx) = (tier(&url), key(), Forward::default());
        assert_eq!(of_write(&tier.put(&key, Bytes::from_static(b""), soon(), &ctx).await), "done");
        tokio::task::yield_now().await; // the connection goes back into the pool
        close.send(()).unwrap();
        closed.recv().unwrap(); // blocks the only thread: nobody sees the end of the connection yet
        tokio::task::yield_now().await; // the end is noted, but this goes on before the connection's own task does
        assert_eq!(of_write(&tier.put(&key, Bytes::from_static(b""), soon(), &ctx).await), "done");
    });
    server.join().unwrap();
}
