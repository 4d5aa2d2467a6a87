//! The embedded Kask's file: opened, opened again after a fault, and what stands in it.
//!
//! On disk: table `values`: key -> expiry time (8 bytes, big endian, milliseconds since 1970, 0 = never) and the value; table
//! `expiries`: (expiry time, key) -> nothing, so that a purge reads only what is due. Both change in one transaction.

use super::StoreFault;
use bytes::Bytes;
use redb::{Database, DatabaseError, TableDefinition};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

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
pub(super) fn value_of(stored: &[u8], now_ms: u64) -> Option<Bytes> {
    let expires_ms = expiry_of(stored);
    let value = stored.get(EXPIRY_BYTES..)?;
    (expires_ms == 0 || now_ms < expires_ms).then(|| Bytes::copy_from_slice(value))
}
