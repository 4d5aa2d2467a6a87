//! A primary that Sentinels name: found, followed over a fail-over, and not believed when it is a replica.

use crate::{
    redis_server::{RedisServer, free_port},
    support::{PATIENCE, run_decant, utf8},
    whole::{Setup, Whole, redis_holds, wait_until},
};
use decant::{
    config::{Login, RedisPlace, SentinelConfig, ShardConfig},
    tier::redis::{Shard, Target},
};
use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::time::Instant;

/// A real Sentinel that decides alone. It ends with this value.
struct Sentinel {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Sentinel {
    /// Watches `master` as `mymaster`; `more`: further lines of its configuration.
    fn watch(master: &RedisServer, more: &str) -> Sentinel {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..10 {
            let port = free_port();
            let config = format!(
                "port {port}\nbind 127.0.0.1\nlogfile sentinel.log\nsentinel monitor mymaster 127.0.0.1 {} 1\n\
                 sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 4000\n{more}\n",
                master.port
            );
            std::fs::write(dir.path().join("sentinel.conf"), config).unwrap();
            let mut child = Command::new("redis-sentinel")
                .arg("sentinel.conf")
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| {
                    panic!("redis-sentinel: {error}; it is needed here: apt-get install redis-sentinel")
                });
            let begun = std::time::Instant::now();
            while child.try_wait().unwrap().is_none() {
                if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Sentinel { child, port, _dir: dir };
                }
                assert!(begun.elapsed() < PATIENCE, "redis-sentinel does not listen");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        panic!("redis-sentinel does not start");
    }

    fn client(&self) -> redis::Connection {
        redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap().get_connection().unwrap()
    }

    fn wait_knows_replica(&self) {
        wait_until("the Sentinel knows a replica that is in step", || {
            let told: Vec<Vec<String>> =
                redis::cmd("SENTINEL").arg("REPLICAS").arg("mymaster").query(&mut self.client()).unwrap();
            let field = |replica: &[String], name: &str| {
                replica.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone()).unwrap_or_default()
            };
            told.iter()
                .any(|replica| field(replica, "flags") == "slave" && field(replica, "master-link-status") == "ok")
        });
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Empty where it does not say: a server whose role changes closes its connections.
fn role(server: &RedisServer) -> String {
    let connection = redis::Client::open(server.url()).and_then(|client| client.get_connection());
    let info = connection.and_then(|mut connection| redis::cmd("INFO").arg("replication").query(&mut connection));
    let info: String = info.unwrap_or_default();
    info.lines().find_map(|line| line.strip_prefix("role:")).unwrap_or_default().to_owned()
}

/// A port where nobody listens, as a Sentinel that is gone.
fn nobody() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn setup(redis: &RedisServer, sentinels: &[u16], more: &str) -> Setup {
    let sentinels: Vec<String> = sentinels.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    let shard = format!("master = \"mymaster\"\n{more}");
    let redis_lines = format!("sentinels = [{}]\ndistribution = \"single\"\n", sentinels.join(", "));
    Setup { shards: vec![("main".into(), shard)], redis: redis_lines, ..Setup::new(redis, "redis-only") }
}

#[test]
fn a_fail_over_is_followed_and_so_is_the_way_back() {
    let mut first = RedisServer::start();
    let second = RedisServer::with_flags(&["--replicaof", "127.0.0.1", &first.port.to_string()]);
    let sentinel = Sentinel::watch(&first, "");
    sentinel.wait_knows_replica();
    let decant = Whole::start(&setup(&first, &[nobody(), sentinel.port], ""));
    assert_eq!(decant.set("k", "JSON..\"1\"").status(), 201);
    let address = || decant.admin_get("/v1/stashes/echoseen")["shards"][0]["address"].as_str().unwrap().to_owned();
    assert_eq!(address(), format!("mymaster/0 by Sentinel at 127.0.0.1:{}", first.port));
    wait_until("the replica has it", || redis_holds(&second, "k").is_some());

    first.kill();
    wait_until("the new primary is written", || decant.set("k", "JSON..\"2\"").status() == 201);
    assert_eq!(redis_holds(&second, "k").as_deref(), Some("s:1:\"2\";"));
    assert_eq!(address(), format!("mymaster/0 by Sentinel at 127.0.0.1:{}", second.port));

    first.restart();
    wait_until("the old one is its replica", || role(&first) == "slave");
    sentinel.wait_knows_replica();
    let _: redis::RedisResult<String> =
        redis::cmd("SENTINEL").arg("FAILOVER").arg("mymaster").query(&mut sentinel.client());
    wait_until("the first is the primary again", || role(&first) == "master" && role(&second) == "slave");
    wait_until("and is written", || {
        decant.set("k", "JSON..\"3\"").status() == 201 && redis_holds(&first, "k").as_deref() == Some("s:1:\"3\";")
    });
}

/// The primary, its Sentinel and a user each have a password; and the shard's database is not the first.
#[test]
fn logins_at_both() {
    let redis =
        RedisServer::with_flags(&["--requirepass", "pw-redis", "--user", "bob", "on", ">pw-bob", "~*", "+@all"]);
    let sentinel = Sentinel::watch(&redis, "sentinel auth-pass mymaster pw-redis\nrequirepass pw-sentinel");
    let dir = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let login = |sentinel: &str| {
        format!(
            "username = \"bob\"\npassword_file = \"{}\"\nsentinel_password_file = \"{}\"\ndatabase = 3\n",
            secret("bob", "pw-bob"),
            secret("sentinel", sentinel)
        )
    };
    let decant = Whole::start(&setup(&redis, &[sentinel.port], &login("pw-sentinel")));
    assert_eq!(decant.set("k", "JSON..1").status(), 201);
    let url = redis.url_with("bob:pw-bob@", 3);
    let mut client = redis::Client::open(url).unwrap().get_connection().unwrap();
    assert_eq!(redis::cmd("GET").arg("k").query::<String>(&mut client).unwrap(), "1");

    let text = std::fs::read_to_string(decant.dir.path().join("proxy.toml")).unwrap();
    secret("sentinel", "pw-other");
    let file = dir.path().join("proxy.toml");
    std::fs::write(&file, text).unwrap();
    let (code, out, _) = run_decant(["check", "--config", utf8(&file)]);
    assert!(code == 1 && out.contains("no Sentinel names a primary for \"mymaster\""), "{out}");
    assert!(out.contains("sentinel_password_file") && !out.contains("pw-"), "{out}");
}

/// Answers every question with the same address.
struct Voice {
    addr: SocketAddr,
    names: Arc<Mutex<u16>>,
}

impl Voice {
    fn naming(port: u16) -> Voice {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, names) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(port)));
        let told = names.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let told = told.clone();
                std::thread::spawn(move || {
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    // *3 $8 SENTINEL $23 GET-MASTER-ADDR-BY-NAME $8 mymaster
                    while lines.by_ref().take(7).map_while(Result::ok).count() == 7 {
                        let port = told.lock().unwrap().to_string();
                        let reply = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len());
                        let _ = (&stream).write_all(reply.as_bytes());
                    }
                });
            }
        });
        Voice { addr, names }
    }

    fn name(&self, port: u16) {
        *self.names.lock().unwrap() = port;
    }
}

