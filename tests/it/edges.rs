//! Where the real world is not what the protocol was simulated in: odd configs, state that was copied or lost, hostile keys, full disks.

use crate::{
    redis_server::RedisServer,
    support::ask,
    whole::{BASE, Kask, Setup, Whole, intents, redis_holds, redis_set, wait_until},
};
use serde_json::{Value, json};

/// The record of a decant that is not running, changed by hand.
fn rewrite_record(decant: &Whole, change: impl FnOnce(&mut Value)) {
    let path = decant.dir.path().join("state/echoseen.phase.json");
    let mut record = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    std::fs::write(&path, record.to_string()).unwrap();
}

fn member(decant: &Whole) -> String {
    std::fs::read_to_string(decant.dir.path().join("state/member")).unwrap().trim().to_owned()
}

fn lines_with(decant: &Whole, text: &str) -> usize {
    decant.log.lock().unwrap().iter().filter(|line| line.contains(text)).count()
}

#[test]
fn kask_only_works_without_any_redis() {
    let decant = Whole::start(&Setup::without_redis());
    assert_eq!(decant.set("k", "JSON..1").status(), 201);
    assert_eq!(decant.got("k"), (200, "JSON..1".into()));
    assert_eq!(decant.delete("k").status(), 204);
    assert_eq!(decant.got("k").0, 404);
    assert_eq!(decant.admin_get("/v1/stashes/echoseen/keys/k")["comparison"]["result"], "unknown");
    assert_eq!(decant.ask_move("redis-standby", json!({ "force": true })).0, 422);
}

/// A client that could write the fence could stop the stash, or move it.
#[test]
fn decants_own_names_are_no_clients_keys() {
    let redis = RedisServer::start();
    let decant = Whole::start(&Setup::new(&redis, "dual-write"));
    let fence = redis_holds(&redis, "decant|echoseen|fence");
    for method in ["POST", "DELETE", "GET"] {
        let body: &[u8] = if method == "POST" { b"JSON..1" } else { b"" };
        let raw = ask(decant.data, method, &format!("{BASE}decant%7Cechoseen%7Cfence"), body);
        assert_eq!(raw.status(), 400, "{method}: {}", raw.text());
        assert!(raw.text().contains("decant|"), "{}", raw.text());
    }
    assert_eq!(redis_holds(&redis, "decant|echoseen|fence"), fence);
    assert_eq!(decant.set("decant%3Afine", "JSON..1").status(), 201);
}

/// What its config says of the first phase must not let a decant write past the others.
#[test]
fn a_second_decant_configured_kask_only_follows_the_fence() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let first = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    let second = Whole::start(&Setup::new(&redis, "kask-only").with_kask(&kask));
    assert_eq!(second.phase()["phase"], "dual-write");
    assert_eq!(second.set("k", "JSON..1").status(), 201);
    assert_eq!(first.got("k"), (200, "JSON..1".into()));
}

/// Killed after its first record was durable and before it raised its fence, while another was faster.
#[test]
fn a_record_whose_fence_was_never_raised_gives_way_to_the_one_that_was() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let first = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    let mut second = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    second.kill_9();
    let own = member(&second);
    rewrite_record(&second, |record| {
        record["member"] = json!(own);
        record["phase"] = json!("dual-write");
        record["state"] = json!("moving");
    });
    second.restart();
    wait_until("the second follows the first", || second.phase()["phase"] == "kask-first");
    assert_eq!(second.phase()["member"], first.phase()["member"]);
    assert_eq!(second.set("k", "JSON..1").status(), 201);
    assert_eq!(second.ask_move("redis-standby", json!({})).0, 409, "it is not the owner");
}

/// `state_dir` copied to a second machine: two decants of one name, each with a move of its own to the same version.
#[test]
fn of_two_decants_with_one_name_the_fence_that_was_raised_first_wins() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let first = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    let mut second = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    second.kill_9();
    let name = member(&first);
    std::fs::write(second.dir.path().join("state/member"), &name).unwrap();
    rewrite_record(&second, |record| {
        record["member"] = json!(name);
        record["phase"] = json!("kask-only");
        record["state"] = json!("moving");
        record["version"] = json!(2);
    });
    first.copy_and_compare();
    first.move_to("redis-standby");
    second.restart();
    wait_until("the second follows the first", || second.phase()["phase"] == "redis-standby");
    assert_eq!(second.set("k", "JSON..1").status(), 201);
    first.wait_drained(&redis);
    assert_eq!(redis_holds(&redis, "k").as_deref(), Some("1"), "the mirror has it");
    assert!(lines_with(&second, "another move took this version") > 0);
}

