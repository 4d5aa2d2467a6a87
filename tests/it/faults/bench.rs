//! A stage, what is known of it, and the reckoning once all is quiet.

use super::{
    bulk::Bulk,
    checker::{self, Kind, Left, Violation},
    clients::{Client, Numbers, watch},
    history::{Action, Attempt, Epoch, Nanos, Op, Told, Value},
    report::{Report, found},
    stage::{Make, Stage},
    storm::Fault,
    values,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::ScopedJoinHandle,
    time::{Duration, Instant},
};

/// Who reads everything once all is quiet.
const AUDITOR: usize = 901;
/// Far longer than any healing takes, on any machine: reaching it is a finding of its own.
pub const QUIET_WITHIN: Duration = Duration::from_secs(120);

/// A stage, and what is known of it between two moments of quiet.
pub struct Bench {
    pub stage: Stage,
    pub numbers: Numbers,
    pub attempts: Mutex<Vec<Attempt>>,
    keys: usize,
    quiet_within: Duration,
    /// What each key held when it was last quiet.
    initial: BTreeMap<usize, Option<Value>>,
    /// Keys that Kask rightly lacked then.
    lacking: BTreeSet<usize>,
}

/// What was done between two moments of quiet.
#[derive(Default)]
pub struct Work {
    pub ops: Vec<Op>,
    pub faults: Vec<Fault>,
    pub bulk: Bulk,
}

impl Bench {
    pub fn new(decant: &Path, quiet_within: Duration) -> Bench {
        Bench::of(Make::for_storms(decant), values::KEYS, quiet_within)
    }

    pub fn of(make: Make<'_>, keys: usize, quiet_within: Duration) -> Bench {
        Bench {
            stage: Stage::new(make),
            keys,
            quiet_within,
            numbers: Numbers::default(),
            attempts: Mutex::new(vec![Attempt { version: 1, phase: make.phase, asked: 0 }]),
            initial: (0..keys).map(|key| (key, None)).collect(),
            lacking: BTreeSet::new(),
        }
    }

    /// Does `work` with every decant watched, waits until all is quiet, reads and compares everything, and holds every answer to what may
    /// be told.
    pub fn round(&mut self, report: &mut Report, work: impl FnOnce(&Bench) -> Work) {
        let (Work { mut ops, faults, bulk }, mut epoch, unrest) = self.watched(work);
        ops.sort_by_key(|op| op.began);
        epoch.ops = ops;
        epoch.attempts = self.attempts.lock().unwrap().clone();
        let mut violations = Vec::new();
        if let Some(why) = unrest {
            violations.push(self.never_quiet("the last fault", &why));
        } else {
            let phase = self.stage.view(0).unwrap()["phase"].as_str().unwrap().to_owned();
            self.audit(&mut epoch, &mut violations);
            self.reckon(&epoch, &phase, &mut violations);
            *report.phases_left_quiet.entry(phase).or_default() += 1;
        }
        let verdict = checker::check(&epoch);
        violations.extend(verdict.violations);
        report.rounds += 1;
        report.bulk.add(bulk);
        report.operations += epoch.ops.len() as u64;
        report.unknown += epoch.ops.iter().filter(|op| matches!(op.told, Told::Unknown(_))).count() as u64;
        report.acknowledged_writes += epoch.ops.iter().filter(|op| op.told == Told::Done).count() as u64;
        report.reads_checked += verdict.reads_checked;
        verdict.excused.into_iter().for_each(|(kind, reads)| *report.excused.entry(kind).or_default() += reads);
        for fault in &faults {
            *report.faults.entry(fault.kind.clone()).or_default() += 1;
        }
        report.violations.extend(violations.iter().map(|violation| found(violation, &epoch, &faults)));
    }

    fn never_quiet(&self, after: &str, why: &str) -> Violation {
        let what = format!("not quiet within {:?} after {after}: {why}", self.quiet_within);
        Violation { kind: Kind::NeverQuiet, key: 0, at: self.stage.now(), what }
    }

    /// Also why it did not become quiet.
    fn watched(&self, work: impl FnOnce(&Bench) -> Work) -> (Work, Epoch, Option<String>) {
        let quiet = AtomicBool::new(false);
        let mut epoch = Epoch { initial: self.initial.clone(), ..Epoch::default() };
        std::thread::scope(|scope| {
            let quiet = &quiet;
            let over = Over(quiet);
            let watchers: Vec<_> = (0..self.stage.decants())
                .map(|decant| scope.spawn(move || watch(&self.stage, decant, quiet)))
                .collect();
            let done = work(self);
            let unrest = self.wait_quiet();
            drop(over);
            epoch.samples = watchers.into_iter().map(join).collect();
            (done, epoch, unrest)
        })
    }

    /// Everything is healthy: every key is read through every decant, and every read is answered.
    fn audit(&self, epoch: &mut Epoch, violations: &mut Vec<Violation>) {
        let mut client = Client::new(&self.stage, AUDITOR);
        let stop = AtomicBool::new(true);
        let decants = self.stage.decants();
        let keys = self.keys;
        for (decant, key) in (0..decants).flat_map(|decant| (0..keys).map(move |key| (decant, key))) {
            let until = Instant::now() + self.quiet_within;
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
        if let Some(why) = self.wait_quiet() {
            violations.push(self.never_quiet("everything was read", &why));
        }
    }

    /// What the tiers hold.
    fn reckon(&mut self, epoch: &Epoch, phase: &str, violations: &mut Vec<Violation>) {
        let (complete_since, emptied) = {
            let mut custody = self.stage.custody.lock().unwrap();
            (custody.complete_since, std::mem::take(&mut custody.emptied))
        };
        for key in 0..self.keys {
            let (on_redis, on_kask) = (self.stage.redis_holds(key), self.kask_holds(key));
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
                0 => emptied || self.lacking.contains(&key),
                at => complete_since.is_none_or(|since: Nanos| at < since),
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

    fn kask_holds(&self, key: usize) -> Option<Vec<u8>> {
        let until = Instant::now() + QUIET_WITHIN;
        loop {
            match self.stage.kask_holds(key) {
                Some(held) => return held,
                None => assert!(Instant::now() < until, "Kask does not answer"),
            }
        }
    }

    /// Twice in a row nothing was under way anywhere; else why not.
    fn wait_quiet(&self) -> Option<String> {
        let until = Instant::now() + self.quiet_within;
        let mut in_a_row = 0;
        loop {
            match self.stage.unrest() {
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
}

/// Says that something is over, also when its thread panics: else those who wait for that would wait for ever, and nobody would be told.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
