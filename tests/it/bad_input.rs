//! Bad input from both tiers, and the exact answer to each: odd bytes in Redis, and a Kask that lies.

use crate::{
    liar::{Act, Liar},
    redis_server::RedisServer,
    whole::{Kask, Setup, Whole, redis_holds, redis_set, wait_until},
};
use std::time::{Duration, Instant};

const NOT_FOUND: &str = "{\n  \"type\": \"https://www.mediawiki.org/wiki/Kask/errors/not_found\",\n  \"title\": \"Not found\",\n  \
                         \"detail\": \"The value you requested was not found\",\n  \"instance\": \"/echoseen/v1/k\"\n}\n";

/// What Redis holds that cannot be carried over: a miss with its own metric, never copied, never a wrong value.
#[test]
fn odd_bytes_in_redis_are_a_miss_with_a_metric_and_are_never_copied() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    let deep = format!("{}i:1;{}", "a:1:{i:0;".repeat(100_000), "}".repeat(100_000));
    let segmented = r#"O:8:"stdClass":2:{s:14:"__svc_schema__";s:11:"CAYCDAgCDw4";s:10:"__hashes__";a:0:{}}"#;
    for (value, reason) in [
        (&b"s:14:\"2019101814"[..], "truncated"),
        (b"a:1:{s:1:\"a\";", "truncated"),
        (deep.as_bytes(), "depth"),
        (b"O:8:\"stdClass\":1:{s:1:\"p\";i:1;}", "object"),
        (segmented.as_bytes(), "segmented"),
        (b"s:2:\"\xff\xfe\";", "invalid_utf8"),
        (b"\x00\x01igbinary", "not_php"),
    ] {
        redis_set(&redis, "k", value);
        let label = format!("reason=\"{reason}\"");
        let before = decant.metric("decant_untranscodable_total", &[&label]);
        let answer = decant.get("k");
        assert_eq!((answer.status(), answer.text().as_str()), (404, NOT_FOUND), "{reason}");
        let after = decant.metric("decant_untranscodable_total", &[&label]);
        assert!(
            after > before,
            "{reason}: {:?}",
            decant.metrics().keys().filter(|k| k.contains("untrans")).collect::<Vec<_>>()
        );
        decant.wait_drained(&redis);
        assert_eq!(kask.holds("k"), None, "{reason}");
        let held: Vec<u8> = redis::cmd("GET").arg("k").query(&mut redis.client()).unwrap();
        assert!(held == value, "{reason}: Redis is left as it was");
    }
}

/// No Kask could keep it, and decant would have to hold it whole.
#[test]
fn a_value_larger_than_any_kask_keeps_is_a_miss_and_is_not_read() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let largest = 16 * 1024 * 1024 + 64 * 1024;
    for phase in ["kask-first", "dual-write"] {
        let decant = Whole::start(&Setup::new(&redis, phase).with_kask(&kask));
        redis_set(&redis, "k", vec![b'x'; largest + 1]);
        assert_eq!((decant.get("k").status(), decant.get("k").text().as_str()), (404, NOT_FOUND));
        assert_eq!(decant.metric("decant_untranscodable_total", &["reason=\"too_large\""]), 2.0);
        assert_eq!(decant.set("k", "JSON..1").status(), 201);
        assert_eq!(decant.got("k"), (200, "JSON..1".into()));
        decant.wait_drained(&redis);
        drop(decant);
        redis::cmd("FLUSHALL").exec(&mut redis.client()).unwrap();
    }
}

#[test]
fn a_value_of_another_redis_type_is_a_miss_and_can_be_written_and_deleted() {
    let redis = RedisServer::start();
    for phase in ["redis-only", "dual-write", "kask-first"] {
        let decant = Whole::start(&Setup::new(&redis, phase));
        redis::cmd("RPUSH").arg("k").arg("a").exec(&mut redis.client()).unwrap();
        let answer = decant.get("k");
        assert_eq!((answer.status(), answer.text().as_str()), (404, NOT_FOUND), "{phase}");
        assert_eq!(decant.metric("decant_untranscodable_total", &["reason=\"redis_type\""]), 1.0, "{phase}");
        assert_eq!(decant.set("k", "JSON..1").status(), 201, "{phase}");
        assert_eq!(decant.got("k"), (200, "JSON..1".into()), "{phase}");
        decant.wait_drained(&redis);
        drop(decant);
        redis::cmd("FLUSHALL").exec(&mut redis.client()).unwrap();
    }
}

