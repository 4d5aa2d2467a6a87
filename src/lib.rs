//! decant pours a live MediaWiki store from Redis into Kask without spilling.
//!
//! # Layers (imports only point down)
//! ```text
//! cli                       one file a subcommand
//! app                       the only place that builds: config -> listeners, tasks, drain
//! data   admin              the two listeners
//! preflight                 tries every tier of a configuration once
//! stash                     one store: takes an operation, reads the phase once, runs the plan
//! phase/mover, outbox       a move; intents, fence, pending keys, reaper
//! tier   kask_server        the two stores; the embedded Kask
//! dialect  http             Kask's HTTP API, in and out; accept loop, limits, drain
//! config  telemetry
//! protocol                  what to do next: pure, no I/O, no clock
//! phase  codec              pure leaves
//! ```
pub mod admin;
pub mod app;
pub mod cli;
pub mod codec;
pub mod config;
pub mod data;
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
