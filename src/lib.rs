//! decant pours a live MediaWiki store from Redis into Kask without spilling.
//!
//! # Layers (imports only point down)
//! ```text
//! cli                      one file a subcommand
//! app                      the only place that builds: config -> listeners, tasks, drain
//! admin  preflight         the operator's listener; every tier of a config tried once
//! backfill  verify         copies what nobody reads, beside live traffic; compares the tiers key by key
//! stash                    one store: runs the protocol over the real tiers; its phase, its moves, its reaper
//! scan                     walks the keys of a shard of Redis, page by page
//! outbox  kask_server  fleet   intents, records and fence on Redis; the embedded Kask; where the phase is recorded
//! dialect  tier  etcd      Kask's HTTP API, in and out; Kask, Redis and etcd as clients
//! http  telemetry          accept loop, limits, drain; logs and metrics
//! config  protocol         what an operator wrote; what to do next (no I/O, no clock)
//! phase                    the phases, their record, their guards
//! codec                    leaves: keys, values, patterns
//! durable                  a file that is replaced whole or not at all
//! ```
//! `tests/it/layers.rs` checks it. ARCHITECTURE.md tells the rest, with a GET and a POST file by file.
pub mod admin;
pub mod app;
pub mod backfill;
pub mod cli;
pub mod codec;
pub mod config;
pub mod dialect;
pub mod durable;
pub mod etcd;
pub mod fleet;
pub mod http;
pub mod kask_server;
pub mod outbox;
pub mod phase;
pub mod preflight;
pub mod protocol;
pub mod scan;
pub mod stash;
pub mod telemetry;
pub mod tier;
pub mod verify;
