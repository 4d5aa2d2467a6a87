//! What clients did and were told, and what is known of each decant meanwhile.

use std::collections::BTreeMap;

/// Nanoseconds since the stage was set up.
pub type Nanos = u64;

/// A value by its number: every write of a stage has another.
pub type Value = u64;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Get,
    Set(Value),
    /// A set with `If-None-Match: *`.
    Add(Value),
    Delete,
}

/// What was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Hit(Value),
    Missing,
    /// 201 or 204.
    Done,
    /// 412
    Exists,
    /// A body that nobody wrote.
    Corrupt,
    /// Any error, by its status; 0: no answer. A write may have been done, or may yet be.
    Unknown(u16),
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub client: usize,
    pub decant: usize,
    pub key: usize,
    pub action: Action,
    pub began: Nanos,
    pub ended: Nanos,
    pub told: Told,
}

/// What a decant told of itself.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub asked: Nanos,
    pub answered: Nanos,
    /// Which of its processes: it counts anew after each start.
    pub life: u64,
    /// Requests to Redis that did not end well, so far.
    pub redis_failures: u64,
    /// It believes this version of the phase, or a newer one.
    pub version: u64,
    /// The move to that version is over. Of the first decant only, the one that moves: others do not know.
    pub settled: bool,
}

/// A move that was asked for, whatever came of it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub version: u64,
    pub phase: &'static str,
    pub asked: Nanos,
}

/// Everything between two moments of quiet.
#[derive(Debug, Default)]
pub struct Epoch {
    /// What each key held at the first of them.
    pub initial: BTreeMap<usize, Option<Value>>,
    pub ops: Vec<Op>,
    /// By decant.
    pub samples: Vec<Vec<Sample>>,
    /// Of the whole stage.
    pub attempts: Vec<Attempt>,
}

impl Epoch {
    /// Whether the decant that answered reached Redis every time it asked, from before the operation until after it.
    pub fn redis_was_reached(&self, op: &Op) -> bool {
        let Some(samples) = self.samples.get(op.decant) else { return false };
        let before = samples.iter().rev().find(|sample| sample.answered <= op.began);
        let after = samples.iter().find(|sample| sample.asked >= op.ended);
        match (before, after) {
            (Some(before), Some(after)) => before.life == after.life && before.redis_failures == after.redis_failures,
            _ => false,
        }
    }

    /// Whether Kask was the store all the while, and complete: a move to one of `phases` was over before, and none away was asked for.
    pub fn only_in(&self, phases: &[&str], op: &Op) -> bool {
        let known = self.samples.first().into_iter().flatten();
        let settled = known.filter(|sample| sample.settled && sample.answered <= op.began).map(|sample| sample.version);
        let Some(since) = settled.max() else { return false };
        let mut asked = self.attempts.iter().filter(|attempt| attempt.version >= since && attempt.asked <= op.ended);
        asked.all(|attempt| phases.contains(&attempt.phase))
    }

    /// The phases that the decant may have believed in meanwhile.
    pub fn phases(&self, op: &Op) -> Vec<&'static str> {
        let samples = self.samples.get(op.decant).into_iter().flatten();
        let since =
            samples.filter(|sample| sample.answered <= op.began).map(|sample| sample.version).max().unwrap_or(0);
        let begun = self.attempts.iter().filter(|attempt| attempt.asked <= op.ended && attempt.version >= since);
        begun.map(|attempt| attempt.phase).collect()
    }
}
