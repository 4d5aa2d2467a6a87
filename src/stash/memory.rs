//! What this decant has seen of its shards, kept over its own restart: the life that it last accepted of each, and the highest count of
//! writes that it was told.
//!
//! # On disk
//! `<state_dir>/<stash>.seen`: two slots, written in turn, so that one of them is whole whenever this decant or its machine ends. A slot is
//! one line: a JSON document, a space, and the first 16 hex digits of its SHA-256. What is new is there within [`SAVE_EVERY`], which a
//! `kill -9` leaves as it is; the disk has it within [`SYNC_EVERY`].

use super::{Stash, inspect::hex};
use crate::{
    outbox::{Known, Outbox},
    telemetry::seldom::Seldom,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// The pause between two writes of the file.
const SAVE_EVERY: Duration = Duration::from_millis(20);
/// The pause between two syncs, unless a life is new.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Room for the shards of any stash: a hundred and more bytes each.
const SLOT_BYTES: u64 = 64 * 1024;
/// The format that this decant reads and writes.
const FORMAT: u32 = 1;
const CHECK_CHARS: usize = 16;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Slot {
    format: u32,
    stash: String,
    /// Grows with each write; the greater one counts.
    turn: u64,
    shards: BTreeMap<String, Known>,
}

/// The file cannot be read, or is none of this stash's.
#[derive(Debug, thiserror::Error)]
pub enum MemoryFault {
    #[error("{} cannot be opened and read: {source}; mend the file system or its permissions and start again", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{} is damaged; it is not guessed around: restore it from a backup, or, if you are sure that Redis has lost nothing since this \
         decant last ran, remove it",
        path.display()
    )]
    Damaged { path: PathBuf },
    #[error("{} belongs to stash \"{found}\", not \"{wanted}\"; was state_dir copied?", path.display())]
    OtherStash { path: PathBuf, found: String, wanted: String },
}

/// The open file. All calls block on the disk.
#[derive(Debug)]
pub struct Memory {
    file: File,
    path: PathBuf,
    stash: String,
    turn: u64,
    saved: BTreeMap<String, Known>,
    synced: Option<Instant>,
}

impl Memory {
    /// Opens what is there, or makes it.
    ///
    /// # Errors
    /// Each says what to do. What an earlier process knew is never guessed.
    pub fn open(dir: &Path, stash: &str) -> Result<Memory, MemoryFault> {
        let path = dir.join(format!("{stash}.seen"));
        let fault = |source| MemoryFault::Io { path: path.clone(), source };
        let file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(fault)?;
        let bytes = fs::read(&path).map_err(fault)?;
        let slots = [0, SLOT_BYTES].map(|at| bytes.get(at as usize..).and_then(read_slot));
        let newest = slots.into_iter().flatten().max_by_key(|slot| slot.turn);
        let (turn, saved) = match newest {
            Some(slot) if slot.stash != stash => {
                return Err(MemoryFault::OtherStash { path, found: slot.stash, wanted: stash.to_owned() });
            }
            Some(slot) => (slot.turn, slot.shards),
            None if bytes.is_empty() => (0, BTreeMap::new()),
            None => return Err(MemoryFault::Damaged { path }),
        };
        Ok(Memory { file, path, stash: stash.to_owned(), turn, saved, synced: None })
    }

    /// What was saved last.
    pub fn known(&self) -> &BTreeMap<String, Known> {
        &self.saved
    }

    /// Writes what is new; `surely`: the disk has it when this returns.
    fn save(&mut self, known: BTreeMap<String, Known>, surely: bool) -> io::Result<()> {
        if known == self.saved && !surely {
            return Ok(());
        }
        let lives = |of: &BTreeMap<String, Known>| of.values().map(|known| known.life.clone()).collect::<Vec<_>>();
        let due =
            self.synced.is_none_or(|synced| synced.elapsed() >= SYNC_EVERY) || lives(&known) != lives(&self.saved);
        let turn = self.turn + 1;
        let slot = Slot { format: FORMAT, stash: self.stash.clone(), turn, shards: known };
        let mut line = serde_json::to_string(&slot)?;
        line = format!("{line} {}\n", check(&line));
        if line.len() as u64 > SLOT_BYTES {
            return Err(io::Error::other(format!("{} bytes are more than a slot takes", line.len())));
        }
        self.file.write_all_at(line.as_bytes(), turn % 2 * SLOT_BYTES)?;
        (self.turn, self.saved) = (turn, slot.shards);
        if due || surely {
            self.file.sync_data()?;
            self.synced = Some(Instant::now());
        }
        Ok(())
    }
}

