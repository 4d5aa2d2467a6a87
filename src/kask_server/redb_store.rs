//! The store in one redb file: reads run beside each other, writes go through one writer.

use super::{
    Store, StoreFault, StoreFuture,
    file::{File, VALUES, value_of},
    writer::{self, Change, QUEUE_MAX, Write},
};
use crate::codec::key::Key;
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableError};
use std::{path::Path, sync::Arc, thread::JoinHandle};
use tokio::sync::{mpsc, oneshot};

/// A [`Store`] in one file. Dropping it waits for the writer to finish what it was given.
pub struct RedbStore {
    file: Arc<File>,
    writes: Option<mpsc::Sender<Write>>,
    writer: Option<JoinHandle<u64>>,
}

impl RedbStore {
    /// Opens `path`, or makes it. Blocks: after a crash the file is checked and repaired first.
    ///
    /// # Errors
    /// [`StoreFault::Open`], with the path and what to do: another process has it open, it is damaged or no store, or the directory is
    /// missing or not writable.
    pub fn open(path: &Path) -> Result<RedbStore, StoreFault> {
        let file = File::open(path)?;
        let (writes, queue) = mpsc::channel(QUEUE_MAX);
        let for_writer = file.clone();
        let writer = std::thread::Builder::new()
            .name("kask-writer".to_owned())
            .spawn(move || writer::work(&for_writer, queue))
            .map_err(|fault| StoreFault::Open {
                path: path.to_owned(),
                what: format!("no thread for its writer: {fault}"),
                cure: "raise the limit on processes (LimitNPROC, pids.max)",
            })?;
        Ok(RedbStore { file, writes: Some(writes), writer: Some(writer) })
    }

    async fn change(&self, change: Change) -> Result<usize, StoreFault> {
        let (done, outcome) = oneshot::channel();
        let writes = self.writes.as_ref().ok_or(StoreFault::Closed)?;
        writes.send(Write { change, done }).await.map_err(|_| StoreFault::Closed)?;
        outcome.await.map_err(|_| StoreFault::Closed)?
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreFault> {
        let file = self.file.clone();
        let reading = move || file.with(|database| read(database).map_err(|fault| StoreFault::Read(fault.to_string())));
        tokio::task::spawn_blocking(reading).await.map_err(|fault| StoreFault::Read(fault.to_string()))?
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        drop(self.writes.take());
        if let Some(writer) = self.writer.take() {
            // It cannot have panicked: it catches what its batches do.
            let _ = writer.join();
        }
    }
}

impl Store for RedbStore {
    fn get(&self, key: &Key, now_ms: u64) -> StoreFuture<'_, Option<Bytes>> {
        let key = key.clone();
        Box::pin(self.read(move |database| {
            let values = match database.begin_read()?.open_table(VALUES) {
                // Nothing was ever written.
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                values => values?,
            };
            Ok(values.get(key.as_bytes())?.and_then(|stored| value_of(stored.value(), now_ms)))
        }))
    }

    fn set(&self, key: Key, value: Bytes, expires_ms: Option<u64>) -> StoreFuture<'_, ()> {
        let change = Change::Set { key, value, expires_ms: expires_ms.unwrap_or(0) };
        Box::pin(async move { self.change(change).await.map(|_| ()) })
    }

    fn delete(&self, key: Key) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.change(Change::Delete { key }).await.map(|_| ()) })
    }

    fn purge_expired(&self, now_ms: u64, at_most: usize) -> StoreFuture<'_, usize> {
        Box::pin(self.change(Change::Purge { now_ms, at_most }))
    }

    fn count(&self) -> StoreFuture<'_, u64> {
        Box::pin(self.read(|database| {
            Ok(match database.begin_read()?.open_table(VALUES) {
                Err(TableError::TableDoesNotExist(_)) => 0,
                values => values?.len()?,
            })
        }))
    }
}
