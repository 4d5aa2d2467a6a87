//! When Kask counts as away, and what an answer, or the lack of one, says of that.

use super::{KaskError, KaskRead, KaskWrite};
use crate::codec::key::Key;
use crate::tier::breaker::{Outcome, Rules};
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

/// A Kask that nobody heard for less is not away, however short the timeout.
const SILENCE_MIN: Duration = Duration::from_millis(500);

/// Where it fails for a part of its keys, a run of a dozen keys in `silence` is as good as never.
pub(super) fn rules(timeout: Duration) -> Rules {
    Rules { subjects: 5, subjects_if_mixed: 12, silence: timeout.max(SILENCE_MIN), wait: Duration::from_millis(500) }
}

/// A key, for the breaker to tell from others.
pub(super) fn subject(key: &Key) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key.as_bytes());
    hasher.finish()
}

/// What it shows of Kask as a whole.
pub(super) trait Says {
    fn says(&self) -> Outcome;
}

impl Says for KaskError {
    fn says(&self) -> Outcome {
        match self.kind {
            "away" | "pool_full" | "deadline" | "key_too_long" => Outcome::Nothing,
            "status_4xx" | "too_large" | "no_room" => Outcome::Answered,
            _ => Outcome::Failed,
        }
    }
}

impl Says for KaskRead {
    fn says(&self) -> Outcome {
        match self {
            KaskRead::Hit(_) | KaskRead::Miss => Outcome::Answered,
            KaskRead::Error(error) => error.says(),
        }
    }
}

impl Says for KaskWrite {
    fn says(&self) -> Outcome {
        match self {
            KaskWrite::Done => Outcome::Answered,
            KaskWrite::Refused(error) | KaskWrite::NotSent(error) | KaskWrite::Unknown(error) => error.says(),
        }
    }
}
