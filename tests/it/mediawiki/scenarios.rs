//! What MediaWiki must find through decant, whatever stands behind it. Each scenario blocks its thread (in a tokio test,
//! call it with `spawn_blocking`), makes keys of its own, and tells precisely what was otherwise than it should be.

use super::driver::{Php, shown};
use super::stage::{Scene, Stage, same};

/// What RedisBagOStuff wrote is read by RESTBagOStuff: values of every PHP type, twice (before and after a repair), and
/// the body is, to the byte, the one that RESTBagOStuff would have written.
///
/// Needs a phase that reads Redis: `redis-only`, `dual-write`, `kask-first`.
pub fn redis_values_are_read_through_rest(stage: &Stage) -> Result<(), String> {
    let mut scene = Scene::set(stage)?;
    for (name, value) in scene.carried_values()? {
        let key = scene.key(&[b"from-redis", name.as_bytes()])?;
        let (body, expected) = scene.envelope(&value)?;
        scene.write_redis(&key, &value)?;
        for round in ["first", "second"] {
            let what = format!("{name}, {round} read");
            scene.expect_read(&key, &expected, &what)?;
            scene.expect_raw(&key, &body, &what)?;
        }
        if scene.stage.kask_url.is_some() {
            scene.eventually(|scene| holds(scene.kask_bytes(&key)?, &body, &format!("{name}: Kask after a repair")))?;
        }
    }
    let missing = scene.key(&[b"from-redis", b"never written"])?;
    scene.expect_read(&missing, &Php::miss(), "a key that no tier has")
}

/// What RESTBagOStuff wrote is read by RedisBagOStuff, so that a roll-back works: values of every PHP type, and Redis
/// holds, to the byte, what RedisBagOStuff would have written (an int as its digits, so that INCR works).
///
/// Needs a phase that writes Redis: `redis-only`, `dual-write`, `kask-first`, or `redis-standby` with a clean mirror.
pub fn rest_values_are_read_by_redis(stage: &Stage) -> Result<(), String> {
    let mut scene = Scene::set(stage)?;
    for (name, value) in scene.carried_values()? {
        let key = scene.key(&[b"from-rest", name.as_bytes()])?;
        let (body, expected) = scene.envelope(&value)?;
        scene.write(&key, &value)?;
        let bytes = scene.redis.encode(&mut scene.mw, &expected)?;
        // PHP writes -0.0 into JSON as -0 and reads that back as the int 0: keeping the float is as good.
        let kept = scene.redis.encode(&mut scene.mw, &value)?;
        let is_negative_zero = value.0 == b"d:-0;";
        scene.eventually(|scene| match scene.redis_bytes(&key)? {
            Some(held) if is_negative_zero && held == kept => Ok(()),
            held => holds(held, &bytes, &format!("{name}: Redis")),
        })?;
        if !is_negative_zero {
            let read = scene.read_redis(&key)?;
            same(&read, &expected, &format!("{name}: get by RedisBagOStuff"), &key)?;
        }
        scene.expect_read(&key, &expected, &name)?;
        scene.expect_raw(&key, &body, &name)?;
    }
    Ok(())
}

/// A delete through decant takes the value out of both tiers, and it stays out: one written through decant, one that only
/// Redis had, one that was read (and so repaired) before. A key that nobody has can be deleted too.
///
/// Needs a phase that reads and writes Redis: `redis-only`, `dual-write`, `kask-first`.
pub fn delete_deletes_both(stage: &Stage) -> Result<(), String> {
    let mut scene = Scene::set(stage)?;
    let value = Php::string("20191018142328");

    let written = scene.key(&[b"deleted", b"written"])?;
    scene.write(&written, &value)?;
    scene.expect_read(&written, &value, "before the delete")?;

    let only_redis = scene.key(&[b"deleted", b"only-redis"])?;
    scene.write_redis(&only_redis, &value)?;

    let repaired = scene.key(&[b"deleted", b"repaired"])?;
    scene.write_redis(&repaired, &value)?;
    scene.expect_read(&repaired, &value, "before the delete")?;

    let absent = scene.key(&[b"deleted", b"absent"])?;
    for key in [written, only_redis, repaired, absent] {
        scene.remove(&key)?;
        for round in ["at once", "again"] {
            scene.expect_read(&key, &Php::miss(), &format!("after the delete, {round}"))?;
        }
        let status = scene.raw(&key)?.status;
        if status != 404 {
            return Err(format!("GET of {} after the delete: {status}; expected 404", shown(&key)));
        }
        if let Some(left) = scene.redis_bytes(&key)? {
            return Err(format!("Redis still holds {} after the delete of {}", shown(&left), shown(&key)));
        }
        scene.eventually(|scene| match scene.kask_bytes(&key)? {
            None => Ok(()),
            Some(left) => Err(format!("Kask still holds {} after the delete of {}", shown(&left), shown(&key))),
        })?;
        scene.write(&key, &Php::int(7))?;
        scene.expect_read(&key, &Php::int(7), "written again after the delete")?;
        same(&scene.read_redis(&key)?, &Php::int(7), "Redis, written again after the delete", &key)?;
    }
    Ok(())
}

