//! Where keys are: by real nutcracker over four servers and by the real RedisBagOStuff over three, and by decant.

use super::{Client, KEYS, assert_placed, nutcracker::Nutcracker, some_keys, some_keys_for_kask, value};
use crate::{
    mediawiki::{MediaWiki, Php, Store},
    redis_server::RedisServer,
    whole::{Setup, Whole},
};
use decant::{
    config::{Distribution, KetamaHash},
    tier::shards::{ShardMap, ShardPlace},
};
use serde_json::json;

fn servers<const N: usize>() -> [RedisServer; N] {
    std::array::from_fn(|_| RedisServer::start())
}

fn ketama(hash: KetamaHash, tag: Option<[u8; 2]>) -> Distribution {
    Distribution::Ketama { hash, tag }
}

fn place(i: usize, hashed_as: String, weight: u32) -> ShardPlace {
    ShardPlace { name: format!("s{i}"), hashed_as, weight }
}

/// What decant is told; the servers' weights and names; more lines of nutcracker's.
type Pool = (Distribution, [u32; 4], [&'static str; 4], &'static [&'static str]);

/// Every hash, names and none, weights, a hash tag: each key stands where decant would put it.
#[test]
fn nutcracker_places_keys_where_decant_does() {
    let servers = servers::<4>();
    let weights = [1, 1, 1, 1];
    let named = ["shard01", "shard02", "shard03", "shard04"];
    let unnamed = [""; 4];
    let cases: [Pool; 6] = [
        (ketama(KetamaHash::Md5, None), weights, named, &["hash: md5", "distribution: ketama"]),
        (ketama(KetamaHash::Fnv1a64, None), weights, named, &["hash: fnv1a_64", "distribution: ketama"]),
        // nutcracker's own defaults, and no names: host and port are hashed, without the weight.
        (ketama(KetamaHash::Fnv1a64, None), weights, unnamed, &[]),
        (ketama(KetamaHash::Md5, None), [1, 2, 7, 100], unnamed, &["hash: md5"]),
        (ketama(KetamaHash::Fnv1a64, None), [3, 1, 1, 5], named, &[]),
        (ketama(KetamaHash::Md5, Some(*b"{}")), weights, named, &["hash: md5", "hash_tag: \"{}\""]),
    ];
    for (distribution, weights, names, more) in cases {
        let what = format!("{distribution:?} {weights:?} {names:?}");
        for server in &servers {
            redis::cmd("FLUSHALL").exec(&mut server.client()).unwrap();
        }
        let listed: Vec<(&RedisServer, u32, &str)> = (0..4).map(|i| (&servers[i], weights[i], names[i])).collect();
        let nutcracker = Nutcracker::start(&listed, more);
        let keys = some_keys(KEYS);
        let mut client = nutcracker.connect();
        keys.iter().for_each(|key| client.set(key, "v"));
        let places = (0..4).map(|i| {
            let hashed_as =
                if names[i].is_empty() { format!("127.0.0.1:{}", servers[i].port) } else { names[i].into() };
            place(i, hashed_as, weights[i])
        });
        let map = ShardMap::new(distribution, places.collect(), "").unwrap();
        assert_placed(&map, &servers, keys.len(), &what);
    }
}

/// Of 25 equal servers each has a point less on the ring than it should: C's floats round so, and decant's must.
#[test]
fn nutcracker_rounds_where_decant_does() {
    let servers: Vec<RedisServer> = (0..25).map(|_| RedisServer::start()).collect();
    let names: Vec<String> = (0..25).map(|i| format!("server{i}")).collect();
    let listed: Vec<(&RedisServer, u32, &str)> =
        servers.iter().zip(&names).map(|(server, name)| (server, 1, name.as_str())).collect();
    let nutcracker = Nutcracker::start(&listed, &["hash: md5"]);
    let keys = some_keys(KEYS);
    let mut client = nutcracker.connect();
    keys.iter().for_each(|key| client.set(key, "v"));
    let places = names.iter().enumerate().map(|(i, name)| place(i, name.clone(), 1));
    let map = ShardMap::new(ketama(KetamaHash::Md5, None), places.collect(), "").unwrap();
    assert_placed(&map, &servers, keys.len(), "25 servers");
}

/// What nutcracker's clients wrote is read through decant, and what was written through decant by them.
#[test]
fn decant_takes_nutcrackers_place_and_gives_it_back() {
    for hash in ["md5", "fnv1a_64"] {
        let servers = servers::<4>();
        let named = ["shard01", "shard02", "shard03", "shard04"];
        let listed: Vec<(&RedisServer, u32, &str)> =
            servers.iter().zip(named).map(|(server, name)| (server, 1, name)).collect();
        let nutcracker = Nutcracker::start(&listed, &[&format!("hash: {hash}"), "distribution: ketama"]);
        let keys = some_keys_for_kask(KEYS);
        let (theirs, ours) = keys.split_at(KEYS / 2);
        let mut through_nutcracker = nutcracker.connect();
        for (i, key) in theirs.iter().enumerate() {
            through_nutcracker.set(key, &value(i).0);
        }
        let listed: Vec<&RedisServer> = servers.iter().collect();
        let setup = Setup::new(&servers[0], "redis-only").with_shards(&listed, "ketama");
        let decant = Whole::start(&Setup { redis: format!("{}hash = \"{hash}\"\n", setup.redis), ..setup });
        let mut through_decant = Client::of(&decant);
        for (i, key) in theirs.iter().enumerate() {
            through_decant.assert_has(key, &value(i).1, hash);
        }
        for (i, key) in ours.iter().enumerate() {
            through_decant.set(key, &value(i).1);
        }
        for (i, key) in ours.iter().enumerate() {
            assert_eq!(through_nutcracker.get(key), Some(value(i).0), "{hash}: {}", key.escape_ascii());
        }
    }
}

/// A RedisBagOStuff and the shards that decant sees behind it. `tags`: MediaWiki's `servers` has them as its keys.
fn bag(mw: &mut MediaWiki, servers: &[RedisServer], tags: Option<&[&str]>, prefix: &str) -> (Store, Vec<ShardPlace>) {
    let strings: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let servers = match tags {
        None => json!(strings),
        Some(tags) => tags.iter().zip(&strings).map(|(tag, string)| ((*tag).to_owned(), json!(string))).collect(),
    };
    let hashed: Vec<String> = tags.map_or(strings, |tags| tags.iter().map(|tag| (*tag).to_owned()).collect());
    let (class, params) = match prefix {
        "" => ("RedisBagOStuff", json!({"servers": servers, "keyspace": "enwiki"})),
        prefix => {
            ("Decant\\PrefixedRedisBagOStuff", json!({"servers": servers, "keyspace": "enwiki", "prefix": prefix}))
        }
    };
    let store = mw.make(class, params, None).unwrap();
    (store, hashed.into_iter().enumerate().map(|(i, hashed_as)| place(i, hashed_as, 1)).collect())
}

/// In batches: one at a time, PHP would take a minute.
fn set_all(mw: &mut MediaWiki, store: &Store, keys: &[Vec<u8>]) {
    let pairs: Vec<(&[u8], Php)> =
        keys.iter().enumerate().map(|(i, key)| (key.as_slice(), Php::string(format!("v{i}")))).collect();
    for batch in pairs.chunks(500) {
        let reply = store.set_multi(mw, batch).unwrap();
        assert_eq!((&reply.value, &reply.log), (&Php::bool(true), &Vec::new()));
    }
}

/// A list of servers, a list with tags, and one with a prefix.
#[test]
fn mediawiki_places_keys_where_decant_does() {
    let servers = servers::<3>();
    let mut mw = MediaWiki::start().unwrap();
    let tags = ["mc1", "mc2", "the third"];
    for (tags, prefix) in [(None, ""), (Some(&tags[..]), ""), (None, "wiki:")] {
        for server in &servers {
            redis::cmd("FLUSHALL").exec(&mut server.client()).unwrap();
        }
        let (store, places) = bag(&mut mw, &servers, tags, prefix);
        let keys = some_keys(KEYS);
        set_all(&mut mw, &store, &keys);
        let map = ShardMap::new(Distribution::Mediawiki, places, prefix).unwrap();
        assert_placed(&map, &servers, keys.len(), &format!("{tags:?} {prefix}"));
    }
}

/// What RedisBagOStuff wrote is read through decant, and what was written through decant by RedisBagOStuff.
#[test]
fn decant_takes_mediawikis_place_and_gives_it_back() {
    let servers = servers::<3>();
    let mut mw = MediaWiki::start().unwrap();
    let (store, places) = bag(&mut mw, &servers, None, "");
    let keys = some_keys_for_kask(KEYS);
    let (theirs, ours) = keys.split_at(KEYS / 2);
    set_all(&mut mw, &store, theirs);
    let listed: Vec<&RedisServer> = servers.iter().collect();
    let mut setup = Setup::new(&servers[0], "redis-only").with_shards(&listed, "mediawiki");
    for (shard, place) in setup.shards.iter_mut().zip(places) {
        shard.1.push_str(&format!("hashed_as = \"{}\"\n", place.hashed_as));
    }
    let decant = Whole::start(&setup);
    let mut through_decant = Client::of(&decant);
    for (i, key) in theirs.iter().enumerate() {
        through_decant.assert_has(key, &value(i).1, "mediawiki");
    }
    for (i, key) in ours.iter().enumerate() {
        through_decant.set(key, &value(i).1);
    }
    let mut found = 0;
    for batch in ours.chunks(500) {
        let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        for (key, got) in store.get_multi(&mut mw, &batch).unwrap() {
            let i = ours.iter().position(|ours| *ours == key).unwrap();
            assert_eq!(got, Php::string(format!("v{i}")), "{}", key.escape_ascii());
            found += 1;
        }
    }
    assert_eq!(found, ours.len());
}
