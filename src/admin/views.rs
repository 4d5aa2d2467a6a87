//! The admin API's documents, as the server writes them and the command line reads them.

pub use super::attention::{Attention, Level};
use crate::{
    backfill::RunView,
    codec::show::rfc3339,
    phase::{
        Phase,
        ahead::Ahead,
        guard::Guard,
        record::{Happening, Measured, PhaseRecord, State},
    },
    stash::{
        ShardFigures, StashFigures,
        mover::FleetFigures,
        traffic::{Slot, Windows},
    },
    verify,
};
use serde::{Deserialize, Serialize};

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    pub version: String,
    /// This decant's name in fences.
    pub member: String,
    pub uptime_s: u64,
    pub ready: bool,
    pub stashes: Vec<StashView>,
}

/// `GET /v1/stashes/{stash}`. The record's fields stand beside the others, and are missing until the phase is confirmed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StashView {
    pub name: String,
    /// Until then nothing is served.
    pub confirmed: bool,
    pub why_unconfirmed: Option<String>,
    /// This decant may move: the fence names it, or it is a member of a fleet that etcd knows as alive.
    pub own: bool,
    #[serde(flatten)]
    pub record: Option<RecordView>,
    /// What an operator has to look at, the worst first.
    #[serde(default)]
    pub attention: Vec<Attention>,
    #[serde(default)]
    pub fleet: FleetFigures,
    #[serde(flatten)]
    pub figures: StashFigures,
    /// The last backfill; none: there was never one.
    #[serde(default)]
    pub backfill: Option<RunView>,
    /// The last run of verify, and the one under way.
    #[serde(default)]
    pub verify: verify::Brief,
}

/// Keys that are one phase ahead of their stash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AheadView {
    /// The phase that they are in.
    pub phase: Phase,
    /// Those that fit the pattern; none: a share of all.
    #[serde(rename = "match")]
    pub pattern: Option<String>,
    /// More than 0, less than 1; none: those that fit a pattern.
    pub share: Option<f64>,
    /// For people: `keys like testwiki:*`.
    pub text: String,
}

/// A phase record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordView {
    pub phase: Phase,
    /// None: no key is ahead.
    #[serde(default)]
    pub ahead: Option<AheadView>,
    /// The phase before, the same one where only the keys ahead of it changed; none: the first one, or one learned from a fence.
    #[serde(default)]
    pub from: Option<Phase>,
    pub version: u64,
    pub state: State,
    /// When the move began, RFC 3339.
    pub since: String,
    pub since_unix_ms: u64,
    pub by: String,
    pub reason: String,
    pub forced: bool,
    /// The guards as they were measured when the move began; of a forced move, those that are not ok were overridden.
    #[serde(default)]
    pub guards: Vec<Measured>,
    /// The decant that the fence names.
    pub member: String,
    /// Since when writes have gone past Kask; none: it has every write.
    pub kask_stale_since: Option<String>,
    /// Since when writes have gone past Redis; none: the mirror is clean.
    pub mirror_unclean_since: Option<String>,
}

/// `GET /v1/stashes/{stash}/phase`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseView {
    pub stash: String,
    pub own: bool,
    #[serde(flatten)]
    pub record: RecordView,
}

/// `GET /v1/stashes/{stash}/phase/history`, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryView {
    pub stash: String,
    pub history: Vec<RecordView>,
    /// Of a shared record, what happened beside its moves.
    #[serde(default)]
    pub events: Vec<Happening>,
}

/// `GET /v1/stashes/{stash}/fleet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetView {
    pub stash: String,
    /// This decant's name.
    pub member: String,
    /// The version of the phase record; none: it is not known yet.
    pub version: Option<u64>,
    pub phase: Option<Phase>,
    #[serde(default)]
    pub ahead: Option<AheadView>,
    #[serde(flatten)]
    pub fleet: FleetFigures,
}

/// `PUT /v1/stashes/{stash}/phase`, where the move began or would.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MovedView {
    pub record: RecordView,
    pub guards: Vec<GuardView>,
    pub dry_run: bool,
}

/// `GET /v1/stashes/{stash}/phase/next`: whether a step would begin, without trying to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextView {
    pub stash: String,
    pub from: Phase,
    /// None: there is no step forward any more.
    pub to: Option<Phase>,
    pub guards: Vec<GuardView>,
    /// Why the guards could not even be asked, such as a move that has not settled.
    pub refused: Option<String>,
    pub measured_ms_ago: u64,
}

/// One check before a move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardView {
    pub name: String,
    pub ok: bool,
    pub figure: String,
    pub needs: String,
}

