//! One key, from look to look, until it is known what became of it. Pure.
//!
//! Writes go on while the tiers are compared, and each makes them differ for a moment. A difference counts only if it is found several
//! times in a row, always the same, with no intent open before or after, and with waits in between in which a write settles. A key that is
//! never at rest is looked at for longer than two leases, by when the reaper has been there.

use super::{
    class::Class,
    look::{Look, Side, Sight, Value},
};
use crate::protocol::world::{Digest, Millis, Newest};
use std::collections::VecDeque;

/// A difference that is found so often in a row counts.
const STILL_LOOKS: u32 = 3;
/// Looks without an answer in a row after which a key is given up.
const AWAY_LOOKS: u32 = 6;
/// A key that is not at rest is looked at at least so often, and longer than two leases.
const RESTLESS_LOOKS: u32 = 10;
/// The longest wait between two looks, in milliseconds.
const WAIT_MAX: Millis = 4_000;
/// Values of Redis that are remembered of one key.
const HELD_MAX: usize = 8;

/// Lengths of the stash, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// By then every decant knows of an intent.
    pub settle_wait: Millis,
    pub lease: Millis,
}

/// What is to be done next about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Done(Class),
    /// Redis has no value any more: nothing is to be compared.
    Gone,
    /// To be looked at again, not before this.
    Again(Millis),
    /// The phase moves: what has been compared so far does not count.
    OtherPhase,
}

/// What the looks at a key have shown so far.
#[derive(Clone, Debug, Default)]
pub struct Case {
    looks: u32,
    began: Option<Millis>,
    /// Looks without an answer, in a row.
    away: u32,
    /// Redis's values, newest last.
    held: VecDeque<Digest>,
    still: Option<Still>,
}

/// A difference with nothing under way.
#[derive(Clone, Debug)]
struct Still {
    redis: Digest,
    kask: Option<Digest>,
    times: u32,
}

impl Case {
    pub fn judge(&mut self, look: &Look, now: Millis, times: Times) -> Next {
        self.looks += 1;
        let began = *self.began.get_or_insert(now);
        let sight = match look {
            Look::OtherPhase => return Next::OtherPhase,
            Look::Away(_) => {
                self.away += 1;
                self.still = None;
                return if self.away >= AWAY_LOOKS {
                    Next::Done(Class::Unknown)
                } else {
                    self.again(now, times, self.away)
                };
            }
            Look::Seen(sight) => sight,
        };
        self.away = 0;
        match sight.before {
            Side { open: None, value: Value::Absent } => return Next::Gone,
            Side { open: None, value: Value::Untranscodable(why) } => return Next::Done(Class::Untranscodable(why)),
            Side { open: None, value: Value::Held { same: true, .. } } => return Next::Done(Class::Equal),
            _ => {}
        }
        self.remember(sight);
        if let Some(still) = self.at_rest(sight) {
            let (times_seen, kask) = (still.times, still.kask);
            self.still = Some(still);
            return match (times_seen, kask) {
                (STILL_LOOKS.., None) => Next::Done(Class::Missing),
                (STILL_LOOKS.., Some(_)) => Next::Done(Class::Different),
                _ => self.again(now, times, times_seen),
            };
        }
        self.still = None;
        let long_enough = now.saturating_sub(began) > 2 * times.lease + WAIT_MAX;
        if self.looks < RESTLESS_LOOKS || !long_enough {
            return self.again(now, times, self.looks);
        }
        Next::Done(self.restless(sight))
    }

    /// The difference, if nothing was under way before and after Kask was asked.
    fn at_rest(&self, sight: &Sight) -> Option<Still> {
        let (Side { open: None, value: Value::Held { digest, same: false } }, true) =
            (sight.before, sight.before == sight.after)
        else {
            return None;
        };
        let before = self.still.as_ref().filter(|still| still.redis == digest && still.kask == sight.kask);
        Some(Still { redis: digest, kask: sight.kask, times: before.map_or(0, |still| still.times) + 1 })
    }

    fn remember(&mut self, sight: &Sight) {
        for side in [sight.before, sight.after] {
            if let Value::Held { digest, .. } = side.value
                && self.held.back() != Some(&digest)
            {
                self.held.push_back(digest);
            }
        }
        while self.held.len() > HELD_MAX {
            self.held.pop_front();
        }
    }

    /// Of a key that was under way whenever it was looked at. Where it is written all the time, and Kask holds what Redis held a moment ago,
    /// writes arrive: it is in step, as far as a moving key can be.
    fn restless(&self, sight: &Sight) -> Class {
        let same = |side: Side| matches!(side.value, Value::Held { same: true, .. });
        let known = sight.kask.is_some_and(|kask| self.held.contains(&kask));
        let in_step = same(sight.before) || same(sight.after) || known;
        let deleted = Side { open: Some(Newest::Delete), value: Value::Absent };
        match sight.kask {
            Some(_) if in_step && self.held.len() > 1 => Class::Equal,
            Some(_) if sight.before == deleted && sight.after == deleted => Class::Tombstone,
            _ => Class::Pending,
        }
    }

