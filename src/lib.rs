//! decant pours a live MediaWiki store from Redis into Kask without spilling.
//!
//! # Layers (imports only point down)
//! ```text
//! cli                               one file a subcommand
//! app                               the only place that builds: config -> listeners, tasks, drain
//! admin                             the admin listener: health, metrics, status, moves
//! stash  preflight  kask_server     one store, and its moves; every tier tried once; the embedded Kask
//! outbox  dialect  telemetry        intents and the fence on Redis; Kask's HTTP API, in and out; logs, metrics
//! protocol  config  tier  http      what to do next, without I/O; the configuration; the two stores; accept loop, limits
//! phase  codec                      phases, guards, the durable record; keys and values
//! ```
//! `tests/it/layers.rs` checks it. ARCHITECTURE.md tells the rest, with a GET and a POST file by file.
pub mod admin;
pub mod app;
pub mod cli;
pub mod codec;
pub mod config;
pub mod dialect;
pub mod http;
pub mod kask_server;
pub mod outbox;
pub mod phase;
pub mod preflight;
pub mod protocol;
pub mod stash;
pub mod telemetry;
pub mod tier;
