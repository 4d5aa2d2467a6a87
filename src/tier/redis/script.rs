//! A Lua script, known to Redis by its SHA-1.

use redis::Cmd;
use std::sync::OnceLock;

/// One script; lives in a `static`.
#[derive(Debug)]
pub struct Script {
    /// The metric label of its calls.
    pub name: &'static str,
    /// The Lua text.
    pub source: &'static str,
    sha: OnceLock<String>,
}

impl Script {
    pub const fn new(name: &'static str, source: &'static str) -> Script {
        Script { name, source, sha: OnceLock::new() }
    }

    /// Everything but the sending. `name`: of the connection that it goes out on, so that a server which is not the one that was greeted can
    /// refuse it.
    pub(super) fn call(&self, keys: &[&[u8]], args: &[&[u8]], name: &str) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(self.sha()).arg(keys.len()).arg(keys).arg(args).arg(name);
        call
    }

    /// Makes it known.
    pub(super) fn load(&self) -> Cmd {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(self.source);
        load
    }

    /// What EVALSHA takes: 40 hex digits.
    pub fn sha(&self) -> &str {
        self.sha.get_or_init(|| redis::Script::new(self.source).get_hash().to_owned())
    }
}
