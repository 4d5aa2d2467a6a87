//! A Redis, a Kask of its own process, two decants, and proxies between them and the tiers.

use super::{
    history::{Nanos, Value},
    proxy::{HOLD_MAX, Proxy},
    values, wire,
};
use crate::{
    etcd_server::EtcdServer,
    fleet::tables,
    redis_server::RedisServer,
    support::{Decant, utf8},
    whole::{BASE, Setup, Whole, intents},
};
use serde_json::Value as Json;
use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Mutex, MutexGuard, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const KASK_FILE: &str = "kask.redb";
pub const DECANTS: usize = 2;
/// With a shared record.
pub const FLEET: usize = 3;
/// How long decant and Kask are stopped at most. What they had taken up goes on afterwards, late.
pub const STOP_MAX: Duration = Duration::from_millis(700);
/// A copier sends nothing later than this after its intent was asked for (the product's own bound).
const COPY_WINDOW: Duration = Duration::from_millis(2_400);
/// Between the last moment at which a copier sends and the lease must be room for everything that delays it on its way: a decant
/// stopped before the send, the proxy, a Kask stopped before it applies. Else a late request could undo a newer one, against which
/// nothing is promised.
const LEASE: Duration = Duration::from_millis(5_000);
const _: () =
    assert!(LEASE.as_millis() >= COPY_WINDOW.as_millis() + 2 * STOP_MAX.as_millis() + HOLD_MAX.as_millis() + 500);

/// How the decants of a stage are set up.
#[derive(Clone, Copy)]
pub struct Make<'a> {
    /// The program.
    pub decant: &'a Path,
    pub phase: &'static str,
    pub lease: Duration,
    pub kask_timeout: Duration,
    pub redis_timeout: Duration,
    /// [`FLEET`] decants share their record in an etcd; else there are [`DECANTS`], and the first one moves.
    pub fleet: bool,
}

impl Make<'_> {
    /// From the beginning of a migration on, with times for a storm.
    pub fn for_storms(decant: &Path) -> Make<'_> {
        let (kask_timeout, redis_timeout) = (Duration::from_millis(300), Duration::from_millis(400));
        Make { decant, phase: "redis-only", lease: LEASE, kask_timeout, redis_timeout, fleet: false }
    }
}

/// The tiers, as seen from a decant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Redis,
    Kask,
}

/// What is asked of Kask, agreed between the operator, who moves, and the storm, which wipes.
#[derive(Default)]
pub struct Custody {
    /// Since when every write goes to Kask as well and stays there; none: not all do.
    pub complete_since: Option<Nanos>,
    /// Kask is about to be the store, or is: nobody may wipe it.
    pub kept: bool,
    /// It was emptied, or wiped, since the last reckoning.
    pub emptied: bool,
}

impl Tier {
    pub fn name(self) -> &'static str {
        match self {
            Tier::Redis => "Redis",
            Tier::Kask => "Kask",
        }
    }
}

struct Node {
    whole: Mutex<Whole>,
    addrs: RwLock<(SocketAddr, SocketAddr)>,
    life: AtomicU64,
    to_redis: Proxy,
    to_kask: Proxy,
    /// Of a fleet.
    to_etcd: Option<Proxy>,
}

pub struct Stage {
    redis: Mutex<RedisServer>,
    pub custody: Mutex<Custody>,
    kask: Mutex<Option<Decant>>,
    kask_addr: RwLock<SocketAddr>,
    kask_dir: TempDir,
    etcd: Option<Mutex<EtcdServer>>,
    nodes: Vec<Node>,
    lease: Duration,
    started: Instant,
    // Last: the proxies live in it.
    _runtime: Runtime,
}

