//! The store in one redb file.
//!
//! On disk: table `values`: key -> expiry time (8 bytes, big endian, milliseconds since 1970, 0 = never) and the value; table
//! `expiries`: (expiry time, key) -> nothing, so that a purge reads only what is due. Both change in one transaction.

use super::{
    Store, StoreFault, StoreFuture,
    writer::{self, Change, QUEUE_MAX, Write},
};
use crate::codec::key::Key;
use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTableMetadata, TableDefinition, TableError};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    thread::JoinHandle,
};
use tokio::sync::{mpsc, oneshot};

pub(super) const VALUES: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("values");
pub(super) const EXPIRIES: TableDefinition<'static, (u64, &[u8]), ()> = TableDefinition::new("expiries");
/// redb's own default is 1 GiB, more than a small pod has.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
const EXPIRY_BYTES: usize = 8;

/// The open file; `None` after a fault that opening it again did not mend.
pub(super) struct File {
    path: PathBuf,
    database: RwLock<Option<Database>>,
}

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

impl File {
    pub(super) fn open(path: &Path) -> Result<Arc<File>, StoreFault> {
        Ok(Arc::new(File { path: path.to_owned(), database: RwLock::new(Some(open(path)?)) }))
    }

    /// Runs `work` on the open database, opening it again first if an earlier fault left it closed.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, StoreFault>) -> Result<T, StoreFault> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.reopen()?;
        }
        match self.database.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(database) => work(database),
            None => Err(StoreFault::Closed),
        }
    }

    /// Closes the file and opens it again; waits for readers.
    pub(super) fn reopen(&self) -> Result<(), StoreFault> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The old one holds the file's lock.
        drop(database.take());
        *database = Some(open(&self.path)?);
        Ok(())
    }
}

fn open(path: &Path) -> Result<Database, StoreFault> {
    let shown = path.display().to_string();
    Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_repair_callback(move |repair| {
            let percent = repair.progress() * 100.0;
            tracing::warn!(store = shown, percent, "the store was not closed properly; checking it");
        })
        .create(path)
        .map_err(|fault| {
            let cure = cure(&fault);
            StoreFault::Open { path: path.to_owned(), what: fault.to_string(), cure }
        })
}

fn cure(fault: &DatabaseError) -> &'static str {
    match fault {
        DatabaseError::DatabaseAlreadyOpen => {
            "another process has it open: stop that one, or give this one another file"
        }
        DatabaseError::UpgradeRequired(_) => "an older decant wrote it: move it away, or go back to that version",
        DatabaseError::Storage(redb::StorageError::Io(fault)) => match fault.kind() {
            io::ErrorKind::NotFound => "create the directory first",
            io::ErrorKind::PermissionDenied => "let decant's user read and write the file and its directory",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the disk",
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => DAMAGED,
            _ => "look at the disk and its permissions",
        },
        _ => DAMAGED,
    }
}

const DAMAGED: &str =
    "it is damaged or no store of decant's: restore it from a backup, or move it away to begin with an empty one";

pub(super) fn with_expiry(expires_ms: u64, value: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(EXPIRY_BYTES + value.len());
    stored.extend_from_slice(&expires_ms.to_be_bytes());
    stored.extend_from_slice(value);
    stored
}

/// 0 = never; also for a record too short to be one.
pub(super) fn expiry_of(stored: &[u8]) -> u64 {
    stored.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The value, unless it expired.
fn value_of(stored: &[u8], now_ms: u64) -> Option<Bytes> {
    let expires_ms = expiry_of(stored);
    let value = stored.get(EXPIRY_BYTES..)?;
    (expires_ms == 0 || now_ms < expires_ms).then(|| Bytes::copy_from_slice(value))
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
