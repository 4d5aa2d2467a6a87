//! Writes to Kask alone, in `redis-standby` with Redis out of reach: which keys, since when, and whether they can be healed.
//!
//! "This mirror is unclean since T" and the key are durable before the write happens; see [`journal`] for the file. All of its reading and
//! writing is done by a thread of its own (`writer`), so that the runtime never waits for the disk, and writes that come together
//! share a sync. When Redis is back, and a lease after the last lone write of a key, the key is healed (`healer`); once all are, the
//! journal goes. A journal that overflowed, is damaged or belongs to another version of the phase is told and never healed from: the
//! mirror stays unclean until the stash moves on.

mod gate;
mod healer;
pub mod journal;
mod writer;

use crate::{
    codec::{key::Key, show::rfc3339},
    protocol::world::Unheard,
};
use gate::Gate;
pub use gate::{LoneWrite, Promise};
use journal::{Journal, path_in};
use metrics::Gauge;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};
use writer::{Order, Writer};

/// Keys in one journal; one more, and it has overflowed.
pub const JOURNAL_KEYS_MAX: usize = 100_000;
/// Bytes of one journal.
pub const JOURNAL_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Orders that wait for the writer's thread; more wait for a place.
const ORDERS_MAX: usize = 1_024;
/// A disk that takes longer than this to note a key has not noted it: the write is refused while its client still waits.
const NOTE_TIMEOUT: Duration = Duration::from_secs(1);

/// How much a journal may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub keys_max: usize,
    pub bytes_max: u64,
}

impl Bounds {
    pub const DEFAULT: Bounds = Bounds { keys_max: JOURNAL_KEYS_MAX, bytes_max: JOURNAL_BYTES_MAX };
}

/// What status pages tell of writes to Kask alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AloneFigures {
    /// Keys that wait to be healed.
    pub keys: u64,
    /// Since when Redis lacks writes, RFC 3339; none: there is no journal.
    pub since: Option<String>,
    /// More keys were written than the journal holds.
    pub overflowed: bool,
    /// Why the journal cannot be healed from; the mirror stays unclean.
    pub trouble: Option<String>,
}

/// One key of the journal.
#[derive(Clone, Copy, Debug)]
struct Noted {
    /// When it was last written alone, or last tried in vain.
    at: Instant,
    /// Grows with each lone write of the key: healing began before it, or after.
    stamp: u64,
    waiting: bool,
}

/// The journal as far as it is durable.
#[derive(Debug)]
struct Standing {
    version: u64,
    since_unix_ms: u64,
    /// Those that are healed stay until the file goes: they are in it.
    keys: HashMap<Key, Noted>,
    waiting: usize,
    overflowed: bool,
    /// Why it is never healed from. Lone writes may go on: the mirror is durably unclean, and stays so.
    trouble: Option<String>,
    /// Nobody knows whether the flag is durable: nothing may be written alone.
    refuses: bool,
    /// The file is about to go; notes must ask the writer.
    closing: bool,
    /// An earlier process wrote it.
    found: bool,
}

impl Standing {
    fn new(version: u64, since_unix_ms: u64) -> Standing {
        Standing {
            version,
            since_unix_ms,
            keys: HashMap::new(),
            waiting: 0,
            overflowed: false,
            trouble: None,
            refuses: false,
            closing: false,
            found: false,
        }
    }

    fn note(&mut self, key: &Key) {
        let now = Instant::now();
        match self.keys.get_mut(key) {
            Some(noted) => {
                self.waiting += usize::from(!noted.waiting);
                *noted = Noted { at: now, stamp: noted.stamp + 1, waiting: true };
            }
            None => {
                self.keys.insert(key.clone(), Noted { at: now, stamp: 0, waiting: true });
                self.waiting += 1;
            }
        }
    }

    /// Never healed from now on; what it held in memory is of no use any more.
    fn give_up(&mut self, trouble: String) {
        self.trouble = Some(trouble);
        self.keys = HashMap::new();
        self.waiting = 0;
    }
}

/// What the writer's thread and everybody else know.
#[derive(Debug)]
struct Shared {
    stash: String,
    /// A `std` mutex: never held while the disk is waited for.
    standing: Mutex<Option<Standing>>,
    unclean: Gauge,
    /// The phase record says that the mirror is unclean, whatever the journal says.
    record_unclean: AtomicBool,
}

impl Shared {
    fn standing(&self) -> MutexGuard<'_, Option<Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self) {
        let unclean = self.standing().is_some() || self.record_unclean.load(Ordering::Acquire);
        self.unclean.set(if unclean { 1.0 } else { 0.0 });
    }
}

/// The writes to Kask alone of one stash.
#[derive(Debug)]
pub struct Alone {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    gate: Arc<Gate>,
}

impl Alone {
    /// Reads the stash's journal, if there is one, and starts the thread that writes it. Blocks on the disk.
    ///
    /// # Errors
    /// The thread cannot be started. A journal that cannot be read is no error: it is told, and the mirror is unclean.
    pub fn open(state_dir: &Path, stash: &str, unclean: Gauge) -> io::Result<Alone> {
        Alone::open_with(state_dir, stash, unclean, Bounds::DEFAULT)
    }

    /// With bounds of one's own.
    pub fn open_with(state_dir: &Path, stash: &str, unclean: Gauge, bounds: Bounds) -> io::Result<Alone> {
        let path = path_in(state_dir, stash);
        let (journal, standing) = found(&path, stash, bounds);
        let shared = Arc::new(Shared {
            stash: stash.to_owned(),
            standing: Mutex::new(standing),
            unclean,
            record_unclean: AtomicBool::new(false),
        });
        shared.show();
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let writer = Writer::new(path, bounds, shared.clone(), journal);
        std::thread::Builder::new().name("journal".into()).spawn(move || writer.run(received))?;
        Ok(Alone { shared, orders, gate: Arc::default() })
    }

