//! How fast a run may go: an operator's limits and the brake's, each a bucket that fills at its rate.

use serde::{Deserialize, Serialize};
use std::{
    sync::Mutex,
    time::{Duration, Instant},
};
use tokio::{sync::Notify, time::timeout};

/// What a bucket holds when it is full: so much time's worth. A batch may take more than that, and the next one waits for it.
const BURST_S: f64 = 0.25;
/// No wait is longer before it is looked at again.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// A batch takes at most so much time's worth of its limit, so that a slow run is a steady one.
const BATCH_S: f64 = 0.25;

/// What an operator allows. 0: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Keys looked at in a second.
    pub keys_per_s: u64,
    /// Bytes of their values in a second.
    pub bytes_per_s: u64,
}

/// Which of the limits a wait was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limiter {
    Operator,
    Brake,
}

/// Fills at `rate` a second; may be overdrawn once, and is then refilled first.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Infinite: no limit.
    rate: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: f64, now: Instant) -> Bucket {
        Bucket { rate, level: burst(rate), at: now }
    }

    fn set_rate(&mut self, rate: f64, now: Instant) {
        if rate == self.rate {
            return;
        }
        self.fill(now);
        // What is owed was taken at another rate: it must not be waited for longer than a burst.
        let level = if self.level.is_finite() { self.level.max(-burst(rate)).min(burst(rate)) } else { burst(rate) };
        (self.rate, self.level) = (rate, level);
    }

    fn fill(&mut self, now: Instant) {
        if self.rate.is_finite() {
            let more = now.saturating_duration_since(self.at).as_secs_f64() * self.rate;
            self.level = (self.level + more).min(burst(self.rate));
        }
        self.at = now;
    }

    /// How long until `amount` may be taken.
    fn wait(&self, amount: f64) -> Duration {
        if !self.rate.is_finite() {
            return Duration::ZERO;
        }
        let lacks = amount.min(burst(self.rate)) - self.level;
        if lacks <= 0.0 { Duration::ZERO } else { Duration::from_secs_f64((lacks / self.rate).min(3_600.0)) }
    }
}

/// One thing at least, whatever the rate.
fn burst(rate: f64) -> f64 {
    if rate.is_finite() { (rate * BURST_S).max(1.0) } else { 0.0 }
}

#[derive(Debug)]
struct Buckets {
    keys: Bucket,
    bytes: Bucket,
    brake: Bucket,
}

/// Taken from before each batch. A `std` mutex: held for a few sums.
#[derive(Debug)]
pub(super) struct Pace {
    buckets: Mutex<Buckets>,
    /// Wakes who waits at the old rate.
    changed: Notify,
}

impl Pace {
    pub(super) fn new(limits: Limits) -> Pace {
        let now = Instant::now();
        let bucket = |limit| Bucket::new(rate_of(limit), now);
        let buckets = Buckets {
            keys: bucket(limits.keys_per_s),
            bytes: bucket(limits.bytes_per_s),
            brake: Bucket::new(f64::INFINITY, now),
        };
        Pace { buckets: Mutex::new(buckets), changed: Notify::new() }
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        let now = Instant::now();
        let mut buckets = self.lock();
        buckets.keys.set_rate(rate_of(limits.keys_per_s), now);
        buckets.bytes.set_rate(rate_of(limits.bytes_per_s), now);
        drop(buckets);
        self.changed.notify_waiters();
    }

    /// The brake's cap in keys a second; none: it does not brake.
    pub(super) fn set_cap(&self, cap: Option<f64>) {
        self.lock().brake.set_rate(cap.unwrap_or(f64::INFINITY), Instant::now());
        self.changed.notify_waiters();
    }

    /// At most so many keys in one batch, of at most `most`.
    pub(super) fn batch_keys(&self, most: usize) -> usize {
        let buckets = self.lock();
        let rate = buckets.keys.rate.min(buckets.brake.rate);
        if rate.is_finite() { ((rate * BATCH_S) as usize).clamp(1, most) } else { most }
    }

    /// Waits until a batch may begin. `waited` is told of each wait when it is over.
    pub(super) async fn take(&self, keys: usize, bytes: u64, waited: impl Fn(Limiter, Duration)) {
        loop {
            let changed = self.changed.notified();
            let Some((limiter, wait)) = self.try_take(keys as f64, bytes as f64, Instant::now()) else { return };
            let began = Instant::now();
            let _ = timeout(wait.min(WAIT_MAX), changed).await;
            waited(limiter, began.elapsed());
        }
    }

