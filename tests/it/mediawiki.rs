//! Real MediaWiki as a client: Debian's mediawiki-classes in a PHP process, and what it must find through decant.
//!
//! A test starts its decant and calls the scenarios with a [`Stage`]. The tests in this file check the scenarios
//! themselves, against a stand-in that transcodes with MediaWiki's own classes: it passes them all, and each fault that
//! can be planted in it fails the scenario that is there to see it.

mod compound;
mod driver;
mod scenarios;
mod servers;
mod stage;

pub use compound::add_incr_merge_getmulti;
pub use driver::{MediaWiki, Php, Store};
pub use scenarios::{
    delete_deletes_both, json_refuses_objects_as_a_miss, redis_values_are_read_through_rest,
    rest_values_are_read_by_redis, thousand_random_round_trips,
};
pub use stage::{Stage, rawurlencode};

use servers::{Redis, Standin};
use std::time::Duration;

/// A stand-in over a fresh Redis.
fn standin(serialization: &'static str, hmac_key: &str, fault: &str) -> Result<(Redis, Standin, Stage), String> {
    let redis = Redis::start()?;
    let standin = Standin::start(&redis, serialization, hmac_key, fault)?;
    let stage = Stage {
        rest_url: standin.url("/echoseen/v1/"),
        redis_addr: redis.address(),
        serialization,
        hmac_key: (!hmac_key.is_empty()).then(|| hmac_key.as_bytes().to_vec()),
        kask_url: Some(standin.url("/kask/v1/")),
        metrics_url: Some(standin.url("/metrics")),
        patience: Duration::from_secs(10),
    };
    Ok((redis, standin, stage))
}

fn every_scenario(stage: &Stage) -> Result<(), String> {
    redis_values_are_read_through_rest(stage).map_err(|e| format!("redis_values_are_read_through_rest: {e}"))?;
    rest_values_are_read_by_redis(stage).map_err(|e| format!("rest_values_are_read_by_redis: {e}"))?;
    delete_deletes_both(stage).map_err(|e| format!("delete_deletes_both: {e}"))?;
    add_incr_merge_getmulti(stage).map_err(|e| format!("add_incr_merge_getmulti: {e}"))?;
    thousand_random_round_trips(stage, fastrand::u32(..)).map_err(|e| format!("thousand_random_round_trips: {e}"))
}

#[test]
fn the_scenarios_pass_where_mediawiki_transcodes_json() -> Result<(), String> {
    let (_redis, _standin, stage) = standin("JSON", "", "")?;
    every_scenario(&stage)?;
    json_refuses_objects_as_a_miss(&stage)
}

#[test]
fn the_scenarios_pass_where_mediawiki_transcodes_signed_json() -> Result<(), String> {
    let (_redis, _standin, stage) = standin("JSON", "sekrit", "")?;
    every_scenario(&stage)?;
    json_refuses_objects_as_a_miss(&stage)
}

#[test]
fn the_scenarios_pass_where_mediawiki_transcodes_php() -> Result<(), String> {
    let (_redis, _standin, stage) = standin("PHP", "", "")?;
    every_scenario(&stage)
}

#[test]
fn the_scenarios_pass_where_mediawiki_transcodes_signed_php() -> Result<(), String> {
    let (_redis, _standin, stage) = standin("PHP", "sekrit", "")?;
    every_scenario(&stage)
}

type Scenario = fn(&Stage) -> Result<(), String>;

#[test]
fn every_planted_fault_fails_the_scenario_that_is_there_for_it() -> Result<(), String> {
    let random: Scenario = |stage| thousand_random_round_trips(stage, 1);
    let faults: [(&str, &str, Scenario); 14] = [
        ("bytes copied", "JSON", redis_values_are_read_through_rest),
        ("bytes copied", "PHP", rest_values_are_read_by_redis),
        ("slashes bare", "JSON", redis_values_are_read_through_rest),
        ("types collapsed", "JSON", redis_values_are_read_through_rest),
        ("no repair", "JSON", redis_values_are_read_through_rest),
        ("redis not written", "JSON", rest_values_are_read_by_redis),
        ("ints not raw", "JSON", rest_values_are_read_by_redis),
        ("redis not deleted", "JSON", delete_deletes_both),
        ("kask not deleted", "JSON", delete_deletes_both),
        ("redis not written", "JSON", add_incr_merge_getmulti),
        ("plus is a space", "JSON", random),
        ("keys decoded twice", "PHP", random),
        ("objects into JSON", "JSON", json_refuses_objects_as_a_miss),
        ("no metric", "JSON", json_refuses_objects_as_a_miss),
    ];
    for (fault, serialization, scenario) in faults {
        let (_redis, _standin, mut stage) = standin(serialization, "", fault)?;
        stage.patience = Duration::from_millis(300);
        match scenario(&stage) {
            Ok(()) => return Err(format!("nobody saw the fault '{fault}' in {serialization}")),
            Err(seen) => println!("'{fault}' in {serialization} was seen: {seen}"),
        }
    }
    Ok(())
}

#[test]
fn a_foreign_hmac_is_seen() -> Result<(), String> {
    let (_redis, _standin, mut stage) = standin("JSON", "sekrit", "")?;
    stage.hmac_key = Some(b"another".to_vec());
    match redis_values_are_read_through_rest(&stage) {
        Ok(()) => Err("a body with another key's HMAC was read".to_owned()),
        Err(_) => Ok(()),
    }
}

/// The bytes that everything else rests on, once spelled out.
#[test]
fn mediawiki_writes_what_it_is_known_to_write() -> Result<(), String> {
    let mut mw = MediaWiki::start()?;
    let redis = mw.redis_store("/nowhere/redis.sock")?;
    let json = mw.rest_store("http://127.0.0.1:9/v1/", "JSON", None)?;
    let php = mw.rest_store("http://127.0.0.1:9/v1/", "PHP", Some(b"sekrit"))?;

    let (text, number) = (Php::string("20191018142328"), Php::int(42));
    let cafe = Php::string("caf\u{e9} / \u{1f600}");
    assert_eq!(redis.encode(&mut mw, &text)?, b"s:14:\"20191018142328\";");
    assert_eq!(redis.encode(&mut mw, &number)?, b"42");
    assert_eq!(json.encode(&mut mw, &text)?, b"JSON..\"20191018142328\"");
    assert_eq!(json.encode(&mut mw, &number)?, b"JSON..42");
    assert_eq!(json.encode(&mut mw, &cafe)?, br#"JSON.."caf\u00e9 \/ \ud83d\ude00""#);
    let signed = b"PHP.Jj6/rWdVlj6n1R1IYXGmYeRjr4TA+3nID/0oj5VIIVM=.s:14:\"20191018142328\";";
    assert_eq!(php.encode(&mut mw, &text)?, signed);
    assert_eq!(php.decode(&mut mw, signed)?, text);
    let components: [&[u8]; 3] = [b"a:b", b"c%d", b"e f"];
    assert_eq!(json.make_key(&mut mw, &components)?, b"enwiki:a%3Ab:c%25d:e f");
    assert_eq!(json.make_global_key(&mut mw, &components)?, b"global:a%3Ab:c%25d:e f");

    let unreachable = json.get(&mut mw, b"enwiki:x")?;
    assert_eq!((unreachable.value, unreachable.error), (Php::miss(), 2), "nobody listens there");
    assert!(unreachable.log.iter().any(|line| line.starts_with("error: Failed to fetch")), "{:?}", unreachable.log);
    Ok(())
}
