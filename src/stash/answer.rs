//! The protocol's answers in the dialect's words.

use super::RETRY_AFTER_S;
use crate::{
    dialect::Answer,
    protocol::{
        read::{ReadAnswer, ServedBy},
        write::WriteAnswer,
    },
};

/// What a client waits, in seconds, for a key in transit: it takes milliseconds, or after a time-out of Kask up to a lease.
const TRANSIT_RETRY_AFTER_S: u32 = 2;

pub(super) fn read(answer: ReadAnswer) -> Answer {
    match answer {
        ReadAnswer::Hit { body, by } => Answer::Hit { body, tier: Some(tier(by)) },
        ReadAnswer::Missing => Answer::Missing,
        ReadAnswer::Unavailable(detail) => Answer::Unavailable { detail, retry_after_s: RETRY_AFTER_S },
    }
}

pub(super) fn tier(by: ServedBy) -> &'static str {
    match by {
        ServedBy::Kask => "kask",
        ServedBy::Redis => "redis",
    }
}

pub(super) fn stored(answer: WriteAnswer) -> Answer {
    write(answer, Answer::Stored)
}

pub(super) fn deleted(answer: WriteAnswer) -> Answer {
    write(answer, Answer::Deleted)
}

fn write(answer: WriteAnswer, done: Answer) -> Answer {
    match answer {
        WriteAnswer::Done => done,
        WriteAnswer::Exists => Answer::Exists,
        WriteAnswer::Refused(detail) => Answer::BadRequest { detail },
        WriteAnswer::HalfDone(detail) => Answer::Failed { detail },
        WriteAnswer::Unavailable { why, unknown, in_transit } => Answer::Unavailable {
            detail: if unknown { format!("{why}; the outcome is unknown") } else { why },
            retry_after_s: if in_transit { TRANSIT_RETRY_AFTER_S } else { RETRY_AFTER_S },
        },
    }
}
