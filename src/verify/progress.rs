//! How far a run is: what it writes down as it goes, and what that comes to for those who look.

use super::{
    class::Class,
    report::{Asked, LeftOut, percent},
};
use crate::{codec::show::rfc3339, phase::Phase, scan::Counts};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// How many different troubles are kept in words.
const TROUBLES_MAX: usize = 8;

/// A run under way. A key that SCAN gives twice counts twice here; the report counts it once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub id: String,
    pub phase: String,
    /// RFC 3339.
    pub begun: String,
    pub begun_unix_ms: u64,
    #[serde(flatten)]
    pub asked: Asked,
    /// Keys whose verdict is known.
    pub compared: u64,
    /// Of those, by class.
    pub classes: BTreeMap<String, u64>,
    /// Keys that a write, an intent or an outage explains, and that are looked at again.
    pub waiting: u64,
    /// Names of Redis that were walked past, and about how many there are; of a sample, keys to be drawn.
    pub walked: u64,
    pub of: u64,
    /// Walked of those, rounded down; never `100`.
    pub percent: Option<String>,
    pub keys_per_s: f64,
    /// About so long to go; none: nobody can tell yet.
    pub left_ms: Option<u64>,
    /// What holds it back at the moment: `rate limit`, `Kask: …`, `shard …: …`.
    pub held_back_by: Option<String>,
    pub shards: Vec<ShardProgress>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardProgress {
    pub name: String,
    pub walked: u64,
    pub of: u64,
    pub done: bool,
    pub trouble: Option<String>,
}

