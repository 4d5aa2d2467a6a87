//! Moves over the admin API: each answer there is, and what is left behind.

use super::stage::{Options, Request as _, Stage};
use decant::phase::Phase;
use serde_json::{Value, json};

const PHASE: &str = "/v1/stashes/echoseen/phase";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_recorded_settles_and_survives() {
    let stage = Stage::start().await;
    let decant = stage.decant(Options::default()).await;
    decant.settled().await;
    decant.write("k", "JSON..1").await;
    decant.copy_and_compare().await;
    let asked = json!({ "from": "kask-first", "to": "redis-standby", "reason": "copied", "by": "me", "dry_run": true });
    let dry = decant.put(&asked).await;
    assert_eq!((dry.status, &dry.json()["dry_run"]), (200, &json!(true)), "{}", dry.text);
    assert_eq!(
        (&dry.json()["record"]["phase"], &dry.json()["record"]["version"]),
        (&json!("redis-standby"), &json!(2))
    );
    assert_eq!(decant.get(PHASE).await.json()["phase"], "kask-first", "a dry run changes nothing");

    let asked = json!({ "from": "kask-first", "to": "redis-standby", "reason": "copied", "by": "me" });
    let moved = decant.put(&asked).await;
    assert_eq!((moved.status, &moved.json()["dry_run"]), (200, &json!(false)), "{}", moved.text);
    let document = moved.json();
    let guards = document["guards"].as_array().unwrap();
    let names: Vec<&str> = guards.iter().map(|guard| guard["name"].as_str().unwrap()).collect();
    let wanted = "redis_answers kask_answers nothing_damaged no_shard_suspect backfill_finished verified still_in_kask \
                  rehearsal nobody_else_writes";
    assert_eq!(names.join(" "), wanted);
    assert!(
        guards.iter().all(|guard| guard["ok"] == true && guard["figure"].is_string() && guard["needs"].is_string())
    );
    let record = decant.settled().await;
    for (name, expected) in [
        ("phase", json!("redis-standby")),
        ("version", json!(2)),
        ("by", json!("me")),
        ("reason", json!("copied")),
        ("forced", json!(false)),
        ("from", json!("kask-first")),
    ] {
        assert_eq!(record[name], expected, "{name}");
    }
    decant.end().await;

    // The config's phase is for the first start only.
    let again = stage.decant(Options { phase: Phase::DualWrite, ..Options::default() }).await;
    assert_eq!(again.settled().await["phase"], "redis-standby");
    let history = again.get(&format!("{PHASE}/history")).await.json();
    let told: Vec<_> =
        history["history"].as_array().unwrap().iter().map(|r| (r["version"].clone(), r["phase"].clone())).collect();
    assert_eq!(told, [(json!(1), json!("kask-first")), (json!(2), json!("redis-standby"))]);
    let measured: Vec<_> = guards
        .iter()
        .map(|guard| json!({ "name": guard["name"], "ok": guard["ok"], "figure": guard["figure"] }))
        .collect();
    assert_eq!(history["history"][1]["guards"], json!(measured), "the history keeps what was measured");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_has_its_status_and_changes_nothing() {
    let stage = Stage::start().await;
    let decant = stage.decant(Options::default()).await;
    let before = decant.settled().await;
    for (body, status, kind) in [
        (json!({ "from": "dual-write", "to": "redis-standby", "reason": "r" }), 409, "phase-changed"),
        (json!({ "to": "kask-only", "reason": "r" }), 422, "no-such-step"),
        (json!({ "to": "kask-first", "reason": "r" }), 422, "no-such-step"),
        (json!({ "to": "nonsense", "reason": "r" }), 422, "no-such-step"),
        (json!({ "to": "redis-standby" }), 400, "bad-request"),
        (json!({ "to": "redis-standby", "reason": "r", "colour": 3 }), 400, "bad-request"),
        (json!({ "to": "redis-standby", "reason": "x".repeat(20_000) }), 413, "too-large"),
    ] {
        let answer = decant.put(&body).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, "application/problem+json"),
            "{}",
            answer.text
        );
        let problem = answer.json();
        assert_eq!(problem["type"], format!("urn:decant:problem:{kind}"), "{problem:#}");
        assert_eq!((&problem["status"], &problem["instance"]), (&json!(status), &json!(PHASE)));
    }
    let stale = decant.put(&json!({ "from": "dual-write", "to": "redis-standby", "reason": "r" })).await.json();
    assert_eq!(stale["record"]["phase"], "kask-first", "{stale:#}");
    let body = r#"{"to":"redis-standby","reason":"r"}"#;
    let plain = decant.request("PUT", PHASE).header("content-type", "text/plain").body(body);
    assert_eq!(decant.send(plain).await.status, 415, "a form of another site can send text/plain");
    let broken = decant.request("PUT", PHASE).header("content-type", "application/json").body("{\"to\":");
    assert_eq!(decant.send(broken).await.status, 400);
    let post = decant.send(decant.request("POST", PHASE)).await;
    assert_eq!((post.status, post.header("allow")), (405, "GET, HEAD, PUT"));
    let post = decant.send(decant.request("DELETE", "/v1/status")).await;
    assert_eq!((post.status, post.header("allow")), (405, "GET, HEAD"));
    assert_eq!(decant.get("/v1/stashes/other/phase").await.status, 404);
    assert_eq!(decant.get("/v2").await.status, 404);
    assert_eq!(decant.get(PHASE).await.json(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_guard_refuses_and_force_overrides() {
    let stage = Stage::start().await;
    let decant = stage.decant(Options::default()).await;
    decant.settled().await;
    stage.redis.client().req("SET", &["only-in-redis", "42"]);
    let mut asked = json!({ "to": "redis-standby", "reason": "r" });
    let refused = decant.put(&asked).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    let problem = refused.json();
    assert_eq!(
        (&problem["type"], &problem["record"]["phase"]),
        (&json!("urn:decant:problem:guard-failed"), &json!("kask-first"))
    );
    let failing: Vec<_> = problem["guards"].as_array().unwrap().iter().filter(|guard| guard["ok"] == false).collect();
    let names = |guards: &[&Value]| guards.iter().map(|guard| guard["name"].clone()).collect::<Vec<_>>();
    let unproven = ["backfill_finished", "verified", "still_in_kask"].map(|name| json!(name));
    assert_eq!(names(&failing), unproven, "{problem:#}");
    assert_eq!(failing[0]["figure"], "no backfill over every key has finished");
    assert!(failing[1]["needs"].as_str().unwrap().starts_with("a `decant verify` over every key"), "{problem:#}");
    asked["force"] = json!(true);
    asked["dry_run"] = json!(true);
    assert_eq!(decant.put(&asked).await.json()["record"]["forced"], true);
    asked["dry_run"] = json!(false);
    assert_eq!(decant.put(&asked).await.status, 200);
    let record = decant.settled().await;
    assert_eq!(record["forced"], true);
    let overridden: Vec<_> = record["guards"].as_array().unwrap().iter().filter(|guard| guard["ok"] == false).collect();
    assert_eq!(names(&overridden), unproven, "{record:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_move_is_under_way_there_is_no_other() {
    let stage = Stage::start().await;
    // Nobody looks at the outbox: the first start never settles.
    let decant = stage.decant(Options { looks: false, ..Options::default() }).await;
    decant.until("/readyz", |ready| ready["ready"] == true).await;
    let refused = decant.put(&json!({ "to": "dual-write", "reason": "r" })).await;
    assert_eq!((refused.status, &refused.json()["type"]), (409, &json!("urn:decant:problem:move-under-way")));
    assert_eq!(refused.json()["record"]["state"], "moving");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_decant_adopts_the_fence_cannot_move_and_learns() {
    let stage = Stage::start().await;
    let first = stage.decant(Options::default()).await;
    first.settled().await;
    // Its config says something else: the fence wins.
    let second = stage.decant(Options { member: "second", phase: Phase::DualWrite, ..Options::default() }).await;
    let adopted = second.settled().await;
    assert_eq!(
        (&adopted["phase"], &adopted["member"], &adopted["own"]),
        (&json!("kask-first"), &json!("first"), &json!(false))
    );
    let refused = second.put(&json!({ "to": "redis-standby", "reason": "r", "force": true })).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    let problem = refused.json();
    assert_eq!(problem["type"], "urn:decant:problem:not-owner");
    assert_eq!((&problem["member"], &problem["owner"]), (&json!("second"), &json!("first")));
    assert_eq!(first.put(&json!({ "to": "redis-standby", "reason": "r", "force": true })).await.status, 200);
    let learned = second.until(PHASE, |phase| phase["version"] == 2).await.json();
    assert_eq!((&learned["phase"], &learned["by"]), (&json!("redis-standby"), &json!("first")));
    first.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_does_not_wait_for_a_move_that_is_being_weighed() {
    let stage = Stage::start().await;
    let decant = stage.decant(Options::default()).await;
    decant.settled().await;
    // The guards now wait a second for Redis.
    stage.redis.sigstop();
    let asked = json!({ "to": "redis-standby", "reason": "r" });
    let mut moving = std::pin::pin!(decant.put(&asked));
    let mut answered = 0;
    let refused = loop {
        tokio::select! {
            refused = &mut moving => break refused,
            status = decant.get("/v1/status") => {
                assert_eq!(status.status, 200);
                answered += 1;
            }
        }
    };
    stage.redis.sigcont();
    assert!(answered >= 5, "only {answered} answers meanwhile");
    assert_eq!((refused.status, &refused.json()["guards"][0]["ok"]), (409, &json!(false)), "{}", refused.text);
}
