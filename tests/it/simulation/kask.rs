//! Kask as the protocol fears it: a request that was given up on may be applied later, or never, until [`HOLD`] after its sending.

use super::Rng;
use bytes::Bytes;
use decant::{
    codec::key::Key,
    protocol::world::{Content, KaskPut, Millis},
};
use std::collections::BTreeMap;

/// Real Kask holds a request up to 12 s while Cassandra hangs, and may apply it then. With the copy window it is shorter than the lease.
pub const HOLD: Millis = 12_000;

/// A POST or DELETE on its way.
#[derive(Debug)]
pub struct Flight {
    pub id: u64,
    pub key: Key,
    pub content: Content,
    sent: Millis,
    /// Somebody still waits for the answer.
    pub awaited: bool,
}

/// Values and flights.
#[derive(Debug, Default)]
pub struct Kask {
    values: BTreeMap<Key, Bytes>,
    pub flights: Vec<Flight>,
    answers: BTreeMap<u64, KaskPut>,
    flights_ever: u64,
}

impl Kask {
    pub fn get(&self, key: &Key) -> Option<&Bytes> {
        self.values.get(key)
    }

    pub fn set(&mut self, key: &Key, value: Option<Bytes>) {
        match value {
            Some(value) => self.values.insert(key.clone(), value),
            None => self.values.remove(key),
        };
    }

    /// The operator emptied it.
    pub fn wipe(&mut self) {
        self.values.clear();
    }

    pub fn send(&mut self, key: &Key, content: &Content, now: Millis) -> u64 {
        self.flights_ever += 1;
        let id = self.flights_ever;
        self.flights.push(Flight { id, key: key.clone(), content: content.clone(), sent: now, awaited: true });
        id
    }

    /// The sender's answer, once.
    pub fn answer(&mut self, id: u64) -> Option<KaskPut> {
        self.answers.remove(&id)
    }

    pub fn is_answered(&self, id: u64) -> bool {
        self.answers.contains_key(&id)
    }

    /// Nobody waits for it any more.
    pub fn abandon(&mut self, id: u64) {
        self.flights.iter_mut().filter(|f| f.id == id).for_each(|f| f.awaited = false);
    }

    /// Ends a flight: its effect on the values, if any, and the answer to whoever waits.
    pub fn land(&mut self, at: usize, applied: bool, answer: KaskPut) {
        let flight = self.flights.swap_remove(at);
        if applied {
            self.apply(&flight.key, &flight.content);
        }
        if flight.awaited {
            self.answers.insert(flight.id, answer);
        }
    }

    /// The sender hears that the outcome is unknown; the request goes on.
    pub fn answer_unknown(&mut self, at: usize) {
        let flight = &mut self.flights[at];
        flight.awaited = false;
        self.answers.insert(flight.id, KaskPut::Unknown("timed out".into()));
    }

    fn apply(&mut self, key: &Key, content: &Content) {
        let value = match content {
            Content::Body(body) => Some(body.clone()),
            Content::Nothing => None,
        };
        self.set(key, value);
    }

    /// Before the clock goes to `to`: what cannot be held so long ends now, in any order, applied or not.
    pub fn before(&mut self, to: Millis, rng: &mut Rng) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let due: Vec<usize> = (0..self.flights.len()).filter(|i| self.flights[*i].sent + HOLD <= to).collect();
            if due.is_empty() {
                return told;
            }
            let at = due[rng.usize(0..due.len())];
            let applied = rng.bool();
            let name = self.flights[at].id;
            told.push(format!("kask {} flight {name}, held to the last", if applied { "applies" } else { "forgets" }));
            let answer = if applied { KaskPut::Done } else { KaskPut::Unknown("500".into()) };
            self.land(at, applied, answer);
        }
    }
}
