//! What scripts answer, in the protocol's words.

use crate::{
    codec::transcode::Transcoder,
    protocol::{
        Fence,
        world::{Content, Digest, Direction, Held, Newest, Record, Refusal, Stored, Token, Unheard},
    },
    tier::redis::{
        RedisFailure, Told,
        value::{OddReply, as_array, as_bytes, as_int, element, into_array},
    },
};
use bytes::Bytes;
use redis::Value;
use std::{fmt::Write as _, sync::Arc};

/// A Redis type that no RedisBagOStuff writes.
pub const REDIS_TYPE: &str = "redis_type";
/// A value that is larger than decant reads.
const TOO_LARGE: &str = "too_large";
/// Why a value is not even read, as [`transcode::REASONS`](crate::codec::transcode::REASONS) says why one that was read is not carried.
pub const UNREAD: [&str; 2] = [REDIS_TYPE, TOO_LARGE];

/// A script's answer: a list that begins with a word.
pub struct Reply {
    items: Vec<Value>,
    /// The life of the shard that it was given in.
    pub life: Arc<str>,
}

impl Reply {
    pub fn new(told: Told) -> Result<Reply, OddReply> {
        Ok(Reply { items: into_array(told.value)?, life: told.name })
    }

    pub fn bytes(&self, index: usize) -> Result<&[u8], OddReply> {
        as_bytes(element(&self.items, index)?)
    }

    /// Text that decant itself wrote; anything else reads as empty and then fits nothing.
    pub fn text(&self, index: usize) -> Result<&str, OddReply> {
        Ok(std::str::from_utf8(self.bytes(index)?).unwrap_or(""))
    }

    pub fn int(&self, index: usize) -> Result<i64, OddReply> {
        as_int(element(&self.items, index)?)
    }

    pub fn list(&self, index: usize) -> Result<&[Value], OddReply> {
        as_array(element(&self.items, index)?)
    }

    pub fn number(&self, index: usize) -> Result<u64, OddReply> {
        Ok(self.text(index)?.parse().unwrap_or(0))
    }

    /// The value at `index` (kind) and `index + 1` (bytes).
    pub fn stored(&self, index: usize, transcoder: &Transcoder) -> Result<Stored, OddReply> {
        Ok(match self.text(index)? {
            "body" | "shown" => match transcoder.to_kask(self.bytes(index + 1)?) {
                Ok(body) => Stored::Body(Bytes::from(body)),
                Err(untranscodable) => Stored::Untranscodable(untranscodable.reason),
            },
            "type" => Stored::Untranscodable(REDIS_TYPE),
            "large" => Stored::Untranscodable(TOO_LARGE),
            _ => Stored::Absent,
        })
    }

    /// `newest` at `index`, the value after it: what a copier is to bring to Kask.
    pub fn held(&self, index: usize, transcoder: &Transcoder) -> Result<Held, OddReply> {
        Ok(match (self.stored(index + 1, transcoder)?, newest(self.text(index)?)) {
            (Stored::Body(body), _) => Held::Is(Content::Body(body)),
            (Stored::Untranscodable(reason), _) => Held::Untranscodable(reason),
            (Stored::Absent, Some(Newest::Delete)) => Held::Is(Content::Nothing),
            (Stored::Absent, Some(Newest::Set(digest))) => Held::Evicted(digest),
            (Stored::Absent, Some(Newest::Old) | None) => Held::Unknown,
        })
    }

    pub fn record(&self, index: usize) -> Result<Option<Record>, OddReply> {
        let direction = match self.text(index)? {
            "kask" => Direction::ToKask,
            "redis" => Direction::ToRedis,
            _ => return Ok(None),
        };
        Ok(newest(self.text(index + 1)?).map(|newest| Record { direction, newest }))
    }

    /// `fence` and `transit`, which every script that begins something may answer.
    pub fn refusal(&self) -> Result<Option<Refusal>, OddReply> {
        Ok(match self.text(0)? {
            "fence" => Some(Refusal::Fence(Fence::parse(self.text(1)?).ok())),
            "transit" => Some(Refusal::Transit),
            _ => None,
        })
    }
}

fn newest(text: &str) -> Option<Newest> {
    match text {
        "old" => Some(Newest::Old),
        "delete" => Some(Newest::Delete),
        _ => parse_digest(text.strip_prefix("set:")?).map(Newest::Set),
    }
}

fn parse_digest(hex: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Digest(digest))
}

/// `newest` as the record keeps it.
pub fn newest_text(content: &Content) -> String {
    match content {
        Content::Nothing => "delete".to_owned(),
        Content::Body(body) => Digest::of(body).0.iter().fold(String::from("set:"), |mut text, byte| {
            let _ = write!(text, "{byte:02x}"); // a String takes everything
            text
        }),
    }
}

pub fn token_text(token: Token) -> String {
    format!("{:032x}", token.0)
}

/// Length of a token at the head of an outbox member.
const TOKEN_CHARS: usize = 32;

/// An outbox member: token, then key.
pub fn parse_member(member: &[u8]) -> Option<(Token, &[u8])> {
    let (token, key) = member.split_at_checked(TOKEN_CHARS)?;
    let token = u128::from_str_radix(std::str::from_utf8(token).ok()?, 16).ok()?;
    Some((Token(token), key))
}

/// What scripts say to who was accepted in another life of the shard than the one it is in: see `common.lua`.
const ANOTHER_LIFE: &str = "LIFE";

/// Redis did not begin it, or nobody knows.
pub fn refused(failure: RedisFailure) -> Refusal {
    let text = failure.to_string();
    match failure {
        // Whatever its fence says, it counts only once the server has been compared: as if there were none yet.
        RedisFailure::Refused { code, .. } if code == ANOTHER_LIFE => Refusal::Fence(None),
        RedisFailure::Away { .. } | RedisFailure::Refused { .. } => Refusal::NotDone(text),
        RedisFailure::Timeout | RedisFailure::Lost { .. } => Refusal::Unknown(text),
    }
}

/// An answer that no script of decant's gives: it was surely run, and what it did is unknown.
pub fn odd(reply: OddReply) -> Refusal {
    Refusal::Unknown(format!("Redis answered a script in a shape it does not have: {reply}"))
}

pub fn unheard(failure: RedisFailure) -> Unheard {
    Unheard(failure.to_string())
}

pub fn odd_unheard(reply: OddReply) -> Unheard {
    Unheard(reply.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_write_survives_its_text() {
        let set = Content::Body(Bytes::from_static(b"JSON..1"));
        assert_eq!(newest(&newest_text(&set)), Some(Newest::Set(Digest::of(b"JSON..1"))));
        assert_eq!(newest(&newest_text(&Content::Nothing)), Some(Newest::Delete));
        for odd in ["", "set:", "set:zz", "SET:00"] {
            assert_eq!(newest(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_member_is_token_and_key_and_short_ones_are_refused() {
        let member = [token_text(Token(7)).as_bytes(), b"a:\xff"].concat();
        assert_eq!(parse_member(&member), Some((Token(7), &b"a:\xff"[..])));
        assert_eq!(parse_member(b"short"), None);
    }
}
