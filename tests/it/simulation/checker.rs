//! What a client may be told, and what the tiers may hold when everything is quiet.
//!
//! Order is that of events, not of milliseconds. A write follows another when it began after the other was acknowledged. A write that
//! was never acknowledged may have been done at any time since it began; one that was told as surely not done must not show.

use bytes::Bytes;
use decant::{
    codec::key::Key,
    protocol::{read::ReadAnswer, write::WriteAnswer},
};
use std::collections::{BTreeMap, BTreeSet};

/// A write or a delete.
#[derive(Debug)]
struct Op {
    key: Key,
    value: Option<Bytes>,
    begun: u64,
    acked: Option<u64>,
    /// Kask surely had it, or what followed it, when Redis lost writes, and nothing older was on its way there.
    firm: bool,
    /// Told as surely not done.
    failed: bool,
}

/// What is known about a read when it has ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadFlags {
    /// The decant could not reach Redis, or did not hear its answer. Stated as a limit: such a read is Kask's to answer and can be
    /// older than a write whose copy had just failed elsewhere.
    pub redis_failed: bool,
    /// A tier said that it holds no value, or not the newest one.
    pub told_absent: bool,
}

/// Which writes of before a loss count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// None.
    Acked,
    /// Those that Kask surely had: nothing older overwrites what it holds, and what was deleted there does not come back.
    Firm,
}

/// All operations of one schedule.
#[derive(Debug, Default)]
pub struct Log {
    events: u64,
    ops: Vec<Op>,
    initial: BTreeMap<Key, Option<Bytes>>,
    /// Of which Kask never had the initial value.
    uncopied: BTreeSet<Key>,
    /// When the store itself last lost a key's value.
    evicted: BTreeMap<Key, u64>,
    /// When a move was last forced over what a guard knew of the key. What was acknowledged before is covered by no promise any more.
    overridden: BTreeMap<Key, u64>,
    /// When Redis last came back without its latest writes. What was acknowledged before may be lost there.
    lost: Option<u64>,
    pub failure: Option<String>,
    pub reads_checked: u64,
    pub acked: u64,
}

fn name(value: &Option<Bytes>) -> String {
    value.as_ref().map_or("nothing".into(), |v| String::from_utf8_lossy(v).into_owned())
}

impl Log {
    pub fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    pub fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    pub fn start_with(&mut self, key: &Key, value: Option<Bytes>, copied: bool) {
        if !copied {
            self.uncopied.insert(key.clone());
        }
        self.initial.insert(key.clone(), value);
    }

    pub fn evict(&mut self, key: &Key) {
        let event = self.event();
        self.evicted.insert(key.clone(), event);
    }

    pub fn was_evicted(&self, key: &Key) -> bool {
        self.evicted.contains_key(key)
    }

    pub fn override_of(&mut self, key: &Key) {
        let event = self.event();
        self.overridden.insert(key.clone(), event);
    }

    /// A move was forced over the key, and no write since has made it right.
    pub fn is_overridden(&self, key: &Key) -> bool {
        let since = |op: &Op| op.key == *key && op.acked.is_some() && self.is_since_override(op);
        self.overridden.contains_key(key) && !self.ops.iter().any(since)
    }

    fn is_since_override(&self, op: &Op) -> bool {
        self.overridden.get(&op.key).is_none_or(|forced| op.begun > *forced)
    }

    /// `at_rest`: the key is the same in both tiers, has no intent, and no request is on its way to Kask.
    pub fn lose(&mut self, at_rest: impl Fn(&Key) -> bool) {
        let event = self.event();
        let before = self.lost.replace(event);
        let stood = |op: &&mut Op| op.acked.is_some() && before.is_none_or(|lost| op.begun > lost) && at_rest(&op.key);
        self.ops.iter_mut().filter(stood).for_each(|op| op.firm = true);
    }

    /// Kask holds nothing any more.
    pub fn wiped(&mut self) {
        self.ops.iter_mut().for_each(|op| op.firm = false);
        self.uncopied.extend(self.initial.keys().cloned());
    }

    pub fn was_written_since_a_loss(&self, key: &Key) -> bool {
        self.ops.iter().any(|op| op.key == *key && op.acked.is_some() && self.is_since_loss(op))
    }

    fn is_since_loss(&self, op: &Op) -> bool {
        self.lost.is_none_or(|lost| op.begun > lost)
    }

    pub fn begin_write(&mut self, key: &Key, value: Option<Bytes>) -> usize {
        let begun = self.event();
        self.ops.push(Op { key: key.clone(), value, begun, acked: None, firm: false, failed: false });
        self.ops.len() - 1
    }

