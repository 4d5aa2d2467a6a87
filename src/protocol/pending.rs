//! Pending keys: those whose tiers may differ, as far as this decant knows. A read of one asks Redis first.

use super::world::Millis;
use crate::codec::key::Key;
use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

/// How a shard's outbox looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Look {
    /// All keys with an open intent.
    Keys(HashSet<Key>),
    /// More than the bound: every key of the shard counts as pending.
    #[default]
    Everything,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    No,
    /// The last look was too long ago, or there was none yet: nobody knows.
    Perhaps,
    /// The last look showed more than can be listed: every key of the shard counts as pending, this one too.
    Among,
    Yes,
}

/// The keys of one shard that this decant knows as pending.
///
/// A `std` mutex: it is held for a few map operations, never across an await.
#[derive(Debug, Default)]
pub struct PendingKeys(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// This decant's own unsettled keys, known at once.
    own: HashMap<Key, Own>,
    look: Look,
    /// When the last look was sent; a look tells of what was there then, or later.
    look_sent: Option<Millis>,
}

#[derive(Debug, Default)]
struct Own {
    under_way: u32,
    /// When the last operation that did not settle ended. A look sent after that shows whatever it left behind.
    left_at: Option<Millis>,
}

impl PendingKeys {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// This decant is about to add an intent.
    pub fn begin(&self, key: &Key) {
        self.state().own.entry(key.clone()).or_default().under_way += 1;
    }

    /// The operation is over; `settled`: it surely left no intent.
    pub fn end(&self, key: &Key, settled: bool, now: Millis) {
        let mut state = self.state();
        let Some(own) = state.own.get_mut(key) else { return };
        own.under_way = own.under_way.saturating_sub(1);
        if !settled {
            own.left_at = Some(now);
        }
        if own.under_way == 0 && own.left_at.is_none() {
            state.own.remove(key);
        }
    }

    /// A look that was sent at `sent` has been answered. The fence that came with it must have been learned of before this is called.
    ///
    /// One that lists nothing keeps every key pending until one lists keys again, and with them those that this decant left: it does not
    /// remember them as well, for in a long outage of Kask they are as many as there are writes.
    pub fn looked(&self, look: Look, sent: Millis) {
        let mut state = self.state();
        state.look = look;
        state.look_sent = Some(sent);
        state.own.retain(|_, own| {
            if own.left_at.is_some_and(|left| left < sent) {
                own.left_at = None;
            }
            own.under_way > 0 || own.left_at.is_some()
        });
    }

    /// Whether the key is pending at `now`, when a look may be at most `fresh` old.
    pub fn of(&self, key: &Key, now: Millis, fresh: Millis) -> Pending {
        let state = self.state();
        if state.own.contains_key(key) {
            return Pending::Yes;
        }
        let Some(sent) = state.look_sent else { return Pending::Perhaps };
        match &state.look {
            Look::Keys(keys) if keys.contains(key) => Pending::Yes,
            Look::Keys(_) if now.saturating_sub(sent) <= fresh => Pending::No,
            Look::Keys(_) => Pending::Perhaps,
            // However old: this is what they were last known as.
            Look::Everything => Pending::Among,
        }
    }

    /// How many keys the last look showed, with this decant's own (an estimate: the two overlap).
    pub fn count(&self) -> usize {
        let state = self.state();
        match &state.look {
            Look::Keys(keys) => keys.len().max(state.own.len()),
            Look::Everything => state.own.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str) -> Key {
        Key::from_bytes(name.as_bytes())
    }

    #[test]
    fn before_the_first_look_and_after_a_stale_one_nobody_knows() {
        let pending = PendingKeys::default();
        assert_eq!(pending.of(&key("a"), 0, 200), Pending::Perhaps);
        pending.looked(Look::Keys([key("b")].into()), 1000);
        assert_eq!(pending.of(&key("a"), 1200, 200), Pending::No);
        assert_eq!(pending.of(&key("b"), 1200, 200), Pending::Yes);
        assert_eq!(pending.of(&key("a"), 1201, 200), Pending::Perhaps);
    }

    #[test]
    fn over_the_bound_every_key_is_pending_until_a_look_lists_keys_again() {
        let pending = PendingKeys::default();
        pending.begin(&key("own"));
        pending.end(&key("own"), false, 5);
        pending.looked(Look::Everything, 10);
        for name in ["own", "another's"] {
            assert_eq!(pending.of(&key(name), 10, 200), Pending::Among, "{name}");
            assert_eq!(pending.of(&key(name), 100_000, 200), Pending::Among, "{name}, with Redis away since");
        }
        pending.looked(Look::Keys([key("own")].into()), 20);
        assert_eq!(pending.of(&key("own"), 20, 200), Pending::Yes);
        assert_eq!(pending.of(&key("another's"), 20, 200), Pending::No);
    }

    #[test]
    fn what_was_left_unsettled_stays_until_a_later_look_was_sent() {
        let pending = PendingKeys::default();
        pending.begin(&key("a"));
        pending.looked(Look::Keys(HashSet::new()), 10);
        assert_eq!(pending.of(&key("a"), 10, 200), Pending::Yes);
        pending.end(&key("a"), false, 20);
        pending.looked(Look::Keys(HashSet::new()), 15);
        assert_eq!(pending.of(&key("a"), 20, 200), Pending::Yes, "the look was sent before the operation ended");
        pending.looked(Look::Keys(HashSet::new()), 21);
        assert_eq!(pending.of(&key("a"), 21, 200), Pending::No);
    }

    #[test]
    fn a_settled_operation_is_forgotten_at_once() {
        let pending = PendingKeys::default();
        pending.looked(Look::Keys(HashSet::new()), 0);
        pending.begin(&key("a"));
        pending.begin(&key("a"));
        pending.end(&key("a"), true, 1);
        assert_eq!(pending.of(&key("a"), 1, 200), Pending::Yes, "one is still under way");
        pending.end(&key("a"), true, 2);
        assert_eq!(pending.of(&key("a"), 2, 200), Pending::No);
    }
}
