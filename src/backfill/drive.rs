//! A run from its begin, or its place, to its end or its halt.

use super::{
    Backfill, Halt, Job, Pulse, Run, RunFault, Sieve, State,
    brake::OPERATIONS_MIN,
    job::{JobParts, verdict},
    pace::Pace,
    tally::Outcome,
    turn::{Turns, usual},
    walk,
};
use crate::{
    outbox::Outbox,
    phase::proof::{BackfillProof, kask_was_written_since},
    scan::Place,
    stash::mover::unix_ms,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// How often rate, brake and phase are looked at.
const TURN: Duration = Duration::from_secs(1);
/// Turns between two checkpoints.
const CHECKPOINT_TURNS: u64 = 2;
/// Turns between two counts of the names that there are.
const COUNT_TURNS: u64 = 30;

impl Backfill {
    pub(super) async fn drive(self: &Arc<Self>, stop: &CancellationToken) {
        let halt = match self.prepare().await {
            Ok((job, run)) => {
                self.job.store(Some(job.clone()));
                // Said before the job was there to hear it.
                if !self.ledger.is_running(run.begun_unix_ms) {
                    job.halt(Halt::Told);
                }
                self.work(&job, &run, stop).await;
                job.why().cloned()
            }
            Err(halt) => Some(halt),
        };
        if let Err(fault) = self.end(halt).await {
            tracing::error!(stash = self.stash.name, fault = %fault, "how the backfill ended is not written down; it is met again");
        }
        self.publish();
        self.job.store(None);
    }

    /// The job of the run as it is kept.
    async fn prepare(&self) -> Result<(Arc<Job>, Run), Halt> {
        let no_redis = || Halt::Pause("no Redis is configured for this stash".into());
        let outbox = self.stash.site.world.outbox.clone().ok_or_else(no_redis)?;
        let digest = self.stash.shards_digest();
        let names: Vec<String> = (0..self.stash.views.len()).map(|shard| self.stash.shard_name(shard)).collect();
        let run = self.ledger.change(|run| {
            // With another list of shards, no place means anything.
            if run.shards_digest != digest || run.shards.len() != names.len() {
                run.shards_digest = digest;
                run.shards = names.into_iter().map(|name| super::ShardRun { name, ..Default::default() }).collect();
            }
            run.clone()
        });
        let run = run.ok_or(Halt::Told)?;
        self.still_holds(run.version).await?;
        let run = self.met_again(run, &outbox);
        let sieve = Sieve::new(&run.filters, outbox.transcoder(), self.settings.default_ttl_s)
            .map_err(|fault| Halt::Pause(fault.to_string()))?;
        let copied = run.tally().of(if run.filters.dry_run { Outcome::Lacking } else { Outcome::Copied });
        let job = Job::new(JobParts {
            stash: self.stash.clone(),
            outbox,
            ledger: self.ledger.clone(),
            sieve,
            dry_run: run.filters.dry_run,
            pace: Pace::new(run.limits),
            left: run.filters.limit.map(|limit| limit.saturating_sub(copied)),
        });
        Ok((job, run))
    }

    /// With those shards at their beginning that left more keys than the list could hold.
    fn met_again(&self, run: Run, outbox: &Outbox) -> Run {
        let map = outbox.map();
        let shards = self.ledger.failed_unlisted(|key| map.shard_of(key));
        for &shard in &shards {
            tracing::info!(
                stash = self.stash.name,
                shard = self.stash.shard_name(shard),
                "more keys of this shard had failed than are listed: the backfill walks it from the beginning"
            );
            self.ledger.begin_again(shard, |key| map.shard_of(key) == shard);
        }
        if shards.is_empty() { run } else { self.ledger.change(|run| run.clone()).unwrap_or(run) }
    }

    async fn work(self: &Arc<Self>, job: &Arc<Job>, run: &Run, stop: &CancellationToken) {
        let usual = usual(&self.idle.lock().unwrap_or_else(|e| e.into_inner()), OPERATIONS_MIN);
        let mut turns = Turns::new(job, usual, self.settings.harmless);
        let places: Vec<Place> = run.shards.iter().map(|shard| shard.place.clone()).collect();
        let (own, count) = (job.clone(), places.len());
        let walks = async move {
            let mut walks = JoinSet::new();
            for (shard, place) in places.into_iter().enumerate() {
                walk::count_names(&own, shard).await;
                walks.spawn(walk::shard(own.clone(), shard, place));
            }
            while walks.join_next().await.is_some() {}
            if !own.is_halted() {
                walk::failed_again(&own).await;
            }
        };
        tokio::pin!(walks);
        let mut clock = interval(TURN);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut turn, mut version) = (0_u64, self.version());
        loop {
            tokio::select! {
                () = &mut walks => break,
                () = stop.cancelled(), if !job.is_halted() => job.halt(Halt::Stopping),
                _ = clock.tick() => {
                    turn += 1;
                    let share = self.ledger.lock().run.as_ref().map_or(0.0, Run::share);
                    self.show(turns.turn(job, share));
                    if let Some(halt) = verdict(self.stash.site.belief().phase()) {
                        job.halt(halt);
                    }
                    if version != self.version() {
                        version = self.version();
                        if let Err(halt) = self.still_holds(run.version).await {
                            job.halt(halt);
                        }
                    }
                    if turn.is_multiple_of(COUNT_TURNS) {
                        for shard in 0..count {
                            walk::count_names(job, shard).await;
                        }
                    }
                    if turn.is_multiple_of(CHECKPOINT_TURNS) && !job.is_halted() && let Err(fault) = self.checkpoint().await {
                        job.halt(Halt::Pause(format!("{fault}; make room or mend the disk, then resume: it goes on from the last checkpoint")));
                    }
                }
            }
        }
        self.show(Pulse::default());
    }

    fn show(&self, pulse: Pulse) {
        *self.pulse.lock().unwrap_or_else(|e| e.into_inner()) = pulse;
        self.measure();
    }

    fn version(&self) -> u64 {
        self.mover.shown().map_or(0, |record| record.version)
    }

    /// Whether what was copied under `version` is worth anything still: writes may have gone past Kask since.
    async fn still_holds(&self, version: u64) -> Result<(), Halt> {
        let holds = match (self.mover.shown(), self.mover.moves().await) {
            (Some(now), Ok(moves)) => Some(kask_was_written_since(version, &now, &moves)),
            _ => None,
        };
        match holds {
            Some(false) => Err(Halt::Void(
                "phases have moved since it began, through redis-only or unseen: writes may have gone past Kask; begin anew".into(),
            )),
            // Where the history cannot be read the guards will say so.
            Some(true) | None => Ok(()),
        }
    }

    async fn end(&self, halt: Option<Halt>) -> Result<(), RunFault> {
        let (ledger, now) = (self.ledger.clone(), unix_ms());
        let ending = tokio::task::spawn_blocking(move || {
            let stored = ledger.end(|run| leave(run, halt.as_ref(), now));
            if let Some(run) = ledger.lock().run.as_ref().filter(|run| run.state != State::Running) {
                tell(run);
            }
            stored
        });
        // It cannot have panicked; if it did, the next start goes on with it.
        ending.await.unwrap_or(Ok(()))
    }
}

