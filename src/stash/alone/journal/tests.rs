use super::*;

fn key(name: &str) -> Key {
    Key::from_bytes(name.as_bytes().to_vec())
}

struct Made {
    dir: tempfile::TempDir,
    /// Length of the file after its header and after each entry.
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

const STASH: &str = "echoseen";

impl Made {
    fn path(&self) -> PathBuf {
        path_in(self.dir.path(), STASH)
    }
}

fn made(entries: &[Entry]) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(dir.path(), STASH);
    let mut journal = Journal::create(&path, &Header::new(STASH, 7, 1_000)).unwrap();
    let mut ends = vec![journal.bytes() as usize];
    for entry in entries {
        journal.append(std::slice::from_ref(entry)).unwrap();
        assert_eq!(journal.bytes() - *ends.last().unwrap() as u64, entry_bytes(entry));
        ends.push(journal.bytes() as usize);
    }
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len(), *ends.last().unwrap());
    Made { dir, ends, bytes }
}

fn three() -> Vec<Entry> {
    vec![Entry::Key(key("a")), Entry::Key(key(&"b".repeat(300))), Entry::Key(key("c"))]
}

#[test]
fn what_was_written_is_read_back() {
    let made = made(&[three(), vec![Entry::Overflowed]].concat());
    let read = parse(&made.bytes, STASH).unwrap();
    assert_eq!(read.header, Header { format: 1, stash: STASH.into(), version: 7, since_unix_ms: 1_000 });
    assert_eq!(read.keys, [key("a"), key(&"b".repeat(300)), key("c")]);
    assert!(read.overflowed);
    assert_eq!(read.whole_bytes, made.bytes.len() as u64);
}

/// A cut drops the record that it hit and nothing else; a cut in the header, which appears whole, is damage.
#[test]
fn every_truncation() {
    let made = made(&[three(), vec![Entry::Overflowed]].concat());
    for length in 0..=made.bytes.len() {
        let read = parse(&made.bytes[..length], STASH);
        let whole = made.ends.iter().filter(|end| **end <= length).count();
        if whole == 0 {
            assert!(matches!(read, Err(JournalFault::Damaged { at: 0, .. })), "{length}: {read:?}");
            continue;
        }
        let read = read.unwrap();
        assert_eq!((read.keys.len(), read.overflowed), ((whole - 1).min(3), whole == 5), "{length}");
        assert_eq!(read.whole_bytes as usize, made.ends[whole - 1], "{length}");
    }
}

/// No byte can change without being noticed: least of all a length, which could pass for a record that was cut off.
#[test]
fn every_flipped_byte() {
    let made = made(&three());
    for place in 0..made.bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = made.bytes.clone();
            bytes[place] ^= flip;
            let read = parse(&bytes, STASH);
            let record = made.ends.iter().copied().take_while(|end| *end <= place).last().unwrap_or(0);
            assert!(matches!(read, Err(JournalFault::Damaged { at, .. }) if at == record), "{place} {flip}: {read:?}");
        }
    }
}

/// Records stand where they were written: none can be taken out, doubled or moved.
#[test]
fn records_that_changed_places_are_damage() {
    let made = made(&three());
    let [header, first, second, third] = [
        &made.bytes[..made.ends[0]],
        &made.bytes[made.ends[0]..made.ends[1]],
        &made.bytes[made.ends[1]..made.ends[2]],
        &made.bytes[made.ends[2]..],
    ];
    for bad in [[header, second].concat(), [header, first, first].concat(), [header, third, second, first].concat()] {
        assert!(matches!(parse(&bad, STASH), Err(JournalFault::Damaged { .. })));
    }
}

#[test]
fn what_was_cut_off_is_dropped_before_more_is_written() {
    let made = made(&three());
    fs::write(made.path(), &made.bytes[..made.bytes.len() - 3]).unwrap();
    let (mut journal, read) = Journal::open(&made.path(), STASH, 1 << 20).unwrap().unwrap();
    assert_eq!(read.unwrap().keys.len(), 2);
    journal.append(&[Entry::Key(key("d"))]).unwrap();
    let read = parse(&fs::read(made.path()).unwrap(), STASH).unwrap();
    assert_eq!(read.keys.last(), Some(&key("d")));
    assert_eq!(read.keys.len(), 3);
}

#[test]
fn what_is_not_this_stashs_or_not_this_decants_is_named() {
    let made = made(&three());
    assert_eq!(parse(&made.bytes, "sessions"), Err(JournalFault::OtherStash { found: STASH.into() }));
    let (_, read) = Journal::open(&made.path(), STASH, 10).unwrap().unwrap();
    assert!(matches!(read, Err(JournalFault::TooLong { most: 10, .. })));
    let mut other = Vec::new();
    put_record(&mut other, 0, b'H', &serde_json::to_vec(&Header { format: 2, ..Header::new(STASH, 1, 1) }).unwrap());
    assert!(parse(&other, STASH).unwrap_err().to_string().contains("format 2 is another decant's"));
    let mut no_header = Vec::new();
    put_record(&mut no_header, 0, b'K', b"a");
    assert!(matches!(parse(&no_header, STASH), Err(JournalFault::Damaged { at: 0, .. })));
    let mut odd = made.bytes.clone();
    let at = odd.len();
    put_record(&mut odd, at, b'X', b"");
    assert!(matches!(parse(&odd, STASH), Err(JournalFault::Damaged { .. })));
}

#[test]
fn it_goes_or_is_set_aside() {
    let made = made(&three());
    assert_eq!(Journal::open(&path_in(made.dir.path(), "none"), STASH, 1 << 20).unwrap().map(|_| ()), None);
    let aside = set_aside(&made.path(), 9).unwrap();
    assert!(aside.to_str().unwrap().ends_with("echoseen.alone.journal.before-9") && !made.path().exists());
    assert_eq!(fs::read(aside).unwrap(), made.bytes);
    let journal = Journal::create(&made.path(), &Header::new(STASH, 1, 1)).unwrap();
    journal.remove().unwrap();
    assert!(!made.path().exists());
}