fn check(json: &str) -> String {
    hex(&Sha256::digest(json.as_bytes()))[..CHECK_CHARS].to_owned()
}

fn read_slot(bytes: &[u8]) -> Option<Slot> {
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    let (json, sum) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
    let slot: Slot = (check(json) == sum).then(|| serde_json::from_str(json).ok())??;
    (slot.format == FORMAT).then_some(slot)
}

impl Stash {
    /// Where [`Stash::keep_memory`] writes to.
    pub fn remember_in(&self, memory: Memory) {
        let _ = self.memory.set(Arc::new(Mutex::new(memory)));
    }

    /// Writes down what this decant sees of its shards, until stopped.
    pub async fn keep_memory(self: Arc<Self>, stop: CancellationToken) {
        let (Some(memory), Some(outbox)) = (self.memory.get(), &self.site.world.outbox) else { return };
        let trouble = Seldom::default();
        while !stop.is_cancelled() {
            tokio::select! { () = stop.cancelled() => {}, () = outbox.news() => {} }
            match save(memory.clone(), outbox, stop.is_cancelled()).await {
                Ok(()) => trouble.over(),
                Err(fault) if trouble.is_due() => {
                    let path = memory.lock().unwrap_or_else(PoisonError::into_inner).path.display().to_string();
                    tracing::error!(stash = self.name, path, fault = %fault, "what was seen of Redis cannot be written down: after a restart a loss may go unnoticed");
                }
                Err(_) => {}
            }
            tokio::time::sleep(SAVE_EVERY).await;
        }
    }
}

async fn save(memory: Arc<Mutex<Memory>>, outbox: &Outbox, surely: bool) -> io::Result<()> {
    let known = outbox.known();
    let saved =
        tokio::task::spawn_blocking(move || memory.lock().unwrap_or_else(PoisonError::into_inner).save(known, surely));
    saved.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(writes: u64) -> BTreeMap<String, Known> {
        BTreeMap::from([("main".to_owned(), Known { life: "a:1".into(), writes })])
    }

    #[test]
    fn what_was_saved_last_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        for writes in 0..5 {
            let mut memory = Memory::open(dir.path(), "echoseen").unwrap();
            assert_eq!(memory.known(), &if writes == 0 { BTreeMap::new() } else { known(writes * 100 + 7) });
            for more in 0..=7 {
                memory.save(known((writes + 1) * 100 + more), false).unwrap();
            }
        }
    }

    #[test]
    fn a_slot_that_was_cut_off_leaves_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(dir.path(), "echoseen").unwrap();
        memory.save(known(1), false).unwrap();
        memory.save(known(2), true).unwrap();
        let path = dir.path().join("echoseen.seen");
        let whole = fs::read(&path).unwrap();
        // The second write is in the first slot.
        let ends = whole.iter().position(|byte| *byte == b'\n').unwrap();
        for cut in 0..ends {
            let mut bytes = whole.clone();
            bytes[cut..=ends].fill(0);
            fs::write(&path, bytes).unwrap();
            assert_eq!(Memory::open(dir.path(), "echoseen").unwrap().known(), &known(1), "{cut}");
        }
        fs::write(&path, b"nothing of the kind").unwrap();
        let text = Memory::open(dir.path(), "echoseen").unwrap_err().to_string();
        assert!(text.contains("echoseen.seen is damaged"), "{text}");
    }

    #[test]
    fn another_stashs_memory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Memory::open(dir.path(), "echoseen").unwrap().save(known(1), true).unwrap();
        fs::rename(dir.path().join("echoseen.seen"), dir.path().join("sessions.seen")).unwrap();
        let text = Memory::open(dir.path(), "sessions").unwrap_err().to_string();
        assert!(text.contains("belongs to stash \"echoseen\""), "{text}");
    }
}
