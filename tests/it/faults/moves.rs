//! The operator: moves from phase to phase all the time, as an operator may. What a guard wants done is done before: Kask is emptied before
//! it is written again, and everything is copied to it before Redis is not read any more.

use super::{
    bench::{Work, join},
    clients::Client,
    history::{Action, Attempt, Op, Told},
    report::Report,
    stage::{DECANTS, Stage},
    storm::Fault,
    values::KEYS,
};
use serde_json::{Value as Json, json};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

const ORDER: [&str; 5] = ["redis-only", "dual-write", "kask-first", "redis-standby", "kask-only"];
/// Its name in the history.
pub const OPERATOR: usize = 900;
const PHASE: &str = "/v1/stashes/echoseen/phase";
const AGAIN: Duration = Duration::from_millis(40);
/// Before one in so many moves to `redis-standby` a backfill and a run of verify show that all is there. Before the others it is only made so,
/// for a storm seldom leaves the time: then those guards, and no others, are overridden.
const PROVEN_ONE_IN: u8 = 3;
/// A backfill and a run of verify take so long at most, or there is no move for now.
const PROOFS_TIMEOUT: Duration = Duration::from_secs(10);
/// In one of so many moves the decant that moves is killed.
const KILL_ONE_IN: u8 = 6;
/// And so soon: a move that meets nothing is asked for, recorded and fenced within milliseconds.
const KILL_WITHIN: Duration = Duration::from_millis(12);

pub struct Operator {
    random: fastrand::Rng,
    forward: bool,
    /// The decant that moves is killed in the middle of some moves.
    kills: bool,
    /// `kask-only` has no way back that loses nothing: only near the end of a stage.
    pub may_retire_redis: bool,
    /// Since when the version that was last seen has been settled.
    settled: Option<(u64, Instant)>,
    moves: u64,
    /// By what refused them.
    refused: BTreeMap<String, u64>,
}

impl Operator {
    pub fn new(seed: u64, kills: bool) -> Operator {
        Operator {
            random: fastrand::Rng::with_seed(seed),
            forward: true,
            kills,
            may_retire_redis: false,
            settled: None,
            moves: 0,
            refused: BTreeMap::new(),
        }
    }

    pub fn add_to(&self, report: &mut Report) {
        report.moves += self.moves;
        for (kind, count) in &self.refused {
            *report.moves_refused.entry(kind.clone()).or_default() += count;
        }
    }

    /// Until told to stop; the reads that were needed, and the decants killed.
    pub fn work(&mut self, stage: &Stage, attempts: &Mutex<Vec<Attempt>>, stop: &AtomicBool) -> Work {
        let mut done = Work::default();
        while !stop.load(Ordering::Relaxed) {
            if let Some(view) = stage.view(0).filter(|view| view["state"] == "settled") {
                self.step(stage, &view, attempts, stop, &mut done);
            }
            std::thread::sleep(AGAIN);
        }
        done
    }

    fn step(&mut self, stage: &Stage, view: &Json, attempts: &Mutex<Vec<Attempt>>, stop: &AtomicBool, done: &mut Work) {
        let (Some(phase), Some(version)) = (view["phase"].as_str(), view["version"].as_u64()) else { return };
        let Some(at) = ORDER.iter().position(|name| *name == phase) else { return };
        self.note_settled(stage, phase, version);
        let last = if self.may_retire_redis { 4 } else { 3 };
        if at == 4 {
            return;
        }
        self.forward = match at {
            0 => true,
            _ if at >= last => false,
            _ => self.forward != (self.random.u8(..5) == 0),
        };
        let to = ORDER[if self.forward { at + 1 } else { at - 1 }];
        let mut asked = json!({ "from": phase, "to": to, "reason": "the bench moves", "by": "bench" });
        let stale = !view["kask_stale_since"].is_null();
        let ready = match (phase, to) {
            ("redis-only", "dual-write") if stale => {
                asked["kask_emptied"] = true.into();
                self.lease_is_over(stage) && stage.empty_kask()
            }
            ("kask-first", "redis-standby") => {
                stage.custody.lock().unwrap().kept = true;
                match self.random.u8(..PROVEN_ONE_IN) {
                    0 => copy_and_compare(stage, 0, stop),
                    _ => {
                        let copied = copy_everything(stage, stop, &mut done.ops);
                        asked["force"] = (copied && lacks_proofs_alone(stage, &asked)).into();
                        copied
                    }
                }
            }
            _ => true,
        };
        // Some work is done in each phase.
        std::thread::sleep(Duration::from_millis(self.random.u64(..400)));
        if !ready || stop.load(Ordering::Relaxed) {
            return;
        }
        if to == "redis-only" {
            stage.custody.lock().unwrap().complete_since = None;
        }
        attempts.lock().unwrap().push(Attempt { version: version + 1, phase: to, asked: stage.now() });
        let kill_after = (self.kills && self.random.u8(..KILL_ONE_IN) == 0)
            .then(|| Duration::from_micros(self.random.u64(..KILL_WITHIN.as_micros() as u64)));
        match ask(stage, &asked, kill_after, &mut done.faults) {
            Some((200, _)) => self.moves += 1,
            Some((_, why)) => {
                *self.refused.entry(reason(&why)).or_default() += 1;
            }
            // It died meanwhile, and the record says what came of it.
            None => {}
        }
    }

