//! Who else is at work on this stash's shards: each decant says so on each shard, now and then.

use super::Stash;
use crate::outbox::{Announced, Announcement};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How often a decant says on each shard that it is there.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(5);

/// A decant that has said on a shard that it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    pub member: String,
    /// The version of the phase that it believes in.
    pub version: u64,
    /// Where it keeps the record: `file` or `etcd`.
    pub store: String,
    /// Its build.
    pub decant: String,
    pub heard_ms_ago: u64,
}

/// What was heard on one shard, and when. A `std` mutex: held to copy.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Option<(Instant, Vec<Announced>)>>);

impl Heard {
    /// Whether it is time to say again that one is there.
    fn is_due(&self) -> bool {
        self.lock().as_ref().is_none_or(|(at, _)| at.elapsed() >= ANNOUNCE_EVERY)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Vec<Announced>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stash {
    /// Says that this decant is there, if it is time to. A shard that takes no writes is asked again at the next look.
    pub(super) async fn announce(&self, shard: usize) {
        let (Some(outbox), Some(heard)) = (&self.site.world.outbox, self.heard.get(shard)) else { return };
        if !heard.is_due() {
            return;
        }
        let says = Announcement {
            version: self.site.belief().fence.version,
            store: self.store.to_owned(),
            decant: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let until = Instant::now() + self.redis_timeout;
        if let Ok(announced) = outbox.announce(shard, self.site.beliefs.member(), &says, until).await {
            *heard.lock() = Some((Instant::now(), announced));
        }
    }

    /// The others, by name; of each what it said last. Empty where no shard is looked at.
    pub(super) fn neighbours(&self) -> Vec<Neighbour> {
        let mut latest: BTreeMap<String, Neighbour> = BTreeMap::new();
        for heard in self.heard.iter().filter(|_| self.redis_is_in_use()) {
            let Some((at, announced)) = heard.lock().clone() else { continue };
            let since = at.elapsed().as_millis() as u64;
            for one in announced.into_iter().filter(|one| one.member != self.site.beliefs.member()) {
                let neighbour = Neighbour {
                    member: one.member.clone(),
                    version: one.says.version,
                    store: one.says.store,
                    decant: one.says.decant,
                    heard_ms_ago: one.ms_ago.saturating_add(since),
                };
                match latest.get(&one.member) {
                    Some(known) if known.heard_ms_ago <= neighbour.heard_ms_ago => {}
                    _ => drop(latest.insert(one.member, neighbour)),
                }
            }
        }
        latest.into_values().collect()
    }
}
