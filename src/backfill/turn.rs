//! Once a second: how fast the run is, how clients fare, and what follows from it.

use super::{
    brake::{Brake, Reading},
    job::Job,
    view::Pulse,
};
use crate::{protocol::World, stash::load::Readings};
use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};
use tokio::time::Instant;

/// The share of clients' operations whose length counts.
const QUANTILE: f64 = 0.95;
/// How much a turn's rate moves the one that is shown.
const SMOOTHED: f64 = 0.3;
/// Turns over which the time that is left is reckoned.
const TURNS_KEPT: usize = 30;

pub(super) struct Turns {
    brake: Brake,
    at: Instant,
    met: u64,
    bytes: u64,
    load: Readings,
    pulse: Pulse,
    /// When, and what share was done then.
    shares: VecDeque<(Instant, f64)>,
}

impl Turns {
    /// `usual`: clients' latency while there was no run.
    pub(super) fn new(job: &Job, usual: Option<Duration>, harmless: Duration) -> Turns {
        Turns {
            brake: Brake::new(usual, harmless),
            at: Instant::now(),
            met: 0,
            bytes: 0,
            load: job.stash.load.read(),
            pulse: Pulse::default(),
            shares: VecDeque::new(),
        }
    }

    /// Sets the pace; answers what is to be shown.
    pub(super) fn turn(&mut self, job: &Job, share: f64) -> Pulse {
        let now = Instant::now();
        let length = (now - self.at).as_secs_f64().max(0.001);
        let (met, bytes) = (job.met.load(Ordering::Relaxed), job.bytes.load(Ordering::Relaxed));
        let (rate, bytes_rate) = ((met - self.met) as f64 / length, (bytes - self.bytes) as f64 / length);
        let load = job.stash.load.read();
        let since = load.since(&self.load);
        let reading = Reading {
            operations: since.count(),
            p95: since.quantile(QUANTILE).unwrap_or_default(),
            fullness: if job.stash.site.world.is_busy() { 1.0 } else { job.stash.fullness() },
            rate,
        };
        let cap = self.brake.turn(&reading);
        job.pace.set_cap(cap);
        job.holds.turn();
        (self.at, self.met, self.bytes, self.load) = (now, met, bytes, load);
        self.pulse = Pulse {
            keys_per_s: smoothed(self.pulse.keys_per_s, rate),
            bytes_per_s: smoothed(self.pulse.bytes_per_s, bytes_rate),
            left_s: self.left_s(now, share),
            braked_to: cap,
        };
        self.pulse
    }

    fn left_s(&mut self, now: Instant, share: f64) -> Option<u64> {
        self.shares.push_back((now, share));
        if self.shares.len() > TURNS_KEPT {
            self.shares.pop_front();
        }
        let (then, before) = *self.shares.front()?;
        let (length, done) = ((now - then).as_secs_f64(), share - before);
        let left = (1.0 - share) / done * length;
        (done > 0.0 && left.is_finite()).then_some(left as u64)
    }
}

fn smoothed(before: f64, now: f64) -> f64 {
    if before == 0.0 { now } else { before + (now - before) * SMOOTHED }
}

/// What was usual for clients over these readings; none: too few of them were there.
pub(super) fn usual(readings: &VecDeque<Readings>, operations_min: u64) -> Option<Duration> {
    let since = readings.back()?.since(readings.front()?);
    since.quantile(QUANTILE).filter(|_| since.count() >= operations_min)
}
