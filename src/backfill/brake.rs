//! The brake: clients come first. Pure.
//!
//! Once a second it is told how long clients' operations took and how full decant is, and answers at most how many keys a second
//! may be copied. It brakes at once and by a lot, lets go slowly, and between the two marks it does nothing: so it does not swing.

use std::time::Duration;

/// Above so many times what was usual before the run, clients wait too long.
const HIGH: f64 = 2.0;
/// Below so many times what was usual, it may go faster again.
const LOW: f64 = 1.5;
/// What is left of the rate when it brakes.
const BRAKED: f64 = 0.6;
/// What is added to the rate when it lets go: a share of it.
const RELEASED: f64 = 0.1;
/// The slowest, in keys a second: a run always gets on.
const FLOOR: f64 = 20.0;
/// Turns without a change after it has braked: what it did must show first.
const REST: u32 = 2;
/// A cap so many times above the rate that is reached is no cap.
const SLACK: f64 = 2.0;
/// Turns at the floor after which it is not this run that clients wait for.
const STUCK: u32 = 30;
/// With fewer operations in a turn nothing follows from their lengths.
pub(super) const OPERATIONS_MIN: u64 = 20;
/// The share of decant's places for operations above which it is full, whatever the lengths.
const FULL: f64 = 0.5;

/// What was measured in one turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Clients' operations that ended.
    pub operations: u64,
    /// The length that 95 of 100 of them did not exceed.
    pub p95: Duration,
    /// Operations under way, as a share of those that decant takes.
    pub fullness: f64,
    /// Keys a second that were copied or compared.
    pub rate: f64,
}

/// What it knows from turn to turn.
#[derive(Clone, Debug)]
pub(super) struct Brake {
    /// What is usual for clients without this run.
    usual: Duration,
    /// Lengths up to this are never too long.
    harmless: Duration,
    cap: Option<f64>,
    rest: u32,
    at_floor: u32,
}

impl Brake {
    /// `usual`: measured before the run began; none: nobody was there.
    pub(super) fn new(usual: Option<Duration>, harmless: Duration) -> Brake {
        Brake { usual: usual.unwrap_or_default(), harmless, cap: None, rest: 0, at_floor: 0 }
    }

    /// At most so many keys a second; none: as many as will go.
    pub(super) fn turn(&mut self, reading: &Reading) -> Option<f64> {
        let told = reading.operations >= OPERATIONS_MIN;
        let high = self.usual.mul_f64(HIGH).max(self.harmless);
        let low = self.usual.mul_f64(LOW).max(self.harmless.mul_f64(LOW / HIGH));
        let too_slow = told && reading.p95 > high || reading.fullness > FULL;
        if too_slow {
            self.brake(reading);
        } else if self.rest > 0 {
            self.rest -= 1;
        } else if !told || reading.p95 < low {
            self.release(reading);
        }
        self.cap
    }

