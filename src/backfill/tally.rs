//! What became of keys, counted.

use super::age::Age;
use crate::scan::Counts;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::AddAssign};

/// What became of a key. The names are metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Copied,
    /// Kask held an equal value already.
    Equal,
    /// Of a dry run: it would be copied.
    Lacking,
    /// No value any more when it was looked at.
    Gone,
    /// Skipped by `written_after`.
    WrittenBefore,
    /// Skipped by `skip_values`.
    SkippedValue,
    /// Skipped by `min_ttl`.
    ShortLived,
    /// Kask's side cannot carry the value.
    Untranscodable,
    /// Kask cannot have such a key.
    Unstorable,
    /// Kask refused it, and will always.
    Refused,
    /// A tier failed; it can be tried again.
    Failed,
}

impl Outcome {
    pub const ALL: [Outcome; 11] = [
        Outcome::Copied,
        Outcome::Equal,
        Outcome::Lacking,
        Outcome::Gone,
        Outcome::WrittenBefore,
        Outcome::SkippedValue,
        Outcome::ShortLived,
        Outcome::Untranscodable,
        Outcome::Unstorable,
        Outcome::Refused,
        Outcome::Failed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Copied => "copied",
            Outcome::Equal => "equal",
            Outcome::Lacking => "lacking",
            Outcome::Gone => "gone",
            Outcome::WrittenBefore => "written_before",
            Outcome::SkippedValue => "skipped_value",
            Outcome::ShortLived => "short_lived",
            Outcome::Untranscodable => "untranscodable",
            Outcome::Unstorable => "unstorable",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
        }
    }

    /// It stays behind though nobody asked for that.
    pub fn is_not_moved(self) -> bool {
        matches!(self, Outcome::Untranscodable | Outcome::Unstorable | Outcome::Refused | Outcome::Failed)
    }
}

/// Keys and the bytes of their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    pub keys: u64,
    pub bytes: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, more: Amount) {
        self.keys += more.keys;
        self.bytes += more.bytes;
    }
}

/// Counts of a page, a shard or a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    pub walked: Counts,
    pub keys: BTreeMap<Outcome, u64>,
    /// Of values that were copied, or would be.
    pub bytes: u64,
    /// Why keys stay behind: `untranscodable: object`, say. As many as there are reasons in the code.
    pub reasons: BTreeMap<String, u64>,
    /// Of a dry run: what would be copied, by age.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ages: BTreeMap<Age, Amount>,
}

impl Tally {
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.keys.get(&outcome).copied().unwrap_or(0)
    }

    /// Keys that stay behind though nobody asked for that.
    pub fn not_moved(&self) -> u64 {
        self.keys.iter().filter(|(outcome, _)| outcome.is_not_moved()).map(|(_, keys)| keys).sum()
    }

    /// Keys that were looked at, whatever came of it.
    pub fn looked_at(&self) -> u64 {
        self.keys.values().sum()
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        *self.keys.entry(outcome).or_default() += 1;
    }

    pub(super) fn count_reason(&mut self, outcome: Outcome, reason: &str) {
        *self.reasons.entry(format!("{}: {reason}", outcome.name())).or_default() += 1;
    }

    /// A key that stayed behind is tried again.
    pub(super) fn forget(&mut self, outcome: Outcome, reason: &str) {
        let one_less = |count: Option<&mut u64>| {
            if let Some(count) = count {
                *count = count.saturating_sub(1);
            }
        };
        one_less(self.keys.get_mut(&outcome));
        one_less(self.reasons.get_mut(&format!("{}: {reason}", outcome.name())));
        self.reasons.retain(|_, keys| *keys > 0);
    }
}

impl AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, more: &Tally) {
        self.walked += more.walked;
        self.bytes += more.bytes;
        more.keys.iter().for_each(|(outcome, keys)| *self.keys.entry(*outcome).or_default() += keys);
        more.reasons.iter().for_each(|(reason, keys)| *self.reasons.entry(reason.clone()).or_default() += keys);
        more.ages.iter().for_each(|(age, amount)| *self.ages.entry(*age).or_default() += *amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up_and_are_read_back() {
        let mut one = Tally { bytes: 5, ..Tally::default() };
        one.count(Outcome::Copied);
        one.count(Outcome::Failed);
        one.count_reason(Outcome::Failed, "kask");
        one.ages.insert(Age::Unknown, Amount { keys: 1, bytes: 5 });
        let mut sum = one.clone();
        sum += &one;
        assert_eq!((sum.of(Outcome::Copied), sum.not_moved(), sum.looked_at(), sum.bytes), (2, 2, 4, 10));
        assert_eq!(sum.ages[&Age::Unknown], Amount { keys: 2, bytes: 10 });
        sum.forget(Outcome::Failed, "kask");
        sum.forget(Outcome::Failed, "kask");
        assert_eq!((sum.not_moved(), sum.reasons.len()), (0, 0));
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), one);
    }

    #[test]
    fn each_outcome_has_one_name() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
        }
    }
}
