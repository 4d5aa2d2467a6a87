//! The file that says "this mirror is unclean since T", and which keys were written to Kask alone.
//!
//! # On disk
//! `<state_dir>/<stash>.alone.journal`: its being there is the flag. It appears whole, with its header, and is only appended to until it
//! goes. A record is: length of its payload (`u32`, little endian), 4 bytes of check of that length, the payload, 8 bytes of check of the
//! payload; both checks are the beginning of a SHA-256 over the record's place in the file and what they guard. A payload begins with its
//! kind: `H` and the header as JSON, first and once; `K` and a key; `O`, more keys than fit were written: the list is not whole.
//!
//! A last record that was cut off was never acknowledged and is dropped. Anything else that does not fit is damage, told and never
//! guessed around: the checks of lengths are there so that a length that went bad is not taken for a record that was cut off.

use crate::codec::key::{KEY_BYTES_MAX, Key};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The format that this decant reads and writes.
const FORMAT: u32 = 1;
const LENGTH_BYTES: usize = 4;
const LENGTH_CHECK_BYTES: usize = 4;
const CHECK_BYTES: usize = 8;
/// What a record takes besides its payload.
const FRAME_BYTES: usize = LENGTH_BYTES + LENGTH_CHECK_BYTES + CHECK_BYTES;
/// The longest payload: a key, or a header with a stash's name.
const PAYLOAD_BYTES_MAX: usize = KEY_BYTES_MAX + 1;

/// A journal's first record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub format: u32,
    pub stash: String,
    /// Of the phase under which its keys were written.
    pub version: u64,
    /// Since when the mirror is unclean, in ms since 1970.
    pub since_unix_ms: u64,
}

impl Header {
    pub fn new(stash: &str, version: u64, since_unix_ms: u64) -> Header {
        Header { format: FORMAT, stash: stash.to_owned(), version, since_unix_ms }
    }
}

/// What stands behind the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Key(Key),
    Overflowed,
}

/// A journal as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub header: Header,
    pub keys: Vec<Key>,
    pub overflowed: bool,
    /// The length up to which it is whole; what is behind was never acknowledged.
    pub whole_bytes: u64,
}

/// What is wrong with a journal's bytes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalFault {
    #[error("damaged at byte {at} ({why})")]
    Damaged { at: usize, why: String },
    #[error("it belongs to stash \"{found}\"; was state_dir copied?")]
    OtherStash { found: String },
    #[error("{bytes} bytes long, more than decant ever writes ({most})")]
    TooLong { bytes: u64, most: u64 },
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

fn check(at: usize, guarded: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update((at as u64).to_le_bytes()).chain_update(guarded).finalize().into()
}

fn put_record(to: &mut Vec<u8>, at: usize, kind: u8, payload: &[u8]) {
    let begins = to.len();
    let length = (payload.len() as u32 + 1).to_le_bytes();
    to.extend_from_slice(&length);
    to.extend_from_slice(&check(at, &length)[..LENGTH_CHECK_BYTES]);
    to.push(kind);
    to.extend_from_slice(payload);
    let sum = check(at, &to[begins + LENGTH_BYTES + LENGTH_CHECK_BYTES..]);
    to.extend_from_slice(&sum[..CHECK_BYTES]);
}

/// Bytes that an entry takes in the file.
pub fn entry_bytes(entry: &Entry) -> u64 {
    let payload = match entry {
        Entry::Key(key) => key.as_bytes().len() + 1,
        Entry::Overflowed => 1,
    };
    (FRAME_BYTES + payload) as u64
}

