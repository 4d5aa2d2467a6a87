//! What was read over the last minute, hour and day, from whom, and what failed meanwhile: a bounded ring of samples. Pure; time is an argument.
//!
//! The hot path counts into totals that only grow. Now and then the totals are kept here with their time, and a window is a difference of
//! two of them: it costs requests nothing, and a sample that comes late moves a count by a slot but loses none.

use crate::protocol::world::Millis;
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, ops::Sub};

/// Between two samples of the last hour, in milliseconds.
pub const SLOT: Millis = 10_000;
/// Slots of the last hour, as the chart shows them.
const SLOTS: usize = 360;
/// Between two samples of the last day.
const COARSE: Millis = 300_000;
const COARSES: usize = 288;

const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = 24 * HOUR;

/// Counts of one stash in this decant. As totals they are since its start, in a window since the window's beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Reads whose value Kask gave.
    pub kask: u64,
    /// Reads whose value Redis gave.
    pub redis: u64,
    /// Reads without a value: a miss, or no answer.
    pub none: u64,
    /// Of those that Redis answered: Kask had missed first, so that a copy would have spared Redis the question.
    pub fallbacks: u64,
    /// Requests to Kask, whoever sent them.
    pub kask_requests: u64,
    /// Of them, those that Kask did not answer, or answered with an error of its own.
    pub kask_errors: u64,
    /// Shadow reads that could be compared.
    pub compared: u64,
    /// Of them, those where Kask had another value, or none.
    pub differing: u64,
    /// Of those, the ones where it had none.
    #[serde(default)]
    pub missing: u64,
}

impl Counts {
    /// The share of requests to Kask that failed; none where none was sent.
    pub fn kask_error_share(&self) -> Option<f64> {
        share(self.kask_errors, self.kask_requests)
    }

    /// The share of shadow reads in which Kask differed; none where nothing was compared.
    pub fn differing_share(&self) -> Option<f64> {
        share(self.differing, self.compared)
    }
}

fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

impl Sub for Counts {
    type Output = Counts;

    /// Totals only grow; where two were read in the other order the difference is nothing.
    fn sub(self, earlier: Counts) -> Counts {
        Counts {
            kask: self.kask.saturating_sub(earlier.kask),
            redis: self.redis.saturating_sub(earlier.redis),
            none: self.none.saturating_sub(earlier.none),
            fallbacks: self.fallbacks.saturating_sub(earlier.fallbacks),
            kask_requests: self.kask_requests.saturating_sub(earlier.kask_requests),
            kask_errors: self.kask_errors.saturating_sub(earlier.kask_errors),
            compared: self.compared.saturating_sub(earlier.compared),
            differing: self.differing.saturating_sub(earlier.differing),
            missing: self.missing.saturating_sub(earlier.missing),
        }
    }
}

/// Counts over a stretch of time that ends now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// How long it is: up to a slot longer than was asked for, and shorter where decant has not run that long.
    pub over_ms: u64,
    #[serde(flatten)]
    pub counts: Counts,
}

/// The three windows of status pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    pub minute: Window,
    pub hour: Window,
    pub day: Window,
}

/// One slot of the chart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// How long before now it ended; 0 for the one that is not over.
    pub ended_ms_ago: u64,
    pub over_ms: u64,
    pub kask: u64,
    pub redis: u64,
    pub none: u64,
    pub kask_errors: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Millis,
    totals: Counts,
}

/// Samples at least `every` apart, the oldest first, and never more than `most`.
#[derive(Debug)]
struct Ring {
    every: Millis,
    most: usize,
    samples: VecDeque<Sample>,
}

impl Ring {
    fn new(every: Millis, slots: usize, first: Sample) -> Ring {
        // A slot lies between two samples.
        Ring { every, most: slots + 1, samples: VecDeque::from([first]) }
    }

    fn keep(&mut self, sample: Sample) {
        if self.samples.back().is_some_and(|last| sample.at < last.at.saturating_add(self.every)) {
            return;
        }
        self.samples.push_back(sample);
        while self.samples.len() > self.most {
            self.samples.pop_front();
        }
    }

    /// The newest sample at or before `at`, or else the oldest there is.
    fn before(&self, at: Millis) -> Option<Sample> {
        let later = self.samples.partition_point(|sample| sample.at <= at);
        self.samples.get(later.saturating_sub(1)).copied()
    }

    fn reaches(&self, at: Millis) -> bool {
        self.samples.front().is_some_and(|oldest| oldest.at <= at)
    }
}

/// The samples of one stash.
#[derive(Debug)]
pub struct Traffic {
    fine: Ring,
    coarse: Ring,
    started: Millis,
    /// The latest sample at which something had fallen back since the one before.
    fell_back_by: Option<Millis>,
    fallbacks_then: u64,
}

impl Traffic {
    /// Counting begins `now`, from `totals`.
    pub fn new(now: Millis, totals: Counts) -> Traffic {
        let first = Sample { at: now, totals };
        Traffic {
            fine: Ring::new(SLOT, SLOTS, first),
            coarse: Ring::new(COARSE, COARSES, first),
            started: now,
            fell_back_by: None,
            fallbacks_then: totals.fallbacks,
        }
    }

    /// Keeps `totals` if a slot is over; to be called at least once a slot.
    pub fn sample(&mut self, now: Millis, totals: Counts) {
        if totals.fallbacks > self.fallbacks_then {
            (self.fell_back_by, self.fallbacks_then) = (Some(now), totals.fallbacks);
        }
        let sample = Sample { at: now, totals };
        self.fine.keep(sample);
        self.coarse.keep(sample);
    }

    /// What was counted over the last `length`; `totals` are those of `now`.
    pub fn window(&self, now: Millis, totals: Counts, length: Millis) -> Window {
        let from = now.saturating_sub(length);
        let ring = if self.fine.reaches(from) { &self.fine } else { &self.coarse };
        let Some(begin) = ring.before(from) else { return Window::default() };
        Window { over_ms: now.saturating_sub(begin.at), counts: totals - begin.totals }
    }

    pub fn windows(&self, now: Millis, totals: Counts) -> Windows {
        let over = |length| self.window(now, totals, length);
        Windows { minute: over(MINUTE), hour: over(HOUR), day: over(DAY) }
    }

    /// How long nothing has fallen back, in milliseconds; at most as long as this decant has counted.
    pub fn without_fallback_ms(&self, now: Millis, totals: Counts) -> u64 {
        if totals.fallbacks > self.fallbacks_then {
            return 0;
        }
        now.saturating_sub(self.fell_back_by.unwrap_or(self.started))
    }

    /// The last hour slot by slot, the oldest first; the last one is not over.
    pub fn slots(&self, now: Millis, totals: Counts) -> Vec<Slot> {
        let samples = self.fine.samples.iter().copied();
        let ends = samples.clone().skip(1).chain([Sample { at: now, totals }]);
        let slot = |(begin, end): (Sample, Sample)| {
            let Counts { kask, redis, none, kask_errors, .. } = end.totals - begin.totals;
            let (ended_ms_ago, over_ms) = (now.saturating_sub(end.at), end.at.saturating_sub(begin.at));
            Slot { ended_ms_ago, over_ms, kask, redis, none, kask_errors }
        };
        samples.zip(ends).map(slot).collect()
    }
}

#[cfg(test)]
mod tests;
