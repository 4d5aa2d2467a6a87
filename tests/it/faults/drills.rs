//! Drills: situations that the storm meets too seldom, brought about on purpose and judged by the same checker.

use super::{
    bench::{Bench, Work, join},
    clients::Client,
    history::{Action, Attempt, Op, Told, Value},
    proxy::Mode,
    report::Report,
    stage::{STOP_MAX, Tier},
    values,
};
use crate::whole::{intents, wait_until};
use serde_json::json;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// One situation.
pub struct Drill {
    pub name: &'static str,
    /// Whether it came about: a busy machine may have been too slow for it.
    act: fn(&mut Scene<'_>) -> bool,
}

/// As often a drill is tried until its situation has come about.
const TRIES: usize = 10;
/// So many requests of one scene may find a tier too slow.
const UNDONE_MAX: usize = 10;
const KEY: usize = 0;

pub const DRILLS: [Drill; 7] = [
    Drill { name: "a write that Redis does not hear of", act: a_write_that_redis_does_not_hear_of },
    Drill { name: "two copies in the other order", act: two_copies_in_the_other_order },
    Drill { name: "a copy that arrives late", act: a_copy_that_arrives_late },
    Drill { name: "a delete that Kask has not heard of", act: a_delete_that_kask_has_not_heard_of },
    Drill { name: "a write that slept through a move", act: a_write_that_slept_through_a_move },
    Drill { name: "a write of a key in transit", act: a_write_of_a_key_in_transit },
    Drill { name: "an error that is no miss", act: an_error_that_is_no_miss },
];

/// Plays it on a stage of its own, and once more where it did not come about; ends with the first that finds something.
pub fn play(drill: &Drill, decant: &Path, quiet_within: Duration) -> Report {
    for _ in 0..TRIES {
        let mut report = Report::default();
        let mut bench = Bench::new(decant, quiet_within);
        let mut came_about = false;
        bench.round(&mut report, |bench| {
            let mut scene = Scene { client: Client::new(&bench.stage, 0), bench, ops: Vec::new(), undone: 0 };
            came_about = (drill.act)(&mut scene);
            Work { ops: scene.ops, ..Work::default() }
        });
        if came_about || !report.violations.is_empty() {
            return report;
        }
    }
    panic!("\"{}\" did not come about in {TRIES} tries", drill.name);
}

struct Scene<'a> {
    bench: &'a Bench,
    client: Client<'a>,
    ops: Vec<Op>,
    /// Requests that were to be done and were not.
    undone: usize,
}

impl Scene<'_> {
    fn ask(&mut self, decant: usize, action: Action) -> Told {
        self.ask_key(decant, KEY, action)
    }

    fn ask_key(&mut self, decant: usize, key: usize, action: Action) -> Told {
        let (op, _) = self.client.ask(decant, key, action);
        self.ops.push(op);
        op.told
    }

    fn next(&self) -> Value {
        self.bench.numbers.next()
    }

    fn set(&mut self, decant: usize) -> Value {
        loop {
            let value = self.next();
            if self.asked(decant, Action::Set(value)) {
                return value;
            }
        }
    }

    fn delete(&mut self, decant: usize) {
        while !self.asked(decant, Action::Delete) {}
    }

    /// Whether it was done: on a busy machine a tier may have taken too long for it. Once in a while is no fault.
    fn asked(&mut self, decant: usize, action: Action) -> bool {
        let done = self.ask(decant, action) == Told::Done;
        self.undone += usize::from(!done);
        assert!(self.undone < UNDONE_MAX, "nothing is done: {:?}", self.ops.last());
        done
    }

    /// On both tiers, with nothing under way.
    fn set_everywhere(&mut self) -> Value {
        let value = self.set(0);
        wait_until("Kask holds it", || self.kask_holds() == Some(value));
        wait_until("it is settled", || self.open() == 0);
        value
    }

    fn read_everywhere(&mut self) {
        for decant in [0, 1, 0, 1] {
            self.ask(decant, Action::Get);
        }
    }

    fn kask_holds(&self) -> Option<Value> {
        values::of_body(&self.bench.stage.kask_holds(KEY)??)
    }

    fn open(&self) -> u64 {
        intents(&self.bench.stage.redis())
    }

    /// Asks for the move and does not wait until it is over.
    fn begin_move(&self, phase: &'static str) {
        let stage = &self.bench.stage;
        let version = stage.view(0).unwrap()["version"].as_u64().unwrap() + 1;
        self.bench.attempts.lock().unwrap().push(Attempt { version, phase, asked: stage.now() });
        // No drill is about what a backfill and verify have shown.
        let force = phase == "redis-standby";
        let asked = json!({ "to": phase, "reason": "a drill", "by": "bench", "force": force }).to_string();
        let answer = stage.admin(0, "PUT", "/v1/stashes/echoseen/phase", &asked);
        assert_eq!(answer.as_ref().map(|(status, _)| *status), Some(200), "the move to {phase}: {answer:?}");
    }

    fn move_to(&self, phase: &'static str) {
        self.begin_move(phase);
        wait_until("the move is over, and known", || {
            let views = [0, 1].map(|decant| self.bench.stage.view(decant).unwrap());
            views[0]["state"] == "settled" && views.iter().all(|view| view["phase"] == phase)
        });
    }

    fn to_kask_first(&self) {
        self.move_to("dual-write");
        self.move_to("kask-first");
    }

    fn before_kask(&self, mode: Mode) {
        self.bench.stage.proxy(0, Tier::Kask).set(mode, 100, 0);
    }
}

