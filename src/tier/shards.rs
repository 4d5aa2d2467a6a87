//! Which shard of Redis a key lives on, and under which name. Pure.
//!
//! Keys were placed by nutcracker or by MediaWiki before decant came, and MediaWiki may go back to them: decant places each key
//! on the very shard that they do, byte for byte.
mod ketama;
mod mediawiki;

use crate::{
    codec::key::Key,
    config::{Distribution, RedisConfig},
};
use ketama::Continuum;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// One shard, as far as placing keys goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPlace {
    /// The name in the config.
    pub name: String,
    /// What the distribution hashes for it: nutcracker's name of the server, or MediaWiki's server string or tag.
    pub hashed_as: String,
    /// nutcracker's weight.
    pub weight: u32,
}

impl ShardPlace {
    /// Hashed under its name, with the weight 1.
    pub fn named(name: &str) -> ShardPlace {
        ShardPlace { name: name.to_owned(), hashed_as: name.to_owned(), weight: 1 }
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
    #[error("two shards are hashed as \"{0}\"; one of them would get no key")]
    SameHash(String),
}

/// A distribution made ready.
#[derive(Clone, Debug)]
enum Placing {
    Single,
    Ketama { continuum: Continuum, hash: ketama::Hash, tag: Option<[u8; 2]> },
    Mediawiki { servers: Vec<String> },
}

/// Key -> shard, for the life of a config.
#[derive(Clone, Debug)]
pub struct ShardMap {
    placing: Placing,
    shards: Vec<ShardPlace>,
    prefix: Vec<u8>,
    digest: String,
}

impl ShardMap {
    /// As the config has it.
    ///
    /// # Errors
    /// Only of a config that was made by hand: one that was loaded has been checked.
    pub fn of(redis: &RedisConfig) -> Result<ShardMap, ShardMapFault> {
        let place = |shard: &crate::config::ShardConfig| ShardPlace {
            name: shard.name.clone(),
            hashed_as: shard.hashed_as.clone(),
            weight: shard.weight,
        };
        ShardMap::new(redis.distribution, redis.shards.iter().map(place).collect(), &redis.prefix)
    }

    /// `prefix` is put before every key, as MediaWiki's `prefix` option of RedisBagOStuff does.
    ///
    /// # Errors
    /// The list of shards does not fit the distribution.
    pub fn new(distribution: Distribution, shards: Vec<ShardPlace>, prefix: &str) -> Result<ShardMap, ShardMapFault> {
        if shards.is_empty() {
            return Err(ShardMapFault::Empty);
        }
        for (i, shard) in shards.iter().enumerate() {
            if shards[..i].iter().any(|earlier| earlier.name == shard.name) {
                return Err(ShardMapFault::SameName(shard.name.clone()));
            }
            if shards[..i].iter().any(|earlier| earlier.hashed_as == shard.hashed_as) {
                return Err(ShardMapFault::SameHash(shard.hashed_as.clone()));
            }
        }
        let placing = match distribution {
            Distribution::Single if shards.len() != 1 => return Err(ShardMapFault::NotSingle(shards.len())),
            Distribution::Single => Placing::Single,
            Distribution::Ketama { hash, tag } => {
                let servers: Vec<(&str, u32)> =
                    shards.iter().map(|shard| (shard.hashed_as.as_str(), shard.weight)).collect();
                Placing::Ketama { continuum: Continuum::new(&servers), hash: ketama::hash(hash), tag }
            }
            Distribution::Mediawiki => {
                Placing::Mediawiki { servers: shards.iter().map(|shard| shard.hashed_as.clone()).collect() }
            }
        };
        let digest = digest_of(distribution, prefix, &shards);
        Ok(ShardMap { placing, shards, prefix: prefix.as_bytes().to_vec(), digest })
    }

    /// The index, in the order given, of the shard that has `key`; always below [`ShardMap::len`].
    pub fn shard_of(&self, key: &Key) -> usize {
        if self.shards.len() == 1 {
            return 0;
        }
        match &self.placing {
            Placing::Single => 0,
            // nutcracker sees what its client sends: the prefix is in it.
            Placing::Ketama { continuum, hash, tag } => {
                let name = self.redis_key(key);
                continuum.server_of(hash(ketama::hashed_part(&name, *tag)))
            }
            // MediaWiki chooses first, and its Redis extension puts the prefix before the key afterwards.
            Placing::Mediawiki { servers } => mediawiki::server_of(servers, key.as_bytes()),
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

    /// Points of the ring that two shards share. nutcracker gives such a point to the server that its list names first, and decant
    /// to the first by name.
    pub fn shared_points(&self) -> usize {
        match &self.placing {
            Placing::Ketama { continuum, .. } => continuum.shared_points(),
            Placing::Single | Placing::Mediawiki { .. } => 0,
        }
    }

    /// SHA-256, in hex, of all that decides where a key is: the distribution, the prefix, and the shards' names, hashed strings
    /// and weights in their order. Two decants with the same digest put each key on the shard of the same name. Addresses are no
    /// part of it: a fail-over changes them, and no key moves.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn digest_of(distribution: Distribution, prefix: &str, shards: &[ShardPlace]) -> String {
    let (hash, tag) = match distribution {
        Distribution::Ketama { hash, tag } => (hash.name(), tag.map_or(Vec::new(), Vec::from)),
        Distribution::Single | Distribution::Mediawiki => ("", Vec::new()),
    };
    let mut digest = Sha256::new();
    let mut add = |text: &[u8]| {
        // With its length before it, no text can pass for two others.
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    };
    [distribution.name().as_bytes(), hash.as_bytes(), &tag, prefix.as_bytes()].into_iter().for_each(&mut add);
    for shard in shards {
        [shard.name.as_bytes(), shard.hashed_as.as_bytes(), &shard.weight.to_be_bytes()].into_iter().for_each(&mut add);
    }
    digest.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // a String takes everything
        hex
    })
}

#[cfg(test)]
mod tests;
