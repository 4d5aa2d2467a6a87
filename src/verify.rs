//! Compares the tiers of a stash key by key, beside live traffic, and says whether everything arrived.
//!
//! # What a run does
//! Every shard of Redis is walked (`feed`), and each key is looked at in both tiers (`look`) until it is known what became of it (`case`):
//! what writes, intents and outages explain is looked at again and does not count. Each key is counted once, however often SCAN gives it
//! (`distinct`). What came of it is a [`Report`], kept in `state_dir` (`store`), by which the guards of moves go.
//!
//! While Redis counts, Kask is held to it: a key is `missing` or `different` in Kask. In `redis-standby` Kask counts: then a run shows how
//! good a way back the mirror is, and `missing` means that only Redis has a value, which no client reads any more.
//!
//! # What it cannot see
//! Keys that only Kask holds: Kask's API lists none. While Redis counts they are what Redis has let go of, or what was deleted past decant.
//!
//! # What is bounded
//! Looks under way, keys that wait, differences listed, and memory as a whole, whatever the number of keys.

mod case;
mod class;
mod distinct;
mod feed;
mod fix;
mod look;
mod pace;
mod progress;
mod report;
mod run;
mod shard;
mod store;

pub use class::Class;
pub use progress::{Progress, ShardProgress};
pub use report::{Asked, BLIND, Difference, Keys, LeftOut, Report, percent};

use crate::{
    codec::show::rfc3339,
    phase::{Phase, record::State},
    protocol::backfill::copies_in,
    scan::Glob,
    stash::mover::{Mover, unix_ms},
};
use run::{Run, Stand, run};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use store::{Hasher, Kept, Store, UnderWay};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The largest sample: a run over more keys is hardly slower than one over all.
pub const SAMPLE_MAX: u64 = 1_000_000;

/// What an operator asks for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// So many keys, drawn at random; none: all.
    pub sample: Option<u64>,
    /// Only keys that fit.
    pub only: Option<Glob>,
    /// Bring in step what differs, by the protocol.
    pub fix: bool,
    /// Keys, which are personal data, stand in the report.
    pub show_keys: bool,
    /// Keys a second at most.
    pub rate: Option<u32>,
}

impl Request {
    fn asked(&self) -> Asked {
        Asked { sample: self.sample, only: self.only.as_ref().map(|only| only.text().to_owned()), fix: self.fix }
    }
}

/// Why no run begins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartFault {
    #[error("decant is starting: the phase in force is not confirmed yet; try again")]
    Starting,
    #[error("the run {id} is under way since {since}: wait for it, or cancel it")]
    UnderWay { id: String, since: String },
    #[error("the move to {0} has not settled yet: what is in transit between the tiers cannot be compared; try again")]
    Moving(Phase),
    #[error("in kask-only Redis is not asked any more: there is nothing to compare")]
    Retired,
    #[error("in {0} nothing is copied to Kask: verify without fix, or move to dual-write first")]
    CannotFix(Phase),
    #[error("no Redis is configured for this stash: there is nothing to compare")]
    NoRedis,
    #[error("{0}")]
    NoStore(String),
}

/// What `GET …/verify` tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub stash: String,
    /// The run under way.
    pub running: Option<Progress>,
    /// What the last run came to.
    pub report: Option<Report>,
}

/// What status pages tell of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Brief {
    pub running: Option<Progress>,
    pub last: Option<BriefReport>,
}

/// A [`Report`] in a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BriefReport {
    pub ended: String,
    pub ended_unix_ms: u64,
    #[serde(flatten)]
    pub asked: Asked,
    pub arrived: bool,
    pub summary: String,
}

