//! One connection to one Redis: made, kept, and made again.

use super::dial::{Stream, dial};
use super::greeter::{Greeter, Newcomer};
use super::life::Life;
use super::target::{Place, Target};
use super::url::Socket;
use super::{sentinel, value};
use crate::tier::breaker::LiveBreaker;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use std::{io, time::Duration};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Dialling, the handshake and the greeting together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Before the second attempt; doubled for each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest wait between two attempts: a Redis that is back is used again within a second.
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// A connection that ends sooner counts as a failed attempt, so that a server which closes at once is not dialled in a loop.
const LIVED_WELL: Duration = Duration::from_secs(1);

/// What a shard's connection is doing.
#[derive(Clone)]
pub(super) enum State {
    /// Retired, or not opened yet.
    Closed,
    /// Being made for the first time, or again after one that had lived well.
    Connecting,
    /// The last attempt failed; another one follows.
    Down(Arc<str>),
    Up(Arc<Link>),
}

impl State {
    /// The connection, unless it was found dead a moment ago and is only not taken down yet.
    pub(super) fn live(&self) -> Option<&Arc<Link>> {
        match self {
            State::Up(link) if !link.stop.is_cancelled() => Some(link),
            _ => None,
        }
    }
}

/// A connection that works, as far as is known.
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    /// What the greeter called it; empty where nobody greets.
    pub(super) name: Arc<str>,
    /// Where it leads, which the Sentinels decided.
    pub(super) socket: Socket,
    life: Mutex<Life>,
    /// Cancelled when the connection is not to be used any more.
    stop: CancellationToken,
    why_stopped: OnceLock<&'static str>,
    renewed: AtomicBool,
}

/// A request under way; counts as given up if it is dropped before [`Waiting::answered`].
pub(super) struct Waiting<'a> {
    link: &'a Link,
    answered: bool,
}

impl Link {
    /// Ends it for another, which whoever calls meanwhile waits for.
    pub(super) fn renew(&self) {
        self.renewed.store(true, Ordering::Release);
        self.give_up("given up for a new one");
    }

    pub(super) fn waiting(&self) -> Waiting<'_> {
        self.life().sent(Instant::now());
        Waiting { link: self, answered: false }
    }

    /// It is of no more use; the next one may be.
    pub(super) fn give_up(&self, why: &'static str) {
        let _ = self.why_stopped.set(why);
        self.stop.cancel();
    }

    // A std mutex: it is held for a few instructions, never across an await.
    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    pub(super) fn answered(mut self) {
        self.answered = true;
        self.link.life().answered(Instant::now());
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered && self.link.life().gave_up(Instant::now()) {
            self.link.give_up("requests went unanswered");
        }
    }
}

pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Keeps a connection to `target` until `closed` is cancelled. `shard` is for the log; the breaker learns of every greeting.
pub(super) async fn keep(
    shard: String,
    target: Target,
    greeter: Option<Arc<dyn Greeter>>,
    state: Arc<watch::Sender<State>>,
    breaker: Arc<LiveBreaker>,
    closed: CancellationToken,
) {
    let keeping = async {
        let mut failures: u32 = 0;
        loop {
            let connecting = timeout(CONNECT_TIMEOUT, connect(&target, greeter.as_deref())).await;
            match connecting.unwrap_or_else(|_| Err(timed_out())) {
                Ok(connected) => {
                    if failures > 0 {
                        tracing::info!(shard, address = %target, failures, "Redis answers again");
                    }
                    breaker.answered();
                    let born = Instant::now();
                    let (ended, renewed) = run(&state, &closed, &target, connected).await;
                    let lived_well = renewed || born.elapsed() >= LIVED_WELL;
                    failures = if lived_well { 0 } else { failures.saturating_add(1) };
                    tracing::warn!(shard, address = %target, "the connection to Redis ended: {ended}");
                    let next = if lived_well { State::Connecting } else { State::Down(ended.into()) };
                    set(&state, &closed, next);
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        tracing::warn!(shard, address = %target, "Redis cannot be reached: {error}; trying again and again");
                    }
                    set(&state, &closed, State::Down(error.to_string().into()));
                }
            }
            sleep(backoff(failures, fastrand::f64())).await;
        }
    };
    tokio::select! {
        () = closed.cancelled() => {}
        () = keeping => {}
    }
}