    /// Takes all of it, or answers what to wait for.
    fn try_take(&self, keys: f64, bytes: f64, now: Instant) -> Option<(Limiter, Duration)> {
        let mut buckets = self.lock();
        let Buckets { keys: by_keys, bytes: by_bytes, brake } = &mut *buckets;
        [&mut *by_keys, &mut *by_bytes, &mut *brake].into_iter().for_each(|bucket| bucket.fill(now));
        let operator = by_keys.wait(keys).max(by_bytes.wait(bytes));
        let braked = brake.wait(keys);
        if operator.max(braked) > Duration::ZERO {
            let limiter = if braked > operator { Limiter::Brake } else { Limiter::Operator };
            return Some((limiter, operator.max(braked)));
        }
        for (bucket, amount) in [(by_keys, keys), (by_bytes, bytes), (brake, keys)] {
            if bucket.rate.is_finite() {
                bucket.level -= amount;
            }
        }
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn rate_of(limit: u64) -> f64 {
    if limit == 0 { f64::INFINITY } else { limit as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes batches of `keys` and `bytes` for `length`, and answers how many keys that were.
    fn taken(pace: &Pace, began: Instant, length: Duration, keys: usize, bytes: u64) -> (usize, Option<Limiter>) {
        let (mut now, mut sum, mut last) = (began, 0, None);
        while now < began + length {
            match pace.try_take(keys as f64, bytes as f64, now) {
                None => sum += keys,
                Some((limiter, wait)) => {
                    last = Some(limiter);
                    now += wait.max(Duration::from_micros(1));
                }
            }
        }
        (sum, last)
    }

    #[test]
    fn a_limit_is_kept_to_and_made_use_of() {
        let now = Instant::now();
        let minute = Duration::from_secs(60);
        for limit in [3, 100, 5_000] {
            let pace = Pace::new(Limits { keys_per_s: limit, bytes_per_s: 0 });
            let batch = pace.batch_keys(32);
            let (keys, limiter) = taken(&pace, now, minute, batch, 50);
            let expected = limit as f64 * 60.0;
            assert!((expected * 0.95..expected * 1.02 + 32.0).contains(&(keys as f64)), "{limit}: {keys}");
            assert_eq!(limiter, Some(Limiter::Operator));
        }
        let pace = Pace::new(Limits { keys_per_s: 0, bytes_per_s: 10_000 });
        let (keys, _) = taken(&pace, now, minute, 10, 1_000);
        assert!((5_700..=6_100).contains(&keys), "{keys}");
    }

    #[test]
    fn a_value_larger_than_a_seconds_worth_passes_and_is_waited_for_afterwards() {
        let now = Instant::now();
        let pace = Pace::new(Limits { keys_per_s: 0, bytes_per_s: 1_000 });
        assert!(pace.try_take(1.0, 60_000.0, now).is_none());
        let (_, wait) = pace.try_take(1.0, 1.0, now).unwrap();
        assert!((58.0..61.0).contains(&wait.as_secs_f64()), "{wait:?}");
    }

    #[test]
    fn the_lower_of_limit_and_brake_counts_and_is_named() {
        let now = Instant::now();
        let pace = Pace::new(Limits { keys_per_s: 1_000, bytes_per_s: 0 });
        pace.set_cap(Some(100.0));
        let (keys, limiter) = taken(&pace, now + Duration::from_secs(1), Duration::from_secs(10), 20, 0);
        assert!((900..=1_060).contains(&keys), "{keys}");
        assert_eq!(limiter, Some(Limiter::Brake));
        assert_eq!(pace.batch_keys(32), 25);
        pace.set_cap(None);
        assert_eq!(pace.batch_keys(32), 32);
    }

    #[tokio::test]
    async fn who_waits_at_an_old_rate_hears_of_the_new_one() {
        let pace = Pace::new(Limits { keys_per_s: 1, bytes_per_s: 0 });
        assert!(pace.try_take(1_000.0, 0.0, Instant::now()).is_none());
        let waiting = pace.take(1, 0, |_, _| {});
        tokio::pin!(waiting);
        assert!(timeout(Duration::from_millis(1), &mut waiting).await.is_err());
        pace.set_limits(Limits::default());
        timeout(WAIT_MAX - Duration::from_secs(1), waiting).await.expect("it goes on at once");
    }
}
