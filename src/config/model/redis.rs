//! A stash's Redis: its shards, where each is, and how keys are spread over them.

use super::{AfterLoss, Secret};
use serde::Deserialize;
use std::{fmt, time::Duration};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// At least one, sorted by name. `redis.url` alone makes one, named `main`.
    pub shards: Vec<ShardConfig>,
    pub distribution: Distribution,
    /// Prepended to every key, as RedisBagOStuff's `prefix`.
    pub prefix: String,
    /// One step: a script, or a connection.
    pub timeout: Duration,
    pub after_loss: AfterLoss,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardConfig {
    pub name: String,
    /// What the distribution hashes for it; its name, unless the config says otherwise.
    pub hashed_as: String,
    /// nutcracker's weight; 1 where there is none.
    pub weight: u32,
    pub at: RedisPlace,
    /// How TLS is spoken, where it is: with `rediss://`, or `tls = true` beside Sentinels.
    pub tls: Option<TlsConfig>,
}

impl ShardConfig {
    /// Hashed under its name, without TLS: for tests and tools.
    pub fn at_url(name: &str, url: RedisUrl) -> ShardConfig {
        let (name, at) = (name.to_owned(), RedisPlace::Url(url));
        ShardConfig { hashed_as: name.clone(), name, weight: 1, at, tls: None }
    }
}

/// Where a Redis is. `Display` leaves credentials out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisPlace {
    Url(RedisUrl),
    Sentinels(SentinelConfig),
}

impl fmt::Display for RedisPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RedisPlace::Url(url) => fmt::Display::fmt(url, f),
            RedisPlace::Sentinels(told) => fmt::Display::fmt(told, f),
        }
    }
}

/// The primary that Sentinels name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentinelConfig {
    /// Host and port of each, at least one.
    pub sentinels: Vec<(String, u16)>,
    /// The name that they watch it under.
    pub master: String,
    pub database: u32,
    /// At the primary.
    pub login: Login,
    /// At the Sentinels.
    pub sentinel_login: Login,
}

impl fmt::Display for SentinelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentinels: Vec<String> = self.sentinels.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        write!(f, "{}/{} by Sentinels {}", self.master, self.database, sentinels.join(", "))
    }
}

/// Who decant is to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// None: Redis's default user, and AUTH with one argument, which is all that an old Redis knows.
    pub username: Option<String>,
    pub password: Option<Secret>,
}

/// TLS towards a Redis and its Sentinels. Everything is PEM that has been read and can be parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Who signed the servers' certificates; none: whom the system trusts.
    pub ca: Option<Vec<u8>>,
    /// decant's own certificate and its key.
    pub client: Option<(Vec<u8>, Secret)>,
    /// The name that the servers' certificates must have; none: the host that is connected to.
    pub name: Option<String>,
}

/// How keys are spread over the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// There is one shard.
    Single,
    /// As nutcracker (twemproxy) with `distribution: ketama`.
    Ketama {
        hash: KetamaHash,
        /// nutcracker's `hash_tag`: what opens and what closes the part of a key that is hashed.
        tag: Option<[u8; 2]>,
    },
    /// As RedisBagOStuff with several `servers`.
    Mediawiki,
}

impl Distribution {
    /// As the config has it.
    pub fn name(self) -> &'static str {
        match self {
            Distribution::Single => "single",
            Distribution::Ketama { .. } => "ketama",
            Distribution::Mediawiki => "mediawiki",
        }
    }
}

/// nutcracker's `hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KetamaHash {
    Md5,
    #[serde(rename = "fnv1a_64")]
    Fnv1a64,
}

impl KetamaHash {
    /// As the config and nutcracker have it.
    pub fn name(self) -> &'static str {
        match self {
            KetamaHash::Md5 => "md5",
            KetamaHash::Fnv1a64 => "fnv1a_64",
        }
    }
}

/// Where a Redis is, with its password. `Display` and `Debug` leave user and password out.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    full: Secret,
    shown: String,
}

impl RedisUrl {
    /// `full` as the redis crate reads it; `shown` the same place without credentials.
    pub(in crate::config) fn new(full: &str, shown: String) -> RedisUrl {
        RedisUrl { full: Secret::new(full), shown }
    }

    /// A URL that is known to hold no credentials: for tests and tools.
    pub fn without_credentials(url: &str) -> RedisUrl {
        RedisUrl::new(url, url.to_owned())
    }

    /// `rediss://`.
    pub fn is_tls(&self) -> bool {
        self.shown.starts_with("rediss:")
    }

    /// The URL with its credentials, for the redis crate alone.
    pub fn expose(&self) -> &str {
        // It was made from a `&str`, so the fallback is never taken.
        std::str::from_utf8(self.full.expose()).unwrap_or_default()
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown, f)
    }
}
