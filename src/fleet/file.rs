//! The record on this decant's own disk. The runtime never waits for it.

use super::on_disk;
use crate::phase::{
    file::{RecordFault, RecordFile},
    record::PhaseRecord,
};
use arc_swap::ArcSwapOption;
use std::sync::{Arc, Mutex, PoisonError};

/// The record of a decant that shares it with nobody. One change at a time: the caller sees to that.
#[derive(Debug)]
pub struct FileStore {
    file: RecordFile,
    current: ArcSwapOption<PhaseRecord>,
    /// A move that has begun and that the history does not tell of yet. A `std` mutex: held to copy.
    owed: Mutex<Option<PhaseRecord>>,
}

impl FileStore {
    /// Blocks on the disk.
    pub fn open(file: RecordFile) -> Result<FileStore, RecordFault> {
        let record = file.load()?;
        let told = file.history()?.last().map_or(0, |newest| newest.version);
        let owed = record.clone().filter(|record| record.version > told);
        Ok(FileStore { file, current: ArcSwapOption::from_pointee(record), owed: Mutex::new(owed) })
    }

    /// As it is on disk; none before the first start.
    pub fn record(&self) -> Option<Arc<PhaseRecord>> {
        self.current.load_full()
    }

    /// The moves so far, oldest first.
    pub async fn history(&self) -> Result<Vec<PhaseRecord>, RecordFault> {
        on_disk(&self.file, RecordFile::history).await
    }

    /// Another version of the phase: durable, and then told in the history. With an error nothing has begun; that the line alone could
    /// not be written is none: [`FileStore::catch_up`] writes it, and no further move begins before it has.
    pub async fn begin(&self, next: PhaseRecord) -> Result<(), RecordFault> {
        self.catch_up().await?;
        self.replace(next.clone()).await?;
        *self.owed() = Some(next);
        let _ = self.catch_up().await;
        Ok(())
    }

    /// The same version, changed: durable, and no line in the history.
    pub async fn replace(&self, next: PhaseRecord) -> Result<(), RecordFault> {
        let written = next.clone();
        on_disk(&self.file, move |file| file.store(&written)).await?;
        self.current.store(Some(Arc::new(next)));
        Ok(())
    }

    /// Writes the line that the history lacks, if there is one.
    pub async fn catch_up(&self) -> Result<(), RecordFault> {
        let Some(line) = self.owed().clone() else { return Ok(()) };
        on_disk(&self.file, move |file| file.append(&line)).await?;
        *self.owed() = None;
        Ok(())
    }

    fn owed(&self) -> std::sync::MutexGuard<'_, Option<PhaseRecord>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::{Phase, record::sample};
    use std::fs;

    async fn versions(store: &FileStore) -> Vec<u64> {
        store.history().await.unwrap().iter().map(|line| line.version).collect()
    }

    fn record(version: u64) -> PhaseRecord {
        sample(Phase::KaskFirst, version)
    }

    #[tokio::test]
    async fn a_move_that_could_not_be_recorded_leaves_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::open(RecordFile::new(dir.path(), "echoseen")).unwrap();
        store.begin(record(1)).await.unwrap();
        // In the way of the rename, so that the record cannot be replaced.
        let path = dir.path().join("echoseen.phase.json");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(store.begin(record(2)).await.is_err());
        assert_eq!((store.record().unwrap().version, versions(&store).await), (1, vec![1]));
    }

    #[tokio::test]
    async fn a_line_that_could_not_be_written_is_owed_and_no_move_begins_before_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = RecordFile::new(dir.path(), "echoseen");
        let store = FileStore::open(file.clone()).unwrap();
        let history = dir.path().join("echoseen.history.jsonl");
        fs::create_dir(&history).unwrap();
        store.begin(record(1)).await.unwrap();
        assert_eq!(store.record().unwrap().version, 1, "it has begun");
        assert!(store.catch_up().await.is_err() && store.begin(record(2)).await.is_err());
        assert_eq!(file.load().unwrap().unwrap().version, 1);
        fs::remove_dir(&history).unwrap();
        // A crash in between: the next start finds the record, and a history without it.
        let store = FileStore::open(file).unwrap();
        assert_eq!(versions(&store).await, [0; 0]);
        store.begin(record(2)).await.unwrap();
        store.replace(PhaseRecord { since_unix_ms: 9, ..record(2) }).await.unwrap();
        assert_eq!(versions(&store).await, [1, 2]);
    }
}