impl Stage {
    /// With nothing stored. The first decant is the one that moves, unless they share their record.
    pub fn new(make: Make<'_>) -> Stage {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // What is answered has been handed to the kernel before, and outlives the process. "everysec" may hand it over later.
        let redis = RedisServer::with_flags(&["--appendonly", "yes", "--appendfsync", "no"]);
        let kask_dir = tempfile::tempdir().unwrap();
        let kask = start_kask(&kask_dir);
        let etcd = make.fleet.then(EtcdServer::start);
        let decants = if make.fleet { FLEET } else { DECANTS };
        let nodes = (0..decants).map(|_| node(make, &redis, kask.addr, etcd.as_ref(), &runtime)).collect();
        Stage {
            kask_addr: RwLock::new(kask.addr),
            kask: Mutex::new(Some(kask)),
            redis: Mutex::new(redis),
            custody: Mutex::default(),
            kask_dir,
            etcd: etcd.map(Mutex::new),
            nodes,
            lease: make.lease,
            started: Instant::now(),
            _runtime: runtime,
        }
    }

    pub fn decants(&self) -> usize {
        self.nodes.len()
    }

    pub fn lease(&self) -> Duration {
        self.lease
    }

    pub fn now(&self) -> Nanos {
        self.started.elapsed().as_nanos() as Nanos
    }

    pub fn data(&self, decant: usize) -> SocketAddr {
        self.nodes[decant].addrs.read().unwrap().0
    }

    pub fn life(&self, decant: usize) -> u64 {
        self.nodes[decant].life.load(Ordering::SeqCst)
    }

    pub fn proxy(&self, decant: usize, tier: Tier) -> &Proxy {
        match tier {
            Tier::Redis => &self.nodes[decant].to_redis,
            Tier::Kask => &self.nodes[decant].to_kask,
        }
    }

    /// Between a decant of a fleet and its etcd.
    pub fn proxy_to_etcd(&self, decant: usize) -> &Proxy {
        self.nodes[decant].to_etcd.as_ref().unwrap()
    }

    /// SIGKILL, `down`, and a new process on the same ports with the same data.
    pub fn kill_etcd(&self, down: Duration) {
        let mut etcd = self.etcd.as_ref().unwrap().lock().unwrap();
        etcd.kill();
        std::thread::sleep(down);
        etcd.restart();
    }

    /// What its admin listener says; `None` if nothing.
    pub fn admin(&self, decant: usize, method: &str, path: &str, body: &str) -> Option<(u16, Json)> {
        let admin = self.nodes[decant].addrs.read().unwrap().1;
        let reply = wire::once(admin, method, path, body.as_bytes()).ok()?;
        Some((reply.status, serde_json::from_slice(&reply.body).unwrap_or(Json::Null)))
    }

    /// The stash as a decant sees it.
    pub fn view(&self, decant: usize) -> Option<Json> {
        self.admin(decant, "GET", "/v1/stashes/echoseen", "").filter(|(status, _)| *status == 200).map(|(_, view)| view)
    }

