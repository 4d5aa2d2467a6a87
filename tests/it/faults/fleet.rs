//! Three decants on one etcd, under load: through all phases and back, with one killed in the middle of its move, one cut off from etcd,
//! from etcd and Redis at once, and just after it has promised; and etcd restarted.

use super::{
    bench::{Bench, Over, Work, join},
    clients::{Orders, work},
    history::{Attempt, Op},
    moves::copy_and_compare,
    proxy::Mode,
    report::Report,
    stage::{FLEET, Make, Stage, Tier},
    storm::Fault,
    values,
};
use crate::whole::wait_until;
use serde_json::{Value as Json, json};
use std::{
    path::Path,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

const CLIENTS: usize = 8;
/// Each phase is worked in for so long, and so is what goes wrong.
const A_WHILE: Duration = Duration::from_millis(700);
/// A promise comes at once; within what a decant may be stopped.
const PROMISED_WITHIN: Duration = Duration::from_millis(500);
/// Of the whole walk.
pub const MOVES: u64 = 12;
pub const BEHIND: &str = "member-behind";
/// Moves that must be refused for one.
pub const REFUSED: u64 = 2;

/// The walk, in rounds. Where a decant is cut off from Redis the load ends before it is back, so that what it did is not written over.
/// The way back from `kask-only` loses what was written there, so clients only read there, until it is for good.
pub fn play(decant: &Path, quiet_within: Duration) -> Report {
    let seed = fastrand::u64(..);
    println!("the clients' seed is {seed}");
    let mut seeds = fastrand::Rng::with_seed(seed);
    let mut bench = Bench::of(Make { fleet: true, ..Make::for_storms(decant) }, values::KEYS, quiet_within);
    let mut report = Report { stages: 1, ..Report::default() };
    let mut refused = 0;
    type Part = fn(&mut Walk<'_>);
    let rounds: [(Load, Part, Part); 5] = [
        (
            Load::All,
            |walk| {
                walk.to(0, "dual-write");
                walk.fault("cut off from etcd", 1, Walk::one_cut_off);
                walk.to(1, "kask-first");
                walk.fault("kill the mover", 2, |walk| walk.moves_and_dies(2, "redis-standby"));
                walk.fault("cut off from etcd and Redis", 1, Walk::one_writes_alone);
            },
            |walk| walk.one_is_back(),
        ),
        (
            Load::All,
            |walk| walk.fault("cut off after a promise", 1, Walk::past_one_that_promised),
            |walk| {
                walk.one_is_back();
                walk.to(1, "kask-first");
            },
        ),
        (
            Load::All,
            |walk| {
                walk.fault("restart etcd", 0, |walk| walk.stage().kill_etcd(A_WHILE));
                walk.all_follow();
                walk.to(0, "dual-write");
                walk.to(2, "kask-first");
                walk.to(1, "redis-standby");
            },
            |_| {},
        ),
        (
            Load::Reads,
            |walk| {
                walk.to(2, "kask-only");
                walk.force(0, "redis-standby");
                walk.force(1, "kask-first");
            },
            |_| {},
        ),
        (
            Load::All,
            |walk| {
                walk.to(2, "redis-standby");
                walk.to(0, "kask-only");
            },
            |_| {},
        ),
    ];
    for (load, busy, idle) in rounds {
        bench.round(&mut report, |bench| {
            let mut walk = Walk { bench, ops: Vec::new(), faults: Vec::new(), refused: 0 };
            walk.under_load(seeds.u64(..), load, busy);
            idle(&mut walk);
            refused += walk.refused;
            Work { ops: walk.ops, faults: walk.faults, ..Work::default() }
        });
        if !report.violations.is_empty() {
            break;
        }
    }
    let version = bench.stage.view(0).and_then(|view| view["version"].as_u64());
    report.moves = version.unwrap_or_default().saturating_sub(1);
    report.moves_refused.insert(BEHIND.to_owned(), refused);
    report
}

/// What clients do meanwhile.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    All,
    Reads,
}

struct Walk<'a> {
    bench: &'a Bench,
    ops: Vec<Op>,
    faults: Vec<Fault>,
    /// Because a decant was behind, with its name.
    refused: u64,
}

