//! What a client may be told, and what the tiers may hold once all is quiet.
//!
//! Only order counts, never how long something took. A write follows another if it began after the other was acknowledged, or after a
//! read had seen its value. A write of unknown outcome may take effect at any time after it began, until a moment of quiet: by then
//! its effects have settled, and the next epoch begins with what is there.
//!
//! Every read is held to what any client was told before it began, which is more than what its own client was told. One limit is
//! stated by the product and counted here as excused, by what it would have been: a decant that believes in a phase which reads Kask, and could not
//! reach Redis, answers what Kask has, which can be older than a write whose copy had just failed. Once a move to `redis-standby` is over
//! no such write is left: Redis is not needed there, and nothing is excused.

use super::history::{Action, Epoch, Nanos, Op, Told, Value};
use std::collections::{BTreeMap, HashMap};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The tiers hold different values, and nobody knows of it.
    TiersDiffer,
    /// What is left is not the newest acknowledged write.
    Lost,
    /// A read answers a value that an acknowledged delete follows.
    Returned,
    /// A read answers a value that an acknowledged write follows.
    WentBack,
    /// The same, and the write was its own client's.
    WentBehindOwn,
    /// A read answers 404 though there must be a value.
    FalseMiss,
    /// A value that nobody wrote to this key since the last quiet.
    FromNowhere,
    /// `add` was refused for a value that cannot have been there.
    FalseExists,
    /// `add` was done over a value that must have been there.
    FalseAdd,
    /// It does not become quiet.
    NeverQuiet,
    /// A healthy decant on healthy tiers does not answer.
    NoAnswer,
}

impl Kind {
    pub const ALL: [Kind; 11] = [
        Kind::TiersDiffer,
        Kind::Lost,
        Kind::Returned,
        Kind::WentBack,
        Kind::WentBehindOwn,
        Kind::FalseMiss,
        Kind::FromNowhere,
        Kind::FalseExists,
        Kind::FalseAdd,
        Kind::NeverQuiet,
        Kind::NoAnswer,
    ];
}

/// One finding.
#[derive(Clone, Debug)]
pub struct Violation {
    pub kind: Kind,
    pub key: usize,
    /// When it showed.
    pub at: Nanos,
    pub what: String,
}

/// What the check of an epoch came to.
#[derive(Debug, Default)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    pub reads_checked: u64,
    pub excused: Excused,
}

/// What would have been a violation if the decant had reached Redis.
pub type Excused = BTreeMap<Kind, u64>;

const NEVER: Nanos = Nanos::MAX;

#[derive(Debug)]
struct Write {
    /// None: the value at first.
    client: Option<usize>,
    value: Option<Value>,
    began: Nanos,
    acked: Option<Nanos>,
    /// It surely has taken effect by then.
    done: Nanos,
    /// Since then whoever begins to read must not be given it any more.
    over: Nanos,
}

/// The writes of one key.
struct Writes(Vec<Write>);

impl Writes {
    fn of(initial: Option<Value>, ops: &[&Op]) -> Writes {
        let mut seen: HashMap<Value, Nanos> = HashMap::new();
        for op in ops {
            if let Told::Hit(value) = op.told {
                let first = seen.entry(value).or_insert(op.ended);
                *first = op.ended.min(*first);
            }
        }
        let mut writes = vec![Write { client: None, value: initial, began: 0, acked: Some(0), done: 0, over: NEVER }];
        for op in ops {
            let value = match op.action {
                Action::Get => continue,
                Action::Set(value) | Action::Add(value) => Some(value),
                Action::Delete => None,
            };
            let acked = match op.told {
                Told::Done => Some(op.ended),
                Told::Exists => continue,
                _ => None,
            };
            let first_seen = value.and_then(|value| seen.get(&value)).copied();
            let done = acked.into_iter().chain(first_seen).min().unwrap_or(NEVER);
            writes.push(Write { client: Some(op.client), value, began: op.began, acked, done, over: NEVER });
        }
        let mut acked: Vec<(Nanos, Nanos)> = writes.iter().filter_map(|w| Some((w.began, w.acked?))).collect();
        acked.sort_unstable();
        let mut earliest = NEVER;
        for (_, end) in acked.iter_mut().rev() {
            earliest = earliest.min(*end);
            *end = earliest;
        }
        for write in &mut writes {
            let next = acked.partition_point(|(began, _)| *began <= write.done);
            write.over = acked.get(next).map_or(NEVER, |(_, end)| *end);
        }
        Writes(writes)
    }

    /// Whether whoever asks from `began` to `ended` may be given a value that fits.
    fn may_be(&self, began: Nanos, ended: Nanos, fits: impl Fn(Option<Value>) -> bool) -> bool {
        self.0.iter().any(|w| fits(w.value) && w.began <= ended && w.over >= began)
    }

    /// Whether a write of `client`'s own, acknowledged before `at`, follows the one of `value`.
    fn own_follows(&self, client: usize, value: Value, at: Nanos) -> bool {
        let done = self.0.iter().find(|w| w.value == Some(value)).map_or(NEVER, |w| w.done);
        self.0.iter().any(|w| w.client == Some(client) && w.acked.is_some_and(|acked| acked < at) && w.began > done)
    }
}