fn a_write_that_redis_does_not_hear_of(scene: &mut Scene<'_>) -> bool {
    scene.set(0);
    let to_redis = scene.bench.stage.proxy(0, Tier::Redis);
    to_redis.set(Mode::Refuse, 100, 0);
    let value = scene.next();
    scene.ask(0, Action::Set(value));
    to_redis.pass();
    scene.read_everywhere();
    true
}

/// The first write's copy is slow, and the second write's is not.
fn two_copies_in_the_other_order(scene: &mut Scene<'_>) -> bool {
    const EACH_WAY_MS: u64 = 100;
    let stage = &scene.bench.stage;
    scene.to_kask_first();
    scene.set_everywhere();
    scene.before_kask(Mode::Latency(EACH_WAY_MS));
    let slow = scene.next();
    let came = std::thread::scope(|scope| {
        let first = scope.spawn(move || Client::new(stage, 1).ask(0, KEY, Action::Set(slow)).0);
        wait_until("its copy is on the way", || stage.proxy(0, Tier::Kask).holds());
        let quick = scene.next();
        let second = scope.spawn(move || Client::new(stage, 2).ask(1, KEY, Action::Set(quick)).0);
        wait_until("one has arrived", || scene.kask_holds().is_some_and(|held| held == slow || held == quick));
        let came = scene.kask_holds() == Some(quick);
        scene.ops.extend([join(first), join(second)]);
        came
    });
    scene.before_kask(Mode::Pass);
    scene.read_everywhere();
    came
}

