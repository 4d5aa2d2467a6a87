//! The embedded Kask: Kask's HTTP dialect over a crash-safe store in one file.
//!
//! It answers as real Kask on Cassandra does. The store stands behind [`Store`], so that another one can take its place.

mod file;
mod redb_store;
mod server;
mod store;
mod writer;

pub use redb_store::RedbStore;
pub use server::{Clock, KaskServer, Options, RunFault, Running, VALUE_BYTES_MAX, run, spawn, system_clock};
pub use store::{Store, StoreFault, StoreFuture};
