//! What is done again and again until the record is as it should be: learn, raise, settle.

use super::{Mover, other_shards, unix_ms};
use crate::{
    fleet::FileStore,
    outbox::Raised,
    phase::{
        Phase,
        file::RecordFault,
        record::{PhaseRecord, State},
    },
    protocol::Fence,
    stash::{Seen, ShardView},
};
use std::time::Duration;
use tokio::time::Instant;

impl Mover {
    /// One look at what is still to be done: learn, raise, settle.
    pub(super) async fn drive(&self, store: &FileStore) -> Result<(), RecordFault> {
        let _one = self.changing.lock().await;
        let Some(record) = store.record() else { return Ok(()) };
        let record = &*record;
        let caught_up = store.catch_up().await;
        let belief = self.stash.site.belief();
        if belief.fence.version > record.version {
            let learned = self.learned(record, &belief.fence);
            return self.replace(store, learned).await;
        }
        if record.member != self.member {
            return caught_up;
        }
        if let Some(other) = self.raise_where_needed(record, record.is_settled()).await {
            tracing::error!(
                stash = self.stash.name,
                lost = record.phase.name(),
                phase = other.phase.name(),
                version = other.version,
                by = other.member,
                "another move took this version first, and stands; was state_dir copied, or restored from a backup?"
            );
            let learned = self.learned(record, &other);
            return self.replace(store, learned).await;
        }
        if record.state == State::Moving && self.is_over(record) {
            let settled = PhaseRecord { state: State::Settled, ..record.clone() };
            store.replace(settled.clone()).await?;
            self.believe(&settled);
            tracing::info!(
                stash = self.stash.name,
                phase = record.told(),
                version = record.version,
                "the move has settled"
            );
        }
        if !self.stash.redis_is_in_use() {
            self.stash.close_shards();
        }
        caught_up
    }

    /// Takes over what stands on the shards. What cannot be written is tried again.
    async fn replace(&self, store: &FileStore, next: PhaseRecord) -> Result<(), RecordFault> {
        store.begin(next.clone()).await?;
        self.believe(&next);
        Ok(())
    }

    fn learned(&self, record: &PhaseRecord, fence: &Fence) -> PhaseRecord {
        PhaseRecord {
            phase: fence.phase,
            ahead: fence.ahead.clone(),
            from: Some(record.phase).filter(|_| fence.version == record.version + 1),
            version: fence.version,
            state: if fence.member == self.member { State::Moving } else { State::Settled },
            since_unix_ms: unix_ms(),
            by: fence.member.clone(),
            reason: super::start::LEARNED.into(),
            forced: false,
            guards: Vec::new(),
            member: fence.member.clone(),
            driver: None,
            kask_stale_since_unix_ms: self
                .perhaps_stale(fence)
                .map(|now| record.kask_stale_since_unix_ms.unwrap_or(now)),
            mirror_unclean_since_unix_ms: self
                .perhaps_unclean(fence)
                .filter(|_| record.phase != Phase::KaskFirst || fence.version != record.version + 1)
                .map(|now| record.mirror_unclean_since_unix_ms.unwrap_or(now)),
            stash: record.stash.clone(),
        }
    }

    /// A missing or older fence is raised again from the record, never lowered. `Some`: another's of the same version was raised
    /// before this one ever was.
    ///
    /// `settled`: so is the record, and no newer move can have begun. Then writes need not wait on a server that has forgotten the fence.
    pub(super) async fn raise_where_needed(&self, record: &PhaseRecord, settled: bool) -> Option<Fence> {
        let retired = !record.phase.uses_redis() && record.state == State::Settled;
        if retired {
            return None;
        }
        let fence = self.fence_of(record);
        for (shard, until) in self.all_shards() {
            let stands = self.stash.views[shard].last().and_then(|seen| seen.fence);
            if stands.is_some_and(|stands| stands == fence || stands.version > fence.version) {
                continue;
            }
            let why = match self.stash.raise_on(shard, &fence, settled, until).await {
                Ok(Raised::Done) => {
                    self.troubles.unraised.over();
                    continue;
                }
                // The next look learns of it.
                Ok(Raised::Refused(Some(other))) if other.version > fence.version && other.shards == fence.shards => {
                    continue;
                }
                Ok(Raised::Refused(Some(other))) if other.shards == fence.shards => return Some(other),
                Ok(Raised::Refused(Some(other))) => other_shards(&other),
                Ok(Raised::Refused(None)) => "it cannot be read; was it written by a newer decant?".to_owned(),
                Err(why) => why,
            };
            if self.troubles.unraised.is_due() {
                let shard = self.stash.shard_name(shard);
                tracing::warn!(stash = self.stash.name, shard, why, "the fence is not raised yet");
            }
        }
        None
    }

    /// Every shard shows the new fence, has done so for long enough, and shows no intent of another direction. The outbox of a server that
    /// has only just come may be empty because it was forgotten: what it told of must have arrived.
    pub(super) fn is_over(&self, record: &PhaseRecord) -> bool {
        let fence = self.fence_of(record);
        // One look at each shard decides: fence and intents are of the same instant.
        let looks: Vec<Option<Seen>> = self.stash.views.iter().map(ShardView::last).collect();
        let raised = looks.iter().all(|look| look.as_ref().is_some_and(|seen| seen.fence.as_ref() == Some(&fence)));
        self.raised_for_long_enough(raised, record.version)
            && looks.iter().flatten().all(|seen| seen.quiet_ms == 0 && seen.of_before == Some(0))
    }

    /// No decant's fresh look is from before the fence was raised everywhere. Without this pause two quick moves could let a decant that
    /// missed both read a tier which is not written any more.
    fn raised_for_long_enough(&self, everywhere: bool, version: u64) -> bool {
        let mut raised = self.raised.lock().unwrap_or_else(|e| e.into_inner());
        match *raised {
            Some((of, since)) if everywhere && of == version => {
                since.elapsed() >= Duration::from_millis(self.stash.site.settings.settle_wait)
            }
            _ => {
                *raised = everywhere.then(|| (version, Instant::now()));
                false
            }
        }
    }
}
