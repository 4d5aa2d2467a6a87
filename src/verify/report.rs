//! What a run came to, and what may be said of it. Pure.

use super::class::Class;
use crate::{
    phase::{Phase, Sequencer, proof::VerifyProof},
    scan::Counts,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Whole shares are told with so many decimals, always rounded down.
const SHARE_DECIMALS: u32 = 4;
/// What no run can see, in every report.
pub const BLIND: &str = "keys that only Kask holds: its API lists none";

/// A run, over or cut short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub id: String,
    pub stash: String,
    /// The phase that was compared in, and its version.
    pub phase: Phase,
    pub version: u64,
    /// RFC 3339.
    pub begun: String,
    pub begun_unix_ms: u64,
    pub ended: String,
    pub ended_unix_ms: u64,
    #[serde(flatten)]
    pub asked: Asked,
    pub keys: Keys,
    pub left_out: LeftOut,
    /// Everything that was asked for was compared, under one phase, with both tiers answering.
    pub complete: bool,
    /// Why it is not complete.
    pub incomplete: Vec<String>,
    /// A full run found every key equal: of a run with a pattern, every key that fits it. Never true of a sample.
    pub arrived: bool,
    /// Equal keys of those compared, in percent, rounded down; none where nothing was compared. `100` only beside `arrived`.
    pub equal_percent: Option<String>,
    /// What may be said, in words.
    pub summary: String,
    /// Some keys of each class that is not equal.
    pub differences: Vec<Difference>,
    pub not_compared: String,
}

/// How a run was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// So many keys, drawn at random; none: all.
    pub sample: Option<u64>,
    /// Only keys that fit this pattern.
    #[serde(rename = "match")]
    pub only: Option<String>,
    pub fix: bool,
}

impl Asked {
    /// Nothing was left out on purpose.
    pub fn is_full(&self) -> bool {
        self.sample.is_none() && self.only.is_none()
    }
}

/// Each key counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keys {
    pub compared: u64,
    pub equal: u64,
    /// Missing or different when they were met, and equal since.
    pub fixed: u64,
    pub missing: u64,
    pub different: u64,
    /// A remembered delete, yet Kask holds a value.
    pub tombstone: u64,
    /// By reason.
    pub untranscodable: BTreeMap<String, u64>,
    pub unstorable: BTreeMap<String, u64>,
    pub pending: u64,
    pub unknown: u64,
}

impl Keys {
    pub fn of(counts: &BTreeMap<Class, u64>) -> Keys {
        let mut keys = Keys::default();
        for (class, count) in counts {
            keys.compared += count;
            let place = match class {
                Class::Unknown => &mut keys.unknown,
                Class::Pending => &mut keys.pending,
                Class::Equal => &mut keys.equal,
                Class::Fixed => &mut keys.fixed,
                Class::Untranscodable(reason) => keys.untranscodable.entry((*reason).to_owned()).or_default(),
                Class::Unstorable(reason) => keys.unstorable.entry((*reason).to_owned()).or_default(),
                Class::Tombstone => &mut keys.tombstone,
                Class::Different => &mut keys.different,
                Class::Missing => &mut keys.missing,
            };
            *place += count;
        }
        keys
    }

    pub fn uncarried(&self) -> u64 {
        self.untranscodable.values().chain(self.unstorable.values()).sum()
    }

    fn all_equal(&self) -> bool {
        self.equal + self.fixed == self.compared
    }
}

/// Names in Redis that are no keys to be compared. Those that SCAN gave twice count twice here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftOut {
    /// Expired or deleted before they could be compared.
    pub gone: u64,
    /// One phase ahead, in `kask-only`: Redis is told nothing of them any more.
    pub retired: u64,
    /// Of MediaWiki, for seconds.
    pub locks: u64,
    /// On a shard where no client looks for them.
    pub misplaced: u64,
    /// Without the stash's prefix.
    pub foreign: u64,
    pub unmatched: u64,
    /// decant's own.
    pub own: u64,
}

impl LeftOut {
    pub fn of(gone: u64, counts: &Counts) -> LeftOut {
        LeftOut {
            gone,
            retired: 0,
            locks: counts.locks,
            misplaced: counts.misplaced,
            foreign: counts.foreign,
            unmatched: counts.unmatched,
            own: counts.own,
        }
    }
}

/// One key whose tiers are not equal. Keys are personal data: what stands here is a keyed hash, and nothing of the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The same for the same key as long as `state_dir` is kept.
    pub key_hash: String,
    /// Only where it was asked for; as text, what is not printable escaped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    pub class: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    pub shard: String,
    /// PHP types.
    pub redis_kind: Option<String>,
    pub kask_kind: Option<String>,
    /// Of the bodies that Kask is to hold, and holds.
    pub redis_bytes: Option<u64>,
    pub kask_bytes: Option<u64>,
}

