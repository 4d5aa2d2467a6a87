//! What a stash tells of itself, for status pages. Read-only; nothing here waits.

use super::{Neighbour, Reads, Stash, alone::AloneFigures, traffic::Windows};
use crate::{codec::show::rfc3339, fleet::Report, outbox::Suspect, tier::breaker::Standing};
use serde::{Deserialize, Serialize};

/// One shard, as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFigures {
    pub name: String,
    /// Without credentials.
    pub address: String,
    pub up: bool,
    pub why_down: Option<String>,
    /// `closed`, `open` (Redis counts as away, and is not asked) or `half-open`.
    #[serde(default)]
    pub breaker: String,
    /// Of the last look; none: the shard had no fence, or was never looked at.
    pub fence_version: Option<u64>,
    pub fence_member: Option<String>,
    /// The fence is not the one that this decant follows: nothing begins on the shard until one gives way.
    #[serde(default)]
    pub fence_differs: bool,
    /// Intents by direction; none: never looked at.
    pub to_kask: Option<u64>,
    pub to_redis: Option<u64>,
    pub damaged: Option<u64>,
    /// Age of the oldest intent.
    pub oldest_ms: Option<u64>,
    /// Since the last look.
    pub seen_ms_ago: Option<u64>,
    /// It came back without writes that it had acknowledged, and nobody has accepted that.
    #[serde(default)]
    pub suspect: Option<SuspectFigures>,
    /// It came back a moment ago: nothing is copied from what it held before, for so long.
    #[serde(default)]
    pub quiet_ms: u64,
    /// Who accepted the last loss of writes, when and why.
    #[serde(default)]
    pub loss_accepted: Option<String>,
    /// Since when Redis lacks writes that it lost as a mirror.
    #[serde(default)]
    pub mirror_lost_since: Option<String>,
    /// Keys that it evicted since `kask-first` began.
    #[serde(default)]
    pub evicted: u64,
}

/// A loss of acknowledged writes, as it was noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspectFigures {
    pub since: String,
    /// The decant that noticed it first.
    pub noticed_by: String,
    /// Writes that decant had counted, and how far the data reaches; none: not as far as the server's being accepted.
    pub writes_seen: u64,
    pub writes_kept: Option<u64>,
    /// Copies to Kask that stood in the outbox, and are not made any more.
    pub copies_dropped: u64,
}

impl SuspectFigures {
    pub(super) fn of(suspect: &Suspect) -> SuspectFigures {
        SuspectFigures {
            since: rfc3339(suspect.since_unix_ms),
            noticed_by: suspect.member.clone(),
            writes_seen: suspect.seen,
            writes_kept: suspect.reached,
            copies_dropped: suspect.intents,
        }
    }

    /// How much is missing, in words.
    pub fn extent(&self) -> String {
        match self.writes_kept {
            Some(kept) => format!(
                "{} of the {} writes that were counted are missing",
                self.writes_seen - kept.min(self.writes_seen),
                self.writes_seen
            ),
            None => format!("it holds other data than the one whose {} writes were counted", self.writes_seen),
        }
    }
}

/// One stash, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StashFigures {
    /// `sync` or `async`.
    pub replication: String,
    /// `heal` or `fail`.
    pub on_tier_failure: String,
    pub shadow_share: f64,
    /// Its last answers were not all failures.
    #[serde(default)]
    pub kask_up: bool,
    /// False: in `kask-only` no connection to Redis is held, and no shard is looked at.
    pub redis_in_use: bool,
    /// `closed`, `open` (Kask counts as away, and is not asked) or `half-open`.
    #[serde(default)]
    pub kask_breaker: String,
    pub shards: Vec<ShardFigures>,
    /// Operations under way.
    pub in_flight: usize,
    /// Keys that decant knows as pending: their tiers may differ.
    pub keys_pending: usize,
    /// Reads since the start.
    pub reads: Reads,
    /// What was read over the last minute, hour and day, and what failed meanwhile.
    #[serde(default)]
    pub traffic: Windows,
    /// How long no read has fallen back on Redis, in milliseconds; at most as long as this decant has run.
    #[serde(default)]
    pub without_fallback_ms: u64,
    /// Writes to Kask alone, with Redis out of reach, that are not healed yet.
    #[serde(default)]
    pub alone: AloneFigures,
    /// Other decants on the same shards, by name.
    #[serde(default)]
    pub neighbours: Vec<Neighbour>,
}