    /// The sum of a metric's lines of which `counts` says so; `None` if it tells nothing.
    fn metric(&self, decant: usize, name: &str, counts: impl Fn(&str) -> bool) -> Option<f64> {
        let admin = self.nodes[decant].addrs.read().unwrap().1;
        let reply = wire::once(admin, "GET", "/metrics", b"").ok().filter(|reply| reply.status == 200)?;
        let text = String::from_utf8(reply.body).ok()?;
        let lines = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        Some(lines.filter(|line| counts(line)).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    /// Requests to Redis that did not end well.
    pub fn redis_failures(&self, decant: usize) -> Option<u64> {
        let failed = |line: &str| line.contains("tier=\"redis\"") && !line.contains("outcome=\"ok\"");
        Some(self.metric(decant, "decant_tier_requests_total", failed)? as u64)
    }

    /// Redis came back without writes that it had acknowledged, and this decant knows.
    pub fn tells_of_a_loss(&self, decant: usize) -> bool {
        self.metric(decant, "decant_shard_suspect", |_| true).is_some_and(|shards| shards > 0.0)
    }

    pub fn signal(&self, decant: usize, name: &str) {
        self.nodes[decant].whole.lock().unwrap().signal(name);
    }

    /// SIGKILL, and nothing in its place.
    pub fn end_decant(&self, decant: usize) {
        self.nodes[decant].whole.lock().unwrap().kill_9();
    }

    /// Every connection to the tier ends, and new ones go there; `None`: to the tier itself.
    pub fn redirect(&self, tier: Tier, to: Option<SocketAddr>) {
        let itself = match tier {
            Tier::Redis => SocketAddr::from(([127, 0, 0, 1], self.redis().port)),
            Tier::Kask => *self.kask_addr.read().unwrap(),
        };
        for decant in 0..self.decants() {
            self.proxy(decant, tier).point_at(to.unwrap_or(itself));
            self.proxy(decant, tier).cut();
        }
    }

    pub fn redis_config(&self, name: &str, value: &str) {
        let mut redis = self.redis().client();
        redis::cmd("CONFIG").arg(&["SET", name, value]).exec(&mut redis).unwrap();
    }

    /// Past decant, as MediaWiki wrote before there was one.
    pub fn put_in_redis(&self, key: usize, value: Value) {
        let mut redis = self.redis().client();
        redis::cmd("SET").arg(values::name(key)).arg(values::redis(value)).exec(&mut redis).unwrap();
    }

    /// Past decant.
    pub fn put_in_kask(&self, key: usize, value: Value) {
        let addr = *self.kask_addr.read().unwrap();
        let reply = wire::once(addr, "POST", &values::path(key), values::body(value).as_bytes()).unwrap();
        assert_eq!(reply.status, 201);
    }

    /// SIGKILL, `down`, and a new process on new ports with the same state.
    pub fn kill_decant(&self, decant: usize, down: Duration) {
        let node = &self.nodes[decant];
        let mut whole = node.whole.lock().unwrap();
        node.life.fetch_add(1, Ordering::SeqCst);
        whole.kill_9();
        std::thread::sleep(down);
        whole.restart_unserved();
        *node.addrs.write().unwrap() = (whole.data, whole.admin);
    }

    pub fn redis(&self) -> MutexGuard<'_, RedisServer> {
        self.redis.lock().unwrap()
    }

    /// SIGKILL, `down`, and a new process on the same port with everything that was ever answered.
    pub fn kill_redis(&self, down: Duration) {
        let mut redis = self.redis();
        redis.kill();
        std::thread::sleep(down);
        redis.restart();
    }

    pub fn signal_kask(&self, name: &str) {
        self.kask.lock().unwrap().as_ref().unwrap().signal(name);
    }

    /// SIGKILL, `down`, and a new process with the same data. The proxies find it.
    pub fn kill_kask(&self, down: Duration) {
        self.replace_kask(down, || {});
    }

    /// The same, but its data is gone; `false` if Kask must be kept now.
    pub fn wipe_kask(&self, down: Duration) -> bool {
        let mut custody = self.custody.lock().unwrap();
        if custody.kept {
            return false;
        }
        self.replace_kask(down, || std::fs::remove_file(self.kask_dir.path().join(KASK_FILE)).unwrap());
        custody.emptied = true;
        custody.complete_since = custody.complete_since.map(|_| self.now());
        true
    }

    fn replace_kask(&self, down: Duration, meanwhile: impl FnOnce()) {
        let mut kask = self.kask.lock().unwrap();
        kask.take().unwrap().kill_9();
        meanwhile();
        std::thread::sleep(down);
        let new = start_kask(&self.kask_dir);
        *self.kask_addr.write().unwrap() = new.addr;
        for node in &self.nodes {
            node.to_kask.point_at(new.addr);
        }
        *kask = Some(new);
    }

    /// SIGCONT, unless it overslept on a busy machine: then what it had taken up must not go on.
    pub fn cont_decant(&self, decant: usize, stopped: Instant) {
        if stopped.elapsed() > STOP_MAX + Duration::from_millis(100) {
            self.kill_decant(decant, Duration::ZERO);
        } else {
            self.signal(decant, "CONT");
        }
    }

    /// As [`Stage::cont_decant`].
    pub fn cont_kask(&self, stopped: Instant) {
        if stopped.elapsed() > STOP_MAX + Duration::from_millis(100) {
            self.kill_kask(Duration::ZERO);
        } else {
            self.signal_kask("CONT");
        }
    }

    /// Straight to Kask, past decant and the proxies: the value, or that there is none. `None`: no answer.
    pub fn kask_holds(&self, key: usize) -> Option<Option<Vec<u8>>> {
        let reply = wire::once(*self.kask_addr.read().unwrap(), "GET", &values::path(key), b"").ok()?;
        match reply.status {
            200 => Some(Some(reply.body)),
            404 => Some(None),
            _ => None,
        }
    }

    /// Empties Kask of every key of the bench; whether that surely happened.
    pub fn empty_kask(&self) -> bool {
        self.custody.lock().unwrap().emptied = true;
        (0..values::KEYS).all(|key| {
            let addr = *self.kask_addr.read().unwrap();
            wire::once(addr, "DELETE", &values::path(key), b"").is_ok_and(|reply| reply.status == 204)
        })
    }

    pub fn redis_holds(&self, key: usize) -> Option<Vec<u8>> {
        redis::cmd("GET").arg(values::name(key)).query(&mut self.redis().client()).unwrap()
    }

    /// Why it is not quiet yet: something is under way or pending somewhere. `None`: nothing is.
    pub fn unrest(&self) -> Option<String> {
        let mut versions = Vec::new();
        for (decant, node) in self.nodes.iter().enumerate() {
            for (tier, proxy) in [("Redis", &node.to_redis), ("Kask", &node.to_kask)] {
                if proxy.holds() {
                    return Some(format!("the proxy between decant {decant} and {tier} holds something"));
                }
            }
            let Some(view) = self.view(decant) else { return Some(format!("decant {decant} tells nothing")) };
            if view["in_flight"] != 0 || view["state"] != "settled" {
                let (flight, state) = (&view["in_flight"], &view["state"]);
                return Some(format!("decant {decant}: {flight} operations under way, the last move is {state}"));
            }
            versions.push(view["version"].clone());
        }
        if versions.windows(2).any(|pair| pair[0] != pair[1]) {
            return Some(format!("the decants believe in versions {versions:?}"));
        }
        match intents(&self.redis()) {
            0 => None,
            open => Some(format!("{open} intents are open")),
        }
    }
}

fn node(make: Make<'_>, redis: &RedisServer, kask: SocketAddr, etcd: Option<&EtcdServer>, runtime: &Runtime) -> Node {
    let to_etcd = etcd.map(|etcd| Proxy::before(SocketAddr::from(([127, 0, 0, 1], etcd.port)), runtime));
    let to_redis = Proxy::before(SocketAddr::from(([127, 0, 0, 1], redis.port)), runtime);
    let to_kask = Proxy::before(kask, runtime);
    let setup = Setup {
        decant: make.decant.to_owned(),
        redis_url: format!("redis://{}/0", to_redis.addr),
        redis: format!("timeout_ms = {}\n", make.redis_timeout.as_millis()),
        kask_url: Some(format!("http://{}{BASE}", to_kask.addr)),
        // Kask is made to fail all the time here.
        stash: "guards.kask_errors_max = 1.0".to_owned(),
        lease_ms: make.lease.as_millis() as u64,
        kask_timeout_ms: make.kask_timeout.as_millis() as u64,
        tables: to_etcd.as_ref().map_or_else(String::new, |proxy| tables(&format!("http://{}", proxy.addr))),
        ..Setup::new(redis, make.phase)
    };
    let whole = Whole::start(&setup);
    let addrs = RwLock::new((whole.data, whole.admin));
    Node { whole: Mutex::new(whole), addrs, life: AtomicU64::new(0), to_redis, to_kask, to_etcd }
}

fn start_kask(dir: &TempDir) -> Decant {
    let data = dir.path().join(KASK_FILE);
    let mut command = Command::new(env!("CARGO_BIN_EXE_decant"));
    command.args(["kask", "--listen", "127.0.0.1:0", "--data", utf8(&data), "--base-uri", BASE]);
    command.args(["--default-ttl", "31536000"]).env("RUST_LOG", "error");
    Decant::start_command(command)
}
