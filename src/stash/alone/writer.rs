//! The thread that reads and writes a stash's journal.

use super::{
    Bounds, Shared, Standing,
    journal::{Entry, Header, Journal, entry_bytes, set_aside},
    of_another_version, overflowed,
};
use crate::{codec::key::Key, stash::mover::unix_ms};
use std::{collections::HashSet, path::PathBuf, sync::Arc};
use tokio::sync::{mpsc, oneshot};

/// Orders taken together; the notes among them share a sync.
const BATCH_MAX: usize = 256;

/// What the thread is asked to do; each is answered once it is durable.
#[derive(Debug)]
pub(super) enum Order {
    Note {
        key: Key,
        version: u64,
        done: oneshot::Sender<Result<(), String>>,
    },
    /// The journal goes, if nothing waits in it; whether it went.
    Finish {
        done: oneshot::Sender<bool>,
    },
    /// A journal of an older version is put out of the way: from `version` on Redis is the sequencer, and there is no mirror.
    SetAside {
        version: u64,
        done: oneshot::Sender<()>,
    },
}

type Note = (Key, oneshot::Sender<Result<(), String>>);

/// Owns the file.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    bounds: Bounds,
    shared: Arc<Shared>,
    journal: Option<Journal>,
    /// The file can take no more keys.
    broken: Option<String>,
}

impl Writer {
    pub(super) fn new(path: PathBuf, bounds: Bounds, shared: Arc<Shared>, journal: Option<Journal>) -> Writer {
        Writer { path, bounds, shared, journal, broken: None }
    }

