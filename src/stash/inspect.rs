//! Both tiers' view of one key, for an operator. Nothing is changed, and nothing is repaired.
//!
//! The two tiers are asked one after the other: a write in between can make them look different, and the record then shows its intent.

mod explain;

use super::Stash;
use crate::{
    codec::{
        envelope::{self, Serialization},
        json,
        key::Key,
        php,
        show::{self, rfc3339},
        transcode::RAW_MARK,
        value::{Value, canonical_int},
        written,
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
    /// Why the tiers differ and what becomes of it, in a sentence; none where they do not, or where nobody can tell.
    #[serde(default)]
    pub explanation: Option<String>,
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
    /// When the value was written, as far as that can be told.
    #[serde(default)]
    pub written: Option<Written>,
    pub value: Option<ShownValue>,
}

/// When a value was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// RFC 3339.
    pub at: String,
    pub unix_ms: u64,
    /// `value`: it is a timestamp, as Echo's seen times are. `ttl`: its remaining TTL, if it was written with the stash's `default_ttl`.
    pub by: String,
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
    /// Why it was given up on; only of a damaged one.
    #[serde(default)]
    pub reason: Option<String>,
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
        let (outbox, unstorable) = (self.site.world.outbox.as_deref(), key.fault());
        let (redis, kask) = tokio::join!(self.peek(key), async {
            match unstorable {
                Some(_) => KaskRead::Miss,
                None => self.site.world.kask.get_all_the_same(key, Instant::now() + TIER_TIMEOUT).await,
            }
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
        let mut inspection = Inspection {
            stash: self.name.clone(),
            key: show::bytes(key.as_bytes(), SHOWN_CHARS_MAX).0,
            phase: self.site.belief().phase_of(key).name().to_owned(),
            shard: outbox.map(|outbox| self.shard_name(outbox.map().shard_of(key))),
            pending: self.pending_text(key).to_owned(),
            remembered_delete: record.is_some_and(|record| record.newest == "delete"),
            record: record.map(record_side),
            redis: self.redis_side(outbox.map(|outbox| outbox.map().redis_key(key)), &redis),
            kask: kask_side,
            comparison,
            explanation: None,
        };
        inspection.explanation = match unstorable {
            Some(fault) => Some(format!("{fault}: it stays behind, and no client can read it")),
            None => explain::explain(&inspection, self.site.settings.lease),
        };
        inspection
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
            Pending::Among => "among too many to list",
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
            (Some(Ok(carried)), Some(body)) if transcoder.is_some_and(|t| t.same_value(&carried, body)) => {
                told("equal", Some("MediaWiki reads the same value from both, spelled differently".into()))
            }
            (Some(Ok(_)), Some(_)) => told("different", None),
            (Some(Err(why)), None) => told("only in Redis", Some(why.to_string())),
            (Some(Err(why)), Some(_)) => told("different", Some(why.to_string())),
            (None, _) => told("unknown", None),
        }
    }

    fn redis_side(&self, name: Option<Vec<u8>>, peek: &Result<Peek, String>) -> RedisSide {
        let name = name.map(|name| show::bytes(&name, SHOWN_CHARS_MAX).0);
        let peek = match peek {
            Ok(peek) => peek,
            Err(why) => return RedisSide { error: Some(why.clone()), name, ..RedisSide::default() },
        };
        let decoded = (peek.kind == "string").then(|| match is_whole(peek) {
            true => decode_redis(&peek.value),
            false => Err("too large to be decoded here".to_owned()),
        });
        let value = decoded.as_ref().and_then(|decoded| decoded.as_ref().ok());
        RedisSide {
            error: None,
            name,
            kind: Some(peek.kind.clone()),
            ttl_ms: peek.ttl_ms,
            written: written(value, peek, self.default_ttl_s),
            value: decoded.map(|decoded| shown(&peek.value, peek.length, decoded)),
        }
    }
}

/// What the value says of itself counts more than what its TTL implies.
fn written(value: Option<&Value>, peek: &Peek, default_ttl_s: u64) -> Option<Written> {
    let told = |unix_ms: u64, by: &str| Written { at: rfc3339(unix_ms), unix_ms, by: by.to_owned() };
    let by_value = value.and_then(written::by_value).map(|seconds| told(seconds * 1000, "value"));
    let by_ttl = || written::by_ttl(peek.now_unix_ms, default_ttl_s, peek.ttl_ms).map(|unix_ms| told(unix_ms, "ttl"));
    by_value.or_else(by_ttl)
}

fn is_whole(peek: &Peek) -> bool {
    peek.value.len() as u64 == peek.length
}

fn record_side(record: &PeekRecord) -> RecordSide {
    let intents = record.intents.iter().take(INTENTS_MAX);
    RecordSide {
        direction: record.direction.clone(),
        generation: record.generation,
        newest: record.newest.clone(),
        intents_total: record.intents.len(),
        intents: intents
            .map(|intent| IntentSide {
                id: intent.token.clone(),
                age_ms: intent.age_ms,
                tries: intent.tries,
                reason: intent.reason.clone(),
            })
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
