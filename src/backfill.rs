//! The bulk copy: walks every shard of a stash and copies to Kask what it lacks, beside live traffic.
//!
//! One run at a time. It is kept durably and goes on where it was, after a pause as after `kill -9`: each shard from the place behind the last
//! page whose keys were all met. Keys met twice for that are found in Kask and only counted. How a key is copied is the
//! protocol's ([`crate::protocol::backfill`]); here is which keys, how fast, and what becomes known of it.

mod age;
mod batch;
mod brake;
mod drive;
mod filters;
mod gauges;
mod holds;
mod job;
mod ledger;
mod not_moved;
mod pace;
mod page;
mod patience;
mod run;
mod tally;
mod turn;
mod view;
mod walk;

pub use age::Age;
pub use filters::{FilterFault, Filters};
pub use holds::{Hold, Holder};
pub use pace::Limits;
pub use run::{RunFault, State};
pub use tally::{Amount, Outcome};
pub use view::{BackfillView, RunView, ShardView, StayedView};

use crate::{
    phase::Phase,
    protocol::backfill::copies_in,
    stash::{
        Stash,
        load::Readings,
        mover::{Mover, unix_ms},
    },
};
use arc_swap::ArcSwapOption;
use filters::Sieve;
use gauges::Gauges;
use job::{Halt, Job};
use ledger::Ledger;
use run::{Run, ShardRun};
use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use view::Pulse;

/// How often a stash without a run is looked at: what is usual for clients is measured then.
const IDLE_TURN: Duration = Duration::from_secs(1);
/// How long a new run waits for what the last one has under way: as long as one copy can take.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const END_LOOK: Duration = Duration::from_millis(10);
/// Readings of clients' latency that are kept while there is no run.
const IDLE_READINGS: usize = 30;

/// What holds for every run of a stash.
#[derive(Clone, Debug)]
pub struct BackfillSettings {
    /// Where a run asks for nothing else.
    pub limits: Limits,
    /// Clients' operations up to this long never brake a run.
    pub harmless: Duration,
    /// The stash's, which tells when a value was written.
    pub default_ttl_s: u64,
}

/// The backfill of one stash.
pub struct Backfill {
    mover: Arc<Mover>,
    stash: Arc<Stash>,
    settings: BackfillSettings,
    ledger: Arc<Ledger>,
    /// One command at a time: each is durable before the next is heard.
    commands: tokio::sync::Mutex<()>,
    /// What is at work.
    job: ArcSwapOption<Job>,
    /// A run is to begin.
    wake: Notify,
    pulse: Mutex<Pulse>,
    gauges: Gauges,
    /// Clients' latency while there was no run, the newest last.
    idle: Mutex<VecDeque<Readings>>,
}

/// What is asked of a new run.
#[derive(Clone, Debug)]
pub struct StartRequest {
    pub filters: Filters,
    pub limits: Limits,
    pub by: String,
}

