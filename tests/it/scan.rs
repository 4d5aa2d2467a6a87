//! Walks over the keys of a real Redis: every key, once, also across reconnects; begun again where the server is another process.

use crate::{redis_server::RedisServer, support::PATIENCE, whole::wait_until};
use decant::{
    codec::{envelope::Serialization, key::Key, transcode::Transcoder},
    config::Distribution,
    outbox::{Outbox, OutboxSettings},
    scan::{Counts, Glob, Place, Step, Walk, names_on},
    tier::{
        redis::{RedisUrl, Shard},
        shards::{ShardMap, ShardPlace},
    },
};
use std::{collections::HashMap, sync::Arc};
use tokio::time::Instant;

async fn outbox(redis: &RedisServer, prefix: &str) -> Arc<Outbox> {
    let url = RedisUrl::parse(&redis.url()).unwrap();
    let map = ShardMap::new(Distribution::Single, vec![ShardPlace::named("main")], prefix).unwrap();
    let shard = Arc::new(Shard::new("main", url, "stash"));
    shard.open();
    assert!(shard.wait_up(Instant::now() + PATIENCE).await, "{:?}", shard.why_down());
    let settings = OutboxSettings { ttl_s: 1_000, lease_ms: 1_000, tries_max: 5, look_max: 1_000 };
    Arc::new(Outbox::new(vec![shard], map, "stash", Arc::new(Transcoder::new(Serialization::Json, None)), settings))
}

fn fill(redis: &RedisServer, names: impl Iterator<Item = String>) {
    let mut pipe = redis::pipe();
    for name in names {
        pipe.set(name, "1").ignore();
    }
    pipe.exec(&mut redis.client()).unwrap();
}

