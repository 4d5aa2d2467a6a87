//! Walks the keys of one shard of Redis by SCAN, a page at a time.
//!
//! # What a walk gives
//! Every key that is there from the walk's beginning to its end, and each only once as long as the walk is not taken up again from an
//! earlier place. Keys that come or go meanwhile may be given or not. decant's own names, lock keys and names of others are counted and
//! left out. A walk holds one page and the keys of the last few, however many there are.
//!
//! # Cursors
//! A cursor says something only to the process that gave it: each Redis seeds its hash table anew when it starts, and so does the
//! one that a failover or a restored snapshot puts in its place. A [`Place`] therefore holds the server's run id as well. Run
//! id and page are asked for in one go on one connection, so they are of one process; a page of another process is thrown away, and the
//! walk begins that shard again. Within one process a cursor stays good for any time, through reconnects and while the table grows or shrinks.

mod draw;
mod recent;

pub use crate::codec::glob::{Glob, GlobFault};
pub use draw::{draw, draw_from};

use crate::{
    codec::key::Key,
    outbox::{Outbox, ShardFault},
    tier::{
        redis::{
            RedisFailure,
            value::{OddReply, as_bytes, as_int, into_array, into_bytes},
        },
        shards::ShardMap,
    },
};
use recent::Recent;
use redis::Value;
use serde::{Deserialize, Serialize};
use std::{ops::AddAssign, sync::Arc, time::Duration};
use tokio::time::Instant;

/// Names asked of one SCAN. Redis gives about so many, never a whole large table; one page holds up its other clients for well under a
/// millisecond.
const PAGE_NAMES: usize = 512;
/// One page must be there within this; also a Redis that is busy with a save gives one.
const PAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// What MediaWiki's locks end with. They last seconds, and are of no use in another tier.
const LOCK_ENDING: &[u8] = b":lock";

/// Where a walk of one shard is: enough to go on later, also in another process of decant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    #[default]
    Start,
    On {
        /// Of the Redis process that gave the cursor.
        run_id: String,
        cursor: u64,
    },
    End,
}

/// One step of a walk.
#[derive(Debug)]
pub enum Step {
    Page(Page),
    /// The shard is served by another Redis process than before: it is walked from the beginning, and what was counted counts no more.
    BegunAgain,
    /// There are no more pages.
    End,
}

/// Keys of this stash on this shard.
#[derive(Debug, Default)]
pub struct Page {
    /// As clients know them. Some may be such that Kask cannot have them: see [`Key::fault`].
    pub keys: Vec<Key>,
    pub counts: Counts,
}

/// What SCAN gave, and why some of it is not among the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// All names, those below included.
    pub names: u64,
    /// decant's own.
    pub own: u64,
    pub locks: u64,
    /// Without the stash's prefix.
    pub foreign: u64,
    /// Keys that the stash looks for on another shard: no client finds them here.
    pub misplaced: u64,
    pub unmatched: u64,
    /// Given a moment ago already.
    pub twice: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        self.names += more.names;
        self.own += more.own;
        self.locks += more.locks;
        self.foreign += more.foreign;
        self.misplaced += more.misplaced;
        self.unmatched += more.unmatched;
        self.twice += more.twice;
    }
}

/// A walk over one shard. Several shards are walked by several walks, each as fast as its own Redis.
pub struct Walk {
    outbox: Arc<Outbox>,
    shard: usize,
    place: Place,
    only: Option<Glob>,
    recent: Recent,
}

impl Walk {
    /// `only`: whole keys, as clients know them, that fit this pattern.
    pub fn new(outbox: Arc<Outbox>, shard: usize, from: Place, only: Option<Glob>) -> Walk {
        Walk { outbox, shard, place: from, only, recent: Recent::default() }
    }

    /// Behind the last page that was given.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The next page, within a bound of its own. Dropped before it is done, or failed, it leaves the walk where it was.
    ///
    /// # Errors
    /// Why Redis gave no page; ask again once it is back.
    pub async fn next(&mut self) -> Result<Step, ShardFault> {
        let cursor = match &self.place {
            Place::Start => 0,
            Place::On { cursor, .. } => *cursor,
            Place::End => return Ok(Step::End),
        };
        let Some(shard) = self.outbox.shards().get(self.shard) else { return Ok(Step::End) };
        let mut ask = redis::pipe();
        ask.cmd("INFO").arg("server").cmd("SCAN").arg(cursor).arg("COUNT").arg(PAGE_NAMES);
        let answers = shard.pipeline(ask, Instant::now() + PAGE_TIMEOUT).await?;
        let Answer { run_id: runs, cursor: next, names } = Answer::parse(answers)?;
        if matches!(&self.place, Place::On { run_id, .. } if *run_id != runs) {
            self.place = Place::Start;
            self.recent = Recent::default();
            return Ok(Step::BegunAgain);
        }
        self.place = if next == 0 { Place::End } else { Place::On { run_id: runs, cursor: next } };
        Ok(Step::Page(self.page(names)))
    }

