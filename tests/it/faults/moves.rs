//! The operator: moves from phase to phase all the time, as an operator may. No guard is overridden, and what a guard can only sample is
//! made true before: Kask is emptied before it is written again, and everything is copied to it before Redis is not read any more.

use super::{
    clients::Client,
    history::{Action, Attempt, Nanos, Op, Told},
    stage::{DECANTS, Stage},
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
const AGAIN: Duration = Duration::from_millis(40);

pub struct Operator {
    random: fastrand::Rng,
    forward: bool,
    /// `kask-only` has no way back that loses nothing: only near the end of a stage.
    pub may_retire_redis: bool,
    /// Since when every write goes to Kask as well; none: not all do.
    pub kask_complete_since: Option<Nanos>,
    /// Since when the version that was last seen has been settled.
    settled: Option<(u64, Instant)>,
    pub moves: u64,
    /// By what refused them.
    pub refused: BTreeMap<String, u64>,
}

impl Operator {
    pub fn new(seed: u64) -> Operator {
        Operator {
            random: fastrand::Rng::with_seed(seed),
            forward: true,
            may_retire_redis: false,
            kask_complete_since: None,
            settled: None,
            moves: 0,
            refused: BTreeMap::new(),
        }
    }

    /// Until told to stop; the reads that were needed.
    pub fn work(&mut self, stage: &Stage, attempts: &Mutex<Vec<Attempt>>, stop: &AtomicBool) -> Vec<Op> {
        let mut ops = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            if let Some(view) = stage.view(0).filter(|view| view["state"] == "settled") {
                self.step(stage, &view, attempts, stop, &mut ops);
            }
            std::thread::sleep(AGAIN);
        }
        ops
    }

    fn step(
        &mut self,
        stage: &Stage,
        view: &Json,
        attempts: &Mutex<Vec<Attempt>>,
        stop: &AtomicBool,
        ops: &mut Vec<Op>,
    ) {
        let (Some(phase), Some(version)) = (view["phase"].as_str(), view["version"].as_u64()) else { return };
        let Some(at) = ORDER.iter().position(|name| *name == phase) else { return };
        if self.settled.is_none_or(|(seen, _)| seen != version) {
            self.settled = Some((version, Instant::now()));
            if phase == "dual-write" {
                self.kask_complete_since.get_or_insert(stage.now());
            }
        }
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
            ("kask-first", "redis-standby") => copy_everything(stage, stop, ops),
            _ => true,
        };
        // Some work is done in each phase.
        std::thread::sleep(Duration::from_millis(self.random.u64(..400)));
        if !ready || stop.load(Ordering::Relaxed) {
            return;
        }
        if to == "redis-only" {
            self.kask_complete_since = None;
        }
        attempts.lock().unwrap().push(Attempt { version: version + 1, phase: to, asked: stage.now() });
        match stage.admin(0, "PUT", "/v1/stashes/echoseen/phase", &asked.to_string()) {
            Some((200, _)) => self.moves += 1,
            Some((_, why)) => {
                *self.refused.entry(reason(&why)).or_default() += 1;
            }
            // It died meanwhile, and the record says what came of it.
            None => {}
        }
    }

    /// What was under way to Kask when writes began to go past it has arrived or never will.
    fn lease_is_over(&self, stage: &Stage) -> bool {
        self.settled.is_some_and(|(_, since)| since.elapsed() > stage.lease())
    }
}

/// The guards that failed, or else the type of the problem.
fn reason(problem: &Json) -> String {
    let guards = problem["guards"].as_array().into_iter().flatten().filter(|guard| guard["ok"] == false);
    let names: Vec<&str> = guards.filter_map(|guard| guard["name"].as_str()).collect();
    match names[..] {
        [] => problem["type"].as_str().unwrap_or_default().replace("urn:decant:problem:", ""),
        _ => names.join(" and "),
    }
}

/// Reads every key until Kask answers each, or nobody has it: what a backfill does.
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