    /// Until nobody is left to give orders.
    pub(super) fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(first) = orders.blocking_recv() {
            let mut batch = vec![first];
            while let Ok(next) = orders.try_recv() {
                batch.push(next);
                if batch.len() == BATCH_MAX {
                    break;
                }
            }
            self.obey(batch);
            self.shared.show();
        }
    }

    fn obey(&mut self, batch: Vec<Order>) {
        let mut notes: Vec<Note> = Vec::new();
        let mut of_version = 0;
        for order in batch {
            match order {
                Order::Note { key, version, done } => {
                    if version != of_version {
                        self.note_all(of_version, std::mem::take(&mut notes));
                        of_version = version;
                    }
                    notes.push((key, done));
                }
                Order::Finish { done } => {
                    self.note_all(of_version, std::mem::take(&mut notes));
                    let _ = done.send(self.finish());
                }
                Order::SetAside { version, done } => {
                    self.note_all(of_version, std::mem::take(&mut notes));
                    self.set_aside(version);
                    let _ = done.send(());
                }
            }
        }
        self.note_all(of_version, notes);
    }

    /// Notes keys of one version, with one sync for all. Who has stopped waiting is not told.
    fn note_all(&mut self, version: u64, notes: Vec<Note>) {
        if notes.is_empty() {
            return;
        }
        let keys: Vec<&Key> = notes.iter().map(|(key, _)| key).collect();
        let noted = self.note(version, &keys);
        self.shared.show();
        for (_, done) in notes {
            let _ = done.send(noted.clone());
        }
    }

    fn note(&mut self, version: u64, keys: &[&Key]) -> Result<(), String> {
        if self.shared.standing().is_none() {
            self.create(version)?;
        }
        let Some(entries) = self.missing(version, keys)? else { return Ok(()) };
        if !entries.is_empty() {
            self.append(&entries)?;
        }
        let mut standing = self.shared.standing();
        let Some(standing) = standing.as_mut() else { return Err("the journal is gone".into()) };
        if entries == [Entry::Overflowed] {
            standing.overflowed = true;
            let trouble = overflowed(&self.path);
            tracing::error!(stash = self.shared.stash, trouble, "the mirror is unclean and will not be healed");
            standing.give_up(trouble);
        } else {
            keys.iter().for_each(|key| standing.note(key));
        }
        Ok(())
    }

    fn create(&mut self, version: u64) -> Result<(), String> {
        let header = Header::new(&self.shared.stash, version, unix_ms());
        let journal = Journal::create(&self.path, &header).map_err(|e| e.to_string())?;
        tracing::warn!(
            stash = self.shared.stash,
            version,
            "Redis is out of reach: writes go to Kask alone, and the mirror is unclean until they are healed"
        );
        (self.journal, self.broken) = (Some(journal), None);
        *self.shared.standing() = Some(Standing::new(version, header.since_unix_ms));
        Ok(())
    }

    /// What must be written so that the journal has all of `keys`: each once, or "overflowed". `None`: it is never healed from, and need not
    /// have them.
    fn missing(&self, version: u64, keys: &[&Key]) -> Result<Option<Vec<Entry>>, String> {
        let mut standing = self.shared.standing();
        let (Some(standing), Some(journal)) = (standing.as_mut(), &self.journal) else {
            return Err("the journal of an earlier run cannot be read or synced; mend the disk and start again".into());
        };
        if standing.trouble.is_none() && standing.version < version {
            let trouble = of_another_version(&self.path, standing.version, version);
            tracing::error!(stash = self.shared.stash, trouble, "the mirror is unclean and will not be healed");
            standing.give_up(trouble);
        }
        if standing.trouble.is_some() {
            return Ok(None);
        }
        if standing.version > version {
            return Err("the phase has moved on".into());
        }
        let mut fresh = HashSet::new();
        let missing = keys.iter().filter(|key| !standing.keys.contains_key(**key) && fresh.insert(**key));
        let entries: Vec<Entry> = missing.map(|key| Entry::Key((*key).clone())).collect();
        let bytes = journal.bytes() + entries.iter().map(entry_bytes).sum::<u64>();
        let fits = standing.keys.len() + entries.len() <= self.bounds.keys_max && bytes <= self.bounds.bytes_max;
        Ok(Some(if fits { entries } else { vec![Entry::Overflowed] }))
    }

    fn append(&mut self, entries: &[Entry]) -> Result<(), String> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        let Some(journal) = &mut self.journal else { return Err("the journal is gone".into()) };
        journal.append(entries).map_err(|(fault, usable)| {
            let why = fault.to_string();
            tracing::error!(stash = self.shared.stash, path = %self.path.display(), fault = why, "the journal cannot be written");
            if !usable {
                self.broken = Some(why.clone());
            }
            why
        })
    }

    fn finish(&mut self) -> bool {
        let keys = {
            let mut standing = self.shared.standing();
            match standing.as_mut() {
                Some(standing) if standing.waiting == 0 && standing.trouble.is_none() => {
                    standing.closing = true;
                    standing.keys.len()
                }
                _ => return false,
            }
        };
        let removed = self.journal.as_ref().map_or(Ok(()), Journal::remove);
        self.closed(removed.map(|()| {
            tracing::info!(
                stash = self.shared.stash,
                keys,
                "what was written to Kask alone is healed: the mirror is clean"
            );
        }))
    }

    fn set_aside(&mut self, version: u64) {
        {
            let mut standing = self.shared.standing();
            match standing.as_mut() {
                Some(standing) if standing.version < version => standing.closing = true,
                _ => return,
            }
        }
        let aside = set_aside(&self.path, version);
        self.closed(aside.map(|aside| {
            let path = aside.display().to_string();
            tracing::warn!(stash = self.shared.stash, path, "Redis is the sequencer again: the journal is set aside");
        }));
    }

    /// The file is gone, or, when that failed, still stands.
    fn closed(&mut self, gone: std::io::Result<()>) -> bool {
        let mut standing = self.shared.standing();
        if let Err(fault) = &gone {
            tracing::error!(stash = self.shared.stash, path = %self.path.display(), fault = %fault, "the journal cannot be removed");
            if let Some(standing) = standing.as_mut() {
                standing.closing = false;
            }
            return false;
        }
        *standing = None;
        (self.journal, self.broken) = (None, None);
        true
    }
}
