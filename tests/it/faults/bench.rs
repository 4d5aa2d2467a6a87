//! Rounds of work under faults, each followed by quiet and a reckoning.

use super::{
    checker::{self, Kind, Left, Violation},
    clients::{Client, Numbers, Orders, watch, work},
    history::{Action, Attempt, Epoch, Nanos, Op, Told, Value},
    moves::Operator,
    proxy::Mode,
    stage::{DECANTS, Stage, Tier},
    storm::{self, Fault},
    values::{self, KEYS},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::ScopedJoinHandle,
    time::{Duration, Instant},
};

const CLIENTS: usize = 10;
/// Who reads everything once all is quiet.
const AUDITOR: usize = 901;
/// Far longer than any healing takes, on any machine: reaching it is a finding of its own.
const QUIET_WITHIN: Duration = Duration::from_secs(120);
/// Faults and moves of one round.
const ROUND: Duration = Duration::from_secs(8);
/// Then clients race each other for so long.
const RACE: Duration = Duration::from_millis(1_000);
const RACE_JITTER_MS: u64 = 60;
/// Then a new stage begins, with new processes and nothing stored.
const ROUNDS: u64 = 4;

/// What all rounds came to.
#[derive(Default)]
pub struct Report {
    pub operations: u64,
    pub unknown: u64,
    pub acknowledged_writes: u64,
    pub reads_checked: u64,
    pub reads_excused: u64,
    pub rounds: u64,
    pub stages: u64,
    pub moves: u64,
    pub moves_refused: BTreeMap<String, u64>,
    pub phases_left_quiet: BTreeMap<String, u64>,
    pub faults: BTreeMap<String, u64>,
    pub violations: Vec<String>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "operations {} ({} of unknown outcome)", self.operations, self.unknown)?;
        writeln!(f, "acknowledged writes {}", self.acknowledged_writes)?;
        writeln!(f, "reads checked {} ({} excused)", self.reads_checked, self.reads_excused)?;
        writeln!(f, "rounds {} on {} stages, quiet in {:?}", self.rounds, self.stages, self.phases_left_quiet)?;
        writeln!(f, "moves {} (refused: {:?})", self.moves, self.moves_refused)?;
        writeln!(f, "faults {}: {:?}", self.faults.values().sum::<u64>(), self.faults)?;
        write!(f, "violations {}", self.violations.len())
    }
}

/// Runs stages for `length`, at least one round, and no longer once something was found.
pub fn run(seed: u64, length: Duration, mut tell: impl FnMut(&Report)) -> Report {
    let until = Instant::now() + length;
    let mut seeds = fastrand::Rng::with_seed(seed);
    let mut report = Report::default();
    loop {
        report.stages += 1;
        let mut bench = Bench::new(seeds.u64(..));
        for round in 0..ROUNDS {
            bench.operator.may_retire_redis = round + 2 > ROUNDS;
            bench.round(&mut report);
            tell(&report);
            if Instant::now() >= until || !report.violations.is_empty() {
                bench.add_moves(&mut report);
                return report;
            }
        }
        bench.add_moves(&mut report);
    }
}

struct Bench {
    stage: Stage,
    seeds: fastrand::Rng,
    numbers: Numbers,
    operator: Operator,
    attempts: Mutex<Vec<Attempt>>,
    /// What each key held when it was last quiet.
    initial: BTreeMap<usize, Option<Value>>,
    /// Keys that Kask rightly lacked then.
    lacking: BTreeSet<usize>,
}

impl Bench {
    fn new(seed: u64) -> Bench {
        let mut seeds = fastrand::Rng::with_seed(seed);
        Bench {
            stage: Stage::new(),
            operator: Operator::new(seeds.u64(..)),
            seeds,
            numbers: Numbers::default(),
            attempts: Mutex::new(vec![Attempt { version: 1, phase: "redis-only", asked: 0 }]),
            initial: (0..KEYS).map(|key| (key, None)).collect(),
            lacking: BTreeSet::new(),
        }
    }

    fn add_moves(&self, report: &mut Report) {
        report.moves += self.operator.moves;
        for (kind, count) in &self.operator.refused {
            *report.moves_refused.entry(kind.clone()).or_default() += count;
        }
    }