/// Verifies one stash: one run at a time.
pub struct Verifier {
    mover: Arc<Mover>,
    store: Store,
    /// None: its secret cannot be used, and no run begins; this is why.
    hasher: Result<Arc<Hasher>, String>,
    notes: PathBuf,
    key_bytes_max: usize,
    /// Ends runs when decant ends.
    background: CancellationToken,
    tasks: TaskTracker,
    /// A `std` mutex: held to compare and to copy an `Arc`.
    state: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    running: Option<Running>,
    kept: Kept,
}

struct Running {
    id: String,
    begun_unix_ms: u64,
    asked: Asked,
    stop: CancellationToken,
    /// None: it is just beginning.
    run: Option<Arc<Run>>,
}

impl Verifier {
    /// Blocks on the disk. A run that was cut off with the process is told of as such. What cannot be read stops no start: it is logged, and a
    /// run has to be made again.
    pub fn open(
        mover: Arc<Mover>,
        state_dir: &Path,
        key_bytes_max: usize,
        background: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Verifier> {
        let name = mover.stash().name.clone();
        let store = Store::new(state_dir, &name);
        let kept = store.load().unwrap_or_else(|fault| {
            tracing::error!(stash = name, fault = %fault, "the reports of verify cannot be read");
            Kept::default()
        });
        let hasher = Hasher::open(state_dir, &name).map(Arc::new).map_err(|fault| fault.to_string());
        let notes = state_dir.join(format!("{name}.verify.notes"));
        // A leftover of a run that was cut off: the next one would remove it, but until then it takes room.
        let _ = std::fs::remove_dir_all(&notes);
        let kept = cut_off(kept, &name);
        publish(&mover, &kept);
        let state = Mutex::new(Now { running: None, kept });
        Arc::new(Verifier { mover, store, hasher, notes, key_bytes_max, background, tasks, state })
    }

    pub fn stash_name(&self) -> &str {
        &self.mover.stash().name
    }

    fn state(&self) -> MutexGuard<'_, Now> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn view(&self) -> View {
        let state = self.state();
        View {
            stash: self.stash_name().to_owned(),
            running: state.running.as_ref().map(Running::progress),
            report: state.kept.last.clone(),
        }
    }

    pub fn brief(&self) -> Brief {
        let View { running, report, .. } = self.view();
        let last = report.map(|report| BriefReport {
            ended: report.ended,
            ended_unix_ms: report.ended_unix_ms,
            asked: report.asked,
            arrived: report.arrived,
            summary: report.summary,
        });
        Brief { running, last }
    }

    /// Begins a run; its id.
    ///
    /// # Errors
    /// Why none begins.
    pub fn start(self: &Arc<Self>, request: Request) -> Result<String, StartFault> {
        let record = self.mover.shown().ok_or(StartFault::Starting)?;
        let stash = self.mover.stash().clone();
        if stash.site.world.outbox.is_none() {
            return Err(StartFault::NoRedis);
        }
        let hasher = self.hasher.clone().map_err(StartFault::NoStore)?;
        match record.phase {
            Phase::KaskOnly => return Err(StartFault::Retired),
            _ if record.state == State::Moving => return Err(StartFault::Moving(record.phase)),
            phase if request.fix && !copies_in(phase) && phase != Phase::RedisStandby => {
                return Err(StartFault::CannotFix(phase));
            }
            _ => {}
        }
        let belief = stash.site.belief();
        let id = format!("{:016x}", fastrand::u64(..));
        let stop = self.background.child_token();
        let begun_unix_ms = unix_ms();
        {
            let mut state = self.state();
            if let Some(running) = &state.running {
                let (id, since) = (running.id.clone(), rfc3339(running.begun_unix_ms));
                return Err(StartFault::UnderWay { id, since });
            }
            let asked = request.asked();
            let (under_way_asked, version) = (asked.clone(), belief.fence.version);
            state.running = Some(Running { id: id.clone(), begun_unix_ms, asked, stop: stop.clone(), run: None });
            state.kept.under_way = Some(UnderWay {
                id: id.clone(),
                phase: belief.phase(),
                version,
                begun_unix_ms,
                asked: under_way_asked,
            });
        }
        let stand = Stand {
            id: id.clone(),
            stash,
            belief,
            hasher,
            key_bytes_max: self.key_bytes_max,
            stop,
            notes: self.notes.clone(),
        };
        self.tasks.spawn(self.clone().carry_out(request, stand));
        Ok(id)
    }