impl Report {
    /// Fills in what follows from the counts.
    pub fn concluded(mut self) -> Report {
        self.complete = self.incomplete.is_empty();
        let left = self.left_where_none_looks();
        self.arrived = self.complete && self.asked.sample.is_none() && self.keys.all_equal() && left.is_none();
        let equal = self.keys.equal + self.keys.fixed;
        self.equal_percent = percent(equal, self.keys.compared).filter(|text| self.arrived || text != "100");
        self.summary = self.summarised();
        self.not_compared = BLIND.to_owned();
        self
    }

    /// What the guards go by; of a run over everything.
    pub fn proof(&self) -> VerifyProof {
        VerifyProof {
            begun_unix_ms: self.begun_unix_ms,
            ended_unix_ms: self.ended_unix_ms,
            phase: self.phase,
            version: self.version,
            complete: self.complete,
            compared: self.keys.compared,
            missing: self.keys.missing,
            different: self.keys.different + self.keys.tombstone,
            pending: self.keys.pending,
            uncarried: self.keys.uncarried(),
            misplaced: self.left_out.misplaced,
            foreign: self.left_out.foreign,
        }
    }

    /// Names that may be keys of clients, if the config does not say of them what those who wrote them went by.
    fn left_where_none_looks(&self) -> Option<String> {
        let LeftOut { misplaced, foreign, .. } = self.left_out;
        match (misplaced, foreign) {
            (0, 0) => None,
            (0, foreign) if self.keys.compared == 0 => Some(format!(
                "Redis holds {}, none with the stash's prefix: is `prefix` what they were written with?",
                counted(foreign, "name")
            )),
            (0, _) => None,
            (misplaced, _) => Some(format!(
                "{} left on a shard where decant does not look for them: are `distribution`, `hash` and the shards' names what they were \
                 placed by?",
                counted(misplaced, "key")
            )),
        }
    }

    fn summarised(&self) -> String {
        let found = self.found();
        let compared = counted(self.keys.compared, "key");
        let whole = match (&self.asked.sample, &self.asked.only) {
            (Some(_), _) => "a sample proves nothing of the other keys".to_owned(),
            (None, Some(_)) => "nothing is said of keys that do not fit the pattern".to_owned(),
            (None, None) => String::new(),
        };
        let mut parts = match (found.is_empty(), self.complete, self.arrived) {
            (true, true, false) if self.keys.compared == 0 && self.asked.sample.is_none() => {
                vec!["nothing was compared".to_owned()]
            }
            (true, true, true) if self.keys.compared == 0 => {
                vec!["Redis holds no such key: nothing was to arrive".to_owned()]
            }
            (true, true, true) => vec![format!("everything arrived: {compared}, equal in both tiers")],
            (true, true, false) => vec![format!("none of {compared} compared is missing or different")],
            (true, false, _) => {
                vec![format!("nothing was found among {compared} compared, but the run is not complete")]
            }
            (false, _, _) => vec![format!("not everything arrived: of {compared} compared {}", found.join(", "))],
        };
        if !found.is_empty() && !self.complete {
            parts.push("and the run is not complete".to_owned());
        }
        parts.extend(self.left_where_none_looks());
        parts.extend((!whole.is_empty()).then_some(whole));
        parts.join("; ")
    }

