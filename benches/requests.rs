//! One request at a time through a stash, in each phase, over a real Redis and a real Kask on loopback: what the protocol costs
//! in round trips and work, without the listener in front. Needs redis-server.
//!
//!     cargo bench --bench requests
//!     cargo bench --bench requests -- kask-first      one phase
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use decant::{
    app::{build, state_dir::StateDir},
    codec::{key::Key, transcode::Transcoder},
    config::{Config, Sources},
    dialect::{Answer, Context, KeyValue, Operation, Verb},
    http::Room,
    phase::Phase,
    stash::{Stash, mover::Mover},
    telemetry::metrics,
};
use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const PATIENCE: Duration = Duration::from_secs(10);
const VALUE: &str = "JSON..\"20260101000000\"";

/// A redis-server of one's own; gone when dropped.
struct RedisServer {
    child: Child,
    port: u16,
}

impl RedisServer {
    fn start(dir: &Path) -> RedisServer {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let port = free.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .current_dir(dir)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts; it is needed here: apt-get install redis-server");
        RedisServer { child, port }
    }

    fn connect(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/0", self.port)).expect("a URL");
        let begun = Instant::now();
        loop {
            match client.get_connection() {
                Ok(connection) => return connection,
                Err(fault) => assert!(begun.elapsed() < PATIENCE, "redis-server does not answer: {fault}"),
            }
            std::thread::sleep(Duration::from_millis(2)); // between two tries, not in place of them
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stash in one phase, at work over both tiers.
struct Stage {
    stash: Arc<Stash>,
    redis: redis::Connection,
    stop: CancellationToken,
    // Dropped last, in this order.
    runtime: Runtime,
    _server: RedisServer,
    _dir: TempDir,
}

impl Stage {
    fn new(phase: Phase) -> Stage {
        let dir = tempfile::tempdir().expect("a directory");
        let server = RedisServer::start(dir.path());
        let redis = server.connect();
        let config = config(dir.path(), phase, server.port);
        let runtime = Runtime::new().expect("a runtime");
        let stop = CancellationToken::new();
        let mover = runtime.block_on(open(&config, &stop));
        Stage { stash: mover.stash().clone(), redis, stop, runtime, _server: server, _dir: dir }
    }

    fn ask(&self, key: &Key, verb: Verb) -> Answer {
        self.runtime.block_on(ask(&self.stash, key, verb))
    }

    fn set(&self, key: &Key) {
        let body = VALUE.into();
        assert_eq!(self.ask(key, Verb::Set { body, only_if_absent: false }), Answer::Stored);
    }

    /// Puts a value into Redis alone, as MediaWiki did before there was a Kask.
    fn seed_redis(&mut self, key: &Key) {
        let transcoder = Transcoder::new(decant::codec::transcode::Serialization::Json, None);
        let value = transcoder.to_redis(VALUE.as_bytes());
        redis::cmd("SET").arg(key.as_bytes()).arg(value).exec(&mut self.redis).expect("Redis takes it");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn config(dir: &Path, phase: Phase, redis_port: u16) -> Config {
    let path = dir.join("proxy.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[stash.echoseen]\n\
         base_uri = \"/echoseen/v1/\"\nphase = \"{phase}\"\nserialization = \"json\"\ndefault_ttl = 0\n\
         shadow_share = 0.0\n[stash.echoseen.kask]\nembedded = true\n[stash.echoseen.redis]\n\
         url = \"redis://127.0.0.1:{redis_port}/0\"\n",
        dir.join("state").display()
    );
    std::fs::write(&path, text).expect("a config file");
    let sources = Sources { file: Some(path), environment: Vec::new(), flags: Vec::new() };
    decant::config::load(sources).expect("the config is right").config
}

/// The stash as `decant serve` builds and starts it, its phase confirmed and settled.
async fn open(config: &Config, stop: &CancellationToken) -> Arc<Mover> {
    let state = StateDir::open(&config.state_dir).expect("a state_dir");
    let room = Room::new(config.limits.held_bytes_max, config.limits.body_bytes_max);
    let built = build::stash(&config.stashes[0], config, &state, &TaskTracker::new(), &room).await.expect("a stash");
    build::start(&built.mover, &built.backfill, stop);
    let begun = Instant::now();
    while !(built.mover.stash().is_confirmed() && built.mover.stash().site.belief().settled) {
        assert!(begun.elapsed() < PATIENCE, "the first start does not settle");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    built.mover
}

async fn ask(stash: &Stash, key: &Key, verb: Verb) -> Answer {
    stash.call(Operation { key: key.clone(), verb, context: Context::default() }).await
}

fn requests(c: &mut Criterion) {
    // As in `decant serve`: counting is part of what a request costs.
    static RECORDER: LazyLock<metrics::MetricsHandle> = LazyLock::new(metrics::install);
    LazyLock::force(&RECORDER);
    for phase in Phase::ALL {
        let mut stage = Stage::new(phase);
        let mut group = c.benchmark_group(phase.name());
        // A write to Kask waits for the disk: fewer and shorter runs say as much.
        group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
        get_hit(&mut group, &stage);
        get_miss(&mut group, &mut stage);
        post(&mut group, &stage);
        delete(&mut group, &stage);
        group.finish();
    }
}

fn get_hit(group: &mut BenchmarkGroup<'_, WallTime>, stage: &Stage) {
    let key = Key::from_bytes("hit");
    stage.set(&key);
    group.bench_function("GET hit", |b| {
        b.to_async(&stage.runtime).iter(async || {
            let answer = ask(&stage.stash, &key, Verb::Get { latest: false }).await;
            assert!(matches!(answer, Answer::Hit { .. }), "{answer:?}");
        });
    });
}

/// Kask has nothing; where the phase says so Redis is asked next, has the value, and it is copied to Kask: each key once.
fn get_miss(group: &mut BenchmarkGroup<'_, WallTime>, stage: &mut Stage) {
    let falls_back = stage.stash.site.belief().phase() == Phase::KaskFirst;
    let mut next = 0;
    group.bench_function(if falls_back { "GET Kask misses, Redis hits" } else { "GET miss" }, |b| {
        b.iter_custom(|count| {
            let mut took = Duration::ZERO;
            for _ in 0..count {
                next += 1;
                let key = Key::from_bytes(format!("missed:{next}"));
                if falls_back {
                    stage.seed_redis(&key);
                }
                let begun = Instant::now();
                let answer = stage.ask(&key, Verb::Get { latest: false });
                took += begun.elapsed();
                assert_eq!(matches!(answer, Answer::Hit { .. }), falls_back, "{answer:?}");
            }
            took
        });
    });
}

fn post(group: &mut BenchmarkGroup<'_, WallTime>, stage: &Stage) {
    let key = Key::from_bytes("posted");
    group.bench_function("POST", |b| b.iter(|| stage.set(&key)));
}

fn delete(group: &mut BenchmarkGroup<'_, WallTime>, stage: &Stage) {
    let key = Key::from_bytes("deleted");
    group.bench_function("DELETE", |b| b.iter(|| assert_eq!(stage.ask(&key, Verb::Delete), Answer::Deleted)));
}

criterion_group!(benches, requests);
criterion_main!(benches);
