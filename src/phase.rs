//! The five phases of a migration and the steps between them. Pure.

pub mod ahead;
pub mod file;
pub mod guard;
pub mod proof;
pub mod record;
pub mod step;

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Which tiers are read and written. The order of the variants is the order of the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Redis alone; decant only passes through.
    RedisOnly,
    /// Reads Redis; writes Redis, then Kask.
    DualWrite,
    /// Reads Kask, then Redis (read-repair); writes Redis, then Kask.
    KaskFirst,
    /// Reads Kask; writes Kask, then Redis (mirror).
    RedisStandby,
    /// Kask alone; Redis is retired.
    KaskOnly,
}

/// The tier whose order of writes counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sequencer {
    Redis,
    Kask,
}

impl Phase {
    pub const ALL: [Phase; 5] =
        [Phase::RedisOnly, Phase::DualWrite, Phase::KaskFirst, Phase::RedisStandby, Phase::KaskOnly];

    pub fn name(self) -> &'static str {
        match self {
            Phase::RedisOnly => "redis-only",
            Phase::DualWrite => "dual-write",
            Phase::KaskFirst => "kask-first",
            Phase::RedisStandby => "redis-standby",
            Phase::KaskOnly => "kask-only",
        }
    }

    pub fn sequencer(self) -> Sequencer {
        match self {
            Phase::RedisOnly | Phase::DualWrite | Phase::KaskFirst => Sequencer::Redis,
            Phase::RedisStandby | Phase::KaskOnly => Sequencer::Kask,
        }
    }

    /// Whether operations of this phase ask Redis at all.
    pub fn uses_redis(self) -> bool {
        self != Phase::KaskOnly
    }

    /// Whether operations of this phase ask Kask at all.
    pub fn uses_kask(self) -> bool {
        self != Phase::RedisOnly
    }

    fn index(self) -> i8 {
        self as i8
    }

    /// The phase that follows; none: the last one.
    pub fn next(self) -> Option<Phase> {
        Phase::ALL.get(self as usize + 1).copied()
    }

    /// A step leads to a neighbour, forward or back.
    pub fn is_step_to(self, to: Phase) -> bool {
        (self.index() - to.index()).abs() == 1
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text is no phase.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{0}\" is no phase; use redis-only, dual-write, kask-first, redis-standby or kask-only")]
pub struct UnknownPhase(pub String);

impl FromStr for Phase {
    type Err = UnknownPhase;
    fn from_str(text: &str) -> Result<Self, UnknownPhase> {
        Phase::ALL.into_iter().find(|p| p.name() == text).ok_or_else(|| UnknownPhase(text.to_owned()))
    }
}