    async fn carry_out(self: Arc<Self>, request: Request, stand: Stand) {
        let (stash, id) = (self.stash_name().to_owned(), stand.id.clone());
        tracing::info!(stash, id, sample = request.sample, fix = request.fix, "verify begins");
        let begun = self.state().kept.clone();
        self.keep(&begun).await;
        let verifier = self.clone();
        let tell = move |run: Arc<Run>| {
            if let Some(running) = &mut verifier.state().running {
                running.run = Some(run);
            }
        };
        let report = run(request, stand, tell).await;
        tracing::info!(
            stash,
            id,
            arrived = report.arrived,
            complete = report.complete,
            "verify has ended: {}",
            report.summary
        );
        let mut kept = Kept { under_way: None, ..self.state().kept.clone() };
        // One that was cut short and found nothing says nothing against the one before.
        if report.asked.is_full() && (report.complete || report.keys.missing + report.keys.different > 0) {
            kept.full = Some(report.clone());
        }
        kept.last = Some(report);
        // Durable before anybody is told of it.
        self.keep(&kept).await;
        publish(&self.mover, &kept);
        let mut state = self.state();
        (state.running, state.kept) = (None, kept);
    }

    /// Writes the reports down, beside the runtime.
    async fn keep(&self, kept: &Kept) {
        let (store, kept) = (self.store.clone(), kept.clone());
        let written = tokio::task::spawn_blocking(move || store.store(&kept)).await;
        if let Ok(Err(fault)) = written {
            tracing::error!(stash = self.stash_name(), fault = %fault, "the report of verify could not be kept");
        }
    }

    /// Whether there was a run to cancel. What it has found so far becomes its report.
    pub fn cancel(&self) -> bool {
        let state = self.state();
        let Some(running) = &state.running else { return false };
        if let Some(run) = &running.run {
            run.lacks("it was cancelled".to_owned());
        }
        running.stop.cancel();
        true
    }
}

impl Running {
    fn progress(&self) -> Progress {
        match &self.run {
            Some(run) => run.live.seen(&self.id, run.belief.phase(), self.begun_unix_ms, &self.asked),
            None => Progress {
                id: self.id.clone(),
                begun: rfc3339(self.begun_unix_ms),
                begun_unix_ms: self.begun_unix_ms,
                asked: self.asked.clone(),
                ..Progress::default()
            },
        }
    }
}

/// Tells the guards what the last run over everything was.
fn publish(mover: &Mover, kept: &Kept) {
    let proof = kept.full.as_ref().map(|report| Arc::new(report.proof()));
    mover.stash().proofs.verify.store(proof);
}

/// A run that was under way when its process ended has proven nothing.
fn cut_off(mut kept: Kept, stash: &str) -> Kept {
    let Some(cut) = kept.under_way.take() else { return kept };
    let report = Report {
        id: cut.id,
        stash: stash.to_owned(),
        phase: cut.phase,
        version: cut.version,
        begun: rfc3339(cut.begun_unix_ms),
        begun_unix_ms: cut.begun_unix_ms,
        ended: rfc3339(cut.begun_unix_ms),
        ended_unix_ms: cut.begun_unix_ms,
        asked: cut.asked,
        keys: Keys::default(),
        left_out: LeftOut::default(),
        complete: false,
        incomplete: vec!["decant ended while it was under way".to_owned()],
        arrived: false,
        equal_percent: None,
        summary: String::new(),
        differences: Vec::new(),
        not_compared: String::new(),
    };
    kept.last = Some(report.concluded());
    kept
}
