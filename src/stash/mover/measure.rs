//! What is measured before a move, for its guards.

use super::{MoveRequest, Mover, unix_ms};
use crate::{
    codec::key::Key,
    phase::{Phase, guard::Figures, record::PhaseRecord},
    protocol::{
        World,
        world::{KaskGot, Millis},
    },
    stash::sample,
};

/// Kask's probe before a move may take this long, in milliseconds.
const PROBE_MS: Millis = 1_200;

impl Mover {
    pub(super) async fn figures(&self, record: &PhaseRecord, request: &MoveRequest) -> Figures {
        let site = &self.stash.site;
        if record.phase.uses_redis() || request.to.uses_redis() {
            self.stash.open_shards();
        }
        let mut figures = Figures {
            kask_emptied: request.kask_emptied,
            lease_ms: site.settings.lease,
            now_unix_ms: unix_ms(),
            damaged: self.stash.views.iter().filter_map(|view| view.last()).map(|seen| seen.damaged).sum(),
            ..Figures::default()
        };
        for (shard, until) in self.shards_in_use(Phase::RedisOnly) {
            if self.stash.fence_on(shard, until).await.is_err() {
                figures.shards_away.push(self.stash.shard_name(shard));
            }
        }
        let probe = Key::from_bytes(format!("decant-probe-{:016x}", fastrand::u64(..)));
        if let KaskGot::Error(why) = site.world.kask_get(&probe, site.world.now() + PROBE_MS).await {
            figures.kask_fails = Some(why);
        }
        let wanted = matches!(
            (record.phase, request.to),
            (Phase::RedisOnly, Phase::DualWrite) | (Phase::KaskFirst, Phase::RedisStandby)
        );
        if wanted && figures.shards_away.is_empty() && figures.kask_fails.is_none() {
            let sample = sample::take(&self.stash).await;
            (figures.sampled, figures.not_in_kask, figures.in_kask) =
                (sample.sampled, sample.not_in_kask, sample.in_kask);
        }
        figures
    }
}
