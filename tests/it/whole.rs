//! The whole product as a process: `decant serve` on a real Redis and a Kask, asked over its two listeners.

use crate::{
    redis_server::RedisServer,
    support::{Decant, Raw, ask, exchange, kib, utf8},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than anything here takes; reaching it is a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const BASE: &str = "/echoseen/v1/";
const KASK_FILE: &str = "kask.redb";

/// How a decant is to be set up.
#[derive(Clone)]
pub struct Setup {
    /// The program: a mutated one, perhaps.
    pub decant: PathBuf,
    pub redis_url: String,
    /// Names of the shards, and the lines of each; none: one, at `redis_url`.
    pub shards: Vec<(String, String)>,
    /// More lines for `[stash.echoseen.redis]`.
    pub redis: String,
    /// `None`: embedded.
    pub kask_url: Option<String>,
    /// `None`: beside the configuration.
    pub state_dir: Option<std::path::PathBuf>,
    pub phase: &'static str,
    pub serialization: &'static str,
    pub hmac_key: Option<String>,
    pub lease_ms: u64,
    pub kask_timeout_ms: u64,
    /// More lines for `[stash.echoseen]`.
    pub stash: String,
    /// More lines for `[stash.echoseen.outbox]`.
    pub outbox: String,
    /// Lines for `[limits]`.
    pub limits: String,
    /// More lines for `[admin]`.
    pub admin: String,
    /// More lines, with their own tables.
    pub tables: String,
}

impl Setup {
    pub fn new(redis: &RedisServer, phase: &'static str) -> Setup {
        Setup {
            decant: env!("CARGO_BIN_EXE_decant").into(),
            redis_url: redis.url(),
            shards: Vec::new(),
            redis: String::new(),
            kask_url: None,
            state_dir: None,
            phase,
            serialization: "json",
            hmac_key: None,
            lease_ms: 1_500,
            kask_timeout_ms: 500,
            stash: String::new(),
            outbox: String::new(),
            limits: String::new(),
            admin: String::new(),
            tables: String::new(),
        }
    }

    /// `kask-only` after Redis is gone for good: no `[redis]` at all.
    pub fn without_redis() -> Setup {
        Setup {
            decant: env!("CARGO_BIN_EXE_decant").into(),
            redis_url: String::new(),
            shards: Vec::new(),
            redis: String::new(),
            kask_url: None,
            state_dir: None,
            phase: "kask-only",
            serialization: "json",
            hmac_key: None,
            lease_ms: 1_500,
            kask_timeout_ms: 500,
            stash: String::new(),
            outbox: String::new(),
            limits: String::new(),
            admin: String::new(),
            tables: String::new(),
        }
    }

    /// With a Kask of its own process.
    pub fn with_kask(self, kask: &Kask) -> Setup {
        Setup { kask_url: Some(kask.url()), ..self }
    }

    /// On several servers, as `shard01`, `shard02` and so on, which is also what is hashed.
    pub fn with_shards(self, servers: &[&RedisServer], distribution: &str) -> Setup {
        let shards = servers
            .iter()
            .enumerate()
            .map(|(i, server)| (format!("shard{:02}", i + 1), format!("url = \"{}\"\n", server.url())));
        let redis = format!("{}distribution = \"{distribution}\"\n", self.redis);
        Setup { shards: shards.collect(), redis, ..self }
    }

    fn config(&self, dir: &TempDir) -> String {
        let kask = match &self.kask_url {
            None => "embedded = true".to_owned(),
            Some(url) => format!("url = \"{url}\""),
        };
        let hmac = self.hmac_key.as_ref().map_or_else(String::new, |key| {
            let path = dir.path().join("hmac.key");
            std::fs::write(&path, key).unwrap();
            format!("hmac_key_file = \"{}\"", path.display())
        });
        let redis = match (self.redis_url.as_str(), self.shards.as_slice()) {
            ("", []) => String::new(),
            (url, []) => format!("[stash.echoseen.redis]\nurl = \"{url}\"\n{}", self.redis),
            (_, shards) => {
                let of = |(name, lines): &(String, String)| format!("[stash.echoseen.redis.shards.{name}]\n{lines}");
                format!("[stash.echoseen.redis]\n{}{}", self.redis, shards.iter().map(of).collect::<String>())
            }
        };
        let soak = if self.stash.contains("guards.soak_s") { "" } else { "guards.soak_s = 0" };
        format!(
            "listen = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{}\n[limits]\n{}\n[stash.echoseen]\nbase_uri = \"{BASE}\"\n\
             phase = \"{}\"\nserialization = \"{}\"\n{hmac}\ndefault_ttl = 31536000\n{soak}\n{}\n[stash.echoseen.kask]\n{kask}\ntimeout_ms = {}\n\
             {redis}[stash.echoseen.outbox]\nlease_ms = {}\nallow_short_lease = true\n{}\n{}",
            self.state_dir.clone().unwrap_or_else(|| dir.path().join("state")).display(),
            self.admin,
            self.limits,
            self.phase,
            self.serialization,
            self.stash,
            self.kask_timeout_ms,
            self.lease_ms,
            self.outbox,
            self.tables,
        )
    }
}

/// A running `decant serve`. Killed when dropped.
pub struct Whole {
    program: PathBuf,
    child: Child,
    pub data: SocketAddr,
    pub admin: SocketAddr,
    pub dir: TempDir,
    /// What it wrote to standard output, line by line, over all its lives.
    pub log: Arc<Mutex<Vec<String>>>,
}

impl Whole {
    pub fn start(setup: &Setup) -> Whole {
        let whole = Whole::start_unserved(setup);
        whole.wait_served();
        // The first fence is a move of its own.
        wait_until("the first start has settled", || whole.phase()["state"] == "settled");
        whole
    }

    /// Does not wait for an answer that is no 503: the tiers may be away.
    pub fn start_unserved(setup: &Setup) -> Whole {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("proxy.toml"), setup.config(&dir)).unwrap();
        let log = Arc::default();
        let (child, data, admin) = spawn(&setup.decant, &dir, &log);
        Whole { program: setup.decant.clone(), child, data, admin, dir, log }
    }

    /// As `kill -9`.
    pub fn kill_9(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// The same config and state again, on new ports.
    pub fn restart(&mut self) {
        self.restart_unserved();
        self.wait_served();
    }

    /// As [`Whole::restart`], but the tiers may be away.
    pub fn restart_unserved(&mut self) {
        (self.child, self.data, self.admin) = spawn(&self.program, &self.dir, &self.log);
    }

    /// Until it serves: the phase is confirmed.
    fn wait_served(&self) {
        wait_until("decant serves", || ask(self.data, "GET", &format!("{BASE}decant-is-there"), b"").status() != 503);
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// As [`Decant::kib`].
    pub fn kib(&self, name: &str) -> u64 {
        kib(self.child.id(), name)
    }

    /// Waits for its end; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("decant ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    pub fn get(&self, key: &str) -> Raw {
        ask(self.data, "GET", &format!("{BASE}{key}"), b"")
    }

    pub fn set(&self, key: &str, body: &str) -> Raw {
        ask(self.data, "POST", &format!("{BASE}{key}"), body.as_bytes())
    }

    pub fn delete(&self, key: &str) -> Raw {
        ask(self.data, "DELETE", &format!("{BASE}{key}"), b"")
    }

    /// Status and body, for short comparisons.
    pub fn got(&self, key: &str) -> (u16, String) {
        let raw = self.get(key);
        (raw.status(), if raw.status() == 200 { raw.text() } else { String::new() })
    }

    /// The admin listener answers only to its own name: a page from elsewhere must not reach it through a name of its own.
    pub fn ask_admin(&self, path: &str) -> Raw {
        exchange(self.admin, format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.admin))
    }

    pub fn admin_get(&self, path: &str) -> Value {
        let raw = self.ask_admin(path);
        serde_json::from_slice(&raw.body).unwrap_or_else(|e| panic!("{path}: {} {e}: {}", raw.status(), raw.text()))
    }

    /// The record: phase, version, state, …
    pub fn phase(&self) -> Value {
        let told = self.admin_get("/v1/stashes/echoseen/phase");
        told.get("record").cloned().unwrap_or(told)
    }

    /// A request with a JSON body.
    pub fn admin_send(&self, method: &str, path: &str, body: &str) -> Raw {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.admin,
            body.len()
        );
        exchange(self.admin, request)
    }

    /// Asks for a move; status and answer.
    pub fn ask_move(&self, to: &str, more: Value) -> (u16, Value) {
        let mut body = json!({ "to": to, "reason": "a test", "by": "test" });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let raw = self.admin_send("PUT", "/v1/stashes/echoseen/phase", &body.to_string());
        (raw.status(), serde_json::from_slice(&raw.body).unwrap_or(Value::Null))
    }

    /// Copies everything to Kask and compares it, as the step to `redis-standby` wants it done.
    pub fn copy_and_compare(&self) {
        self.copy();
        let report = self.compare();
        assert_eq!(report["complete"], true, "{report:#}");
    }

    pub fn copy(&self) {
        let path = "/v1/stashes/echoseen/backfill";
        let begun = self.admin_send("POST", path, "{}");
        assert_eq!(begun.status(), 201, "{}", begun.text());
        wait_until("the backfill has finished", || self.admin_get(path)["state"] == "finished");
    }

    /// The report.
    pub fn compare(&self) -> Value {
        let path = "/v1/stashes/echoseen/verify";
        let begun = self.admin_send("POST", path, "{}");
        assert_eq!(begun.status(), 202, "{}", begun.text());
        let mut view = Value::Null;
        wait_until("verify has ended", || {
            view = self.admin_get(path);
            view["running"].is_null()
        });
        view["report"].take()
    }

    /// Moves, and waits until the move has settled.
    pub fn move_to(&self, to: &str) {
        self.begin_move(to, json!({}));
        self.wait_settled(to);
    }

    /// A Redis that came back holds a step up for a lease: what was under way then may still arrive in Kask.
    pub fn wait_no_shard_came_back(&self, to: &str) {
        wait_until("no shard came back a moment ago", || {
            let (_, told) = self.ask_move(to, json!({ "dry_run": true }));
            let guards = told["guards"].as_array().cloned().unwrap_or_default();
            guards.iter().any(|guard| guard["name"] == "no_shard_suspect" && guard["ok"] == true)
        });
    }

    pub fn begin_move(&self, to: &str, more: Value) {
        let (status, told) = self.ask_move(to, more);
        assert_eq!(status, 200, "the move to {to}: {told:#}");
    }

    pub fn wait_settled(&self, phase: &str) {
        wait_until(&format!("{phase} settles"), || {
            let record = self.phase();
            record["phase"] == phase && record["state"] == "settled"
        });
    }

    /// Every sample of `/metrics`: `name{labels}` to value.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.ask_admin("/metrics").text();
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    /// The sum of all samples of a metric that carry all of these `label="value"` texts.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let begins = format!("{name}{{");
        let metrics = self.metrics();
        let fits = |sample: &str| {
            (sample == name || sample.starts_with(&begins)) && labels.iter().all(|label| sample.contains(label))
        };
        metrics.iter().filter(|(sample, _)| fits(sample)).map(|(_, value)| value).sum()
    }

    /// Until nothing is pending: every intent is settled.
    pub fn wait_drained(&self, redis: &RedisServer) {
        wait_until("the outbox drains", || intents(redis) == 0);
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap();
            eprintln!("decant's last log lines:\n{}", log[log.len().saturating_sub(40)..].join("\n"));
        }
    }
}

