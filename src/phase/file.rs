//! The record and the history of one stash on a disk of this decant's own.
//!
//! `<state_dir>/<stash>.phase.json` holds the record, replaced whole: written beside itself, synced, renamed, and the folder synced.
//! `<state_dir>/<stash>.history.jsonl` holds one line a move, appended and synced after the record, so that no line tells of a move
//! that never began; a line that a crash kept from being written is written at the next start. A last line that was cut off by a
//! crash is dropped; anything else of the record that cannot be read is named and never guessed around.
//!
//! All of it blocks on the disk.

use super::record::PhaseRecord;
use crate::durable;
use std::{
    fs, io,
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// The record or its history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordFault {
    #[error("{} cannot be {doing}: {source}; mend the file system or its permissions and start again", path.display())]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
    #[error(
        "{} is damaged ({why}); it is not guessed around: restore it from a backup, or, if you are sure which phase holds (look at the \
         fence on Redis), write that into it",
        path.display()
    )]
    Damaged { path: PathBuf, why: String },
    #[error("{} belongs to stash \"{found}\", not \"{wanted}\"; was state_dir copied?", path.display())]
    OtherStash { path: PathBuf, found: String, wanted: String },
}

/// The files of one stash.
#[derive(Clone, Debug)]
pub struct RecordFile {
    dir: PathBuf,
    stash: String,
}

/// Lines that `history` answers at most, the newest.
pub const HISTORY_LINES_MAX: usize = 1_000;

impl RecordFile {
    pub fn new(dir: &Path, stash: &str) -> RecordFile {
        RecordFile { dir: dir.to_owned(), stash: stash.to_owned() }
    }

    fn path(&self, what: &str) -> PathBuf {
        self.dir.join(format!("{}.{what}", self.stash))
    }

    /// The fault of a record that could not be written, for a cause beside the disk.
    pub fn unwritten(&self, source: io::Error) -> RecordFault {
        RecordFault::Io { path: self.path("phase.json"), doing: "written", source }
    }

    /// `None` on the first start.
    pub fn load(&self) -> Result<Option<PhaseRecord>, RecordFault> {
        let path = self.path("phase.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RecordFault::Io { path, doing: "read", source }),
        };
        let record: PhaseRecord = match serde_json::from_slice(&text) {
            Ok(record) => record,
            Err(why) => return Err(RecordFault::Damaged { path, why: why.to_string() }),
        };
        if record.stash != self.stash {
            return Err(RecordFault::OtherStash { path, found: record.stash, wanted: self.stash.clone() });
        }
        Ok(Some(record))
    }

    /// Replaces the record: afterwards it is the new one, or, when this fails, still the old one.
    pub fn store(&self, record: &PhaseRecord) -> Result<(), RecordFault> {
        let path = self.path("phase.json");
        let fault = |source| RecordFault::Io { path: path.clone(), doing: "written", source };
        let mut text = serde_json::to_vec_pretty(record).map_err(|e| fault(e.into()))?;
        text.push(b'\n');
        durable::replace(&path, &text).map_err(fault)
    }

    /// Adds a line to the history, durably.
    pub fn append(&self, record: &PhaseRecord) -> Result<(), RecordFault> {
        let path = self.path("history.jsonl");
        let fault = |source| RecordFault::Io { path: path.clone(), doing: "written", source };
        fs::create_dir_all(&self.dir).map_err(fault)?;
        let mut line = serde_json::to_vec(record).map_err(|e| fault(e.into()))?;
        line.push(b'\n');
        let mut file = fs::OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(fault)?;
        if !ends_with_newline(&mut file).map_err(fault)? {
            // A crash cut the last line off; it gets a line of its own, which the reader drops.
            line.insert(0, b'\n');
        }
        file.write_all(&line).map_err(fault)?;
        file.sync_all().map_err(fault)
    }

    /// The moves so far, oldest first, at most [`HISTORY_LINES_MAX`] of the newest.
    pub fn history(&self) -> Result<Vec<PhaseRecord>, RecordFault> {
        let path = self.path("history.jsonl");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(RecordFault::Io { path, doing: "read", source }),
        };
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let newest = lines.len().saturating_sub(HISTORY_LINES_MAX);
        Ok(lines[newest..].iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

fn ends_with_newline(file: &mut fs::File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::{Phase, record::sample};

    fn record(version: u64) -> PhaseRecord {
        PhaseRecord { mirror_unclean_since_unix_ms: Some(5), ..sample(Phase::KaskFirst, version) }
    }

    #[test]
    fn a_record_is_read_back_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = RecordFile::new(dir.path(), "echoseen");
        assert_eq!(file.load().unwrap(), None);
        for version in 1..4 {
            file.store(&record(version)).unwrap();
            assert_eq!(file.load().unwrap(), Some(record(version)));
        }
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 1, "nothing is left beside the record");
    }

    #[test]
    fn a_damaged_record_is_named_and_never_guessed_around() {
        let dir = tempfile::tempdir().unwrap();
        let file = RecordFile::new(dir.path(), "echoseen");
        file.store(&record(3)).unwrap();
        let path = dir.path().join("echoseen.phase.json");
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() - 2 {
            fs::write(&path, &whole[..length]).unwrap();
            let text = file.load().unwrap_err().to_string();
            assert!(text.contains("echoseen.phase.json is damaged"), "{length}: {text}");
        }
        fs::write(&path, String::from_utf8(whole).unwrap().replace("\"echoseen\"", "\"sessions\"")).unwrap();
        assert!(file.load().unwrap_err().to_string().contains("belongs to stash \"sessions\""));
    }

    #[test]
    fn a_history_line_that_a_crash_cut_off_is_dropped_and_the_next_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = RecordFile::new(dir.path(), "echoseen");
        file.append(&record(1)).unwrap();
        let path = dir.path().join("echoseen.history.jsonl");
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"stash\":\"echos");
        fs::write(&path, text).unwrap();
        file.append(&record(2)).unwrap();
        let versions: Vec<u64> = file.history().unwrap().iter().map(|r| r.version).collect();
        assert_eq!(versions, [1, 2]);
    }
}
