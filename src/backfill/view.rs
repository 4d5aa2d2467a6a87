//! What a backfill tells of itself, for the admin API, the command line and the status page.

use super::{
    age::Age,
    filters::Filters,
    holds::Hold,
    pace::Limits,
    run::{Run, State},
    tally::{Amount, Outcome},
};
use crate::{
    codec::{key::Key, show},
    phase::{Phase, proof::BackfillProof},
    scan::{Counts, Place},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Characters of a key that is shown.
const KEY_CHARS_MAX: usize = 1_024;

/// `GET /v1/stashes/{stash}/backfill`. Without a run all but the first two are missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackfillView {
    pub stash: String,
    /// Why the last run cannot be told.
    pub trouble: Option<String>,
    #[serde(flatten)]
    pub run: Option<RunView>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    pub state: State,
    /// Why it is paused, void, or finished early.
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
    /// 0 to 1; 1 only when every shard was walked to its end.
    pub share: f64,
    /// Seconds, while it is running and getting on.
    pub left_s: Option<u64>,
    pub keys_per_s: f64,
    pub bytes_per_s: f64,
    /// What holds it back, while it is running.
    pub held_by: Option<Hold>,
    /// The brake's cap in keys a second; none: it does not brake.
    pub braked_to: Option<f64>,
    /// Every outcome, with its keys.
    pub keys: BTreeMap<Outcome, u64>,
    /// Keys that stay behind though nobody asked for that.
    pub not_moved: u64,
    pub reasons: BTreeMap<String, u64>,
    /// Of values that were copied, or would be.
    pub bytes: u64,
    pub walked: Counts,
    /// Of a dry run: what would be copied, by age.
    pub ages: BTreeMap<Age, Amount>,
    pub shards: Vec<ShardView>,
    /// Keys that stay behind and are in the list; the rest is only counted.
    pub listed: u64,
    pub unlisted: u64,
    /// Only where asked for: keys are personal data.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stayed: Option<Vec<StayedView>>,
    /// The last finished run that met every key: what the guard of the move to `redis-standby` asks for.
    pub complete: Option<BackfillProof>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardView {
    pub name: String,
    pub share: f64,
    pub done: bool,
    /// Names that were walked, and names that there are.
    pub names: u64,
    pub of: Option<u64>,
}

/// A key that stays behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StayedView {
    /// As text, what is not printable escaped.
    pub key: String,
    pub outcome: Outcome,
    pub reason: String,
    /// What a tier said.
    pub detail: Option<String>,
}

/// What moves from second to second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pulse {
    pub keys_per_s: f64,
    pub bytes_per_s: f64,
    pub left_s: Option<u64>,
    pub braked_to: Option<f64>,
}

pub(super) fn run(run: &Run, pulse: Pulse, held_by: Option<Hold>, listed: u64) -> RunView {
    let tally = run.tally();
    let pulse = if run.state == State::Running { pulse } else { Pulse::default() };
    RunView {
        state: run.state,
        why: run.why.clone(),
        by: run.by.clone(),
        begun_unix_ms: run.begun_unix_ms,
        changed_unix_ms: run.changed_unix_ms,
        phase: run.phase,
        version: run.version,
        filters: run.filters.clone(),
        limits: run.limits,
        share: run.share(),
        left_s: pulse.left_s,
        keys_per_s: pulse.keys_per_s,
        bytes_per_s: pulse.bytes_per_s,
        held_by: held_by.filter(|_| run.state == State::Running),
        braked_to: pulse.braked_to,
        keys: Outcome::ALL.into_iter().map(|outcome| (outcome, tally.of(outcome))).collect(),
        not_moved: tally.not_moved(),
        reasons: tally.reasons,
        bytes: tally.bytes,
        walked: tally.walked,
        ages: tally.ages,
        shards: run.shards.iter().map(shard).collect(),
        listed,
        unlisted: run.unlisted,
        stayed: None,
        complete: run.complete.clone(),
    }
}

fn shard(shard: &super::run::ShardRun) -> ShardView {
    ShardView {
        name: shard.name.clone(),
        share: shard.share(),
        done: shard.place == Place::End,
        names: shard.tally.walked.names,
        of: shard.names,
    }
}

pub(super) fn stayed(key: &Key, entry: &super::not_moved::Entry) -> StayedView {
    StayedView {
        key: show::bytes(key.as_bytes(), KEY_CHARS_MAX).0,
        outcome: entry.outcome,
        reason: entry.reason.clone(),
        detail: entry.detail.clone(),
    }
}

impl RunView {
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.keys.get(&outcome).copied().unwrap_or(0)
    }

    pub fn looked_at(&self) -> u64 {
        self.keys.values().sum()
    }
}
