//! Decants that share a record in a real etcd: who moves, who is waited for, what goes on without etcd.

mod past;

use crate::{
    etcd_server::EtcdServer,
    redis_server::RedisServer,
    support::{ask, exchange},
    whole::{BASE, Kask, Setup, Whole, redis_set, wait_until},
};
use serde_json::{Value, json};
use std::process::Command;

const PHASES: [&str; 5] = ["redis-only", "dual-write", "kask-first", "redis-standby", "kask-only"];

struct Fleet {
    etcd: EtcdServer,
    redis: RedisServer,
    _kask: Kask,
    decants: Vec<Whole>,
}

impl Fleet {
    fn start(decants: usize, phase: &'static str) -> Fleet {
        Fleet::with(decants, phase, "")
    }

    /// `outbox`: more lines for that table.
    fn with(decants: usize, phase: &'static str, outbox: &str) -> Fleet {
        let (etcd, redis, kask) = (EtcdServer::start(), RedisServer::start(), Kask::start());
        let setup = Setup {
            tables: tables(&etcd.url()),
            outbox: outbox.to_owned(),
            ..Setup::new(&redis, phase).with_kask(&kask)
        };
        let decants = (0..decants).map(|_| Whole::start(&setup)).collect();
        Fleet { etcd, redis, _kask: kask, decants }
    }

    fn name(&self, decant: usize) -> String {
        fleet(&self.decants[decant])["member"].as_str().unwrap().to_owned()
    }

    /// All are alive, none is behind, and each has its Redis.
    fn wait_follows(&self) {
        let all = self.decants.len();
        wait_until("every decant follows", || {
            self.decants.iter().all(|decant| {
                let view = fleet(decant);
                let there = |member: &Value| member["standing"] == "follows" && member["shards_away"] == json!([]);
                let members = view["members"].as_array().unwrap();
                view["trouble"].is_null() && members.iter().filter(|member| there(member)).count() == all
            })
        });
    }

    /// Moves through this decant; over when every other one knows it. What the step needs is shown by another one.
    fn move_through(&self, decant: usize, to: &str) {
        if to == "redis-standby" {
            let other = (decant + 1) % self.decants.len();
            self.decants[other].copy_and_compare();
            // It tells the others within half a second.
            wait_until("all guards pass", || dry_run(&self.decants[decant], to).0 == 200);
        }
        let (status, answer) = put(&self.decants[decant], to, "root", false);
        assert_eq!(status, 200, "the move to {to} through {decant}: {answer}");
        wait_until("the move has settled for all", || {
            let there = |decant: &Whole| decant.phase()["phase"] == to && decant.phase()["state"] == "settled";
            self.decants.iter().all(there)
        });
    }
}

/// The lines of a config that shares its record.
pub fn tables(endpoints: &str) -> String {
    format!("[fleet]\nstore = \"etcd\"\n[fleet.etcd]\nendpoints = \"{endpoints}\"\nlease_ms = 3000\n")
}

fn fleet(decant: &Whole) -> Value {
    decant.admin_get("/v1/stashes/echoseen/fleet")
}

fn standings(view: &Value) -> Vec<String> {
    let members = view["members"].as_array().unwrap().iter();
    members.map(|member| member["standing"].as_str().unwrap().to_owned()).collect()
}

fn send(decant: &Whole, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let (addr, body) = (decant.admin, body.to_string());
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let raw = exchange(addr, head + &body);
    (raw.status(), serde_json::from_slice(&raw.body).unwrap_or(Value::Null))
}

fn put(decant: &Whole, to: &str, by: &str, force: bool) -> (u16, Value) {
    let asked = json!({ "to": to, "reason": "a test", "by": by, "force": force });
    send(decant, "PUT", "/v1/stashes/echoseen/phase", &asked)
}

/// What would come of a move.
fn dry_run(decant: &Whole, to: &str) -> (u16, Value) {
    send(decant, "PUT", "/v1/stashes/echoseen/phase", &json!({ "to": to, "reason": "", "dry_run": true }))
}

fn forget(decant: &Whole, member: &str) -> (u16, Value) {
    let path = format!("/v1/stashes/echoseen/fleet/{member}");
    send(decant, "DELETE", &path, &json!({ "reason": "its machine burnt down", "by": "root" }))
}