/// The state that a run is left in.
fn leave(run: &mut Run, halt: Option<&Halt>, now: u64) {
    if run.state != State::Running {
        return;
    }
    let (state, why) = match halt {
        None if run.is_walked() => (State::Finished, None),
        // Never, unless something panicked, which is in the log: what was not met must not pass for done.
        None => (
            State::Paused,
            Some("a part of it ended by a fault of decant's; please report what the log says, and resume".to_owned()),
        ),
        Some(Halt::Limit) => {
            (State::Finished, Some("as many keys as were asked for are copied; others were not met".to_owned()))
        }
        Some(Halt::Told | Halt::Stopping) => return,
        Some(Halt::Pause(why)) => (State::Paused, Some(why.clone())),
        Some(Halt::Void(why)) => (State::Void, Some(why.clone())),
    };
    (run.state, run.why, run.changed_unix_ms) = (state, why, now);
    if state == State::Finished && run.filters.are_none() {
        run.complete = Some(proof(run));
    }
}

fn tell(run: &Run) {
    let tally = run.tally();
    tracing::info!(
        stash = run.stash,
        state = run.state.name(),
        why = run.why,
        copied = tally.of(Outcome::Copied),
        equal = tally.of(Outcome::Equal),
        not_moved = tally.not_moved(),
        "the backfill ends"
    );
}

fn proof(run: &Run) -> BackfillProof {
    let tally = run.tally();
    BackfillProof {
        begun_unix_ms: run.begun_unix_ms,
        ended_unix_ms: run.changed_unix_ms,
        phase: run.phase,
        version: run.version,
        keys: tally.of(Outcome::Copied) + tally.of(Outcome::Equal),
        impossible: tally.not_moved() - tally.of(Outcome::Failed),
        failed: tally.of(Outcome::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::run::tests::run, *};

    #[test]
    fn a_run_that_was_not_walked_to_its_end_has_not_finished() {
        let mut cut = run();
        leave(&mut cut, None, 7);
        assert_eq!((cut.state, cut.complete.is_none()), (State::Paused, true), "{:?}", cut.why);
        let mut whole = run();
        whole.shards[0].place = Place::End;
        leave(&mut whole, None, 7);
        assert_eq!((whole.state, whole.complete.is_some()), (State::Finished, true));
    }
}