    fn page(&mut self, names: Vec<Vec<u8>>) -> Page {
        let mut page = Page::default();
        self.recent.turn();
        for name in names {
            if let Some(key) = page.counts.key_of(name, self.outbox.map(), self.shard, self.only.as_ref()) {
                match self.recent.is_new(&key) {
                    true => page.keys.push(key),
                    false => page.counts.twice += 1,
                }
            }
        }
        page
    }
}

impl Counts {
    /// Counts a name, and gives the key that it is, if it is one.
    fn key_of(&mut self, mut name: Vec<u8>, map: &ShardMap, shard: usize, only: Option<&Glob>) -> Option<Key> {
        self.names += 1;
        if !name.starts_with(map.prefix()) {
            self.foreign += 1;
            return None;
        }
        let key = Key::from_bytes(name.split_off(map.prefix().len()));
        let counted = match () {
            () if key.is_reserved() => &mut self.own,
            () if key.as_bytes().ends_with(LOCK_ENDING) => &mut self.locks,
            () if map.shard_of(&key) != shard => &mut self.misplaced,
            () if only.is_some_and(|only| !only.fits(key.as_bytes())) => &mut self.unmatched,
            () => return Some(key),
        };
        *counted += 1;
        None
    }
}

/// Run id and page, of one process.
struct Answer {
    run_id: String,
    cursor: u64,
    names: Vec<Vec<u8>>,
}

impl Answer {
    fn parse(answers: Vec<Value>) -> Result<Answer, ShardFault> {
        let [info, scanned]: [Value; 2] =
            answers.try_into().map_err(|_| OddReply::new("two replies", "another number"))?;
        let (info, scanned) = (done(info)?, done(scanned)?);
        let info = as_bytes(&info)?;
        let run_id = info.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"run_id:"));
        let run_id = run_id.map(|id| String::from_utf8_lossy(id.trim_ascii()).into_owned());
        let run_id = run_id.ok_or_else(|| OddReply::new("a run_id in INFO server", "none"))?;
        let mut scanned = into_array(scanned)?.into_iter();
        let cursor = scanned.next().unwrap_or(Value::Nil);
        let cursor = std::str::from_utf8(as_bytes(&cursor)?).ok().and_then(|text| text.parse().ok());
        let cursor = cursor.ok_or_else(|| OddReply::new("a cursor", "another text"))?;
        let names = into_array(scanned.next().unwrap_or(Value::Nil))?;
        let names = names.into_iter().map(into_bytes).collect::<Result<_, _>>()?;
        Ok(Answer { run_id, cursor, names })
    }
}

/// An error in a pipeline stands in its answer's place.
fn done(value: Value) -> Result<Value, ShardFault> {
    match value {
        Value::ServerError(error) => Err(RedisFailure::refused(&error).into()),
        value => Ok(value),
    }
}

/// The number of keys of the database that the shard's URL names: about how many names a walk gives.
///
/// # Errors
/// Why Redis does not tell.
pub async fn names_on(outbox: &Outbox, shard: usize) -> Result<u64, ShardFault> {
    let Some(shard) = outbox.shards().get(shard) else { return Ok(0) };
    let answer = shard.command(redis::cmd("DBSIZE"), Instant::now() + PAGE_TIMEOUT).await?;
    Ok(as_int(&answer)?.max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back() {
        for place in [Place::Start, Place::On { run_id: "a".into(), cursor: u64::MAX }, Place::End] {
            let text = serde_json::to_string(&place).unwrap();
            assert_eq!(serde_json::from_str::<Place>(&text).unwrap(), place, "{text}");
        }
    }

    #[test]
    fn an_answer_is_taken_apart_and_another_shape_is_no_page() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let info = || bulk("# Server\r\nrun_id:abc\r\nredis_version:7\r\n");
        let scanned = || Value::Array(vec![bulk("18446744073709551615"), Value::Array(vec![bulk("k")])]);
        let answer = Answer::parse(vec![info(), scanned()]).unwrap();
        assert_eq!((answer.run_id.as_str(), answer.cursor, answer.names), ("abc", u64::MAX, vec![b"k".to_vec()]));
        for odd in [
            vec![],
            vec![info()],
            vec![bulk("# Server\r\n"), scanned()],
            vec![info(), bulk("0")],
            vec![info(), Value::Array(vec![])],
            vec![info(), Value::Array(vec![bulk("x"), Value::Array(vec![])])],
            vec![info(), Value::Array(vec![bulk("1"), Value::Array(vec![Value::Int(1), Value::Nil])])],
        ] {
            assert!(Answer::parse(odd).is_err());
        }
    }
}