impl Stash {
    pub fn figures(&self) -> StashFigures {
        let settings = &self.site.settings;
        let shards = (0..self.views.len()).map(|shard| self.shard_figures(shard)).collect();
        StashFigures {
            replication: if settings.answer_before_copy { "async" } else { "sync" }.to_owned(),
            on_tier_failure: if settings.fail_on_tier_failure { "fail" } else { "heal" }.to_owned(),
            shadow_share: self.shadow_share,
            kask_up: self.metrics.kask_is_up() && self.site.world.kask.breaker().standing() == Standing::Closed,
            kask_breaker: self.site.world.kask.breaker().standing().name().to_owned(),
            redis_in_use: self.redis_is_in_use() && !self.views.is_empty(),
            shards,
            in_flight: self.in_flight(),
            keys_pending: self.keys_pending(),
            reads: self.metrics.reads(),
            traffic: self.windows(),
            without_fallback_ms: self.without_fallback_ms(),
            alone: self.site.world.alone.figures(),
            neighbours: self.neighbours(),
        }
    }

    /// What a member of a fleet says of itself.
    pub(super) fn report(&self) -> Report {
        let (belief, reads) = (self.site.belief(), self.metrics.reads());
        let seen: Vec<super::Seen> = self.views.iter().filter_map(super::ShardView::last).collect();
        let shards = self.site.world.outbox.iter().flat_map(|outbox| outbox.shards());
        let away = shards.filter(|shard| !shard.is_up() || shard.breaker().standing() != Standing::Closed);
        let shards_away = away.map(|shard| shard.name.clone()).collect();
        Report {
            version: belief.fence.version,
            phase: Some(belief.phase()),
            written_alone: self.site.world.alone.why_unclean(),
            reads_kask: reads.kask,
            reads_redis: reads.redis,
            reads_none: reads.none,
            keys_pending: self.keys_pending() as u64,
            outbox: seen.iter().map(|seen| seen.to_kask + seen.to_redis).sum(),
            damaged: seen.iter().map(|seen| seen.damaged).sum(),
            in_flight: self.in_flight() as u64,
            met: self.met(),
            kask_away: self.site.world.kask.breaker().standing() != Standing::Closed,
            shards_away: if self.redis_is_in_use() { shards_away } else { Vec::new() },
            backfill: self.proofs.backfill.load().as_deref().cloned(),
            verify: self.proofs.verify.load().as_deref().cloned(),
            ..Report::default()
        }
    }

    fn shard_figures(&self, shard: usize) -> ShardFigures {
        let connection = self.site.world.outbox.as_ref().and_then(|outbox| outbox.shards().get(shard));
        let seen = self.views.get(shard).and_then(super::ShardView::last);
        let seen = seen.as_ref();
        ShardFigures {
            name: self.shard_name(shard),
            address: connection.map(|shard| shard.address()).unwrap_or_default(),
            up: connection.is_some_and(|shard| shard.is_up()),
            breaker: connection.map(|shard| shard.breaker().standing().name().to_owned()).unwrap_or_default(),
            why_down: connection.and_then(|shard| shard.why_down()),
            fence_version: seen.and_then(|seen| Some(seen.fence.as_ref()?.version)),
            fence_member: seen.and_then(|seen| Some(seen.fence.as_ref()?.member.clone())),
            fence_differs: seen.is_some_and(|seen| seen.fence.as_ref() != Some(&self.site.belief().fence)),
            to_kask: seen.map(|seen| seen.to_kask),
            to_redis: seen.map(|seen| seen.to_redis),
            damaged: seen.map(|seen| seen.damaged),
            oldest_ms: seen.and_then(|seen| seen.oldest_ms),
            seen_ms_ago: seen.map(|seen| u64::try_from(seen.sent.elapsed().as_millis()).unwrap_or(u64::MAX)),
            suspect: seen.and_then(|seen| seen.suspect.as_ref()).map(SuspectFigures::of),
            quiet_ms: seen.map_or(0, |seen| seen.quiet_ms),
            loss_accepted: seen.and_then(|seen| seen.accepted.clone()),
            mirror_lost_since: seen.and_then(|seen| seen.mirror_lost_unix_ms).map(rfc3339),
            evicted: seen.map_or(0, |seen| seen.evicted),
        }
    }
}