    /// The client has heard. `strict`: as of a read.
    pub fn end_write(&mut self, op: usize, answer: &WriteAnswer, strict: bool, by_kask: bool) {
        let event = self.event();
        let (key, begun) = (self.ops[op].key.clone(), self.ops[op].begun);
        match answer {
            WriteAnswer::Done => {
                self.ops[op].acked = Some(event);
                self.ops[op].firm = by_kask;
                self.acked += 1;
            }
            WriteAnswer::Exists => {
                self.ops[op].failed = true;
                let values: Vec<&Option<Bytes>> =
                    self.ops.iter().map(|o| &o.value).chain(self.initial.values()).collect();
                let could =
                    values.into_iter().flatten().any(|v| self.may_hold(&key, &Some(v.clone()), begun, Known::Acked));
                if strict && !could && !self.was_evicted(&key) {
                    let history = self.history(&key);
                    self.fail(format!("an add that began at event {begun} is told that there is a value: {history}"));
                }
            }
            WriteAnswer::Refused(_) | WriteAnswer::Unavailable { unknown: false, .. } => self.ops[op].failed = true,
            WriteAnswer::HalfDone(_) | WriteAnswer::Unavailable { unknown: true, .. } => {}
        }
    }

    /// Whether `value` may be the key's to whoever knows what was acknowledged before `since`. Once Redis has lost writes, only those count
    /// that were begun afterwards, and with [`Known::Firm`] those that Kask surely had.
    pub fn may_hold(&self, key: &Key, value: &Option<Bytes>, since: u64, known: Known) -> bool {
        let of_key = || self.ops.iter().filter(|op| op.key == *key);
        let kept = |op: &&Op| self.is_since_loss(op) || known == Known::Firm && op.firm;
        let counts = |op: &&Op| self.is_since_override(op) && kept(op);
        let acked = || of_key().filter(|op| op.acked.is_some_and(|at| at < since)).filter(counts);
        let lasts = |op: &Op| !acked().any(|later| op.acked.is_some_and(|at| at < later.begun));
        if of_key().any(|op| op.value == *value && !op.failed && lasts(op)) {
            return true;
        }
        if self.initial.get(key) == Some(value) && acked().next().is_none() {
            return true;
        }
        // What was there before decant, or was never heard to be acknowledged, goes with the rest.
        let forgotten = self.lost.is_some() && (known == Known::Acked || self.uncopied.contains(key));
        if value.is_none() && forgotten && acked().next().is_none() {
            return true;
        }
        if value.is_none() && self.is_overridden(key) {
            return true;
        }
        // The store lost the value: a miss, until a write that began after that is acknowledged.
        value.is_none() && self.evicted.get(key).is_some_and(|lost| !acked().any(|op| op.begun > *lost))
    }

    /// The client has heard. `strict`: replication is `sync` and the decant could reach Redis all the time.
    pub fn end_read(&mut self, key: &Key, begun: u64, answer: &ReadAnswer, flags: ReadFlags, strict: bool) {
        let value = match answer {
            ReadAnswer::Hit { body, .. } => Some(body.clone()),
            ReadAnswer::Missing => None,
            ReadAnswer::Unavailable(_) => return,
        };
        if value.is_none() && !flags.told_absent {
            self.fail(format!("a read of {} is told as missing though no tier said so", show(key)));
        }
        if strict && !flags.redis_failed {
            self.reads_checked += 1;
            if !self.may_hold(key, &value, begun, Known::Acked) {
                self.fail(format!(
                    "a read of {} that began at event {begun} answers {}, older than what was acknowledged before: {}",
                    show(key),
                    name(&value),
                    self.history(key)
                ));
            }
        }
    }

    /// Quiet: what the phase's reader would be given.
    pub fn check_final(&mut self, key: &Key, tier: &str, value: &Option<Bytes>) {
        let known = if tier == "Kask" { Known::Firm } else { Known::Acked };
        if !self.may_hold(key, value, u64::MAX, known) {
            let history = self.history(key);
            self.fail(format!(
                "{tier} holds {} for {}, which an acknowledged write follows: {history}",
                name(value),
                show(key)
            ));
        }
    }

    pub fn check_same(&mut self, key: &Key, redis: &Option<Bytes>, kask: &Option<Bytes>, why_not: &[bool]) {
        if redis != kask && !why_not.contains(&true) {
            self.fail(format!(
                "Redis holds {}, Kask {} for {}, and nobody knows: {}",
                name(redis),
                name(kask),
                show(key),
                self.history(key)
            ));
        }
    }

    fn history(&self, key: &Key) -> String {
        let initial = self.initial.get(key).map(name).unwrap_or_default();
        let ops = self.ops.iter().filter(|op| op.key == *key);
        let told: Vec<String> = ops
            .map(|op| format!("{} [{}..{}]", name(&op.value), op.begun, op.acked.map_or("?".into(), |a| a.to_string())))
            .collect();
        format!("at first {initial}; {}", told.join(", "))
    }
}

pub fn show(key: &Key) -> String {
    String::from_utf8_lossy(key.as_bytes()).into_owned()
}
