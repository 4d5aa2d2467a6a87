//! The embedded Kask: what it acknowledged is there, whatever became of it since.

use crate::support::{Decant, Wire, ask, request, run_decant, utf8};
use bytes::Bytes;
use decant::{
    codec::key::Key,
    kask_server::{Options, RedbStore, Store, spawn},
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;

const BASE: &str = "/echoseen/v1/";

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kask.redb");
    (dir, file)
}

fn args(file: &Path) -> [&str; 9] {
    ["kask", "--listen", "127.0.0.1:0", "--data", utf8(file), "--base-uri", "echoseen/v1", "--default-ttl", "0"]
}

fn post(addr: SocketAddr, key: &str, value: &[u8]) -> u16 {
    ask(addr, "POST", &format!("{BASE}{key}"), value).status()
}

/// The value, or `None` for a 404.
fn get(addr: SocketAddr, key: &str) -> Option<Vec<u8>> {
    let answer = ask(addr, "GET", &format!("{BASE}{key}"), b"");
    match answer.status() {
        200 => Some(answer.body),
        404 => None,
        other => panic!("{other}: {}", answer.text()),
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    const ROUNDS: u64 = 8;
    const WRITERS: u64 = 4;
    let (_dir, file) = place();
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    for round in 0..ROUNDS {
        let decant = Decant::start(args(&file));
        for (key, value) in &acknowledged {
            let found = get(decant.addr, key).unwrap_or_else(|| panic!("round {round}: {key} is gone"));
            let found: u64 = String::from_utf8(found).unwrap().parse().unwrap();
            // The write after the last acknowledged one may have been applied too.
            assert!(found == *value || found == value + 1, "round {round}: {key} = {found}, acknowledged {value}");
        }
        let (tell, told) = std::sync::mpsc::channel();
        let addr = decant.addr;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let tell = tell.clone();
                std::thread::spawn(move || write_until_cut(addr, writer, round * 1_000_000, &tell))
            })
            .collect();
        let mut count = 0;
        // Kill it right behind an acknowledgement, with the other writers in the midst of theirs.
        while count < 40 + round {
            let (key, value) = told.recv().unwrap();
            acknowledged.insert(key, value);
            count += 1;
        }
        decant.kill_9();
        for writer in writers {
            writer.join().unwrap();
        }
        drop(tell);
        acknowledged.extend(told.iter());
    }
    assert_eq!(acknowledged.len() as u64, WRITERS);
}

/// Writes rising numbers under one key, telling each that was answered 201, until the connection breaks.
fn write_until_cut(addr: SocketAddr, writer: u64, first: u64, tell: &std::sync::mpsc::Sender<(String, u64)>) {
    let key = format!("enwiki%3Aw{writer}");
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    for value in first.. {
        let sent = std::io::Write::write_all(
            &mut stream,
            &request("POST", &format!("{BASE}{key}"), value.to_string().as_bytes()),
        );
        // An answer is a few dozen bytes, sent at once.
        let mut answer = [0; 512];
        let got = std::io::Read::read(&mut stream, &mut answer).unwrap_or(0);
        if sent.is_err() || !answer[..got].starts_with(b"HTTP/1.1 201") {
            return;
        }
        let _ = tell.send((key.clone(), value));
    }
}

#[test]
fn a_stop_is_graceful_and_values_persist() {
    let (_dir, file) = place();
    let mut decant = Decant::start(args(&file));
    assert_eq!(post(decant.addr, "kept", b"one"), 201);
    assert_eq!(post(decant.addr, "kept", b"two"), 201);
    assert_eq!(post(decant.addr, "deleted", b"x"), 201);
    assert_eq!(ask(decant.addr, "DELETE", "/echoseen/v1/deleted", b"").status(), 204);
    // Half a request is under way when the signal comes. Expect tells that it was taken up.
    let mut wire = Wire::connect(decant.addr);
    wire.send("POST /echoseen/v1/late HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n");
    assert_eq!(wire.answer(false).status(), 100);
    decant.signal("TERM");
    while std::net::TcpStream::connect(decant.addr).is_ok() {
        std::thread::yield_now();
    }
    wire.send("landed");
    assert_eq!(wire.answer(false).status(), 201);
    assert_eq!(decant.wait().code(), Some(0));
    let decant = Decant::start(args(&file));
    assert_eq!(get(decant.addr, "kept").unwrap(), b"two");
    assert_eq!(get(decant.addr, "late").unwrap(), b"landed");
    assert_eq!(get(decant.addr, "deleted"), None);
}