/// JSON cannot carry objects, invalid UTF-8, INF, NAN, references, or what is nested deeper than 512: such a value in Redis
/// reads as a plain miss (404, no error, nothing logged), is counted, stays in Redis as it was and is never copied.
///
/// Needs `serialization = "json"` and a phase that reads Redis: `redis-only`, `dual-write`, `kask-first`.
pub fn json_refuses_objects_as_a_miss(stage: &Stage) -> Result<(), String> {
    if !stage.is_json() {
        return Err(format!("this scenario is about JSON; the stage is {}", stage.serialization));
    }
    let mut scene = Scene::set(stage)?;
    let mut values = scene.mw.values("hard")?;
    values.extend(scene.mw.values("deep")?);
    for (name, value) in values {
        let key = scene.key(&[b"refused", name.as_bytes()])?;
        scene.write_redis(&key, &value)?;
        let before = scene.redis_bytes(&key)?;
        let counted = scene.untranscodable()?;

        scene.expect_read(&key, &Php::miss(), &name)?;
        let raw = scene.raw(&key)?;
        if raw.status != 404 {
            return Err(format!("{name}: GET answered {} with {}; expected 404", raw.status, shown(&raw.body)));
        }
        let now_counted = scene.untranscodable()?;
        if now_counted.zip(counted).is_some_and(|(now, before)| now < before + 1.0) {
            return Err(format!("{name}: decant_untranscodable_total stood at {counted:?} and is {now_counted:?}"));
        }
        if scene.redis_bytes(&key)? != before {
            return Err(format!("{name}: Redis no longer holds what it held"));
        }
        if let Some(copied) = scene.kask_bytes(&key)? {
            return Err(format!("{name}: was copied to Kask as {}", shown(&copied)));
        }
        // The key is not stuck: what JSON carries can be written over it.
        scene.write(&key, &Php::int(1))?;
        scene.expect_read(&key, &Php::int(1), &format!("{name}, written over"))?;
    }
    Ok(())
}

/// A thousand random values under random keys (colon, percent, space, plus, UTF-8), one half written by RedisBagOStuff
/// and one half by RESTBagOStuff: both stores read the same value, and the body, which is MediaWiki's compare-and-set
/// token, is the same to the byte whichever tier serves it. The seed is printed.
///
/// Needs a phase that reads and writes Redis: `redis-only`, `dual-write`, `kask-first` (there, with the stage's
/// `kask_url`, each body is also read from the other tier alone).
pub fn thousand_random_round_trips(stage: &Stage, seed: u32) -> Result<(), String> {
    eprintln!("thousand_random_round_trips: seed {seed}");
    let mut scene = Scene::set(stage)?;
    let hard = !scene.stage.is_json();
    for (index, (components, value)) in scene.mw.random(seed, 1000, hard)?.into_iter().enumerate() {
        let number = index.to_string();
        let mut all: Vec<&[u8]> = components.iter().map(Vec::as_slice).collect();
        all.push(number.as_bytes());
        let key = scene.key(&all)?;
        round_trip(&mut scene, &key, &value, index % 2 == 0).map_err(|e| format!("seed {seed}, item {index}: {e}"))?;
    }
    Ok(())
}

fn round_trip(scene: &mut Scene, key: &[u8], value: &Php, from_redis: bool) -> Result<(), String> {
    let (body, expected) = scene.envelope(value)?;
    // What RedisBagOStuff reads is the value as it was written: JSON stands between only where it came through decant.
    let in_redis = if from_redis { value } else { &expected };
    if from_redis {
        scene.write_redis(key, value)?;
    } else {
        scene.write(key, value)?;
    }
    scene.expect_read(key, &expected, "random value")?;
    scene.expect_raw(key, &body, "random value")?;
    same(&scene.read_redis(key)?, in_redis, "random value: get by RedisBagOStuff", key)?;
    scene.expect_literal_plus(key, &body)?;

    if scene.stage.kask_url.is_some() {
        scene.eventually(|scene| holds(scene.kask_bytes(key)?, &body, "random value: Kask"))?;
        scene.expect_raw(key, &body, "random value, from Kask")?;
        scene.forget_in_kask(key)?;
        scene.expect_raw(key, &body, "random value, from Redis")?;
    }
    Ok(())
}

fn holds(held: Option<Vec<u8>>, expected: &[u8], what: &str) -> Result<(), String> {
    match held {
        Some(held) if held == expected => Ok(()),
        Some(held) => Err(format!("{what} holds {}; expected {}", shown(&held), shown(expected))),
        None => Err(format!("{what} holds nothing; expected {}", shown(expected))),
    }
}
