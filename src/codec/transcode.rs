//! Between what RedisBagOStuff writes into Redis and what RESTBagOStuff writes into Kask.
//!
//! | | Redis | Kask |
//! |---|---|---|
//! | integer | decimal text: `42` | `JSON..42`, `PHP..i:42;` |
//! | anything else | PHP serialize | json_encode or PHP serialize in an envelope |
//! | a body that is no envelope | as it is, or behind [`RAW_MARK`] | as it is |
//!
//! MediaWiki's compare-and-set token is the body's bytes, so for every body `b` that MediaWiki or a foreign client wrote,
//! `to_kask(to_redis(b)) == b`. The exceptions are envelopes that open but were not spelled as the codec spells them; what
//! comes back is then the same value in the canonical spelling:
//! - JSON not as PHP writes an *array's* content: spaces, `\u0041`, `1.0`, repeated keys; and from MediaWiki itself `-0` inside
//!   an array (a float -0.0, which PHP too reads as the integer 0), and `{}` or `{"0":…}` (objects, which PHP too reads as
//!   arrays);
//! - any HMAC where no key is configured: what comes back has none. Decant needs the key that MediaWiki has.

pub use super::envelope::Serialization;
use super::{
    envelope,
    json::{self, JsonFault},
    php::{self, PhpFault},
    value::{Value, canonical_int},
};
use std::fmt;
use zeroize::Zeroizing;

/// What Redis holds before a body that would be misread without it. It is no PHP, so RedisBagOStuff reads a miss.
pub const RAW_MARK: &[u8] = b"decant-raw:";

/// A value in Redis that has no Kask body. To a reader it is a miss.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value in Redis cannot be carried to Kask ({reason}): {detail}")]
pub struct Untranscodable {
    /// A metric label, one of [`REASONS`].
    pub reason: &'static str,
    /// For a person; holds nothing of the value.
    pub detail: String,
}

/// Every reason there is: a closed set, as metric labels must be.
pub const REASONS: [&str; 9] =
    ["object", "reference", "segmented", "invalid_utf8", "not_finite", "depth", "too_many", "truncated", "not_php"];

/// The codec of one stash.
pub struct Transcoder {
    serialization: Serialization,
    hmac_key: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Transcoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcoder")
            .field("serialization", &self.serialization)
            .field("hmac_key", &self.hmac_key.as_ref().map(|_| "(secret)"))
            .finish()
    }
}

impl Transcoder {
    /// `serialization` and `hmac_key` as MediaWiki's RESTBagOStuff has them; an empty key is none, as there.
    pub fn new(serialization: Serialization, hmac_key: Option<Vec<u8>>) -> Transcoder {
        let hmac_key = hmac_key.filter(|key| !key.is_empty()).map(Zeroizing::new);
        Transcoder { serialization, hmac_key }
    }

    fn key(&self) -> Option<&[u8]> {
        self.hmac_key.as_ref().map(|key| key.as_slice())
    }

    pub fn serialization(&self) -> Serialization {
        self.serialization
    }

    /// The payload of a Kask body, if MediaWiki would open its envelope.
    pub fn payload<'a>(&self, kask_body: &'a [u8]) -> Result<&'a [u8], envelope::EnvelopeFault> {
        envelope::open(kask_body, self.serialization, self.key())
    }

    /// What to store in Redis for a Kask body. Never fails: what RESTBagOStuff could not read is stored as it is.
    pub fn to_redis(&self, kask_body: &[u8]) -> Vec<u8> {
        if let Ok(payload) = envelope::open(kask_body, self.serialization, self.key())
            && let Some(bytes) = self.payload_to_redis(payload)
        {
            return bytes;
        }
        if self.to_kask(kask_body).is_ok_and(|body| body == kask_body) {
            return kask_body.to_vec();
        }
        [RAW_MARK, kask_body].concat()
    }

    /// `None` where RESTBagOStuff reads a miss, or where the value has no way back from Redis.
    fn payload_to_redis(&self, payload: &[u8]) -> Option<Vec<u8>> {
        match self.serialization {
            // What json_encode makes of the float -0.0. PHP reads it as the integer 0, from which `-0` would not come back.
            Serialization::Json if payload == b"-0" => Some(b"d:-0;".to_vec()),
            Serialization::Json => match json::decode(payload).ok()? {
                Value::Int(int) => Some(int.to_string().into_bytes()),
                // `1e400` is infinite to PHP, and json_encode refuses that.
                value if !is_finite(&value) => None,
                value => Some(php::encode(&value)),
            },
            Serialization::Php => {
                let scan = php::scan(payload).ok()?;
                let int = payload.strip_prefix(b"i:").and_then(|rest| rest.strip_suffix(b";"));
                match int.filter(|int| canonical_int(int).is_some()) {
                    Some(int) => Some(int.to_vec()),
                    None => (!scan.segmented).then(|| payload.to_vec()),
                }
            }
        }
    }

    /// The body that RESTBagOStuff would have written for the value that Redis holds.
    pub fn to_kask(&self, redis_bytes: &[u8]) -> Result<Vec<u8>, Untranscodable> {
        if let Some(body) = redis_bytes.strip_prefix(RAW_MARK) {
            return Ok(body.to_vec());
        }
        let payload = match (self.serialization, canonical_int(redis_bytes)) {
            (Serialization::Json, Some(_)) => Ok(redis_bytes.to_vec()),
            (Serialization::Php, Some(_)) => Ok([b"i:", redis_bytes, b";"].concat()),
            (Serialization::Json, None) => json_payload(redis_bytes),
            (Serialization::Php, None) => php_payload(redis_bytes),
        };
        match payload {
            Ok(payload) => Ok(envelope::seal(&payload, self.serialization, self.key())),
            Err(fault) if is_not_php(&fault) && is_foreign_text(redis_bytes) => Ok(redis_bytes.to_vec()),
            Err(fault) => Err(fault),
        }
    }
}

