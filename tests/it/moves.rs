//! Moves between phases while clients work, with a Kask that hangs, and with a decant that dies on the way.

use crate::{
    redis_server::RedisServer,
    support::Wire,
    whole::{BASE, Kask, Setup, Whole, intents, redis_holds, redis_set, wait_until},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What one client saw.
#[derive(Default, Debug)]
struct Report {
    operations: u64,
    longest_write: Duration,
    faults: Vec<String>,
}

/// A client with keys of its own: it knows what each must hold, and says so when it does not.
fn client(data: SocketAddr, name: usize, stop: Arc<AtomicBool>, rounds: Arc<AtomicU64>) -> Report {
    const KEYS: usize = 20;
    let mut wire = Wire::connect(data);
    let mut random = fastrand::Rng::with_seed(name as u64);
    let mut expected: BTreeMap<usize, String> = BTreeMap::new();
    let mut report = Report::default();
    while !stop.load(Ordering::Relaxed) {
        let key = random.usize(..KEYS);
        let path = format!("{BASE}client{name}%3Akey{key}");
        let choice = random.u8(..10);
        let (method, body) = match choice {
            0..4 => ("GET", String::new()),
            4..9 => ("POST", format!("JSON..\"{name}-{}\"", report.operations)),
            _ => ("DELETE", String::new()),
        };
        let began = Instant::now();
        wire.send(crate::support::request(method, &path, body.as_bytes()));
        let answer = wire.answer(false);
        let took = began.elapsed();
        report.operations += 1;
        let status = answer.status();
        let right = match method {
            "GET" => match expected.get(&key) {
                Some(value) => status == 200 && answer.text() == *value,
                None => status == 404,
            },
            "POST" => status == 201,
            _ => status == 204,
        };
        if !right {
            report.faults.push(format!(
                "{method} key{key}: {status} {} expected {:?}",
                answer.text(),
                expected.get(&key)
            ));
        }
        match method {
            "POST" => drop(expected.insert(key, body)),
            "DELETE" => drop(expected.remove(&key)),
            _ => {}
        }
        if method != "GET" {
            report.longest_write = report.longest_write.max(took);
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    report
}

/// From `redis-only` to `redis-standby`, back to `dual-write`, forward to `kask-only`.
#[test]
fn clients_notice_nothing_of_moves() {
    const CLIENTS: usize = 6;
    let (redis, kask) = (RedisServer::start(), Kask::start());
    for n in 0..200 {
        redis_set(&redis, &format!("old:{n}"), format!("s:4:\"v{n:03}\";"));
    }
    let decant = Whole::start(&Setup::new(&redis, "redis-only").with_kask(&kask));
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|name| {
            let (data, stop, rounds) = (decant.data, stop.clone(), rounds.clone());
            std::thread::spawn(move || client(data, name, stop, rounds))
        })
        .collect();
    let some_work = || {
        let from = rounds.load(Ordering::Relaxed);
        wait_until("clients go on", || rounds.load(Ordering::Relaxed) > from + 300);
    };
    let read_everything = || {
        for n in 0..200 {
            assert_eq!(decant.got(&format!("old%3A{n}")), (200, format!("JSON..\"v{n:03}\"")), "old:{n}");
        }
        // What clients wrote before Kask was written too is copied by being read.
        for (client, key) in (0..CLIENTS).flat_map(|client| (0..20).map(move |key| (client, key))) {
            assert_ne!(decant.get(&format!("client{client}%3Akey{key}")).status(), 503);
        }
    };
    some_work();
    for phase in ["dual-write", "kask-first"] {
        decant.move_to(phase);
        some_work();
    }
    read_everything();
    wait_until("what was read is copied", || decant.metric("decant_repairs_total", &["outcome=\"copied\""]) >= 200.0);
    decant.copy_and_compare();
    for phase in ["redis-standby", "kask-first", "dual-write", "kask-first", "redis-standby", "kask-only"] {
        decant.move_to(phase);
        some_work();
    }
    stop.store(true, Ordering::Relaxed);
    let reports: Vec<Report> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let operations: u64 = reports.iter().map(|r| r.operations).sum();
    let longest = reports.iter().map(|r| r.longest_write).max().unwrap();
    println!("{operations} operations over 8 moves; the longest wait of a write was {longest:?}");
    let faults: Vec<&String> = reports.iter().flat_map(|r| &r.faults).collect();
    assert!(faults.is_empty(), "{} faults, the first: {:?}", faults.len(), faults.first());
    drop(redis);
    for n in 0..200 {
        assert_eq!(decant.got(&format!("old%3A{n}")), (200, format!("JSON..\"v{n:03}\"")), "with Redis gone");
    }
}

/// A Kask that hangs for some of its keys, as a real one does when one Cassandra node is away: requests whose path holds `stuck` are
/// kept until released, all others go through.
struct PartlyStuck {
    addr: SocketAddr,
    stuck: Arc<AtomicBool>,
}

impl PartlyStuck {
    fn before(kask: &Kask) -> PartlyStuck {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, behind, stuck) = (listener.local_addr().unwrap(), kask.addr, Arc::new(AtomicBool::new(true)));
        let told = stuck.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let stuck = told.clone();
                std::thread::spawn(move || relay(client, behind, &stuck));
            }
        });
        PartlyStuck { addr, stuck }
    }

    fn url(&self) -> String {
        format!("http://{}{BASE}", self.addr)
    }

    /// Stuck requests that their sender has given up on are never applied.
    fn release(&self) {
        self.stuck.store(false, Ordering::Relaxed);
    }
}

