//! Read-repair: what a fallback found is copied to Kask, once per key at a time.

use super::{
    Site, World,
    copy::{Copier, Ended},
    world::{By, Content, Event, Held, Millis, Stored, Token},
};
use crate::codec::key::Key;
use std::sync::Arc;

/// The right to repair one key. Readers that do not get it read without repairing.
pub(super) struct Place<W: World> {
    site: Arc<Site<W>>,
    key: Key,
}

impl<W: World> Place<W> {
    /// None: the key is being repaired here already, too many are, or clients need the room.
    pub(super) fn take(site: &Arc<Site<W>>, key: &Key) -> Option<Place<W>> {
        if site.world.is_busy() {
            site.world.note(Event::Repair("put_off"));
            return None;
        }
        let mut under_way = site.repairs.lock().unwrap_or_else(|e| e.into_inner());
        let free = under_way.len() < site.settings.repairs_max && under_way.insert(key.clone());
        free.then(|| Place { site: site.clone(), key: key.clone() })
    }

    /// Copies what TAKE found, in the background.
    pub(super) fn repair(self, intent: Token, generation: u64, value: &Stored, asked_at: Millis) {
        let value = value.clone();
        let site = self.site.clone();
        let deadline = asked_at + site.settings.copy_window;
        site.world.spawn(Box::pin(async move {
            let site = self.site.clone();
            let own = site.own(&self.key);
            let copier = Copier { site: &site, key: &self.key, intent, deadline, by: By::Repair };
            let (ended, copied) = match value {
                Stored::Body(body) => (copier.copy(&Held::Is(Content::Body(body)), generation).await, "copied"),
                // Nothing can be copied, so nothing differs on account of this read.
                Stored::Untranscodable(_) => (copier.settle(generation).await, "untranscodable"),
                Stored::Absent => (copier.settle(generation).await, "nothing"),
            };
            let outcome = match ended {
                Ended::Settled { .. } => copied,
                Ended::Lost => "lost",
                Ended::Left => "left",
            };
            site.world.note(Event::Repair(outcome));
            if ended != Ended::Left {
                own.settled();
            }
        }));
    }
}

impl<W: World> Drop for Place<W> {
    fn drop(&mut self) {
        self.site.repairs.lock().unwrap_or_else(|e| e.into_inner()).remove(&self.key);
    }
}