/// A record cut out of the file: its payload and where the next begins. `None`: the file ends within it.
fn take_record(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, JournalFault> {
    let damaged = |why: &str| JournalFault::Damaged { at, why: why.to_owned() };
    let head_ends = at + LENGTH_BYTES + LENGTH_CHECK_BYTES;
    let Some(head) = bytes.get(at..head_ends) else { return Ok(None) };
    let (length, length_check) = head.split_at(LENGTH_BYTES);
    if check(at, length)[..LENGTH_CHECK_BYTES] != *length_check {
        return Err(damaged("a length fails its check"));
    }
    let length = length.iter().rev().fold(0_usize, |all, byte| all << 8 | usize::from(*byte));
    if !(1..=PAYLOAD_BYTES_MAX).contains(&length) {
        return Err(damaged("a record is longer than any"));
    }
    let (payload_ends, ends) = (head_ends + length, head_ends + length + CHECK_BYTES);
    let (Some(payload), Some(sum)) = (bytes.get(head_ends..payload_ends), bytes.get(payload_ends..ends)) else {
        return Ok(None);
    };
    if check(at, payload)[..CHECK_BYTES] != *sum {
        return Err(damaged("a record fails its check"));
    }
    Ok(Some((payload, ends)))
}

/// Takes a journal apart.
pub fn parse(bytes: &[u8], stash: &str) -> Result<Contents, JournalFault> {
    let damaged = |at, why: &str| JournalFault::Damaged { at, why: why.to_owned() };
    // The file appears with its header, so that a header that is cut off is damage.
    let (payload, mut at) = take_record(bytes, 0)?.ok_or_else(|| damaged(0, "the header is cut off"))?;
    let header: Header = match payload.split_first() {
        Some((b'H', json)) => {
            serde_json::from_slice(json).map_err(|e| damaged(0, &format!("its header is not one: {e}")))?
        }
        _ => return Err(damaged(0, "it does not begin with a header")),
    };
    if header.format != FORMAT {
        return Err(damaged(0, &format!("format {} is another decant's; this one reads {FORMAT}", header.format)));
    }
    if header.stash != stash {
        return Err(JournalFault::OtherStash { found: header.stash });
    }
    let mut contents = Contents { header, keys: Vec::new(), overflowed: false, whole_bytes: at as u64 };
    while let Some((payload, next)) = take_record(bytes, at)? {
        match payload.split_first() {
            Some((b'K', key)) if !key.is_empty() => contents.keys.push(Key::from_bytes(key.to_vec())),
            Some((b'O', [])) => contents.overflowed = true,
            _ => return Err(damaged(at, "a record of a kind that there is not")),
        }
        (at, contents.whole_bytes) = (next, next as u64);
    }
    Ok(contents)
}

/// Where the journal of a stash is.
pub fn path_in(dir: &Path, stash: &str) -> PathBuf {
    dir.join(format!("{stash}.alone.journal"))
}

/// An open journal. All calls block on the disk.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// All that is acknowledged.
    whole_bytes: u64,
}

fn sync_folder(of: &Path) -> io::Result<()> {
    of.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

impl Journal {
    /// Makes the flag durable: afterwards the journal is there with its header, or, when this fails, it may be there as well.
    pub fn create(path: &Path, header: &Header) -> io::Result<Journal> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let mut bytes = Vec::new();
        put_record(&mut bytes, 0, b'H', &serde_json::to_vec(header)?);
        let mut beside = tempfile::NamedTempFile::new_in(dir)?;
        beside.write_all(&bytes)?;
        beside.as_file().sync_all()?;
        let file = beside.persist(path).map_err(|e| e.error)?;
        sync_folder(path)?;
        Ok(Journal { file, path: path.to_owned(), whole_bytes: bytes.len() as u64 })
    }

    /// Opens what is there and makes sure that it is durable, whatever its state: an earlier process may have died before it could.
    /// `None`: there is no journal. The inner result tells what is in it.
    pub fn open(
        path: &Path,
        stash: &str,
        bytes_max: u64,
    ) -> io::Result<Option<(Journal, Result<Contents, JournalFault>)>> {
        let file = match fs::OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let bytes = file.metadata()?.len();
        let read = if bytes > bytes_max {
            Err(JournalFault::TooLong { bytes, most: bytes_max })
        } else {
            fs::read(path).map_err(|e| JournalFault::Unreadable(e.to_string())).and_then(|bytes| parse(&bytes, stash))
        };
        let mut journal = Journal { file, path: path.to_owned(), whole_bytes: bytes };
        if let Ok(contents) = &read {
            journal.whole_bytes = contents.whole_bytes;
            journal.cut()?;
        }
        journal.file.sync_all()?;
        sync_folder(path)?;
        Ok(Some((journal, read)))
    }

    pub fn bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// Drops what was never acknowledged.
    fn cut(&mut self) -> io::Result<()> {
        use io::{Seek, SeekFrom};
        self.file.set_len(self.whole_bytes)?;
        self.file.seek(SeekFrom::End(0)).map(|_| ())
    }

    /// Adds entries, with one sync for all. Fails: none of them is in the journal; `Err(_, false)`: and it can take no more.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), (io::Error, bool)> {
        let mut bytes = Vec::new();
        for entry in entries {
            let at = self.whole_bytes as usize + bytes.len();
            match entry {
                Entry::Key(key) => put_record(&mut bytes, at, b'K', key.as_bytes()),
                Entry::Overflowed => put_record(&mut bytes, at, b'O', b""),
            }
        }
        if let Err(fault) = self.file.write_all(&bytes) {
            let usable = self.cut().is_ok();
            return Err((fault, usable));
        }
        // After a sync that failed nobody knows what the disk holds, and a second one would not tell.
        self.file.sync_data().map_err(|fault| (fault, false))?;
        self.whole_bytes += bytes.len() as u64;
        Ok(())
    }

    /// The mirror is clean. When only the last step fails, the journal may be back after a power cut: then its keys are healed again.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        if let Err(fault) = sync_folder(&self.path) {
            tracing::warn!(path = %self.path.display(), fault = %fault, "the journal is gone, but its folder could not be synced");
        }
        Ok(())
    }
}

/// Takes the journal out of the way but keeps it for an operator to look at; where it is now.
pub fn set_aside(path: &Path, version: u64) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".before-{version}"));
    let aside = PathBuf::from(name);
    fs::rename(path, &aside)?;
    sync_folder(path)?;
    Ok(aside)
}

#[cfg(test)]
mod tests;