/// Everything up to the end of the walk: how often each key came, and the counts since the walk last began.
async fn walked(walk: &mut Walk) -> (HashMap<Key, u32>, Counts) {
    let (mut keys, mut counts) = (HashMap::new(), Counts::default());
    loop {
        match walk.next().await.unwrap() {
            Step::Page(page) => {
                counts += page.counts;
                page.keys.into_iter().for_each(|key| *keys.entry(key).or_default() += 1);
            }
            Step::BegunAgain => (keys, counts) = Default::default(),
            Step::End => return (keys, counts),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_comes_once_without_its_prefix_and_what_is_not_one_is_counted() {
    let redis = RedisServer::start();
    fill(&redis, (0..5_000).map(|i| format!("p:wiki:key {i}")));
    let odd = ["p:a:lock", "p:decant|stash|generation", "p:decant|other|fence", "q:x", "p", "decant|stash|fence"];
    fill(&redis, odd.into_iter().map(str::to_owned));
    let outbox = outbox(&redis, "p:").await;
    assert_eq!(names_on(&outbox, 0).await.unwrap(), 5_006);
    let (keys, counts) = walked(&mut Walk::new(outbox.clone(), 0, Place::Start, None)).await;
    let expected: HashMap<Key, u32> = (0..5_000).map(|i| (Key::from_bytes(format!("wiki:key {i}")), 1)).collect();
    assert_eq!(keys, expected);
    assert_eq!(counts, Counts { names: 5_006, own: 2, locks: 1, foreign: 3, ..Counts::default() });

    let only = Glob::new("wiki:key 1?").unwrap();
    let (keys, counts) = walked(&mut Walk::new(outbox, 0, Place::Start, Some(only))).await;
    assert_eq!((keys.len(), counts.unmatched), (10, 4_990));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_goes_on_from_its_place_in_another_process_and_after_a_lost_connection() {
    let redis = RedisServer::start();
    fill(&redis, (0..5_000).map(|i| format!("{i}")));
    let first = outbox(&redis, "").await;
    let mut walk = Walk::new(first.clone(), 0, Place::Start, None);
    let Step::Page(page) = walk.next().await.unwrap() else { panic!("a page") };
    let mut keys: HashMap<Key, u32> = page.keys.into_iter().map(|key| (key, 1)).collect();
    let kept = serde_json::to_string(walk.place()).unwrap();
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut redis.client()).unwrap();

    let second = outbox(&redis, "").await;
    let mut walk = Walk::new(second, 0, serde_json::from_str(&kept).unwrap(), None);
    let (rest, _) = walked(&mut walk).await;
    rest.into_iter().for_each(|(key, times)| *keys.entry(key).or_default() += times);
    assert!(keys.len() == 5_000 && keys.values().all(|times| *times == 1), "{} keys", keys.len());
    assert_eq!(walk.place(), &Place::End);
    assert!(matches!(walk.next().await.unwrap(), Step::End));
}

/// The table shrinks under walks that stand in many places; some of them then meet again what they have just seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_comes_once_though_the_table_shrinks() {
    let redis = RedisServer::with_flags(&["--enable-debug-command", "yes", "--hz", "500"]);
    fill(&redis, (0..40_000).map(|i| format!("{i}")));
    let outbox = outbox(&redis, "").await;
    let mut walks = Vec::new();
    let mut first = Walk::new(outbox.clone(), 0, Place::Start, None);
    loop {
        let mut walk = Walk::new(outbox.clone(), 0, first.place().clone(), None);
        match walk.next().await.unwrap() {
            Step::Page(page) => walks.push((walk, page.keys)),
            _ => break,
        }
        first.next().await.unwrap();
    }
    assert!(walks.len() > 50, "{} places", walks.len());
    thin_out(&redis);
    let mut twice = 0;
    for (mut walk, before) in walks {
        let (mut keys, counts) = walked(&mut walk).await;
        before.into_iter().for_each(|key| *keys.entry(key).or_default() += 1);
        assert!(keys.values().all(|times| *times == 1), "{}", keys.values().filter(|times| **times > 1).count());
        twice += counts.twice;
    }
    assert!(twice > 0, "Redis repeated nothing: this shows nothing");
}

/// Deletes all but a twentieth, and waits for the table to be a smaller one.
fn thin_out(redis: &RedisServer) {
    let mut pipe = redis::pipe();
    for i in (0..40_000).filter(|i| i % 20 != 0) {
        pipe.del(i).ignore();
    }
    pipe.exec(&mut redis.client()).unwrap();
    wait_until("the table shrinks", || {
        let told: String = redis::cmd("DEBUG").arg("HTSTATS").arg(0).query(&mut redis.client()).unwrap();
        let keys = told.split("[Expires HT]").next().unwrap();
        !keys.contains("table size: 65536")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_of_redis_is_walked_from_the_beginning() {
    let mut redis = RedisServer::start();
    fill(&redis, (0..5_000).map(|i| format!("{i}")));
    let outbox = outbox(&redis, "").await;
    let mut walk = Walk::new(outbox.clone(), 0, Place::Start, None);
    assert!(matches!(walk.next().await.unwrap(), Step::Page(_)));
    redis.kill();
    assert!(outbox.shards()[0].wait_down(Instant::now() + PATIENCE).await);
    let place = walk.place().clone();
    assert!(walk.next().await.is_err(), "nobody answers");
    assert_eq!(walk.place(), &place, "and the walk stands where it stood");
    redis.restart();
    fill(&redis, (0..3_000).map(|i| format!("new {i}")));
    assert!(outbox.shards()[0].wait_up(Instant::now() + PATIENCE).await);
    assert!(matches!(walk.next().await.unwrap(), Step::BegunAgain));
    let (keys, counts) = walked(&mut walk).await;
    assert_eq!((keys.len(), counts.names), (3_000, 3_000));
}

/// The same random patterns and keys, here and by Redis's own KEYS.
#[test]
fn patterns_fit_as_redis_has_it() {
    let redis = RedisServer::start();
    let mut client = redis.client();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = |alphabet: &[u8], most: usize| -> String {
        (0..random.usize(1..=most)).map(|_| char::from(alphabet[random.usize(..alphabet.len())])).collect()
    };
    let keys: Vec<String> = (0..300).map(|_| text(b"ab-]^\\*", 6)).collect();
    fill(&redis, keys.iter().cloned());
    for _ in 0..3_000 {
        let pattern = text(b"ab*?[]^-\\", 8);
        let mut theirs: Vec<String> = redis::cmd("KEYS").arg(&pattern).query(&mut client).unwrap();
        let glob = Glob::new(&pattern).unwrap();
        let mut ours: Vec<String> = keys.iter().filter(|key| glob.fits(key.as_bytes())).cloned().collect();
        theirs.sort();
        ours.sort();
        ours.dedup();
        assert_eq!(ours, theirs, "{pattern}");
    }
}
