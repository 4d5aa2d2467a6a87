//! Which shard of Redis a key lives on, and under which name. Pure.

use crate::codec::key::Key;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// One shard, as far as placing keys goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPlace {
    /// The name in the config.
    pub name: String,
    /// Where it is, without user or password: [`super::redis::RedisUrl::address`].
    pub address: String,
}

/// How keys are spread over the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// There is one shard and it has every key.
    Single,
}

impl Distribution {
    pub fn name(self) -> &'static str {
        match self {
            Distribution::Single => "single",
        }
    }
}

/// The list of shards does not fit its distribution.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardMapFault {
    #[error("no shard is named; a stash needs at least one Redis")]
    Empty,
    #[error("distribution \"single\" means one shard, but {0} are named; leave one")]
    NotSingle(usize),
    #[error("two shards are named \"{0}\"; give each its own name")]
    SameName(String),
}

/// Key -> shard, for the life of a config.
#[derive(Clone, Debug)]
pub struct ShardMap {
    distribution: Distribution,
    shards: Vec<ShardPlace>,
    prefix: Vec<u8>,
    digest: String,
}

impl ShardMap {
    /// `prefix` is put before every key, as MediaWiki's `prefix` option of RedisBagOStuff does.
    pub fn new(distribution: Distribution, shards: Vec<ShardPlace>, prefix: &str) -> Result<ShardMap, ShardMapFault> {
        if shards.is_empty() {
            return Err(ShardMapFault::Empty);
        }
        for (i, shard) in shards.iter().enumerate() {
            if shards[..i].iter().any(|earlier| earlier.name == shard.name) {
                return Err(ShardMapFault::SameName(shard.name.clone()));
            }
        }
        match distribution {
            Distribution::Single if shards.len() != 1 => return Err(ShardMapFault::NotSingle(shards.len())),
            Distribution::Single => {}
        }
        let digest = digest_of(distribution, &shards);
        Ok(ShardMap { distribution, shards, prefix: prefix.as_bytes().to_vec(), digest })
    }

    /// The index, in the order given, of the shard that has `key`; always below [`ShardMap::len`].
    pub fn shard_of(&self, _key: &Key) -> usize {
        match self.distribution {
            Distribution::Single => 0,
        }
    }

    /// The key as Redis knows it.
    pub fn redis_key(&self, key: &Key) -> Vec<u8> {
        [self.prefix.as_slice(), key.as_bytes()].concat()
    }

    /// The bytes put before every key.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    pub fn shards(&self) -> &[ShardPlace] {
        &self.shards
    }

    /// Never zero.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// SHA-256, in hex, of the distribution and the shards' names and addresses in their order: two decants with the same
    /// digest put each key in the same place. Credentials are no part of it. Addresses count as they are written, so all
    /// decants of a fleet must name a shard the same way.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn digest_of(distribution: Distribution, shards: &[ShardPlace]) -> String {
    let mut hash = Sha256::new();
    let texts = shards.iter().flat_map(|shard| [shard.name.as_str(), shard.address.as_str()]);
    for text in std::iter::once(distribution.name()).chain(texts) {
        // With its length before it, no text can pass for two others.
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // a String takes everything
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, address: &str) -> ShardPlace {
        ShardPlace { name: name.into(), address: address.into() }
    }

    #[test]
    fn one_shard_has_every_key_under_the_prefix() {
        let map = ShardMap::new(Distribution::Single, vec![place("a", "127.0.0.1:6379/0")], "wiki:").unwrap();
        let key = Key::from_bytes(&b"enwiki:\xff x"[..]);
        assert_eq!((map.shard_of(&key), map.len()), (0, 1));
        assert_eq!(map.redis_key(&key), b"wiki:enwiki:\xff x");
        assert_eq!(map.prefix(), b"wiki:");
    }

    #[test]
    fn a_list_that_does_not_fit_is_refused() {
        let new = |shards| ShardMap::new(Distribution::Single, shards, "").map(|_| ());
        assert_eq!(new(vec![]), Err(ShardMapFault::Empty));
        assert_eq!(new(vec![place("a", "x:1/0"), place("b", "y:1/0")]), Err(ShardMapFault::NotSingle(2)));
        assert_eq!(new(vec![place("a", "x:1/0"), place("a", "y:1/0")]), Err(ShardMapFault::SameName("a".into())));
    }

    #[test]
    fn the_digest_tells_lists_apart_and_stays_the_same_between_versions() {
        let digest = |shards: &[ShardPlace]| digest_of(Distribution::Single, shards);
        let (a, b) = (place("a", "h:1/0"), place("b", "h:2/0"));
        let all = [
            digest(std::slice::from_ref(&a)),
            digest(std::slice::from_ref(&b)),
            digest(&[a.clone(), b.clone()]),
            digest(&[b, a]),
            digest(&[place("ah", ":1/0")]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(one.len() == 64 && all.iter().skip(i + 1).all(|other| other != one), "{all:?}");
        }
        // Members of a fleet compare it across versions of decant.
        assert_eq!(all[0], "c754f444706b280d27e5d7f734fb6445122c4e019b5b5a32d4eca926c3cdc4a1");
    }
}
