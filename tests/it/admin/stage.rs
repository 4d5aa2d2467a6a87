//! What the tests stand on: one Redis, one embedded Kask, and any number of decants over them.

use crate::redis_server::RedisServer;
use decant::{
    admin::{Admin, AdminParts, Managed},
    backfill::{Backfill, BackfillSettings},
    codec::{
        key::{KEY_BYTES_MAX, Key},
        transcode::{Serialization as Codec, Transcoder},
    },
    config::{
        AfterLoss, Distribution, GuardsConfig, KaskConfig, KaskEndpoint, OnTierFailure, OutboxConfig, RedisConfig,
        RedisUrl as ConfigUrl, Replication, Secret, Serialization, ShardConfig, StashConfig,
    },
    dialect::{About, Answer, Context, KeyValue as _, Operation, Verb},
    fleet::FileStore,
    http::{Limits, serve},
    kask_server::{self, RedbStore},
    outbox::{Outbox, OutboxSettings},
    phase::{Phase, file::RecordFile, record::State},
    protocol::{Belief, Beliefs, Fence},
    stash::{Alone, Stash, StashMetrics, StashParts, Tiers, mover::Mover},
    tier::{
        kask::KaskTier,
        redis::{RedisUrl, Shard},
        shards::{ShardMap, ShardPlace},
    },
    verify::Verifier,
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Nothing here takes longer on a slow machine.
const WITHIN: Duration = Duration::from_secs(30);
pub const BASE: &str = "/echoseen/v1/";

pub struct Stage {
    pub redis: RedisServer,
    pub kask_url: String,
    pub dir: TempDir,
    stop: CancellationToken,
}

/// One decant's differences.
pub struct Options {
    pub member: &'static str,
    pub phase: Phase,
    pub token: Option<&'static str>,
    /// Without, the outbox is never looked at, and no move settles.
    pub looks: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { member: "first", phase: Phase::KaskFirst, token: None, looks: true }
    }
}

