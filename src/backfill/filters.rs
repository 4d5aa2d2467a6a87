//! Which keys a backfill is to copy: what an operator asks for, and the decision about one key. Pure.

use crate::{
    codec::{
        transcode::Transcoder,
        value::{Value, canonical_int},
        written,
    },
    outbox::{Life, Weight},
    scan::{Glob, GlobFault},
};
use serde::{Deserialize, Serialize};

/// Values to skip, at most.
const SKIP_VALUES_MAX: usize = 16;
/// One of them, in bytes.
const SKIP_VALUE_BYTES_MAX: usize = 1_024;
/// TTLs in seconds, at most: a thousand years, so that they can be told in milliseconds.
const TTL_S_MAX: u64 = 31_536_000_000;

/// What an operator asks for. Everything left out: all keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filters {
    /// A glob that whole keys fit, without the stash's prefix.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// Values written later than this, in ms since 1970; those of which nobody knows when they were written are copied as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_after_unix_ms: Option<u64>,
    /// The TTL that values were written with, in seconds: with what is left of it, it tells when. Left out: the stash's `default_ttl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_ttl_s: Option<u64>,
    /// Strings or integers that are as good as no value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skip_values: Vec<String>,
    /// Values that live at least so many seconds more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_ttl_s: Option<u64>,
    /// At most so many keys are copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Only count what would be copied.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What is asked for makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterFault {
    #[error("match: {0}")]
    Glob(#[from] GlobFault),
    #[error("skip_values: at most {SKIP_VALUES_MAX} values of at most {SKIP_VALUE_BYTES_MAX} bytes")]
    SkipValues,
    #[error(
        "written_ttl_s: with a TTL of 0 nothing tells when a value was written; give the TTL that values were written with"
    )]
    NoTtl,
    #[error("{0} is more than a thousand years")]
    TooLong(&'static str),
    #[error("limit: 0 keys are no backfill; dry_run counts without copying")]
    NoKeys,
}

impl Filters {
    /// Every key is meant: only such a run shows that nothing was left behind.
    pub fn are_none(&self) -> bool {
        *self == Filters::default()
    }
}

/// Why a key is passed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    WrittenBefore,
    Value,
    ShortLived,
}

/// [`Filters`], ready to decide.
#[derive(Clone, Debug)]
pub(super) struct Sieve {
    pub(super) only: Option<Glob>,
    written_after_ms: Option<u64>,
    /// 0: nothing follows from a TTL.
    ttl_s: u64,
    /// As Kask would hold them.
    skip_bodies: Vec<Vec<u8>>,
    min_ttl_ms: u64,
}

impl Sieve {
    pub(super) fn new(filters: &Filters, transcoder: &Transcoder, default_ttl_s: u64) -> Result<Sieve, FilterFault> {
        let long = filters.skip_values.iter().any(|value| value.len() > SKIP_VALUE_BYTES_MAX);
        if long || filters.skip_values.len() > SKIP_VALUES_MAX {
            return Err(FilterFault::SkipValues);
        }
        if filters.written_ttl_s == Some(0) {
            return Err(FilterFault::NoTtl);
        }
        if filters.limit == Some(0) {
            return Err(FilterFault::NoKeys);
        }
        for (name, ttl_s) in [("written_ttl_s", filters.written_ttl_s), ("min_ttl_s", filters.min_ttl_s)] {
            if ttl_s.is_some_and(|ttl_s| ttl_s > TTL_S_MAX) {
                return Err(FilterFault::TooLong(name));
            }
        }
        Ok(Sieve {
            only: filters.only.as_deref().map(Glob::new).transpose()?,
            written_after_ms: filters.written_after_unix_ms,
            ttl_s: filters.written_ttl_s.unwrap_or(default_ttl_s),
            skip_bodies: filters.skip_values.iter().flat_map(|value| bodies_of(value, transcoder)).collect(),
            min_ttl_ms: filters.min_ttl_s.unwrap_or(0) * 1_000,
        })
    }

    /// What can be said before the value is read.
    pub(super) fn by_weight(&self, weight: &Weight) -> Option<Skip> {
        matches!(weight.life, Life::Left { ms } if ms < self.min_ttl_ms).then_some(Skip::ShortLived)
    }

    /// What the value adds. `value` decodes the body, where that is needed.
    pub(super) fn by_body(
        &self,
        weight: &Weight,
        body: &[u8],
        value: impl FnOnce() -> Option<Value>,
        now_ms: u64,
    ) -> Option<Skip> {
        if self.skip_bodies.iter().any(|skip| skip == body) {
            return Some(Skip::Value);
        }
        let after = self.written_after_ms?;
        let written = self.written_ms(weight, value().as_ref(), now_ms)?;
        (written <= after).then_some(Skip::WrittenBefore)
    }

    /// When the value was written, in ms since 1970, as far as its remaining TTL or a timestamp that it is can tell. Where both do, the later counts:
    /// what may be new is never passed by.
    pub(super) fn written_ms(&self, weight: &Weight, value: Option<&Value>, now_ms: u64) -> Option<u64> {
        let left_ms = match weight.life {
            Life::Left { ms } => Some(ms),
            Life::Gone | Life::Forever => None,
        };
        let by_value = value.and_then(written::by_value).map(|seconds| seconds.saturating_mul(1_000));
        written::by_ttl(now_ms, self.ttl_s, left_ms).max(by_value)
    }
}

