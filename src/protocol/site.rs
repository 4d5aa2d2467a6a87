//! One stash inside one decant: the world it acts on, what it believes, what it knows as pending.

use super::{
    Belief, Beliefs, Fence, Rules, World,
    belief::Adoption,
    pending::{Pending, PendingKeys},
    world::{Event, Millis},
};
use crate::codec::key::Key;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

/// Lengths and choices of a stash. All lengths in milliseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// An intent older than this may be claimed. Longer than any Kask request can be under way.
    pub lease: Millis,
    /// How long after its intent was asked for a copier may still send or settle: far inside the lease.
    pub copy_window: Millis,
    /// How old (by its sending) a look at the outbox may be before every key counts as pending.
    pub look_fresh: Millis,
    /// A write whose copy failed is not answered before this long after its APPLY: longer than `look_fresh`, so that every decant knows.
    pub settle_wait: Millis,
    /// Everything for one request happens within this.
    pub budget: Millis,
    /// How often a write asks again for a key in transit.
    pub transit_poll: Millis,
    /// Answer after APPLY, copy afterwards.
    pub answer_before_copy: bool,
    /// Answer 500 where Kask failed though Redis holds the write (it is healed all the same).
    pub fail_on_tier_failure: bool,
    /// At most this many read-repairs at once; further reads are answered without one.
    pub repairs_max: usize,
    /// Answer a miss where only a Redis that lost writes has a value.
    pub hold_doubtful: bool,
}

impl Settings {
    /// What the design argues with: lease 15 s, looks fresh for 200 ms, failed copies answered after 250 ms, 2.4 s a request.
    pub const DEFAULT: Settings = Settings {
        lease: 15_000,
        copy_window: 2_400,
        look_fresh: 200,
        settle_wait: 250,
        budget: 2_400,
        transit_poll: 10,
        answer_before_copy: false,
        fail_on_tier_failure: false,
        repairs_max: 256,
        hold_doubtful: false,
    };
}

/// One stash inside one decant.
pub struct Site<W> {
    pub world: W,
    pub rules: Rules,
    pub settings: Settings,
    pub beliefs: Beliefs,
    /// One for each shard; never empty, for `shard_of` answers 0 where there is no shard.
    pub pending: Vec<PendingKeys>,
    /// Keys whose read-repair is under way here. A `std` mutex: held for one map operation.
    pub(super) repairs: Mutex<HashSet<Key>>,
}

impl<W: World> Site<W> {
    pub fn new(world: W, rules: Rules, settings: Settings, beliefs: Beliefs, shards: usize) -> Arc<Site<W>> {
        let pending = (0..shards.max(1)).map(|_| PendingKeys::default()).collect();
        Arc::new(Site { world, rules, settings, beliefs, pending, repairs: Mutex::default() })
    }

    pub fn belief(&self) -> Arc<Belief> {
        self.beliefs.current()
    }

    pub fn pending_of(&self, key: &Key) -> Pending {
        self.shard_pending(key).of(key, self.world.now(), self.settings.look_fresh)
    }

    fn shard_pending(&self, key: &Key) -> &PendingKeys {
        &self.pending[self.world.shard_of(key)]
    }

    /// The key is pending here from now until the returned guard is told otherwise.
    pub(super) fn own<'a>(&'a self, key: &'a Key) -> Own<'a, W> {
        self.shard_pending(key).begin(key);
        Own { site: self, key, settled: false }
    }

    /// Takes over a fence that a script was refused with; whether it is worth starting over.
    pub(super) fn learn(&self, seen: Option<&Fence>) -> bool {
        let usable = self.beliefs.learn(seen) != Adoption::Unusable;
        if !usable {
            self.world.note(Event::FenceUnusable);
        }
        usable
    }
}

/// Keeps a key pending while an operation on it runs; dropped unsettled (also when the operation is cut off), the key stays pending
/// until a later look shows what is left of it.
pub(super) struct Own<'a, W: World> {
    site: &'a Site<W>,
    key: &'a Key,
    settled: bool,
}

impl<W: World> Own<'_, W> {
    /// No intent of this operation is left.
    pub(super) fn settled(mut self) {
        self.settled = true;
    }
}

impl<W: World> Drop for Own<'_, W> {
    fn drop(&mut self) {
        self.site.shard_pending(self.key).end(self.key, self.settled, self.site.world.now());
    }
}
