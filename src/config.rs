//! Configuration: a file, the environment and flags become a [`Config`] that is valid by construction.
//!
//! One way through, told file by file:
//! 1. `sources` gathers the layers and merges them with figment (file, then `DECANT_…`, then flags); `file` reads
//!    TOML and remembers the line of every key; `environment` says which variables are configuration;
//! 2. `schema` is the table of every key: its type, range and default; `structure` holds the merged values against it
//!    (unknown keys, wrong types, values out of range) and leaves a raw image of what is sound;
//! 3. `validate` (with `fleet`, `stash`, `redis` and `urls`) turns the image into a [`Config`], checking what keys mean to each other;
//! 4. every step adds to one list of [`Fault`]s, which is reported whole: nobody has to mend a file one error at a time.
mod environment;
mod fault;
mod file;
mod fleet;
mod image;
mod model;
mod redis;
mod review;
mod schema;
mod secret;
mod secret_file;
mod sources;
mod stash;
mod structure;
#[cfg(test)]
mod tests;
mod urls;
mod validate;

pub use crate::codec::base_uri::{BaseUri, BaseUriFault};
pub use environment::{PREFIX as ENVIRONMENT_PREFIX, RESERVED as ENVIRONMENT_RESERVED};
pub use fault::{ConfigFaults, Fault, Place, Warning};
pub use model::{
    AdminConfig, AfterLoss, Config, Distribution, EtcdConfig, GuardsConfig, KaskConfig, KaskEndpoint, KetamaHash,
    LimitsConfig, LogConfig, LogFormat, LogLevel, Login, OnTierFailure, OutboxConfig, RedisConfig, RedisPlace,
    RedisUrl, Replication, SentinelConfig, Serialization, ShardConfig, StashConfig, TlsConfig,
};
pub use schema::{KEYS, KeySpec, Kind};
pub use secret::Secret;
pub use sources::{DEFAULT_FILE, FlagValue, Loaded, Sources, load};
