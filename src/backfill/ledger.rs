//! The run as it is in memory: changed by pages that are done, read by status pages, written down by checkpoints.

use super::{
    not_moved::{Entry, NotMoved, NotMovedFile, Why},
    run::{Run, RunFault, RunFile, ShardRun, State},
    tally::{Outcome, Tally},
};
use crate::{
    codec::key::Key,
    scan::{Counts, Place},
};
use metrics::{Counter, Gauge, counter, gauge};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard},
};

/// Keys that are done, and what became of them.
#[derive(Debug, Default)]
pub(super) struct Worked {
    pub tally: Tally,
    pub stayed: Vec<(Key, Why)>,
    /// The run was stopped within: some of the keys were not met.
    pub cut: bool,
}

impl Worked {
    pub(super) fn stays(&mut self, key: Key, why: Why) {
        self.tally.count(why.outcome);
        self.tally.count_reason(why.outcome, why.reason);
        self.stayed.push((key, why));
    }

    pub(super) fn add(&mut self, more: Worked) {
        self.tally += &more.tally;
        self.stayed.extend(more.stayed);
        self.cut |= more.cut;
    }
}

#[derive(Debug, Default)]
pub(super) struct Book {
    pub run: Option<Run>,
    pub not_moved: NotMoved,
    /// Why the last run cannot be told.
    pub trouble: Option<String>,
    changed: bool,
    list_changed: bool,
}

impl Book {
    /// Keys that stay behind, less those that are listed.
    fn count_unlisted(&mut self) {
        if let Some(run) = &mut self.run {
            run.unlisted = run.tally().not_moved().saturating_sub(self.not_moved.len() as u64);
        }
    }
}

/// A `std` mutex: held for sums and copies, never across an await.
pub(super) struct Ledger {
    book: Mutex<Book>,
    /// Held while files are written: what is newer must not be overwritten by what is older.
    writing: Mutex<()>,
    file: RunFile,
    list: NotMovedFile,
    counters: [Counter; Outcome::ALL.len()],
    bytes: Counter,
    ratio: Gauge,
}