/// A change of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeRequest {
    pub keys_per_s: Option<u64>,
    pub bytes_per_s: Option<u64>,
    /// To go on, or to pause.
    pub go_on: Option<bool>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum BackfillFault {
    #[error("decant is starting: the phase in force is not confirmed yet; try again")]
    Starting,
    #[error("no Redis is configured for this stash: there is nothing to copy from")]
    NoRedis,
    #[error("a backfill copies in dual-write and kask-first, and the stash is in {0}")]
    Phase(Phase),
    #[error("the move to {0} has not settled yet; try again")]
    Moving(Phase),
    #[error("a backfill is {} already, begun by {by} at {begun}; {}", .state.name(), if *.state == State::Paused { "resume or cancel it" } else { "pause or cancel it first" })]
    UnderWay { state: State, by: String, begun: String },
    #[error("the last backfill is still ending; try again")]
    Ending,
    #[error(transparent)]
    Filter(#[from] FilterFault),
    #[error("there is no backfill that {0}")]
    NoneThat(&'static str),
    #[error("{0}; it was not begun")]
    Store(RunFault),
    #[error("{0}; it holds as long as decant runs")]
    Told(RunFault),
}

impl Backfill {
    /// Reads the last run; [`Backfill::run`] goes on with it.
    pub fn open(mover: Arc<Mover>, dir: &Path, settings: BackfillSettings) -> Arc<Backfill> {
        let stash = mover.stash().clone();
        let backfill = Backfill {
            ledger: Arc::new(Ledger::open(dir, &stash.name)),
            gauges: Gauges::new(&stash.name),
            mover,
            stash,
            settings,
            commands: tokio::sync::Mutex::default(),
            job: ArcSwapOption::empty(),
            wake: Notify::new(),
            pulse: Mutex::default(),
            idle: Mutex::default(),
        };
        backfill.publish();
        Arc::new(backfill)
    }

    pub fn stash(&self) -> &Arc<Stash> {
        &self.stash
    }

    /// Of a run that asks for nothing else.
    pub fn limits(&self) -> Limits {
        self.settings.limits
    }

    /// Works until stopped: whatever run there is, one at a time.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if self.ledger.state() == Some(State::Running) && self.stash.is_confirmed() {
                self.drive(&stop).await;
                continue;
            }
            self.read_idle();
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = sleep(IDLE_TURN) => {}
            }
        }
    }

    fn read_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(|e| e.into_inner());
        idle.push_back(self.stash.load.read());
        if idle.len() > IDLE_READINGS {
            idle.pop_front();
        }
    }

    /// Begins a run, durably.
    ///
    /// # Errors
    /// Why not; nothing has changed.
    pub async fn start(self: &Arc<Self>, asked: StartRequest) -> Result<(), BackfillFault> {
        let _one = self.commands.lock().await;
        let record = self.mover.shown().filter(|_| self.stash.is_confirmed()).ok_or(BackfillFault::Starting)?;
        let outbox = self.stash.site.world.outbox.as_ref().ok_or(BackfillFault::NoRedis)?;
        Sieve::new(&asked.filters, outbox.transcoder(), self.settings.default_ttl_s)?;
        let complete = {
            let book = self.ledger.lock();
            match &book.run {
                Some(run) if !run.is_over() => {
                    return Err(BackfillFault::UnderWay {
                        state: run.state,
                        by: run.by.clone(),
                        begun: rfc3339(run.begun_unix_ms),
                    });
                }
                last => last.as_ref().and_then(|run| run.complete.clone()),
            }
        };
        // What the last one has under way must not be counted as this one's.
        let until = Instant::now() + END_TIMEOUT;
        while self.job.load().is_some() {
            if Instant::now() >= until {
                return Err(BackfillFault::Ending);
            }
            sleep(END_LOOK).await;
        }
        if !copies_in(record.phase) {
            return Err(BackfillFault::Phase(record.phase));
        }
        if !record.is_settled() {
            return Err(BackfillFault::Moving(record.phase));
        }
        let now = unix_ms();
        let names = (0..self.stash.views.len()).map(|shard| self.stash.shard_name(shard));
        let run = Run {
            stash: self.stash.name.clone(),
            state: State::Running,
            why: None,
            by: asked.by,
            begun_unix_ms: now,
            changed_unix_ms: now,
            phase: record.phase,
            version: record.version,
            filters: asked.filters,
            limits: asked.limits,
            shards_digest: self.stash.shards_digest(),
            shards: names.map(|name| ShardRun { name, ..ShardRun::default() }).collect(),
            unlisted: 0,
            complete,
        };
        tracing::info!(
            stash = run.stash,
            by = run.by,
            phase = run.phase.name(),
            version = run.version,
            dry_run = run.filters.dry_run,
            "a backfill begins"
        );
        let before = {
            let mut book = self.ledger.lock();
            std::mem::take(&mut *book)
        };
        self.ledger.begin(run);
        if let Err(fault) = self.checkpoint().await {
            *self.ledger.lock() = before;
            return Err(BackfillFault::Store(fault));
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Other limits, a pause, or the end of one.
    ///
    /// # Errors
    /// Why not.
    pub async fn change(self: &Arc<Self>, asked: ChangeRequest, by: &str) -> Result<(), BackfillFault> {
        let _one = self.commands.lock().await;
        match asked.go_on {
            Some(true) => self.set_state(State::Running, None, "can be resumed", |run| {
                run.state == State::Paused || run.state == State::Finished && run.tally().of(Outcome::Failed) > 0
            })?,
            Some(false) => {
                let why = Some(format!("by {by}"));
                self.set_state(State::Paused, why, "is running", |run| run.state == State::Running)?;
            }
            None => {}
        }
        let limits = {
            let mut book = self.ledger.lock();
            let run = book.run.as_mut().filter(|run| !run.is_over() || asked.go_on.is_some());
            let run = run.ok_or(BackfillFault::NoneThat("is running or paused"))?;
            run.limits.keys_per_s = asked.keys_per_s.unwrap_or(run.limits.keys_per_s);
            run.limits.bytes_per_s = asked.bytes_per_s.unwrap_or(run.limits.bytes_per_s);
            run.limits
        };
        if let Some(job) = self.job.load_full() {
            job.pace.set_limits(limits);
            if asked.go_on == Some(false) {
                job.halt(Halt::Told);
            }
        }
        self.ledger.change(|_| {});
        self.checkpoint().await.map_err(BackfillFault::Told)?;
        self.wake.notify_one();
        Ok(())
    }

    /// Ends a run that is under way; what it has copied stays.
    ///
    /// # Errors
    /// Why not.
    pub async fn cancel(self: &Arc<Self>, by: &str) -> Result<(), BackfillFault> {
        let _one = self.commands.lock().await;
        let why = Some(format!("by {by}"));
        self.set_state(State::Cancelled, why, "is running or paused", |run| !run.is_over())?;
        if let Some(job) = self.job.load_full() {
            job.halt(Halt::Told);
        }
        self.checkpoint().await.map_err(BackfillFault::Told)
    }

    fn set_state(
        &self,
        state: State,
        why: Option<String>,
        wanted: &'static str,
        fits: impl FnOnce(&Run) -> bool,
    ) -> Result<(), BackfillFault> {
        let changed = self.ledger.change(|run| {
            let fits = fits(run);
            if fits {
                (run.state, run.why, run.changed_unix_ms) = (state, why, unix_ms());
                tracing::info!(stash = run.stash, state = state.name(), "an operator changed the backfill");
            }
            fits
        });
        self.measure();
        if changed == Some(true) { Ok(()) } else { Err(BackfillFault::NoneThat(wanted)) }
    }

    /// Writes down what has changed.
    async fn checkpoint(&self) -> Result<(), RunFault> {
        let ledger = self.ledger.clone();
        // It cannot have panicked; if it did, the next one writes the same.
        tokio::task::spawn_blocking(move || ledger.checkpoint()).await.unwrap_or(Ok(()))
    }

    /// Tells the guards what the last complete run was.
    fn publish(&self) {
        let complete = self.ledger.lock().run.as_ref().and_then(|run| run.complete.clone());
        self.stash.proofs.backfill.store(complete.map(Arc::new));
        self.measure();
    }

    fn at_the_moment(&self) -> (Pulse, Option<Hold>) {
        let pulse = *self.pulse.lock().unwrap_or_else(|e| e.into_inner());
        (pulse, self.job.load().as_ref().and_then(|job| job.holds.now()))
    }

    /// Brings the metrics up to date.
    fn measure(&self) {
        let (pulse, held_by) = self.at_the_moment();
        self.gauges.show(self.ledger.state(), &pulse, held_by.as_ref());
    }

    /// `keys`: also those that stayed behind, which are personal data.
    pub fn view(&self, keys: bool) -> BackfillView {
        let (pulse, held_by) = self.at_the_moment();
        let book = self.ledger.lock();
        let listed = book.not_moved.len() as u64;
        let mut run = book.run.as_ref().map(|run| view::run(run, pulse, held_by, listed));
        if let Some(run) = run.as_mut().filter(|_| keys) {
            run.stayed = Some(book.not_moved.iter().map(|(key, entry)| view::stayed(key, entry)).collect());
        }
        BackfillView { stash: self.stash.name.clone(), trouble: book.trouble.clone(), run }
    }
}

fn rfc3339(unix_ms: u64) -> String {
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms);
    humantime::format_rfc3339_seconds(time).to_string()
}
