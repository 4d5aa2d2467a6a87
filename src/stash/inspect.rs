//! Both tiers' view of one key, for an operator. Nothing is changed, and nothing is repaired.
//!
//! The two tiers are asked one after the other: a write in between can make them look different, and the record then shows its intent.

use super::Stash;
use crate::{
    codec::{
        envelope::{self, Serialization},
        json,
        key::Key,
        php, show,
        transcode::RAW_MARK,
        value::{Value, canonical_int},
    },
    outbox::{Peek, PeekRecord},
    protocol::pending::Pending,
    tier::kask::KaskRead,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{fmt::Write as _, time::Duration};
use tokio::time::Instant;

/// The largest value that is compared whole: what Kask on Cassandra takes, and a little for the envelope.
const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024 + 64 * 1024;
/// Characters of a value that are shown.
const SHOWN_CHARS_MAX: usize = 8 * 1024;
/// Intents of one key that are shown.
const INTENTS_MAX: usize = 100;
/// Each tier is asked for so long.
const TIER_TIMEOUT: Duration = Duration::from_secs(2);

/// A key in both tiers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    pub stash: String,
    /// As text: what is not printable is escaped.
    pub key: String,
    pub phase: String,
    /// Where Redis keeps it; none where no Redis is configured.
    pub shard: Option<String>,
    /// What this decant knows: `no`, `perhaps` (it has not looked lately), `yes` (the tiers may differ).
    pub pending: String,
    pub redis: RedisSide,
    pub kask: KaskSide,
    pub record: Option<RecordSide>,
    /// The tombstone: the newest write is a delete that Kask may not have seen yet.
    pub remembered_delete: bool,
    pub comparison: Comparison,
}

/// Redis's side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisSide {
    /// Why Redis could not be asked.
    pub error: Option<String>,
    /// The name in Redis, with the prefix.
    pub name: Option<String>,
    /// Redis's type, `none` where there is no value.
    pub kind: Option<String>,
    /// None: it never expires, or there is no value.
    pub ttl_ms: Option<u64>,
    pub value: Option<ShownValue>,
}

/// Kask's side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KaskSide {
    /// Why Kask could not be asked.
    pub error: Option<String>,
    pub value: Option<ShownValue>,
    /// Why MediaWiki would not open the body, and read a miss.
    pub unreadable: Option<String>,
}

/// A value as text, bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownValue {
    pub bytes: u64,
    /// Of what was read; none where the value is too large to be read whole.
    pub sha256: Option<String>,
    /// Escaped: `\xNN` is a byte that is no UTF-8.
    pub raw: String,
    pub raw_cut: bool,
    /// The PHP value, like JSON.
    pub decoded: Option<String>,
    pub decoded_cut: bool,
    pub undecodable: Option<String>,
}

/// The outbox's record of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSide {
    /// `kask` or `redis`: where the intents copy to.
    pub direction: String,
    pub generation: u64,
    /// `set:<SHA-256 of the Kask body>`, `delete`, or `old` (nothing newer than what the sequencer holds).
    pub newest: String,
    /// Of which at most 100 are listed.
    pub intents_total: usize,
    pub intents: Vec<IntentSide>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentSide {
    pub id: String,
    /// None: damaged.
    pub age_ms: Option<u64>,
    pub tries: u32,
}

/// Redis's value told as Kask's, against Kask's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// `equal`, `different`, `only in Redis`, `only in Kask`, `in neither` or `unknown`.
    pub result: String,
    pub why: Option<String>,
}

impl Stash {
    /// Asks both tiers for what they hold under `key`.
    pub async fn inspect(&self, key: &Key) -> Inspection {
        let outbox = self.site.world.outbox.as_deref();
        let (redis, kask) = tokio::join!(self.peek(key), async {
            self.site.world.kask.get_all_the_same(key, Instant::now() + TIER_TIMEOUT).await
        });
        let mut kask_side = KaskSide::default();
        let body = match &kask {
            KaskRead::Hit(body) => {
                kask_side.value = Some(shown(body, body.len() as u64, decode_kask(body)));
                let opened = outbox.map(|outbox| outbox.transcoder().payload(body));
                kask_side.unreadable = opened.and_then(|opened| opened.err()).map(|fault| fault.to_string());
                Some(&body[..])
            }
            KaskRead::Miss => None,
            KaskRead::Error(error) => {
                kask_side.error = Some(error.to_string());
                None
            }
        };
        let comparison = match (&redis, &kask_side.error) {
            (Ok(peek), None) => self.compare(peek, body),
            (Err(why), _) | (_, Some(why)) => Comparison { result: "unknown".into(), why: Some(why.clone()) },
        };
        let record = redis.as_ref().ok().and_then(|peek| peek.record.as_ref());
        Inspection {
            stash: self.name.clone(),
            key: show::bytes(key.as_bytes(), SHOWN_CHARS_MAX).0,
            phase: self.site.belief().phase().name().to_owned(),
            shard: outbox.map(|outbox| self.shard_name(outbox.map().shard_of(key))),
            pending: self.pending_text(key).to_owned(),
            remembered_delete: record.is_some_and(|record| record.newest == "delete"),
            record: record.map(record_side),
            redis: redis_side(outbox.map(|outbox| outbox.map().redis_key(key)), &redis),
            kask: kask_side,
            comparison,
        }
    }

    async fn peek(&self, key: &Key) -> Result<Peek, String> {
        let Some(outbox) = self.site.world.outbox.as_deref() else {
            return Err("no Redis is configured for this stash".to_owned());
        };
        if !self.redis_is_in_use() {
            return Err("Redis is retired: in kask-only no connection to it is held".to_owned());
        }
        outbox.peek(key, VALUE_BYTES_MAX, Instant::now() + TIER_TIMEOUT).await.map_err(|fault| fault.to_string())
    }

