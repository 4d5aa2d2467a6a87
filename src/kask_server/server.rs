//! The dialect over a store: what `decant kask` runs, and what decant runs in itself.

use super::{RedbStore, Store, StoreFault};
use crate::{
    dialect::{
        About, Answer, AnswerFuture, BaseUri, Dialect, KeyValue, Manners, Meter, Mount, Operation, Pages, SameBaseUri,
        Verb,
    },
    http::{Drained, Limits, Room, serve},
};
use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{net::TcpListener, task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// The largest value, in bytes: Kask on Cassandra answers 500 to more (its largest mutation).
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// One transaction of a sweep purges so many values, and one sweep takes so many transactions: writers come between them.
const SWEEP_STEP: usize = 1000;
const SWEEP_STEPS_MAX: usize = 1000;

/// Tells the time, in milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The machine's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
    })
}

/// A store as Kask answers for it.
pub struct KaskServer {
    store: Arc<dyn Store>,
    /// 0 = values never expire.
    default_ttl_s: u64,
    clock: Clock,
}

impl KaskServer {
    pub fn new(store: Arc<dyn Store>, default_ttl_s: u64, clock: Clock) -> KaskServer {
        KaskServer { store, default_ttl_s, clock }
    }

    async fn answer(&self, op: Operation) -> Result<Answer, StoreFault> {
        let now_ms = (self.clock)();
        Ok(match op.verb {
            Verb::Get { .. } => match self.store.get(&op.key, now_ms).await? {
                Some(body) => Answer::Hit { body, tier: None },
                None => Answer::Missing,
            },
            Verb::Set { body, .. } if body.len() > VALUE_BYTES_MAX => {
                Answer::Failed { detail: format!("a value of {} bytes; the largest is {VALUE_BYTES_MAX}", body.len()) }
            }
            Verb::Set { body, .. } => {
                let ttl_ms = self.default_ttl_s.saturating_mul(1000);
                let expires_ms = (ttl_ms != 0).then(|| now_ms.saturating_add(ttl_ms));
                self.store.set(op.key, body, expires_ms).await?;
                Answer::Stored
            }
            Verb::Delete => {
                self.store.delete(op.key).await?;
                Answer::Deleted
            }
        })
    }
}

impl KeyValue for KaskServer {
    fn call(&self, op: Operation) -> AnswerFuture<'_> {
        Box::pin(async move {
            let answered = self.answer(op).await;
            answered.unwrap_or_else(|fault| Answer::Failed { detail: fault.to_string() })
        })
    }
}

/// How an embedded Kask is to be run.
pub struct Options {
    pub base_uri: BaseUri,
    /// Seconds; 0 = values never expire.
    pub default_ttl_s: u64,
    pub limits: Limits,
    pub clock: Clock,
    pub pages: Pages,
    /// `None`: its requests are not counted, as is right inside decant, which counts its clients' requests.
    pub meter: Option<Meter>,
}

impl Options {
    /// The usual limits, the machine's clock, no metrics.
    pub fn new(base_uri: BaseUri, default_ttl_s: u64) -> Options {
        let limits = Limits { body_bytes_max: VALUE_BYTES_MAX, ..Limits::default() };
        let pages = Pages { about: About::this_build(), metrics: Arc::new(String::new) };
        Options { base_uri, default_ttl_s, limits, clock: system_clock(), pages, meter: None }
    }
}

/// An embedded Kask at work.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    task: JoinHandle<Drained>,
}

impl Running {
    /// Waits for its end, after `stop` was cancelled: every request it had taken is answered, and its store let go of.
    ///
    /// # Errors
    /// Its task panicked.
    pub async fn ended(self) -> Result<Drained, tokio::task::JoinError> {
        self.task.await
    }
}

/// Why an embedded Kask could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunFault {
    #[error(transparent)]
    Store(#[from] StoreFault),
    #[error("cannot listen on {listen}: {fault}; choose another address, or 127.0.0.1:0 for any free port")]
    Listen { listen: SocketAddr, fault: io::Error },
    #[error(transparent)]
    Mounts(#[from] SameBaseUri),
    #[error("the server's task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Serves `store` on `listener`, and sweeps it, until `stop` is cancelled.
///
/// # Errors
/// The listener has no address.
pub fn spawn(
    listener: TcpListener,
    store: Arc<dyn Store>,
    options: Options,
    stop: CancellationToken,
) -> Result<Running, RunFault> {
    let addr =
        listener.local_addr().map_err(|fault| RunFault::Listen { listen: SocketAddr::from(([0; 4], 0)), fault })?;
    let Options { base_uri, default_ttl_s, limits, clock, pages, meter } = options;
    let server = Arc::new(KaskServer::new(store.clone(), default_ttl_s, clock.clone()));
    let mounts = vec![Mount { base_uri, store: server }];
    let room = Room::new(limits.held_bytes_max, limits.body_bytes_max);
    let dialect = Dialect::new(mounts, Manners::KASK, pages, meter, limits.clone(), room)?;
    let drain_timeout = limits.drain_timeout;
    let task = tokio::spawn(async move {
        let sweeper = tokio::spawn(sweep(store, clock, stop.clone()));
        let drained = serve(listener, dialect.clone(), limits, stop).await;
        if tokio::time::timeout(drain_timeout, dialect.settled()).await.is_err() {
            tracing::warn!(
                "the store is still at work on requests whose clients are gone; not waiting for it any longer"
            );
        }
        // A sweep that failed has said so in the log.
        let _ = sweeper.await;
        drained
    });
    Ok(Running { addr, task })
}

/// Opens `data_file`, listens on `listen`, tells `on_bound` the address, and serves until `stop` is cancelled.
///
/// # Errors
/// The file cannot be opened, or the address cannot be listened on; each says what to do.
pub async fn run(
    listen: SocketAddr,
    data_file: &Path,
    options: Options,
    on_bound: impl FnOnce(SocketAddr),
    stop: CancellationToken,
) -> Result<Drained, RunFault> {
    let path = data_file.to_owned();
    let store = tokio::task::spawn_blocking(move || RedbStore::open(&path)).await??;
    let listener = TcpListener::bind(listen).await.map_err(|fault| RunFault::Listen { listen, fault })?;
    let running = spawn(listener, Arc::new(store), options, stop)?;
    on_bound(running.addr);
    Ok(running.ended().await?)
}

/// Purges expired values from time to time: reads do not show them, but they take room.
async fn sweep(store: Arc<dyn Store>, clock: Clock, stop: CancellationToken) {
    let mut every = tokio::time::interval(SWEEP_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {}
        }
        for _ in 0..SWEEP_STEPS_MAX {
            match store.purge_expired(clock(), SWEEP_STEP).await {
                Ok(purged) if purged == SWEEP_STEP && !stop.is_cancelled() => {}
                Ok(_) => break,
                Err(fault) => {
                    tracing::warn!(%fault, "cannot purge expired values; trying again in a minute");
                    break;
                }
            }
        }
    }
}