    fn round(&mut self, report: &mut Report) {
        let (mut epoch, faults, unrest) = self.work_under_faults();
        epoch.attempts = self.attempts.lock().unwrap().clone();
        let mut violations = Vec::new();
        if let Some(why) = unrest {
            let what = format!("not quiet within {QUIET_WITHIN:?} after the last fault: {why}");
            violations.push(Violation { kind: Kind::NeverQuiet, key: 0, at: self.stage.now(), what });
        } else {
            let phase = self.stage.view(0).unwrap()["phase"].as_str().unwrap().to_owned();
            self.audit(&mut epoch, &mut violations);
            self.reckon(&epoch, &phase, &mut violations);
            *report.phases_left_quiet.entry(phase).or_default() += 1;
        }
        let verdict = checker::check(&epoch);
        violations.extend(verdict.violations);
        report.rounds += 1;
        report.operations += epoch.ops.len() as u64;
        report.unknown += epoch.ops.iter().filter(|op| matches!(op.told, Told::Unknown(_))).count() as u64;
        report.acknowledged_writes += epoch.ops.iter().filter(|op| op.told == Told::Done).count() as u64;
        report.reads_checked += verdict.reads_checked;
        report.reads_excused += verdict.reads_excused;
        for fault in &faults {
            *report.faults.entry(fault.kind.clone()).or_default() += 1;
        }
        for violation in &violations {
            report.violations.push(tell_violation(violation, &epoch, &faults));
        }
    }

    /// Clients, faults and moves at once, then quiet, watched all the time; and why it did not become quiet.
    fn work_under_faults(&mut self) -> (Epoch, Vec<Fault>, Option<String>) {
        let (stage, numbers, attempts) = (&self.stage, &self.numbers, &self.attempts);
        let (stop, quiet, orders) = (AtomicBool::new(false), AtomicBool::new(false), Orders::default());
        let mut seeds: Vec<u64> = (0..CLIENTS + 2).map(|_| self.seeds.u64(..)).collect();
        let operator = &mut self.operator;
        std::thread::scope(|scope| {
            let (stop, quiet, orders) = (&stop, &quiet, &orders);
            let watchers: Vec<_> =
                (0..DECANTS).map(|decant| scope.spawn(move || watch(stage, decant, quiet))).collect();
            let (net, processes) = (seeds.pop().unwrap(), seeds.pop().unwrap());
            let storms = [
                scope.spawn(move || storm::network(stage, net, stop)),
                scope.spawn(move || storm::processes(stage, processes, stop)),
            ];
            let clients: Vec<_> = (seeds.into_iter().enumerate())
                .map(|(name, seed)| scope.spawn(move || work(stage, name, seed, numbers, orders)))
                .collect();
            let moves = scope.spawn(move || operator.work(stage, attempts, stop));
            std::thread::sleep(ROUND);
            stop.store(true, Ordering::Relaxed);
            let mut epoch = Epoch { initial: self.initial.clone(), ..Epoch::default() };
            let mut faults: Vec<Fault> = storms.into_iter().flat_map(join).collect();
            faults.sort_by_key(|fault| fault.from);
            epoch.ops = join(moves);
            // What is compared in the end was raced for, with nothing wrong but the order in which Kask hears of it.
            let jitter = |mode| (0..DECANTS).for_each(|decant| stage.proxy(decant, Tier::Kask).set(mode, 100, 0));
            jitter(Mode::Jitter(RACE_JITTER_MS));
            orders.race.store(true, Ordering::Relaxed);
            std::thread::sleep(RACE);
            orders.stop.store(true, Ordering::Relaxed);
            epoch.ops.extend(clients.into_iter().flat_map(join));
            jitter(Mode::Pass);
            epoch.ops.sort_by_key(|op| op.began);
            let unrest = wait_quiet(stage);
            quiet.store(true, Ordering::Relaxed);
            epoch.samples = watchers.into_iter().map(join).collect();
            (epoch, faults, unrest)
        })
    }

