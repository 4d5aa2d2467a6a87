//! How long clients' operations take: counted in buckets, so that whoever wants to know of a stretch of time takes two readings.

use std::{
    array::from_fn,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Buckets to an octave: a quantile is told to within a fifth.
const STEPS: u32 = 4;
/// Octaves of microseconds: up to a minute.
const OCTAVES: u32 = 26;
const BUCKETS: usize = (STEPS * OCTAVES) as usize;

/// Operations since the start, by length.
#[derive(Debug)]
pub struct Load([AtomicU64; BUCKETS]);

/// What a [`Load`] held at one time, or between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings([u64; BUCKETS]);

impl Default for Load {
    fn default() -> Load {
        Load(from_fn(|_| AtomicU64::new(0)))
    }
}

impl Load {
    pub(super) fn record(&self, length: Duration) {
        self.0[bucket(length)].fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> Readings {
        Readings(from_fn(|i| self.0[i].load(Ordering::Relaxed)))
    }
}

impl Readings {
    pub fn since(&self, earlier: &Readings) -> Readings {
        Readings(from_fn(|i| self.0[i].saturating_sub(earlier.0[i])))
    }

    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The length that a share of the operations did not exceed, at most a fifth too long; none: there were no operations.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all = self.count();
        let wanted = (all as f64 * share).ceil().max(1.0) as u64;
        let mut sum = 0;
        let reached = |count: &u64| {
            sum += count;
            sum >= wanted
        };
        (all > 0).then(|| self.0.iter().position(reached).map(upper)).flatten()
    }
}

/// The octave, and within it a quarter.
fn bucket(length: Duration) -> usize {
    let us = u64::try_from(length.as_micros()).unwrap_or(u64::MAX).max(1);
    let octave = us.ilog2();
    let quarter = (u128::from(us) << 2 >> octave) & 3;
    ((octave * STEPS) as usize + quarter as usize).min(BUCKETS - 1)
}

/// Where a bucket ends.
fn upper(bucket: usize) -> Duration {
    let (octave, quarter) = (bucket as u32 / STEPS, bucket as u32 % STEPS);
    let us = (1_u64 << octave) as f64 * (1.0 + f64::from(quarter + 1) / f64::from(STEPS));
    Duration::from_secs_f64(us / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_in_the_bucket_that_ends_behind_it() {
        for us in (0..4_000).chain([59_000_000]) {
            let length = Duration::from_micros(us);
            let ends = upper(bucket(length));
            assert!(ends > length && (us == 0 || ends.as_secs_f64() <= length.as_secs_f64() * 1.26), "{us}: {ends:?}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_stretch_of_time() {
        let load = Load::default();
        assert_eq!(load.read().quantile(0.95), None);
        load.record(Duration::from_secs(5));
        let before = load.read();
        (1..=100).for_each(|ms| load.record(Duration::from_millis(ms)));
        let since = load.read().since(&before);
        assert_eq!(since.count(), 100);
        for (share, ms) in [(0.5, 50.0), (0.95, 95.0), (1.0, 100.0)] {
            let told = since.quantile(share).unwrap().as_secs_f64() * 1_000.0;
            assert!((ms..ms * 1.26).contains(&told), "{share}: {told}");
        }
    }
}
