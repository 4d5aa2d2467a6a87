//! decant's own names on a shard.

use crate::codec::key::RESERVED;

/// The names of one stash.
#[derive(Clone, Debug)]
pub struct Names {
    pub fence: Vec<u8>,
    pub generation: Vec<u8>,
    pub to_kask: Vec<u8>,
    pub to_redis: Vec<u8>,
    pub damaged: Vec<u8>,
    pub life: Vec<u8>,
    pub members: Vec<u8>,
    record: Vec<u8>,
}

impl Names {
    pub fn new(prefix: &[u8], stash: &str) -> Names {
        let name = |what: &str| [prefix, format!("{RESERVED}{stash}|{what}").as_bytes()].concat();
        Names {
            fence: name("fence"),
            generation: name("generation"),
            to_kask: name("to-kask"),
            to_redis: name("to-redis"),
            damaged: name("damaged"),
            life: name("life"),
            members: name("members"),
            record: name("record|"),
        }
    }

    /// The record of a key.
    pub fn record(&self, key: &[u8]) -> Vec<u8> {
        [self.record.as_slice(), key].concat()
    }
}
