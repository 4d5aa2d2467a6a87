//! A TCP proxy that does to connections what networks do.
//!
//! Nothing is delivered later than [`HOLD_MAX`] after it was sent: a write of Kask's that arrives after its intent's lease may undo a newer
//! one, which the product states as a limit and does not promise against. What would be later is dropped with its connection.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    runtime::Runtime,
    sync::{mpsc, watch},
    time::sleep,
};

/// The longest that bytes are held on their way.
pub const HOLD_MAX: Duration = Duration::from_millis(700);
/// Chunks held for one direction of one connection.
const CHUNKS_MAX: usize = 64;
const CHUNK_BYTES: usize = 16 * 1024;

/// What is done to every message, or to a share of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Each chunk arrives so many milliseconds later.
    Latency(u64),
    /// Each chunk arrives up to so many milliseconds later: what is sent on two connections arrives in either order.
    Jitter(u64),
    /// Everything is held; delivered when the mode changes.
    Stall,
    /// Whatever is sent resets its connection.
    Reset,
    /// So many bytes of the next chunk arrive, then the connection ends.
    Cut(usize),
    /// So many bytes of the next chunk arrive, then nothing more; the connection ends with the mode.
    Half(usize),
    /// Everything is taken and nothing arrives; the connections end with the mode.
    BlackHole,
    /// A few bytes at a time.
    Drip,
    /// No new connection is taken, and those there are are reset.
    Refuse,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Pass => "pass",
            Mode::Latency(_) => "latency",
            Mode::Jitter(_) => "jitter",
            Mode::Stall => "stall",
            Mode::Reset => "reset",
            Mode::Cut(_) => "cut",
            Mode::Half(_) => "half",
            Mode::BlackHole => "black hole",
            Mode::Drip => "drip",
            Mode::Refuse => "refuse",
        }
    }
}

/// A mode, and for which share of the connections.
#[derive(Clone, Copy, Debug)]
struct Setting {
    mode: Mode,
    /// Of 100 connections.
    percent: u64,
    salt: u64,
}

impl Setting {
    /// The same for a connection as long as the setting lasts, whatever else happens.
    fn of(self, connection: u64) -> Mode {
        let drawn = fastrand::Rng::with_seed(self.salt ^ connection.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..100);
        if drawn < self.percent { self.mode } else { Mode::Pass }
    }
}

struct Shared {
    behind: Mutex<SocketAddr>,
    setting: watch::Receiver<Setting>,
    cut: watch::Receiver<()>,
    /// Chunks taken and neither delivered nor dropped.
    held: AtomicI64,
    connections: AtomicU64,
}

/// Runs until dropped with its runtime.
pub struct Proxy {
    pub addr: SocketAddr,
    setting: watch::Sender<Setting>,
    cut: watch::Sender<()>,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn before(behind: SocketAddr, runtime: &Runtime) -> Proxy {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let (setting, seen) = watch::channel(Setting { mode: Mode::Pass, percent: 100, salt: 0 });
        let (cut, cuts) = watch::channel(());
        let shared = Arc::new(Shared {
            behind: Mutex::new(behind),
            setting: seen,
            cut: cuts,
            held: AtomicI64::new(0),
            connections: AtomicU64::new(0),
        });
        runtime.spawn(accept(listener, shared.clone()));
        Proxy { addr, setting, cut, shared }
    }

    /// From now on. `percent` of the connections are met, chosen by `salt`.
    pub fn set(&self, mode: Mode, percent: u64, salt: u64) {
        self.setting.send_replace(Setting { mode, percent, salt });
    }

    pub fn pass(&self) {
        self.set(Mode::Pass, 100, 0);
    }

    /// New connections go there.
    pub fn point_at(&self, behind: SocketAddr) {
        *self.shared.behind.lock().unwrap() = behind;
    }

    /// Ends every connection that there is.
    pub fn cut(&self) {
        self.cut.send_replace(());
    }

    /// Whether something is on its way.
    pub fn holds(&self) -> bool {
        self.shared.held.load(Ordering::SeqCst) > 0
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        let number = shared.connections.fetch_add(1, Ordering::Relaxed);
        let shared = shared.clone();
        tokio::spawn(async move {
            let mode = shared.setting.borrow().of(number);
            if mode == Mode::Refuse {
                let _ = client.set_zero_linger();
                return;
            }
            let behind = *shared.behind.lock().unwrap();
            // Dropped: the client sees a connection that ends at once.
            let Ok(server) = TcpStream::connect(behind).await else { return };
            relay(client, server, number, shared).await;
        });
    }
}

