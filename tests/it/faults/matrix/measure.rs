//! One row of the table, measured on a stage of its own.

use super::fault::Fault;
use crate::{
    faults::{
        bench::join,
        clients::Client,
        history::{Action, Op, Told, Value},
        proxy::Mode,
        stage::{Make, Stage, Tier},
        values,
    },
    whole::intents,
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

const KASK_TIMEOUT: Duration = Duration::from_millis(1_000);
const REDIS_TIMEOUT: Duration = Duration::from_millis(600);
/// Longer than any request may take, as by default, and not much more: it is waited for.
const LEASE: Duration = Duration::from_millis(4_000);
/// An answer that took so long waited for a time-out.
const LATE: Duration = Duration::from_millis(500);
/// A copy that meets nothing.
const COPIED_WITHIN: Duration = Duration::from_millis(150);
/// Longer than anything takes that meets nothing. With a time-out before it, it is less than a lease.
const UNDER_WAY: Duration = Duration::from_millis(900);
/// What is read is copied at once.
const REFILLED_WITHIN: Duration = Duration::from_secs(10);
/// Far longer than any healing takes.
const WELL_WITHIN: Duration = Duration::from_secs(30);

const BOTH: usize = 0;
const ONLY_REDIS: usize = 1;
const NOBODY: usize = 2;
const SET: usize = 3;
const DELETE: usize = 4;
/// On both tiers, and left alone.
const OLD: usize = 5;
const OTHERS: std::ops::Range<usize> = 6..22;

/// What may come of nothing, not once.
const LOST: &str = "**acknowledged writes are lost**";
const DIFFER: &str = "**the tiers differ**";

/// What clients are answered, and what comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// A get of a key on both tiers, of one only on Redis, of nobody's, a set, a delete.
    pub answers: [String; 5],
    pub afterwards: String,
}

impl Row {
    pub fn breaks_a_promise(&self) -> bool {
        [LOST, DIFFER].iter().any(|broken| self.afterwards.contains(broken))
    }
}

pub fn measure(phase: &'static str, fault: Fault) -> Row {
    let decant = Path::new(crate::faults::DECANT);
    let make =
        Make { decant, phase, lease: LEASE, kask_timeout: KASK_TIMEOUT, redis_timeout: REDIS_TIMEOUT, fleet: false };
    let stage = Stage::new(make);
    let mut trial = Trial { stage: &stage, phase, alive: vec![0, 1], last: 0, sets: Vec::new(), deleted: false };
    trial.seed();
    trial.wait_well();
    if fault == Fault::DecantKilled { trial.killed() } else { trial.met_with(fault) }
}

struct Trial<'a> {
    stage: &'a Stage,
    phase: &'static str,
    /// The decants that run.
    alive: Vec<usize>,
    last: Value,
    /// What was set, and whether that was acknowledged.
    sets: Vec<(Value, bool)>,
    /// Whether a delete was acknowledged.
    deleted: bool,
}

