//! The operations that MediaWiki builds from get, set and delete over REST: add, incr, merge, and the batches.

use super::driver::Php;
use super::stage::{Scene, Stage, clean, same};

/// add, incr, decr, incrWithInit, merge (also with another writer in between) and getMulti, setMulti, deleteMulti do
/// through decant what they do over Kask, on values that only Redis has as well.
///
/// Needs a phase that reads and writes Redis: `redis-only`, `dual-write`, `kask-first`.
pub fn add_incr_merge_getmulti(stage: &Stage) -> Result<(), String> {
    let mut scene = Scene::set(stage)?;
    add(&mut scene)?;
    count(&mut scene)?;
    merge(&mut scene)?;
    batches(&mut scene)
}

fn add(scene: &mut Scene) -> Result<(), String> {
    let (yes, no) = (Php::bool(true), Php::bool(false));
    let new = scene.key(&[b"add", b"new"])?;
    for (expected, value) in [(&yes, Php::int(1)), (&no, Php::int(2))] {
        let done = clean(scene.rest.add(&mut scene.mw, &new, &value)?, "add", &new)?;
        same(&done, expected, "add", &new)?;
    }
    scene.expect_read(&new, &Php::int(1), "after two adds")?;
    same(&scene.read_redis(&new)?, &Php::int(1), "Redis after two adds", &new)?;

    let old = scene.key(&[b"add", b"only-redis"])?;
    scene.write_redis(&old, &Php::string("old"))?;
    let done = clean(scene.rest.add(&mut scene.mw, &old, &Php::string("new"))?, "add", &old)?;
    same(&done, &no, "add over a value that only Redis has", &old)?;
    scene.expect_read(&old, &Php::string("old"), "after a refused add")
}

fn count(scene: &mut Scene) -> Result<(), String> {
    let counter = scene.key(&[b"count", b"only-redis"])?;
    scene.write_redis(&counter, &Php::int(41))?;
    let counted = clean(scene.rest.incr(&mut scene.mw, &counter, 1)?, "incr", &counter)?;
    same(&counted, &Php::int(42), "incr of a counter that only Redis has", &counter)?;
    let counted = clean(scene.rest.decr(&mut scene.mw, &counter, 2)?, "decr", &counter)?;
    same(&counted, &Php::int(40), "decr", &counter)?;
    same(&scene.read_redis(&counter)?, &Php::int(40), "Redis after decr", &counter)?;

    let absent = scene.key(&[b"count", b"absent"])?;
    let counted = clean(scene.rest.incr(&mut scene.mw, &absent, 1)?, "incr", &absent)?;
    same(&counted, &Php::miss(), "incr of nothing", &absent)?;
    for expected in [10, 13] {
        let counted = clean(scene.rest.incr_with_init(&mut scene.mw, &absent, 3, 10)?, "incrWithInit", &absent)?;
        same(&counted, &Php::int(expected), "incrWithInit", &absent)?;
    }
    // After a roll-back Redis counts on by itself: the value must be digits there.
    let counted = clean(scene.redis.incr(&mut scene.mw, &absent, 1)?, "Redis's INCR", &absent)?;
    same(&counted, &Php::int(14), "Redis's INCR of what came through decant", &absent)
}

fn merge(scene: &mut Scene) -> Result<(), String> {
    let (one, two, three) = (Php::string("one"), Php::string("two"), Php::string("three"));
    let key = scene.key(&[b"merge", b"only-redis"])?;
    scene.write_redis(&key, &Php::list(std::slice::from_ref(&one)))?;
    merge_once(scene, &key, &two, &[Php::list(std::slice::from_ref(&one))])?;
    scene.expect_read(&key, &Php::list(&[one.clone(), two.clone()]), "after a merge")?;
    merge_once(scene, &key, &three, &[Php::list(&[one.clone(), two.clone()])])?;
    same(&scene.read_redis(&key)?, &Php::list(&[one.clone(), two.clone(), three.clone()]), "Redis after merges", &key)?;

    let new = scene.key(&[b"merge", b"new"])?;
    merge_once(scene, &new, &one, &[Php::miss()])?;
    scene.expect_read(&new, &Php::list(std::slice::from_ref(&one)), "after a merge into nothing")?;

    // Another writer between the read and the write: the token no longer matches, the second attempt sees the other's value.
    let raced = scene.key(&[b"merge", b"raced"])?;
    let (mine, theirs) = (Php::list(std::slice::from_ref(&one)), Php::list(std::slice::from_ref(&two)));
    scene.write(&raced, &mine)?;
    let (reply, seen) = scene.rest.merge(&mut scene.mw, &raced, &three, Some(&theirs))?;
    same(&reply.value, &Php::bool(true), "a merge that raced", &raced)?;
    if reply.error != 0 || seen != [mine, theirs] {
        return Err(format!("a merge that raced saw {seen:?}, getLastError() is {}", reply.error));
    }
    scene.expect_read(&raced, &Php::list(&[two, three]), "after a merge that raced")?;
    for key in [key, raced] {
        let lock = [key.as_slice(), b":lock"].concat();
        scene.expect_read(&lock, &Php::miss(), "the lock of a finished merge")?;
    }
    Ok(())
}

fn merge_once(scene: &mut Scene, key: &[u8], value: &Php, expected_seen: &[Php]) -> Result<(), String> {
    let (reply, seen) = scene.rest.merge(&mut scene.mw, key, value, None)?;
    same(&clean(reply, "merge", key)?, &Php::bool(true), "merge", key)?;
    if seen == expected_seen { Ok(()) } else { Err(format!("merge saw {seen:?}; expected {expected_seen:?}")) }
}

fn batches(scene: &mut Scene) -> Result<(), String> {
    let mut keys = Vec::new();
    for name in [&b"a:b"[..], b"c%d", b"e f", b"g+h", "i\u{e9}".as_bytes(), b"absent", b"only-redis"] {
        keys.push(scene.key(&[b"batch", name])?);
    }
    let (absent, only_redis) = (keys[5].clone(), keys[6].clone());
    let written: Vec<_> = keys[..5].iter().zip(0..).map(|(key, n)| (key.as_slice(), Php::int(n))).collect();
    let done = clean(scene.rest.set_multi(&mut scene.mw, &written)?, "setMulti", b"of five keys")?;
    same(&done, &Php::bool(true), "setMulti", b"of five keys")?;
    scene.write_redis(&only_redis, &Php::string("from Redis"))?;

    let asked: Vec<_> = keys.iter().map(Vec::as_slice).collect();
    let mut expected: Vec<_> = written.iter().map(|(key, value)| (key.to_vec(), value.clone())).collect();
    expected.push((only_redis, Php::string("from Redis")));
    let got = scene.rest.get_multi(&mut scene.mw, &asked)?;
    if got != expected {
        return Err(format!("getMulti: {got:?}; expected {expected:?}, and nothing for {absent:?}"));
    }
    let in_redis = scene.redis.get_multi(&mut scene.mw, &asked)?;
    if in_redis != expected {
        return Err(format!("getMulti by RedisBagOStuff: {in_redis:?}; expected {expected:?}"));
    }
    let done = clean(scene.rest.delete_multi(&mut scene.mw, &asked)?, "deleteMulti", b"of seven keys")?;
    same(&done, &Php::bool(true), "deleteMulti", b"of seven keys")?;
    let left = (scene.rest.get_multi(&mut scene.mw, &asked)?, scene.redis.get_multi(&mut scene.mw, &asked)?);
    if left.0.is_empty() && left.1.is_empty() {
        Ok(())
    } else {
        Err(format!("after deleteMulti there is still {left:?}"))
    }
}