#[test]
fn fifty_megabytes_are_refused_and_not_held() {
    let (_dir, file) = place();
    let decant = Decant::start(args(&file));
    assert_eq!(post(decant.addr, "k", b"x"), 201);
    let before = decant.kib("VmHWM");
    let body = vec![b'x'; 50 * 1024 * 1024];
    for round in 0..3 {
        assert_eq!(post(decant.addr, "huge", &body), 500, "as Kask does when Cassandra refuses a value");
        let grown = decant.kib("VmHWM") - before;
        assert!(grown < 8 * 1024, "round {round}: {grown} KiB");
    }
    // Without a length as much is held as is allowed, and no more.
    let mut wire = Wire::connect(decant.addr);
    wire.send("POST /echoseen/v1/huge HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    wire.send(format!("{:x}\r\n", body.len()));
    wire.send(&body);
    wire.send("\r\n0\r\n\r\n");
    assert_eq!(wire.answer(false).status(), 500);
    let grown = decant.kib("VmHWM") - before;
    assert!(grown < 56 * 1024, "{grown} KiB");
    assert_eq!(get(decant.addr, "huge"), None);
    let most = &body[..16 * 1024 * 1024];
    assert_eq!(post(decant.addr, "largest", most), 201);
    assert!(get(decant.addr, "largest").unwrap() == most);
}

#[test]
fn a_full_disk_is_a_500_and_the_store_goes_on() {
    let (_dir, file) = place();
    // A limit on the size of a file stands in for the disk: writes over it fail.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 16384; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_decant")])
        .args(args(&file));
    let mut decant = Decant::start_command(command);
    assert_eq!(post(decant.addr, "before", b"kept"), 201);
    let value = vec![b'x'; 1024 * 1024];
    let mut stored = 0;
    let full = loop {
        let answer = ask(decant.addr, "POST", &format!("{BASE}k{stored}"), &value);
        if answer.status() != 201 {
            break answer;
        }
        stored += 1;
        assert!(stored < 100, "the limit had no effect");
    };
    assert_eq!(full.status(), 500);
    assert!(full.text().contains("Kask/errors/server_error"), "{}", full.text());
    assert!(stored > 0);
    assert_eq!(get(decant.addr, "before").unwrap(), b"kept");
    assert!(get(decant.addr, "k0").unwrap() == value);
    assert_eq!(get(decant.addr, &format!("k{stored}")), None, "refused, yet there");
    for i in 0..stored {
        assert_eq!(ask(decant.addr, "DELETE", &format!("{BASE}k{i}"), b"").status(), 204);
    }
    assert_eq!(post(decant.addr, "after", b"room"), 201);
    decant.signal("TERM");
    assert_eq!(decant.wait().code(), Some(0));
    let decant = Decant::start(args(&file));
    assert_eq!(get(decant.addr, "after").unwrap(), b"room");
    assert_eq!(get(decant.addr, "before").unwrap(), b"kept");
}

#[test]
fn a_store_that_cannot_be_opened_says_why_and_what_to_do() {
    let (dir, file) = place();
    let _running = Decant::start(args(&file));
    let (code, out, err) = run_decant(args(&file));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains(utf8(&file)) && err.contains("another process has it open"), "{err}");

    let bad = dir.path().join("bad.redb");
    std::fs::write(&bad, vec![7; 100_000]).unwrap();
    let (code, _, err) = run_decant(args(&bad));
    assert_eq!(code, 2);
    assert!(err.contains(utf8(&bad)) && err.contains("restore it from a backup, or move it away"), "{err}");
    assert_eq!(std::fs::read(&bad).unwrap(), vec![7; 100_000], "a file that is no store was changed");

    let nowhere = dir.path().join("missing/kask.redb");
    let (code, _, err) = run_decant(args(&nowhere));
    assert_eq!(code, 2);
    assert!(err.contains("create the directory first"), "{err}");
}

