//! One stash, from its config to its mover. Public for what has to build one without the listeners: the benchmarks.

use super::{StartFault, keep_up::keep_up, state_dir::StateDir};
use crate::{
    backfill::{self, Backfill, BackfillSettings},
    codec::transcode::Transcoder,
    config::{Config, EtcdConfig, KaskEndpoint, RedisConfig, StashConfig},
    etcd::ClientSettings,
    fleet::{FileStore, Shared, SharedSettings},
    http::{Limits, Room},
    kask_server::{self, Options, RedbStore, Running},
    outbox::{Outbox, OutboxSettings},
    phase::file::RecordFile,
    protocol::{Belief, Beliefs, Fence},
    stash::{Alone, Stash, StashMetrics, StashParts, Tiers, memory::Memory, mover::Mover},
    tier::{
        kask::{KaskLimits, KaskTier},
        redis::{Shard, Target},
        shards::ShardMap,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A stash, ready to be started.
pub struct Built {
    pub mover: Arc<Mover>,
    pub backfill: Arc<Backfill>,
    /// The embedded Kask, where there is one, and what stops it.
    pub kask: Option<(Running, CancellationToken)>,
}

/// Opens the tiers of one stash and its record; what goes on after an answer runs on `tasks`, and `room` is for large values. Nothing is
/// served before [`start`].
///
/// # Errors
/// Each says what to do.
pub async fn stash(
    config: &StashConfig,
    all: &Config,
    state: &StateDir,
    tasks: &TaskTracker,
    room: &Room,
) -> Result<Built, StartFault> {
    let (url, kask) = match &config.kask.endpoint {
        KaskEndpoint::Url(url) => (url.clone(), None),
        KaskEndpoint::Embedded => {
            let (running, stop) = embedded(config, state).await?;
            (format!("http://{}{}", running.addr, config.base_uri.as_str()), Some((running, stop)))
        }
    };
    let kask_limits = KaskLimits { room: room.clone(), ..KaskLimits::default() };
    let tier = KaskTier::with_limits(&url, config.kask.timeout, &config.name, kask_limits)
        .map_err(|fault| StartFault::KaskUrl { stash: config.name.clone(), fault })?;
    let outbox = config.redis.as_ref().map(|redis| outbox(config, redis)).transpose()?;
    let memory = outbox.as_ref().map(|_| memory(config, state)).transpose()?;
    if let (Some(outbox), Some(memory)) = (&outbox, &memory) {
        outbox.recall(&state.member, memory.known());
    }
    let shards = outbox.as_ref().map_or(0, |outbox| outbox.shards().len());
    let metrics = Arc::new(StashMetrics::new(&config.name));
    let alone = journal(config, state, &metrics).await?;
    let unconfirmed = Fence {
        version: 0,
        phase: config.phase,
        stash: config.name.clone(),
        shards: outbox.as_ref().map_or_else(|| "none".to_owned(), |outbox| outbox.map().digest().to_owned()),
        member: "nobody".to_owned(),
        ahead: None,
    };
    let parts = StashParts {
        tiers: Tiers {
            outbox: outbox.map(Arc::new),
            kask: Arc::new(tier),
            alone: Arc::new(alone),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            room: room.clone(),
            started: Instant::now(),
            redis_timeout: config.redis.as_ref().map_or(Duration::ZERO, |redis| redis.timeout),
        },
        metrics,
        beliefs: Beliefs::new(Belief::new(unconfirmed, false, false), &state.member),
        shards,
        places_max: all.limits.requests_in_flight_max,
        tasks: tasks.clone(),
        store: if all.etcd.is_some() { "etcd" } else { "file" },
    };
    let file = RecordFile::new(&state.path, &config.name);
    let stash = Stash::new(config, parts);
    if let Some(memory) = memory {
        stash.remember_in(memory);
    }
    let mover = if let Some(etcd) = &all.etcd {
        Mover::of_fleet(stash, Shared::new(membership(etcd, &state.member), &config.name, file), config.phase)
    } else {
        let store = FileStore::open(file)?;
        if let Some(record) = store.record().filter(|record| record.phase.uses_redis() && config.redis.is_none()) {
            return Err(StartFault::RedisMissing { stash: config.name.clone(), phase: record.phase });
        }
        Mover::new(stash, store, state.member.clone(), config.phase)
    };
    let backfill = Backfill::open(mover.clone(), &state.path, backfill_settings(config));
    Ok(Built { mover, backfill, kask })
}

fn backfill_settings(config: &StashConfig) -> BackfillSettings {
    let told = &config.backfill;
    BackfillSettings {
        limits: backfill::Limits { keys_per_s: told.keys_per_s, bytes_per_s: told.bytes_per_s },
        harmless: told.harmless,
        default_ttl_s: config.default_ttl_s,
    }
}

/// Lets the stash confirm its phase, look at its shards, reap and copy, until `background` is cancelled.
pub fn start(mover: &Arc<Mover>, backfill: &Arc<Backfill>, background: &CancellationToken) {
    let (stash, stop) = (mover.stash().clone(), background.clone());
    let moving = mover.clone();
    if let Some(shared) = mover.shared() {
        let stop = background.clone();
        let run = move || shared.clone().run(stop.clone());
        tokio::spawn(keep_up("member", stash.name.clone(), background.clone(), run));
    }
    let run = move || moving.clone().run(stop.clone());
    tokio::spawn(keep_up("mover", stash.name.clone(), background.clone(), run));
    let (healed, stop) = (stash.clone(), background.clone());
    let heal = move || healed.clone().heal_alone(stop.clone());
    tokio::spawn(keep_up("healer", stash.name.clone(), background.clone(), heal));
    let (kept, stop) = (stash.clone(), background.clone());
    let keep = move || kept.clone().keep_memory(stop.clone());
    tokio::spawn(keep_up("memory", stash.name.clone(), background.clone(), keep));
    let (counted, stop) = (stash.clone(), background.clone());
    let count = move || counted.clone().watch_traffic(stop.clone());
    tokio::spawn(keep_up("traffic", stash.name.clone(), background.clone(), count));
    let (copying, stop) = (backfill.clone(), background.clone());
    let copy = move || copying.clone().run(stop.clone());
    // Waited for when decant ends, so that its last checkpoint is written.
    stash.site.world.tasks.spawn(keep_up("backfill", stash.name.clone(), background.clone(), copy));
    for shard in 0..stash.views.len() {
        let (watched, stop) = (stash.clone(), background.clone());
        let watch = move || watched.clone().watch_shard(shard, stop.clone());
        tokio::spawn(keep_up("looker", stash.name.clone(), background.clone(), watch));
    }
}

/// How this decant belongs to its fleet.
fn membership(etcd: &EtcdConfig, member: &str) -> SharedSettings {
    SharedSettings {
        endpoints: etcd.endpoints.clone(),
        client: ClientSettings::from(etcd),
        prefix: etcd.prefix.clone(),
        lease: etcd.lease,
        member: member.to_owned(),
    }
}

/// One small file: read while nothing is served yet.
fn memory(config: &StashConfig, state: &StateDir) -> Result<Memory, StartFault> {
    Memory::open(&state.path, &config.name).map_err(|fault| StartFault::Memory { stash: config.name.clone(), fault })
}

async fn journal(config: &StashConfig, state: &StateDir, metrics: &StashMetrics) -> Result<Alone, StartFault> {
    let (path, name, unclean) = (state.path.clone(), config.name.clone(), metrics.mirror_unclean.clone());
    let opened = tokio::task::spawn_blocking(move || Alone::open(&path, &name, unclean)).await;
    let fault = |source| StartFault::Journal { stash: config.name.clone(), source };
    opened.map_err(|e| fault(e.into()))?.map_err(fault)
}

/// The embedded Kask is asked over HTTP on loopback, as a real one is: the real path is what runs.
async fn embedded(config: &StashConfig, state: &StateDir) -> Result<(Running, CancellationToken), StartFault> {
    let fault = |fault: kask_server::RunFault| StartFault::Kask { stash: config.name.clone(), fault };
    let path = state.path.join(format!("{}.kask.redb", config.name));
    let opened = tokio::task::spawn_blocking(move || RedbStore::open(&path)).await;
    let store = opened.map_err(|e| fault(e.into()))?.map_err(|e| fault(e.into()))?;
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let listener =
        TcpListener::bind(listen).await.map_err(|e| fault(kask_server::RunFault::Listen { listen, fault: e }))?;
    let stop = CancellationToken::new();
    let options = Options::new(config.base_uri.clone(), config.default_ttl_s);
    let running = kask_server::spawn(listener, Arc::new(store), options, stop.clone()).map_err(fault)?;
    Ok((running, stop))
}

fn outbox(config: &StashConfig, redis: &RedisConfig) -> Result<Outbox, StartFault> {
    let mut shards = Vec::new();
    for shard in &redis.shards {
        let target = Target::of(shard).map_err(|fault| {
            let (stash, shard) = (config.name.clone(), shard.name.clone());
            StartFault::Redis { stash, shard, fault }
        })?;
        shards.push(Arc::new(Shard::new(&shard.name, target, &config.name)));
    }
    let map = ShardMap::of(redis).map_err(|fault| StartFault::Shards { stash: config.name.clone(), fault })?;
    let hmac_key = config.hmac_key.as_ref().map(|key| key.expose().to_vec());
    let settings = OutboxSettings {
        ttl_s: config.default_ttl_s,
        lease_ms: config.outbox.lease.as_millis() as u64,
        tries_max: config.outbox.tries_max,
        look_max: config.outbox.pending_keys_max,
    };
    let transcoder = Arc::new(Transcoder::new(config.serialization, hmac_key));
    Ok(Outbox::new(shards, map, &config.name, transcoder, settings))
}

/// The data listener's limits.
pub fn limits(config: &Config) -> Limits {
    let told = &config.limits;
    Limits {
        header_bytes_max: told.header_bytes_max,
        body_bytes_max: told.body_bytes_max,
        held_bytes_max: told.held_bytes_max,
        header_timeout: told.header_timeout,
        body_timeout: told.body_timeout,
        idle_timeout: told.idle_timeout,
        connections_max: told.connections_max,
        drain_timeout: told.drain_timeout,
        key_bytes_max: told.key_bytes_max,
        ..Limits::default()
    }
}

/// The admin listener's: few clients, small bodies.
pub fn admin_limits() -> Limits {
    Limits {
        body_bytes_max: 64 * 1024,
        connections_max: 256,
        drain_timeout: Duration::from_secs(2),
        ..Limits::default()
    }
}
