//! What this decant has seen of one shard, so that a server which comes back without acknowledged writes is noticed.
//!
//! A server counts every write of a value, every intent and every fence, in the data itself. A decant remembers the highest count that
//! it was ever told, and in which life of the shard: one process of Redis on one line of data. Before a connection is used the two are
//! compared by the script `adopt`, which also marks the shard as suspect where something is missing.

use super::{Names, reply::Reply, scripts};
use crate::tier::redis::{Greeter, Greeting, Newcomer, value::OddReply};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What one decant knows of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The id of the life that it last accepted; empty: it has never seen the shard.
    pub life: String,
    /// The highest count of writes that it was told in that life.
    pub writes: u64,
}

/// That a shard lost writes, as the shard itself remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub since_unix_ms: u64,
    /// The decant that noticed it first.
    pub member: String,
    /// How far the writes that it had seen are in the data; none: not even the server's being accepted is.
    pub reached: Option<u64>,
    pub seen: u64,
    /// Copies to Kask that stood in the outbox then, and are not made any more.
    pub intents: u64,
}

impl Suspect {
    /// As `adopt` writes it; text that does not fit tells that there was a loss all the same.
    pub(super) fn parse(text: &str) -> Option<Suspect> {
        if text.is_empty() {
            return None;
        }
        let fields: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse().ok());
        Some(Suspect {
            since_unix_ms: number(0).unwrap_or(0),
            member: fields.get(1).copied().unwrap_or_default().to_owned(),
            reached: number(2),
            seen: number(3).unwrap_or(0),
            intents: number(4).unwrap_or(0),
        })
    }
}

#[derive(Debug, Default)]
struct State {
    known: Known,
    /// The life before: an answer of it may still come.
    past: Option<Known>,
    /// One has come, and told of a higher count than was compared.
    behind: bool,
}

/// The memory of one shard, and the greeter of its connections. A connection is called by the life that it was accepted in.
#[derive(Debug)]
pub struct Witness {
    names: Names,
    lease_ms: u64,
    /// This decant's name; set once, before the shard is opened.
    member: Mutex<String>,
    /// A `std` mutex: held to compare a few numbers.
    state: Mutex<State>,
    /// Something new is known. Shared by the shards of a stash.
    news: Arc<Notify>,
}

