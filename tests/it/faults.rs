//! The fault bench: several decants on a real Redis and a Kask, under faults drawn from a seed, while clients work and phases change.
//! Every answer is recorded and held to what may be told; when all is quiet, the tiers are held to the newest acknowledged writes.

mod bench;
mod bulk;
mod checker;
mod checker_tests;
mod clients;
mod drills;
mod fleet;
mod history;
mod matrix;
mod moves;
mod mutations;
mod outages;
mod proxy;
mod proxy_tests;
mod report;
mod rounds;
mod stage;
mod storm;
mod values;
pub mod wire;

use bench::QUIET_WITHIN;
use rounds::Plan;
use std::{path::Path, time::Duration};

const DECANT: &str = env!("CARGO_BIN_EXE_decant");
/// Of the sweep that `cargo test` runs: these schedules every time, and one that nobody has seen.
const FIXED_SEEDS: [u64; 2] = [21, 4_711];
const SWEEP_EACH: Duration = Duration::from_secs(40);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|fault| panic!("{name}={text}: {fault}")))
}

fn plan(seed: u64, length: Duration) -> Plan<'static> {
    Plan { seed, length, decant: Path::new(DECANT), faults: true, quiet_within: QUIET_WITHIN }
}

fn hold(plan: Plan<'_>, every_round: bool) -> report::Report {
    let seed = plan.seed;
    println!("DECANT_FAULT_SEED={seed}");
    let report = rounds::run(plan, |so_far| {
        if every_round {
            println!("{so_far}\n");
        }
    });
    println!("DECANT_FAULT_SEED={seed}\n{report}");
    assert!(
        report.violations.is_empty(),
        "{} violations with DECANT_FAULT_SEED={seed}:\n{}",
        report.violations.len(),
        report.violations.iter().take(5).map(|found| found.text.clone()).collect::<Vec<_>>().join("\n\n")
    );
    assert!(!report.excuses_too_much(), "too many reads are excused: {report}");
    assert!(
        report.acknowledged_writes > 0 && report.reads_checked > 0,
        "nothing was done that could be held to anything"
    );
    assert_eq!(plan.faults, !report.faults.is_empty(), "faults: {:?}", report.faults);
    report
}

/// `DECANT_FAULT_SEED` draws the same schedule again; what happens within it is up to the machine. With `DECANT_SOAK_MINUTES` it is drawn
/// for so long, and every round is told: see deploy/soak.sh.
#[test]
fn faults_lose_nothing() {
    let given = number("DECANT_FAULT_SEED");
    let drawn = given.unwrap_or_else(|| fastrand::u64(..1_000_000));
    if let Some(minutes) = number("DECANT_SOAK_MINUTES") {
        hold(plan(drawn, Duration::from_secs(60 * minutes)), true);
        return;
    }
    let fixed = FIXED_SEEDS.into_iter().filter(|_| given.is_none());
    for seed in fixed.chain([drawn]) {
        hold(plan(seed, SWEEP_EACH), false);
    }
}

/// Any of three moves, through all phases and back, while others are killed or cut off and etcd goes away.
#[test]
fn a_fleet_on_one_etcd_loses_nothing() {
    let report = fleet::play(Path::new(DECANT), QUIET_WITHIN);
    println!("{report}");
    let found: Vec<String> = report.violations.iter().take(5).map(|found| found.text.clone()).collect();
    assert!(found.is_empty(), "{} violations:\n{}", report.violations.len(), found.join("\n\n"));
    assert!(!report.excuses_too_much(), "too many reads are excused: {report}");
    assert!(report.moves == fleet::MOVES && report.operations > 1_000, "{report}");
    assert_eq!(report.moves_refused[fleet::BEHIND], fleet::REFUSED, "{report}");
}

/// The checker finds nothing where nothing is wrong, and excuses nothing.
#[test]
fn without_faults_nothing_is_flagged_or_excused() {
    let report = hold(Plan { faults: false, ..plan(fastrand::u64(..1_000_000), Duration::from_secs(10)) }, false);
    assert_eq!(report.excused(), 0, "{report}");
    assert!(report.moves > 0 && report.operations > 1_000, "{report}");
    assert!(report.bulk.finished > 0 && report.bulk.verified > 0, "{report}");
}
