//! The record of a stash's phase, as it is kept and as the history tells it. Pure; [`super::file`] keeps it on a disk.

use super::{
    Phase,
    ahead::{self, Ahead},
    guard::{Guard, KASK_NOT_STALE},
    step::Step,
};
use serde::{Deserialize, Serialize};

/// Whether the move to the phase is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every shard's fence is raised, and no intent of another direction is left.
    Settled,
    /// The move is durable as begun, and is finished after a restart.
    Moving,
}

/// Which phase holds, since when, by whom and why. A field added later has a default: records of older versions are still read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseRecord {
    pub stash: String,
    pub phase: Phase,
    /// Keys that are one phase ahead; none: no key is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<Ahead>,
    /// The phase before; none: the first one, or one learned from a fence.
    #[serde(default)]
    pub from: Option<Phase>,
    /// Never reused; each move takes the next.
    pub version: u64,
    pub state: State,
    /// When the move began, in ms since 1970.
    pub since_unix_ms: u64,
    pub by: String,
    pub reason: String,
    /// Guards failed and were overridden: [`PhaseRecord::overridden`] names them.
    pub forced: bool,
    /// The guards as they were measured when the move began.
    #[serde(default)]
    pub guards: Vec<Measured>,
    /// The decant that the fence names: the one that made the move.
    pub member: String,
    /// Of a shared record: the decant that finishes the move since its maker fell silent.
    #[serde(default)]
    pub driver: Option<String>,
    /// Since when writes have gone past Kask (`redis-only`), in ms since 1970; none: Kask has every write. It stays where keys were sent
    /// ahead although Kask may hold older values, until it was emptied.
    #[serde(default)]
    pub kask_stale_since_unix_ms: Option<u64>,
    /// Since when writes have gone past Redis (`kask-only`), in ms since 1970; none: the mirror is clean.
    #[serde(default)]
    pub mirror_unclean_since_unix_ms: Option<u64>,
}

/// A guard's verdict when a move began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub ok: bool,
    pub figure: String,
}

impl From<&Guard> for Measured {
    fn from(guard: &Guard) -> Measured {
        Measured { name: guard.name.to_owned(), ok: guard.ok, figure: guard.figure.clone() }
    }
}

/// Who makes a move, why and when.
#[derive(Clone, Copy, Debug)]
pub struct Made<'a> {
    pub by: &'a str,
    pub reason: &'a str,
    /// The decant that makes it.
    pub member: &'a str,
    pub now_unix_ms: u64,
    /// Since when Redis lacks writes of that decant; none: it has them.
    pub alone_since_unix_ms: Option<u64>,
}

impl PhaseRecord {
    /// The record of the move that comes after this one, as it begins. A guard that fails was overridden.
    pub fn after(&self, step: &Step, made: &Made<'_>, guards: &[Guard]) -> PhaseRecord {
        let unclean = self.mirror_unclean_since_unix_ms;
        let over_stale = guards.iter().any(|guard| !guard.ok && guard.name == KASK_NOT_STALE);
        let next = PhaseRecord {
            stash: self.stash.clone(),
            phase: step.phase,
            ahead: step.ahead.clone(),
            from: Some(self.phase),
            version: self.version + 1,
            state: State::Moving,
            since_unix_ms: made.now_unix_ms,
            by: made.by.to_owned(),
            reason: made.reason.to_owned(),
            forced: guards.iter().any(|guard| !guard.ok),
            guards: guards.iter().map(Measured::from).collect(),
            member: made.member.to_owned(),
            driver: None,
            kask_stale_since_unix_ms: match (step.to, &step.ahead) {
                (Phase::RedisOnly, _) => Some(made.now_unix_ms),
                // What was forced for some keys is not forced for those that come after them.
                (Phase::DualWrite, Some(_)) if over_stale => self.kask_stale_since_unix_ms.or(Some(made.now_unix_ms)),
                _ => None,
            },
            mirror_unclean_since_unix_ms: match (step.from, step.to) {
                // Also of some keys only: which of them were written is not known.
                (Phase::KaskOnly, Phase::RedisStandby) => unclean.or(Some(self.since_unix_ms)),
                _ => unclean.or(made.alone_since_unix_ms),
            },
        };
        let mirrors = next.has(Phase::RedisStandby) || next.phase == Phase::KaskOnly;
        PhaseRecord { mirror_unclean_since_unix_ms: next.mirror_unclean_since_unix_ms.filter(|_| mirrors), ..next }
    }

    /// Whether the last move is over.
    pub fn is_settled(&self) -> bool {
        self.state == State::Settled
    }