impl Witness {
    pub(super) fn new(names: Names, lease_ms: u64, news: Arc<Notify>) -> Witness {
        Witness { names, lease_ms, member: Mutex::default(), state: Mutex::default(), news }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an earlier process of this decant knew. Before the shard is opened.
    pub(super) fn recall(&self, member: &str, known: Known) {
        *self.member.lock().unwrap_or_else(PoisonError::into_inner) = member.to_owned();
        self.state().known = known;
    }

    pub(super) fn known(&self) -> Known {
        self.state().known.clone()
    }

    /// A script that ran in this life told of this count.
    pub(super) fn saw(&self, life: &str, writes: u64) {
        let state = &mut *self.state();
        let known = if life == state.known.life {
            &mut state.known
        } else if let Some(past) = state.past.as_mut().filter(|past| past.life == life) {
            state.behind |= writes > past.writes;
            past
        } else {
            return;
        };
        if writes > known.writes {
            known.writes = writes;
            self.news.notify_one();
        }
    }

    /// Whether a look calls for a comparison: `own`, the server is in the life that the connection was accepted in; `writes`, its count;
    /// `asked`, what was known when the look was sent (answers of later scripts may be heard before its own).
    pub(super) fn must_compare(&self, life: &str, own: bool, writes: u64, asked: &Known) -> bool {
        !own || self.state().behind || life == asked.life && writes < asked.writes
    }

    /// What is to be compared, the older life first.
    fn questions(&self) -> Vec<Known> {
        let state = self.state();
        state.past.iter().filter(|_| state.behind).chain([&state.known]).cloned().collect()
    }

    fn args(&self, known: &Known) -> [Vec<u8>; 4] {
        let member = self.member.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = |number: u64| number.to_string().into_bytes();
        [member.into_bytes(), known.life.clone().into_bytes(), text(known.writes), text(self.lease_ms)]
    }

    /// The server's answer: its life, which is the one that counts from now on.
    fn heard(&self, reply: &Reply) -> Result<String, OddReply> {
        let (life, writes) = (reply.text(0)?.to_owned(), reply.number(1)?);
        let state = &mut *self.state();
        if state.known.life == life {
            state.known.writes = state.known.writes.max(writes);
        } else {
            state.past = Some(std::mem::replace(&mut state.known, Known { life: life.clone(), writes }));
        }
        state.behind = false;
        self.news.notify_one();
        Ok(life)
    }
}

impl Greeter for Witness {
    fn greet<'a>(&'a self, newcomer: &'a mut Newcomer) -> Greeting<'a> {
        Box::pin(async move {
            let keys: [&[u8]; 4] = [&self.names.life, &self.names.generation, &self.names.fence, &self.names.to_kask];
            let mut name = String::new();
            for known in self.questions() {
                let args = self.args(&known);
                let told = newcomer.script(&scripts::ADOPT, &keys, &args.each_ref().map(Vec::as_slice)).await;
                let told = told.map_err(|failure| format!("what it holds cannot be compared: {failure}"))?;
                let heard = Reply::new(told).and_then(|reply| self.heard(&reply));
                name = heard.map_err(|odd| odd.to_string())?;
            }
            Ok(name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tier::redis::Told;
    use redis::Value;

    fn witness() -> Witness {
        Witness::new(Names::new(b"", "s"), 1_000, Arc::default())
    }

    fn greeted(witness: &Witness, life: &str, writes: u64) {
        for _ in witness.questions() {
            let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
            let value = Value::Array(vec![text(life), text(&writes.to_string()), text("")]);
            let reply = Reply::new(Told { value, name: "a process".into() }).unwrap();
            assert_eq!(witness.heard(&reply).unwrap(), life);
        }
    }

    fn known(life: &str, writes: u64) -> Known {
        Known { life: life.to_owned(), writes }
    }

    #[test]
    fn the_highest_count_of_the_life_in_force_is_remembered() {
        let witness = witness();
        greeted(&witness, "a:1", 7);
        witness.saw("a:1", 9);
        witness.saw("a:1", 8);
        witness.saw("x:1", 90);
        assert_eq!(witness.known(), known("a:1", 9));
        assert!(
            witness.must_compare("a:1", true, 8, &known("a:1", 9))
                && witness.must_compare("a:1", false, 9, &known("a:1", 9))
        );
        assert!(!witness.must_compare("a:1", true, 9, &known("a:1", 9)));
        assert!(!witness.must_compare("a:1", true, 8, &known("a:1", 8)), "the look was sent before the ninth write");
        greeted(&witness, "b:2", 9);
        assert_eq!(witness.known(), known("b:2", 9));
    }

    #[test]
    fn an_answer_of_the_life_before_that_comes_late_is_compared_after_all() {
        let witness = witness();
        greeted(&witness, "a:1", 7);
        greeted(&witness, "b:2", 7);
        witness.saw("a:1", 7);
        assert!(!witness.must_compare("b:2", true, 7, &witness.known()));
        witness.saw("a:1", 8);
        assert!(witness.must_compare("b:2", true, 7, &witness.known()));
        assert_eq!(witness.questions(), [known("a:1", 8), known("b:2", 7)]);
        greeted(&witness, "b:2", 10);
        assert!(!witness.must_compare("b:2", true, 10, &witness.known()));
    }

    #[test]
    fn a_suspicion_is_read_back_and_a_strange_one_is_still_one() {
        let suspect = Suspect::parse("1700000000000 m-1 90 100 3").unwrap();
        assert_eq!((suspect.reached, suspect.seen, suspect.intents), (Some(90), 100, 3));
        assert_eq!(Suspect::parse("1700000000000 m-1 -1 100 3").unwrap().reached, None);
        assert_eq!(Suspect::parse("nonsense").unwrap().seen, 0);
        assert_eq!(Suspect::parse(""), None);
    }
}