impl Trial<'_> {
    fn kask_decides(&self) -> bool {
        matches!(self.phase, "redis-standby" | "kask-only")
    }

    /// Both tiers are written.
    fn copies(&self) -> bool {
        !matches!(self.phase, "redis-only" | "kask-only")
    }

    /// As if it had been written long ago.
    fn seed(&mut self) {
        for key in [BOTH, ONLY_REDIS, SET, DELETE, OLD] {
            self.last += 1;
            if key == SET {
                self.sets.push((self.last, true));
            }
            self.stage.put_in_redis(key, self.last);
            if key != ONLY_REDIS && self.phase != "redis-only" {
                self.stage.put_in_kask(key, self.last);
            }
        }
    }

    fn met_with(mut self, fault: Fault) -> Row {
        let asked = fault.asked();
        let lasting = fault.begin(self.stage);
        // Who was wiped is back, and known to be.
        if matches!(fault, Fault::Wiped(_)) {
            self.wait_well();
        }
        let actions = self.actions();
        let first = ask_all(self.stage, asked, actions);
        self.note(&first);
        // The others may heal it while the fault lasts.
        let healing = self.needs_healing();
        if first.iter().any(is_late) {
            self.others(asked);
        }
        let then = self.ask_again(asked);
        let healing = healing || self.needs_healing();
        drop(lasting);
        self.row(std::array::from_fn(|i| cell(&first[i], &then[i])), healing, asked)
    }

    /// The decant that moves ends with requests under way; afterwards clients ask the other.
    fn killed(mut self) -> Row {
        let actions = self.actions();
        let stage = self.stage;
        let first: [Answer; 5] = std::thread::scope(|scope| {
            let ask = |i: usize| scope.spawn(move || Client::new(stage, i).ask(0, actions[i].0, actions[i].1));
            // Half done, where a write has two halves.
            stage.proxy(0, Tier::Kask).set(Mode::BlackHole, 100, 0);
            let writes = if self.copies() {
                [3, 4].map(ask)
            } else {
                stage.signal(0, "STOP");
                [3, 4].map(ask)
            };
            let until = Instant::now() + KASK_TIMEOUT / 2;
            while self.copies() && intents(&stage.redis()) < 2 && Instant::now() < until {}
            stage.signal(0, "STOP");
            let reads = [0, 1, 2].map(ask);
            std::thread::sleep(Duration::from_millis(50));
            stage.end_decant(0);
            let mut ended = reads.into_iter().chain(writes).map(join);
            std::array::from_fn(|_| ended.next().unwrap())
        });
        self.alive = vec![1];
        self.note(&first);
        let healing = self.needs_healing();
        stage.proxy(0, Tier::Kask).pass();
        let then = self.ask_again(1);
        self.row(std::array::from_fn(|i| cell(&first[i], &then[i])), healing, 1)
    }

    fn actions(&mut self) -> [(usize, Action); 5] {
        self.last += 1;
        let gets = [BOTH, ONLY_REDIS, NOBODY].map(|key| (key, Action::Get));
        [gets[0], gets[1], gets[2], (SET, Action::Set(self.last)), (DELETE, Action::Delete)]
    }

    fn note(&mut self, answers: &[Answer]) {
        for (op, _) in answers {
            match op.action {
                Action::Set(value) => self.sets.push((value, op.told == Told::Done)),
                Action::Delete => self.deleted |= op.told == Told::Done,
                _ => {}
            }
        }
    }

    /// Clients of other keys, by which a breaker finds out.
    fn others(&self, asked: usize) {
        for _ in 0..2 {
            std::thread::scope(|scope| {
                for key in OTHERS {
                    let action = if key % 2 == 0 { Action::Get } else { Action::Set(key as Value) };
                    scope.spawn(move || Client::new(self.stage, key).ask(asked, key, action));
                }
            });
        }
    }

    /// One after the other; each late only if it always is: some of them may be a breaker's probe.
    fn ask_again(&mut self, asked: usize) -> [Said; 5] {
        const TIMES: usize = 3;
        std::array::from_fn(|i| {
            let answers: [Answer; TIMES] = std::array::from_fn(|_| {
                let (key, action) = self.actions()[i];
                let answer = Client::new(self.stage, i).ask(asked, key, action);
                // What was read is copied meanwhile.
                std::thread::sleep(if action == Action::Get { COPIED_WITHIN } else { Duration::ZERO });
                answer
            });
            self.note(&answers);
            Said { what: told(&answers[TIMES - 1]), late: answers.iter().all(is_late) }
        })
    }

    fn redis_holds(&self, key: usize) -> Option<Value> {
        values::of_redis(&self.stage.redis_holds(key)?)
    }

    fn kask_holds(&self, key: usize) -> Option<Value> {
        let until = Instant::now() + WELL_WITHIN;
        loop {
            match self.stage.kask_holds(key) {
                Some(held) => return held.and_then(|body| values::of_body(&body)),
                None => assert!(Instant::now() < until, "Kask does not answer"),
            }
        }
    }

    /// Something is to be healed: it is not only still under way.
    fn needs_healing(&self) -> bool {
        let until = Instant::now() + UNDER_WAY;
        while Instant::now() < until {
            if !self.differs() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }

    fn differs(&self) -> bool {
        let alone = self.alive.iter().any(|decant| {
            self.stage.view(*decant).is_some_and(|view| view["alone"]["keys"].as_u64().is_some_and(|keys| keys > 0))
        });
        alone || intents(&self.stage.redis()) > 0 || !self.tiers_agree()
    }

    fn tiers_agree(&self) -> bool {
        !self.copies() || [SET, DELETE].iter().all(|key| self.redis_holds(*key) == self.kask_holds(*key))
    }

    fn writes_are_kept(&self) -> bool {
        let held = |key| if self.kask_decides() { self.kask_holds(key) } else { self.redis_holds(key) };
        let newest = self.sets.iter().rev().find(|(_, acked)| *acked).map(|(value, _)| *value);
        let may_be = |value| newest == Some(value) || self.sets.contains(&(value, false));
        held(SET).is_some_and(may_be) && !(self.deleted && held(DELETE).is_some())
    }

    /// Why not all is well.
    fn unwell(&self) -> Option<String> {
        for decant in &self.alive {
            let Some(view) = self.stage.view(*decant) else { return Some(format!("decant {decant} tells nothing")) };
            if view["in_flight"] != 0 || view["state"] != "settled" {
                return Some("something is under way".into());
            }
            if !view["alone"]["since"].is_null() || !view["mirror_unclean_since"].is_null() {
                return Some("the mirror is unclean".into());
            }
        }
        match intents(&self.stage.redis()) {
            0 => None,
            _ => Some("copies wait to be made".into()),
        }
    }

    /// Why it does not become well.
    fn wait_well(&self) -> Option<String> {
        let until = Instant::now() + WELL_WITHIN;
        let mut in_a_row = 0;
        while in_a_row < 2 {
            match self.unwell() {
                None => in_a_row += 1,
                Some(why) if Instant::now() > until => return Some(why),
                Some(_) => in_a_row = 0,
            }
            std::thread::sleep(Duration::from_millis(150));
        }
        None
    }

    /// Why sets and gets are not answered again.
    fn wait_served(&self, asked: usize) -> Option<String> {
        let mut client = Client::new(self.stage, 0);
        let until = Instant::now() + WELL_WITHIN;
        loop {
            let key = OTHERS.start;
            let asked = [Action::Set(1), Action::Get].map(|action| client.ask(asked, key, action).0.told);
            match asked {
                [Told::Done, Told::Hit(1)] => return None,
                _ if Instant::now() > until => return Some(format!("a set and a get are answered {asked:?}")),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn row(&self, answers: [String; 5], healing: bool, asked: usize) -> Row {
        let mut told = Vec::new();
        match self.wait_served(asked).or_else(|| self.wait_well()) {
            Some(why) => told.push(format!("**an operator is needed**: {why}")),
            None if !self.writes_are_kept() => told.push(LOST.into()),
            None if !self.tiers_agree() => told.push(DIFFER.into()),
            None if healing && self.phase == "redis-standby" => told.push("Redis is brought up to date".into()),
            None if healing => told.push("Kask is brought up to date".into()),
            None => {}
        }
        told.extend(self.what_became_of_the_old(asked));
        if self.phase == "kask-first" && self.redis_holds(ONLY_REDIS).or(self.kask_holds(ONLY_REDIS)).is_none() {
            told.push("**what only Redis had is lost**".into());
        }
        if self.stage.tells_of_a_loss(asked) {
            told.push("the loss is told until an operator accepts it".into());
        }
        if told.is_empty() {
            told.push("nothing to heal".into());
        }
        Row { answers, afterwards: told.join("; ") }
    }

    /// Of values that were there before, and were not written since.
    fn what_became_of_the_old(&self, asked: usize) -> Option<String> {
        let (redis, kask) = (self.redis_holds(OLD).is_some(), self.kask_holds(OLD).is_some());
        let (needs_redis, needs_kask) = (self.phase != "kask-only", self.phase != "redis-only");
        let lacking = match (redis || !needs_redis, kask || !needs_kask) {
            (true, true) => return None,
            (false, _) => "Redis",
            (true, false) => "Kask",
        };
        let (op, _) = Client::new(self.stage, 0).ask(asked, OLD, Action::Get);
        let until = Instant::now() + REFILLED_WITHIN;
        while self.phase == "kask-first" && redis && self.kask_holds(OLD).is_none() && Instant::now() < until {}
        Some(match op.told {
            Told::Hit(_) if lacking == "Kask" && self.kask_holds(OLD).is_some() => {
                "Kask is filled again as keys are read".into()
            }
            Told::Hit(_) => format!("{lacking} lacks older values until they are written again"),
            _ if redis && needs_redis || kask && needs_kask => {
                let other = if redis { "Redis" } else { "Kask" };
                format!("**older values are lost to clients**, though {other} has them")
            }
            _ => "**older values are lost**".into(),
        })
    }
}

type Answer = (Op, Option<String>);

const NO_ANSWER: &str = "no answer";

/// All at once: each meets the fault as the first.
fn ask_all(stage: &Stage, asked: usize, actions: [(usize, Action); 5]) -> [Answer; 5] {
    std::thread::scope(|scope| {
        let ask = |i: usize| scope.spawn(move || Client::new(stage, i).ask(asked, actions[i].0, actions[i].1));
        [0, 1, 2, 3, 4].map(ask).map(join)
    })
}

fn is_late((op, _): &Answer) -> bool {
    op.ended - op.began >= LATE.as_nanos() as u64
}

fn told((op, tier): &Answer) -> String {
    match (op.told, op.action) {
        (Told::Hit(_), _) => match tier.as_deref() {
            Some("kask") => "200 Kask".into(),
            Some("redis") => "200 Redis".into(),
            other => format!("200 {other:?}"),
        },
        (Told::Missing, _) => "404".into(),
        (Told::Done, Action::Delete) => "204".into(),
        (Told::Done, _) => "201".into(),
        (Told::Unknown(0), _) => NO_ANSWER.into(),
        (Told::Unknown(status), _) => status.to_string(),
        (Told::Exists | Told::Corrupt, _) => format!("**{:?}**", op.told),
    }
}

/// An answer as the table has it.
struct Said {
    what: String,
    late: bool,
}

/// What the first client is answered, and what later ones are, where that differs.
fn cell(first: &Answer, later: &Said) -> String {
    let (said, says) = (told(first), &later.what);
    let late = |said: &str, late| if late { format!("{said} late") } else { said.to_owned() };
    match (said == *says, is_late(first), later.late) {
        (true, false, _) => said,
        (true, true, true) => format!("{said}, late"),
        (true, true, false) => format!("{said}, at first late"),
        // How long nobody answered is how long decant lived, and says nothing of it.
        (false, first, later) => format!("{}, then {}", late(&said, first && said != NO_ANSWER), late(says, later)),
    }
}

#[test]
fn what_is_late_is_said_of_whoever_waited() {
    let answer = |late: bool, told| {
        let ended = if late { LATE.as_nanos() as u64 } else { 0 };
        (Op { client: 0, decant: 0, key: 0, action: Action::Set(1), began: 0, ended, told }, None)
    };
    let says = |first: Answer, later: Answer| cell(&first, &Said { what: told(&later), late: is_late(&later) });
    let (done, refused) = (|late| answer(late, Told::Done), |late| answer(late, Told::Unknown(503)));
    assert_eq!(says(done(false), done(false)), "201");
    assert_eq!(says(done(true), done(false)), "201, at first late");
    assert_eq!(says(done(true), done(true)), "201, late");
    assert_eq!(says(refused(false), done(false)), "503, then 201");
    assert_eq!(says(refused(true), done(false)), "503 late, then 201");
    assert_eq!(says(done(false), refused(true)), "201, then 503 late");
    assert_eq!(says(answer(true, Told::Unknown(0)), done(false)), "no answer, then 201");
}
