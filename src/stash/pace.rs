//! How much the background may do at once: clients come first.

use super::Stash;
use crate::{protocol::World, tier::breaker::Standing};

/// How a worker in the background goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// As many at once as it has places for.
    Many,
    /// One at a time: it never stands still, or the outbox would grow as long as clients are busy.
    One,
    /// Only what needs no Kask.
    WithoutKask,
}

/// `busy`: clients fill half of what there is. `refused`: Kask would not be asked now.
fn pace(busy: bool, kask: Standing, refused: bool) -> Pace {
    match kask {
        Standing::Closed if busy => Pace::One,
        Standing::Closed => Pace::Many,
        _ if refused => Pace::WithoutKask,
        // It may become the probe: without clients nobody else finds out that Kask is back.
        _ => Pace::One,
    }
}

impl Stash {
    pub(super) fn pace(&self) -> Pace {
        let world = &self.site.world;
        let busy = self.in_flight() * 2 > self.places_max || world.is_busy();
        pace(busy, world.kask.breaker().standing(), world.kask_is_away())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_background_never_stands_still_but_for_a_kask_that_is_away() {
        assert_eq!(pace(false, Standing::Closed, false), Pace::Many);
        assert_eq!(pace(true, Standing::Closed, false), Pace::One);
        assert_eq!(pace(true, Standing::Open, true), Pace::WithoutKask);
        assert_eq!(pace(false, Standing::Open, false), Pace::One);
        assert_eq!(pace(false, Standing::HalfOpen, true), Pace::WithoutKask);
    }
}