fn spawn(program: &Path, dir: &TempDir, log: &Arc<Mutex<Vec<String>>>) -> (Child, SocketAddr, SocketAddr) {
    let mut command = Command::new(program);
    command.args(["serve", "--announce", "--config", utf8(&dir.path().join("proxy.toml"))]);
    // What tells the tests what to do is not decant's, and it refuses what it does not know.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DECANT_")) {
        command.env_remove(name);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, log) = (BufReader::new(child.stdout.take().unwrap()), log.clone());
    std::thread::spawn(move || out.lines().map_while(Result::ok).for_each(|line| log.lock().unwrap().push(line)));
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
        let rest: String = err.by_ref().lines().map_while(Result::ok).collect::<Vec<_>>().join("\n");
        panic!("decant does not start: {line}{rest}")
    });
    std::thread::spawn(move || err.lines().map_while(Result::ok).for_each(|line| eprintln!("decant: {line}")));
    let addr = |which: &str| ready["listening"][which].as_str().unwrap().parse().unwrap();
    (child, addr("data"), addr("admin"))
}

/// A Kask of its own: `decant kask`.
pub struct Kask {
    pub process: Option<Decant>,
    dir: TempDir,
    pub addr: SocketAddr,
}

impl Kask {
    pub fn start() -> Kask {
        let dir = tempfile::tempdir().unwrap();
        let process = kask(&dir, "127.0.0.1:0");
        Kask { addr: process.addr, process: Some(process), dir }
    }

