//! At most so many looks a second.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// A bound of the rate at which keys are looked at.
#[derive(Debug)]
pub struct Pace {
    every: Option<Duration>,
    /// A `std` mutex: held for a comparison.
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// `per_s`: none or 0: as fast as the tiers answer.
    pub fn new(per_s: Option<u32>) -> Pace {
        let every = per_s.filter(|per_s| *per_s > 0).map(|per_s| Duration::from_secs(1) / per_s);
        Pace { every, next: Mutex::default() }
    }

    /// Waits for the caller's turn; whether it had to.
    pub async fn turn(&self) -> bool {
        let now = Instant::now();
        let turn = self.book(now);
        if turn > now {
            sleep_until(turn).await;
        }
        turn > now
    }

    /// When the caller's turn is. Turns that nobody took are not made up for.
    fn book(&self, now: Instant) -> Instant {
        let Some(every) = self.every else { return now };
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = next.map_or(now, |next| next.max(now));
        *next = Some(turn + every);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_at_the_rate_and_are_not_saved_up() {
        let (pace, t0) = (Pace::new(Some(10)), Instant::now());
        let at = |ms| t0 + Duration::from_millis(ms);
        let turns: Vec<Instant> = (0..4).map(|_| pace.book(t0)).collect();
        assert_eq!(turns, [at(0), at(100), at(200), at(300)]);
        assert_eq!([pace.book(at(60_000)), pace.book(at(60_000))], [at(60_000), at(60_100)]);
        for unbounded in [Pace::new(None), Pace::new(Some(0))] {
            assert_eq!([unbounded.book(t0), unbounded.book(t0)], [t0, t0]);
        }
    }
}
