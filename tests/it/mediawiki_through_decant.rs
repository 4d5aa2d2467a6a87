//! Real MediaWiki through the real decant, on a real Redis and the embedded Kask: every phase, JSON and PHP, signed and not.

use crate::{
    mediawiki::{
        Stage, add_incr_merge_getmulti, delete_deletes_both, json_refuses_objects_as_a_miss,
        redis_values_are_read_through_rest, rest_values_are_read_by_redis, thousand_random_round_trips,
    },
    redis_server::RedisServer,
    whole::{BASE, Kask, PATIENCE, Setup, Whole},
};

type Outcome = Result<(), String>;

/// A decant in `phase`, and MediaWiki's view of it.
fn stage(
    phase: &'static str,
    serialization: &'static str,
    hmac_key: Option<&str>,
) -> (RedisServer, Kask, Whole, Stage) {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let config = if serialization == "JSON" { "json" } else { "php" };
    let hmac_key = hmac_key.map(str::to_owned);
    let setup = Setup {
        serialization: config,
        hmac_key: hmac_key.clone(),
        // MediaWiki is shown every failure, and here none is wanted: a busy machine has as long as there is.
        redis: "timeout_ms = 800\n".into(),
        kask_timeout_ms: 700,
        lease_ms: 3_000,
        ..Setup::new(&redis, phase).with_kask(&kask)
    };
    let decant = Whole::start(&setup);
    let stage = Stage {
        rest_url: format!("http://{}{BASE}", decant.data),
        redis_addr: format!("127.0.0.1:{}", redis.port),
        serialization,
        hmac_key: hmac_key.map(String::into_bytes),
        kask_url: (phase == "kask-first").then(|| kask.url()),
        metrics_url: Some(format!("http://{}/metrics", decant.admin)),
        patience: PATIENCE,
    };
    (redis, kask, decant, stage)
}

/// Everything that holds while Redis is the sequencer.
fn while_redis_sequences(phase: &'static str, serialization: &'static str, hmac_key: Option<&str>) -> Outcome {
    let (_redis, _kask, _decant, stage) = stage(phase, serialization, hmac_key);
    let named = |name: &str, outcome: Outcome| outcome.map_err(|e| format!("{phase}, {serialization}: {name}: {e}"));
    named("redis_values_are_read_through_rest", redis_values_are_read_through_rest(&stage))?;
    named("rest_values_are_read_by_redis", rest_values_are_read_by_redis(&stage))?;
    named("delete_deletes_both", delete_deletes_both(&stage))?;
    named("add_incr_merge_getmulti", add_incr_merge_getmulti(&stage))?;
    if serialization == "JSON" {
        named("json_refuses_objects_as_a_miss", json_refuses_objects_as_a_miss(&stage))?;
    }
    Ok(())
}

#[test]
fn kask_first_json() -> Outcome {
    while_redis_sequences("kask-first", "JSON", None)
}

#[test]
fn kask_first_json_signed() -> Outcome {
    while_redis_sequences("kask-first", "JSON", Some("sekrit"))
}

#[test]
fn kask_first_php() -> Outcome {
    while_redis_sequences("kask-first", "PHP", None)
}

#[test]
fn kask_first_php_signed() -> Outcome {
    while_redis_sequences("kask-first", "PHP", Some("sekrit"))
}

#[test]
fn redis_only() -> Outcome {
    while_redis_sequences("redis-only", "JSON", None)?;
    while_redis_sequences("redis-only", "PHP", Some("sekrit"))
}

#[test]
fn dual_write() -> Outcome {
    while_redis_sequences("dual-write", "JSON", None)?;
    while_redis_sequences("dual-write", "PHP", Some("sekrit"))
}

#[test]
fn redis_standby_mirrors_so_that_a_roll_back_works() -> Outcome {
    for (serialization, hmac_key) in [("JSON", None), ("PHP", Some("sekrit"))] {
        let (_redis, _kask, _decant, stage) = stage("redis-standby", serialization, hmac_key);
        rest_values_are_read_by_redis(&stage).map_err(|e| format!("{serialization}: {e}"))?;
    }
    Ok(())
}

#[test]
fn a_thousand_random_values_and_keys() -> Outcome {
    for (serialization, hmac_key) in [("JSON", None), ("PHP", Some("sekrit"))] {
        let (_redis, _kask, _decant, stage) = stage("kask-first", serialization, hmac_key);
        thousand_random_round_trips(&stage, fastrand::u32(..)).map_err(|e| format!("{serialization}: {e}"))?;
    }
    Ok(())
}