impl Walk<'_> {
    fn stage(&self) -> &Stage {
        &self.bench.stage
    }

    fn under_load(&mut self, seed: u64, load: Load, walk: impl FnOnce(&mut Self)) {
        let (mut seeds, bench) = (fastrand::Rng::with_seed(seed), self.bench);
        let orders = Orders { reads: AtomicBool::new(load == Load::Reads), ..Orders::default() };
        std::thread::scope(|scope| {
            let ended = Over(&orders.stop);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|name| {
                    let (seed, orders) = (seeds.u64(..), &orders);
                    scope.spawn(move || work(&bench.stage, name, seed, &bench.numbers, orders))
                })
                .collect();
            walk(self);
            drop(ended);
            self.ops.extend(clients.into_iter().flat_map(join));
        });
    }

    fn fault(&mut self, kind: &str, decant: usize, act: impl FnOnce(&mut Self)) {
        let from = self.stage().now();
        act(self);
        let whom = format!("decant {decant}");
        self.faults.push(Fault { from, to: self.stage().now(), kind: kind.to_owned(), whom });
    }

    fn all_follow(&self) {
        wait_until("every decant follows", || {
            let well = |view: Json| view["trouble"].is_null() && follow(&view) == FLEET;
            (0..FLEET).all(|decant| fleet(self.stage(), decant).is_some_and(well))
        });
    }

    fn one_is_back(&mut self) {
        let stage = self.stage();
        stage.proxy(1, Tier::Redis).pass();
        stage.proxy_to_etcd(1).pass();
        self.all_follow();
    }

    /// Its lease runs out, and no move begins; it serves on.
    fn one_cut_off(&mut self) {
        let stage = &self.bench.stage;
        let name = name(stage, 1);
        stage.proxy_to_etcd(1).set(Mode::Refuse, 100, 0);
        wait_until("it is silent", || {
            [0, 2].iter().all(|decant| fleet(stage, *decant).is_some_and(|view| follow(&view) == FLEET - 1))
        });
        let (status, refused) = self.ask(0, "kask-first").expect("nobody answers");
        assert!(status == 409 && refused["detail"].as_str().unwrap().contains(&name), "{refused}");
        self.refused += 1;
        assert!(!fleet(stage, 1).unwrap()["trouble"].is_null(), "it does not say so");
        std::thread::sleep(A_WHILE);
        self.one_is_back();
    }

    /// Redis and etcd are away for one decant, which writes to Kask alone. No move begins that would not count what it wrote.
    fn one_writes_alone(&mut self) {
        let stage = &self.bench.stage;
        let name = name(stage, 1);
        stage.proxy_to_etcd(1).set(Mode::Refuse, 100, 0);
        stage.proxy(1, Tier::Redis).set(Mode::Refuse, 100, 0);
        // Its lease is not over, and it has said that all is well: only the promise that does not come tells.
        match self.ask(0, "kask-first") {
            Some((409, refused)) => {
                assert!(refused["detail"].as_str().unwrap().contains(&name), "{refused}");
                self.refused += 1;
            }
            // It must not, and is held to what comes of it.
            Some((200, _)) => {}
            other => panic!("the move back to kask-first: {other:?}"),
        }
        wait_until("it has written alone", || stage.view(1).is_some_and(|view| !view["alone"]["since"].is_null()));
        std::thread::sleep(A_WHILE);
    }

    /// A promise holds where its giver is cut off before the move begins: that one writes nothing alone, though it hears of nothing.
    fn past_one_that_promised(&mut self) {
        let stage = &self.bench.stage;
        let promise = format!("/decant/stash/echoseen/promise/{}", name(stage, 1));
        let mirrored = |view: &Json| {
            view["fleet"]["members"].as_array().is_some_and(|all| {
                all.iter().all(|member| member["written_alone"].is_null() && member["shards_away"] == json!([]))
            })
        };
        wait_until("what was written alone is healed", || stage.view(0).is_some_and(|view| mirrored(&view)));
        // While this one says nothing the move is not begun.
        stage.signal(2, "STOP");
        let stopped = Instant::now();
        let begun = std::thread::scope(|scope| {
            let asked = scope.spawn(|| self.ask(0, "kask-first"));
            while stage.etcd().ctl(&["get", &promise]).is_empty() && stopped.elapsed() < PROMISED_WITHIN {}
            stage.proxy_to_etcd(1).set(Mode::Refuse, 100, 0);
            stage.proxy(1, Tier::Redis).set(Mode::Refuse, 100, 0);
            stage.cont_decant(2, stopped);
            join(asked)
        });
        println!("the move past one that promised: {:?}", begun.as_ref().map(|(status, why)| (status, &why["detail"])));
        // Long enough for it to have given up Redis.
        std::thread::sleep(3 * A_WHILE);
    }

    /// Its maker dies as soon as the move has begun; another finishes it.
    fn moves_and_dies(&mut self, decant: usize, phase: &'static str) {
        let stage = &self.bench.stage;
        self.begin(decant, phase);
        stage.end_decant(decant);
        self.settled(phase, |other| other != decant);
        stage.kill_decant(decant, Duration::ZERO);
        self.all_follow();
    }

    fn ask(&self, decant: usize, phase: &'static str) -> Option<(u16, Json)> {
        self.ask_for(decant, phase, false)
    }

    fn ask_for(&self, decant: usize, phase: &'static str, force: bool) -> Option<(u16, Json)> {
        let stage = self.stage();
        let version = stage.view(decant)?["version"].as_u64()? + 1;
        self.bench.attempts.lock().unwrap().push(Attempt { version, phase, asked: stage.now() });
        let asked = json!({ "to": phase, "reason": "the bench moves", "by": "bench", "force": force }).to_string();
        stage.admin(decant, "PUT", "/v1/stashes/echoseen/phase", &asked)
    }

    /// Moves through this decant, until all are there; then works there for a while.
    fn to(&mut self, decant: usize, phase: &'static str) {
        self.begin(decant, phase);
        self.settled(phase, |_| true);
    }

    /// The way back that the guards refuse, as what was written past Redis is not there; here nothing was.
    fn force(&mut self, decant: usize, phase: &'static str) {
        let (status, refused) = self.ask(decant, phase).expect("nobody answers");
        assert!(status == 409 && refused["guards"].is_array(), "{status} {refused}");
        wait_until(&format!("the move to {phase} begins"), || {
            matches!(self.ask_for(decant, phase, true), Some((200, _)))
                || self.stage().view(decant).is_some_and(|view| view["phase"] == phase)
        });
        self.settled(phase, |_| true);
    }

    fn begin(&mut self, decant: usize, phase: &'static str) {
        let (stage, never) = (&self.bench.stage, AtomicBool::new(false));
        let mut last = None;
        wait_until(&format!("the move to {phase} begins"), || {
            if phase == "redis-standby" {
                stage.custody.lock().unwrap().kept = true;
                if !copy_and_compare(stage, decant, &never) {
                    return false;
                }
            }
            let Some(view) = stage.view(decant) else { return false };
            if view["phase"] == phase {
                return true;
            }
            last = self.ask(decant, phase);
            match &last {
                Some((200, _)) => true,
                // What it came to is not known, or a guard that only samples saw a copy that is not over.
                Some((409 | 503, why)) => {
                    println!("the move to {phase} is tried again: {}", why["detail"]);
                    false
                }
                other => panic!("the move to {phase}: {other:?}"),
            }
        });
    }

    fn settled(&self, phase: &'static str, who: impl Fn(usize) -> bool) {
        let stage = &self.bench.stage;
        wait_until(&format!("all are in {phase}"), || {
            let there = |view: Json| view["phase"] == phase && view["state"] == "settled";
            (0..FLEET).filter(|decant| who(*decant)).all(|decant| stage.view(decant).is_some_and(there))
        });
        let mut custody = stage.custody.lock().unwrap();
        custody.kept = matches!(phase, "redis-standby" | "kask-only");
        if phase == "dual-write" {
            custody.complete_since.get_or_insert(stage.now());
        }
        drop(custody);
        std::thread::sleep(A_WHILE);
    }
}

fn fleet(stage: &Stage, decant: usize) -> Option<Json> {
    let told = stage.admin(decant, "GET", "/v1/stashes/echoseen/fleet", "");
    told.filter(|(status, _)| *status == 200).map(|(_, view)| view)
}

fn name(stage: &Stage, decant: usize) -> String {
    fleet(stage, decant).unwrap()["member"].as_str().unwrap().to_owned()
}

/// How many follow and have their Redis, as one that etcd has told knows it.
fn follow(view: &Json) -> usize {
    let members = view["members"].as_array().into_iter().flatten();
    members.filter(|member| member["standing"] == "follows" && member["shards_away"] == json!([])).count()
}
