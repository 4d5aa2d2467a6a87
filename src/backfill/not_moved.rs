//! The keys that stayed behind, and why: listed within bounds, and kept beside the run.
//!
//! # On disk
//! `<state_dir>/<stash>.backfill.not-moved.jsonl`, one line a key, replaced whole with a checkpoint. Keys are personal data: the file is its
//! owner's alone to read. A key is written as in a URL, so that any bytes are told exactly.

use super::{run::RunFault, tally::Outcome};
use crate::{codec::key::Key, durable};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

/// Keys listed at most; the rest is counted. Those that can be tried again go before those that never can.
const LISTED_MAX: usize = 10_000;
/// Bytes of keys and reasons listed at most.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Characters of a reason.
const REASON_CHARS_MAX: usize = 200;

/// Why one key stayed behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    pub outcome: Outcome,
    /// One of few: a metric-like word.
    pub reason: &'static str,
    /// What a tier said, if anything.
    pub detail: Option<String>,
}

/// What the list holds of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub outcome: Outcome,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    #[serde(flatten)]
    entry: Entry,
}

#[derive(Clone, Debug, Default)]
pub(super) struct NotMoved {
    keys: BTreeMap<Key, Entry>,
    /// Those of them that did not fail: they can be done without.
    impossible: BTreeSet<Key>,
    bytes: usize,
}

impl NotMoved {
    /// Whether it is listed now; else it is over the bounds. One that failed takes the place of one that cannot be in Kask at all.
    pub(super) fn add(&mut self, key: Key, why: Why) -> bool {
        let detail = why.detail.map(|text| text.chars().take(REASON_CHARS_MAX).collect::<String>());
        let entry = Entry { outcome: why.outcome, reason: why.reason.to_owned(), detail };
        let bytes = weight(&key, &entry);
        self.remove(&key);
        while !self.has_room(bytes) {
            let displaced = match entry.outcome {
                Outcome::Failed => self.impossible.pop_first(),
                _ => None,
            };
            let Some(displaced) = displaced else { return false };
            self.remove(&displaced);
        }
        if entry.outcome != Outcome::Failed {
            self.impossible.insert(key.clone());
        }
        self.bytes += bytes;
        self.keys.insert(key, entry);
        true
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.keys.remove(key)?;
        self.impossible.remove(key);
        self.bytes -= weight(key, &entry);
        Some(entry)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.keys.len() < LISTED_MAX && self.bytes + bytes <= BYTES_MAX
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.keys.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn clear(&mut self) {
        *self = NotMoved::default();
    }
}

fn weight(key: &Key, entry: &Entry) -> usize {
    key.as_bytes().len() + entry.reason.len() + entry.detail.as_ref().map_or(0, String::len)
}

#[derive(Clone, Debug)]
pub(super) struct NotMovedFile(PathBuf);

impl NotMovedFile {
    pub(super) fn new(dir: &Path, stash: &str) -> NotMovedFile {
        NotMovedFile(dir.join(format!("{stash}.backfill.not-moved.jsonl")))
    }

    /// A missing file is an empty list. A line that is none is left out: the list is for people, and the counts are elsewhere.
    pub(super) fn load(&self) -> Result<NotMoved, RunFault> {
        let text = match fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(NotMoved::default()),
            Err(source) => return Err(RunFault::Io { path: self.0.clone(), doing: "read", source }),
        };
        let mut list = NotMoved::default();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            let Some(key) = Key::from_escaped(&line.key) else { continue };
            list.bytes += weight(&key, &line.entry);
            if line.entry.outcome != Outcome::Failed {
                list.impossible.insert(key.clone());
            }
            list.keys.insert(key, line.entry);
        }
        Ok(list)
    }

    pub(super) fn store(&self, list: &NotMoved) -> Result<(), RunFault> {
        let fault = |source| RunFault::Io { path: self.0.clone(), doing: "written", source };
        let mut text = Vec::new();
        for (key, entry) in list.iter() {
            let line = Line { key: key.to_url(), entry: entry.clone() };
            serde_json::to_writer(&mut text, &line).map_err(|e| fault(e.into()))?;
            text.push(b'\n');
        }
        durable::replace(&self.0, &text).map_err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(detail: &str) -> Why {
        Why { outcome: Outcome::Failed, reason: "kask", detail: Some(detail.to_owned()) }
    }

    #[test]
    fn any_key_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = NotMovedFile::new(dir.path(), "s");
        assert_eq!(file.load().unwrap().len(), 0);
        let mut list = NotMoved::default();
        for key in [&b"a/b"[..], b"", b"..", b"\xff\n\"", b"enwiki:a b"] {
            assert!(list.add(Key::from_bytes(key), why("500")));
        }
        file.store(&list).unwrap();
        let back = file.load().unwrap();
        assert!(back.iter().eq(list.iter()) && back.bytes == list.bytes);
    }

    #[test]
    fn keys_that_failed_go_before_those_that_cannot_be_in_kask() {
        let mut list = NotMoved::default();
        let key = |i: usize| Key::from_bytes(i.to_string());
        let object = || Why { outcome: Outcome::Untranscodable, reason: "object", detail: None };
        (0..LISTED_MAX).for_each(|i| assert!(list.add(key(i), object())));
        assert!(!list.add(key(LISTED_MAX), object()), "there is no room");
        assert!((0..LISTED_MAX).all(|i| list.add(Key::from_bytes(format!("failed {i}")), why("500"))));
        assert_eq!(list.len(), LISTED_MAX);
        assert!(list.iter().all(|(_, entry)| entry.outcome == Outcome::Failed));
        assert!(!list.add(key(0), why("500")) && !list.add(key(0), object()), "none of these can be done without");
    }

    #[test]
    fn the_list_is_bounded_and_a_key_is_in_it_once() {
        let mut list = NotMoved::default();
        let key = |i: usize| Key::from_bytes(i.to_string());
        assert!((0..LISTED_MAX).all(|i| list.add(key(i), why("x"))));
        assert!(!list.add(key(LISTED_MAX), why("x")));
        assert!(list.add(key(3), why("y")), "it is in it already");
        assert_eq!((list.len(), list.remove(&key(3)).unwrap().detail.as_deref()), (LISTED_MAX, Some("y")));
        assert!(list.add(key(LISTED_MAX), why("x")), "there is room again");
        let mut long = NotMoved::default();
        let count = (0..1_000).take_while(|i| long.add(Key::from_bytes(vec![*i as u8; 60_000 + i]), why("x"))).count();
        assert!((100..200).contains(&count), "{count}");
        assert!(why(&"é".repeat(500)).detail.is_some() && list.add(key(5), why(&"é".repeat(500))));
        assert_eq!(list.remove(&key(5)).unwrap().detail.unwrap().chars().count(), REASON_CHARS_MAX);
    }
}
