//! A shard against a real redis-server, and against one that misbehaves.

use crate::redis_server::RedisServer;
use decant::tier::breaker::Standing;
use decant::tier::redis::{IN_FLIGHT_MAX, RedisFailure, RedisUrl, Script, Shard, value};
use redis::{Value, cmd};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Several replies of several types, and a write: `KEYS[1]` is set to `ARGV[1]`.
static SEVERAL: Script = Script::new(
    "several",
    "local old = redis.call('GET', KEYS[1]); redis.call('SET', KEYS[1], ARGV[1]); return {old, #ARGV[1], ARGV[1], {1, 2}}",
);

fn shard(url: &str) -> Shard {
    let shard = Shard::new("a", RedisUrl::parse(url).unwrap(), "test");
    shard.open();
    shard
}

async fn up(url: &str) -> Shard {
    let shard = shard(url);
    assert!(shard.wait_up(soon()).await, "{:?}", shard.why_down());
    shard
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn within(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

fn code<T: std::fmt::Debug>(result: Result<T, RedisFailure>) -> String {
    match result {
        Err(RedisFailure::Refused { code, .. }) => code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_loaded_when_redis_does_not_know_it() {
    let server = RedisServer::start();
    let shard = up(&server.url()).await;
    let key: &[u8] = b"k\r\n\0\xff";
    for (i, arg) in [&b"first\r\n\xfe"[..], b"", b"third"].iter().enumerate() {
        if i == 2 {
            redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).unwrap();
        }
        let reply = shard.script(&SEVERAL, &[key], &[arg], soon()).await.unwrap();
        let items = value::as_array(&reply.value).unwrap();
        let old = value::as_maybe_bytes(&items[0]).unwrap();
        assert_eq!(old, [None, Some(&b"first\r\n\xfe"[..]), Some(b"")][i]);
        assert_eq!(value::as_int(&items[1]), Ok(arg.len() as i64));
        assert_eq!(value::as_bytes(&items[2]), Ok(*arg));
        assert_eq!(value::as_array(&items[3]).unwrap().len(), 2);
    }
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut server.client()).unwrap();
    assert!(stats.contains("cmdstat_evalsha:calls=5,"), "three calls, two of them twice: {stats}");
    assert!(stats.contains("cmdstat_script|load:calls=2,"), "{stats}");
    assert!(!stats.contains("cmdstat_eval:"), "{stats}");
}

/// Also where Redis does not know the script: only the calls that did not run are sent once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_runs_for_many_keys_in_one_go() {
    static ODD: Script = Script::new(
        "odd",
        "if redis.call('TYPE', KEYS[1])['ok'] == 'hash' then return redis.call('SCRIPT', 'x') end return redis.call('INCR', KEYS[1])",
    );
    let server = RedisServer::start();
    redis::cmd("HSET").arg("2").arg("f").arg("v").exec(&mut server.client()).unwrap();
    let shard = up(&server.url()).await;
    let calls = || (0..5).map(|i| ([i.to_string().into_bytes()], vec![b"unused".to_vec()])).collect::<Vec<_>>();
    for round in 1..=3 {
        if round == 3 {
            redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.client()).unwrap();
        }
        let answers = shard.script_many(&ODD, calls(), soon()).await.unwrap();
        for (i, answer) in answers.into_iter().enumerate() {
            match i {
                2 => assert!(matches!(answer, Err(RedisFailure::Refused { .. })), "{answer:?}"),
                _ => assert_eq!(answer.map(|told| told.value), Ok(Value::Int(round)), "call {i} ran once a round"),
            }
        }
    }
    assert_eq!(shard.script_many(&ODD, Vec::<([&[u8]; 1], _)>::new(), soon()).await, Ok(vec![]));
    shard.close();
    let away = shard.script_many(&ODD, calls(), within(50)).await;
    assert!(matches!(away, Err(RedisFailure::Away { .. })), "{away:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_restarts_is_connected_to_again() {
    let mut server = RedisServer::start();
    let shard = up(&server.url()).await;
    shard.command(cmd("SET").arg("k").arg("v").take(), soon()).await.unwrap();
    server.kill();
    // Without any call the loss is seen.
    assert!(shard.wait_down(soon()).await);
    let begun = Instant::now();
    let away = shard.command(cmd("GET").arg("k").take(), soon()).await;
    assert!(matches!(away, Err(RedisFailure::Away { .. })), "{away:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "calls do not wait for a Redis that is away");
    server.restart();
    assert!(shard.wait_up(soon()).await, "{:?}", shard.why_down());
    assert_eq!(shard.command(cmd("GET").arg("k").take(), soon()).await, Ok(Value::Nil));
    // The restarted Redis has no scripts.
    shard.script(&SEVERAL, &[b"k"], &[b"v"], soon()).await.unwrap();
}

// On one thread the next call always comes before the dead connection is taken down: it must not be sent there.
#[tokio::test]
async fn a_redis_that_hangs_costs_the_deadline_and_then_nothing() {
    let server = RedisServer::start();
    let shard = up(&server.url()).await;
    server.sigstop();
    let begun = Instant::now();
    assert_eq!(shard.command(cmd("INCR").arg("n").take(), within(200)).await, Err(RedisFailure::Timeout));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(2), "{took:?}");
    assert!(shard.is_up(), "one slow call is no outage");
    // A few more, and it counts as away: calls are not sent any more. After a second the connection is dropped.
    let mut last = Err(RedisFailure::Timeout);
    while last == Err(RedisFailure::Timeout) {
        assert!(begun.elapsed() < Duration::from_secs(5));
        last = shard.command(cmd("INCR").arg("n").take(), within(100)).await;
    }
    assert!(matches!(last, Err(RedisFailure::Away { .. })), "{last:?}");
    server.sigcont();
    assert!(shard.wait_up(soon()).await, "{:?}", shard.why_down());
    // One that may be the probe, where nobody else asks: it is away for a moment longer.
    let again = soon();
    while shard.command(cmd("INCR").arg("n").take(), soon()).await.is_err() {
        assert!(Instant::now() < again);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(shard.breaker().standing(), Standing::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_when_redis_dies_are_lost() {
    let mut server = RedisServer::start();
    let shard = up(&server.url()).await;
    server.sigstop();
    // Polled in order: the call is under way when the server dies.
    let call = shard.command(cmd("INCR").arg("n").take(), soon());
    let (lost, ()) = tokio::join!(call, async { server.kill() });
    assert!(matches!(lost, Err(RedisFailure::Lost { .. })), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords() {
    let server = RedisServer::with_flags(&["--requirepass", "s3cret", "--user", "bob", "on", ">b0b", "~*", "+@all"]);
    for login in [":s3cret@", "default:s3cret@", "bob:b0b@"] {
        let shard = up(&server.url_with(login, 1)).await;
        shard.command(cmd("SET").arg("k").arg(login).take(), soon()).await.unwrap();
        assert!(!format!("{shard:?}").contains("s3cret"));
    }
    for (login, says) in [("", "NOAUTH"), (":wr0ng@", "WRONGPASS"), ("bob:wr0ng@", "WRONGPASS")] {
        let shard = shard(&server.url_with(login, 0));
        let away = shard.command(cmd("GET").arg("k").take(), soon()).await;
        let Err(RedisFailure::Away { detail }) = away else { panic!("{login}: {away:?}") };
        assert!(detail.contains(says) || detail.to_lowercase().contains("auth"), "{login}: {detail}");
        assert!(!detail.contains("wr0ng") && !shard.is_up(), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_name_their_code_and_change_nothing() {
    let server = RedisServer::start();
    let shard = up(&server.url()).await;
    shard.command(cmd("RPUSH").arg("list").arg("x").take(), soon()).await.unwrap();
    assert_eq!(code(shard.command(cmd("GET").arg("list").take(), soon()).await), "WRONGTYPE");
    let mut pipe = redis::pipe();
    pipe.cmd("SET").arg("k").arg("v").cmd("GET").arg("list").cmd("GET").arg("k");
    let replies = shard.pipeline(pipe, soon()).await.unwrap();
    assert!(matches!(&replies[1], Value::ServerError(error) if error.code() == "WRONGTYPE"), "{replies:?}");
    assert_eq!((replies.len(), value::as_bytes(&replies[2])), (3, Ok(&b"v"[..])));
    assert_eq!(shard.pipeline(redis::pipe(), soon()).await, Ok(vec![]));

    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").exec(&mut server.client()).unwrap();
    assert_eq!(code(shard.command(cmd("SET").arg("k").arg("w").take(), soon()).await), "OOM");
    assert_eq!(code(shard.script(&SEVERAL, &[b"k"], &[b"w"], soon()).await), "OOM");
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("0").exec(&mut server.client()).unwrap();
    assert_eq!(value::into_bytes(shard.command(cmd("GET").arg("k").take(), soon()).await.unwrap()), Ok(b"v".to_vec()));
    assert!(shard.is_up(), "refusals say nothing against the connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_is_closed_until_it_is_opened_again() {
    let server = RedisServer::start();
    let shard = up(&server.unix_url()).await;
    let clients = || -> String { redis::cmd("CLIENT").arg("LIST").query(&mut server.client()).unwrap() };
    let of_shard = || clients().lines().filter(|line| line.contains("redis.sock")).count();
    assert_eq!(of_shard(), 1);
    server.sigstop();
    let call = shard.command(cmd("INCR").arg("n").take(), soon());
    let (lost, ()) = tokio::join!(call, async { shard.close() });
    assert!(matches!(lost, Err(RedisFailure::Lost { .. })), "{lost:?}");
    server.sigcont();
    let away = shard.command(cmd("GET").arg("n").take(), soon()).await;
    assert_eq!(away, Err(RedisFailure::Away { detail: "closed".into() }));
    let begun = Instant::now();
    while of_shard() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "{}", clients());
    }
    shard.close();
    shard.open();
    shard.open();
    assert!(shard.wait_up(soon()).await);
    shard.command(cmd("GET").arg("n").take(), soon()).await.unwrap();
    assert_eq!(of_shard(), 1);
    drop(shard);
    while of_shard() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "{}", clients());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_redis_closes_while_idle_is_made_again() {
    let server = RedisServer::start();
    let shard = up(&server.unix_url()).await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // it has to have lived well: then a call waits for the next one
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut server.client()).unwrap();
    assert!(shard.wait_down(soon()).await);
    assert_eq!(shard.command(cmd("GET").arg("k").take(), soon()).await, Ok(Value::Nil));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_is_counted_once() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let server = RedisServer::start();
    let url = RedisUrl::parse(&server.url()).unwrap();
    let closed = metrics::with_local_recorder(&recorder, || Shard::new("a", url, "test"));
    closed.command(cmd("GET").arg("k").take(), soon()).await.unwrap_err();
    closed.open();
    closed.command(cmd("GET").arg("k").take(), soon()).await.unwrap();
    closed.command(cmd("NONSENSE"), soon()).await.unwrap_err();
    let text = recorder.handle().render();
    for (outcome, n) in [("ok", 1), ("away", 1), ("refused", 1), ("timeout", 0), ("lost", 0)] {
        let line = format!(
            "decant_tier_requests_total{{stash=\"test\",tier=\"redis\",op=\"command\",outcome=\"{outcome}\"}} {n}\n"
        );
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}

/// What a fake server does after it has written a command down.
type Answers = fn(&[String]) -> Option<&'static [u8]>;

struct Fake {
    url_end: String,
    commands: Arc<Mutex<Vec<Vec<String>>>>,
    /// When each connection came.
    accepted: mpsc::UnboundedReceiver<Instant>,
}

/// Speaks RESP; `None` from `answers` closes the connection, an empty answer leaves the client waiting.
async fn fake(answers: Answers) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url_end = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let commands = Arc::new(Mutex::new(Vec::new()));
    let (on_accept, accepted) = mpsc::unbounded_channel();
    let log = commands.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = on_accept.send(Instant::now());
            let log = log.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                while let Some(command) = read_command(&mut stream).await {
                    log.lock().unwrap().push(command.clone());
                    let Some(answer) = answers(&command) else { return };
                    stream.write_all(answer).await.unwrap();
                }
            });
        }
    });
    Fake { url_end, commands, accepted }
}

async fn read_command(stream: &mut BufReader<tokio::net::TcpStream>) -> Option<Vec<String>> {
    async fn number(stream: &mut BufReader<tokio::net::TcpStream>) -> Option<usize> {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        line.get(1..)?.trim().parse().ok()
    }
    let mut words = Vec::new();
    for _ in 0..number(stream).await? {
        let mut word = vec![0; number(stream).await? + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8(word).ok()?);
    }
    Some(words)
}

/// As nutcracker: whatever it does not know closes the connection without a word.
fn strict(command: &[String]) -> Option<&'static [u8]> {
    match command[0].as_str() {
        "PING" => Some(b"+PONG\r\n"),
        "AUTH" | "SELECT" => Some(b"+OK\r\n"),
        "GET" => Some(b"$1\r\nv\r\n"),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handshake_sends_nothing_that_a_strict_server_refuses() {
    for (login, path, expected) in [
        ("", "/0", "PING"),
        ("", "/3", "SELECT 3, PING"),
        (":pw@", "/0", "AUTH pw, PING"),
        ("u:pw@", "/0", "AUTH u pw, PING"),
        ("u:pw@", "/2?protocol=resp3", "AUTH u pw, SELECT 2, PING"),
    ] {
        let fake = fake(strict).await;
        let shard = up(&format!("redis://{login}{}{path}", fake.url_end)).await;
        let got = shard.command(cmd("GET").arg("k").take(), soon()).await.unwrap();
        assert_eq!(value::as_bytes(&got), Ok(&b"v"[..]));
        let sent: Vec<String> = fake.commands.lock().unwrap().iter().map(|words| words.join(" ")).collect();
        assert_eq!(sent.join(", "), format!("{expected}, GET k"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_are_bounded() {
    let mut fake = fake(|command| if command[0] == "PING" { Some(b"+PONG\r\n") } else { Some(b"") }).await;
    let shard = Arc::new(up(&format!("redis://{}/0", fake.url_end)).await);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT_MAX + 1 {
        let shard = shard.clone();
        calls.spawn(async move { shard.command(cmd("GET").arg("k").take(), soon()).await });
    }
    // None is ever answered: only one that was turned away can end now.
    let ended = timeout(Duration::from_secs(2), calls.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(ended, Err(RedisFailure::Away { detail: "too many calls are under way".into() }));
    calls.shutdown().await;
    // So many calls were given up that the connection went with them, and its queue.
    fake.accepted.recv().await.unwrap();
    timeout(Duration::from_secs(5), fake.accepted.recv()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_accepts_and_says_nothing_is_not_up() {
    let fake = fake(|_| Some(b"")).await;
    let shard = shard(&format!("redis://{}/0", fake.url_end));
    let begun = Instant::now();
    let away = shard.command(cmd("GET").arg("k").take(), within(200)).await;
    assert_eq!(away, Err(RedisFailure::Away { detail: "still connecting at the deadline".into() }));
    assert!(begun.elapsed() < Duration::from_secs(2) && !shard.is_up());
    // After the first attempt has failed nobody waits any more.
    let away = shard.command(cmd("GET").arg("k").take(), soon()).await;
    assert!(matches!(&away, Err(RedisFailure::Away { detail }) if detail.contains("no answer within")), "{away:?}");
    let begun = Instant::now();
    shard.command(cmd("GET").arg("k").take(), soon()).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_breaks_the_connection_and_not_decant() {
    let mut fake =
        fake(|command| if command[0] == "PING" { Some(b"+PONG\r\n") } else { Some(b"HTTP/1.1 400 No\r\n\r\n") }).await;
    let shard = up(&format!("redis://{}/0", fake.url_end)).await;
    let lost = shard.command(cmd("GET").arg("k").take(), soon()).await;
    assert!(matches!(lost, Err(RedisFailure::Lost { .. })), "{lost:?}");
    for _ in 0..2 {
        timeout(Duration::from_secs(5), fake.accepted.recv()).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_closes_at_once_is_not_dialled_in_a_loop() {
    let mut at_once = fake(|_| None).await;
    assert_backs_off(&at_once.url_end, &mut at_once.accepted).await;

    // One that answers first, so that the connection counts as up for a moment.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url_end = listener.local_addr().unwrap().to_string();
    let (on_accept, mut accepted) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = on_accept.send(Instant::now());
            stream.read_exact(&mut [0; 14]).await.unwrap(); // *1 $4 PING
            stream.write_all(b"+PONG\r\n").await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_backs_off(&url_end, &mut accepted).await;
}

async fn assert_backs_off(url_end: &str, accepted: &mut mpsc::UnboundedReceiver<Instant>) {
    let _shard = shard(&format!("redis://{url_end}/0"));
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(timeout(Duration::from_secs(5), accepted.recv()).await.unwrap().unwrap());
    }
    let gaps: Vec<u128> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    // 50, 100, 200, 400 ms, each less up to half of it.
    assert!(gaps.iter().zip([24, 49, 99, 199]).all(|(gap, least)| *gap >= least), "{gaps:?}");
}

/// A primary that was replaced refuses the first write: the connection is given up, and made again where there is a primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_became_a_replica_is_let_go_of() {
    let (server, other) = (RedisServer::start(), RedisServer::start());
    let shard = up(&server.url()).await;
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(other.port).exec(&mut server.client()).unwrap();
    let write = async || shard.script(&SEVERAL, &[b"k"], &[b"v"], soon()).await;
    // Until the change has gone through, and then at once.
    let refused = loop {
        match write().await {
            Ok(_) => {}
            Err(failure) => break failure,
        }
    };
    assert!(refused.to_string().contains("READONLY"), "{refused}");
    assert!(shard.wait_down(soon()).await);
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut server.client()).unwrap();
    assert!(shard.wait_up(soon()).await, "{:?}", shard.why_down());
    write().await.unwrap();
}
