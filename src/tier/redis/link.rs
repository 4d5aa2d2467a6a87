//! One connection to one Redis: made, kept, and made again.

use super::greeter::{Greeter, Newcomer};
use super::life::Life;
use super::url::{RedisUrl, Socket};
use crate::tier::breaker::LiveBreaker;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use std::future::Future;
use std::pin::Pin;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};
use std::{io, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
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
    life: Mutex<Life>,
    /// Cancelled when the connection is found dead, or given up for another.
    stop: CancellationToken,
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
        self.stop.cancel();
    }

    pub(super) fn waiting(&self) -> Waiting<'_> {
        self.life().sent(Instant::now());
        Waiting { link: self, answered: false }
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
            self.link.stop.cancel();
        }
    }
}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What [`connect`] makes.
struct Made {
    connection: MultiplexedConnection,
    driver: Driver,
    name: Arc<str>,
}

/// Keeps a connection to `url` until `closed` is cancelled. `shard` is for the log; the breaker learns of every greeting.
pub(super) async fn keep(
    shard: String,
    url: RedisUrl,
    greeter: Option<Arc<dyn Greeter>>,
    state: Arc<watch::Sender<State>>,
    breaker: Arc<LiveBreaker>,
    closed: CancellationToken,
) {
    let keeping = async {
        let mut failures: u32 = 0;
        loop {
            let connecting = timeout(CONNECT_TIMEOUT, connect(&url, greeter.as_deref())).await;
            match connecting.unwrap_or_else(|_| Err(timed_out())) {
                Ok(made) => {
                    if failures > 0 {
                        tracing::info!(shard, address = %url, failures, "Redis answers again");
                    }
                    breaker.answered();
                    let born = Instant::now();
                    let (ended, renewed) = run(&state, &closed, made).await;
                    let lived_well = renewed || born.elapsed() >= LIVED_WELL;
                    failures = if lived_well { 0 } else { failures.saturating_add(1) };
                    tracing::warn!(shard, address = %url, "the connection to Redis ended: {ended}");
                    let next = if lived_well { State::Connecting } else { State::Down(ended.into()) };
                    set(&state, &closed, next);
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        tracing::warn!(shard, address = %url, "Redis cannot be reached: {error}; trying again and again");
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
    Made { connection, driver, name }: Made,
) -> (&'static str, bool) {
    let stop = CancellationToken::new();
    let renewed = AtomicBool::new(false);
    let link = Arc::new(Link { connection, name, life: Mutex::default(), stop: stop.clone(), renewed });
    set(state, closed, State::Up(link.clone()));
    // Dropping the driver drops what was not written yet, and ends every request under way.
    tokio::select! {
        () = driver => ("closed by the other side", false),
        () = stop.cancelled() => match link.renewed.load(Ordering::Acquire) {
            true => ("given up for a new one", true),
            false => ("requests went unanswered", false),
        },
    }
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

async fn connect(url: &RedisUrl, greeter: Option<&dyn Greeter>) -> Result<Made, RedisError> {
    let (mut connection, mut driver) = match &url.socket {
        Socket::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            handshake(&url.hello, stream).await?
        }
        Socket::Unix(path) => handshake(&url.hello, UnixStream::connect(path).await?).await?,
    };
    let name = tokio::select! {
        greeted = greet(&mut connection, greeter) => greeted?,
        () = &mut driver => return Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
    };
    Ok(Made { connection, driver, name })
}

/// AUTH where the URL has a password, SELECT where its database is not 0, and nothing else.
async fn handshake(
    hello: &RedisConnectionInfo,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(MultiplexedConnection, Driver), RedisError> {
    // Deadlines are the callers'; the connection has none of its own.
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_pipeline_buffer_size(super::IN_FLIGHT_MAX);
    let (connection, driver) = MultiplexedConnection::new_with_config(hello, stream, config).await?;
    Ok((connection, Box::pin(driver)))
}

/// The one place that runs right after connecting, before anybody else may use the connection. A Redis that hangs, wants a
/// password or is still loading its data does not get past it; nor one that the greeter will not have. Answers what
/// the greeter calls it.
async fn greet(connection: &mut MultiplexedConnection, greeter: Option<&dyn Greeter>) -> Result<Arc<str>, RedisError> {
    connection.send_packed_command(&redis::cmd("PING")).await?.extract_error()?;
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
