//! Which keys are one phase ahead of their stash: a step tried on a test wiki, or on one key in a hundred. Pure.

use super::Phase;
use crate::codec::{
    glob::{Glob, GlobFault},
    key::{Key, percent_decode},
};
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// A share is counted in so many parts.
const PARTS: u32 = 1_000_000;

/// The rule. It stands in the record and in the fence, as one word, so that a key's phase is the same in every decant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Ahead {
    /// Keys that fit the pattern.
    Match(Arc<Glob>),
    /// About this share of all keys: those whose MD5 begins with a small enough number.
    Share(Share),
}

/// A part of all keys, in millionths: more than none, less than all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

/// The text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AheadFault {
    #[error("\"{0}\" is no rule: write match:PATTERN (as a URL spells it) or share:NUMBER")]
    Unknown(String),
    #[error(transparent)]
    Pattern(#[from] GlobFault),
    #[error("the pattern is not spelled as in a URL")]
    Spelling,
    #[error(
        "\"{0}\" is no share: it is a number between 0 and 1, in steps of 0.000001; for all keys, move the phase itself"
    )]
    Share(String),
}

impl Share {
    /// As a part of 100.
    fn percent(self) -> f64 {
        f64::from(self.0) / f64::from(PARTS / 100)
    }

    /// As a part of 1.
    pub fn number(self) -> f64 {
        f64::from(self.0) / f64::from(PARTS)
    }

    fn covers(self, key: &Key) -> bool {
        let digest: [u8; 16] = Md5::digest(key.as_bytes()).into();
        let place = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        u64::from(place) * u64::from(PARTS) < u64::from(self.0) << 32
    }
}

impl FromStr for Share {
    type Err = AheadFault;
    fn from_str(text: &str) -> Result<Share, AheadFault> {
        let fault = || AheadFault::Share(text.to_owned());
        let parts = text.parse::<f64>().map_err(|_| fault())? * f64::from(PARTS);
        let whole = parts.round();
        if !(1.0..f64::from(PARTS)).contains(&whole) || (parts - whole).abs() > 1e-6 {
            return Err(fault());
        }
        Ok(Share(whole as u32))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

/// Whether `wanted` holds for any key of a stash that is in `phase`.
pub fn holds(wanted: Phase, phase: Phase, ahead: Option<&Ahead>) -> bool {
    wanted == phase || ahead.is_some() && phase.next() == Some(wanted)
}

/// For people: the phase, and which keys are ahead of it.
pub fn told(phase: Phase, ahead: Option<&Ahead>) -> String {
    match (ahead, phase.next()) {
        (Some(ahead), Some(next)) => format!("{phase}, with {} in {next}", ahead.text()),
        _ => phase.to_string(),
    }
}

impl Ahead {
    /// # Errors
    /// What is wrong with the pattern.
    pub fn matching(pattern: &str) -> Result<Ahead, AheadFault> {
        Ok(Ahead::Match(Arc::new(Glob::new(pattern)?)))
    }

    pub fn covers(&self, key: &Key) -> bool {
        match self {
            Ahead::Match(glob) => glob.fits(key.as_bytes()),
            Ahead::Share(share) => share.covers(key),
        }
    }

    /// Every key that `other` covers is surely covered here as well.
    pub fn widens(&self, other: &Ahead) -> bool {
        match (self, other) {
            (Ahead::Share(own), Ahead::Share(other)) => own >= other,
            _ => self == other,
        }
    }

    /// For people, as the subject of a sentence in the plural.
    pub fn text(&self) -> String {
        match self {
            Ahead::Match(glob) => format!("keys like {}", glob.text()),
            Ahead::Share(share) => format!("{} % of all keys", share.percent()),
        }
    }
}

/// One word: it stands in the fence.
impl fmt::Display for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ahead::Match(glob) => write!(f, "match:{}", Key::from_bytes(glob.text().to_owned()).to_url()),
            Ahead::Share(share) => write!(f, "share:{share}"),
        }
    }
}

