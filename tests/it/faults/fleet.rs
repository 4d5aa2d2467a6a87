//! Three decants on one etcd, under load: through all phases and back, with one killed, one cut off from etcd, and etcd restarted.

use super::{
    bench::{Bench, Over, QUIET_WITHIN, Work, join},
    clients::{Orders, work},
    history::{Attempt, Op},
    moves::copy_and_compare,
    proxy::Mode,
    report::Report,
    stage::{FLEET, Make, Stage},
    storm::Fault,
    values,
};
use crate::whole::wait_until;
use serde_json::{Value as Json, json};
use std::{path::Path, sync::atomic::AtomicBool, time::Duration};

const CLIENTS: usize = 8;
/// Each phase is worked in for so long, and so is what goes wrong.
const A_WHILE: Duration = Duration::from_millis(700);
/// Of the whole walk.
pub const MOVES: u64 = 8;

/// The walk, in two rounds: `kask-only` has no way back that loses nothing.
pub fn play(decant: &Path) -> Report {
    let seed = fastrand::u64(..);
    println!("the clients' seed is {seed}");
    let mut bench = Bench::of(Make { fleet: true, ..Make::for_storms(decant) }, values::KEYS, QUIET_WITHIN);
    let mut report = Report { stages: 1, ..Report::default() };
    let mut moves = 0;
    bench.round(&mut report, |bench| {
        under_load(bench, seed, |walk| {
            walk.to(0, "dual-write");
            walk.to(1, "kask-first");
            walk.fault("kill a decant", 2, |walk| walk.stage().kill_decant(2, A_WHILE));
            walk.to(2, "redis-standby");
            walk.fault("cut off from etcd", 1, |walk| walk.one_cut_off());
            walk.to(1, "kask-first");
            walk.fault("restart etcd", 0, |walk| walk.stage().kill_etcd(A_WHILE));
            walk.to(0, "dual-write");
            walk.to(2, "kask-first");
            moves += walk.moves;
        })
    });
    if report.violations.is_empty() {
        bench.round(&mut report, |bench| {
            under_load(bench, seed ^ 1, |walk| {
                walk.to(1, "redis-standby");
                walk.to(2, "kask-only");
                moves += walk.moves;
            })
        });
    }
    report.moves = moves;
    report
}

struct Walk<'a> {
    bench: &'a Bench,
    ops: Vec<Op>,
    faults: Vec<Fault>,
    moves: u64,
}

fn under_load(bench: &Bench, seed: u64, walk: impl FnOnce(&mut Walk<'_>)) -> Work {
    let (mut seeds, orders) = (fastrand::Rng::with_seed(seed), Orders::default());
    let mut walked = Walk { bench, ops: Vec::new(), faults: Vec::new(), moves: 0 };
    std::thread::scope(|scope| {
        let ended = Over(&orders.stop);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|name| {
                let (seed, orders) = (seeds.u64(..), &orders);
                scope.spawn(move || work(&bench.stage, name, seed, &bench.numbers, orders))
            })
            .collect();
        walk(&mut walked);
        drop(ended);
        walked.ops.extend(clients.into_iter().flat_map(join));
    });
    Work { ops: walked.ops, faults: walked.faults, ..Work::default() }
}

impl Walk<'_> {
    fn stage(&self) -> &Stage {
        &self.bench.stage
    }

    fn fault(&mut self, kind: &str, decant: usize, act: impl FnOnce(&Walk<'_>)) {
        let from = self.stage().now();
        act(self);
        let whom = format!("decant {decant}");
        self.faults.push(Fault { from, to: self.stage().now(), kind: kind.to_owned(), whom });
        wait_until("every decant follows again", || {
            (0..FLEET).all(|decant| fleet(self.stage(), decant).is_some_and(|view| follow(&view) == FLEET))
        });
    }

    /// Its lease runs out, and no move begins; it serves on.
    fn one_cut_off(&self) {
        let stage = self.stage();
        let name = fleet(stage, 1).unwrap()["member"].as_str().unwrap().to_owned();
        stage.proxy_to_etcd(1).set(Mode::Refuse, 100, 0);
        wait_until("it is silent", || {
            [0, 2].iter().all(|decant| fleet(stage, *decant).is_some_and(|view| follow(&view) == FLEET - 1))
        });
        let (status, refused) = self.ask(0, "kask-first").expect("nobody answers");
        assert!(status == 409 && refused["detail"].as_str().unwrap().contains(&name), "{refused}");
        assert!(!fleet(stage, 1).unwrap()["trouble"].is_null(), "it does not say so");
        std::thread::sleep(A_WHILE);
        stage.proxy_to_etcd(1).pass();
    }

    fn ask(&self, decant: usize, phase: &'static str) -> Option<(u16, Json)> {
        let stage = self.stage();
        let version = stage.view(decant)?["version"].as_u64()? + 1;
        self.bench.attempts.lock().unwrap().push(Attempt { version, phase, asked: stage.now() });
        let asked = json!({ "to": phase, "reason": "the bench moves", "by": "bench" }).to_string();
        stage.admin(decant, "PUT", "/v1/stashes/echoseen/phase", &asked)
    }

    /// Moves through this decant, until all are there; then works there for a while.
    fn to(&mut self, decant: usize, phase: &'static str) {
        let (stage, never) = (&self.bench.stage, AtomicBool::new(false));
        let mut last = None;
        wait_until(&format!("the move to {phase} begins"), || {
            if phase == "redis-standby" {
                stage.custody.lock().unwrap().kept = true;
                if !copy_and_compare(stage, decant, &never) {
                    return false;
                }
            }
            let version = stage.view(decant).and_then(|view| view["version"].as_u64());
            last = self.ask(decant, phase);
            match &last {
                Some((200, _)) => true,
                // What it came to is not known, or a guard that only samples saw a copy that is not over.
                Some((409 | 503, why)) => {
                    println!("the move from version {version:?} to {phase} is tried again: {}", why["detail"]);
                    false
                }
                other => panic!("the move to {phase}: {other:?}"),
            }
        });
        self.moves += 1;
        wait_until(&format!("all are in {phase}"), || {
            let there = |view: Json| view["phase"] == phase && view["state"] == "settled";
            (0..FLEET).all(|decant| stage.view(decant).is_some_and(there))
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

/// How many follow, as one that etcd has told knows it.
fn follow(view: &Json) -> usize {
    let members = view["members"].as_array().into_iter().flatten();
    members.filter(|member| member["standing"] == "follows").count()
}