fn relay(mut client: TcpStream, behind: SocketAddr, stuck: &AtomicBool) -> Option<()> {
    let mut requests = BufReader::new(client.try_clone().ok()?);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if requests.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head
            .to_lowercase()
            .split_once("content-length: ")
            .and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        requests.read_exact(&mut body).ok()?;
        if head.lines().next()?.contains("stuck") && stuck.load(Ordering::Relaxed) {
            // Nothing is answered: the sender gives up and closes.
            let _ = requests.read(&mut [0]);
            return None;
        }
        let mut kask = TcpStream::connect(behind).ok()?;
        kask.write_all(head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
        kask.write_all(&body).ok()?;
        let mut answer = Vec::new();
        kask.read_to_end(&mut answer).ok()?;
        client.write_all(&answer).ok()?;
        if head.starts_with("GET") || answer.windows(17).any(|w| w.eq_ignore_ascii_case(b"connection: close")) {
            return None;
        }
    }
}

#[test]
fn a_hanging_kask_holds_up_only_the_keys_in_transit() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let front = PartlyStuck::before(&kask);
    let setup = Setup { kask_url: Some(front.url()), lease_ms: 3_000, ..Setup::new(&redis, "kask-first") };
    let decant = Whole::start(&setup);
    decant.copy_and_compare();
    assert_eq!(decant.set("stuck", "JSON..1").status(), 201, "Kask hangs, Redis has it, and it heals");
    assert_eq!(intents(&redis), 1);
    decant.begin_move("redis-standby", json!({}));
    let began = Instant::now();
    let refused = decant.set("stuck", "JSON..2");
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("2")), "{}", refused.text());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    for n in 0..20 {
        let began = Instant::now();
        assert_eq!(decant.set(&format!("free{n}"), "JSON..3").status(), 201);
        assert!(began.elapsed() < Duration::from_secs(1), "another key waited {:?}", began.elapsed());
    }
    assert_eq!(decant.phase()["state"], "moving");
    assert_eq!(decant.got("stuck"), (200, "JSON..1".into()), "a key in transit is read where its newest write is");
    front.release();
    decant.wait_settled("redis-standby");
    assert_eq!(kask.holds("stuck").as_deref(), Some("JSON..1"));
    assert_eq!(decant.set("stuck", "JSON..2").status(), 201);
    decant.wait_drained(&redis);
    assert_eq!(redis_holds(&redis, "stuck").as_deref(), Some("2"));
}

