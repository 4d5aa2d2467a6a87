//! What the rest of decant sees of the configuration. Every value here has been checked: whoever holds a [`Config`]
//! from [`crate::config::load`] checks nothing again. The fields are public so that tests can build one by hand.

mod redis;

use super::{BaseUri, Secret};
pub use crate::codec::envelope::Serialization;
use crate::phase::Phase;
pub use redis::{
    Distribution, KetamaHash, Login, RedisConfig, RedisPlace, RedisUrl, SentinelConfig, ShardConfig, TlsConfig,
};
use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The whole configuration of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The data listener: Kask's API.
    pub listen: SocketAddr,
    /// Phase records, checkpoints, journals, the embedded Kasks' stores.
    pub state_dir: PathBuf,
    pub admin: AdminConfig,
    pub limits: LimitsConfig,
    pub log: LogConfig,
    /// None: each decant keeps its records itself (`fleet.store = "file"`).
    pub etcd: Option<EtcdConfig>,
    /// At least one; names and base URIs are distinct and no base URI is under another. Sorted by name.
    pub stashes: Vec<StashConfig>,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    pub listen: SocketAddr,
    /// Always present where `listen` is reachable from other machines.
    pub token: Option<Secret>,
}

/// What a client may cost. The data listener's; the admin listener takes the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Request line and headers together, in bytes.
    pub header_bytes_max: usize,
    /// One value, in bytes: over it the answer is 413.
    pub body_bytes_max: usize,
    /// Large request bodies and answers held at once, in bytes: over it the answer is 503.
    pub held_bytes_max: usize,
    /// One decoded key, in bytes: over it the answer is 400.
    pub key_bytes_max: usize,
    /// Open connections of one listener; further ones wait in the kernel's backlog.
    pub connections_max: usize,
    /// Requests being answered at once; over it the answer is 503.
    pub requests_in_flight_max: usize,
    /// From the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body.
    pub body_timeout: Duration,
    /// How long a kept-alive connection may be silent. Longer than the 4.5 s of the Envoy in front, so that it closes
    /// first.
    pub idle_timeout: Duration,
    /// After SIGTERM, how long requests under way may take.
    pub drain_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub format: LogFormat,
    pub level: LogLevel,
    /// Whether trace-level events may carry keys, which are personal data.
    pub log_keys: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line, with ECS field names.
    Json,
    /// For a person at a terminal.
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Where the decants of a fleet share their records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdConfig {
    /// At least one, of one cluster: `http://host:port` or `https://host:port`.
    pub endpoints: Vec<String>,
    /// Before every key; begins with a slash, and does not end with one.
    pub prefix: String,
    /// A member that says nothing for so long is silent. Whole seconds.
    pub lease: Duration,
    pub login: Option<(String, Secret)>,
    /// PEM. Whose certificates are believed; none: those that the system believes.
    pub ca: Option<Vec<u8>>,
    /// PEM: this client's certificate and key.
    pub identity: Option<(Vec<u8>, Secret)>,
}

/// One migrating store.
#[derive(Clone, Debug, PartialEq)]
pub struct StashConfig {
    /// `[a-z][a-z0-9_]*`, so that every key of it can be set from the environment.
    pub name: String,
    pub base_uri: BaseUri,
    /// The phase of the first start; afterwards the recorded phase wins.
    pub phase: Phase,
    pub serialization: Serialization,
    /// RESTBagOStuff's `hmac_key`.
    pub hmac_key: Option<Secret>,
    /// Kask's own TTL, and the TTL of what decant writes to Redis, in seconds; 0 never expires.
    pub default_ttl_s: u64,
    pub replication: Replication,
    pub on_tier_failure: OnTierFailure,
    /// The share of reads, 0 to 1, that `dual-write` also asks Kask and compares.
    pub shadow_share: f64,
    pub guards: GuardsConfig,
    pub kask: KaskConfig,
    /// Absent only where the phase is `kask-only`.
    pub redis: Option<RedisConfig>,
    pub outbox: OutboxConfig,
    pub backfill: BackfillConfig,
}

