//! A run, as it is kept.
//!
//! # On disk
//! `<state_dir>/<stash>.backfill.json` holds the last run, replaced whole at every checkpoint. A run that says `running` is taken up
//! again by the next start, each shard from the place behind the last page of which every key's fate is in the counts.

use super::{filters::Filters, pace::Limits, tally::Tally};
use crate::{
    durable,
    phase::{Phase, proof::BackfillProof},
    scan::Place,
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Running,
    /// It can be resumed.
    Paused,
    /// Every key was met.
    Finished,
    Cancelled,
    /// A move made it void.
    Void,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Paused => "paused",
            State::Finished => "finished",
            State::Cancelled => "cancelled",
            State::Void => "void",
        }
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub stash: String,
    pub state: State,
    /// Why it is in this state, where that is not plain; one line for a person.
    pub why: Option<String>,
    pub by: String,
    pub begun_unix_ms: u64,
    /// When the state last changed.
    pub changed_unix_ms: u64,
    /// The phase and its version when it began.
    pub phase: Phase,
    pub version: u64,
    pub filters: Filters,
    pub limits: Limits,
    /// Digest of the list of shards: with another list the places mean nothing.
    pub shards_digest: String,
    pub shards: Vec<ShardRun>,
    /// Keys that stay behind and are over the bound of the list.
    pub unlisted: u64,
    /// The last finished run that met every key, this one or an earlier.
    pub complete: Option<BackfillProof>,
}

/// How far one shard is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRun {
    pub name: String,
    pub place: Place,
    pub tally: Tally,
    /// Names in its database when last asked, for the share.
    pub names: Option<u64>,
}

impl ShardRun {
    /// The share of its names that were walked, 0 to 1; only a walk at its end has all.
    pub fn share(&self) -> f64 {
        match (&self.place, self.names) {
            (Place::End, _) => 1.0,
            (_, Some(names)) if names > 0 => (self.tally.walked.names as f64 / names as f64).min(0.999),
            _ => 0.0,
        }
    }
}

impl Run {
    pub fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        self.shards.iter().for_each(|shard| sum += &shard.tally);
        sum
    }

    /// Every shard was walked to its end.
    pub fn is_walked(&self) -> bool {
        self.shards.iter().all(|shard| shard.place == Place::End)
    }

    /// The share of all names that were walked, 0 to 1. It never shows the whole before every shard is done.
    pub fn share(&self) -> f64 {
        if self.is_walked() {
            return 1.0;
        }
        let weight = |shard: &ShardRun| shard.names.unwrap_or(1).max(1) as f64;
        let all: f64 = self.shards.iter().map(weight).sum();
        let walked: f64 = self.shards.iter().map(|shard| shard.share() * weight(shard)).sum();
        (walked / all.max(1.0)).min(0.999)
    }

    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Finished | State::Cancelled | State::Void)
    }
}

/// The file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RunFault {
    #[error("{} cannot be {doing}: {source}", path.display())]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
    #[error("{} is damaged ({why}); a new backfill replaces it", path.display())]
    Damaged { path: PathBuf, why: String },
}

/// The file of one stash.
#[derive(Clone, Debug)]
pub(super) struct RunFile {
    path: PathBuf,
    stash: String,
}

impl RunFile {
    pub(super) fn new(dir: &Path, stash: &str) -> RunFile {
        RunFile { path: dir.join(format!("{stash}.backfill.json")), stash: stash.to_owned() }
    }

    /// `None`: there was never a run.
    pub(super) fn load(&self) -> Result<Option<Run>, RunFault> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RunFault::Io { path: self.path.clone(), doing: "read", source }),
        };
        let damaged = |why: String| RunFault::Damaged { path: self.path.clone(), why };
        let run: Run = serde_json::from_slice(&text).map_err(|fault| damaged(fault.to_string()))?;
        match run.stash == self.stash {
            true => Ok(Some(run)),
            false => Err(damaged(format!("it is of stash \"{}\"", run.stash))),
        }
    }

    pub(super) fn store(&self, run: &Run) -> Result<(), RunFault> {
        let fault = |source| RunFault::Io { path: self.path.clone(), doing: "written", source };
        let mut text = serde_json::to_vec_pretty(run).map_err(|e| fault(e.into()))?;
        text.push(b'\n');
        durable::replace(&self.path, &text).map_err(fault)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::scan::Counts;

    pub(in super::super) fn run() -> Run {
        Run {
            stash: "s".into(),
            state: State::Running,
            why: None,
            by: "me".into(),
            begun_unix_ms: 5,
            changed_unix_ms: 6,
            phase: Phase::DualWrite,
            version: 2,
            filters: Filters::default(),
            limits: Limits::default(),
            shards_digest: "d".into(),
            shards: vec![ShardRun { name: "a".into(), ..ShardRun::default() }],
            unlisted: 0,
            complete: None,
        }
    }

    #[test]
    fn a_run_is_read_back_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = RunFile::new(dir.path(), "s");
        assert_eq!(file.load().unwrap(), None);
        let mut run = run();
        run.shards[0].place = Place::On { run_id: "r".into(), cursor: u64::MAX };
        file.store(&run).unwrap();
        assert_eq!(file.load().unwrap(), Some(run));
        let other = RunFile { stash: "t".into(), ..file.clone() };
        assert!(other.load().unwrap_err().to_string().contains("it is of stash \"s\""));
        let whole = fs::read(dir.path().join("s.backfill.json")).unwrap();
        for length in 0..whole.len() - 2 {
            fs::write(dir.path().join("s.backfill.json"), &whole[..length]).unwrap();
            assert!(matches!(file.load(), Err(RunFault::Damaged { .. })), "{length}");
        }
    }

    #[test]
    fn the_whole_is_shown_only_when_every_shard_is_done() {
        let shard = |place, walked, names| ShardRun {
            place,
            names,
            tally: Tally { walked: Counts { names: walked, ..Counts::default() }, ..Tally::default() },
            ..ShardRun::default()
        };
        let on = || Place::On { run_id: String::new(), cursor: 7 };
        let share = |shards| Run { shards, ..run() }.share();
        assert_eq!(share(vec![shard(Place::Start, 0, None)]), 0.0);
        assert_eq!(share(vec![shard(on(), 50, Some(100)), shard(Place::End, 100, Some(100))]), 0.75);
        assert_eq!(share(vec![shard(on(), 500, Some(100))]), 0.999, "keys come while it walks");
        assert_eq!(share(vec![shard(on(), 99_999_999, Some(100_000_000)), shard(Place::End, 1, Some(1))]), 0.999);
        assert_eq!(share(vec![shard(Place::End, 3, Some(100)), shard(Place::End, 0, None)]), 1.0);
    }
}
