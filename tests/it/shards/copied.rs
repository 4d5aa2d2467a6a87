//! The backfill and verify over three shards.

use super::stage::{Stage, stage};
use crate::whole::{Whole, wait_until};
use serde_json::{Value, json};

/// Of each shard: more batches than have a place at once.
const KEYS_EACH: usize = 300;
/// The one that dies.
const DIES: usize = 1;

fn seeded() -> (Stage, Whole) {
    let stage = stage("kask-first", KEYS_EACH);
    for (server, keys) in stage.servers.iter().zip(&stage.keys) {
        let mut pipe = redis::pipe();
        for key in keys {
            pipe.set(key, "i:7;").ignore();
        }
        pipe.exec(&mut server.client()).unwrap();
    }
    let decant = Whole::start(&stage.setup);
    (stage, decant)
}

fn view(decant: &Whole) -> Value {
    decant.admin_get("/v1/stashes/echoseen/backfill")
}

fn backfill(decant: &Whole, args: &[&str]) -> i32 {
    let admin = format!("http://{}", decant.admin);
    let (code, out, err) =
        crate::support::run_decant(["--admin", &admin, "backfill"].into_iter().chain(args.iter().copied()));
    println!("{out}{err}");
    code
}

/// What waits for a shard that is away takes no place from the others.
#[test]
fn a_shard_that_dies_half_way_holds_up_its_own_keys_only() {
    let (mut stage, decant) = seeded();
    assert_eq!(backfill(&decant, &["start", "--keys-per-s", "60", "--detach"]), 0);
    wait_until("some of it is copied", || stage.keys[DIES].iter().any(|key| stage.kask.holds(key).is_some()));
    stage.servers[DIES].kill();
    assert_eq!(backfill(&decant, &["pace", "--keys-per-s", "0"]), 0);
    let done = || -> Vec<bool> {
        view(&decant)["shards"].as_array().unwrap().iter().map(|shard| shard["done"] == true).collect()
    };
    wait_until("the others are done", || done() == [true, false, true]);
    wait_until("it says what it waits for", || {
        let held = view(&decant)["held_by"].clone();
        held["what"] == "redis" && held["why"].as_str().unwrap_or_default().contains("shard shard02 is away")
    });
    wait_until("the metric tells", || decant.metric("decant_backfill_held", &["by=\"redis\""]) == 1.0);
    assert_eq!(decant.metric("decant_backfill_running", &[]), 1.0);
    stage.servers[DIES].restart();
    wait_until("all of it is copied", || view(&decant)["state"] == "finished");
    wait_until("the metric tells", || decant.metric("decant_backfill_running", &[]) == 0.0);
    let keys = &view(&decant)["keys"];
    let count = |outcome: &str| keys[outcome].as_u64().unwrap_or(0);
    assert_eq!((count("copied") + count("equal"), count("failed")), (3 * KEYS_EACH as u64, 0), "{keys:#}");
    stage.servers.iter().for_each(|server| decant.wait_drained(server));
    let (code, report) = decant.verified(&[]);
    assert_eq!((code, &report["keys"]["equal"]), (0, &json!(3 * KEYS_EACH)), "{report:#}");
    assert_eq!(decant.metric("decant_verify_progress_ratio", &[]), 1.0);
}

/// A key on a shard where decant does not look for it may be a client's, if the config is wrong: nobody may say that it arrived.
#[test]
fn keys_that_stand_elsewhere_are_no_part_of_any_proof() {
    let (stage, decant) = seeded();
    assert_eq!(backfill(&decant, &["start"]), 0);
    decant.wait_drained(&stage.servers[0]);
    assert_eq!(decant.verified(&[]).0, 0);
    assert!(check(&decant).iter().all(|level| level == "ok"), "{:?}", check(&decant));
    let mut elsewhere = redis::pipe();
    for key in &stage.keys[0] {
        elsewhere.set(key, "i:8;").ignore();
    }
    elsewhere.exec(&mut stage.servers[2].client()).unwrap();
    let (code, report) = decant.verified(&[]);
    assert_eq!((code, &report["arrived"], &report["complete"]), (1, &json!(false), &json!(true)), "{report:#}");
    assert!(report["summary"].as_str().unwrap().contains("300 keys left on a shard"), "{report:#}");
    let (_, told) = decant.ask_move("redis-standby", json!({ "dry_run": true }));
    let verified = told["guards"].as_array().unwrap().iter().find(|guard| guard["name"] == "verified").unwrap();
    assert_eq!(verified["ok"], false, "{verified:#}");
    assert!(verified["figure"].as_str().unwrap().contains("300 keys are on a shard"), "{verified:#}");
    assert_eq!(check(&decant), ["ok", "ok", "fail"]);
}

/// What `decant check` says of where keys stand, shard by shard.
fn check(decant: &Whole) -> Vec<String> {
    let config = decant.dir.path().join("proxy.toml");
    let (_, out, _) = crate::support::run_decant(["--config", config.to_str().unwrap(), "--json", "check"]);
    let told: Value = serde_json::from_str(&out).unwrap_or_else(|fault| panic!("{fault}: {out}"));
    let findings = told["tiers"].as_array().unwrap_or_else(|| panic!("{told:#}"));
    let placing = findings.iter().filter(|finding| finding["check"] == "placing");
    placing.map(|finding| finding["level"].as_str().unwrap_or_default().to_owned()).collect()
}
