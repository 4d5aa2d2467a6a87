//! decant's integration tests.
// clippy.toml allows this in #[test] functions only; here the helpers are tests as well.
#![allow(clippy::unwrap_used)]
mod admin;
mod cli_config;
mod liar;
mod mediawiki;
mod php_differential;
mod redis_server;
mod tier_kask;
mod tier_redis;