#[test]
fn a_decant_killed_in_the_middle_of_a_move_finishes_it() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let front = PartlyStuck::before(&kask);
    let setup = Setup { kask_url: Some(front.url()), ..Setup::new(&redis, "kask-first") };
    let mut decant = Whole::start(&setup);
    decant.copy_and_compare();
    assert_eq!(decant.set("stuck", "JSON..1").status(), 201);
    decant.begin_move("redis-standby", json!({}));
    decant.kill_9();
    decant.restart();
    let record = decant.phase();
    assert_eq!((record["phase"].as_str(), record["version"].as_u64()), (Some("redis-standby"), Some(2)), "{record}");
    let (status, told) = decant.ask_move("kask-only", json!({}));
    assert_eq!(status, 409, "the last move has not settled: {told}");
    front.release();
    decant.wait_settled("redis-standby");
    assert_eq!(kask.holds("stuck").as_deref(), Some("JSON..1"));
    decant.move_to("kask-only");
    decant.kill_9();
    decant.restart();
    assert_eq!(decant.phase()["phase"], "kask-only");
    assert_eq!(decant.got("stuck"), (200, "JSON..1".into()));
}

#[test]
fn a_second_decant_learns_of_moves_from_the_fence_and_makes_none() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let first = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    // It is configured otherwise; the fence wins.
    let second = Whole::start(&Setup::new(&redis, "redis-only").with_kask(&kask));
    assert_eq!(second.phase()["phase"], "dual-write");
    let (status, told) = second.ask_move("kask-first", json!({}));
    assert_eq!(status, 409);
    let owner = first.phase()["member"].as_str().unwrap().to_owned();
    assert!(told.to_string().contains(&owner), "the refusal names {owner}: {told}");
    let other = second.admin_get("/v1/status")["member"].as_str().unwrap().to_owned();
    for (decant, beside) in [(&first, &other), (&second, &owner)] {
        let names = || {
            let view = decant.admin_get("/v1/stashes/echoseen");
            let named = view["neighbours"].as_array().unwrap().iter().map(|n| n["member"].as_str().unwrap().to_owned());
            named.collect::<Vec<_>>()
        };
        wait_until("each has heard of the other", || names() == [beside.clone()]);
        let (_, told, _) = crate::support::run_decant(["status", "--admin", &format!("http://{}", decant.admin)]);
        assert!(told.contains(&format!("beside it    {beside}, decant ")), "{told}");
    }
    let (_, told, _) = crate::support::run_decant(["status", "--admin", &format!("http://{}", second.admin)]);
    assert!(told.contains("this decant serves, and can neither move nor write Kask alone"), "{told}");
    first.move_to("kask-first");
    // Its very next write is refused by the fence, and it learns.
    assert_eq!(second.set("k", "JSON..1").status(), 201);
    wait_until("the second has learned", || second.phase()["phase"] == "kask-first");
    first.copy_and_compare();
    first.move_to("redis-standby");
    assert_eq!(second.set("k", "JSON..2").status(), 201);
    second.wait_drained(&redis);
    assert_eq!((kask.holds("k").as_deref(), redis_holds(&redis, "k").as_deref()), (Some("JSON..2"), Some("2")));
    assert_eq!(first.got("k"), (200, "JSON..2".into()));
}

