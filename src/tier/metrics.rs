//! Counters and histograms of one operation of one tier, looked up once.

use metrics::{Counter, Histogram, counter, histogram};
use std::time::Duration;

/// How often an operation ended in which way, and how long it took.
pub(super) struct OpMetrics {
    outcomes: Vec<(&'static str, Counter)>,
    duration_s: Histogram,
}

impl OpMetrics {
    /// `outcomes` lists every label value that `record` will be given, the frequent ones first: they are searched in order.
    pub(super) fn new(stash: &str, tier: &'static str, op: &'static str, outcomes: &[&'static str]) -> OpMetrics {
        let outcome_counter = |outcome: &&'static str| {
            let handle = counter!("decant_tier_requests_total",
                "stash" => stash.to_owned(), "tier" => tier, "op" => op, "outcome" => *outcome);
            (*outcome, handle)
        };
        OpMetrics {
            outcomes: outcomes.iter().map(outcome_counter).collect(),
            duration_s: histogram!("decant_tier_request_duration_seconds",
                "stash" => stash.to_owned(), "tier" => tier, "op" => op),
        }
    }

    pub(super) fn record(&self, outcome: &'static str, took: Duration) {
        if let Some((_, counter)) = self.outcomes.iter().find(|(name, _)| *name == outcome) {
            counter.increment(1);
        }
        self.duration_s.record(took.as_secs_f64());
    }
}
