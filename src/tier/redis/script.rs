//! A Lua script, known to Redis by its SHA-1.

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

    /// What EVALSHA takes: 40 hex digits.
    pub fn sha(&self) -> &str {
        self.sha.get_or_init(|| redis::Script::new(self.source).get_hash().to_owned())
    }
}
