//! Several shards: keys stand where nutcracker and MediaWiki put them, and one shard's trouble is its own keys' only.

mod copied;
mod nutcracker;
mod one_down;
mod placing;
mod stage;

use crate::{
    redis_server::RedisServer,
    support::{Raw, Wire},
    whole::{BASE, Whole},
};
use decant::{codec::key::Key, tier::shards::ShardMap};

/// So many keys prove a placing: a point more or less on one of four servers moves about one key in 600.
const KEYS: usize = 4_000;

/// Keys as MediaWiki makes them, and others of any bytes. No two are the same.
fn some_keys(count: usize) -> Vec<Vec<u8>> {
    made_keys(count, |random| (0..random.usize(1..60)).map(|_| random.u8(..)).collect())
}

/// Such that Kask takes them: UTF-8, and no slash.
fn some_keys_for_kask(count: usize) -> Vec<Vec<u8>> {
    made_keys(count, |random| {
        let text: String = (0..random.usize(1..40)).map(|_| random.char(..)).filter(|c| *c != '/').collect();
        text.into_bytes()
    })
}

fn made_keys(count: usize, others: impl Fn(&mut fastrand::Rng) -> Vec<u8>) -> Vec<Vec<u8>> {
    let seed = fastrand::u64(..);
    println!("the keys' seed: {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let one = |i: usize| -> Vec<u8> {
        let wiki = random.choice(["enwiki", "dewiki", "global", "zhwiki_p"]).unwrap_or_default();
        match i % 5 {
            0 | 1 => format!("{wiki}:echo:seen:alert:time:{i}").into_bytes(),
            2 => format!("{wiki}:MWSession:{:016x}{i:x}", random.u64(..)).into_bytes(),
            3 => format!("{wiki}:{{{}}}:ключ {i} é", random.u32(..20)).into_bytes(),
            _ => [others(&mut random), format!(":{i}").into_bytes()].concat(),
        }
    };
    (0..count).map(one).collect()
}

/// So many keys of one shard.
fn keys_of(map: &ShardMap, shard: usize, count: usize) -> Vec<String> {
    let names = (0..).map(|i| format!("enwiki:echo:seen:{i}"));
    names.filter(|name| map.shard_of(&Key::from_bytes(name.clone().into_bytes())) == shard).take(count).collect()
}

/// As RedisBagOStuff and as RESTBagOStuff write the value of the `i`-th key.
fn value(i: usize) -> (String, String) {
    let text = format!("v{i}");
    (format!("s:{}:\"{text}\";", text.len()), format!("JSON..\"{text}\""))
}

/// All that stands on a server, but decant's own.
fn names_on(server: &RedisServer) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut server.client()).unwrap();
    names.retain(|name| !name.windows(7).any(|part| part == b"decant|"));
    names
}

/// Which keys stand where, against what `map` says. `prefix` is what stands before each.
fn assert_placed(map: &ShardMap, servers: &[RedisServer], count: usize, what: &str) {
    let mut found = 0;
    for (shard, server) in servers.iter().enumerate() {
        let names = names_on(server);
        assert!(!names.is_empty(), "{what}: shard {shard} has no key");
        for name in &names {
            let bare = name.strip_prefix(map.prefix()).unwrap();
            let ours = map.shard_of(&Key::from_bytes(bare.to_vec()));
            assert_eq!(ours, shard, "{what}: {} of {}", name.escape_ascii(), names.len());
        }
        found += names.len();
    }
    assert_eq!(found, count, "{what}");
}

/// Requests on one connection that stays open.
struct Client {
    wire: Wire,
}

impl Client {
    fn of(decant: &Whole) -> Client {
        Client { wire: Wire::connect(decant.data) }
    }

    fn ask(&mut self, method: &str, key: &[u8], body: &str) -> Raw {
        let path = format!("{BASE}{}", crate::mediawiki::rawurlencode(key));
        self.wire.send(crate::support::request(method, &path, body.as_bytes()));
        self.wire.answer(false)
    }

    fn assert_has(&mut self, key: &[u8], body: &str, what: &str) {
        let raw = self.ask("GET", key, "");
        assert_eq!((raw.status(), raw.text().as_str()), (200, body), "{what}: {}", key.escape_ascii());
    }

    fn set(&mut self, key: &[u8], body: &str) {
        let raw = self.ask("POST", key, body);
        assert_eq!(raw.status(), 201, "{}: {}", key.escape_ascii(), raw.text());
    }
}