/// Serves one connection to its end and says why it ended, and whether it was only given up for another.
async fn run(
    state: &watch::Sender<State>,
    closed: &CancellationToken,
    target: &Target,
    Connected { connection, driver, name, socket }: Connected,
) -> (&'static str, bool) {
    let stop = CancellationToken::new();
    let sentinels = match (&target.place, &socket) {
        (Place::Sentinels(sentinels), Socket::Tcp(host, port)) => Some((sentinels, (host.clone(), *port))),
        _ => None,
    };
    let link = Arc::new(Link {
        connection,
        name,
        socket,
        life: Mutex::default(),
        stop: stop.clone(),
        why_stopped: OnceLock::new(),
        renewed: AtomicBool::new(false),
    });
    set(state, closed, State::Up(link.clone()));
    // Dropping the driver drops what was not written yet, and ends every request under way.
    let why = tokio::select! {
        () = driver => "closed by the other side",
        () = stop.cancelled() => link.why_stopped.get().unwrap_or(&"given up"),
        () = sentinel::replaced(sentinels.as_ref().map(|(all, now)| (*all, now))) => "the Sentinels name another primary",
    };
    (why, link.renewed.load(Ordering::Acquire))
}

/// A keeper that was told to close must not write over what came after it.
fn set(state: &watch::Sender<State>, closed: &CancellationToken, next: State) {
    state.send_if_modified(|current| {
        if closed.is_cancelled() {
            return false;
        }
        *current = next;
        true
    });
}

/// A connection that has been greeted, and where it leads.
struct Connected {
    connection: MultiplexedConnection,
    driver: Driver,
    name: Arc<str>,
    socket: Socket,
}

async fn connect(target: &Target, greeter: Option<&dyn Greeter>) -> Result<Connected, RedisError> {
    let (stream, socket) = dial(target).await?;
    let (mut connection, mut driver) = handshake(&target.hello, stream).await?;
    let name = greeted(&target.place, greeter, &mut connection, &mut driver).await?;
    Ok(Connected { connection, driver, name, socket })
}

/// The one place that runs right after connecting, before anybody else may use the connection. A Redis that hangs, wants a
/// password or is still loading its data does not get past it; nor a replica, nor one that the greeter will not have.
async fn greeted(
    place: &Place,
    greeter: Option<&dyn Greeter>,
    connection: &mut MultiplexedConnection,
    driver: &mut Driver,
) -> Result<Arc<str>, RedisError> {
    let mut greeting = pin!(async {
        connection.send_packed_command(&redis::cmd("PING")).await?.extract_error()?;
        // The Sentinels may not have noticed yet what they name, or it may have been told only a moment ago.
        if matches!(place, Place::Sentinels(_)) {
            is_primary(connection).await?;
        }
        greet(connection, greeter).await
    });
    // The greeting goes first: a driver that ends hands what it met to the requests that it has, a TLS alert for instance.
    tokio::select! {
        biased;
        greeted = &mut greeting => return greeted,
        () = &mut *driver => {}
    }
    *driver = Box::pin(async {});
    Err(greeting.await.err().unwrap_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset).into()))
}

/// An error where it is a replica.
async fn is_primary(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let mut info = redis::cmd("INFO");
    info.arg("replication");
    let told = connection.send_packed_command(&info).await?.extract_error()?;
    let text = value::into_bytes(told).unwrap_or_default();
    match text.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == b"role:master") {
        true => Ok(()),
        false => Err(io::Error::other("it is a replica, and the Sentinels name no other yet").into()),
    }
}

/// AUTH where there is a password, SELECT where the database is not 0, and nothing else.
pub(super) async fn handshake(
    hello: &RedisConnectionInfo,
    stream: Box<dyn Stream>,
) -> Result<(MultiplexedConnection, Driver), RedisError> {
    // Deadlines are the callers'; the connection has none of its own.
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_pipeline_buffer_size(super::IN_FLIGHT_MAX);
    let (connection, driver) = MultiplexedConnection::new_with_config(hello, stream, config).await?;
    Ok((connection, Box::pin(driver)))
}

/// Answers what the greeter calls it.
async fn greet(connection: &mut MultiplexedConnection, greeter: Option<&dyn Greeter>) -> Result<Arc<str>, RedisError> {
    let Some(greeter) = greeter else { return Ok(Arc::from("")) };
    let mut newcomer = Newcomer::introduce(connection.clone()).await?;
    let name = greeter.greet(&mut newcomer).await.map_err(io::Error::other)?;
    Ok(name.into())
}

fn timed_out() -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} ms", CONNECT_TIMEOUT.as_millis())).into()
}

/// The wait before the next attempt: doubled for each failure up to [`BACKOFF_MAX`], of which `jitter` (0 to 1) takes away up to half.
fn backoff(failures: u32, jitter: f64) -> Duration {
    let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
    let full = BACKOFF_MIN.saturating_mul(2u32.saturating_pow(doublings)).min(BACKOFF_MAX);
    full.mul_f64(1.0 - jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_to_its_bound() {
        assert_eq!(backoff(0, 0.0), Duration::ZERO);
        assert_eq!([1, 2, 3, 4].map(|n| backoff(n, 0.0).as_millis()), [50, 100, 200, 400]);
        assert_eq!(backoff(7, 0.0), BACKOFF_MAX);
        assert_eq!(backoff(u32::MAX, 0.0), BACKOFF_MAX);
        assert_eq!(backoff(u32::MAX, 1.0), BACKOFF_MAX / 2);
    }
}