/// Recurses as deep as the value is: at most [`super::value::DEPTH_MAX`].
fn is_finite(value: &Value) -> bool {
    match value {
        Value::Float(float) => float.is_finite(),
        Value::Array(entries) => entries.iter().all(|(_, value)| is_finite(value)),
        _ => true,
    }
}

fn json_payload(redis_bytes: &[u8]) -> Result<Vec<u8>, Untranscodable> {
    let value = match php::decode(redis_bytes) {
        Ok(value) => value,
        // An object may be a segment container or the beginning of something broken: the walk tells which.
        Err(PhpFault::Object) => {
            let scan = php::scan(redis_bytes)?;
            return Err(if scan.segmented { segmented() } else { PhpFault::Object.into() });
        }
        Err(fault) => return Err(fault.into()),
    };
    Ok(json::encode(&value)?)
}

fn php_payload(redis_bytes: &[u8]) -> Result<Vec<u8>, Untranscodable> {
    if php::scan(redis_bytes)?.segmented { Err(segmented()) } else { Ok(redis_bytes.to_vec()) }
}

fn segmented() -> Untranscodable {
    Untranscodable { reason: "segmented", detail: "the value lies in segments under other keys".to_owned() }
}

fn is_not_php(fault: &Untranscodable) -> bool {
    matches!(fault.reason, "truncated" | "not_php")
}

/// Text that some other client wrote (WCQS, a service checker): nothing that began as PHP, and nothing binary.
fn is_foreign_text(bytes: &[u8]) -> bool {
    let looks_like_php = matches!(
        bytes,
        [b'i' | b'd' | b'b' | b's' | b'a' | b'O' | b'C' | b'E' | b'r' | b'R', b':', ..] | [b'N', b';', ..]
    );
    let is_text = |text: &str| text.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r'));
    !bytes.is_empty() && !looks_like_php && std::str::from_utf8(bytes).is_ok_and(is_text)
}

impl From<PhpFault> for Untranscodable {
    fn from(fault: PhpFault) -> Untranscodable {
        let reason = match fault {
            PhpFault::Truncated => "truncated",
            PhpFault::Malformed { .. } => "not_php",
            PhpFault::TooDeep => "depth",
            PhpFault::TooMany => "too_many",
            PhpFault::Object => "object",
            PhpFault::Reference | PhpFault::DanglingReference { .. } => "reference",
        };
        Untranscodable { reason, detail: fault.to_string() }
    }
}

impl From<JsonFault> for Untranscodable {
    fn from(fault: JsonFault) -> Untranscodable {
        let reason = match fault {
            JsonFault::InvalidUtf8 => "invalid_utf8",
            JsonFault::NotFinite => "not_finite",
            JsonFault::TooDeep => "depth",
            JsonFault::TooMany => "too_many",
            // What only the decoder says; the encoder is what runs here.
            JsonFault::Syntax { .. } | JsonFault::LoneSurrogate { .. } => "not_php",
        };
        Untranscodable { reason, detail: fault.to_string() }
    }
}

#[cfg(test)]
mod tests;
