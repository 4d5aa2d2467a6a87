//! The first start, and every start without a record: what stands on the shards decides, or this decant begins.

use super::{Mover, other_shards, unix_ms};
use crate::{
    fleet::FileStore,
    outbox::Raised,
    phase::{
        Phase,
        record::{PhaseRecord, State},
    },
    protocol::Fence,
};

/// The reason in a record of what a fence says.
pub(super) const LEARNED: &str = "learned from the fence";

impl Mover {
    /// No record yet: the shards' fence is the record of who came first; without one, this decant raises the first.
    pub(super) async fn first_start(&self, store: &FileStore) -> Result<(), String> {
        let _one = self.changing.lock().await;
        let mut seen: Option<Fence> = None;
        let mut away = None;
        // Also where the config says kask-only: others may share these shards, and be in another phase.
        for (shard, until) in self.all_shards() {
            match self.stash.fence_on(shard, until).await {
                Ok(fence) => seen = seen.into_iter().chain(fence).max_by_key(|fence| fence.version),
                Err(why) => away = away.or(Some(why)),
            }
        }
        let mut record = match (seen, away) {
            // A shard that is away has this fence, or a newer one that is learned of later, as a stale decant learns of it.
            (Some(fence), away) if away.is_none() || fence.member != self.member => self.adopted(&fence)?,
            (_, Some(why)) => return Err(self.needs_every_shard(&why)),
            (_, None) => self.first_record(),
        };
        if record.member == self.member {
            store.replace(record.clone()).await.map_err(|fault| fault.to_string())?;
            if let Some(other) = self.raise_everywhere(&record).await? {
                record = self.adopted(&other)?;
            }
        }
        // Stored before it is told of: this is tried again four times a second.
        store.begin(record.clone()).await.map_err(|fault| fault.to_string())?;
        self.believe(&record);
        self.stash.confirm();
        Ok(())
    }

    /// What a shard that is away knows must not be guessed: it may have a fence.
    pub(super) fn needs_every_shard(&self, why: &str) -> String {
        match self.first_phase {
            Phase::KaskOnly => format!("{why}; if this Redis is gone for good, remove it from the stash's config"),
            _ => format!("{why}; a first start needs every shard once"),
        }
    }

    pub(super) fn first_record(&self) -> PhaseRecord {
        PhaseRecord {
            stash: self.stash.name.clone(),
            phase: self.first_phase,
            ahead: None,
            from: None,
            version: 1,
            state: State::Moving,
            since_unix_ms: unix_ms(),
            by: "decant".into(),
            reason: "first start".into(),
            forced: false,
            guards: Vec::new(),
            member: self.member.clone(),
            driver: None,
            kask_stale_since_unix_ms: None,
            mirror_unclean_since_unix_ms: None,
        }
    }

    /// A record of what another decant's fence says.
    pub(super) fn adopted(&self, fence: &Fence) -> Result<PhaseRecord, String> {
        if fence.shards != self.stash.shards_digest() {
            return Err(other_shards(fence));
        }
        Ok(PhaseRecord {
            phase: fence.phase,
            ahead: fence.ahead.clone(),
            version: fence.version,
            reason: LEARNED.into(),
            by: fence.member.clone(),
            member: fence.member.clone(),
            driver: None,
            state: if fence.member == self.member { State::Moving } else { State::Settled },
            kask_stale_since_unix_ms: self.perhaps_stale(fence).filter(|_| fence.version > 1),
            mirror_unclean_since_unix_ms: self.perhaps_unclean(fence).filter(|_| fence.version > 1),
            ..self.first_record()
        })
    }

    /// Of a move of this decant's own whose record is lost: what may have gone past Kask counts as gone past it.
    pub(super) fn perhaps_stale(&self, fence: &Fence) -> Option<u64> {
        (fence.member == self.member && fence.phase == Phase::RedisOnly).then(unix_ms)
    }

    /// The same of Redis, which `kask-only` may have come before.
    pub(super) fn perhaps_unclean(&self, fence: &Fence) -> Option<u64> {
        (fence.member == self.member && fence.has(Phase::RedisStandby)).then(unix_ms)
    }

    /// Raises the fence on every shard; `Some` where one has another's of this version or a newer.
    async fn raise_everywhere(&self, record: &PhaseRecord) -> Result<Option<Fence>, String> {
        let fence = self.fence_of(record);
        for (shard, until) in self.all_shards() {
            match self.stash.raise_on(shard, &fence, false, until).await? {
                Raised::Done => {}
                Raised::Refused(Some(other)) => return Ok(Some(other)),
                Raised::Refused(None) => {
                    return Err("a shard's fence cannot be read; was it written by a newer decant?".into());
                }
            }
        }
        Ok(None)
    }
}
