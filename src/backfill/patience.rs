//! What to do with the keys of a batch that could not be copied: again, or left behind, or stop the run. Pure.
//!
//! A tier that is away is waited for as long as it takes; a key that fails among others that do not is left behind at once, so that it
//! holds nothing up; and where nearly everything fails although Kask answers, going on would only list every key there is.

use super::{holds::Holder, pace::Limiter};
use crate::protocol::backfill::Trouble;
use std::time::Duration;

/// Tries of keys that fail together, each once Kask answers a read again.
const TRIES_MAX: u32 = 8;
/// Tries of keys that had failed before: what only took too long then gets through.
const AGAIN_TRIES: u32 = 4;
/// Keys that failed one after another, with none between that did not, up to which they are single cases.
const IN_A_ROW: u64 = 16;
/// Before the second try; doubled for each further one.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(15);

/// Why a key failed, without what was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Kask,
    Redis,
    Fence,
    Transit,
}

impl Failure {
    pub(super) fn name(self) -> &'static str {
        match self {
            Failure::Kask => "kask",
            Failure::Redis => "redis",
            Failure::Fence => "fence",
            Failure::Transit => "in_transit",
        }
    }

    pub(super) fn holder(self) -> Holder {
        match self {
            Failure::Kask => Holder::Kask,
            Failure::Redis | Failure::Fence | Failure::Transit => Holder::Redis,
        }
    }
}

impl From<&Trouble> for Failure {
    fn from(trouble: &Trouble) -> Failure {
        match trouble {
            Trouble::Kask(_) => Failure::Kask,
            Trouble::Redis(_) => Failure::Redis,
            // The phase is looked at before the next try, and stops the run.
            Trouble::Fence | Trouble::Phase(_) => Failure::Fence,
            Trouble::Transit => Failure::Transit,
        }
    }
}

impl From<Limiter> for Holder {
    fn from(limiter: Limiter) -> Holder {
        match limiter {
            Limiter::Operator => Holder::Limit,
            Limiter::Brake => Holder::Brake,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// All of them, after so long.
    Again(Duration),
    /// They are listed, and the run goes on.
    Leave,
    Stop,
}

/// Whether the keys are met for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    First,
    /// All of them had failed before: that they fail again tells nothing of others.
    Again,
}

/// How the rest of the run is doing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// Keys that have gone well by now.
    pub good: u64,
    /// Those of them that are of the batch's own shard.
    pub good_on_shard: u64,
    /// Keys that Kask failed for since the last that went well.
    pub bad_in_a_row: u64,
}

/// Of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pass: Pass,
    tries: u32,
    /// How the run was doing when the batch began.
    before: Around,
}

impl Patience {
    pub(super) fn new(pass: Pass, before: Around) -> Patience {
        Patience { pass, tries: 0, before }
    }

    /// After a try of `asked` keys of which these failed.
    pub(super) fn after(
        &mut self,
        failures: impl Iterator<Item = Failure> + Clone,
        asked: usize,
        around: Around,
    ) -> Next {
        let of = |wanted: Failure| failures.clone().filter(|failure| *failure == wanted).count();
        let kask = of(Failure::Kask);
        self.tries += 1;
        let wait = Next::Again(WAIT_MIN.saturating_mul(1 << (self.tries - 1).min(10)).min(WAIT_MAX));
        // Others got through meanwhile: it is these keys. Of a shard that does badly, those of other shards say nothing.
        let others_do_well = match kask {
            0 => around.good_on_shard > self.before.good_on_shard,
            _ => around.good > self.before.good,
        };
        let few = kask * 2 < asked || around.bad_in_a_row < IN_A_ROW || self.pass == Pass::Again;
        if kask > 0 && few && kask == failures.clone().count() {
            return if self.pass == Pass::Again && self.tries < AGAIN_TRIES { wait } else { Next::Leave };
        }
        match (self.tries >= TRIES_MAX, others_do_well) {
            (false, _) => wait,
            (true, true) => Next::Leave,
            (true, false) if kask > 0 => Next::Stop,
            // Redis, and the way to it, are waited for.
            (true, false) => wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(patience: &mut Patience, failures: &[Failure], asked: usize, good: u64) -> Next {
        let bad_in_a_row = if failures.len() == asked { failures.len() as u64 } else { 1 };
        patience.after(failures.iter().copied(), asked, around(good, good, bad_in_a_row))
    }

    fn around(good: u64, good_on_shard: u64, bad_in_a_row: u64) -> Around {
        Around { good, good_on_shard, bad_in_a_row }
    }

    fn first(good_before: u64) -> Patience {
        Patience::new(Pass::First, around(good_before, good_before, 0))
    }

    #[test]
    fn a_key_that_fails_among_others_is_left_at_once() {
        assert_eq!(after(&mut first(0), &[Failure::Kask], 32, 31), Next::Leave);
        assert_eq!(after(&mut first(0), &[Failure::Kask], 1, 0), Next::Leave);
        let again = &mut Patience::new(Pass::Again, around(0, 0, 0));
        let nexts: Vec<Next> = (0..AGAIN_TRIES).map(|_| after(again, &[Failure::Kask; 32], 32, 0)).collect();
        assert!(nexts[..3].iter().all(|next| matches!(next, Next::Again(_))), "{nexts:?}");
        assert_eq!(nexts[3], Next::Leave, "they had failed before");
    }

    #[test]
    fn a_kask_that_answers_and_fails_everything_stops_the_run_and_spares_the_list() {
        let mut patience = first(7);
        let all = [Failure::Kask; 32];
        let nexts: Vec<Next> = (0..TRIES_MAX).map(|_| after(&mut patience, &all, 32, 7)).collect();
        assert!(nexts[..7].iter().all(|next| matches!(next, Next::Again(_))), "{nexts:?}");
        assert_eq!(nexts[7], Next::Stop);
        let mut patience = first(7);
        let last = (0..TRIES_MAX).map(|_| after(&mut patience, &all, 32, 900)).last();
        assert_eq!(last, Some(Next::Leave), "others get through: it is these keys");
    }

    #[test]
    fn many_that_fail_one_by_one_are_no_single_cases() {
        let one_by_one = |bad_in_a_row: u64| first(0).after([Failure::Kask].into_iter(), 1, around(0, 0, bad_in_a_row));
        assert_eq!(one_by_one(IN_A_ROW - 1), Next::Leave);
        assert!(matches!(one_by_one(IN_A_ROW), Next::Again(_)));
    }

    #[test]
    fn redis_is_waited_for_longer_each_time_and_never_left_alone() {
        let mut patience = first(0);
        let mut last = Duration::ZERO;
        for _ in 0..50 {
            let Next::Again(wait) = after(&mut patience, &[Failure::Redis, Failure::Fence], 2, 0) else {
                panic!("it is waited for")
            };
            assert!(wait >= last && wait <= WAIT_MAX);
            last = wait;
        }
        assert_eq!(last, WAIT_MAX);
        let mut patience = first(0);
        let elsewhere = (0..50).map(|_| patience.after([Failure::Redis].into_iter(), 16, around(900, 0, 0)));
        assert!(
            elsewhere.into_iter().all(|next| matches!(next, Next::Again(_))),
            "other shards do well, this one does not"
        );
        let mut patience = first(0);
        let last = (0..TRIES_MAX).map(|_| after(&mut patience, &[Failure::Transit], 32, 31)).last();
        assert_eq!(last, Some(Next::Leave));
    }
}