fn shard_by(voices: &[Voice]) -> Shard {
    let config = ShardConfig {
        name: "main".into(),
        hashed_as: "main".into(),
        weight: 1,
        at: RedisPlace::Sentinels(SentinelConfig {
            sentinels: voices.iter().map(|voice| ("127.0.0.1".to_owned(), voice.addr.port())).collect(),
            master: "mymaster".into(),
            database: 0,
            login: Login::default(),
            sentinel_login: Login::default(),
        }),
        tls: None,
    };
    let shard = Shard::new("main", Target::of(&config).unwrap(), "test");
    shard.open();
    shard
}

async fn wait_leads_to(shard: &Shard, server: &RedisServer) {
    let leads = format!("at 127.0.0.1:{}", server.port);
    let until = Instant::now() + PATIENCE;
    while !shard.address().ends_with(&leads) {
        assert!(Instant::now() < until, "{} {:?}", shard.address(), shard.why_down());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// A Sentinel that was cut off names a primary that the others have replaced, and which still believes that it is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn most_voices_count_and_are_asked_again() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let voices = [old.port, new.port, new.port].map(Voice::naming);
    let shard = shard_by(&voices);
    assert!(shard.wait_up(Instant::now() + PATIENCE).await, "{:?}", shard.why_down());
    wait_leads_to(&shard, &new).await;
    // Nobody closes the connection, and nothing is sent on it.
    voices[1].name(old.port);
    wait_leads_to(&shard, &old).await;
}

/// What the Sentinels name must say of itself that it is the primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_not_used() {
    let primary = RedisServer::start();
    let replica = RedisServer::with_flags(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
    let voices = [Voice::naming(replica.port)];
    let shard = shard_by(&voices);
    let until = Instant::now() + PATIENCE;
    while !shard.why_down().is_some_and(|why| why.contains("it is a replica")) {
        assert!(Instant::now() < until && !shard.is_up(), "{:?}", shard.why_down());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut replica.client()).unwrap();
    assert!(shard.wait_up(Instant::now() + PATIENCE).await, "{:?}", shard.why_down());
}