/// The first write's copy hangs until its decant has given up on it, and arrives after the second write's, when whoever takes it for lost
/// has settled for it. That decant is cut off from Redis meanwhile: what it copied itself would arrive beside it, and undo what it did.
fn a_copy_that_arrives_late(scene: &mut Scene<'_>) -> bool {
    // Several looks at the outbox, and so much less than HOLD_MAX that what is held is still delivered.
    const HELD: Duration = Duration::from_millis(550);
    let stage = &scene.bench.stage;
    scene.to_kask_first();
    scene.set_everywhere();
    scene.before_kask(Mode::Stall);
    let late = scene.next();
    std::thread::scope(|scope| {
        let first = scope.spawn(move || Client::new(stage, 1).ask(0, KEY, Action::Set(late)).0);
        wait_until("its copy is on the way", || stage.proxy(0, Tier::Kask).holds());
        let held = Instant::now();
        stage.proxy(0, Tier::Redis).set(Mode::Refuse, 100, 0);
        scene.set(1);
        scene.ops.push(join(first));
        while scene.open() > 0 && held.elapsed() < HELD {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    scene.before_kask(Mode::Pass);
    let until = Instant::now() + Duration::from_secs(2);
    let mut came = false;
    while !came && Instant::now() < until {
        came = scene.kask_holds() == Some(late);
    }
    stage.proxy(0, Tier::Redis).pass();
    scene.read_everywhere();
    came
}

fn a_delete_that_kask_has_not_heard_of(scene: &mut Scene<'_>) -> bool {
    scene.to_kask_first();
    let old = scene.set_everywhere();
    scene.before_kask(Mode::Refuse);
    scene.delete(0);
    // Through the other, which reaches Kask.
    scene.ask(1, Action::Get);
    let came = scene.kask_holds() == Some(old);
    scene.before_kask(Mode::Pass);
    scene.read_everywhere();
    came
}

/// A decant is stopped, sent writes, and goes on when the phase is another.
fn a_write_that_slept_through_a_move(scene: &mut Scene<'_>) -> bool {
    const KEYS: std::ops::Range<usize> = 0..4;
    // Its next look at the fence comes back later than what it has to write.
    const EACH_WAY_MS: u64 = 40;
    let stage = &scene.bench.stage;
    let sleepers: Vec<(Client<'_>, usize, Value)> = KEYS
        .map(|key| {
            let mut client = Client::new(stage, key + 1);
            // Its connection is there, and idle.
            scene.ops.push(client.ask(1, key, Action::Get).0);
            (client, key, scene.next())
        })
        .collect();
    let stopped = Instant::now();
    stage.signal(1, "STOP");
    std::thread::scope(|scope| {
        let sleeping: Vec<_> = (sleepers.into_iter())
            .map(|(mut client, key, value)| scope.spawn(move || client.ask(1, key, Action::Set(value)).0))
            .collect();
        scene.begin_move("dual-write");
        wait_until("the move is known", || stage.view(0).unwrap()["phase"] == "dual-write");
        for key in KEYS {
            let value = scene.next();
            scene.ask_key(0, key, Action::Set(value));
        }
        stage.proxy(1, Tier::Redis).set(Mode::Latency(EACH_WAY_MS), 100, 0);
        let in_time = stopped.elapsed() < STOP_MAX;
        stage.cont_decant(1, stopped);
        scene.ops.extend(sleeping.into_iter().map(join));
        stage.proxy(1, Tier::Redis).pass();
        scene.read_everywhere();
        in_time
    })
}

/// A delete that Kask has not heard of, and then Kask is the one to decide. The mirror of what is written then is cut off.
fn a_write_of_a_key_in_transit(scene: &mut Scene<'_>) -> bool {
    const EACH_WAY_MS: u64 = 60;
    let stage = &scene.bench.stage;
    scene.to_kask_first();
    scene.set_everywhere();
    scene.before_kask(Mode::Refuse);
    scene.delete(0);
    scene.before_kask(Mode::Latency(EACH_WAY_MS));
    scene.begin_move("redis-standby");
    wait_until("the move is known", || stage.view(0).unwrap()["phase"] == "redis-standby");
    let came = scene.open() == 1;
    let value = scene.next();
    let to_redis = stage.proxy(0, Tier::Redis);
    std::thread::scope(|scope| {
        let write = scope.spawn(move || Client::new(stage, 1).ask(0, KEY, Action::Set(value)).0);
        while !write.is_finished() {
            // It has been told that it may write Kask, and is about to.
            if scene.open() > 1 && stage.proxy(0, Tier::Kask).holds() {
                to_redis.set(Mode::BlackHole, 100, 0);
            }
        }
        scene.ops.push(join(write));
    });
    // What it sends to Redis now is lost.
    std::thread::sleep(Duration::from_millis(100));
    to_redis.pass();
    scene.before_kask(Mode::Pass);
    scene.read_everywhere();
    came
}

/// Redis has evicted a value, and Kask, which has it, is in trouble.
fn an_error_that_is_no_miss(scene: &mut Scene<'_>) -> bool {
    scene.to_kask_first();
    scene.set_everywhere();
    let gone: u64 = redis::cmd("DEL").arg(values::name(KEY)).query(&mut scene.bench.stage.redis().client()).unwrap();
    scene.before_kask(Mode::Refuse);
    scene.ask(0, Action::Get);
    scene.before_kask(Mode::Pass);
    scene.read_everywhere();
    scene.set_everywhere();
    gone == 1
}

#[test]
fn drills_lose_nothing() {
    std::thread::scope(|scope| {
        for drill in &DRILLS {
            scope.spawn(|| {
                let report = play(drill, Path::new(super::DECANT), super::QUIET_WITHIN);
                let found: Vec<String> = report.violations.into_iter().map(|found| found.text).collect();
                assert!(found.is_empty(), "{}: {}", drill.name, found.join("\n\n"));
            });
        }
    });
}
