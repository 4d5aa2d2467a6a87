//! Stages of rounds: clients, faults and moves at once.

use super::{
    bench::{Bench, Over, Work, join},
    bulk,
    clients::{Orders, work},
    moves::Operator,
    proxy::Mode,
    report::Report,
    stage::{DECANTS, Tier},
    storm::{self, Fault},
};
use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

const CLIENTS: usize = 10;
/// Faults and moves of one round.
const ROUND: Duration = Duration::from_secs(8);
/// Then clients race each other for so long.
const RACE: Duration = Duration::from_millis(1_000);
const RACE_JITTER_MS: u64 = 60;
/// Then a new stage begins, with new processes and nothing stored.
const ROUNDS: u64 = 4;

/// What is to be run.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    pub seed: u64,
    /// At least one round, and none is begun after it.
    pub length: Duration,
    /// The program.
    pub decant: &'a Path,
    /// Without: only clients and moves.
    pub faults: bool,
    pub quiet_within: Duration,
}

/// Runs stages, and no longer once something was found.
pub fn run(plan: Plan<'_>, mut tell: impl FnMut(&Report)) -> Report {
    let until = Instant::now() + plan.length;
    let mut seeds = fastrand::Rng::with_seed(plan.seed);
    let mut report = Report::default();
    loop {
        report.stages += 1;
        let mut bench = Bench::new(plan.decant, plan.quiet_within);
        let mut operator = Operator::new(seeds.u64(..), plan.faults);
        for round in 0..ROUNDS {
            operator.may_retire_redis = round + 2 > ROUNDS;
            bench.round(&mut report, |bench| storm(bench, &mut seeds, &mut operator, plan.faults));
            tell(&report);
            if Instant::now() >= until || !report.violations.is_empty() {
                operator.add_to(&mut report);
                return report;
            }
        }
        operator.add_to(&mut report);
    }
}

/// One round; afterwards everything is put right again.
fn storm(bench: &Bench, seeds: &mut fastrand::Rng, operator: &mut Operator, faults: bool) -> Work {
    let stage = &bench.stage;
    let (stop, orders) = (AtomicBool::new(false), Orders::default());
    let (net, processes) = (seeds.u64(..), seeds.u64(..));
    let bulk = seeds.u64(..);
    let seeds: Vec<u64> = (0..CLIENTS).map(|_| seeds.u64(..)).collect();
    std::thread::scope(|scope| {
        let (stop, orders) = (&stop, &orders);
        let (stopped, ended) = (Over(stop), Over(&orders.stop));
        let mut storms = Vec::new();
        if faults {
            storms.push(scope.spawn(move || storm::network(stage, net, stop)));
            storms.push(scope.spawn(move || storm::processes(stage, processes, stop)));
        }
        let clients: Vec<_> = (seeds.into_iter().enumerate())
            .map(|(name, seed)| scope.spawn(move || work(stage, name, seed, &bench.numbers, orders)))
            .collect();
        let bulk = scope.spawn(move || bulk::work(stage, bulk, &orders.stop));
        let moves = scope.spawn(|| operator.work(stage, &bench.attempts, stop));
        std::thread::sleep(ROUND);
        drop(stopped);
        let mut met: Vec<Fault> = storms.into_iter().flat_map(join).collect();
        let moved = join(moves);
        met.extend(moved.faults);
        met.sort_by_key(|fault| fault.from);
        // What is compared in the end was raced for, with nothing wrong but the order in which Kask hears of it.
        let jitter = |mode| (0..DECANTS).for_each(|decant| stage.proxy(decant, Tier::Kask).set(mode, 100, 0));
        if faults {
            jitter(Mode::Jitter(RACE_JITTER_MS));
        }
        orders.race.store(true, Ordering::Relaxed);
        std::thread::sleep(RACE);
        drop(ended);
        let mut ops = moved.ops;
        ops.extend(clients.into_iter().flat_map(join));
        jitter(Mode::Pass);
        Work { ops, faults: met, bulk: join(bulk) }
    })
}