    /// Makes durable that `key` is written to Kask alone under the phase of `version`. The write is under way until the answer is dropped.
    ///
    /// # Errors
    /// It is not durable, or this decant has promised a move not to: nothing may be written.
    pub(super) async fn note(&self, key: &Key, version: u64) -> Result<LoneWrite, Unheard> {
        let Some(inside) = self.gate.enter_by(version, Instant::now() + NOTE_TIMEOUT).await else {
            return Err(Unheard("the stash moves: nothing is written to Kask alone".into()));
        };
        if let Some(known) = self.known(key, version) {
            return known.map(|()| inside);
        }
        let (done, noted) = oneshot::channel();
        let order = Order::Note { key: key.clone(), version, done };
        let write = async {
            self.orders.send(order).await.map_err(|_| "the journal's thread has ended".to_owned())?;
            noted.await.unwrap_or_else(|_| Err("the journal's thread has ended".into()))
        };
        match timeout(NOTE_TIMEOUT, write).await {
            Ok(Ok(())) => Ok(inside),
            Ok(Err(why)) => Err(Unheard(format!("the journal cannot be written: {why}"))),
            Err(_) => Err(Unheard("the disk took too long to write the journal".into())),
        }
    }

    /// The answer where the disk need not be asked.
    fn known(&self, key: &Key, version: u64) -> Option<Result<(), Unheard>> {
        let mut standing = self.shared.standing();
        let standing = standing.as_mut()?;
        if standing.refuses || standing.closing {
            return None;
        }
        if standing.trouble.is_some() {
            return Some(Ok(()));
        }
        if standing.version != version || !standing.keys.contains_key(key) {
            return None;
        }
        standing.note(key);
        Some(Ok(()))
    }

    /// What the phase record says of the mirror.
    pub(super) fn record_says(&self, unclean: bool) {
        self.shared.record_unclean.store(unclean, Ordering::Release);
        self.shared.show();
    }

    /// Since when Redis lacks writes, in ms since 1970; none: there is no journal.
    pub(super) fn since_unix_ms(&self) -> Option<u64> {
        self.shared.standing().as_ref().map(|standing| standing.since_unix_ms)
    }

    pub fn figures(&self) -> AloneFigures {
        let standing = self.shared.standing();
        let Some(standing) = standing.as_ref() else { return AloneFigures::default() };
        AloneFigures {
            keys: standing.waiting as u64,
            since: Some(rfc3339(standing.since_unix_ms)),
            overflowed: standing.overflowed,
            trouble: standing.trouble.clone(),
        }
    }

    /// Why the mirror is not clean, with figures; none: no write has gone past Redis that is not healed.
    pub fn why_unclean(&self) -> Option<String> {
        let figures = self.figures();
        let since = figures.since?;
        Some(match figures.trouble {
            Some(trouble) => format!("writes have gone past Redis since {since}: {trouble}"),
            None => format!("{} keys written to Kask alone since {since} wait to be healed", figures.keys),
        })
    }

    /// No write begins to go past Redis under `version` from now on, and those under way are waited for.
    ///
    /// # Errors
    /// How many are still under way at `until`; the promise is taken back.
    pub(super) async fn promise(&self, version: u64, until: Instant) -> Result<Promise, usize> {
        let promise = self.gate.promise(version);
        match self.gate.emptied(until).await {
            0 => Ok(promise),
            left => Err(left),
        }
    }
}

/// The journal that an earlier process left.
fn found(path: &Path, stash: &str, bounds: Bounds) -> (Option<Journal>, Option<Standing>) {
    // The last record of all may stand behind the bound: "overflowed".
    let bytes_max = bounds.bytes_max + journal::entry_bytes(&journal::Entry::Overflowed);
    let (journal, read) = match Journal::open(path, stash, bytes_max) {
        Ok(None) => return (None, None),
        Ok(Some((journal, read))) => (Some(journal), read.map_err(|fault| fault.to_string())),
        Err(fault) => (None, Err(format!("it cannot be opened and synced: {fault}"))),
    };
    let mut standing = match read {
        Ok(contents) => {
            let mut standing = Standing::new(contents.header.version, contents.header.since_unix_ms);
            contents.keys.iter().for_each(|key| standing.note(key));
            if contents.overflowed {
                standing.overflowed = true;
                standing.give_up(overflowed(path));
            }
            standing
        }
        Err(why) => {
            let mut standing = Standing::new(0, modified_unix_ms(path));
            standing.give_up(format!("{} {why}; it is not guessed around. {UNTIL_IT_MOVES}", path.display()));
            standing.refuses = journal.is_none();
            standing
        }
    };
    standing.found = true;
    match &standing.trouble {
        Some(trouble) => tracing::error!(stash, trouble, "the mirror is unclean and will not be healed"),
        None => tracing::warn!(stash, keys = standing.waiting, "the mirror is unclean; it will be healed"),
    }
    (journal, Some(standing))
}

/// What ends a trouble.
const UNTIL_IT_MOVES: &str = "the mirror counts as unclean until the stash moves on: to kask-only, or back to kask-first by force, which sets the journal aside";

fn overflowed(path: &Path) -> String {
    format!("{} has overflowed: more keys were written than it holds. {UNTIL_IT_MOVES}", path.display())
}

fn of_another_version(path: &Path, version: u64, now: u64) -> String {
    format!(
        "{} belongs to version {version} of the phase, which is {now} now; it is not healed. {UNTIL_IT_MOVES}",
        path.display()
    )
}

fn modified_unix_ms(path: &Path) -> u64 {
    let modified = path.metadata().and_then(|about| about.modified()).unwrap_or_else(|_| SystemTime::now());
    modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