fn by_key(epoch: &Epoch) -> BTreeMap<usize, Vec<&Op>> {
    let mut keys: BTreeMap<usize, Vec<&Op>> = epoch.initial.keys().map(|key| (*key, Vec::new())).collect();
    for op in &epoch.ops {
        keys.entry(op.key).or_default().push(op);
    }
    keys
}

/// Every answer of the epoch.
pub fn check(epoch: &Epoch) -> Verdict {
    let mut verdict = Verdict::default();
    for (key, ops) in by_key(epoch) {
        let writes = Writes::of(epoch.initial.get(&key).copied().flatten(), &ops);
        for op in ops {
            let Some((kind, what)) = check_one(epoch, &writes, op, &mut verdict) else { continue };
            verdict.violations.push(Violation { kind, key, at: op.began, what });
        }
    }
    verdict.violations.sort_by_key(|violation| violation.at);
    verdict
}

fn check_one(epoch: &Epoch, writes: &Writes, op: &Op, verdict: &mut Verdict) -> Option<(Kind, String)> {
    let (from, to) = (op.began, op.ended);
    verdict.reads_checked += u64::from(op.action == Action::Get && !matches!(op.told, Told::Unknown(_)));
    let (kind, what) = match (op.action, op.told) {
        (_, Told::Corrupt) => return Some((Kind::FromNowhere, "a body that nobody wrote".into())),
        (Action::Get, Told::Hit(value)) => {
            if !writes.0.iter().any(|w| w.value == Some(value) && w.began <= to) {
                return Some((Kind::FromNowhere, format!("{value}, which nobody wrote since the last quiet")));
            }
            if writes.may_be(from, to, |v| v == Some(value)) {
                return None;
            }
            let kind = match writes.may_be(from, to, |v| v.is_some()) {
                false => Kind::Returned,
                true if writes.own_follows(op.client, value, from) => Kind::WentBehindOwn,
                true => Kind::WentBack,
            };
            (kind, format!("{value} is read"))
        }
        (Action::Get, Told::Missing) if !writes.may_be(from, to, |v| v.is_none()) => {
            (Kind::FalseMiss, "404".to_owned())
        }
        (Action::Add(own), Told::Exists) if !writes.may_be(from, to, |v| v.is_some_and(|v| v != own)) => {
            (Kind::FalseExists, "412".to_owned())
        }
        // Where Kask is the sequencer, `add` is best effort.
        (Action::Add(_), Told::Done)
            if !writes.may_be(from, to, |v| v.is_none()) && !believes(epoch, op, &KASK_LEADS) =>
        {
            return Some((Kind::FalseAdd, "201 to an add".into()));
        }
        _ => return None,
    };
    // In the phases that always ask Redis before they say so, neither a miss nor an old value is excused.
    let trusts_kask: &[&str] = if kind == Kind::FalseMiss { &KASK_LEADS } else { &KASK_IS_READ };
    if believes(epoch, op, trusts_kask) && !epoch.redis_was_reached(op) && !epoch.only_in(&KASK_LEADS, op) {
        *verdict.excused.entry(kind).or_default() += 1;
        return None;
    }
    Some((kind, what))
}

const KASK_LEADS: [&str; 2] = ["redis-standby", "kask-only"];
const KASK_IS_READ: [&str; 3] = ["kask-first", "redis-standby", "kask-only"];

fn believes(epoch: &Epoch, op: &Op, phases: &[&str]) -> bool {
    epoch.phases(op).iter().any(|phase| phases.contains(phase))
}

/// What a key holds when all is quiet.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    pub key: usize,
    pub redis: Option<Value>,
    pub kask: Option<Value>,
    /// Kask may lack what was written before it was written at all, or was wiped. Where it is read first, reading fills it.
    pub may_lack: bool,
}

/// What is left at the end of the epoch. Answers the value that counts, with which the next one begins.
pub fn check_left(epoch: &Epoch, phase: &str, left: Left, violations: &mut Vec<Violation>) -> Option<Value> {
    let ops: Vec<&Op> = epoch.ops.iter().filter(|op| op.key == left.key).collect();
    let writes = Writes::of(epoch.initial.get(&left.key).copied().flatten(), &ops);
    let counts = if KASK_LEADS.contains(&phase) { left.kask } else { left.redis };
    let mut say = |kind, what: String| {
        violations.push(Violation { kind, key: left.key, at: ops.last().map_or(0, |op| op.ended), what });
    };
    if !writes.may_be(NEVER, NEVER, |value| value == counts) {
        say(Kind::Lost, format!("in {phase}, {left:?}"));
    }
    let compared = !matches!(phase, "redis-only" | "kask-only");
    let lacks = left.kask.is_none() && left.may_lack && phase == "dual-write";
    if compared && left.kask != left.redis && !lacks {
        say(Kind::TiersDiffer, format!("in {phase}, {left:?}"));
    }
    counts
}

/// When the value that is left was written; 0: before this epoch.
pub fn written_at(epoch: &Epoch, key: usize, value: Value) -> Nanos {
    let wrote = |op: &&Op| op.key == key && matches!(op.action, Action::Set(v) | Action::Add(v) if v == value);
    epoch.ops.iter().find(wrote).map_or(0, |op| op.began)
}
