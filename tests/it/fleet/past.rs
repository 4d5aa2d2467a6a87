//! Moves of before a record was shared: what was forced then stays to be seen, and stays to count.

use super::{cli, dry_run, fleet, tables};
use crate::{
    etcd_server::EtcdServer,
    redis_server::RedisServer,
    whole::{Kask, Setup, Whole, wait_until},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A decant that shared its record with nobody, and forced its way into dual-write over what Kask may still hold.
struct Before {
    etcd: EtcdServer,
    _redis: RedisServer,
    _kask: Kask,
    state: TempDir,
    setup: Setup,
}

impl Before {
    fn make() -> Before {
        let (etcd, redis, kask) = (EtcdServer::start(), RedisServer::start(), Kask::start());
        let state = tempfile::tempdir().unwrap();
        let setup = Setup::new(&redis, "dual-write").with_kask(&kask);
        let mut alone = Whole::start(&Setup { state_dir: Some(state.path().to_owned()), ..setup.clone() });
        alone.move_to("redis-only");
        alone.begin_move("dual-write", json!({ "force": true, "by": "Eve", "reason": "in a hurry" }));
        alone.wait_settled("dual-write");
        alone.signal("TERM");
        assert_eq!(alone.wait(), Some(0));
        let setup = Setup { tables: tables(&etcd.url()), ..setup };
        Before { etcd, _redis: redis, _kask: kask, state, setup }
    }

    /// The same decant, which shares its record from now on.
    fn start(&self) -> Whole {
        Whole::start(&Setup { state_dir: Some(self.state.path().to_owned()), ..self.setup.clone() })
    }
}

fn lines(decant: &Whole) -> Vec<Value> {
    decant.admin_get("/v1/stashes/echoseen/phase/history")["history"].as_array().unwrap().clone()
}

fn wait_told(decant: &Whole) {
    wait_until("etcd tells of the moves of before", || lines(decant).len() == 3);
    let told = lines(decant);
    let versions: Vec<&Value> = told.iter().map(|line| &line["version"]).collect();
    assert_eq!(versions, [1, 2, 3]);
    assert_eq!((&told[2]["by"], &told[2]["forced"]), (&json!("Eve"), &json!(true)), "{told:#?}");
}

fn assert_remembered(decant: &Whole) {
    // The history is told of before the record is there again, and that before the move has settled once more.
    let (mut status, mut refused) = (503, Value::Null);
    wait_until("a move can be weighed", || {
        (status, refused) = dry_run(decant, "kask-first");
        refused["guards"].is_array()
    });
    let guards = refused["guards"].as_array().unwrap_or_else(|| panic!("{status} {refused}"));
    let failed = guards.iter().find(|guard| guard["name"] == "kask_was_not_stale" && guard["ok"] == false);
    let figure = failed.unwrap_or_else(|| panic!("{status} {refused:#}"))["figure"].as_str().unwrap();
    assert!(figure.contains("was forced by Eve"), "{figure}");
}

#[test]
fn moves_of_before_a_record_was_shared_are_told_of_in_etcd() {
    let before = Before::make();
    let decant = before.start();
    wait_told(&decant);
    assert_remembered(&decant);
    let (_, text) = cli(&decant, &["phase", "history"]);
    assert!(text.contains("Eve") && text.contains("overridden") && text.contains("restored"), "{text}");

    // An etcd that lost everything but a line, which stays as it is.
    let line = |version: u64| format!("/decant/history/echoseen/{version:020}.0");
    let kept = before.etcd.ctl(&["get", &line(2), "--print-value-only"]).replace("\"by\":\"", "\"by\":\"the late ");
    before.etcd.ctl(&["del", "--prefix", "/decant/history/"]);
    before.etcd.ctl(&["put", &line(2), kept.trim()]);
    before.etcd.ctl(&["del", "/decant/stash/echoseen/record"]);
    wait_told(&decant);
    assert!(lines(&decant)[1]["by"].as_str().unwrap().starts_with("the late "));
    assert_remembered(&decant);
}

/// More than go into one change.
#[test]
fn a_long_history_comes_over_whole() {
    let before = Before::make();
    let path = before.state.path().join("echoseen.history.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    let last = text.lines().last().unwrap().to_owned();
    for version in 4..=150 {
        text += &last.replace("\"version\":3", &format!("\"version\":{version}"));
        text.push('\n');
    }
    std::fs::write(&path, text).unwrap();
    // One is there already.
    before.etcd.ctl(&["put", &format!("/decant/history/echoseen/{:020}.0", 50), last.as_str()]);
    let decant = before.start();
    wait_until("all are there", || lines(&decant).len() == 150);
    assert_eq!(lines(&decant)[49]["version"], 3, "it stays as it was");
}

/// Who made them comes second: the first restored the record by the fence alone.
#[test]
fn moves_of_before_are_told_of_by_who_made_them_whoever_comes_first() {
    let before = Before::make();
    let first = Whole::start(&before.setup);
    assert_eq!((first.phase()["phase"].clone(), lines(&first).len()), (json!("dual-write"), 0));
    let second = before.start();
    wait_told(&first);
    wait_until("both follow", || fleet(&second)["members"].as_array().unwrap().len() == 2);
    assert_remembered(&second);
}

/// The disk of who made them could not be read when etcd was reached; the session with etcd lasts on.
#[test]
fn moves_of_before_are_told_of_once_they_can_be() {
    let before = Before::make();
    let first = Whole::start(&before.setup);
    let (history, aside) = ["echoseen.history.jsonl", "aside"].map(|name| before.state.path().join(name)).into();
    std::fs::rename(&history, &aside).unwrap();
    std::fs::create_dir(&history).unwrap();
    let second = before.start();
    wait_until("both follow", || fleet(&second)["members"].as_array().unwrap().len() == 2);
    // Whoever follows a later move has come past its first try.
    wait_until("both answer for Redis", || first.ask_move("redis-only", json!({})).0 == 200);
    wait_until("the second follows", || second.phase()["version"] == first.phase()["version"]);
    let versions = || lines(&first).iter().map(|line| line["version"].as_u64().unwrap()).collect::<Vec<u64>>();
    assert_eq!(versions(), [4]);

    std::fs::remove_dir(&history).unwrap();
    std::fs::rename(&aside, &history).unwrap();
    wait_until("etcd tells of the moves of before", || versions() == [1, 2, 3, 4]);
}

/// The last move is on the disk of every member, also where none ever had a history of its own.
#[test]
fn the_last_move_is_told_of_again_by_any_member() {
    let (etcd, redis, kask) = (EtcdServer::start(), RedisServer::start(), Kask::start());
    let setup = Setup { tables: tables(&etcd.url()), ..Setup::new(&redis, "dual-write").with_kask(&kask) };
    let decant = Whole::start(&setup);
    decant.move_to("redis-only");
    decant.begin_move("dual-write", json!({ "force": true, "by": "Eve", "reason": "in a hurry" }));
    decant.wait_settled("dual-write");
    etcd.ctl(&["del", "--prefix", "/decant/history/"]);
    etcd.ctl(&["del", "/decant/stash/echoseen/record"]);
    wait_until("it is told of again", || lines(&decant).iter().any(|line| line["version"] == 3));
    assert_remembered(&decant);
}