fn cli(decant: &Whole, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_decant"));
    let output = command.args(["--admin", &format!("http://{}", decant.admin)]).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn any_decant_moves_and_all_follow() {
    let mut fleet_of = Fleet::start(3, "redis-only");
    fleet_of.wait_follows();
    for (nth, to) in
        ["dual-write", "kask-first", "redis-standby", "kask-first", "redis-standby"].into_iter().enumerate()
    {
        fleet_of.move_through(nth % 3, to);
        let (key, body) = (format!("k{nth}"), format!("\"{nth}\""));
        assert_eq!(fleet_of.decants[(nth + 1) % 3].set(&key, &body).status(), 201, "{to}");
        assert_eq!(fleet_of.decants[(nth + 2) % 3].got(&key), (200, body), "{to}");
    }
    let versions: Vec<Value> = fleet_of.decants.iter().map(|decant| decant.phase()["version"].clone()).collect();
    assert_eq!(versions, [6, 6, 6]);
    let history = fleet_of.decants[1].admin_get("/v1/stashes/echoseen/phase/history");
    let told: Vec<&Value> = history["history"].as_array().unwrap().iter().map(|line| &line["phase"]).collect();
    assert_eq!(told, [PHASES[0], PHASES[1], PHASES[2], PHASES[3], PHASES[2], PHASES[3]]);
    // Who is stopped leaves, and holds nothing up.
    let mut last = fleet_of.decants.pop().unwrap();
    last.signal("TERM");
    assert_eq!(last.wait(), Some(0));
    wait_until("it has left", || standings(&fleet(&fleet_of.decants[0])).len() == 2);
    fleet_of.move_through(0, "kask-only");
    assert_eq!(fleet_of.decants[1].got("k4"), (200, "\"4\"".to_owned()));
    let (code, text) = cli(&fleet_of.decants[1], &["fleet", "show"]);
    assert!(code == Some(0) && text.contains("kask-only, version 7") && text.contains(&fleet_of.name(0)), "{text}");
}

#[test]
fn a_silent_decant_holds_moves_up_by_name_until_it_is_back_or_forgotten() {
    let mut fleet_of = Fleet::start(3, "dual-write");
    fleet_of.wait_follows();
    let name = fleet_of.name(2);
    assert_eq!(forget(&fleet_of.decants[0], &name).0, 409, "it is alive");
    fleet_of.decants[2].kill_9();
    // Until its lease is over it counts as alive, and its promise does not come; then it is silent.
    let silent = |decant: &Whole| standings(&fleet(decant)).contains(&"silent".to_owned());
    wait_until("it is silent", || silent(&fleet_of.decants[0]) && silent(&fleet_of.decants[1]));
    for force in [false, true] {
        let (status, refused) = put(&fleet_of.decants[0], "kask-first", "root", force);
        assert_eq!((status, refused["type"].as_str()), (409, Some("urn:decant:problem:member-behind")), "{refused}");
        assert!(refused["detail"].as_str().unwrap().contains(&name), "{refused}");
    }
    let (code, text) = cli(&fleet_of.decants[1], &["fleet", "show"]);
    assert!(code == Some(1) && text.contains("silent"), "{text}");
    let (_, text) = cli(&fleet_of.decants[1], &["status"]);
    let told = text.lines().find(|line| line.contains("member") && line.contains(&name)).expect(&text);
    assert!(told.contains("silent") && told.contains("version 1") && told.contains("silent since"), "{text}");
    let others =
        text.lines().filter(|line| line.contains("member") && line.contains("follows, version 1 (dual-write)"));
    assert_eq!(others.filter(|line| line.contains("said so ")).count(), 2, "{text}");
    let counted = |standing: &str| fleet_of.decants[0].metric("decant_fleet_members", &[standing]);
    wait_until("it is counted", || (counted("standing=\"silent\""), counted("standing=\"follows\"")) == (1.0, 2.0));
    let status = fleet_of.decants[0].admin_get("/v1/status").to_string();
    assert!(status.contains(&format!("decant fleet forget {name}")), "{status}");
    // Back: it follows, and nothing is held up.
    fleet_of.decants[2].restart();
    fleet_of.wait_follows();
    fleet_of.move_through(1, "kask-first");
    // Gone for good.
    drop(fleet_of.decants.pop());
    wait_until("it is silent again", || silent(&fleet_of.decants[0]));
    let (code, text) = cli(&fleet_of.decants[0], &["fleet", "forget", &name, "--reason", "its machine burnt down"]);
    assert_eq!(code, Some(0), "{text}");
    // Until etcd has told of the change, another forgets what is another record by now: 409.
    wait_until("the one that was asked knows", || forget(&fleet_of.decants[0], &name).0 == 404);
    wait_until("the other knows", || standings(&fleet(&fleet_of.decants[1])).len() == 2);
    fleet_of.move_through(1, "redis-standby");
    let (_, text) = cli(&fleet_of.decants[1], &["phase", "history"]);
    assert!(text.contains(&name) && text.contains("forgotten") && text.contains("burnt down"), "{text}");
}

/// A decant in the other data centre may see tiers that the one that is asked to move does not.
#[test]
fn a_tier_that_is_away_for_one_decant_alone_holds_moves_up_by_name() {
    let (etcd, redis, kask) = (EtcdServer::start(), RedisServer::start(), Kask::start());
    let setup = Setup { tables: tables(&etcd.url()), ..Setup::new(&redis, "dual-write").with_kask(&kask) };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mover = Whole::start(&setup);
    let cut_off = Whole::start(&Setup { kask_url: Some(format!("http://{nobody}{BASE}")), ..setup });
    let name = fleet(&cut_off)["member"].as_str().unwrap().to_owned();
    let away = |view: &Value| {
        let mut members = view["members"].as_array().unwrap().iter();
        members.any(|member| member["name"] == *name && member["kask_away"] == true)
    };
    // Of several keys: one that fails says nothing about Kask.
    let mut keys = 0..;
    wait_until("the mover knows what the other lacks", || {
        assert_eq!(cut_off.set(&format!("k{}", keys.next().unwrap()), "\"1\"").status(), 201);
        away(&fleet(&mover))
    });
    let (status, refused) = dry_run(&mover, "kask-first");
    let mut failed = refused["guards"].as_array().unwrap().iter().filter(|guard| guard["ok"] == false);
    let guard = failed.next().unwrap();
    assert_eq!((status, guard["name"].as_str(), failed.next()), (409, Some("kask_answers"), None), "{refused}");
    assert!(guard["figure"].as_str().unwrap().contains(&name), "{refused}");
    let (code, text) = cli(&mover, &["fleet", "show"]);
    assert!(code == Some(0) && text.contains("Kask is away for it"), "{text}");
}

#[test]
fn two_operators_at_once_one_wins_and_the_other_is_told_who() {
    let fleet_of = Fleet::start(2, "redis-only");
    fleet_of.wait_follows();
    let (first, second) = std::thread::scope(|scope| {
        let ask = |nth: usize, by: &'static str| {
            let decant = &fleet_of.decants[nth];
            scope.spawn(move || put(decant, "dual-write", by, false))
        };
        let (first, second) = (ask(0, "ann"), ask(1, "bob"));
        (first.join().unwrap(), second.join().unwrap())
    });
    let (lost, winner) = match (first.0, second.0) {
        (200, _) => (second, "ann"),
        (_, 200) => (first, "bob"),
        _ => panic!("nobody moved: {first:?} {second:?}"),
    };
    // The second one may come so late that the move is over: it is told all the same.
    assert!(lost.0 == 409 || lost.0 == 422, "{lost:?}");
    let names_who_and_when = |(_, refused): &(u16, Value)| {
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("by {winner}")) || detail.starts_with(winner), "{detail}");
        let since = fleet_of.decants[0].phase()["since"].as_str().unwrap()[..10].to_owned();
        assert!(detail.contains(&since), "{detail}: {since}");
    };
    names_who_and_when(&lost);
    wait_until("it has settled", || fleet_of.decants.iter().all(|decant| decant.phase()["state"] == "settled"));
    let late = put(&fleet_of.decants[1], "dual-write", "cid", false);
    assert_eq!((late.0, &late.1["record"]["by"]), (422, &json!(winner)), "{late:?}");
    names_who_and_when(&late);
    assert_eq!(
        (fleet_of.decants[1].phase()["version"].clone(), fleet_of.decants[1].phase()["by"].clone()),
        (2.into(), winner.into())
    );
}

