//! A decant's setup on three Redis that keep all they acknowledged.

use super::keys_of;
use crate::{
    redis_server::RedisServer,
    whole::{Kask, Setup},
};
use decant::{
    config::{Distribution, KetamaHash},
    tier::shards::{ShardMap, ShardPlace},
};

pub struct Stage {
    pub servers: Vec<RedisServer>,
    pub kask: Kask,
    pub setup: Setup,
    /// Some of each shard.
    pub keys: Vec<Vec<String>>,
}

/// `count`: so many keys of each shard are named; none is written.
pub fn stage(phase: &'static str, count: usize) -> Stage {
    let flags = ["--appendonly", "yes", "--appendfsync", "always"];
    let servers: Vec<RedisServer> = (0..3).map(|_| RedisServer::with_flags(&flags)).collect();
    let kask = Kask::start();
    let listed: Vec<&RedisServer> = servers.iter().collect();
    let setup = Setup::new(&servers[0], phase).with_kask(&kask).with_shards(&listed, "ketama");
    let places = ["shard01", "shard02", "shard03"].map(ShardPlace::named).to_vec();
    let map = ShardMap::new(Distribution::Ketama { hash: KetamaHash::Fnv1a64, tag: None }, places, "").unwrap();
    let keys = (0..3).map(|shard| keys_of(&map, shard, count)).collect();
    Stage { servers, kask, setup, keys }
}