    pub fn url(&self) -> String {
        format!("http://{}{BASE}", self.addr)
    }

    /// As `kill -9`.
    pub fn kill_9(&mut self) {
        self.process.take().unwrap().kill_9();
    }

    /// On the same port, with the same data.
    pub fn restart(&mut self) {
        self.process = Some(kask(&self.dir, &self.addr.to_string()));
    }

    /// As [`Kask::kill_9`] and [`Kask::restart`], and nothing of what it held is left.
    pub fn wipe(&mut self) {
        self.kill_9();
        std::fs::remove_file(self.dir.path().join(KASK_FILE)).unwrap();
        self.restart();
    }

    /// SIGSTOP: it takes connections and says nothing.
    pub fn hang(&self) {
        self.process.as_ref().unwrap().stop();
    }

    pub fn go_on(&self) {
        self.process.as_ref().unwrap().signal("CONT");
    }

    /// What it holds, past decant.
    pub fn holds(&self, key: &str) -> Option<String> {
        let raw = ask(self.addr, "GET", &format!("{BASE}{key}"), b"");
        (raw.status() == 200).then(|| raw.text())
    }

    /// Past decant.
    pub fn remove(&self, key: &str) {
        assert_eq!(ask(self.addr, "DELETE", &format!("{BASE}{key}"), b"").status(), 204);
    }

    pub fn put(&self, key: &str, body: &str) {
        assert_eq!(ask(self.addr, "POST", &format!("{BASE}{key}"), body.as_bytes()).status(), 201);
    }
}

fn kask(dir: &TempDir, listen: &str) -> Decant {
    let data = dir.path().join(KASK_FILE);
    Decant::start(["kask", "--listen", listen, "--data", utf8(&data), "--base-uri", BASE, "--default-ttl", "31536000"])
}

/// What Redis holds, past decant.
pub fn redis_holds(redis: &RedisServer, key: &str) -> Option<String> {
    redis::cmd("GET").arg(key).query(&mut redis.client()).unwrap()
}

pub fn redis_set(redis: &RedisServer, key: &str, value: impl AsRef<[u8]>) {
    redis::cmd("SET").arg(key).arg(value.as_ref()).exec(&mut redis.client()).unwrap();
}

/// Open intents of the stash.
pub fn intents(redis: &RedisServer) -> u64 {
    let count = |name: &str| -> u64 {
        redis::cmd("ZCARD").arg(format!("decant|echoseen|{name}")).query(&mut redis.client()).unwrap()
    };
    count("to-kask") + count("to-redis")
}

/// Asks again and again until it holds: an event to wait for, not a length of time.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
