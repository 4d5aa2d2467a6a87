//! When a value was written, as far as the value itself or its remaining TTL tells. Pure.

use super::value::Value;

/// Digits of a timestamp as MediaWiki writes it, `20191018142328`: TS_MW, in UTC.
const DIGITS: usize = 14;

/// The instant that the text names, in seconds since 1970; `None`: it is no timestamp, or of a time before.
pub fn timestamp(text: &[u8]) -> Option<u64> {
    if text.len() != DIGITS || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number =
        |from: usize, to: usize| text[from..to].iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    let (hour, minute, second) = (number(8, 10), number(10, 12), number(12, 14));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if year < 1970 || day == 0 || day > length || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let leaps_before = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let days = (year - 1970) * 365 + leaps_before(year) - leaps_before(1970)
        + lengths.iter().take(month as usize - 1).sum::<u64>()
        + day
        - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Of a value that is a timestamp, as Echo's seen times are.
pub fn by_value(value: &Value) -> Option<u64> {
    match value {
        Value::Bytes(text) => timestamp(text),
        Value::Int(int) => timestamp(int.to_string().as_bytes()),
        _ => None,
    }
}

/// Of a value with `remaining_ms` to live at `now_ms`, if it was written to live for `ttl_s`; `None` where it never expires, or lives longer
/// than that. In milliseconds, as `now_ms` is.
pub fn by_ttl(now_ms: u64, ttl_s: u64, remaining_ms: Option<u64>) -> Option<u64> {
    let lived = ttl_s.checked_mul(1000)?.checked_sub(remaining_ms?)?;
    now_ms.checked_sub(lived)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_utc() {
        for (text, seconds) in [
            ("19700101000000", Some(0)),
            ("19700101000001", Some(1)),
            ("20000229235959", Some(951_868_799)),
            ("20191018142328", Some(1_571_408_608)),
            ("20240301000000", Some(1_709_251_200)),
            ("21000301000000", Some(4_107_542_400)),
            ("99991231235959", Some(253_402_300_799)),
            ("21000229000000", None),
            ("20191318142328", None),
            ("20190018142328", None),
            ("20191000142328", None),
            ("20191018242328", None),
            ("19691231235959", None),
            ("2019101814232", None),
            ("201910181423280", None),
            ("2019-10-1814:2", None),
            ("", None),
        ] {
            assert_eq!(timestamp(text.as_bytes()), seconds, "{text}");
        }
        assert_eq!(by_value(&Value::Int(20_191_018_142_328)), Some(1_571_408_608));
        assert_eq!(by_value(&Value::Bool(true)), None);
    }

    /// The calendar here against another.
    #[test]
    fn every_day_of_a_century_is_where_it_belongs() {
        for day in 0..36_525u64 {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(day * 86_400);
            let text: String =
                humantime::format_rfc3339_seconds(time).to_string().chars().filter(char::is_ascii_digit).collect();
            assert_eq!(timestamp(text.as_bytes()), Some(day * 86_400), "{text}");
        }
    }

    #[test]
    fn a_ttl_tells_when_it_began() {
        assert_eq!(by_ttl(1_000_000, 100, Some(40_000)), Some(940_000));
        assert_eq!(by_ttl(1_000_000, 100, Some(100_000)), Some(1_000_000));
        assert_eq!(by_ttl(1_000_000, 100, Some(100_001)), None, "written with a longer one");
        assert_eq!(by_ttl(1_000_000, 100, None), None, "it never expires");
        assert_eq!(by_ttl(10, 100, Some(0)), None, "before 1970");
        assert_eq!(by_ttl(u64::MAX, u64::MAX, Some(0)), None);
    }
}