    /// Whether this phase holds for any key.
    pub fn has(&self, phase: Phase) -> bool {
        ahead::holds(phase, self.phase, self.ahead.as_ref())
    }

    /// For people: the phase, and which keys are ahead of it.
    pub fn told(&self) -> String {
        ahead::told(self.phase, self.ahead.as_ref())
    }

    /// The guards that failed when the move was forced.
    pub fn overridden(&self) -> impl Iterator<Item = &Measured> {
        self.guards.iter().filter(|guard| self.forced && !guard.ok)
    }
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Happened(Happening),
    Moved(Box<PhaseRecord>),
}

/// What happened to a record beside its moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Happening {
    pub stash: String,
    pub what: What,
    pub at_unix_ms: u64,
    /// Of the record at that time.
    pub version: u64,
    pub phase: Phase,
    /// The decant that it is about.
    pub member: String,
    pub by: String,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A move whose maker fell silent is finished by another decant.
    TakenOver,
    /// A silent member was declared gone.
    Forgotten,
    /// A decant's own copy took the place of a record that was lost.
    Restored,
}

impl What {
    pub fn name(self) -> &'static str {
        match self {
            What::TakenOver => "taken-over",
            What::Forgotten => "forgotten",
            What::Restored => "restored",
        }
    }
}

/// Records for tests: what they leave open does not matter to them.
#[cfg(test)]
pub(crate) fn sample(phase: Phase, version: u64) -> PhaseRecord {
    PhaseRecord {
        stash: "echoseen".into(),
        phase,
        ahead: None,
        from: None,
        version,
        state: State::Settled,
        since_unix_ms: 1,
        by: "root".into(),
        reason: "because".into(),
        forced: false,
        guards: Vec::new(),
        member: "m".into(),
        driver: None,
        kask_stale_since_unix_ms: None,
        mirror_unclean_since_unix_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::step::{Goal, step},
        *,
    };

    #[test]
    fn a_record_of_an_older_version_is_still_read() {
        let old = r#"{"stash":"echoseen","phase":"kask-first","version":3,"state":"settled","since_unix_ms":1,"by":"root",
            "reason":"because","forced":false,"member":"m"}"#;
        assert_eq!(serde_json::from_str::<PhaseRecord>(old).unwrap(), sample(Phase::KaskFirst, 3));
    }

    #[test]
    fn what_is_not_known_is_not_skipped() {
        let mut newer = serde_json::to_value(sample(Phase::KaskFirst, 3)).unwrap();
        newer["behind"] = "everything".into();
        assert!(serde_json::from_value::<PhaseRecord>(newer).is_err(), "a newer decant means something by it");
    }

    #[test]
    fn kask_stays_stale_where_only_some_keys_were_forced_past_that() {
        use Phase::RedisOnly;
        let guard = |name, ok| Guard { name, ok, figure: String::new(), needs: String::new() };
        let made = Made { by: "root", reason: "r", member: "m", now_unix_ms: 9, alone_since_unix_ms: None };
        let after = |since, goal: Goal, guards: &[Guard]| {
            let record = PhaseRecord { kask_stale_since_unix_ms: since, ..sample(RedisOnly, 3) };
            let next = record.after(&step(RedisOnly, None, &goal).unwrap(), &made, guards);
            (next.forced, next.kask_stale_since_unix_ms)
        };
        let (some, all) = (Goal::Ahead("share:0.1".parse().unwrap()), Goal::Phase(Phase::DualWrite));
        let stale = [guard("kask_not_stale", false)];
        assert_eq!(after(Some(5), some.clone(), &stale), (true, Some(5)));
        assert_eq!(after(None, some.clone(), &stale), (true, Some(9)), "whoever wrote what is there");
        assert_eq!(after(Some(5), some.clone(), &[guard("kask_not_stale", true)]), (false, None), "it was emptied");
        assert_eq!(after(Some(5), some, &[guard("redis_fit", false)]), (true, None));
        assert_eq!(after(Some(5), all, &stale), (true, None), "that of all keys is in the history");
    }

    #[test]
    fn only_a_forced_move_has_overridden_guards() {
        let failed = Measured { name: "nothing_damaged".into(), ok: false, figure: "3 damaged intents".into() };
        let passed = Measured { name: "kask_answers".into(), ok: true, figure: "it does".into() };
        let mut record = PhaseRecord { guards: vec![passed, failed.clone()], ..sample(Phase::KaskFirst, 3) };
        assert_eq!(record.overridden().count(), 0);
        record.forced = true;
        assert_eq!(record.overridden().collect::<Vec<_>>(), [&failed]);
    }
}