    /// Everything is healthy: every key is read through every decant, and every read is answered.
    fn audit(&self, epoch: &mut Epoch, violations: &mut Vec<Violation>) {
        let mut client = Client::new(&self.stage, AUDITOR);
        let stop = AtomicBool::new(true);
        for (decant, key) in (0..DECANTS).flat_map(|decant| (0..KEYS).map(move |key| (decant, key))) {
            let until = Instant::now() + QUIET_WITHIN;
            loop {
                let (op, _) = client.ask(decant, key, Action::Get);
                epoch.ops.push(op);
                if !matches!(op.told, Told::Unknown(_)) {
                    break;
                }
                if Instant::now() > until {
                    let what = format!("decant {decant}: {:?}", op.told);
                    violations.push(Violation { kind: Kind::NoAnswer, key, at: op.began, what });
                    return;
                }
                // A pool that still holds dead connections, a Redis link just being made again.
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        for (decant, samples) in epoch.samples.iter_mut().enumerate() {
            samples.extend(watch(&self.stage, decant, &stop));
        }
        if let Some(why) = wait_quiet(&self.stage) {
            let what = format!("not quiet within {QUIET_WITHIN:?} after everything was read: {why}");
            violations.push(Violation { kind: Kind::NeverQuiet, key: 0, at: self.stage.now(), what });
        }
    }

    /// What the tiers hold.
    fn reckon(&mut self, epoch: &Epoch, phase: &str, violations: &mut Vec<Violation>) {
        for key in 0..KEYS {
            let until = Instant::now() + QUIET_WITHIN;
            let on_kask = loop {
                match self.stage.kask_holds(key) {
                    Some(held) => break held,
                    None => assert!(Instant::now() < until, "Kask does not answer"),
                }
            };
            let on_redis = self.stage.redis_holds(key);
            let odd = |tier: &str| Violation {
                kind: Kind::FromNowhere,
                key,
                at: self.stage.now(),
                what: format!("{tier} holds what nobody wrote"),
            };
            let kask = on_kask.as_ref().and_then(|body| values::of_body(body));
            let redis = on_redis.as_ref().and_then(|bytes| values::of_redis(bytes));
            violations.extend((kask.is_none() && on_kask.is_some()).then(|| odd("Kask")));
            violations.extend((redis.is_none() && on_redis.is_some()).then(|| odd("Redis")));
            let before = |value| match checker::written_at(epoch, key, value) {
                0 => self.lacking.contains(&key),
                at => self.operator.kask_complete_since.is_none_or(|since| at < since),
            };
            let may_lack = redis.is_some_and(before);
            let counts = checker::check_left(epoch, phase, Left { key, redis, kask, may_lack }, violations);
            self.initial.insert(key, counts);
            if redis.is_some() && kask.is_none() {
                self.lacking.insert(key);
            } else {
                self.lacking.remove(&key);
            }
        }
    }
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Twice in a row nothing was under way anywhere; else why not.
fn wait_quiet(stage: &Stage) -> Option<String> {
    let until = Instant::now() + QUIET_WITHIN;
    let mut in_a_row = 0;
    loop {
        match stage.unrest() {
            None => in_a_row += 1,
            Some(why) if Instant::now() > until => return Some(why),
            Some(_) => in_a_row = 0,
        }
        if in_a_row == 2 {
            return None;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn ms(at: Nanos) -> f64 {
    at as f64 / 1e6
}

/// The violation, and what happened to its key, to the tiers and to the phase around it.
fn tell_violation(violation: &Violation, epoch: &Epoch, faults: &[Fault]) -> String {
    const BEFORE: Nanos = 9_000_000_000;
    const LINES_MAX: usize = 150;
    let near = |from: Nanos, to: Nanos| to + BEFORE >= violation.at && from <= violation.at + BEFORE / 9;
    let of_key = |op: &&Op| op.key == violation.key && near(op.began, op.ended);
    let mut lines: Vec<(Nanos, String)> = Vec::new();
    for op in epoch.ops.iter().filter(of_key) {
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
    format!("{kind:?} key {key} at {at:.1} ms: {}\n  at first: {initial:?}\n{}", violation.what, told.join("\n"))
}