impl FromStr for Ahead {
    type Err = AheadFault;
    fn from_str(text: &str) -> Result<Ahead, AheadFault> {
        match text.split_once(':') {
            Some(("match", spelled)) => {
                let pattern = percent_decode(spelled.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                Ahead::matching(&pattern.ok_or(AheadFault::Spelling)?)
            }
            Some(("share", share)) => share.parse().map(Ahead::Share),
            _ => Err(AheadFault::Unknown(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Ahead {
    type Error = AheadFault;
    fn try_from(text: String) -> Result<Ahead, AheadFault> {
        text.parse()
    }
}

impl From<Ahead> for String {
    fn from(ahead: Ahead) -> String {
        ahead.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Ahead {
        Ahead::Share(text.parse().unwrap())
    }

    fn keys() -> impl Iterator<Item = Key> {
        (0..10_000).map(|n| Key::from_bytes(format!("enwiki:echo:seen:alert:time:{n}")))
    }

    #[test]
    fn a_rule_survives_its_text_and_is_one_word() {
        for rule in [Ahead::matching("test wiki:*|é%").unwrap(), share("0.01"), share("0.000001"), share("0.999999")] {
            let text = rule.to_string();
            assert_eq!(text.parse::<Ahead>(), Ok(rule.clone()));
            assert!(text.is_ascii() && !text.contains(' '), "{text}");
            assert_eq!(serde_json::from_value::<Ahead>(serde_json::to_value(&rule).unwrap()).unwrap(), rule);
        }
        assert_eq!(share("0.0100").to_string(), "share:0.01");
    }

    #[test]
    fn what_is_no_rule_is_said() {
        for bad in [
            "",
            "testwiki:*",
            "match:",
            "match:%zz",
            "share:",
            "share:0",
            "share:1",
            "share:-0.1",
            "share:NaN",
            "share:inf",
        ] {
            assert!(bad.parse::<Ahead>().is_err(), "{bad}");
        }
        assert!("0.0000001".parse::<Share>().is_err(), "finer than a part");
    }

    #[test]
    fn a_share_is_about_that_many_keys_and_a_larger_one_covers_them_all() {
        let (small, large) = (share("0.05"), share("0.2"));
        let covered = |rule: &Ahead| keys().filter(|key| rule.covers(key)).count();
        assert!((400..600).contains(&covered(&small)), "{}", covered(&small));
        assert!((1_800..2_200).contains(&covered(&large)), "{}", covered(&large));
        assert!(keys().all(|key| !small.covers(&key) || large.covers(&key)));
        assert!(large.widens(&small) && !small.widens(&large));
    }

    #[test]
    fn which_keys_a_share_covers_does_not_change_between_versions() {
        let covered: Vec<usize> =
            keys().take(60).enumerate().filter(|(_, key)| share("0.1").covers(key)).map(|(n, _)| n).collect();
        assert_eq!(covered, [7, 16, 22, 24, 36, 42, 51]);
    }

    #[test]
    fn people_are_told_which_keys_and_where() {
        let told = |phase, rule: &str| told(phase, Some(&rule.parse().unwrap()));
        assert_eq!(told(Phase::DualWrite, "share:0.015"), "dual-write, with 1.5 % of all keys in kask-first");
        assert_eq!(told(Phase::KaskFirst, "match:test*"), "kask-first, with keys like test* in redis-standby");
        assert_eq!(super::told(Phase::KaskOnly, None), "kask-only");
    }

    #[test]
    fn a_pattern_covers_what_fits_it() {
        let rule = Ahead::matching("testwiki:*").unwrap();
        assert!(rule.covers(&Key::from_bytes("testwiki:a")));
        assert!(!rule.covers(&Key::from_bytes("enwiki:testwiki:a")));
        assert!(!rule.widens(&Ahead::matching("testwiki:a*").unwrap()), "patterns are not compared");
    }
}