/// What a client posts is served back byte for byte, whatever it is; and Redis holds it so that it comes back the same.
#[test]
fn bodies_that_are_no_envelope_go_to_both_tiers() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    for body in
        ["KASK:V:INTEGRATION_TEST_VALUE", "JSON..{broken", "PHP..i:42;", "42", "s:1:\"v\";", "..", "decant-raw:x"]
    {
        assert_eq!(decant.set("k", body).status(), 201, "{body}");
        assert_eq!(decant.got("k"), (200, body.to_owned()), "{body}: from Redis");
        decant.wait_drained(&redis);
        assert_eq!(kask.holds("k").as_deref(), Some(body));
    }
    decant.set("k", "KASK:V:INTEGRATION_TEST_VALUE");
    assert_eq!(redis_holds(&redis, "k").as_deref(), Some("KASK:V:INTEGRATION_TEST_VALUE"));
}

#[test]
fn decants_own_names_are_no_keys() {
    let redis = RedisServer::start();
    let decant = Whole::start(&Setup::new(&redis, "kask-first"));
    let fence = redis_holds(&redis, "decant|echoseen|fence");
    for answer in [
        decant.get("decant%7Cechoseen%7Cfence"),
        decant.set("decant%7Cechoseen%7Cfence", "JSON..1"),
        decant.delete("decant%7Cechoseen%7Cfence"),
    ] {
        assert_eq!(answer.status(), 400);
    }
    assert_eq!(redis_holds(&redis, "decant|echoseen|fence"), fence);
}

/// A lie of Kask's as bytes.
fn lies() -> Vec<(&'static str, Act)> {
    let say = |text: &str| Act::SayAndClose(text.as_bytes().to_vec());
    vec![
        ("garbage", say("\x00\x01\x02 this is no HTTP\r\n\r\n")),
        (
            "half a body",
            say("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 100\r\n\r\nJSON.."),
        ),
        ("a redirect", say("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")),
        (
            "a 404 that is not Kask's",
            say("HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 19\r\n\r\n404 page not found\n"),
        ),
        ("no content", say("HTTP/1.1 204 No Content\r\n\r\n")),
        ("an error", say("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")),
        ("nothing, and closed", say("")),
        ("silence", Act::Silence),
    ]
}

/// An error is not a miss: Redis is asked; where it has no value either, the answer is 503, never 404, and nothing is copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_lying_kask_is_never_believed() {
    let redis = RedisServer::start();
    for (lie, act) in lies() {
        let kask = Liar::start(move |_| act.clone()).await;
        let url = format!("http://{}/echoseen/v1/", kask.address);
        let setup = Setup { kask_url: Some(url), kask_timeout_ms: 300, ..Setup::new(&redis, "kask-first") };
        tokio::task::block_in_place(|| {
            redis_set(&redis, "held", "s:1:\"v\";");
            let decant = Whole::start_unserved(&setup);
            wait_until("the phase is confirmed", || decant.get("held").status() == 200);
            let began = Instant::now();
            assert_eq!(decant.got("held"), (200, "JSON..\"v\"".into()), "{lie}: Redis has it");
            let unknown = decant.get("k");
            assert_eq!(
                (unknown.status(), unknown.header("retry-after")),
                (503, Some("1")),
                "{lie}: {}",
                unknown.text()
            );
            assert!(began.elapsed() < Duration::from_secs(10), "{lie}: {:?}", began.elapsed());
            if lie != "no content" {
                // To a POST or DELETE 204 is an answer that Kask gives, and not a lie.
                assert_eq!(decant.set("k", "JSON..1").status(), 201, "{lie}: Redis holds it, and it heals");
                assert_eq!(decant.got("k"), (200, "JSON..1".into()), "{lie}: pending, so Redis is asked first");
                assert_eq!(decant.delete("k").status(), 204, "{lie}");
                assert_eq!(decant.got("k").0, 404, "{lie}: the record remembers the delete");
            }
        });
        redis::cmd("FLUSHALL").exec(&mut redis.client()).unwrap();
    }
}

#[test]
fn with_on_tier_failure_fail_a_write_that_kask_refused_is_500_and_heals_all_the_same() {
    let redis = RedisServer::start();
    let mut kask = Kask::start();
    let setup =
        Setup { stash: "on_tier_failure = \"fail\"".into(), ..Setup::new(&redis, "kask-first").with_kask(&kask) };
    let decant = Whole::start(&setup);
    kask.kill_9();
    assert_eq!(decant.set("k", "JSON..1").status(), 500);
    assert_eq!(redis_holds(&redis, "k").as_deref(), Some("1"));
    kask.restart();
    decant.wait_drained(&redis);
    assert_eq!(kask.holds("k").as_deref(), Some("JSON..1"));
}