/// `GET /readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyView {
    pub ready: bool,
    pub stashes: Vec<StashReadyView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StashReadyView {
    pub name: String,
    pub ready: bool,
    pub why: Option<String>,
    /// For information: a tier that is away makes nothing unready.
    pub shards_down: Vec<ShardDownView>,
    /// Why Kask counts as away, where it is used; for information, too.
    pub kask_down: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardDownView {
    pub name: String,
    pub why: String,
}

/// `GET /v1/stashes/{stash}/traffic`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficView {
    pub stash: String,
    #[serde(flatten)]
    pub windows: Windows,
    /// The last hour, the oldest first; the last slot is not over.
    pub slots: Vec<Slot>,
}

/// `GET /v1/stashes/{stash}/outbox`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxView {
    pub stash: String,
    pub to_kask: u64,
    pub to_redis: u64,
    pub damaged: u64,
    pub oldest_ms: Option<u64>,
    pub shards: Vec<ShardOutboxView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardOutboxView {
    pub name: String,
    pub to_kask: Option<u64>,
    pub to_redis: Option<u64>,
    pub damaged: Option<u64>,
    pub oldest_ms: Option<u64>,
    pub seen_ms_ago: Option<u64>,
    /// Why the damaged intents could not be listed.
    pub error: Option<String>,
    /// At most 1,000.
    pub damaged_intents: Vec<DamagedView>,
}

/// An intent that was given up on: its key's tiers may differ for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedView {
    pub id: String,
    /// The first 16 hex digits of the key's SHA-256: keys are personal data.
    pub key_sha256: String,
    /// Only with `?keys=1`; as text, what is not printable escaped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    pub since: String,
    pub tries: u32,
    /// `kask` or `redis`.
    pub direction: String,
    pub reason: String,
}

/// `GET /v1/stashes/{stash}/shards`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardsView {
    pub stash: String,
    /// `serve` or `hold`: what is done with what only a suspect shard has.
    pub after_loss: String,
    pub shards: Vec<ShardFigures>,
}

/// A loss of writes that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossAcceptedView {
    pub shard: String,
    /// When, by whom and why, as it stays with the shard.
    pub accepted: String,
}

/// What became of a damaged intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedView {
    pub id: String,
    /// `retried` or `dropped`.
    pub now: String,
}

impl AheadView {
    pub fn of(record: &PhaseRecord) -> Option<AheadView> {
        let (rule, phase) = (record.ahead.as_ref()?, record.phase.next()?);
        let (pattern, share) = match rule {
            Ahead::Match(glob) => (Some(glob.text().to_owned()), None),
            Ahead::Share(share) => (None, Some(share.number())),
        };
        Some(AheadView { phase, pattern, share, text: rule.text() })
    }
}

impl RecordView {
    /// For people: the phase, and which keys are ahead of it.
    pub fn told(&self) -> String {
        match &self.ahead {
            Some(ahead) => format!("{}, with {} in {}", self.phase, ahead.text, ahead.phase),
            None => self.phase.to_string(),
        }
    }

    /// Whether this phase holds for any key.
    pub fn has(&self, phase: Phase) -> bool {
        self.phase == phase || self.ahead.as_ref().is_some_and(|ahead| ahead.phase == phase)
    }
}

impl From<&PhaseRecord> for RecordView {
    fn from(record: &PhaseRecord) -> RecordView {
        RecordView {
            phase: record.phase,
            ahead: AheadView::of(record),
            from: record.from,
            version: record.version,
            state: record.state,
            since: rfc3339(record.since_unix_ms),
            since_unix_ms: record.since_unix_ms,
            by: record.by.clone(),
            reason: record.reason.clone(),
            forced: record.forced,
            guards: record.guards.clone(),
            member: record.member.clone(),
            kask_stale_since: record.kask_stale_since_unix_ms.map(rfc3339),
            mirror_unclean_since: record.mirror_unclean_since_unix_ms.map(rfc3339),
        }
    }
}

impl From<&Guard> for GuardView {
    fn from(guard: &Guard) -> GuardView {
        GuardView {
            name: guard.name.to_owned(),
            ok: guard.ok,
            figure: guard.figure.clone(),
            needs: guard.needs.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stash_without_a_record_is_read_back() {
        let figures = StashFigures::default();
        let view = StashView {
            name: "s".into(),
            confirmed: false,
            why_unconfirmed: Some("x".into()),
            own: false,
            record: None,
            attention: Vec::new(),
            fleet: FleetFigures::default(),
            figures,
            backfill: None,
            verify: verify::Brief::default(),
        };
        let text = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::from_str::<StashView>(&text).unwrap(), view);
    }
}