#[test]
fn steps_that_lose_something_are_refused_unless_forced() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    redis_set(&redis, "only-in-redis", "i:1;");
    let decant = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    let failing = |told: &serde_json::Value| -> Vec<String> {
        let guards = told["guards"].as_array().cloned().unwrap_or_default();
        guards.iter().filter(|g| g["ok"] == false).map(|g| g["name"].as_str().unwrap().to_owned()).collect()
    };
    let refused = |expected: &[&str]| {
        let (status, told) = decant.ask_move("redis-standby", json!({}));
        assert_eq!(
            (status, failing(&told)),
            (409, expected.iter().map(|name| (*name).to_owned()).collect()),
            "{told:#}"
        );
        told.to_string()
    };
    // Nothing has copied what nobody reads, and nothing has shown that all is there.
    refused(&["backfill_finished", "verified", "still_in_kask"]);
    decant.copy();
    refused(&["verified"]);
    assert_eq!(decant.compare()["arrived"], true);
    // What is newer counts: a value past decant, which the run before could not know of.
    redis_set(&redis, "past-decant", "i:2;");
    assert_eq!(decant.compare()["keys"]["missing"], 1);
    let told = refused(&["verified", "still_in_kask"]);
    assert!(told.contains("of 2 keys it found 1 missing in Kask"), "{told}");
    // A run that is older than the last backfill says nothing of what that has copied.
    decant.copy();
    let told = refused(&["verified"]);
    assert!(told.contains("it is older than the end of the last backfill"), "{told}");
    assert_eq!(decant.compare()["arrived"], true);
    decant.move_to("redis-standby");
    assert_eq!(decant.ask_move("redis-only", json!({ "force": true })).0, 422, "two steps at once cannot be forced");
    assert_eq!(
        decant.ask_move("kask-only", json!({ "from": "kask-first" })).0,
        409,
        "the operator believes in another phase"
    );
    decant.move_to("kask-only");
    let (status, told) = decant.ask_move("redis-standby", json!({}));
    assert_eq!((status, failing(&told)), (409, vec!["redis_missed_nothing".to_owned()]), "{told:#}");
    decant.begin_move("redis-standby", json!({ "force": true }));
    decant.wait_settled("redis-standby");
    assert_eq!(decant.phase()["forced"], true);
    let (status, told) = decant.ask_move("kask-first", json!({}));
    assert_eq!((status, failing(&told)), (409, vec!["mirror_is_clean".to_owned()]), "{told:#}");
}

/// Kask goes stale in `redis-only`; it must be emptied before the way forward.
#[test]
fn a_stale_kask_is_not_written_again_before_it_was_emptied() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    decant.set("k", "JSON..1");
    decant.wait_drained(&redis);
    decant.move_to("redis-only");
    decant.set("k", "JSON..2");
    assert_eq!(kask.holds("k").as_deref(), Some("JSON..1"), "this is what stale means");
    assert_eq!(decant.ask_move("dual-write", json!({})).0, 409);
    let word = json!({ "kask_emptied": true });
    assert_eq!(decant.ask_move("dual-write", word.clone()).0, 409, "a sample shows that Kask was not emptied");
    assert_eq!(crate::support::ask(kask.addr, "DELETE", &format!("{BASE}k"), b"").status(), 204);
    wait_until("a lease has passed", || decant.ask_move("dual-write", word.clone()).0 == 200);
    decant.wait_settled("dual-write");
}

/// The way back from `kask-only` is announced by the fence alone, so decants that do not own it go on looking.
#[test]
fn a_second_decant_learns_of_the_way_back_from_kask_only() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let first = Whole::start(&Setup::new(&redis, "redis-standby").with_kask(&kask));
    let second = Whole::start(&Setup::new(&redis, "redis-standby").with_kask(&kask));
    first.move_to("kask-only");
    wait_until("the second has learned", || second.phase()["phase"] == "kask-only");
    assert_eq!(second.set("k", "JSON..1").status(), 201);
    first.begin_move("redis-standby", json!({ "force": true }));
    wait_until("the second has learned of the way back", || second.phase()["phase"] == "redis-standby");
    assert_eq!(second.set("k", "JSON..2").status(), 201);
    second.wait_drained(&redis);
    assert_eq!(redis_holds(&redis, "k").as_deref(), Some("2"), "it mirrors again");
}

/// Looking at the guards needs no reason; moving does.
#[test]
fn a_dry_run_needs_no_reason_and_does_nothing() {
    let redis = RedisServer::start();
    let decant = Whole::start(&Setup::new(&redis, "dual-write"));
    let admin = format!("http://{}", decant.admin);
    let run = |more: &[&str]| {
        let args = ["phase", "set", "kask-first", "--admin", &admin];
        crate::support::run_decant(args.iter().copied().chain(more.iter().copied()))
    };
    let (code, out, err) = run(&["--dry-run"]);
    assert!(code == 0 && out.contains("kask_answers"), "{code} {out}{err}");
    assert_eq!(decant.phase()["phase"], "dual-write");
    assert_eq!(run(&[]).0, 64, "a move needs a reason");
}
