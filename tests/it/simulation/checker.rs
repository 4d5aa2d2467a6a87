//! What a client may be told, and what the tiers may hold when everything is quiet.
//!
//! Order is that of events, not of milliseconds. A write follows another when it began after the other was acknowledged. A write that
//! was never acknowledged may have been done at any time since it began; one that was told as surely not done must not show.

use bytes::Bytes;
use decant::{
    codec::key::Key,
    protocol::{read::ReadAnswer, write::WriteAnswer},
};
use std::collections::BTreeMap;

/// A write or a delete.
#[derive(Debug)]
struct Op {
    key: Key,
    value: Option<Bytes>,
    begun: u64,
    acked: Option<u64>,
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

/// All operations of one schedule.
#[derive(Debug, Default)]
pub struct Log {
    events: u64,
    ops: Vec<Op>,
    initial: BTreeMap<Key, Option<Bytes>>,
    /// When the store itself last lost a key's value.
    evicted: BTreeMap<Key, u64>,
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

    pub fn start_with(&mut self, key: &Key, value: Option<Bytes>) {
        self.initial.insert(key.clone(), value);
    }

    pub fn evict(&mut self, key: &Key) {
        let event = self.event();
        self.evicted.insert(key.clone(), event);
    }

    pub fn was_evicted(&self, key: &Key) -> bool {
        self.evicted.contains_key(key)
    }

    pub fn begin_write(&mut self, key: &Key, value: Option<Bytes>) -> usize {
        let begun = self.event();
        self.ops.push(Op { key: key.clone(), value, begun, acked: None, failed: false });
        self.ops.len() - 1
    }

    /// The client has heard. `strict`: as of a read.
    pub fn end_write(&mut self, op: usize, answer: &WriteAnswer, strict: bool) {
        let event = self.event();
        let (key, begun) = (self.ops[op].key.clone(), self.ops[op].begun);
        match answer {
            WriteAnswer::Done => {
                self.ops[op].acked = Some(event);
                self.acked += 1;
            }
            WriteAnswer::Exists => {
                self.ops[op].failed = true;
                let values: Vec<&Option<Bytes>> =
                    self.ops.iter().map(|o| &o.value).chain(self.initial.values()).collect();
                let could = values.into_iter().flatten().any(|v| self.may_hold(&key, &Some(v.clone()), begun));
                if strict && !could && !self.was_evicted(&key) {
                    let history = self.history(&key);
                    self.fail(format!("an add that began at event {begun} is told that there is a value: {history}"));
                }
            }
            WriteAnswer::Refused(_) | WriteAnswer::Unavailable { unknown: false, .. } => self.ops[op].failed = true,
            WriteAnswer::HalfDone(_) | WriteAnswer::Unavailable { unknown: true, .. } => {}
        }
    }

    /// Whether `value` may be the key's to whoever knows what was acknowledged before `since`.
    pub fn may_hold(&self, key: &Key, value: &Option<Bytes>, since: u64) -> bool {
        let of_key = || self.ops.iter().filter(|op| op.key == *key);
        let acked = || of_key().filter(|op| op.acked.is_some_and(|at| at < since));
        let lasts = |op: &Op| !acked().any(|later| op.acked.is_some_and(|at| at < later.begun));
        if of_key().any(|op| op.value == *value && !op.failed && lasts(op)) {
            return true;
        }
        if self.initial.get(key) == Some(value) && acked().next().is_none() {
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
            if !self.may_hold(key, &value, begun) {
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
        if !self.may_hold(key, value, u64::MAX) {
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
