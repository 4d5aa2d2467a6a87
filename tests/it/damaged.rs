//! Intents that are given up on: told with their reason, never in the way of others, and an operator's to retry or drop.

use crate::{
    liar::{Act, Liar},
    redis_server::RedisServer,
    whole::{Setup, Whole, intents, redis_holds, wait_until},
};
use serde_json::Value;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A Kask's own 400: what it refuses now it will refuse always.
fn refused() -> Vec<u8> {
    let body = r#"{"type":"https://www.mediawiki.org/wiki/Kask/errors/bad_request"}"#;
    let length = body.len();
    format!("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

const STORED: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

fn cli(decant: &Whole, args: &[&str]) -> (i32, String, String) {
    let admin = format!("http://{}", decant.admin);
    crate::support::run_decant(args.iter().copied().chain(["--admin", &admin]))
}

fn damaged(decant: &Whole) -> Vec<Value> {
    let outbox = decant.admin_get("/v1/stashes/echoseen/outbox");
    outbox["shards"][0]["damaged_intents"].as_array().cloned().unwrap_or_default()
}

/// A decant whose Kask refuses `poison` until told otherwise, with one intent given up on.
async fn poisoned() -> (RedisServer, Liar, Arc<AtomicBool>, Whole) {
    let redis = RedisServer::start();
    let refuses = Arc::new(AtomicBool::new(true));
    let told = refuses.clone();
    let kask =
        Liar::start(move |_| Act::Say(if told.load(Ordering::Relaxed) { refused() } else { STORED.to_vec() })).await;
    let url = format!("http://{}/echoseen/v1/", kask.address);
    let setup = Setup {
        kask_url: Some(url),
        lease_ms: 1_000,
        kask_timeout_ms: 300,
        outbox: "tries_max = 2".to_owned(),
        ..Setup::new(&redis, "dual-write")
    };
    let decant = tokio::task::block_in_place(|| {
        let decant = Whole::start(&setup);
        assert_eq!(decant.set("poison", "JSON..1").status(), 201, "Redis holds it");
        wait_until("it is given up on", || damaged(&decant).len() == 1);
        decant
    });
    (redis, kask, refuses, decant)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kask_refuses_for_good_is_damaged_and_told_and_blocks_moves() {
    let (redis, _kask, _refuses, decant) = poisoned().await;
    tokio::task::block_in_place(|| {
        let told = &damaged(&decant)[0];
        assert!(told["tries"] == 2 && told["direction"] == "kask", "{told}");
        assert!(told["reason"].as_str().unwrap().contains("400"), "{told}");
        assert_eq!(told.get("key"), None, "keys are personal data");
        wait_until("the metric", || decant.metric("decant_damaged_intents", &[]) == 1.0);
        assert_eq!(decant.got("poison"), (200, "JSON..1".into()));
        let (status, refused) = decant.ask_move("kask-first", serde_json::json!({}));
        let guards = refused["guards"].as_array().cloned().unwrap_or_default();
        assert!(
            status == 409 && guards.iter().any(|g| g["name"] == "nothing_damaged" && g["ok"] == false),
            "{refused:#}"
        );
        let (code, out, _) = cli(&decant, &["outbox", "damaged", "--keys"]);
        assert!(code == 1 && out.contains("poison") && out.contains("2 tries"), "{out}");
        let (code, out, _) = cli(&decant, &["outbox", "list"]);
        assert!(code == 0 && out.contains("1 damaged"), "{out}");
        assert_eq!(intents(&redis), 1);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_intent_can_be_retried() {
    let (redis, _kask, refuses, decant) = poisoned().await;
    tokio::task::block_in_place(|| {
        let id = damaged(&decant)[0]["id"].as_str().unwrap().to_owned();
        refuses.store(false, Ordering::Relaxed);
        let (code, out, err) = cli(&decant, &["outbox", "retry", &id]);
        assert_eq!((code, out), (0, format!("{id} retried\n")), "{err}");
        decant.wait_drained(&redis);
        assert_eq!(damaged(&decant), Vec::<Value>::new());
        let (code, _, err) = cli(&decant, &["outbox", "retry", &id]);
        assert!(code == 2 && err.contains("no damaged intent of this id"), "{err}");
        assert_eq!(cli(&decant, &["outbox", "retry", "../phase"]).0, 64);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_intent_can_be_dropped_and_then_moves_go_on() {
    let (redis, _kask, _refuses, decant) = poisoned().await;
    tokio::task::block_in_place(|| {
        let id = damaged(&decant)[0]["id"].as_str().unwrap().to_owned();
        let (code, out, err) = cli(&decant, &["outbox", "drop", &id]);
        assert_eq!((code, out), (0, format!("{id} dropped\n")), "{err}");
        assert_eq!(intents(&redis), 0);
        assert_eq!(redis_holds(&redis, "poison").as_deref(), Some("1"), "the value stays");
        wait_until("the look shows it", || decant.metric("decant_damaged_intents", &[]) == 0.0);
    });
}
