//! The keys of the last few pages, so that none is given twice.
//!
//! SCAN repeats keys where the hash table shrinks under a walk: then the one bucket at which the walk stands holds keys of some that it
//! has just been to. So what can be repeated was given a moment ago, and the last pages are all that has to be remembered.

use crate::codec::key::Key;
use std::collections::HashSet;

/// Pages remembered, with the one being read.
const PAGES: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Recent {
    pages: [HashSet<Key>; PAGES],
    now: usize,
}

impl Recent {
    /// The next page begins; the oldest is forgotten.
    pub(super) fn turn(&mut self) {
        self.now = (self.now + 1) % PAGES;
        self.pages[self.now].clear();
    }

    /// Whether the key is none of those remembered; from now on it is.
    pub(super) fn is_new(&mut self, key: &Key) -> bool {
        let known = self.pages.iter().any(|page| page.contains(key));
        !known && self.pages[self.now].insert(key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_new_again_once_its_page_is_forgotten() {
        let mut recent = Recent::default();
        let key = Key::from_bytes(&b"a"[..]);
        recent.turn();
        assert!(recent.is_new(&key));
        for _ in 1..PAGES {
            assert!(!recent.is_new(&key));
            recent.turn();
        }
        assert!(!recent.is_new(&key), "the oldest page still counts");
        recent.turn();
        assert!(recent.is_new(&key));
    }
}