/// It has not looked at the fence since the other moved: its own version must not be the other's once more.
#[test]
fn a_move_looks_at_the_fence_before_it_takes_a_version() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let first = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    let seldom = "look_every_ms = 1800\nlook_fresh_ms = 1900\nsettle_wait_ms = 2000\n".to_owned();
    let mut second = Whole::start(&Setup { outbox: seldom, ..Setup::new(&redis, "dual-write").with_kask(&kask) });
    second.kill_9();
    for file in ["member", "echoseen.phase.json"] {
        std::fs::copy(first.dir.path().join("state").join(file), second.dir.path().join("state").join(file)).unwrap();
    }
    second.restart();
    let shard = || second.admin_get("/v1/status")["stashes"][0]["shards"][0].clone();
    wait_until("it has just looked", || shard()["fence_version"] == 1 && shard()["seen_ms_ago"].as_u64() < Some(300));
    first.begin_move("kask-first", json!({}));
    wait_until("the fence", || redis_holds(&redis, "decant|echoseen|fence").unwrap().contains(" 2 kask-first "));
    let (status, told) = second.ask_move("redis-only", json!({}));
    assert_eq!(status, 409, "{told:#}");
    assert!(
        told["detail"].as_str().unwrap().contains("a newer move stands on the shards: kask-first (version 2"),
        "{told:#}"
    );
}

/// The record was restored from a backup: its next version has been used already.
#[test]
fn a_version_that_the_fence_has_seen_is_not_used_again() {
    let redis = RedisServer::start();
    let mut decant = Whole::start(&Setup::new(&redis, "dual-write"));
    let backup = std::fs::read(decant.dir.path().join("state/echoseen.phase.json")).unwrap();
    decant.move_to("kask-first");
    decant.copy_and_compare();
    decant.move_to("redis-standby");
    decant.kill_9();
    std::fs::write(decant.dir.path().join("state/echoseen.phase.json"), backup).unwrap();
    decant.restart();
    wait_until("it has learned", || decant.phase()["version"] == 3);
    decant.wait_settled("redis-standby");
    decant.move_to("kask-only");
    assert_eq!(decant.phase()["version"], 4);
}

/// What a lost record would have said of the tiers is not known; what may have been let go by counts as let go by.
#[test]
fn a_restored_backup_does_not_make_a_stale_kask_fresh() {
    let redis = RedisServer::start();
    let mut decant = Whole::start(&Setup::new(&redis, "dual-write"));
    let path = decant.dir.path().join("state/echoseen.phase.json");
    let backup = std::fs::read(&path).unwrap();
    decant.move_to("redis-only");
    for lost in [false, true] {
        decant.kill_9();
        if lost {
            std::fs::remove_file(&path).unwrap()
        } else {
            std::fs::write(&path, &backup).unwrap()
        }
        decant.restart();
        wait_until("it has learned", || decant.phase()["version"] == 2);
        decant.wait_settled("redis-only");
        let (status, told) = decant.ask_move("dual-write", json!({}));
        assert_eq!(status, 409, "lost: {lost}: {told:#}");
        assert!(told.to_string().contains("writes have gone past Kask"), "{told:#}");
    }
}

#[test]
fn what_was_learned_from_the_fence_is_recorded_as_soon_as_the_disk_allows() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let first = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    let second = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    // What cannot be replaced stands in for a full disk.
    let path = second.dir.path().join("state/echoseen.phase.json");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    first.move_to("kask-first");
    assert_eq!(second.set("k", "JSON..1").status(), 201, "it serves the phase in force all the same");
    wait_until("it says so", || lines_with(&second, "the phase record is not up to date") > 0);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(lines_with(&second, "the phase record is not up to date"), 1, "and once is enough");
    std::fs::remove_dir(&path).unwrap();
    wait_until("the record is up to date", || second.phase()["phase"] == "kask-first");
    assert!(path.is_file());
    let history = second.admin_get("/v1/stashes/echoseen/phase/history");
    let versions: Vec<_> = history["history"].as_array().unwrap().iter().map(|line| line["version"].clone()).collect();
    assert_eq!(versions, [1, 2], "a try that failed leaves no line");
}

/// Redis lost the fence, and the decant that raises it is away: writes are refused, and the log is not flooded.
#[test]
fn a_lost_fence_is_told_of_once_in_a_while() {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let mut first = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    let second = Whole::start(&Setup::new(&redis, "dual-write").with_kask(&kask));
    first.kill_9();
    redis::cmd("FLUSHALL").exec(&mut redis.client()).unwrap();
    // Until then the answer is that the server is to be compared first.
    wait_until("the loss is known", || second.metric("decant_shard_suspect", &[]) == 1.0);
    let data = second.data;
    // Many, because the last try of some begins with no time left: the answer says what was waited for all the same.
    let writes = (0..40).map(|n| std::thread::spawn(move || ask(data, "POST", &format!("{BASE}k{n}"), b"JSON..1")));
    for refused in writes.collect::<Vec<_>>().into_iter().map(|write| write.join().unwrap()) {
        assert_eq!(refused.status(), 503);
        assert!(refused.text().contains("the phase in force could not be confirmed"), "{}", refused.text());
    }
    assert_eq!(second.get("k").status(), 503);
    let told = lines_with(&second, "fence is missing");
    assert!((1..=3).contains(&told), "{told} lines for 41 requests");
    first.restart();
    assert_eq!(second.set("k", "JSON..1").status(), 201);
}