    /// Nothing is under way between phases: from here on this phase counts alone.
    fn note_settled(&mut self, stage: &Stage, phase: &str, version: u64) {
        let mut custody = stage.custody.lock().unwrap();
        custody.kept = matches!(phase, "redis-standby" | "kask-only");
        if self.settled.is_none_or(|(seen, _)| seen != version) {
            self.settled = Some((version, Instant::now()));
            if phase == "dual-write" {
                custody.complete_since.get_or_insert(stage.now());
            }
        }
    }

    /// What was under way to Kask when writes began to go past it has arrived or never will.
    fn lease_is_over(&self, stage: &Stage) -> bool {
        self.settled.is_some_and(|(_, since)| since.elapsed() > stage.lease())
    }
}

/// Asks for the move; on the way the decant that moves may be killed: before its record, between record and fence, or after.
fn ask(stage: &Stage, asked: &Json, kill_after: Option<Duration>, faults: &mut Vec<Fault>) -> Option<(u16, Json)> {
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| stage.admin(0, "PUT", PHASE, &asked.to_string()));
        if let Some(after) = kill_after {
            std::thread::sleep(after);
            let from = stage.now();
            stage.kill_decant(0, Duration::ZERO);
            let whom = format!("decant 0, {after:?} into the move to {}", asked["to"]);
            faults.push(Fault { from, to: stage.now(), kind: "kill the mover".to_owned(), whom });
        }
        join(answer)
    })
}

/// Whether the move wants nothing but what a backfill and a run of verify give.
fn lacks_proofs_alone(stage: &Stage, asked: &Json) -> bool {
    let mut tried = asked.clone();
    tried["dry_run"] = true.into();
    let told = stage.admin(0, "PUT", PHASE, &tried.to_string()).map_or(Json::Null, |(_, told)| told);
    let names = failing(&told);
    !names.is_empty() && names.iter().all(|name| ["backfill_finished", "verified", "still_in_kask"].contains(name))
}

fn failing(told: &Json) -> Vec<&str> {
    let guards = told["guards"].as_array().into_iter().flatten().filter(|guard| guard["ok"] == false);
    guards.filter_map(|guard| guard["name"].as_str()).collect()
}

/// The guards that failed, or else the type of the problem.
fn reason(problem: &Json) -> String {
    let names = failing(problem);
    match names[..] {
        [] => problem["type"].as_str().unwrap_or_default().replace("urn:decant:problem:", ""),
        _ => names.join(" and "),
    }
}

/// A backfill and a run of verify by one decant, each to its end; false where that took too long. What they show is for the guards to judge.
pub fn copy_and_compare(stage: &Stage, decant: usize, stop: &AtomicBool) -> bool {
    let until = Instant::now() + PROOFS_TIMEOUT;
    let in_time = || Instant::now() < until && !stop.load(Ordering::Relaxed);
    ["backfill", "verify"].into_iter().all(|what| {
        let path = format!("/v1/stashes/echoseen/{what}");
        // What was left under way when time ran out began too early.
        stage.admin(decant, "DELETE", &path, "{}");
        let ask_until = |method: &str, fits: fn(u16, &Json) -> bool| {
            while in_time() {
                if stage.admin(decant, method, &path, "{}").is_some_and(|(status, told)| fits(status, &told)) {
                    return true;
                }
                std::thread::sleep(AGAIN);
            }
            false
        };
        let ended = |status: u16, told: &Json| {
            status == 200 && (told["state"] == "finished" || told.get("running").is_some_and(Json::is_null))
        };
        ask_until("POST", |status, _| matches!(status, 201 | 202)) && ask_until("GET", ended)
    })
}

/// Reads every key until Kask answers each, or nobody has it: as good as a backfill, and quicker.
fn copy_everything(stage: &Stage, stop: &AtomicBool, ops: &mut Vec<Op>) -> bool {
    let mut client = Client::new(stage, OPERATOR);
    let until = Instant::now() + Duration::from_secs(6);
    let mut left: Vec<usize> = (0..KEYS).collect();
    while !left.is_empty() && Instant::now() < until && !stop.load(Ordering::Relaxed) {
        left.retain(|key| {
            let (op, tier) = client.ask(key % DECANTS, *key, Action::Get);
            ops.push(op);
            let copied = op.told == Told::Missing || matches!(op.told, Told::Hit(_)) && tier.as_deref() == Some("kask");
            !copied
        });
        std::thread::sleep(AGAIN);
    }
    left.is_empty()
}
