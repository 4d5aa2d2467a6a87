//! What rounds came to, and how a finding is told.

use super::{
    bulk::Bulk,
    checker::{Excused, Kind, Violation},
    history::{Epoch, Nanos},
    storm::Fault,
};
use std::collections::BTreeMap;

/// One violation, with what happened around it.
#[derive(Clone, Debug)]
pub struct Found {
    pub kind: Kind,
    pub text: String,
}

/// What all rounds came to.
#[derive(Default)]
pub struct Report {
    pub operations: u64,
    pub unknown: u64,
    pub acknowledged_writes: u64,
    pub reads_checked: u64,
    pub excused: Excused,
    pub rounds: u64,
    pub stages: u64,
    pub bulk: Bulk,
    pub moves: u64,
    pub moves_refused: BTreeMap<String, u64>,
    pub phases_left_quiet: BTreeMap<String, u64>,
    pub faults: BTreeMap<String, u64>,
    pub violations: Vec<Found>,
}

/// So many reads may be excused of all that are checked, and a few more, where few are checked. In soaks it is one in four thousand.
const EXCUSED_IN: u64 = 200;
const EXCUSED_BESIDES: u64 = 20;

impl Report {
    pub fn excused(&self) -> u64 {
        self.excused.values().sum()
    }

    /// What is excused is the exception: else the excuse hides what it was not made for.
    pub fn excuses_too_much(&self) -> bool {
        self.excused() > self.reads_checked / EXCUSED_IN + EXCUSED_BESIDES
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "operations {} ({} of unknown outcome)", self.operations, self.unknown)?;
        writeln!(f, "acknowledged writes {}", self.acknowledged_writes)?;
        writeln!(f, "reads checked {} ({} excused: {:?})", self.reads_checked, self.excused(), self.excused)?;
        writeln!(f, "rounds {} on {} stages, quiet in {:?}", self.rounds, self.stages, self.phases_left_quiet)?;
        let Bulk { begun, finished, copied, verified } = self.bulk;
        writeln!(f, "backfills {begun} ({finished} to their end, {copied} keys copied), runs of verify {verified}")?;
        writeln!(f, "moves {} (refused: {:?})", self.moves, self.moves_refused)?;
        writeln!(f, "faults {}: {:?}", self.faults.values().sum::<u64>(), self.faults)?;
        write!(f, "violations {}", self.violations.len())
    }
}

#[test]
fn what_is_excused_stays_the_exception() {
    let report = |reads_checked, old, missed| Report {
        reads_checked,
        excused: [(Kind::WentBack, old), (Kind::FalseMiss, missed)].into(),
        ..Report::default()
    };
    assert!(!report(92_872, 20, 3).excuses_too_much() && !report(10, 20, 0).excuses_too_much());
    assert!(report(10, 20, 1).excuses_too_much() && report(92_872, 400, 100).excuses_too_much());
    assert!(report(92_872, 20, 3).to_string().contains("(23 excused: {WentBack: 20, FalseMiss: 3})"));
}

fn ms(at: Nanos) -> f64 {
    at as f64 / 1e6
}

/// The violation, and what happened to its key, to the tiers and to the phase around it.
pub fn found(violation: &Violation, epoch: &Epoch, faults: &[Fault]) -> Found {
    const BEFORE: Nanos = 9_000_000_000;
    const LINES_MAX: usize = 150;
    let near = |from: Nanos, to: Nanos| to + BEFORE >= violation.at && from <= violation.at + BEFORE / 9;
    let mut lines: Vec<(Nanos, String)> = Vec::new();
    for op in epoch.ops.iter().filter(|op| op.key == violation.key && near(op.began, op.ended)) {
        let (client, decant) = (op.client, op.decant);
        let text = format!("..{:.1} client {client} decant {decant}: {:?} -> {:?}", ms(op.ended), op.action, op.told);
        lines.push((op.began, text));
    }
    for fault in faults.iter().filter(|fault| near(fault.from, fault.to)) {
        lines.push((fault.from, format!("..{:.1} FAULT {} {}", ms(fault.to), fault.kind, fault.whom)));
    }
    for attempt in epoch.attempts.iter().filter(|attempt| near(attempt.asked, attempt.asked)) {
        lines.push((attempt.asked, format!("MOVE to {} (version {})", attempt.phase, attempt.version)));
    }
    lines.sort_by_key(|(at, _)| *at);
    let from = lines.len().saturating_sub(LINES_MAX);
    let told: Vec<String> = lines[from..].iter().map(|(at, text)| format!("  {:.1}{text}", ms(*at))).collect();
    let initial = epoch.initial.get(&violation.key);
    let (kind, key, at) = (violation.kind, violation.key, ms(violation.at));
    let text =
        format!("{kind:?} key {key} at {at:.1} ms: {}\n  at first: {initial:?}\n{}", violation.what, told.join("\n"));
    Found { kind, text }
}
