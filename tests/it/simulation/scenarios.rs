//! What kinds of schedules there are, and the tests that run them.

use super::{Fault, scheduler::Schedule};
use decant::{
    phase::Phase::{self, DualWrite, KaskFirst, KaskOnly, RedisOnly, RedisStandby},
    protocol::{Rules, Safeguard},
};
use std::ops::Range;

/// One kind of schedule: what happens, and how often.
#[derive(Clone, Debug)]
pub struct Mix {
    pub starts: &'static [Phase],
    /// At most so many moves, through these phases only.
    pub moves: u32,
    pub route: &'static [Phase],
    pub decants: Range<usize>,
    pub keys: Range<usize>,
    pub ops: Range<u32>,
    /// Set, delete, add, read.
    pub ops_weights: [u32; 4],
    /// At most so many faults.
    pub faults: u32,
    /// How probable a fault is wherever it can happen, in percent.
    pub percents: &'static [(Fault, u32)],
    /// How probable it is that a request that was given up on goes on hanging each time it could land.
    pub hang_percent: u32,
    pub async_percent: u32,
}

impl Mix {
    pub fn percent(&self, fault: Fault) -> u32 {
        self.percents.iter().find(|(kind, _)| *kind == fault).map_or(0, |(_, percent)| *percent)
    }
}

const EVERYTHING: Mix = Mix {
    starts: &Phase::ALL,
    moves: 4,
    route: &Phase::ALL,
    decants: 2..4,
    keys: 1..3,
    ops: 3..16,
    ops_weights: [4, 2, 1, 5],
    faults: 4,
    percents: &[
        (Fault::Crash, 8),
        (Fault::Late, 12),
        (Fault::Refuse, 5),
        (Fault::NotSent, 4),
        (Fault::Error, 6),
        (Fault::KaskGet, 4),
        (Fault::Stall, 12),
        (Fault::Evict, 10),
        (Fault::Cut, 8),
        (Fault::LostReply, 3),
        (Fault::LateScript, 2),
        (Fault::Full, 5),
    ],
    hang_percent: 80,
    async_percent: 25,
};

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Panics with the story of the schedule.
fn tell(seed: u64, mix: &Mix, rules: Rules) -> ! {
    let outcome = Schedule::run(seed, mix, rules, true);
    let failure = outcome.failure.unwrap_or_else(|| "it does not fail when traced: the simulation is not deterministic".into());
    panic!("seed {seed}: {failure}\n{}\nseed {seed}: {failure}", outcome.trace.join("\n"));
}

#[test]
fn holds() {
    let (first, count) = (env("DECANT_SIM_SEED", 1), env("DECANT_SIM_SCHEDULES", 10_000));
    let began = std::time::Instant::now();
    println!("seeds {first}..{}", first + count);
    let (mut acked, mut reads) = (0, 0);
    for seed in first..first + count {
        let outcome = Schedule::run(seed, &EVERYTHING, Rules::ALL, false);
        if outcome.failure.is_some() {
            tell(seed, &EVERYTHING, Rules::ALL);
        }
        acked += outcome.acked;
        reads += outcome.reads_checked;
    }
    println!("{count} schedules in {:.1?}: {acked} writes acknowledged, {reads} reads checked", began.elapsed());
    assert!(acked > count && reads > count, "the schedules do too little: {acked} writes, {reads} reads");
}
