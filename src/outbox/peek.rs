//! Everything a shard knows of one key, for a person to look at. Nothing is changed.

use super::{
    Outbox,
    reply::Reply,
    scripts,
    shard_state::{ShardFault, parse_damaged},
};
use crate::{codec::key::Key, tier::redis::value::as_bytes};
use tokio::time::Instant;

/// Value and record of one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek {
    /// Redis's type: `none`, `string`, `hash`, …
    pub kind: String,
    /// In ms; none where the value never expires, or is absent.
    pub ttl_ms: Option<u64>,
    /// By Redis's clock, in ms since 1970.
    pub now_unix_ms: u64,
    /// Of the whole string.
    pub length: u64,
    /// The string, or its beginning where it is longer than what was asked for.
    pub value: Vec<u8>,
    pub record: Option<PeekRecord>,
}

/// What the intents of the key share, and they themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeekRecord {
    /// `kask` or `redis`: where the intents copy to.
    pub direction: String,
    pub generation: u64,
    /// `set:<SHA-256 of the Kask body>`, `delete` or `old`.
    pub newest: String,
    pub intents: Vec<PeekIntent>,
}

/// One intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeekIntent {
    /// The owner token, 32 hex digits.
    pub token: String,
    /// None: damaged, it never expires.
    pub age_ms: Option<u64>,
    pub tries: u32,
    /// Why it was given up on; only of a damaged one.
    pub reason: Option<String>,
}

impl Outbox {
    /// Reads at most `bytes_max` bytes of the value; whatever the fence says.
    pub async fn peek(&self, key: &Key, bytes_max: usize, until: Instant) -> Result<Peek, ShardFault> {
        let most = bytes_max.to_string();
        let reply = Reply::new(self.run(&scripts::PEEK, key, &[most.as_bytes()], until).await?)?;
        let list = |index| reply.list(index)?.iter().map(as_bytes).collect::<Result<Vec<_>, _>>();
        let (fields, given_up, now_unix_ms) = (list(4)?, list(6)?, reply.number(5)?);
        Ok(Peek {
            kind: reply.text(0)?.to_owned(),
            ttl_ms: u64::try_from(reply.int(1)?).ok(),
            now_unix_ms,
            length: reply.int(2)?.max(0) as u64,
            value: reply.bytes(3)?.to_vec(),
            record: record(&fields, &given_up, now_unix_ms),
        })
    }
}

fn record(fields: &[&[u8]], given_up: &[&[u8]], now_ms: u64) -> Option<PeekRecord> {
    let mut record = PeekRecord::default();
    let why = |token: &[u8]| {
        let told = given_up.chunks_exact(2).find(|pair| pair[0] == token)?[1];
        parse_damaged(token, told).map(|damaged| damaged.reason)
    };
    for pair in fields.chunks_exact(2) {
        let (name, told) = (String::from_utf8_lossy(pair[0]), String::from_utf8_lossy(pair[1]));
        match name.as_ref() {
            "direction" => record.direction = told.into_owned(),
            "generation" => record.generation = told.parse().unwrap_or(0),
            "newest" => record.newest = told.into_owned(),
            _ => {
                let (since, tries) = told.split_once(' ').unwrap_or((&told, ""));
                let age_ms = since.parse().ok().map(|since: u64| now_ms.saturating_sub(since));
                let tries = tries.parse().unwrap_or(0);
                let reason = why(pair[0]);
                record.intents.push(PeekIntent { token: name.into_owned(), age_ms, tries, reason });
            }
        }
    }
    (!fields.is_empty()).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_taken_apart() {
        assert_eq!(record(&[], &[], 5), None);
        let fields: [&[u8]; 10] =
            [b"direction", b"kask", b"generation", b"7", b"newest", b"delete", b"aa", b"40 1", b"bb", b"damaged 5"];
        let given_up: [&[u8]; 2] = [b"bb", b"90 5 kask Kask refused: 400\nthe key"];
        let got = record(&fields, &given_up, 100).unwrap();
        assert_eq!((got.direction.as_str(), got.generation, got.newest.as_str()), ("kask", 7, "delete"));
        let ages: Vec<_> = got.intents.iter().map(|i| (i.token.as_str(), i.age_ms, i.tries)).collect();
        assert_eq!(ages, [("aa", Some(60), 1), ("bb", None, 5)]);
        let reasons: Vec<_> = got.intents.iter().map(|i| i.reason.as_deref()).collect();
        assert_eq!(reasons, [None, Some("Kask refused: 400")]);
    }
}