    fn brake(&mut self, reading: &Reading) {
        let stuck = self.cap == Some(FLOOR);
        self.at_floor = if stuck { self.at_floor + 1 } else { 0 };
        if self.at_floor >= STUCK && reading.operations >= OPERATIONS_MIN {
            // Half a minute at a crawl and no better: the day has become busier, or a tier slower.
            (self.usual, self.at_floor) = (reading.p95, 0);
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        let reached = self.cap.unwrap_or(f64::MAX).min(reading.rate.max(FLOOR));
        self.cap = Some((reached * BRAKED).max(FLOOR));
        self.rest = REST;
    }

    fn release(&mut self, reading: &Reading) {
        self.at_floor = 0;
        let Some(cap) = self.cap else { return };
        let cap = cap + (cap * RELEASED).max(FLOOR);
        // Far above what the tiers give it holds nothing back.
        self.cap = (cap < reading.rate * SLACK || reading.rate < FLOOR).then_some(cap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1_000.0)
    }

    fn reading(p95_ms: f64, rate: f64) -> Reading {
        Reading { operations: 1_000, p95: ms(p95_ms), fullness: 0.01, rate }
    }

    #[test]
    fn it_does_nothing_while_clients_are_served_as_ever() {
        let mut brake = Brake::new(Some(ms(10.0)), ms(5.0));
        for p95 in [1.0, 10.0, 14.9, 19.9] {
            assert_eq!(brake.turn(&reading(p95, 5_000.0)), None, "{p95}");
        }
    }

    #[test]
    fn it_brakes_at_once_and_then_waits_for_what_that_does() {
        let mut brake = Brake::new(Some(ms(10.0)), ms(5.0));
        assert_eq!(brake.turn(&reading(25.0, 5_000.0)), Some(3_000.0));
        assert_eq!(brake.turn(&reading(25.0, 3_000.0)), Some(3_000.0));
        assert_eq!(brake.turn(&reading(25.0, 3_000.0)), Some(3_000.0));
        assert_eq!(brake.turn(&reading(25.0, 3_000.0)), Some(1_800.0));
    }

    #[test]
    fn between_the_marks_it_stays() {
        let mut brake = Brake::new(Some(ms(10.0)), ms(5.0));
        brake.turn(&reading(25.0, 5_000.0));
        for _ in 0..20 {
            assert_eq!(brake.turn(&reading(17.0, 3_000.0)), Some(3_000.0));
        }
    }

    #[test]
    fn it_lets_go_slowly_and_in_the_end_altogether() {
        let mut brake = Brake::new(Some(ms(10.0)), ms(5.0));
        brake.turn(&reading(25.0, 1_000.0));
        let mut last = 600.0;
        for turn in 0..40 {
            match brake.turn(&reading(8.0, 1_000.0_f64.min(last))) {
                Some(cap) => {
                    assert!(cap >= last && cap <= last * 1.101 + 1e-6, "{turn}: {last} -> {cap}");
                    last = cap;
                }
                None => return assert!(turn > 10, "{turn} turns"),
            }
        }
        panic!("still at {last}");
    }

    #[test]
    fn harmless_lengths_are_never_too_long_and_few_operations_say_nothing() {
        let mut brake = Brake::new(Some(ms(0.2)), ms(20.0));
        assert_eq!(brake.turn(&reading(19.0, 5_000.0)), None);
        let few = Reading { operations: 19, ..reading(500.0, 5_000.0) };
        assert_eq!(brake.turn(&few), None);
        assert!(brake.turn(&Reading { fullness: 0.6, ..few }).is_some(), "decant is full");
    }

    #[test]
    fn it_never_stops_a_run() {
        let mut brake = Brake::new(Some(ms(1.0)), ms(5.0));
        for _ in 0..100 {
            let cap = brake.turn(&reading(50_000.0, 0.0));
            assert!(cap.is_none_or(|cap| cap >= FLOOR), "{cap:?}");
        }
    }

    #[test]
    fn what_stays_slow_at_a_crawl_is_not_this_runs_doing() {
        let mut brake = Brake::new(Some(ms(10.0)), ms(5.0));
        let turns = (0..200).take_while(|_| brake.turn(&reading(100.0, FLOOR)) == Some(FLOOR)).count();
        assert!((30..60).contains(&turns), "{turns} turns");
        assert!(brake.usual == ms(100.0));
    }

    /// Clients' latency grows with the rate: the brake finds a rate that they can bear, and stays near it.
    #[test]
    fn it_finds_a_rate_and_does_not_swing() {
        let mut brake = Brake::new(Some(ms(10.0)), ms(5.0));
        let most = 10_000.0;
        let mut rate = most;
        let mut rates = Vec::new();
        for _ in 0..300 {
            // 10 ms without it, 60 ms at full speed; 20 ms at 2,000 keys a second.
            let cap = brake.turn(&reading(10.0 + rate / 200.0, rate));
            rate = cap.unwrap_or(most).min(most);
            rates.push(rate);
        }
        let late = &rates[100..];
        let (low, high) = late.iter().fold((f64::MAX, 0.0_f64), |(low, high), rate| (low.min(*rate), high.max(*rate)));
        assert!(low >= 500.0 && high <= 2_200.0 && high / low < 2.0, "{low} to {high}");
        let turned = late.windows(3).filter(|w| (w[1] - w[0]) * (w[2] - w[1]) < 0.0).count();
        assert!(turned <= 4, "it turned {turned} times in 200");
    }
}