#[test]
fn a_wrong_command_line_is_usage() {
    let (_dir, file) = place();
    let file = utf8(&file);
    for (args, says) in [
        (vec!["kask"], "--data"),
        (vec!["kask", "--data", file, "--base-uri", "/a//b"], "has an empty"),
        (vec!["kask", "--data", file, "--listen", "nowhere"], "--listen"),
        (vec!["kask", "--data", file, "--default-ttl", "-1"], "-1"),
        (vec!["frob"], "frob"),
    ] {
        let (code, out, err) = run_decant(args);
        assert_eq!((code, out.as_str()), (64, ""), "{err}");
        assert!(err.contains(says), "{err}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, _, err) = run_decant(["kask", "--data", file, "--listen", &addr]);
    assert_eq!(code, 2);
    assert!(err.contains(&addr) && err.contains("choose another address"), "{err}");
}

#[test]
fn requests_are_counted_under_kasks_names() {
    let (_dir, file) = place();
    let decant = Decant::start(args(&file));
    post(decant.addr, "k", b"x");
    get(decant.addr, "k");
    ask(decant.addr, "GET", "/echoseen/v1/a/b", b"");
    ask(decant.addr, "FROB", "/echoseen/v1/k", b"");
    for beside in ["/", "/echoseen/v1", "/healthz"] {
        ask(decant.addr, "GET", beside, b"");
    }
    let page = ask(decant.addr, "GET", "/metrics", b"").text();
    let mut counted: Vec<&str> = page.lines().filter(|line| line.starts_with("http_requests_total{")).collect();
    counted.sort_unstable();
    assert_eq!(
        counted,
        [
            "http_requests_total{code=\"200\",method=\"GET\"} 1",
            "http_requests_total{code=\"201\",method=\"POST\"} 1",
            "http_requests_total{code=\"400\",method=\"other\"} 1",
            "http_requests_total{code=\"404\",method=\"GET\"} 1",
        ]
    );
    let bucket = "http_request_duration_seconds_bucket{code=\"200\",method=\"GET\",le=\"0.0025\"}";
    assert!(page.contains(bucket), "{page}");
}

/// An embedded Kask in this process whose time stands where the test puts it.
struct InProcess {
    addr: SocketAddr,
    now_ms: Arc<AtomicU64>,
    store: Arc<RedbStore>,
    runtime: Runtime,
    _dir: TempDir,
}

fn in_process(default_ttl_s: u64) -> InProcess {
    let (dir, file) = place();
    let now_ms = Arc::new(AtomicU64::new(1_000_000));
    let clock = now_ms.clone();
    let store = Arc::new(RedbStore::open(&file).unwrap());
    let mut options = Options::new(BASE.parse().unwrap(), default_ttl_s);
    options.clock = Arc::new(move || clock.load(Ordering::SeqCst));
    let runtime = Runtime::new().unwrap();
    let addr = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        spawn(listener, store.clone(), options, CancellationToken::new()).unwrap().addr
    });
    InProcess { addr, now_ms, store, runtime, _dir: dir }
}

#[test]
fn values_expire() {
    let kask = in_process(10);
    assert_eq!(post(kask.addr, "a", b"1"), 201);
    kask.now_ms.fetch_add(9_999, Ordering::SeqCst);
    assert_eq!(get(kask.addr, "a").unwrap(), b"1");
    assert_eq!(post(kask.addr, "b", b"2"), 201);
    kask.now_ms.fetch_add(1, Ordering::SeqCst);
    assert_eq!(get(kask.addr, "a"), None);
    assert_eq!(get(kask.addr, "b").unwrap(), b"2");
    // Writing again starts the time anew.
    assert_eq!(post(kask.addr, "b", b"3"), 201);
    kask.now_ms.fetch_add(9_999, Ordering::SeqCst);
    assert_eq!(get(kask.addr, "b").unwrap(), b"3");

    let forever = in_process(0);
    assert_eq!(post(forever.addr, "a", b"1"), 201);
    forever.now_ms.store(u64::MAX / 2, Ordering::SeqCst);
    assert_eq!(get(forever.addr, "a").unwrap(), b"1");
}