/// Both directions, until either ends badly or both are done.
async fn relay(client: TcpStream, server: TcpStream, number: u64, shared: Arc<Shared>) {
    let mut cut = shared.cut.clone();
    cut.mark_unchanged();
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
        // What ends here ends with a reset, unless both sides had finished before.
        let _ = stream.set_zero_linger();
    }
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let up = pump(client_reads, server_writes, number, shared.clone());
    let down = pump(server_reads, client_writes, number, shared.clone());
    tokio::pin!(up, down);
    tokio::select! {
        whole = &mut up => if whole { down.await; },
        whole = &mut down => if whole { up.await; },
        _ = cut.changed() => {}
    }
}

/// One direction; whether it ended as its sender wanted.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, number: u64, shared: Arc<Shared>) -> bool {
    let (queue, mut queued) = mpsc::channel::<Chunk>(CHUNKS_MAX);
    let reader_shared = shared.clone();
    // A task of its own, so that what waits in line is stamped when it came.
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) => return true,
                Ok(length) => {
                    if queue.send(Chunk::new(&buffer[..length], number, &reader_shared)).await.is_err() {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
    });
    let mut setting = shared.setting.clone();
    while let Some(chunk) = queued.recv().await {
        if !deliver(&chunk, &mut to, number, &mut setting).await {
            reader.abort();
            return false;
        }
    }
    let whole = reader.await.unwrap_or(false);
    whole && to.shutdown().await.is_ok()
}

struct Chunk {
    bytes: Vec<u8>,
    came: Instant,
    /// It came into a black hole, and is lost however soon that ends.
    swallowed: bool,
    shared: Arc<Shared>,
}

impl Chunk {
    fn new(bytes: &[u8], connection: u64, shared: &Arc<Shared>) -> Chunk {
        let swallowed = shared.setting.borrow().of(connection) == Mode::BlackHole;
        shared.held.fetch_add(1, Ordering::SeqCst);
        Chunk { bytes: bytes.to_vec(), came: Instant::now(), swallowed, shared: shared.clone() }
    }

    /// At most so many bytes, and never all.
    fn first(&self, most: usize) -> &[u8] {
        &self.bytes[..most.min(self.bytes.len().saturating_sub(1))]
    }

    fn is_late(&self) -> bool {
        self.came.elapsed() > HOLD_MAX
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.shared.held.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether the connection goes on.
async fn deliver(chunk: &Chunk, to: &mut OwnedWriteHalf, number: u64, setting: &mut watch::Receiver<Setting>) -> bool {
    loop {
        let mode = setting.borrow_and_update().of(number);
        if chunk.is_late() || chunk.swallowed && mode != Mode::BlackHole {
            return false;
        }
        match mode {
            Mode::Pass => return to.write_all(&chunk.bytes).await.is_ok(),
            Mode::Latency(ms) => return after(ms, chunk, to).await,
            Mode::Jitter(ms) => return after(fastrand::u64(..=ms), chunk, to).await,
            Mode::Stall => {
                let left = HOLD_MAX.saturating_sub(chunk.came.elapsed());
                tokio::select! {
                    _ = setting.changed() => {}
                    () = sleep(left + Duration::from_millis(1)) => return false,
                }
            }
            Mode::Reset | Mode::Refuse => return false,
            Mode::Cut(most) => {
                let _ = to.write_all(chunk.first(most)).await;
                // Without the linger the part could be thrown away by the reset before it is read.
                let _ = to.shutdown().await;
                return false;
            }
            Mode::Half(most) => {
                let _ = to.write_all(chunk.first(most)).await;
                let _ = setting.changed().await;
                return false;
            }
            Mode::BlackHole => {
                let _ = setting.changed().await;
                return false;
            }
            Mode::Drip => return drip(chunk, to).await,
        }
    }
}

async fn after(ms: u64, chunk: &Chunk, to: &mut OwnedWriteHalf) -> bool {
    sleep(Duration::from_millis(ms).saturating_sub(chunk.came.elapsed())).await;
    !chunk.is_late() && to.write_all(&chunk.bytes).await.is_ok()
}

async fn drip(chunk: &Chunk, to: &mut OwnedWriteHalf) -> bool {
    const AT_ONCE: usize = 7;
    for part in chunk.bytes.chunks(AT_ONCE) {
        if chunk.is_late() || to.write_all(part).await.is_err() {
            return false;
        }
        sleep(Duration::from_millis(1)).await;
    }
    true
}