/// When a write is answered, as MultiWriteBagOStuff's `replication`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Replication {
    /// After both tiers.
    Sync,
    /// After the sequencer.
    Async,
}

/// The answer to a write that the sequencer took and the follower refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTierFailure {
    /// Success: the intent is durable and heals by itself.
    Heal,
    /// 500, as MultiWriteBagOStuff would; healed all the same.
    Fail,
}

/// What a read falls back to on a Redis that came back without its latest writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AfterLoss {
    /// What Redis holds.
    Serve,
    /// Nothing, until an operator accepts the loss.
    Hold,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KaskConfig {
    pub endpoint: KaskEndpoint,
    /// The whole of one request to Kask.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KaskEndpoint {
    /// A Kask-compatible server in this process, stored under `state_dir`.
    Embedded,
    /// `http://host[:port]/path/`: normalised, without user, query or fragment; a key is appended to it.
    Url(String),
}

/// The times of the copy protocol. `look_every < look_fresh < settle_wait`, and the lease is longer than any Kask
/// request can be under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxConfig {
    /// When an intent that nobody settled is taken over.
    pub lease: Duration,
    /// How often a decant looks at the outbox of every shard.
    pub look_every: Duration,
    /// A look sent longer ago than this no longer tells which keys are pending: then all are.
    pub look_fresh: Duration,
    /// Pending keys remembered a shard; over it all keys of the shard are pending.
    pub pending_keys_max: usize,
    /// Refusals that will not change before an intent is damaged.
    pub tries_max: u32,
    /// How long after its APPLY a write whose copy failed is held back, so that every decant knows its key as pending.
    pub settle_wait: Duration,
}

/// How fast a backfill may go, where nobody says otherwise when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackfillConfig {
    /// Keys looked at in a second; 0: no limit.
    pub keys_per_s: u64,
    /// Bytes of their values in a second; 0: no limit.
    pub bytes_per_s: u64,
    /// While 95 of 100 of clients' operations take no longer than this, they never brake it.
    pub harmless: Duration,
}

impl Default for BackfillConfig {
    fn default() -> Self {
        BackfillConfig { keys_per_s: 0, bytes_per_s: 0, harmless: Duration::from_millis(20) }
    }
}

/// What the guards of moves ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuardsConfig {
    /// How long no read of `kask-first` has fallen back before `redis-standby`, and how long that has held before `kask-only`.
    pub soak: Duration,
    /// The share of compared reads for which Kask may have another value before `kask-first`.
    pub shadow_mismatch_max: f64,
    /// The share of requests to Kask that may fail before `kask-only`.
    pub kask_errors_max: f64,
}

impl GuardsConfig {
    /// For an embedded Kask, which is for trying decant out, and for tests.
    pub const UNSOAKED: GuardsConfig =
        GuardsConfig { soak: Duration::ZERO, shadow_mismatch_max: 0.001, kask_errors_max: 0.01 };
}

impl Default for GuardsConfig {
    fn default() -> Self {
        GuardsConfig { soak: Duration::from_secs(24 * 3600), ..GuardsConfig::UNSOAKED }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            header_bytes_max: 16 * 1024,
            body_bytes_max: 15 * 1024 * 1024,
            held_bytes_max: 256 * 1024 * 1024,
            key_bytes_max: crate::codec::key::KEY_BYTES_MAX,
            connections_max: 10_000,
            requests_in_flight_max: 1024,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(65),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { format: LogFormat::Json, level: LogLevel::Info, log_keys: false }
    }
}

impl Default for OutboxConfig {
    fn default() -> Self {
        OutboxConfig {
            lease: Duration::from_secs(15),
            look_every: Duration::from_millis(100),
            look_fresh: Duration::from_millis(200),
            pending_keys_max: 10_000,
            tries_max: 5,
            settle_wait: Duration::from_millis(250),
        }
    }
}