#[test]
fn a_purge_is_bounded_and_takes_only_what_is_due() {
    let (_dir, file) = place();
    let store = RedbStore::open(&file).unwrap();
    let key = |i: u64| Key::from_bytes(format!("k{i}"));
    Runtime::new().unwrap().block_on(async {
        for i in 0..10 {
            store.set(key(i), Bytes::from_static(b"v"), Some(100 + i)).await.unwrap();
        }
        store.set(key(10), Bytes::from_static(b"v"), None).await.unwrap();
        // Written again to live longer, or for ever: the earlier time no longer counts.
        store.set(key(0), Bytes::from_static(b"w"), Some(500)).await.unwrap();
        store.set(key(1), Bytes::from_static(b"w"), None).await.unwrap();
        store.delete(key(2)).await.unwrap();
        assert_eq!(store.purge_expired(99, 100).await.unwrap(), 0);
        assert_eq!(store.purge_expired(105, 2).await.unwrap(), 2);
        assert_eq!(store.purge_expired(105, 100).await.unwrap(), 1);
        assert_eq!(store.count().await.unwrap(), 7);
        assert_eq!(store.purge_expired(1000, 100).await.unwrap(), 5);
        assert_eq!(store.count().await.unwrap(), 2);
        assert_eq!(store.get(&key(1), 1000).await.unwrap().unwrap(), "w");
        assert_eq!(store.get(&key(10), 1000).await.unwrap().unwrap(), "v");
    });
}

#[test]
fn many_writers_at_once_each_find_their_value() {
    let kask = in_process(0);
    let store = kask.store.clone();
    kask.runtime.block_on(async {
        let mut writers = tokio::task::JoinSet::new();
        for i in 0..2000_u32 {
            let store = store.clone();
            writers.spawn(async move {
                let key = Key::from_bytes(format!("k{}", i % 1000));
                store.set(key.clone(), Bytes::from(i.to_string()), None).await.unwrap();
                let found: u32 =
                    std::str::from_utf8(&store.get(&key, 0).await.unwrap().unwrap()).unwrap().parse().unwrap();
                assert_eq!(found % 1000, i % 1000);
            });
        }
        let all = async { while writers.join_next().await.is_some_and(|writer| writer.map(|()| true).unwrap()) {} };
        tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
        assert_eq!(store.count().await.unwrap(), 1000);
    });
}

#[test]
fn a_running_kask_sweeps_what_expired() {
    let (_dir, file) = place();
    let store = Arc::new(RedbStore::open(&file).unwrap());
    Runtime::new().unwrap().block_on(async {
        let mut writers = tokio::task::JoinSet::new();
        for i in 0..2500 {
            // Due long ago, but for the last.
            let expires_ms = if i == 2499 { u64::MAX } else { 1 + i };
            let (store, key) = (store.clone(), Key::from_bytes(i.to_string()));
            writers.spawn(async move { store.set(key, Bytes::from_static(b"v"), Some(expires_ms)).await.unwrap() });
        }
        writers.join_all().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        let kask = spawn(listener, store.clone(), Options::new(BASE.parse().unwrap(), 0), stop.clone()).unwrap();
        let swept = async {
            while store.count().await.unwrap() != 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), swept).await.unwrap();
        stop.cancel();
        kask.ended().await.unwrap();
    });
}

#[test]
fn out_of_file_descriptors_it_waits_and_goes_on() {
    let (_dir, file) = place();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 40; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_decant")]).args(args(&file));
    let decant = Decant::start_command(command);
    assert_eq!(post(decant.addr, "k", b"v"), 201);
    let mut held: Vec<Wire> = (0..60).map(|_| Wire::connect(decant.addr)).collect();
    // The last in line gets no answer while all descriptors are taken, and accepting burns no processor meanwhile.
    let mut last = held.pop().unwrap();
    last.send(request("GET", "/echoseen/v1/k", b""));
    let before = decant.cpu();
    std::thread::sleep(Duration::from_millis(700));
    let burnt = decant.cpu() - before;
    assert!(burnt < Duration::from_millis(250), "{burnt:?}");
    drop(held);
    assert_eq!(last.answer(false).body, b"v");
}
