//! What is measured before a move.

use super::{MoveFault, MoveRequest, Mover, begin::step_of, unix_ms};
use crate::{
    codec::{key::Key, show::rfc3339},
    phase::{Phase, guard::Figures, record::PhaseRecord},
    stash::{
        SuspectFigures,
        sample::{self, Sample},
    },
    tier::kask::KaskRead,
};
use std::time::Duration;
use tokio::time::Instant;

/// Kask's probe may take this long.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1_200);
/// Keys sampled where Kask is to be empty: once in a migration.
const STALE_SAMPLE_KEYS: usize = 1_000;
/// Keys sampled where Kask is to have everything: fewer, as the console asks again and again while Redis is still read.
const COPIED_SAMPLE_KEYS: usize = 200;

impl Mover {
    /// # Errors
    /// A shard has a fence that this record does not know of: its version must not be used again.
    pub(super) async fn figures(&self, record: &PhaseRecord, request: &MoveRequest) -> Result<Figures, MoveFault> {
        let (site, step) = (&self.stash.site, step_of(record, request)?);
        if record.phase.uses_redis() || step.to.uses_redis() {
            self.stash.open_shards();
        }
        let mut figures = Figures {
            kask_emptied: request.kask_emptied,
            lease_ms: site.settings.lease,
            now_unix_ms: unix_ms(),
            written_alone: site.world.alone.why_unclean(),
            damaged: self.stash.views.iter().filter_map(|view| view.last()).map(|seen| seen.damaged).sum(),
            observed: self.stash.observed(step.to > step.from).await,
            ..Figures::default()
        };
        for (shard, until) in self.all_shards() {
            match self.stash.fence_on(shard, until).await {
                Ok(Some(stands)) if stands.version >= record.version && stands != self.fence_of(record) => {
                    return Err(MoveFault::Overtaken(stands));
                }
                Ok(_) => self.health(shard, until, &mut figures).await,
                Err(_) => figures.shards_away.push(self.stash.shard_name(shard)),
            }
        }
        if (step.from, step.to) == (Phase::KaskFirst, Phase::DualWrite) {
            figures.evicted = self.evicted(&mut figures).await;
        }
        let probe = Key::from_bytes(format!("decant-probe-{:016x}", fastrand::u64(..)));
        // An operator wants to know: also of a Kask that has counted as away so far.
        if let KaskRead::Error(why) = site.world.kask.get_all_the_same(&probe, Instant::now() + PROBE_TIMEOUT).await {
            figures.kask_fails = Some(why.to_string());
        }
        match (step.from, step.to) {
            (Phase::RedisOnly, Phase::DualWrite) => {
                let write = figures.shards_away.is_empty() && figures.kask_fails.is_none();
                figures.fitness = self.stash.fitness(&figures.shards_away, write).await;
                self.sample(step.from, STALE_SAMPLE_KEYS, &mut figures).await;
            }
            (Phase::DualWrite, Phase::KaskFirst) => {
                figures.fitness.open_intents = self.stash.open_intents();
                figures.history = self.moves().await?;
            }
            (Phase::KaskFirst, Phase::RedisStandby) => {
                self.look_up_proofs(&mut figures).await?;
                self.sample(step.from, COPIED_SAMPLE_KEYS, &mut figures).await;
            }
            _ => {}
        }
        Ok(figures)
    }

    async fn sample(&self, phase: Phase, most: usize, figures: &mut Figures) {
        if !figures.shards_away.is_empty() || figures.kask_fails.is_some() {
            figures.sample_fails = Some("a tier does not answer".to_owned());
            return;
        }
        match sample::take(&self.stash, phase, most).await {
            Ok(Sample { sampled, in_kask, unasked }) => {
                (figures.sampled, figures.in_kask, figures.unasked) = (sampled, in_kask, unasked);
            }
            Err(why) => figures.sample_fails = Some(why),
        }
    }

    /// Asked now: what was last seen of a shard may be from before it came back.
    async fn health(&self, shard: usize, until: Instant, figures: &mut Figures) {
        let Some(outbox) = &self.stash.site.world.outbox else { return };
        let name = self.stash.shard_name(shard);
        let why = match outbox.look(shard, until).await {
            Err(fault) => Some(format!("it cannot be looked at: {fault}")),
            Ok(look) if look.must_compare => {
                Some("it is being compared with what was seen of it; try again".to_owned())
            }
            Ok(look) => {
                if let Some(at) = look.mirror_lost_unix_ms {
                    figures.mirror_lost.push(format!("{name} since {}", rfc3339(at)));
                }
                match look.suspect {
                    Some(suspect) => Some(SuspectFigures::of(&suspect).extent()),
                    None if look.quiet_ms > 0 => Some(format!(
                        "it came back a moment ago; what was under way then may still arrive in Kask, for {} ms",
                        look.quiet_ms
                    )),
                    None => None,
                }
            }
        };
        figures.suspect.extend(why.map(|why| format!("{name}: {why}")));
    }

    /// A shard that does not tell is one that cannot be relied on.
    async fn evicted(&self, figures: &mut Figures) -> u64 {
        let Some(outbox) = &self.stash.site.world.outbox else { return 0 };
        let mut evicted: u64 = 0;
        for (shard, until) in self.all_shards() {
            match outbox.evicted(shard, until).await {
                Ok(keys) => evicted = evicted.saturating_add(keys),
                Err(fault) => {
                    figures
                        .suspect
                        .push(format!("{}: it does not tell what it evicted: {fault}", self.stash.shard_name(shard)));
                }
            }
        }
        evicted
    }

    /// What backfill and verify have shown, and the moves by which that is still worth something.
    async fn look_up_proofs(&self, figures: &mut Figures) -> Result<(), MoveFault> {
        let proofs = &self.stash.proofs;
        figures.backfill = proofs.backfill.load().as_deref().cloned();
        figures.verify = proofs.verify.load().as_deref().cloned();
        figures.history = self.moves().await?;
        Ok(())
    }
}