impl Stage {
    pub async fn start() -> Stage {
        let redis = tokio::task::spawn_blocking(RedisServer::start).await.unwrap();
        let (dir, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let store = RedbStore::open(&dir.path().join("kask.redb")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = kask_server::Options::new(BASE.parse().unwrap(), 0);
        let running = kask_server::spawn(listener, Arc::new(store), options, stop.clone()).unwrap();
        Stage { redis, kask_url: format!("http://{}{BASE}", running.addr), dir, stop }
    }

    pub fn state(&self, member: &str) -> PathBuf {
        self.dir.path().join(member)
    }

    /// A decant with its tasks running; its state is kept under its member's name.
    pub async fn decant(&self, options: Options) -> Decant {
        let (stop, tasks) = (self.stop.child_token(), TaskTracker::new());
        let state = self.state(options.member);
        let mover = mover(&self.redis.url(), &self.kask_url, &state, &options, &tasks);
        tasks.spawn(mover.clone().run(stop.clone()));
        if options.looks {
            tasks.spawn(mover.stash().clone().watch_shard(0, stop.clone()));
        }
        let settings =
            BackfillSettings { limits: Default::default(), harmless: Duration::from_secs(1), default_ttl_s: 3600 };
        let backfill = Backfill::open(mover.clone(), &state, settings);
        tasks.spawn(backfill.clone().run(stop.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let verifier = Verifier::open(mover.clone(), &state, KEY_BYTES_MAX, stop.clone(), tasks.clone());
        let admin = Admin::new(AdminParts {
            stashes: vec![Managed { mover: mover.clone(), backfill, verifier }],
            metrics: Arc::new(|| "decant_test 1\n".to_owned()),
            token: options.token.map(Secret::new),
            about: About::this_build(),
        });
        let limits = Limits { drain_timeout: Duration::from_millis(100), ..Limits::default() };
        let serving = stop.clone();
        tasks.spawn(async move {
            serve(listener, admin, limits, serving).await;
        });
        Decant { mover, url, stop, tasks, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn config(redis: &str, kask: &str, phase: Phase) -> StashConfig {
    StashConfig {
        name: "echoseen".into(),
        base_uri: BASE.parse().unwrap(),
        phase,
        serialization: Serialization::Json,
        hmac_key: None,
        default_ttl_s: 3600,
        replication: Replication::Sync,
        on_tier_failure: OnTierFailure::Heal,
        shadow_share: 0.0,
        guards: GuardsConfig::UNSOAKED,
        kask: KaskConfig { endpoint: KaskEndpoint::Url(kask.to_owned()), timeout: Duration::from_millis(1200) },
        redis: Some(RedisConfig {
            shards: vec![ShardConfig::at_url("main", ConfigUrl::without_credentials(redis))],
            distribution: Distribution::Single,
            prefix: String::new(),
            timeout: Duration::from_millis(400),
            after_loss: AfterLoss::Serve,
        }),
        backfill: Default::default(),
        outbox: OutboxConfig::default(),
    }
}

/// A stash and its mover, from the parts.
fn mover(redis: &str, kask: &str, state: &Path, options: &Options, tasks: &TaskTracker) -> Arc<Mover> {
    let config = config(redis, kask, options.phase);
    let url = RedisUrl::parse(redis).unwrap();
    let map = ShardMap::new(Distribution::Single, vec![ShardPlace::named("main")], "").unwrap();
    let digest = map.digest().to_owned();
    let settings = OutboxSettings { ttl_s: 3600, lease_ms: 15_000, tries_max: 5, look_max: 10_000 };
    let transcoder = Arc::new(Transcoder::new(Codec::Json, None));
    let shard = Arc::new(Shard::new("main", url, "echoseen"));
    let outbox = Arc::new(Outbox::new(vec![shard], map, "echoseen", transcoder, settings));
    let metrics = Arc::new(StashMetrics::new("echoseen"));
    let unconfirmed = Fence {
        version: 0,
        phase: options.phase,
        stash: "echoseen".into(),
        shards: digest,
        member: "nobody".into(),
        ahead: None,
    };
    let parts = StashParts {
        tiers: Tiers {
            room: decant::http::Room::new(0, 1024 * 1024),
            outbox: Some(outbox),
            kask: Arc::new(KaskTier::new(kask, Duration::from_millis(1200), "echoseen").unwrap()),
            alone: Arc::new(Alone::open(state, "echoseen", metrics.mirror_unclean.clone()).unwrap()),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            started: Instant::now(),
            redis_timeout: Duration::from_millis(400),
        },
        metrics,
        beliefs: Beliefs::new(Belief::new(unconfirmed, false, false), options.member),
        shards: 1,
        places_max: 100,
        tasks: tasks.clone(),
        store: "file",
    };
    let file = RecordFile::new(state, "echoseen");
    let store = FileStore::open(file).unwrap();
    Mover::new(Stash::new(&config, parts), store, options.member.to_owned(), options.phase)
}

/// One decant at work.
pub struct Decant {
    pub mover: Arc<Mover>,
    pub url: String,
    stop: CancellationToken,
    tasks: TaskTracker,
    http: reqwest::Client,
}

/// An answer, read whole.
pub struct Got {
    pub status: u16,
    headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Decant {
    /// Everything of it has ended, and its record is for the next one.
    pub async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Got {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Got { status, headers, text: answer.text().await.unwrap() }
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    pub async fn get(&self, path: &str) -> Got {
        self.send(self.request("GET", path)).await
    }

    pub async fn get_with(&self, path: &str, authorization: Option<&str>) -> Got {
        let request = self.request("GET", path);
        self.send(authorization.into_iter().fold(request, |request, sent| request.header("authorization", sent))).await
    }

    pub async fn get_as_host(&self, path: &str, host: &str) -> Got {
        self.send(self.request("GET", path).header("host", host)).await
    }

    /// Copies everything to Kask and compares it, as the step to `redis-standby` wants it done.
    pub async fn copy_and_compare(&self) {
        for (what, status) in [("backfill", 201), ("verify", 202)] {
            let path = format!("/v1/stashes/echoseen/{what}");
            let begun = self.send(self.request("POST", &path).json(&serde_json::json!({}))).await;
            assert_eq!(begun.status, status, "{}", begun.text);
            let ended = |view: &Value| view["state"] == "finished" || view.get("running").is_some_and(Value::is_null);
            self.until(&path, ended).await;
        }
    }

    pub async fn put(&self, body: &Value) -> Got {
        self.put_with(body, None).await
    }

    pub async fn put_with(&self, body: &Value, authorization: Option<&str>) -> Got {
        let request = self.request("PUT", "/v1/stashes/echoseen/phase").json(body);
        self.send(authorization.into_iter().fold(request, |request, sent| request.header("authorization", sent))).await
    }

    /// Asks until the page is as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Got {
        let begun = Instant::now();
        loop {
            let got = self.get(path).await;
            if wanted(&got.json()) {
                return got;
            }
            assert!(begun.elapsed() < WITHIN, "{path} stays {}", got.text);
            tokio::time::sleep(Duration::from_millis(5)).await; // between two questions
        }
    }

    pub async fn settled(&self) -> Value {
        self.until("/v1/stashes/echoseen/phase", |phase| phase["state"] == "settled").await.json()
    }

    /// Without asking the listener.
    pub async fn has_settled(&self) {
        let begun = Instant::now();
        while self.mover.shown().is_none_or(|record| record.state != State::Settled) {
            assert!(begun.elapsed() < WITHIN, "it does not settle");
            tokio::time::sleep(Duration::from_millis(5)).await; // between two looks
        }
    }

    async fn operation(&self, key: &str, verb: Verb) -> Answer {
        let context = Context { request_id: "test".into(), ..Context::default() };
        self.mover.stash().call(Operation { key: Key::from_bytes(key.to_owned()), verb, context }).await
    }

    pub async fn read(&self, key: &str) -> Answer {
        self.operation(key, Verb::Get { latest: false }).await
    }

    pub async fn write(&self, key: &str, body: &str) {
        let verb = Verb::Set { body: body.to_owned().into(), only_if_absent: false };
        assert_eq!(self.operation(key, verb).await, Answer::Stored);
    }

    pub async fn inspect(&self, key: &str) -> Value {
        let url = Key::from_bytes(key.to_owned()).to_url();
        self.get(&format!("/v1/stashes/echoseen/keys/{url}")).await.json()
    }
}

/// Commands in one line.
pub trait Request {
    fn req(&mut self, command: &str, args: &[&str]) -> redis::Value;
}

impl Request for redis::Connection {
    fn req(&mut self, command: &str, args: &[&str]) -> redis::Value {
        redis::cmd(command).arg(args).query(self).unwrap()
    }
}
