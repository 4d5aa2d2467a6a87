//! How a run fares, as metrics: the same figures as `decant backfill status`.

use super::{Hold, Holder, Pulse, State};
use metrics::{Gauge, gauge};

pub(super) struct Gauges {
    running: Gauge,
    paused: Gauge,
    held: [Gauge; Holder::ALL.len()],
    braked: Gauge,
    left: Gauge,
}

impl Gauges {
    pub(super) fn new(stash: &str) -> Gauges {
        let stash = || stash.to_owned();
        Gauges {
            running: gauge!("decant_backfill_running", "stash" => stash()),
            paused: gauge!("decant_backfill_paused", "stash" => stash()),
            held: Holder::ALL.map(|by| gauge!("decant_backfill_held", "stash" => stash(), "by" => by.name())),
            braked: gauge!("decant_backfill_braked_keys_per_second", "stash" => stash()),
            left: gauge!("decant_backfill_left_seconds", "stash" => stash()),
        }
    }

    pub(super) fn show(&self, state: Option<State>, pulse: &Pulse, held_by: Option<&Hold>) {
        let is = |wanted: State| f64::from(u8::from(state == Some(wanted)));
        self.running.set(is(State::Running));
        self.paused.set(is(State::Paused));
        let held_by = held_by.filter(|_| state == Some(State::Running));
        for (by, gauge) in Holder::ALL.into_iter().zip(&self.held) {
            gauge.set(f64::from(u8::from(held_by.is_some_and(|hold| hold.what == by))));
        }
        self.braked.set(pulse.braked_to.unwrap_or(0.0));
        self.left.set(pulse.left_s.unwrap_or(0) as f64);
    }
}