    /// What is not equal, by class.
    fn found(&self) -> Vec<String> {
        let keys = &self.keys;
        let uncarried = |by: &BTreeMap<String, u64>, what: &str| {
            let count: u64 = by.values().sum();
            let reasons: Vec<String> = by.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            (count > 0).then(|| format!("{count} {what} ({})", reasons.join(", ")))
        };
        let some = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let missing = match self.phase.sequencer() {
            Sequencer::Redis => "missing in Kask",
            Sequencer::Kask => "only in Redis, which counts for nothing now",
        };
        [
            some(keys.missing, missing),
            some(keys.different, "different"),
            some(keys.tombstone, "deleted, yet still in Kask"),
            uncarried(&keys.untranscodable, "that Kask cannot be told"),
            uncarried(&keys.unstorable, "whose key Kask cannot have"),
            some(keys.pending, "still under way"),
            some(keys.unknown, "that could not be asked for"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `part` of `whole` in percent, rounded down: `100` only if it is all of it.
pub fn percent(part: u64, whole: u64) -> Option<String> {
    let scale = 10u128.pow(SHARE_DECIMALS);
    let share = (u128::from(part) * 100 * scale).checked_div(u128::from(whole))?;
    let (units, rest) = (share / scale, share % scale);
    let digits = format!("{units}.{rest:0width$}", width = SHARE_DECIMALS as usize);
    Some(digits.trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(counts: &[(Class, u64)], asked: Asked, incomplete: &[&str]) -> Report {
        let report = Report {
            id: "r".into(),
            stash: "s".into(),
            phase: Phase::KaskFirst,
            version: 3,
            begun: String::new(),
            begun_unix_ms: 1,
            ended: String::new(),
            ended_unix_ms: 2,
            asked,
            keys: Keys::of(&counts.iter().copied().collect()),
            left_out: LeftOut::default(),
            complete: false,
            incomplete: incomplete.iter().map(|why| (*why).to_owned()).collect(),
            arrived: false,
            equal_percent: None,
            summary: String::new(),
            differences: Vec::new(),
            not_compared: String::new(),
        };
        report.concluded()
    }

    #[test]
    fn shares_are_never_rounded_up() {
        for (part, whole, text) in [
            (0, 0, None),
            (0, 5, Some("0")),
            (1, 3, Some("33.3333")),
            (1, 2, Some("50")),
            (999_999, 1_000_000, Some("99.9999")),
            (9_999_999, 10_000_000, Some("99.9999")),
            (49_999_999_999, 50_000_000_000, Some("99.9999")),
            (u64::MAX - 1, u64::MAX, Some("99.9999")),
            (u64::MAX, u64::MAX, Some("100")),
        ] {
            assert_eq!(percent(part, whole).as_deref(), text, "{part} of {whole}");
        }
    }

    #[test]
    fn only_a_complete_run_that_is_no_sample_and_found_all_equal_says_that_everything_arrived() {
        let equal = [(Class::Equal, 7), (Class::Fixed, 1)];
        let full = report(&equal, Asked::default(), &[]);
        assert!(full.arrived && full.complete);
        assert_eq!(
            (full.equal_percent.as_deref(), full.summary.as_str()),
            (Some("100"), "everything arrived: 8 keys, equal in both tiers")
        );
        let pattern = Asked { only: Some("a*".into()), ..Asked::default() };
        let fits = report(&equal, pattern, &[]);
        assert!(
            fits.arrived && !fits.asked.is_full() && fits.summary.contains("do not fit the pattern"),
            "{}",
            fits.summary
        );

        let sample = Asked { sample: Some(8), ..Asked::default() };
        for (counts, asked, incomplete) in [
            (&equal[..], sample.clone(), &[][..]),
            (&equal[..], Asked::default(), &["a shard is away"][..]),
            (&[], sample, &[]),
            (&[(Class::Equal, 7), (Class::Missing, 1)], Asked::default(), &[]),
            (&[(Class::Equal, 7), (Class::Different, 1)], Asked::default(), &[]),
            (&[(Class::Equal, 7), (Class::Tombstone, 1)], Asked::default(), &[]),
            (&[(Class::Equal, 7), (Class::Pending, 1)], Asked::default(), &[]),
            (&[(Class::Equal, 7), (Class::Unknown, 1)], Asked::default(), &[]),
            (&[(Class::Equal, 7), (Class::Untranscodable("object"), 1)], Asked::default(), &[]),
            (&[(Class::Equal, 7), (Class::Unstorable("slash"), 1)], Asked::default(), &[]),
            (&[(Class::Equal, 99_999_999), (Class::Missing, 1)], Asked::default(), &[]),
        ] {
            let report = report(counts, asked, incomplete);
            assert!(!report.arrived, "{report:?}");
            assert_ne!(report.equal_percent.as_deref(), Some("100"));
            assert!(
                !report.summary.contains("everything arrived") || report.summary.starts_with("not everything"),
                "{}",
                report.summary
            );
        }
    }

    #[test]
    fn the_summary_says_what_is_missing() {
        let counts = [
            (Class::Equal, 90),
            (Class::Missing, 4),
            (Class::Different, 3),
            (Class::Untranscodable("object"), 2),
            (Class::Untranscodable("redis_type"), 1),
        ];
        let told = report(&counts, Asked::default(), &["shard b is away"]);
        assert_eq!(
            told.summary,
            "not everything arrived: of 100 keys compared 4 missing in Kask, 3 different, 3 that Kask cannot be told (2 object, \
             1 redis_type); and the run is not complete"
        );
        assert_eq!(told.equal_percent.as_deref(), Some("90"));
        assert_eq!(told.keys.uncarried(), 3);
        assert_eq!(report(&[], Asked::default(), &[]).summary, "Redis holds no such key: nothing was to arrive");
    }

    #[test]
    fn keys_where_nobody_looks_for_them_have_not_arrived() {
        let with = |compared: u64, misplaced: u64, foreign: u64| {
            let left_out = LeftOut { misplaced, foreign, ..LeftOut::default() };
            let counts = [(Class::Equal, compared)];
            Report { left_out, ..report(&counts[..usize::from(compared > 0)], Asked::default(), &[]) }.concluded()
        };
        assert!(with(7, 0, 3).arrived, "another's names beside the stash's");
        let some = with(7, 2, 0);
        assert!(!some.arrived && some.equal_percent.is_none(), "{some:?}");
        assert!(
            some.summary.starts_with("none of 7 keys compared is missing or different; 2 keys left on a shard"),
            "{}",
            some.summary
        );
        let none = with(0, 0, 5);
        assert!(
            !none.arrived && none.summary.starts_with("nothing was compared; Redis holds 5 names, none with"),
            "{}",
            none.summary
        );
        assert!(with(0, 0, 0).arrived);
    }

    #[test]
    fn a_report_is_read_back() {
        let asked = Asked { sample: Some(3), only: Some("*".into()), fix: true };
        let report = report(&[(Class::Unstorable("slash"), 2)], asked, &["x"]);
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains("\"match\":\"*\"") && text.contains("\"unstorable\":{\"slash\":2}"), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}
