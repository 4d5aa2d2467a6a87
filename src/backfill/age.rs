//! How old is how old. Pure.

use serde::{Deserialize, Serialize};

const DAY_MS: u64 = 86_400_000;

/// How long ago a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Age {
    UnderADay,
    UnderAWeek,
    UnderAMonth,
    UnderAQuarter,
    UnderAYear,
    AYearOrMore,
    /// Neither TTL nor value tells.
    Unknown,
}

impl Age {
    pub(super) fn of(written_ms: Option<u64>, now_ms: u64) -> Age {
        let Some(written) = written_ms else { return Age::Unknown };
        match now_ms.saturating_sub(written) / DAY_MS {
            0 => Age::UnderADay,
            1..7 => Age::UnderAWeek,
            7..30 => Age::UnderAMonth,
            30..91 => Age::UnderAQuarter,
            91..365 => Age::UnderAYear,
            _ => Age::AYearOrMore,
        }
    }

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Age::UnderADay => "under a day",
            Age::UnderAWeek => "under a week",
            Age::UnderAMonth => "under 30 days",
            Age::UnderAQuarter => "under 91 days",
            Age::UnderAYear => "under a year",
            Age::AYearOrMore => "a year or more",
            Age::Unknown => "nobody knows when",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let of = |days: u64| Age::of(Some(0), days * DAY_MS);
        assert_eq!(
            [0, 1, 7, 30, 91, 365].map(of),
            [Age::UnderADay, Age::UnderAWeek, Age::UnderAMonth, Age::UnderAQuarter, Age::UnderAYear, Age::AYearOrMore]
        );
        assert_eq!((Age::of(None, 5), Age::of(Some(9), 5)), (Age::Unknown, Age::UnderADay));
    }
}
