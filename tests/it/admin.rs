//! The admin listener over real sockets: a real Redis, an embedded Kask, a stash and its mover as decant builds them.

mod cli;
mod moves;
mod stage;

use decant::codec::key::Key;
use serde_json::json;
use stage::{Options, Request as _, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_without_a_token() {
    let stage = Stage::start().await;
    let decant = stage.decant(Options::default()).await;
    decant.settled().await;
    let health = decant.get("/healthz").await;
    assert_eq!((health.status, health.json()["version"].clone()), (200, json!(env!("CARGO_PKG_VERSION"))));
    let ready = decant.get("/readyz").await;
    assert_eq!(
        (ready.status, ready.json()),
        (
            200,
            json!({ "ready": true, "stashes": [{ "name": "echoseen", "ready": true, "why": null, "shards_down": [], "kask_down": null }] })
        )
    );
    let metrics = decant.get("/metrics").await;
    assert_eq!((metrics.status, metrics.text.as_str()), (200, "decant_test 1\n"));
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let openapi = decant.get("/openapi").await;
    assert!(openapi.status == 200 && openapi.text.starts_with("openapi: 3."), "{}", openapi.text);
    let console = decant.get("/").await;
    assert_eq!((console.status, console.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = console.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; ") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(console.header("referrer-policy"), "no-referrer");
    assert!(!console.text.contains("echoseen"), "the page itself tells nothing: {}", console.text);
    let script = decant.get("/console/console.js").await;
    assert_eq!((script.status, script.header("content-type")), (200, "text/javascript; charset=utf-8"));
    let head = decant.send(decant.request("HEAD", "/healthz")).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    for page in ["/healthz", "/", "/v1/status", "/nothing"] {
        let answer = decant.get(page).await;
        assert_eq!((answer.header("x-content-type-options"), answer.header("cache-control")), ("nosniff", "no-store"));
        assert_eq!(answer.header("access-control-allow-origin"), "", "no CORS");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_phase_shards_and_reads() {
    let stage = Stage::start().await;
    let decant = stage.decant(Options::default()).await;
    decant.settled().await;
    stage.redis.client().req("SET", &["seen", "42"]);
    let _ = decant.read("seen").await;
    let _ = decant.read("never").await;
    let status = decant.get("/v1/status").await.json();
    assert_eq!((&status["member"], &status["ready"]), (&json!("first"), &json!(true)));
    let stash = &status["stashes"][0];
    for (name, expected) in [
        ("name", json!("echoseen")),
        ("phase", json!("kask-first")),
        ("version", json!(1)),
        ("state", json!("settled")),
        ("by", json!("decant")),
        ("reason", json!("first start")),
        ("forced", json!(false)),
        ("member", json!("first")),
        ("own", json!(true)),
        ("confirmed", json!(true)),
        ("replication", json!("sync")),
        ("redis_in_use", json!(true)),
        ("reads", json!({ "kask": 0, "redis": 1, "none": 1 })),
    ] {
        assert_eq!(stash[name], expected, "{name} in {status:#}");
    }
    let minute = &stash["traffic"]["minute"];
    for (name, expected) in [("kask", 0), ("redis", 1), ("none", 1), ("fallbacks", 1), ("kask_errors", 0)] {
        assert_eq!(minute[name], expected, "{name} in {status:#}");
    }
    assert!(minute["over_ms"].as_u64().is_some_and(|ms| ms < 60_000), "no longer than decant has run: {minute}");
    let traffic = decant.get("/v1/stashes/echoseen/traffic").await.json();
    assert_eq!((&traffic["hour"]["redis"], &traffic["slots"][0]["redis"]), (&json!(1), &json!(1)), "{traffic:#}");
    let shard = &stash["shards"][0];
    let address = format!("127.0.0.1:{}/0", stage.redis.port);
    assert_eq!((&shard["name"], &shard["address"], &shard["up"]), (&json!("main"), &json!(address), &json!(true)));
    assert_eq!((&shard["fence_version"], &shard["damaged"]), (&json!(1), &json!(0)));
    assert!(shard["seen_ms_ago"].as_u64().unwrap() < 5_000, "{shard}");
    assert_eq!(decant.get("/v1/stashes/echoseen").await.json()["phase"], "kask-first");
    let phase = decant.get("/v1/stashes/echoseen/phase").await.json();
    assert_eq!(
        (&phase["stash"], &phase["phase"], &phase["own"]),
        (&json!("echoseen"), &json!("kask-first"), &json!(true))
    );
    assert!(phase["since"].as_str().unwrap().ends_with('Z'), "{phase}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_opens_v1_and_nothing_less_does() {
    let stage = Stage::start().await;
    let decant = stage.decant(Options { token: Some("correct-horse-battery"), ..Options::default() }).await;
    decant.has_settled().await;
    let body = json!({ "to": "redis-standby", "reason": "r", "dry_run": true });
    for sent in [None, Some("Bearer correct-horse-batter"), Some("Basic correct-horse-battery"), Some("Bearer ")] {
        for path in
            ["/v1/status", "/v1/stashes/echoseen", "/v1/stashes/other", "/v1/none", "/v1/stashes/echoseen/keys/a"]
        {
            let answer = decant.get_with(path, sent).await;
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer realm=\"decant\""), "{path}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
        assert_eq!(decant.put_with(&body, sent).await.status, 401);
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(decant.get_with(path, sent).await.status, 200, "{path}");
        }
    }
    let body = json!({ "to": "dual-write", "reason": "r", "dry_run": true });
    let right = Some("Bearer correct-horse-battery");
    assert_eq!(decant.get_with("/v1/status", right).await.status, 200);
    assert_eq!(decant.put_with(&body, right).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_a_page_of_another_name_is_kept_out() {
    let stage = Stage::start().await;
    let decant = stage.decant(Options::default()).await;
    assert_eq!(decant.get_as_host("/v1/status", "rebound.example:9081").await.status, 403);
    assert_eq!(decant.get_as_host("/healthz", "rebound.example:9081").await.status, 200);
    assert_eq!(decant.get_as_host("/v1/status", "localhost:9081").await.status, 200);
}

/// What a browser adds by itself, and no page can change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_another_origin_can_neither_read_nor_move() {
    let stage = Stage::start().await;
    let decant = stage.decant(Options::default()).await;
    decant.settled().await;
    let body = json!({ "to": "redis-standby", "reason": "r", "force": true });
    let own = decant.url.clone();
    for (name, value, status) in [
        ("sec-fetch-site", "cross-site", 403),
        ("sec-fetch-site", "same-site", 403),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://127.0.0.1:1", 403),
        ("sec-fetch-site", "same-origin", 200),
        ("origin", own.as_str(), 200),
    ] {
        let read = decant.send(decant.request("GET", "/v1/status").header(name, value)).await;
        assert_eq!(read.status, status, "{name}: {value}: {}", read.text);
        if status != 200 {
            let moved = decant.request("PUT", "/v1/stashes/echoseen/phase").json(&body).header(name, value);
            let moved = decant.send(moved).await;
            assert_eq!((moved.status, &moved.json()["type"]), (403, &json!("urn:decant:problem:origin")));
            let dropped = decant.request("DELETE", "/v1/stashes/echoseen/damaged/00").header(name, value);
            assert_eq!(decant.send(dropped).await.status, 403);
        }
        assert_eq!(decant.send(decant.request("GET", "/").header(name, value)).await.status, 200, "the page is a link");
    }
    assert_eq!(decant.get("/v1/stashes/echoseen/phase").await.json()["version"], 1, "nobody has moved it");
}

/// However many look, a step is measured once in a while; a move is measured for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_step_is_told_with_its_guards() {
    let stage = Stage::start().await;
    let decant = stage.decant(Options::default()).await;
    decant.settled().await;
    let next = decant.get("/v1/stashes/echoseen/phase/next").await.json();
    assert_eq!(
        (&next["from"], &next["to"], &next["refused"]),
        (&json!("kask-first"), &json!("redis-standby"), &json!(null))
    );
    let failing = |next: &serde_json::Value| {
        let guards = next["guards"].as_array().unwrap();
        assert!(!guards.is_empty(), "{next:#}");
        guards.iter().filter(|guard| guard["ok"] == false).map(|guard| guard["name"].clone()).collect::<Vec<_>>()
    };
    assert!(failing(&next).contains(&json!("verified")), "{next:#}");
    // Were it measured for who asks, it would always be young.
    let again = "/v1/stashes/echoseen/phase/next?to=redis-standby";
    decant.until(again, |next| next["measured_ms_ago"].as_u64() >= Some(50)).await;
    let back = decant.get("/v1/stashes/echoseen/phase/next?to=dual-write").await.json();
    assert_eq!((&back["to"], failing(&back)), (&json!("dual-write"), vec![]));
    let far = decant.get("/v1/stashes/echoseen/phase/next?to=kask-only").await.json();
    assert!(far["refused"].as_str().unwrap().contains("does not lead to kask-only in one step"), "{far:#}");
    assert_eq!(decant.get("/v1/stashes/echoseen/phase/next?to=nonsense").await.status, 422);
    let some = decant.get("/v1/stashes/echoseen/phase/next?match=enwiki%3A%2A").await.json();
    assert_eq!((&some["to"], failing(&some)), (&next["to"], failing(&next)), "some keys take the step that all would");
    let none = decant.get("/v1/stashes/echoseen/phase/next?ahead=none").await.json();
    assert!(none["refused"].as_str().unwrap().contains("no key is ahead"), "{none:#}");
    assert_eq!(decant.get("/v1/stashes/echoseen/phase/next?share=1").await.status, 400);
    assert_eq!(decant.put(&json!({ "to": "dual-write", "reason": "r" })).await.status, 200);
    let settled = decant.settled().await;
    assert_eq!((&settled["phase"], &settled["version"]), (&json!("dual-write"), &json!(2)));
    let next = decant.get("/v1/stashes/echoseen/phase/next").await.json();
    assert_eq!(
        (&next["from"], &next["to"]),
        (&json!("dual-write"), &json!("kask-first")),
        "what was measured is forgotten"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unready_until_the_phase_is_confirmed_and_a_tier_that_is_away_changes_nothing_later() {
    let mut stage = Stage::start().await;
    stage.redis.kill();
    let decant = stage.decant(Options::default()).await;
    let ready = decant.until("/readyz", |ready| ready["stashes"][0]["shards_down"] != json!([])).await;
    assert_eq!(ready.status, 503);
    let stash = ready.json()["stashes"][0].clone();
    assert_eq!((&stash["ready"], &stash["shards_down"][0]["name"]), (&json!(false), &json!("main")));
    assert!(stash["why"].as_str().unwrap().contains("not confirmed yet"), "{stash}");
    let refused = decant.put(&json!({ "to": "dual-write", "reason": "r" })).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{}", refused.text);
    assert_eq!(decant.get("/v1/stashes/echoseen/phase").await.status, 503);
    let status = decant.get("/v1/status").await.json();
    assert_eq!((&status["ready"], &status["stashes"][0]["phase"]), (&json!(false), &json!(null)));
    stage.redis.restart();
    decant.settled().await;
    stage.redis.kill();
    let ready = decant.until("/readyz", |ready| ready["stashes"][0]["shards_down"] != json!([])).await;
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_shown_as_both_tiers_hold_it() {
    let stage = Stage::start().await;
    let decant = stage.decant(Options::default()).await;
    decant.settled().await;
    let key = "wiki:a b/é".replace('/', ":");
    decant.write(&key, "JSON..{\"a\":[1,true]}").await;
    // The write is answered when Kask has it; its intent goes a moment later.
    let page = format!("/v1/stashes/echoseen/keys/{}", Key::from_bytes(key.clone()).to_url());
    let seen = decant.until(&page, |seen| seen["record"].is_null()).await.json();
    assert_eq!((&seen["key"], &seen["comparison"]["result"]), (&json!(key), &json!("equal")), "{seen:#}");
    let value = &seen["redis"]["value"];
    assert_eq!(value["raw"], "a:1:{s:1:\"a\";a:2:{i:0;i:1;i:1;b:1;}}");
    assert_eq!((&value["decoded"], &seen["redis"]["kind"]), (&json!("{\"a\": [1, true]}"), &json!("string")));
    assert!(seen["redis"]["ttl_ms"].as_u64().is_some_and(|ms| ms <= 3_600_000), "{seen:#}");
    assert_eq!((&seen["kask"]["value"]["raw"], &seen["record"]), (&json!("JSON..{\"a\":[1,true]}"), &json!(null)));
    assert_eq!((&seen["shard"], &seen["remembered_delete"]), (&json!("main"), &json!(false)));
    assert_eq!((&seen["redis"]["written"]["by"], &seen["explanation"]), (&json!("ttl"), &json!(null)));
    let now = decant::stash::mover::unix_ms();
    assert!(now - seen["redis"]["written"]["unix_ms"].as_u64().unwrap() < 60_000, "{seen:#}");

    let mut redis = stage.redis.client();
    redis.req("SET", &["only", "O:8:\"stdClass\":0:{}"]);
    let only = decant.inspect("only").await;
    assert_eq!(only["comparison"]["result"], "only in Redis");
    assert!(only["comparison"]["why"].as_str().unwrap().contains("(object)"), "{only:#}");
    assert!(only["explanation"].as_str().unwrap().contains("it is never copied"), "{only:#}");
    redis.req("SET", &["echo", "s:14:\"20191018142328\";"]);
    let echo = decant.inspect("echo").await;
    assert_eq!(
        (&echo["redis"]["written"]["at"], &echo["redis"]["written"]["by"]),
        (&json!("2019-10-18T14:23:28.000Z"), &json!("value"))
    );
    assert!(echo["explanation"].as_str().unwrap().contains("nothing has copied it yet"), "{echo:#}");
    redis.req("RPUSH", &["list", "x"]);
    assert!(decant.inspect("list").await["comparison"]["why"].as_str().unwrap().contains("holds a list"));
    redis.req("SET", &[&key, "43"]);
    let different = decant.inspect(&key).await;
    assert_eq!(different["comparison"]["result"], "different");
    assert!(different["explanation"].as_str().unwrap().contains("past decant"), "{different:#}");
    // Kask's body was not written by RESTBagOStuff, but it would read the same from it.
    decant.write("spelled", "JSON..[1, 2]").await;
    let spelled = decant.until("/v1/stashes/echoseen/keys/spelled", |seen| seen["record"].is_null()).await.json();
    assert_eq!(
        (&spelled["comparison"]["result"], &spelled["kask"]["value"]["raw"]),
        (&json!("equal"), &json!("JSON..[1, 2]"))
    );
    assert!(spelled["comparison"]["why"].as_str().unwrap().contains("spelled differently"), "{spelled:#}");
    assert_eq!(decant.inspect("nowhere").await["comparison"]["result"], "in neither");
    // A delete that Kask has not seen yet, as its script leaves it.
    redis.req("HSET", &["decant|echoseen|record|gone", "direction", "kask", "generation", "9", "newest", "delete"]);
    redis.req("HSET", &["decant|echoseen|record|gone", "0000000000000000000000000000000b", "damaged 5"]);
    let told = "1700000000000 5 kask Kask refused: 400\ngone";
    redis.req("HSET", &["decant|echoseen|damaged", "0000000000000000000000000000000b", told]);
    let gone = decant.inspect("gone").await;
    assert_eq!((&gone["remembered_delete"], &gone["record"]["generation"]), (&json!(true), &json!(9)));
    assert_eq!(
        gone["record"]["intents"][0],
        json!({ "id": "0000000000000000000000000000000b", "age_ms": null, "tries": 5, "reason": "Kask refused: 400" })
    );
    redis.req("SET", &["a/b", "i:1;"]);
    let slash = decant.inspect("a/b").await;
    assert_eq!((&slash["comparison"]["result"], &slash["kask"]["error"]), (&json!("only in Redis"), &json!(null)));
    assert!(slash["explanation"].as_str().unwrap().contains("it stays behind"), "{slash:#}");
    for (key, status) in [("%FF", 200), ("%", 400), ("", 400)] {
        assert_eq!(decant.get(&format!("/v1/stashes/echoseen/keys/{key}")).await.status, status, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_intents_are_listed_and_their_keys_only_on_demand() {
    let stage = Stage::start().await;
    let decant = stage.decant(Options::default()).await;
    decant.settled().await;
    let told = "1700000000000 5 kask Kask refused: 400\nwiki:secret";
    stage.redis.client().req("HSET", &["decant|echoseen|damaged", "0000000000000000000000000000000a", told]);
    let outbox = decant.until("/v1/stashes/echoseen/outbox", |outbox| outbox["damaged"] == 1).await.json();
    let damaged = &outbox["shards"][0]["damaged_intents"][0];
    assert_eq!(
        *damaged,
        json!({ "id": "0000000000000000000000000000000a", "key_sha256": "b304a472d7348119", "since": "2023-11-14T22:13:20.000Z",
            "tries": 5, "direction": "kask", "reason": "Kask refused: 400" })
    );
    let open = decant.get("/v1/stashes/echoseen/outbox?keys=1").await.json();
    assert_eq!(open["shards"][0]["damaged_intents"][0]["key"], "wiki:secret");
    assert_eq!(decant.get("/v1/status").await.json()["stashes"][0]["shards"][0]["damaged"], 1);
}