#[test]
fn without_etcd_every_decant_serves_on_and_nobody_moves() {
    let mut fleet_of = Fleet::start(2, "kask-first");
    fleet_of.wait_follows();
    assert_eq!(fleet_of.decants[0].set("k", "\"1\"").status(), 201);
    fleet_of.etcd.kill();
    wait_until("both say so", || fleet_of.decants.iter().all(|decant| !fleet(decant)["trouble"].is_null()));
    assert_eq!(fleet_of.decants[0].set("k", "\"2\"").status(), 201);
    assert_eq!(fleet_of.decants[1].got("k"), (200, "\"2\"".to_owned()));
    let (status, refused) = put(&fleet_of.decants[0], "redis-standby", "root", true);
    assert_eq!((status, refused["type"].as_str()), (503, Some("urn:decant:problem:etcd")), "{refused}");
    wait_until("it is measured", || fleet_of.decants[0].metric("decant_record_confirmed", &[]) == 0.0);
    let (_, text) = cli(&fleet_of.decants[0], &["status"]);
    assert!(text.contains("etcd is not reached: this decant serves in the phase it has"), "{text}");
    // One that starts meanwhile takes the phase from the fence.
    fleet_of.decants[1].kill_9();
    fleet_of.decants[1].restart();
    assert_eq!(fleet_of.decants[1].got("k"), (200, "\"2\"".to_owned()));
    assert_eq!(fleet_of.decants[1].phase()["phase"], "kask-first");
    assert_eq!(fleet_of.decants[1].set("k", "\"3\"").status(), 201);
    fleet_of.etcd.restart();
    fleet_of.wait_follows();
    wait_until("it is measured", || fleet_of.decants[0].metric("decant_record_confirmed", &[]) == 1.0);
    fleet_of.move_through(1, "redis-standby");
    assert_eq!(fleet_of.decants[0].got("k"), (200, "\"3\"".to_owned()));
}

