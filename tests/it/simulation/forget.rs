//! A Redis that loses its last writes: it comes back as another process with what it held some steps ago, or is emptied. Decants connect
//! to it again one after the other, each by itself, and compare.
//!
//! Every decant that lives does so within the quiet lease; that is what the product promises by. One that is away for longer, and alone
//! knows what is missing, is the limit that is stated.

use super::{Rng, life::Known, shard::Shard, world::Sim};
use decant::{
    codec::key::Key,
    protocol::world::{Millis, Stored},
};
use std::collections::VecDeque;

/// States of the shard that it may come back with.
const PAST_MAX: usize = 40;
/// A decant connects again within this.
const CONNECTS_WITHIN: Millis = 3_000;

/// Who is connected to which process, and what each decant has seen.
#[derive(Debug, Default)]
pub struct Links {
    decants: Vec<Link>,
    past: VecDeque<Shard>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// The process it is connected to.
    run: Option<u64>,
    /// When it connects to the next one.
    again_at: Millis,
    known: Known,
}

impl Links {
    pub fn new(decants: usize) -> Links {
        Links { decants: vec![Link::default(); decants], past: VecDeque::new() }
    }

    /// The shard has changed.
    pub fn remember(&mut self, shard: &Shard) {
        self.past.push_back(shard.clone());
        if self.past.len() > PAST_MAX {
            self.past.pop_front();
        }
    }

    /// A script told the decant how many writes there were.
    pub fn saw(&mut self, decant: usize, writes: u64) {
        let known = &mut self.decants[decant].known;
        known.writes = known.writes.max(writes);
    }

    /// The decant as it was accepted last.
    pub fn known(&self, decant: usize) -> Known {
        self.decants[decant].known
    }
}

impl Sim {
    /// Whether the decant is connected; it may be about to be.
    pub fn is_connected(&mut self, decant: usize) -> bool {
        let link = self.links.decants[decant];
        if link.run != Some(self.shard.run) && self.now >= link.again_at {
            self.connect(decant);
        }
        self.links.decants[decant].run == Some(self.shard.run)
    }

    pub fn are_all_connected(&self) -> bool {
        let compared = |link: &Link| link.run == Some(self.shard.run) && self.shard.accepts(link.known.life);
        self.links.decants.iter().all(compared)
    }

    /// Whoever raises a fence has compared first.
    pub fn is_any_connected(&self) -> bool {
        let compared = |link: &Link| link.run == Some(self.shard.run) && self.shard.accepts(link.known.life);
        self.links.decants.iter().any(compared)
    }

    /// Connects and compares, or only compares.
    pub fn connect(&mut self, decant: usize) {
        let known = self.shard.adopt(self.links.decants[decant].known, self.lease, self.now);
        let suspect = self.shard.life.suspect;
        self.say(|| format!("d{decant} accepts the server: {known:?}, suspect: {suspect}"));
        let link = &mut self.links.decants[decant];
        (link.run, link.known) = (Some(self.shard.run), known);
    }

    /// Before the clock goes to `to`: whose time it is connects.
    pub fn connect_before(&mut self, to: Millis, alive: &[bool]) {
        for (decant, _) in alive.iter().enumerate().filter(|(_, alive)| **alive) {
            let link = self.links.decants[decant];
            if link.run != Some(self.shard.run) && link.again_at <= to {
                self.now = self.now.max(link.again_at);
                self.connect(decant);
            }
        }
    }

    /// Loses what was written lately, or nothing, or everything.
    pub fn lose(&mut self, rng: &mut Rng) {
        let before = self.shard.clone();
        let (writes, life) = (before.writes(), before.life.now);
        let kind = rng.u32(0..8);
        match kind {
            0 => self.shard.flush(),
            1 => self.shard.restart_from(&self.shard.clone()),
            _ if self.links.past.is_empty() => return,
            _ => {
                let most = self.links.past.len().min(1 << rng.u32(1..6));
                let back = rng.usize(0..most);
                let snapshot = self.links.past[self.links.past.len() - 1 - back].clone();
                // One that forgets a move lets decants which missed the move go on in the old phase until it is raised again: a limit that is
                // stated.
                if snapshot.fence() != self.shard.fence() {
                    return;
                }
                self.shard.restart_from(&snapshot);
            }
        }
        let kept = self.shard.writes();
        self.say(|| match kind {
            0 => "the shard is emptied".to_owned(),
            _ => format!("the shard comes back with {kept} of {writes} writes"),
        });
        // That a server was accepted is a write as any other. What is not counted may be lost: an intent that was settled is settled again.
        if kept < writes || self.shard.life.now != life {
            let kask = &self.kask;
            let flies = |key: &Key| kask.flights.iter().any(|flight| flight.key == *key);
            let same = |key: &Key| match before.value(key) {
                Stored::Body(body) => kask.get(key) == Some(&body),
                Stored::Absent | Stored::Untranscodable(_) => kask.get(key).is_none(),
            };
            self.log.lose(|key| before.intents(key).is_empty() && same(key) && !flies(key));
        }
        if kind > 0 {
            self.stragglers.clear();
            for link in &mut self.links.decants {
                link.again_at = self.now + rng.u64(0..CONNECTS_WITHIN);
            }
        }
    }
}