    fn pending_text(&self, key: &Key) -> &'static str {
        if self.site.world.outbox.is_none() {
            return "no";
        }
        match self.site.pending_of(key) {
            Pending::No => "no",
            Pending::Perhaps => "perhaps",
            Pending::Yes => "yes",
        }
    }

    fn compare(&self, peek: &Peek, body: Option<&[u8]>) -> Comparison {
        let told = |result: &str, why: Option<String>| Comparison { result: result.to_owned(), why };
        match (peek.kind.as_str(), body) {
            ("none", None) => return told("in neither", None),
            ("none", Some(_)) => return told("only in Kask", None),
            ("string", _) if !is_whole(peek) => return told("unknown", Some("Redis's value is too large".into())),
            ("string", _) => {}
            (kind, _) => {
                return told("different", Some(format!("Redis holds a {kind}, which no cache of MediaWiki's writes")));
            }
        }
        let transcoder = self.site.world.outbox.as_deref().map(|outbox| outbox.transcoder());
        let carried = transcoder.map(|transcoder| transcoder.to_kask(&peek.value));
        match (carried, body) {
            (Some(Ok(_)), None) => told("only in Redis", None),
            (Some(Ok(carried)), Some(body)) if carried == body => told("equal", None),
            (Some(Ok(_)), Some(_)) => told("different", None),
            (Some(Err(why)), None) => told("only in Redis", Some(why.to_string())),
            (Some(Err(why)), Some(_)) => told("different", Some(why.to_string())),
            (None, _) => told("unknown", None),
        }
    }
}

fn is_whole(peek: &Peek) -> bool {
    peek.value.len() as u64 == peek.length
}

fn redis_side(name: Option<Vec<u8>>, peek: &Result<Peek, String>) -> RedisSide {
    let name = name.map(|name| show::bytes(&name, SHOWN_CHARS_MAX).0);
    match peek {
        Err(why) => RedisSide { error: Some(why.clone()), name, ..RedisSide::default() },
        Ok(peek) => RedisSide {
            error: None,
            name,
            kind: Some(peek.kind.clone()),
            ttl_ms: peek.ttl_ms,
            value: (peek.kind == "string").then(|| match is_whole(peek) {
                true => shown(&peek.value, peek.length, decode_redis(&peek.value)),
                false => shown(&peek.value, peek.length, Err("too large to be decoded here".to_owned())),
            }),
        },
    }
}

fn record_side(record: &PeekRecord) -> RecordSide {
    let intents = record.intents.iter().take(INTENTS_MAX);
    RecordSide {
        direction: record.direction.clone(),
        generation: record.generation,
        newest: record.newest.clone(),
        intents_total: record.intents.len(),
        intents: intents
            .map(|intent| IntentSide { id: intent.token.clone(), age_ms: intent.age_ms, tries: intent.tries })
            .collect(),
    }
}

fn shown(bytes: &[u8], length: u64, decoded: Result<Value, String>) -> ShownValue {
    let (raw, raw_cut) = show::bytes(bytes, SHOWN_CHARS_MAX);
    let (decoded, undecodable) = match decoded {
        Ok(value) => (Some(show::value(&value, SHOWN_CHARS_MAX)), None),
        Err(why) => (None, Some(why)),
    };
    let decoded_cut = decoded.as_ref().is_some_and(|(_, cut)| *cut);
    ShownValue {
        bytes: length,
        sha256: (bytes.len() as u64 == length).then(|| hex(&Sha256::digest(bytes))),
        raw,
        raw_cut,
        decoded: decoded.map(|(text, _)| text),
        decoded_cut,
        undecodable,
    }
}

/// As RedisBagOStuff reads it.
fn decode_redis(bytes: &[u8]) -> Result<Value, String> {
    if bytes.starts_with(RAW_MARK) {
        return Err("a Kask body that is no value of MediaWiki's, kept as it is".to_owned());
    }
    match canonical_int(bytes) {
        Some(int) => Ok(Value::Int(int)),
        None => php::decode(bytes).map_err(|fault| fault.to_string()),
    }
}

/// As RESTBagOStuff of either serialization reads it, whatever the HMAC.
fn decode_kask(body: &[u8]) -> Result<Value, String> {
    if let Ok(payload) = envelope::open(body, Serialization::Json, None) {
        return json::decode(payload).map_err(|fault| fault.to_string());
    }
    let payload = envelope::open(body, Serialization::Php, None).map_err(|fault| fault.to_string())?;
    php::decode(payload).map_err(|fault| fault.to_string())
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_as_their_tier_writes_them() {
        assert_eq!(decode_redis(b"42"), Ok(Value::Int(42)));
        assert_eq!(decode_redis(b"b:1;"), Ok(Value::Bool(true)));
        assert!(decode_redis(b"decant-raw:x").unwrap_err().contains("kept as it is"));
        assert!(decode_redis(b"O:8:\"stdClass\":0:{}").is_err());
        assert_eq!(decode_kask(b"JSON.abc.true"), Ok(Value::Bool(true)));
        assert_eq!(decode_kask(b"PHP..i:7;"), Ok(Value::Int(7)));
        assert!(decode_kask(b"KASK:V").unwrap_err().contains("no envelope"));
    }

    #[test]
    fn a_large_value_is_shown_cut_and_said_to_be() {
        let long = vec![b'a'; SHOWN_CHARS_MAX + 1];
        let value = shown(&long, long.len() as u64, Err("x".into()));
        assert!(value.raw_cut && value.raw.ends_with('…') && value.sha256.is_some());
        assert_eq!(shown(b"ab", 3, Err("x".into())).sha256, None, "a part has no digest of the whole");
    }
}