/// One that takes connections and never begins TLS, named first: the other is tried.
#[test]
fn an_endpoint_that_says_nothing_is_not_waited_for() {
    let (etcd, redis) = (EtcdServer::start(), RedisServer::start());
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoints = format!("https://{},{}", silent.local_addr().unwrap(), etcd.url());
    let whole = Whole::start(&Setup { tables: tables(&endpoints), ..Setup::new(&redis, "dual-write") });
    wait_until("it is a member", || fleet(&whole)["trouble"].is_null());
}

#[test]
fn a_move_whose_maker_died_is_finished_by_another() {
    // Long enough for its maker to die before the move has settled.
    let mut fleet_of = Fleet::with(3, "redis-only", "settle_wait_ms = 2000");
    fleet_of.wait_follows();
    let maker = fleet_of.name(0);
    let begun = put(&fleet_of.decants[0], "dual-write", "root", false);
    assert_eq!(begun.0, 200, "{begun:?}");
    fleet_of.decants[0].kill_9();
    wait_until("the move has settled without its maker", || {
        fleet_of.decants[1..]
            .iter()
            .all(|decant| decant.phase()["phase"] == "dual-write" && decant.phase()["state"] == "settled")
    });
    let (_, text) = cli(&fleet_of.decants[2], &["phase", "history"]);
    assert!(text.contains("taken-over") && text.contains(&maker), "{text}");
    // And handed back, once the dead one is declared gone.
    wait_until("it is silent", || standings(&fleet(&fleet_of.decants[1])).contains(&"silent".to_owned()));
    assert_eq!(forget(&fleet_of.decants[2], &maker).0, 200);
    wait_until("both know", || fleet_of.decants[1..].iter().all(|decant| standings(&fleet(decant)).len() == 2));
    let (status, answer) = put(&fleet_of.decants[1], "redis-only", "root", false);
    assert_eq!(status, 200, "{answer}");
    wait_until("it is back", || {
        fleet_of.decants[1..]
            .iter()
            .all(|decant| decant.phase()["phase"] == "redis-only" && decant.phase()["state"] == "settled")
    });
}

#[test]
fn guards_look_at_what_the_clients_of_every_decant_met() {
    let fleet_of = Fleet::start(2, "kask-first");
    fleet_of.wait_follows();
    redis_set(&fleet_of.redis, "k", "1");
    assert_eq!(fleet_of.decants[1].get("k").header("Decant-Tier"), Some("redis"));
    wait_until("what the other's clients met counts here", || {
        let (_, told) = fleet_of.decants[0].ask_move("redis-standby", json!({ "dry_run": true }));
        let guards = told["guards"].as_array().cloned().unwrap_or_default();
        let rehearsal = guards.iter().find(|guard| guard["name"] == "rehearsal");
        rehearsal.is_some_and(|guard| guard["figure"].as_str().unwrap().starts_with("1 of "))
    });
}

#[test]
fn an_etcd_that_has_lost_the_record_gets_it_again() {
    let fleet_of = Fleet::start(2, "kask-first");
    fleet_of.wait_follows();
    fleet_of.move_through(0, "redis-standby");
    fleet_of.etcd.ctl(&["del", "/decant/stash/echoseen/record"]);
    // As a move that is to be finished.
    wait_until("it is there again", || {
        let record = fleet_of.etcd.ctl(&["get", "/decant/stash/echoseen/record", "--print-value-only"]);
        record.contains("redis-standby") && record.contains("\"state\":\"settled\"")
    });
    fleet_of.wait_follows();
    wait_until("the way back is open", || dry_run(&fleet_of.decants[1], "kask-first").0 == 200);
    fleet_of.move_through(1, "kask-first");
    let (_, text) = cli(&fleet_of.decants[0], &["phase", "history"]);
    assert!(text.contains("restored"), "{text}");
    assert_eq!(ask(fleet_of.decants[0].data, "GET", "/echoseen/v1/none", b"").status(), 404);
}
