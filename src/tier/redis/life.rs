//! Whether a connection that says nothing is still worth waiting for. Pure: time is passed in.

use std::time::Duration;
use tokio::time::Instant;

/// A connection that left its requests without any answer for this long is given up. Longer than a healthy Redis's longest
/// pause (a fork for a snapshot takes tens of milliseconds a gigabyte).
pub(super) const STALL_MAX: Duration = Duration::from_secs(1);
/// So many requests may be given up in a row without an answer in between; it bounds what lies in the connection's queue.
pub(super) const GIVEN_UP_MAX: usize = 1024;

/// What one connection owes.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Sent, and still waited for.
    waiting: usize,
    /// Sent and given up since the last answer.
    given_up: usize,
    /// Since when nothing came although something was due.
    silent_since: Option<Instant>,
}

impl Life {
    pub(super) fn sent(&mut self, now: Instant) {
        self.waiting += 1;
        self.silent_since.get_or_insert(now);
    }

    /// Redis answers in order: an answer means that all before it were answered too.
    pub(super) fn answered(&mut self, now: Instant) {
        self.waiting = self.waiting.saturating_sub(1);
        self.given_up = 0;
        self.silent_since = (self.waiting > 0).then_some(now);
    }

    /// True if the connection should be dropped.
    #[must_use]
    pub(super) fn gave_up(&mut self, now: Instant) -> bool {
        self.waiting = self.waiting.saturating_sub(1);
        self.given_up += 1;
        let silent = self.silent_since.is_some_and(|since| now.saturating_duration_since(since) >= STALL_MAX);
        silent || self.given_up >= GIVEN_UP_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_first_unanswered_request() {
        let t0 = Instant::now();
        let at = |ms| t0 + Duration::from_millis(ms);
        let mut life = Life::default();
        life.sent(t0);
        life.answered(at(1));
        // Idle for long is not silent for long.
        life.sent(at(60_000));
        assert!(!life.gave_up(at(60_400)));
        life.sent(at(60_400));
        assert!(!life.gave_up(at(60_800)));
        life.sent(at(60_800));
        assert!(life.gave_up(at(61_200)));
    }

    #[test]
    fn an_answer_ends_the_silence() {
        let t0 = Instant::now();
        let at = |ms| t0 + Duration::from_millis(ms);
        let mut life = Life::default();
        life.sent(t0);
        life.sent(t0);
        life.answered(at(900));
        assert!(!life.gave_up(at(1300)), "only 400 ms without an answer");
    }

    #[test]
    fn requests_given_up_are_bounded() {
        let now = Instant::now();
        let mut life = Life::default();
        let mut ends = (0..GIVEN_UP_MAX).map(|_| {
            life.sent(now);
            life.gave_up(now)
        });
        assert!(ends.by_ref().take(GIVEN_UP_MAX - 1).all(|end| !end));
        assert_eq!(ends.next(), Some(true));
    }
}
