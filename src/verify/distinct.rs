//! Counts each key once, however often it was looked at, in bounded memory and exactly.
//!
//! SCAN may give a key twice, and a shard may be walked again. Each verdict is therefore noted as 12 bytes, eleven of a keyed hash of
//! the key and one for its class, in one of 256 parts by the hash's first byte; what is noted waits in memory up to a bound and is then
//! appended to a file for each part. In the end the parts are counted one after the other: sorted, and of each hash the greatest class.
//!
//! In memory stay [`HELD_BYTES_MAX`], and while a part is counted its own bytes: 12 a key over 256, under 5 MB for a hundred million
//! keys. On disk it is 12 bytes a key, 1.2 GB for those. Two keys of a hundred million share eleven bytes of hash with a probability of
//! about 2 in 100,000,000,000, and would then count as one.

use super::class::Class;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::PathBuf,
};

const PARTS: usize = 256;
/// What waits in memory before it goes to the files.
const HELD_BYTES_MAX: usize = 1024 * 1024;
pub const HASH_BYTES: usize = 11;
const NOTE_BYTES: usize = HASH_BYTES + 1;

/// Eleven bytes that stand for a key.
pub type Hash = [u8; HASH_BYTES];

/// The notes of one run.
#[derive(Debug)]
pub struct Distinct {
    dir: PathBuf,
    held: Vec<Vec<u8>>,
    held_bytes: usize,
    held_bytes_max: usize,
}

impl Distinct {
    /// Notes go to files in `dir`, which is made when it is needed; what an earlier run left there is removed.
    pub fn new(dir: PathBuf) -> io::Result<Distinct> {
        Distinct::with_room(dir, HELD_BYTES_MAX)
    }

    fn with_room(dir: PathBuf, held_bytes_max: usize) -> io::Result<Distinct> {
        remove(&dir)?;
        Ok(Distinct { dir, held: vec![Vec::new(); PARTS], held_bytes: 0, held_bytes_max })
    }

    pub fn note(&mut self, hash: Hash, class: Class) {
        let part = &mut self.held[usize::from(hash[0])];
        part.extend_from_slice(&hash);
        part.push(class.code());
        self.held_bytes += NOTE_BYTES;
    }

    pub fn is_full(&self) -> bool {
        self.held_bytes >= self.held_bytes_max
    }

    /// Appends what is held to the files. Blocks. What fails leaves the count useless: half of it may be written.
    pub fn spill(&mut self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        for (part, held) in self.held.iter_mut().enumerate().filter(|(_, held)| !held.is_empty()) {
            let path = self.dir.join(format!("{part:02x}"));
            fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(held)?;
            held.clear();
        }
        self.held_bytes = 0;
        Ok(())
    }

    /// How many keys are of each class. Blocks. The files are removed whatever comes of it.
    pub fn count(mut self) -> io::Result<BTreeMap<Class, u64>> {
        let counted = self.count_parts();
        remove(&self.dir)?;
        counted
    }

    fn count_parts(&mut self) -> io::Result<BTreeMap<Class, u64>> {
        let mut counts = BTreeMap::new();
        for part in 0..PARTS {
            let mut notes = match fs::read(self.dir.join(format!("{part:02x}"))) {
                Ok(notes) => notes,
                Err(fault) if fault.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(fault) => return Err(fault),
            };
            notes.append(&mut self.held[part]);
            let (notes, rest) = notes.as_chunks_mut::<NOTE_BYTES>();
            if !rest.is_empty() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a file of notes was cut off"));
            }
            notes.sort_unstable();
            for same_key in notes.chunk_by(|a, b| a[..HASH_BYTES] == b[..HASH_BYTES]) {
                // Sorted: the last of a hash is its greatest class.
                let greatest = same_key.last().map_or(Class::Unknown, |note| Class::of(note[HASH_BYTES]));
                *counts.entry(greatest).or_default() += 1;
            }
        }
        Ok(counts)
    }
}

fn remove(dir: &PathBuf) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn hash(of: u64) -> Hash {
        let mut random = fastrand::Rng::with_seed(of);
        std::array::from_fn(|_| random.u8(..))
    }

    #[test]
    fn a_key_noted_twice_counts_once_and_for_the_greater_class() {
        let dir = tempfile::tempdir().unwrap();
        let mut distinct = Distinct::new(dir.path().join("notes")).unwrap();
        for (key, class) in [
            (1, Class::Equal),
            (2, Class::Equal),
            (1, Class::Missing),
            (2, Class::Unknown),
            (3, Class::Unstorable("slash")),
            (1, Class::Equal),
        ] {
            distinct.note(hash(key), class);
        }
        let counts = distinct.count().unwrap();
        let expected = [(Class::Missing, 1), (Class::Equal, 1), (Class::Unstorable("slash"), 1)];
        assert_eq!(counts, BTreeMap::from(expected));
        assert!(!dir.path().join("notes").exists(), "what fits in memory never was on disk");
    }

    #[test]
    fn files_are_gone_afterwards_and_those_of_an_earlier_run_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let notes = dir.path().join("notes");
        let mut left = Distinct::new(notes.clone()).unwrap();
        left.note(hash(7), Class::Missing);
        left.spill().unwrap();
        drop(left);
        assert!(notes.exists());
        let mut distinct = Distinct::new(notes.clone()).unwrap();
        distinct.note(hash(8), Class::Equal);
        distinct.spill().unwrap();
        assert_eq!(distinct.count().unwrap(), BTreeMap::from([(Class::Equal, 1)]));
        assert!(!notes.exists());
    }

    #[test]
    fn a_disk_that_takes_nothing_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let mut distinct = Distinct {
            dir: dir.path().join("file").join("notes"),
            held: vec![vec![]; PARTS],
            held_bytes: 0,
            held_bytes_max: 1,
        };
        distinct.note(hash(1), Class::Equal);
        assert!(distinct.is_full() && distinct.spill().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Against a plain map, with files that are written every few notes.
        #[test]
        fn counts_are_exact(notes in proptest::collection::vec((0u64..300, 0u8..4), 0..2_000)) {
            let classes = [Class::Pending, Class::Equal, Class::Different, Class::Missing];
            let dir = tempfile::tempdir().unwrap();
            let mut distinct = Distinct::with_room(dir.path().join("notes"), 100 * NOTE_BYTES).unwrap();
            let mut plain: HashMap<u64, Class> = HashMap::new();
            for (key, class) in notes {
                let class = classes[usize::from(class)];
                distinct.note(hash(key), class);
                let greatest = plain.entry(key).or_insert(class);
                *greatest = class.max(*greatest);
                if distinct.is_full() {
                    distinct.spill().unwrap();
                }
            }
            let mut expected = BTreeMap::new();
            plain.into_values().for_each(|class| *expected.entry(class).or_default() += 1);
            prop_assert_eq!(distinct.count().unwrap(), expected);
        }
    }
}
