//! The fault bench: several decants on a real Redis and a Kask, under faults drawn from a seed, while clients work and phases change.
//! Every answer is recorded and held to what may be told; when all is quiet, the tiers are held to the newest acknowledged writes.

mod bench;
mod checker;
mod checker_tests;
mod clients;
mod history;
mod moves;
mod proxy;
mod proxy_tests;
mod stage;
mod storm;
mod values;
mod wire;

use std::time::Duration;

/// The test's share of a run: a few stages are not begun after this.
const SWEEP: Duration = Duration::from_secs(50);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|fault| panic!("{name}={text}: {fault}")))
}

fn hold(seed: u64, length: Duration, every_round: bool) {
    println!("DECANT_FAULT_SEED={seed}");
    let report = bench::run(seed, length, |so_far| {
        if every_round {
            println!("{so_far}\n");
        }
    });
    println!("DECANT_FAULT_SEED={seed}\n{report}");
    assert!(
        report.violations.is_empty(),
        "{} violations with DECANT_FAULT_SEED={seed}:\n{}",
        report.violations.len(),
        report.violations.iter().take(5).cloned().collect::<Vec<_>>().join("\n\n")
    );
}

/// `DECANT_FAULT_SEED` draws the same schedule again; what happens within it is up to the machine.
#[test]
fn faults_lose_nothing() {
    hold(number("DECANT_FAULT_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000)), SWEEP, false);
}

/// `deploy/soak.sh` runs this: it takes `DECANT_SOAK_MINUTES`.
#[test]
#[ignore = "runs for as long as it is told to: see deploy/soak.sh"]
fn soak() {
    let minutes = number("DECANT_SOAK_MINUTES").unwrap_or(10);
    let seed = number("DECANT_FAULT_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    hold(seed, Duration::from_secs(60 * minutes), true);
}
