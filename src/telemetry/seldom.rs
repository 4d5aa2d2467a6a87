//! A trouble that lasts is told of once in a while, not each time it is met.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Between two lines about the same trouble.
const EVERY: Duration = Duration::from_secs(10);

/// Of one trouble: when it was told of last. A `std` mutex: held for a comparison.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether it is to be told of now.
    pub fn is_due(&self) -> bool {
        self.is_due_at(Instant::now())
    }

    fn is_due_at(&self, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|told| now.saturating_duration_since(told) >= EVERY);
        if due {
            *told = Some(now);
        }
        due
    }

    /// The trouble is over: the next one is told of at once.
    pub fn over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_at_once_then_seldom_and_at_once_again_after_it_was_over() {
        let (seldom, t0) = (Seldom::default(), Instant::now());
        assert!(seldom.is_due_at(t0));
        assert!(!seldom.is_due_at(t0 + EVERY / 2));
        assert!(seldom.is_due_at(t0 + EVERY));
        assert!(!seldom.is_due_at(t0 + EVERY));
        seldom.over();
        assert!(seldom.is_due_at(t0 + EVERY));
    }
}
