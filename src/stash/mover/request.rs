//! What an operator asks of a mover, and what it answers.

use crate::{
    codec::show::rfc3339,
    fleet,
    phase::{
        Phase,
        ahead::told,
        file::RecordFault,
        guard::Guard,
        record::PhaseRecord,
        step::{Goal, NoStep},
    },
    protocol::Fence,
};

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct MoveRequest {
    /// The phase that the operator believes in; none: whatever holds.
    pub from: Option<Phase>,
    pub goal: Goal,
    pub reason: String,
    pub by: String,
    pub force: bool,
    pub dry_run: bool,
    /// The operator's word that Kask was emptied since writes went past it.
    pub kask_emptied: bool,
}

/// A move that began, or would.
#[derive(Clone, Debug)]
pub struct Moved {
    pub record: PhaseRecord,
    pub guards: Vec<Guard>,
    pub dry_run: bool,
}

/// Why a move did not begin. Nothing has changed, but for [`MoveFault::Unknown`].
#[derive(Debug, thiserror::Error)]
pub enum MoveFault {
    #[error("decant is starting: the phase in force is not confirmed yet; try again")]
    Starting,
    #[error("this decant is {own}, and the fence names {named}: ask that one to move")]
    NotOwner { own: String, named: String },
    #[error("a newer move stands on the shards: {} (version {}, by {}); this decant learns of it now, look again", told(.0.phase, .0.ahead.as_ref()), .0.version, .0.member)]
    Overtaken(Fence),
    #[error("the phase is {} (version {}, since the move by {} at {}), not {expected}", .now.told(), .now.version, .now.by, rfc3339(.now.since_unix_ms))]
    Stale { expected: Phase, now: Box<PhaseRecord> },
    #[error("the move to {} by {} at {} has not settled yet; see `decant status`", .0.told(), .0.by, rfc3339(.0.since_unix_ms))]
    UnderWay(Box<PhaseRecord>),
    #[error(transparent)]
    NoStep(#[from] NoStep),
    /// It holds already: perhaps somebody else was first.
    #[error("{why}, since the move by {} at {} (version {})", .now.by, rfc3339(.now.since_unix_ms), .now.version)]
    There { why: NoStep, now: Box<PhaseRecord> },
    #[error("refused: {}", failing(.guards))]
    Guarded { record: Box<PhaseRecord>, guards: Vec<Guard> },
    #[error("{0} writes to Kask alone are still under way; try again")]
    LoneWrites(usize),
    #[error("a reason is needed: it stays in the history")]
    NoReason,
    #[error("no Redis is configured for this stash: it can only be kask-only")]
    NoRedis,
    #[error(transparent)]
    Record(#[from] RecordFault),
    #[error(transparent)]
    History(#[from] HistoryFault),
    #[error("etcd is not reached, and a move needs it: {0}; this decant serves on in the phase it has")]
    Away(String),
    #[error("{by} is moving to {to} through {member} since {}: wait for it, and look again", rfc3339(*.since_unix_ms))]
    Proposed { by: String, to: String, member: String, since_unix_ms: u64 },
    #[error(
        "not every decant of the fleet follows: {}; wait until each is back, or declare one that is gone for good: decant fleet forget NAME",
        .0.join(", ")
    )]
    Behind(Vec<String>),
    #[error("no promise to write nothing past Redis came in time from {}; nothing has changed, try again", .0.join(", "))]
    Unpromised(Vec<String>),
    #[error("the fleet changed while the move was weighed; nothing has changed, look again")]
    Changed,
    #[error("etcd did not do it: {0}")]
    Etcd(String),
    #[error("etcd did not say whether the move has begun ({0}); look again")]
    Unknown(String),
}

/// Why there is no history to be had.
#[derive(Debug, thiserror::Error)]
pub enum HistoryFault {
    #[error(transparent)]
    File(#[from] RecordFault),
    #[error(transparent)]
    Shared(#[from] fleet::HistoryFault),
}

/// Why a member was not forgotten. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ForgetFault {
    #[error(
        "this decant shares its record with nobody (fleet.store is \"file\"): there is no fleet to forget a member of"
    )]
    NoFleet,
    #[error("the fleet has no member {0}; decant fleet show lists them")]
    NoSuchMember(String),
    #[error("{0} is alive; stop it, and it leaves the fleet by itself")]
    Alive(String),
    #[error("a reason is needed: it stays in the history")]
    NoReason,
    #[error("the fleet changed meanwhile; nothing has changed, look again")]
    Changed,
    #[error("etcd is not reached: {0}")]
    Etcd(String),
}

fn failing(guards: &[Guard]) -> String {
    let texts: Vec<String> =
        guards.iter().filter(|g| !g.ok).map(|g| format!("{}: {} (needs: {})", g.name, g.figure, g.needs)).collect();
    texts.join("; ")
}