    /// Longer each time.
    fn again(&self, now: Millis, times: Times, nth: u32) -> Next {
        let first = times.settle_wait + times.settle_wait / 4;
        Next::Again(now + (first << nth.saturating_sub(1).min(16)).min(WAIT_MAX.max(first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { settle_wait: 250, lease: 15_000 };

    fn held(of: &str, same: bool) -> Side {
        Side { open: None, value: Value::Held { digest: Digest::of(of.as_bytes()), same } }
    }

    fn open(side: Side, newest: Newest) -> Side {
        Side { open: Some(newest), ..side }
    }

    fn seen(before: Side, kask: Option<&str>, after: Side) -> Look {
        Look::Seen(Sight { before, kask: kask.map(|of| Digest::of(of.as_bytes())), after })
    }

    /// Looks that come in time, one after the other; the last is repeated. What it ends with, after how many and when.
    fn judge(looks: &[Look]) -> (Next, u32, Millis) {
        let (mut case, mut now) = (Case::default(), 1_000);
        for nth in 0..200 {
            match case.judge(looks.get(nth).or(looks.last()).unwrap(), now, TIMES) {
                Next::Again(at) => {
                    assert!(at > now && at <= now + WAIT_MAX, "{at} after {now}");
                    now = at;
                }
                end => return (end, nth as u32 + 1, now - 1_000),
            }
        }
        panic!("it never ends");
    }

    #[test]
    fn one_look_is_enough_where_nothing_is_to_be_explained() {
        let absent = Side { open: None, value: Value::Absent };
        let odd = Side { open: None, value: Value::Untranscodable("object") };
        for (look, end) in [
            (seen(held("a", true), Some("a"), held("a", true)), Next::Done(Class::Equal)),
            (seen(absent, None, absent), Next::Gone),
            (seen(odd, None, odd), Next::Done(Class::Untranscodable("object"))),
            (Look::OtherPhase, Next::OtherPhase),
        ] {
            assert_eq!(judge(&[look]), (end, 1, 0));
        }
    }

    #[test]
    fn a_difference_counts_when_it_stays_the_same() {
        let (end, looks, took) = judge(&[seen(held("a", false), None, held("a", false))]);
        assert_eq!((end, looks), (Next::Done(Class::Missing), 3));
        assert!(took > 2 * TIMES.settle_wait, "{took}");
        assert_eq!(judge(&[seen(held("a", false), Some("b"), held("a", false))]).0, Next::Done(Class::Different));
    }

    #[test]
    fn a_difference_that_a_write_explains_does_not_count() {
        let differs = seen(held("a", false), Some("old"), held("a", false));
        let equal = seen(held("a", true), Some("a"), held("a", true));
        for explained in [
            equal.clone(),
            // It was changed between the two reads of Redis.
            seen(held("a", false), Some("old"), held("b", false)),
            // A write is under way.
            seen(open(held("a", false), Newest::Old), Some("old"), held("a", false)),
            seen(held("a", false), Some("old"), open(held("a", false), Newest::Old)),
            // Another difference than before: something writes.
            seen(held("b", false), Some("old"), held("b", false)),
            seen(held("a", false), Some("older"), held("a", false)),
            seen(held("a", false), None, held("a", false)),
            Look::Away("Kask: timeout".into()),
        ] {
            let looks = [differs.clone(), differs.clone(), explained, equal.clone()];
            assert_eq!(judge(&looks).0, Next::Done(Class::Equal), "{looks:?}");
        }
        // Twice, an interruption, twice: never three times in a row.
        let away = Look::Away("x".into());
        let looks = [differs.clone(), differs.clone(), away, differs.clone(), differs.clone(), equal];
        assert_eq!(judge(&looks).0, Next::Done(Class::Equal));
    }

    #[test]
    fn an_intent_is_waited_for_longer_than_two_leases() {
        let stuck = seen(open(held("a", false), Newest::Old), None, open(held("a", false), Newest::Old));
        let (end, looks, took) = judge(&[stuck]);
        assert_eq!(end, Next::Done(Class::Pending));
        assert!(took > 2 * TIMES.lease && looks >= RESTLESS_LOOKS && took < 3 * TIMES.lease, "{looks} in {took}");
        // One that holds the same, but never settles: nothing proves that it will stay so.
        let same = open(held("a", true), Newest::Old);
        assert_eq!(judge(&[seen(same, Some("a"), same)]).0, Next::Done(Class::Pending));
    }

    #[test]
    fn a_remembered_delete_that_kask_never_hears_of_is_a_tombstone() {
        let deleted = Side { open: Some(Newest::Delete), value: Value::Absent };
        assert_eq!(judge(&[seen(deleted, Some("a"), deleted)]).0, Next::Done(Class::Tombstone));
        assert_eq!(judge(&[seen(deleted, None, deleted)]).0, Next::Done(Class::Pending));
        let absent = Side { open: None, value: Value::Absent };
        assert_eq!(judge(&[seen(deleted, Some("a"), deleted), seen(absent, None, absent)]).0, Next::Gone);
    }

    /// A counter that is written many times a second is never seen at rest.
    #[test]
    fn a_key_that_is_written_all_the_time_is_in_step_if_kask_follows() {
        let busy = |n: u32| {
            seen(held(&format!("{n}"), false), Some(&format!("{}", n - 1)), held(&format!("{}", n + 1), false))
        };
        let follows: Vec<Look> = (1..100).map(busy).collect();
        assert_eq!(judge(&follows).0, Next::Done(Class::Equal));
        let lags: Vec<Look> = (1..100)
            .map(|n| seen(held(&format!("{n}"), false), Some("stuck"), held(&format!("{}", n + 1), false)))
            .collect();
        assert_eq!(judge(&lags).0, Next::Done(Class::Pending));
    }

    #[test]
    fn a_tier_that_does_not_answer_is_asked_a_few_times() {
        let away = || Look::Away("Kask: connect".into());
        let (end, looks, _) = judge(&[away()]);
        assert_eq!((end, looks), (Next::Done(Class::Unknown), AWAY_LOOKS));
        let equal = seen(held("a", true), Some("a"), held("a", true));
        assert_eq!(judge(&[away(), away(), equal]).0, Next::Done(Class::Equal));
    }
}
