//! Text for people: lengths of time, aligned columns, guards.

use crate::admin::views::GuardView;

/// `250 ms`, `3.2 s`, `5 min`, `7 h`, `12 d`.
pub(super) fn length(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..10 => format!("{:.1} s", ms as f64 / 1000.0),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `5 min ago`, by this machine's clock.
pub(super) fn ago(unix_ms: u64, now_unix_ms: u64) -> String {
    match now_unix_ms.checked_sub(unix_ms) {
        Some(ms) => format!("{} ago", length(ms)),
        None => "just now".to_owned(),
    }
}

/// `1,234,567`
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What came from elsewhere, without anything that could steer a terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Names and values in two columns, indented.
pub(super) fn table(rows: &[(String, String)], indent: usize) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    rows.iter().map(|(name, value)| format!("{:indent$}{name:width$}  {value}\n", "")).collect()
}

/// One line a guard, and under one that fails what it needs. `styled(style, text)` colours where colour is wanted.
pub(super) fn guards(guards: &[GuardView], indent: usize, styled: &dyn Fn(&str, &str) -> String) -> String {
    let width = guards.iter().map(|guard| guard.name.len()).max().unwrap_or_default();
    let line = |guard: &GuardView| {
        let verdict = if guard.ok { styled("32", "ok  ") } else { styled("31", "FAIL") };
        let needs = match guard.ok {
            true => String::new(),
            false => format!("{:indent$}      needs: {}\n", "", plain(&guard.needs)),
        };
        format!("{:indent$}{verdict}  {:width$}  {}\n{needs}", "", plain(&guard.name), plain(&guard.figure))
    };
    guards.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_units() {
        let texts: Vec<String> = [0, 999, 1000, 9_999, 119_000, 180_000, 7_200_000, 172_800_000].map(length).to_vec();
        assert_eq!(texts, ["0 ms", "999 ms", "1.0 s", "10.0 s", "119 s", "3 min", "2 h", "2 d"]);
        assert_eq!((ago(5, 4), ago(1000, 4000)), ("just now".into(), "3.0 s ago".into()));
    }

    #[test]
    fn counts_are_grouped_and_text_is_harmless() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(plain("a\x1b[31m\n"), "a\u{fffd}[31m\u{fffd}");
    }
}
