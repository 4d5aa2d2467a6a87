//! The only place that builds: a config becomes listeners and tasks, runs until stopped, and drains.

pub mod build;
mod descriptors;
mod keep_up;
pub mod state_dir;

use crate::{
    admin::{Admin, AdminParts, Managed},
    config::{Config, StashConfig},
    dialect::{About, Dialect, Manners, Meter, Mount, Pages, SameBaseUri},
    http::{Room, serve},
    kask_server,
    phase::file::RecordFault,
    stash::memory::MemoryFault,
    tier::{kask::KaskUrlFault, redis::TargetFault, shards::ShardMapFault},
    verify::Verifier,
};
use futures_util::future::join_all;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Why decant could not start. Nothing has been served.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    #[error(
        "cannot listen on {listen} ({what}): {source}; is another decant running? choose another address, or port 0 for any"
    )]
    Listen { what: &'static str, listen: SocketAddr, source: io::Error },
    #[error(transparent)]
    StateDir(#[from] state_dir::StateDirFault),
    #[error(transparent)]
    Record(#[from] RecordFault),
    #[error("embedded Kask of stash \"{stash}\": {fault}")]
    Kask { stash: String, fault: kask_server::RunFault },
    #[error("stash \"{stash}\": {fault}")]
    KaskUrl { stash: String, fault: KaskUrlFault },
    #[error("stash \"{stash}\", shard {shard}: {fault}")]
    Redis { stash: String, shard: String, fault: TargetFault },
    #[error("stash \"{stash}\": {fault}")]
    Shards { stash: String, fault: ShardMapFault },
    #[error("stash \"{stash}\" was last in {phase}, but its config names no Redis: add stash.{stash}.redis")]
    RedisMissing { stash: String, phase: crate::phase::Phase },
    #[error("stash \"{stash}\": the thread of its journal cannot be started: {source}; are threads limited?")]
    Journal { stash: String, source: io::Error },
    #[error("stash \"{stash}\": {fault}")]
    Memory { stash: String, fault: MemoryFault },
    #[error(transparent)]
    Mounts(#[from] SameBaseUri),
}

/// Where the listeners are, told once both are bound.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub data: SocketAddr,
    pub admin: SocketAddr,
}

/// How long background work may go on after the last client was answered: as long as one write can take.
const BACKGROUND_DRAIN: Duration = Duration::from_secs(5);

/// Serves until `stop`, then drains: listeners first, then the writes that go on without their clients, then the embedded stores.
///
/// # Errors
/// Only before anything is served; each says what to do.
pub async fn run(
    config: Config,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    on_ready: impl FnOnce(Addresses),
    stop: CancellationToken,
) -> Result<(), StartFault> {
    let state = state_dir::StateDir::open(&config.state_dir)?;
    let data = bind("listen", config.listen).await?;
    let admin = bind("admin.listen", config.admin.listen).await?;
    let tasks = TaskTracker::new();
    let background = CancellationToken::new();
    let mut limits = build::limits(&config);
    limits.connections_max = descriptors::for_connections(limits.connections_max, config.stashes.len());
    let room = Room::new(limits.held_bytes_max, limits.body_bytes_max);
    let (mut stashes, mut kasks) = (Vec::new(), Vec::new());
    for stash in &config.stashes {
        let built = build::stash(stash, &config, &state, &tasks, &room).await?;
        kasks.extend(built.kask);
        let keys_max = config.limits.key_bytes_max;
        let verifier = Verifier::open(built.mover.clone(), &state.path, keys_max, background.clone(), tasks.clone());
        stashes.push(Managed { mover: built.mover, backfill: built.backfill, verifier });
    }
    let pages = Pages { about: About::this_build(), metrics: metrics.clone() };
    let mounts = mounts(&config, &stashes);
    let dialect = Dialect::new(mounts, Manners::DECANT, pages, Some(Meter::new()), limits.clone(), room)?;
    let admin_service = Admin::new(AdminParts {
        stashes: stashes.clone(),
        metrics,
        token: config.admin.token.clone(),
        about: About::this_build(),
    });
    let addresses = Addresses { data: data.1, admin: admin.1 };
    let admin_stop = CancellationToken::new();
    let admin_task = tokio::spawn(serve(admin.0, admin_service, build::admin_limits(), admin_stop.clone()));
    stashes.iter().for_each(|stash| build::start(&stash.mover, &stash.backfill, &background));
    on_ready(addresses);

    let drained = serve(data.0, dialect.clone(), limits, stop).await;
    tracing::info!(cut = drained.cut, "the data listener has drained");
    dialect.settled().await;
    background.cancel();
    tasks.close();
    if timeout(BACKGROUND_DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!(
            left = tasks.len(),
            "background copies were cut off; their intents stay, and the reaper heals them"
        );
    }
    join_all(stashes.iter().map(|stash| stash.mover.end())).await;
    admin_stop.cancel();
    let _ = admin_task.await;
    for (running, stop) in kasks {
        stop.cancel();
        let _ = running.ended().await;
    }
    Ok(())
}

fn mounts(config: &Config, stashes: &[Managed]) -> Vec<Mount> {
    let pairs = config.stashes.iter().zip(stashes);
    let mount = |(stash, managed): (&StashConfig, &Managed)| Mount {
        base_uri: stash.base_uri.clone(),
        store: managed.mover.stash().clone(),
    };
    pairs.map(mount).collect()
}

async fn bind(what: &'static str, listen: SocketAddr) -> Result<(TcpListener, SocketAddr), StartFault> {
    let fault = |source| StartFault::Listen { what, listen, source };
    let listener = TcpListener::bind(listen).await.map_err(fault)?;
    let addr = listener.local_addr().map_err(fault)?;
    Ok((listener, addr))
}