/// In the instant between a move's record and its fence, and after Redis lost the fence, a read waits as a write does.
#[test]
fn a_read_waits_for_a_fence_that_is_about_to_be_raised() {
    let redis = RedisServer::start();
    let decant = Whole::start(&Setup::new(&redis, "dual-write"));
    assert_eq!(decant.set("k", "JSON..1").status(), 201);
    for _ in 0..5 {
        redis::cmd("DEL").arg("decant|echoseen|fence").exec(&mut redis.client()).unwrap();
        assert_eq!(decant.got("k"), (200, "JSON..1".into()));
    }
}

/// Not to be able to look is not to have seen that all is well.
#[test]
fn a_sample_that_cannot_be_taken_stops_the_move_that_needs_it() {
    let redis = RedisServer::start();
    redis_set(&redis, "only-in-redis", "i:1;");
    let decant = Whole::start(&Setup::new(&redis, "dual-write"));
    decant.move_to("redis-only");
    redis::cmd("ACL").arg("SETUSER").arg("default").arg("-scan").exec(&mut redis.client()).unwrap();
    let (status, told) = decant.ask_move("dual-write", json!({ "kask_emptied": true }));
    assert_eq!(status, 409, "{told:#}");
    assert!(told.to_string().contains("the sample could not be taken"), "{told:#}");
}

/// A long outage of Kask leaves more intents than a look lists; they drain in far less than a lease each few hundred.
#[test]
fn very_many_intents_drain() {
    // Six batches of the reaper's.
    const MANY: usize = 3_000;
    const LEASE: std::time::Duration = std::time::Duration::from_secs(6);
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let mut decant = Whole::start(&Setup {
        // Looks list nothing any more from the eleventh intent on.
        outbox: "pending_keys_max = 10\n".into(),
        lease_ms: LEASE.as_millis() as u64,
        ..Setup::new(&redis, "dual-write").with_kask(&kask)
    });
    decant.kill_9();
    let mut pipe = redis::pipe();
    for n in 0..MANY {
        let (key, token) = (format!("many{n:05}"), format!("{n:032x}"));
        pipe.cmd("SET").arg(&key).arg(format!("i:{n};")).ignore();
        let record = format!("decant|echoseen|record|{key}");
        pipe.cmd("HSET")
            .arg(record)
            .arg(&["direction", "kask", "generation", "1", "newest", "old", &token, "1000 0"])
            .ignore();
        pipe.cmd("ZADD").arg("decant|echoseen|to-kask").arg(1000).arg(format!("{token}{key}")).ignore();
    }
    pipe.exec(&mut redis.client()).unwrap();
    decant.restart();
    wait_until("the first lease is over", || intents(&redis) < MANY as u64);
    let began = std::time::Instant::now();
    wait_until("all have drained", || intents(&redis) == 0);
    let took = began.elapsed();
    println!("{MANY} intents drained in {took:?}");
    assert!(took < 4 * LEASE, "a lease for each batch is too slow: {took:?}");
    assert_eq!(kask.holds("many02999").as_deref(), Some("JSON..2999"));
}

/// More copies are open than a look lists, and then Redis is away: what Kask holds may be older than what was acknowledged, of any key.
#[test]
fn too_many_pending_keys_to_list_are_all_refused_while_redis_is_away() {
    let (mut redis, mut kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup {
        outbox: "pending_keys_max = 1\n".into(),
        // Nothing is healed meanwhile.
        lease_ms: 60_000,
        ..Setup::new(&redis, "kask-first").with_kask(&kask)
    });
    for key in ["changed", "deleted", "untouched"] {
        assert_eq!(decant.set(key, "JSON..1").status(), 201);
    }
    decant.wait_drained(&redis);
    kask.kill_9();
    assert_eq!(decant.set("changed", "JSON..2").status(), 201);
    assert_eq!(decant.delete("deleted").status(), 204);
    assert_eq!(decant.got("changed"), (200, "JSON..2".into()));
    redis.kill();
    kask.restart();
    assert_eq!(kask.holds("changed").as_deref(), Some("JSON..1"));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while std::time::Instant::now() < until {
        for key in ["changed", "deleted", "untouched"] {
            assert_eq!(decant.get(key).status(), 503, "{key}");
        }
    }
}

/// An outage must not fill the disk with one line a request.
#[test]
fn refused_operations_are_told_of_once_in_a_while() {
    let mut redis = RedisServer::start();
    let decant = Whole::start(&Setup::new(&redis, "dual-write"));
    redis.kill();
    wait_until("writes are refused", || decant.set("k", "JSON..1").status() == 503);
    for _ in 0..50 {
        assert_eq!(decant.set("k", "JSON..1").status(), 503);
    }
    let told = || {
        let log = decant.log.lock().unwrap();
        log.iter().filter(|line| line.contains("an operation was refused")).count()
    };
    wait_until("it is told of", || told() > 0);
    // One for the start, before the phase was confirmed, and one for each 10 s since.
    assert!(told() <= 3, "{} lines for 50 refusals", told());
}
