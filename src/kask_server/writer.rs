//! Changes of concurrent clients, grouped: one transaction and one fsync for all that arrived meanwhile.

use super::{
    StoreFault,
    file::{EXPIRIES, File, VALUES, expiry_of, with_expiry},
};
use crate::codec::key::Key;
use bytes::Bytes;
use redb::{Database, ReadableTable, Table};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use tokio::sync::{mpsc, oneshot};

/// Changes that wait for the writer; more wait in their clients' tasks.
pub(super) const QUEUE_MAX: usize = 1024;
/// One transaction holds at most so many changes, or so many bytes and one value more.
const BATCH_CHANGES_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 32 * 1024 * 1024;

pub(super) enum Change {
    Set { key: Key, value: Bytes, expires_ms: u64 },
    Delete { key: Key },
    Purge { now_ms: u64, at_most: usize },
}

/// A change and whoever waits for it. Answered with the number of values removed by a purge.
pub(super) struct Write {
    pub(super) change: Change,
    pub(super) done: oneshot::Sender<Result<usize, StoreFault>>,
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Change::Set { value, .. } => value.len(),
            Change::Delete { .. } | Change::Purge { .. } => 0,
        }
    }
}

/// The writer's thread: until every sender is gone and the queue is empty. Answers how many transactions it took.
pub(super) fn work(file: &Arc<File>, mut queue: mpsc::Receiver<Write>) -> u64 {
    let mut transactions = 0;
    while let Some(first) = queue.blocking_recv() {
        let mut bytes = first.change.bytes();
        let mut batch = vec![first];
        while batch.len() < BATCH_CHANGES_MAX && bytes < BATCH_BYTES_MAX {
            let Ok(next) = queue.try_recv() else { break };
            bytes += next.change.bytes();
            batch.push(next);
        }
        let committed = commit_or_reopen(file, &batch);
        for (i, write) in batch.into_iter().enumerate() {
            let outcome = committed.as_ref().map(|purged| purged[i]).map_err(Clone::clone);
            // Whoever waited may be gone; the change stands all the same.
            let _ = write.done.send(outcome);
        }
        transactions += 1;
    }
    transactions
}

/// After a fault (a full disk, say) redb refuses everything until the file is opened again, so that is done at once.
fn commit_or_reopen(file: &Arc<File>, batch: &[Write]) -> Result<Vec<usize>, StoreFault> {
    let committed = file.with(|database| {
        catch_unwind(AssertUnwindSafe(|| commit(database, batch)))
            .unwrap_or_else(|_| Err("redb panicked".to_owned()))
            .map_err(StoreFault::Write)
    });
    if let Err(fault) = &committed {
        tracing::error!(%fault, changes = batch.len(), "the embedded store refused a batch; opening it again");
        if let Err(fault) = file.reopen() {
            tracing::error!(%fault, "the embedded store stays closed; the next request tries again");
        }
    }
    committed
}

fn commit(database: &Database, batch: &[Write]) -> Result<Vec<usize>, String> {
    let text = |fault: &dyn std::fmt::Display| fault.to_string();
    let transaction = database.begin_write().map_err(|f| text(&f))?;
    let purged = {
        let mut values = transaction.open_table(VALUES).map_err(|f| text(&f))?;
        let mut expiries = transaction.open_table(EXPIRIES).map_err(|f| text(&f))?;
        let applied: Result<Vec<usize>, redb::StorageError> =
            batch.iter().map(|write| apply(&mut values, &mut expiries, &write.change)).collect();
        applied.map_err(|f| text(&f))?
    };
    // Durable when this returns: redb's default is one fsync for the transaction.
    transaction.commit().map_err(|f| text(&f))?;
    Ok(purged)
}

type Values<'t> = Table<'t, &'static [u8], &'static [u8]>;
type Expiries<'t> = Table<'t, (u64, &'static [u8]), ()>;

fn apply(values: &mut Values<'_>, expiries: &mut Expiries<'_>, change: &Change) -> Result<usize, redb::StorageError> {
    match change {
        Change::Set { key, value, expires_ms } => {
            let key = key.as_bytes();
            let before = values.insert(key, with_expiry(*expires_ms, value).as_slice())?;
            let expired_at = before.map_or(0, |before| expiry_of(before.value()));
            forget_expiry(expiries, expired_at, key)?;
            if *expires_ms != 0 {
                expiries.insert((*expires_ms, key), ())?;
            }
            Ok(0)
        }
        Change::Delete { key } => {
            let before = values.remove(key.as_bytes())?;
            let expired_at = before.map_or(0, |before| expiry_of(before.value()));
            forget_expiry(expiries, expired_at, key.as_bytes())?;
            Ok(0)
        }
        Change::Purge { now_ms, at_most } => {
            let mut due: Vec<(u64, Vec<u8>)> = Vec::new();
            for entry in expiries.range(..(now_ms.saturating_add(1), [].as_slice()))?.take(*at_most) {
                let (entry, _) = entry?;
                let (at, key) = entry.value();
                due.push((at, key.to_vec()));
            }
            for (at, key) in &due {
                values.remove(key.as_slice())?;
                expiries.remove((*at, key.as_slice()))?;
            }
            Ok(due.len())
        }
    }
}

fn forget_expiry(expiries: &mut Expiries<'_>, expired_at: u64, key: &[u8]) -> Result<(), redb::StorageError> {
    if expired_at != 0 {
        expiries.remove((expired_at, key))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(
        writes: impl IntoIterator<Item = Change>,
    ) -> (mpsc::Receiver<Write>, Vec<oneshot::Receiver<Result<usize, StoreFault>>>) {
        let (queue, work) = mpsc::channel(QUEUE_MAX);
        let answers = writes.into_iter().map(|change| {
            let (done, answer) = oneshot::channel();
            assert!(queue.try_send(Write { change, done }).is_ok());
            answer
        });
        (work, answers.collect())
    }

    fn set(i: usize, bytes: usize) -> Change {
        Change::Set { key: Key::from_bytes(i.to_string()), value: vec![b'v'; bytes].into(), expires_ms: 0 }
    }

    #[test]
    fn writers_that_wait_together_share_a_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::open(&dir.path().join("kask.redb")).unwrap();
        let (queue, answers) = queued((0..500).map(|i| set(i, 10)));
        assert_eq!(work(&file, queue), 1);
        for answer in answers {
            assert_eq!(answer.blocking_recv().unwrap(), Ok(0));
        }
    }

    #[test]
    fn a_transaction_is_bounded_in_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::open(&dir.path().join("kask.redb")).unwrap();
        let (queue, _answers) = queued((0..4).map(|i| set(i, BATCH_BYTES_MAX / 2)));
        assert_eq!(work(&file, queue), 2);
    }
}
