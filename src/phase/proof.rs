//! What has been shown about a stash, for the guards: written by what showed it, read before a move. Pure.

use super::{Phase, record::PhaseRecord};
use serde::{Deserialize, Serialize};

/// A backfill that met every key and finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillProof {
    pub begun_unix_ms: u64,
    pub ended_unix_ms: u64,
    /// The phase and its version when it began.
    pub phase: Phase,
    pub version: u64,
    /// Keys that Kask has by it: copied, or held before.
    pub keys: u64,
    /// Keys that cannot be in Kask: their names, or their values.
    pub impossible: u64,
    /// Keys that a tier failed for, and that were left.
    pub failed: u64,
}

/// The last run of verify over every key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyProof {
    pub begun_unix_ms: u64,
    pub ended_unix_ms: u64,
    /// The phase that was compared in, and its version.
    pub phase: Phase,
    pub version: u64,
    /// It looked at every key.
    pub complete: bool,
    pub compared: u64,
    pub missing: u64,
    /// Other values, and values of keys that are remembered as deleted.
    pub different: u64,
    /// Keys that had an open intent whenever they were looked at.
    pub pending: u64,
    /// Keys that cannot be in Kask, and that no client can read.
    pub uncarried: u64,
    /// Keys on a shard where decant does not look for them, and names without the stash's prefix: neither was compared.
    #[serde(default)]
    pub misplaced: u64,
    #[serde(default)]
    pub foreign: u64,
}

/// Whether Kask has had every write since `version` was in force. `history` is what this decant knows of moves, in any order; a move that it
/// does not know of may have been to `redis-only`.
pub fn kask_was_written_since(version: u64, now: &PhaseRecord, history: &[PhaseRecord]) -> bool {
    let wrote = |version: u64| {
        let mut known = history.iter().chain([now]).filter(|record| record.version == version).peekable();
        known.peek().is_some() && known.all(|record| record.phase > Phase::RedisOnly)
    };
    version <= now.version && (version..=now.version).all(wrote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::record::sample;

    fn record(version: u64, phase: Phase) -> PhaseRecord {
        sample(phase, version)
    }

    #[test]
    fn a_way_back_to_redis_only_or_an_unknown_move_makes_it_worth_nothing() {
        use Phase::{DualWrite, KaskFirst, RedisOnly};
        let known = [record(1, RedisOnly), record(2, DualWrite), record(3, KaskFirst)];
        let since = |version, now: &PhaseRecord| kask_was_written_since(version, now, &known);
        assert!(since(2, &known[2]) && since(3, &known[2]) && since(3, &record(4, DualWrite)));
        assert!(!since(1, &known[2]), "it began in redis-only");
        assert!(!since(2, &record(5, KaskFirst)), "version 4 is unknown");
        assert!(!since(4, &known[2]), "from the future: a record was restored");
        let back = [known.as_slice(), &[record(4, RedisOnly), record(5, DualWrite)]].concat();
        assert!(!kask_was_written_since(2, &record(6, KaskFirst), &back));
        assert!(kask_was_written_since(5, &record(6, KaskFirst), &back));
    }
}
