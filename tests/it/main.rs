//! decant's integration tests.
// clippy.toml allows these in #[test] functions only; here the helpers are tests as well.
#![allow(clippy::unwrap_used, clippy::print_stdout)]
mod admin;
mod alone;
mod bad_input;
mod cli_config;
mod crashes;
mod damaged;
mod dialect;
mod edges;
mod faults;
mod http;
mod kask_server;
mod layers;
mod liar;
mod mediawiki;
mod mediawiki_through_decant;
mod moves;
mod phases;
mod php_differential;
mod redis_server;
mod scripts;
mod simulation;
mod support;
mod tier_kask;
mod tier_redis;
mod whole;
