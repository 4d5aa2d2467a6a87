//! What the embedded Kask needs of a store.

use crate::codec::key::Key;
use bytes::Bytes;
use std::{future::Future, path::PathBuf, pin::Pin};

/// The future of a store's call.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreFault>> + Send + 'a>>;

/// Why a store could not do as asked. None of the texts holds a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    #[error("cannot open the store {}: {what}; {cure}", path.display())]
    Open { path: PathBuf, what: String, cure: &'static str },
    #[error("cannot read from the store: {0}")]
    Read(String),
    /// Whether the change is in the store is unknown.
    #[error("cannot write to the store: {0}")]
    Write(String),
    #[error("the store is closed")]
    Closed,
}

/// Values under keys, each with the time it expires at. Times are milliseconds since 1970.
///
/// A change that was answered `Ok` survives a crash of the process and of the machine.
pub trait Store: Send + Sync + 'static {
    /// The value, unless it expired before `now_ms`.
    fn get(&self, key: &Key, now_ms: u64) -> StoreFuture<'_, Option<Bytes>>;
    /// `expires_ms` = `None`: never.
    fn set(&self, key: Key, value: Bytes, expires_ms: Option<u64>) -> StoreFuture<'_, ()>;
    /// No value under `key` is fine too.
    fn delete(&self, key: Key) -> StoreFuture<'_, ()>;
    /// Removes at most `at_most` values that expired before `now_ms`; answers how many.
    fn purge_expired(&self, now_ms: u64, at_most: usize) -> StoreFuture<'_, usize>;
    /// Values in the store, expired ones included that were not purged yet.
    fn count(&self) -> StoreFuture<'_, u64>;
}