/// The string, and the integer that is written the same.
fn bodies_of(value: &str, transcoder: &Transcoder) -> Vec<Vec<u8>> {
    let string = format!("s:{}:\"{value}\";", value.len()).into_bytes();
    let int = canonical_int(value.as_bytes()).map(|_| value.as_bytes().to_vec());
    [Some(string), int].into_iter().flatten().filter_map(|bytes| transcoder.to_kask(&bytes).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::envelope::Serialization;

    const DAY: u64 = 86_400_000;
    const NOW: u64 = 20_000 * DAY;

    fn sieve(filters: &Filters) -> Sieve {
        Sieve::new(filters, &Transcoder::new(Serialization::Json, None), 30 * 86_400).unwrap()
    }

    fn weight(life: Life) -> Weight {
        Weight { bytes: Some(10), life }
    }

    fn text(digits: &str) -> Value {
        Value::Bytes(digits.as_bytes().to_vec())
    }

    fn left(ms: u64) -> Weight {
        weight(Life::Left { ms })
    }

    #[test]
    fn when_a_value_was_written_follows_from_ttl_or_timestamp_and_the_later_counts() {
        let all = sieve(&Filters::default());
        let written = |weight: Weight, seen: Option<&str>| all.written_ms(&weight, seen.map(text).as_ref(), NOW);
        assert_eq!(written(left(30 * DAY), None), Some(NOW));
        assert_eq!(written(left(DAY), None), Some(NOW - 29 * DAY));
        assert_eq!(written(left(31 * DAY), None), None, "it was written with another TTL");
        assert_eq!(written(weight(Life::Forever), None), None);
        assert_eq!(written(weight(Life::Forever), Some("19700102000000")), Some(DAY));
        assert_eq!(written(left(DAY), Some("19700102000000")), Some(NOW - 29 * DAY));
        assert_eq!(written(left(DAY), Some("20991231000000")), Some(4_102_358_400_000));
    }

    #[test]
    fn a_key_is_passed_by_only_where_it_is_known_to_be_old() {
        let after = sieve(&Filters { written_after_unix_ms: Some(NOW - 10 * DAY), ..Filters::default() });
        let skip = |weight: Weight, seen: Option<&str>| after.by_body(&weight, b"x", || seen.map(text), NOW);
        assert_eq!(skip(left(DAY), None), Some(Skip::WrittenBefore));
        assert_eq!(skip(left(25 * DAY), None), None);
        assert_eq!(skip(weight(Life::Forever), None), None, "nobody knows");
        assert_eq!(skip(weight(Life::Forever), Some("20100101000000")), Some(Skip::WrittenBefore));
        let hour = Filters { written_ttl_s: Some(3_600), ..Filters::default() };
        let written = sieve(&hour).written_ms(&left(3_500_000), None, NOW);
        assert_eq!(written, Some(NOW - 100_000), "a session of an hour in a stash of thirty days");
    }

    #[test]
    fn defaults_are_skipped_as_string_and_as_integer_in_either_serialization() {
        let filters = Filters { skip_values: vec!["19700101000001".into(), "x\"y".into()], ..Filters::default() };
        for serialization in [Serialization::Json, Serialization::Php] {
            let transcoder = Transcoder::new(serialization, Some(b"key".to_vec()));
            let sieve = Sieve::new(&filters, &transcoder, 0).unwrap();
            let skip =
                |redis: &[u8]| sieve.by_body(&weight(Life::Forever), &transcoder.to_kask(redis).unwrap(), || None, NOW);
            assert_eq!(skip(b"s:14:\"19700101000001\";"), Some(Skip::Value));
            assert_eq!(skip(b"19700101000001"), Some(Skip::Value));
            assert_eq!(skip(b"s:3:\"x\"y\";"), Some(Skip::Value));
            assert_eq!(skip(b"s:14:\"19700101000002\";"), None);
        }
    }

    #[test]
    fn short_lives_are_known_before_the_value_is_read() {
        let short = sieve(&Filters { min_ttl_s: Some(60), ..Filters::default() });
        assert_eq!(short.by_weight(&left(59_999)), Some(Skip::ShortLived));
        assert_eq!(short.by_weight(&left(60_000)), None);
        assert_eq!(short.by_weight(&weight(Life::Forever)), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let new = |filters: Filters| Sieve::new(&filters, &Transcoder::new(Serialization::Json, None), 1).map(|_| ());
        let none = Filters::default;
        assert_eq!(new(Filters { only: Some(String::new()), ..none() }), Err(FilterFault::Glob(GlobFault::Empty)));
        assert_eq!(new(Filters { skip_values: vec![String::new(); 17], ..none() }), Err(FilterFault::SkipValues));
        assert_eq!(new(Filters { skip_values: vec!["x".repeat(2_000)], ..none() }), Err(FilterFault::SkipValues));
        assert_eq!(new(Filters { written_ttl_s: Some(0), ..none() }), Err(FilterFault::NoTtl));
        assert_eq!(new(Filters { min_ttl_s: Some(u64::MAX), ..none() }), Err(FilterFault::TooLong("min_ttl_s")));
        assert_eq!(new(Filters { limit: Some(0), ..none() }), Err(FilterFault::NoKeys));
        assert!(none().are_none() && !Filters { dry_run: true, ..none() }.are_none());
    }
}