/// Written by the run. A `std` mutex: held for a few additions.
#[derive(Debug)]
pub struct Live {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    classes: BTreeMap<Class, u64>,
    waiting: u64,
    gone: u64,
    retired: u64,
    /// Since the last look that was answered.
    kask_trouble: Option<String>,
    limited: bool,
    shards: Vec<OnShard>,
    /// Words of what went wrong, and how often.
    troubles: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct OnShard {
    name: String,
    counts: Counts,
    of: u64,
    done: bool,
    trouble: Option<String>,
}

impl State {
    /// Names walked past, and about how many there are; of a sample, keys.
    fn walked(&self, asked: &Asked) -> (u64, u64) {
        match asked.sample {
            Some(sample) => (self.classes.values().sum::<u64>() + self.gone, sample),
            None => (
                self.shards.iter().map(|on| on.counts.names).sum(),
                self.shards.iter().map(|on| on.of.max(on.counts.names)).sum(),
            ),
        }
    }
}

impl Live {
    pub fn new(shards: impl IntoIterator<Item = String>) -> Live {
        let shards = shards.into_iter().map(|name| OnShard { name, ..OnShard::default() }).collect();
        Live { began: Instant::now(), state: Mutex::new(State { shards, ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on(&self, shard: usize, change: impl FnOnce(&mut OnShard)) {
        if let Some(on) = self.state().shards.get_mut(shard) {
            change(on);
        }
    }

    pub fn there_are(&self, shard: usize, names: u64) {
        self.on(shard, |on| on.of = names);
    }

    pub fn walked(&self, shard: usize, counts: Counts) {
        self.on(shard, |on| {
            on.counts += counts;
            on.trouble = None;
        });
    }

    /// The shard is walked from the beginning: what was walked counts no more.
    pub fn walks_again(&self, shard: usize) {
        self.on(shard, |on| on.counts = Counts::default());
    }

    pub fn shard_trouble(&self, shard: usize, why: &str) {
        self.on(shard, |on| on.trouble = Some(why.to_owned()));
    }

    pub fn shard_done(&self, shard: usize) {
        self.on(shard, |on| on.done = true);
    }

    pub fn limited(&self, limited: bool) {
        self.state().limited = limited;
    }

    pub fn judged(&self, class: Class) {
        *self.state().classes.entry(class).or_default() += 1;
    }

    pub fn gone(&self) {
        self.state().gone += 1;
    }

    /// A key of which Redis is told nothing any more.
    pub fn retired(&self) {
        self.state().retired += 1;
    }

    pub fn waits(&self, more: i64) {
        let mut state = self.state();
        state.waiting = state.waiting.saturating_add_signed(more);
    }

    /// A look was answered.
    pub fn answered(&self) {
        self.state().kask_trouble = None;
    }

    /// A look was not answered.
    pub fn away(&self, why: &str) {
        let mut state = self.state();
        state.kask_trouble = Some(why.to_owned());
        if state.troubles.len() < TROUBLES_MAX || state.troubles.contains_key(why) {
            *state.troubles.entry(why.to_owned()).or_default() += 1;
        }
    }

    pub fn unknown(&self) -> u64 {
        self.state().classes.get(&Class::Unknown).copied().unwrap_or_default()
    }

    /// Keys that were not compared, and what was walked past.
    pub fn left_out(&self) -> LeftOut {
        let state = self.state();
        let mut counts = Counts::default();
        state.shards.iter().for_each(|on| counts += on.counts);
        LeftOut { retired: state.retired, ..LeftOut::of(state.gone, &counts) }
    }

    /// The most frequent reasons why looks were not answered.
    pub fn troubles(&self) -> Vec<String> {
        let state = self.state();
        let mut troubles: Vec<_> = state.troubles.iter().collect();
        troubles.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
        troubles.into_iter().map(|(why, times)| format!("{why} ({times} times)")).collect()
    }

    /// Names that were walked past, of those that there are: 0 to 1.
    pub fn share(&self, asked: &Asked) -> f64 {
        let (walked, of) = self.state().walked(asked);
        if of > 0 { (walked as f64 / of as f64).min(1.0) } else { 0.0 }
    }

    pub fn seen(&self, id: &str, phase: Phase, begun_unix_ms: u64, asked: &Asked) -> Progress {
        let elapsed = self.began.elapsed();
        let state = self.state();
        let compared: u64 = state.classes.values().sum();
        let mut classes = BTreeMap::new();
        for (class, count) in &state.classes {
            *classes.entry(class.name().to_owned()).or_default() += count;
        }
        let (walked, of) = state.walked(asked);
        let left = (walked > 0 && of >= walked).then(|| elapsed.as_secs_f64() * (of - walked) as f64 / walked as f64);
        let shard_trouble =
            state.shards.iter().find_map(|on| Some(format!("shard {}: {}", on.name, on.trouble.as_ref()?)));
        let limited = state.limited.then(|| "rate limit".to_owned());
        Progress {
            id: id.to_owned(),
            phase: phase.name().to_owned(),
            begun: rfc3339(begun_unix_ms),
            begun_unix_ms,
            asked: asked.clone(),
            compared,
            classes,
            waiting: state.waiting,
            walked,
            of,
            percent: percent(walked, of).map(|text| if text == "100" { "99.9999".to_owned() } else { text }),
            keys_per_s: compared as f64 / elapsed.as_secs_f64().max(0.001),
            left_ms: left.map(|seconds| (seconds * 1000.0) as u64),
            held_back_by: shard_trouble.or_else(|| state.kask_trouble.clone()).or(limited),
            shards: state
                .shards
                .iter()
                .map(|on| ShardProgress {
                    name: on.name.clone(),
                    walked: on.counts.names,
                    of: on.of.max(on.counts.names),
                    done: on.done,
                    trouble: on.trouble.clone(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_what_was_written_down_and_never_100_percent() {
        let live = Live::new(["a".to_owned(), "b".to_owned()]);
        live.there_are(0, 10);
        live.there_are(1, 10);
        live.walked(0, Counts { names: 12, locks: 2, ..Counts::default() });
        live.walked(1, Counts { names: 10, ..Counts::default() });
        for class in [Class::Equal, Class::Equal, Class::Untranscodable("object")] {
            live.judged(class);
        }
        live.waits(5);
        live.waits(-2);
        let seen = live.seen("id", Phase::KaskFirst, 0, &Asked::default());
        assert_eq!((seen.compared, seen.waiting, seen.walked, seen.of), (3, 3, 22, 22), "there were more than told");
        assert_eq!((seen.percent.as_deref(), seen.classes["untranscodable"]), (Some("99.9999"), 1));
        live.walks_again(0);
        assert_eq!(live.seen("id", Phase::KaskFirst, 0, &Asked::default()).walked, 10);
        assert_eq!(live.left_out(), LeftOut::default(), "a walk that begins again has left out nothing yet");
    }

    #[test]
    fn what_holds_it_back_is_told_until_it_is_over() {
        let live = Live::new(["a".to_owned()]);
        let held = || live.seen("id", Phase::KaskFirst, 0, &Asked::default()).held_back_by;
        live.limited(true);
        assert_eq!(held().as_deref(), Some("rate limit"));
        live.away("Kask: timeout");
        assert_eq!(held().as_deref(), Some("Kask: timeout"));
        live.shard_trouble(0, "no connection");
        assert_eq!(held().as_deref(), Some("shard a: no connection"));
        live.walked(0, Counts::default());
        live.answered();
        live.limited(false);
        assert_eq!(held(), None);
        assert_eq!(live.troubles(), ["Kask: timeout (1 times)"]);
    }
}