impl Ledger {
    /// Reads what is kept. What cannot be read is told, and replaced by the next run.
    pub(super) fn open(dir: &Path, stash: &str) -> Ledger {
        let (file, list) = (RunFile::new(dir, stash), NotMovedFile::new(dir, stash));
        let mut book = Book::default();
        match file.load().and_then(|run| Ok((run, list.load()?))) {
            Ok((run, not_moved)) => (book.run, book.not_moved) = (run, not_moved),
            Err(fault) => {
                tracing::error!(stash, fault = %fault, "the last backfill cannot be told");
                book.trouble = Some(fault.to_string());
            }
        }
        let counters = Outcome::ALL.map(
            |outcome| counter!("decant_backfill_keys_total", "stash" => stash.to_owned(), "outcome" => outcome.name()),
        );
        let ratio = gauge!("decant_backfill_progress_ratio", "stash" => stash.to_owned());
        let bytes = counter!("decant_backfill_bytes_total", "stash" => stash.to_owned());
        let ledger = Ledger { book: Mutex::new(book), writing: Mutex::default(), file, list, counters, bytes, ratio };
        ledger.show();
        ledger
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Changes the run, if there is one.
    pub(super) fn change<T>(&self, how: impl FnOnce(&mut Run) -> T) -> Option<T> {
        let mut book = self.lock();
        book.changed = true;
        book.run.as_mut().map(how)
    }

    pub(super) fn state(&self) -> Option<State> {
        self.lock().run.as_ref().map(|run| run.state)
    }

    /// Whether the run that began then is to go on.
    pub(super) fn is_running(&self, begun_unix_ms: u64) -> bool {
        let book = self.lock();
        book.run.as_ref().is_some_and(|run| run.state == State::Running && run.begun_unix_ms == begun_unix_ms)
    }

    /// A new run takes the place of the last.
    pub(super) fn begin(&self, run: Run) {
        let mut book = self.lock();
        book.not_moved.clear();
        (book.run, book.trouble, book.changed, book.list_changed) = (Some(run), None, true, true);
    }

    /// A page is done: its counts and its place are taken over together.
    pub(super) fn commit(&self, shard: usize, keys: &[Key], walked: Counts, place: Option<Place>, worked: Worked) {
        self.count(&worked.tally);
        let mut book = self.lock();
        let Book { run: Some(run), not_moved, changed, list_changed, .. } = &mut *book else { return };
        *changed = true;
        let Some(of) = run.shards.get_mut(shard) else { return };
        of.tally += &worked.tally;
        of.tally.walked += walked;
        if let Some(place) = place {
            of.place = place;
        }
        if not_moved.len() > 0 {
            for key in keys {
                *list_changed |= not_moved.remove(key).is_some();
            }
        }
        for (key, why) in worked.stayed {
            *list_changed = true;
            not_moved.add(key, why);
        }
        book.count_unlisted();
    }

    /// Keys that had failed were tried again.
    pub(super) fn commit_again(&self, shard: usize, keys: &[Key], worked: Worked) {
        {
            let mut book = self.lock();
            let Book { run: Some(run), not_moved, .. } = &mut *book else { return };
            let Some(of) = run.shards.get_mut(shard) else { return };
            for entry in keys.iter().filter_map(|key| not_moved.remove(key)) {
                of.tally.forget(entry.outcome, &entry.reason);
            }
            book.list_changed = true;
        }
        self.commit(shard, keys, Counts::default(), None, worked);
    }

    /// Keys that failed and are listed.
    pub(super) fn failed(&self) -> Vec<Key> {
        let book = self.lock();
        let failed = |(_, entry): &(&Key, &Entry)| entry.outcome == Outcome::Failed;
        book.not_moved.iter().filter(failed).map(|(key, _)| key.clone()).collect()
    }

    /// Shards that were walked to their end and left more keys that failed than are listed: only another walk meets those again.
    pub(super) fn failed_unlisted(&self, shard_of: impl Fn(&Key) -> usize) -> Vec<usize> {
        let mut listed: BTreeMap<usize, u64> = BTreeMap::new();
        self.failed().iter().for_each(|key| *listed.entry(shard_of(key)).or_default() += 1);
        let book = self.lock();
        let shards = book.run.iter().flat_map(|run| run.shards.iter().enumerate());
        let more = |(shard, of): &(usize, &ShardRun)| {
            of.place == Place::End && of.tally.of(Outcome::Failed) > listed.get(shard).copied().unwrap_or(0)
        };
        shards.filter(more).map(|(shard, _)| shard).collect()
    }

    /// A shard is walked from its beginning: what was counted of it counts no more.
    pub(super) fn begin_again(&self, shard: usize, is_of_shard: impl Fn(&Key) -> bool) {
        let mut book = self.lock();
        let gone: Vec<Key> =
            book.not_moved.iter().map(|(key, _)| key).filter(|key| is_of_shard(key)).cloned().collect();
        gone.iter().for_each(|key| drop(book.not_moved.remove(key)));
        (book.changed, book.list_changed) = (true, true);
        if let Some(of) = book.run.as_mut().and_then(|run| run.shards.get_mut(shard)) {
            (of.place, of.tally) = (Place::Start, Tally::default());
        }
        book.count_unlisted();
    }

    /// Writes down what has changed since the last time; the list first, so that no count is of a key that is not listed. Blocks.
    pub(super) fn checkpoint(&self) -> Result<(), RunFault> {
        let _one = self.writing.lock().unwrap_or_else(|e| e.into_inner());
        self.show();
        let (run, list) = {
            let mut book = self.lock();
            let Some(run) = book.run.clone().filter(|_| book.changed) else { return Ok(()) };
            let list = book.list_changed.then(|| book.not_moved.clone());
            (book.changed, book.list_changed) = (false, false);
            (run, list)
        };
        let stored = self.store(&run, list.as_ref());
        if stored.is_err() {
            let mut book = self.lock();
            book.changed = true;
            book.list_changed |= list.is_some();
        }
        stored
    }

    /// The run as `how` leaves it: first written down, and then told, so that whoever hears that it has ended finds that on disk. Where it cannot
    /// be written it is told all the same. Blocks.
    pub(super) fn end(&self, how: impl Fn(&mut Run)) -> Result<(), RunFault> {
        let _one = self.writing.lock().unwrap_or_else(|e| e.into_inner());
        let (mut ended, list) = {
            let book = self.lock();
            let Some(run) = book.run.clone() else { return Ok(()) };
            (run, book.not_moved.clone())
        };
        how(&mut ended);
        let stored = self.store(&ended, Some(&list));
        {
            let mut book = self.lock();
            if let Some(run) = &mut book.run {
                // Once more, because an operator may have said something else meanwhile.
                how(run);
            }
            book.changed = stored.is_err() || book.run.as_ref() != Some(&ended);
            book.list_changed |= stored.is_err();
        }
        self.show();
        stored
    }

    fn store(&self, run: &Run, list: Option<&NotMoved>) -> Result<(), RunFault> {
        list.map_or(Ok(()), |list| self.list.store(list))?;
        self.file.store(run)
    }

    fn count(&self, tally: &Tally) {
        for (outcome, counter) in Outcome::ALL.into_iter().zip(&self.counters) {
            counter.increment(tally.of(outcome));
        }
        // What a dry run would copy counts as nothing.
        if tally.of(Outcome::Lacking) == 0 {
            self.bytes.increment(tally.bytes);
        }
    }

    fn show(&self) {
        let share = self.lock().run.as_ref().map_or(0.0, Run::share);
        self.ratio.set(share);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::run::tests::run, *};

    fn key(name: &str) -> Key {
        Key::from_bytes(name.to_owned())
    }

    fn failed(name: &str) -> Worked {
        let mut worked = Worked::default();
        worked.stays(key(name), Why { outcome: Outcome::Failed, reason: "kask", detail: None });
        worked
    }

    fn copied() -> Worked {
        let mut worked = Worked::default();
        worked.tally.count(Outcome::Copied);
        worked
    }

    fn counted(ledger: &Ledger) -> (u64, u64, usize) {
        let book = ledger.lock();
        let tally = book.run.as_ref().unwrap().tally();
        (tally.of(Outcome::Copied), tally.of(Outcome::Failed), book.not_moved.len())
    }

    #[test]
    fn a_key_that_failed_and_is_copied_later_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), "s");
        ledger.begin(run());
        ledger.commit(0, &[key("a"), key("b")], Counts::default(), None, failed("a"));
        assert_eq!(counted(&ledger), (0, 1, 1));
        ledger.commit_again(0, &[key("a")], copied());
        assert_eq!(counted(&ledger), (1, 0, 0));
        assert!(ledger.lock().run.as_ref().unwrap().tally().reasons.is_empty());
    }

    #[test]
    fn what_is_written_down_is_read_back_counts_and_place_together() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), "s");
        ledger.begin(run());
        let place = Place::On { run_id: "r".into(), cursor: 9 };
        ledger.commit(0, &[key("a")], Counts { names: 3, ..Counts::default() }, Some(place.clone()), failed("a"));
        ledger.checkpoint().unwrap();
        let again = Ledger::open(dir.path(), "s");
        assert_eq!(counted(&again), (0, 1, 1));
        let shard = again.lock().run.as_ref().unwrap().shards[0].clone();
        assert_eq!((shard.place, shard.tally.walked.names), (place, 3));
        again.begin_again(0, |_| true);
        assert_eq!(counted(&again), (0, 0, 0));
    }

    #[test]
    fn more_keys_that_failed_than_are_listed_are_met_by_another_walk() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), "s");
        ledger.begin(run());
        let mut worked = failed("a");
        worked.tally.count(Outcome::Failed);
        ledger.commit(0, &[key("a"), key("b")], Counts::default(), Some(Place::Start), worked);
        assert_eq!(ledger.failed_unlisted(|_| 0), [0; 0], "it goes on where it is first");
        ledger.commit(0, &[], Counts::default(), Some(Place::End), Worked::default());
        assert_eq!((ledger.failed_unlisted(|_| 0), ledger.lock().run.as_ref().unwrap().unlisted), (vec![0], 1));
        ledger.begin_again(0, |_| true);
        assert_eq!((ledger.failed_unlisted(|_| 0), ledger.lock().run.as_ref().unwrap().unlisted), (vec![], 0));
        ledger.commit(0, &[key("a")], Counts::default(), Some(Place::End), failed("a"));
        assert_eq!(ledger.failed_unlisted(|_| 0), [0; 0], "those listed are tried again by themselves");
    }

    /// The list was written, the run was not: the page is met again.
    #[test]
    fn a_page_that_is_met_again_leaves_no_key_twice() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), "s");
        ledger.begin(run());
        ledger.checkpoint().unwrap();
        ledger.commit(0, &[key("a")], Counts::default(), None, failed("a"));
        ledger.list.store(&ledger.lock().not_moved).unwrap();
        let again = Ledger::open(dir.path(), "s");
        assert_eq!(counted(&again), (0, 0, 1));
        again.commit(0, &[key("a")], Counts::default(), None, copied());
        assert_eq!(counted(&again), (1, 0, 0));
    }

    #[test]
    fn an_end_is_on_disk_before_it_is_told_and_does_not_undo_what_an_operator_said() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), "s");
        ledger.begin(run());
        let told = std::cell::RefCell::new(Vec::new());
        let finished = |run: &mut Run| {
            let kept = ledger.file.load().unwrap().map(|run| run.state);
            told.borrow_mut().push(kept);
            if run.state == State::Running {
                run.state = State::Finished;
            }
        };
        ledger.end(finished).unwrap();
        assert_eq!((told.take(), ledger.state()), (vec![None, Some(State::Finished)], Some(State::Finished)));
        ledger.change(|run| run.state = State::Cancelled);
        ledger.end(finished).unwrap();
        assert_eq!(Ledger::open(dir.path(), "s").state(), Some(State::Cancelled));
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), "s");
        ledger.begin(run());
        std::fs::create_dir(dir.path().join("s.backfill.json")).unwrap();
        assert!(ledger.checkpoint().unwrap_err().to_string().contains("s.backfill.json cannot be written"));
        std::fs::remove_dir(dir.path().join("s.backfill.json")).unwrap();
        ledger.checkpoint().unwrap();
        assert_eq!(Ledger::open(dir.path(), "s").state(), Some(State::Running));
    }
}
