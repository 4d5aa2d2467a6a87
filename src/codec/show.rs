//! Bytes, values and times as text for a person: never the codec of anything, bounded, and safe on a terminal.

use super::value::{ArrayKey, Value};
use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

/// Text that stops growing at a bound.
struct Text {
    text: String,
    chars_left: usize,
    cut: bool,
}

impl Text {
    fn new(chars_max: usize) -> Text {
        Text { text: String::new(), chars_left: chars_max, cut: false }
    }

    /// Takes all of `piece` or nothing, so that no escape is cut in two.
    fn push(&mut self, piece: &str) {
        let chars = piece.chars().count();
        if self.cut || chars > self.chars_left {
            self.cut = true;
            return;
        }
        self.chars_left -= chars;
        self.text.push_str(piece);
    }

    /// `quote` is escaped as well.
    fn bytes(&mut self, bytes: &[u8], quote: Option<char>) {
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                if self.cut {
                    return;
                }
                match c {
                    '\\' => self.push("\\\\"),
                    '\n' => self.push("\\n"),
                    '\t' => self.push("\\t"),
                    '\r' => self.push("\\r"),
                    c if Some(c) == quote => self.push(&format!("\\{c}")),
                    c if c.is_control() || is_invisible(c) => self.push(&format!("\\u{{{:x}}}", u32::from(c))),
                    c => self.push(c.encode_utf8(&mut [0; 4])),
                }
            }
            for byte in chunk.invalid() {
                self.push(&format!("\\x{byte:02x}"));
            }
        }
    }

    /// Recurses as deep as the value is: at most [`super::value::DEPTH_MAX`].
    fn value(&mut self, value: &Value) {
        match value {
            _ if self.cut => {}
            Value::Null => self.push("null"),
            Value::Bool(bool) => self.push(if *bool { "true" } else { "false" }),
            Value::Int(int) => self.push(&int.to_string()),
            Value::Float(float) => self.push(&format!("{float:?}")),
            Value::Bytes(bytes) => self.quoted(bytes),
            Value::Array(entries) => {
                let list = entries.iter().enumerate().all(|(i, (key, _))| *key == ArrayKey::Int(i as i64));
                self.push(if list { "[" } else { "{" });
                for (i, (key, value)) in entries.iter().enumerate() {
                    if self.cut {
                        return;
                    }
                    self.push(if i == 0 { "" } else { ", " });
                    match key {
                        _ if list => {}
                        ArrayKey::Int(int) => self.push(&format!("{int}: ")),
                        ArrayKey::Bytes(bytes) => {
                            self.quoted(bytes);
                            self.push(": ");
                        }
                    }
                    self.value(value);
                }
                self.push(if list { "]" } else { "}" });
            }
        }
    }

    fn quoted(&mut self, bytes: &[u8]) {
        self.push("\"");
        self.bytes(bytes, Some('"'));
        self.push("\"");
    }

    fn end(mut self) -> (String, bool) {
        if self.cut {
            let _ = write!(self.text, "…"); // a String takes everything
        }
        (self.text, self.cut)
    }
}

/// Characters that reorder or hide text.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Bytes as text: what is UTF-8 and printable as it is, the rest as `\n`, `\u{…}` or `\x…`. Ends with `…` where it was cut
/// to `chars_max`, which the flag tells as well.
pub fn bytes(bytes: &[u8], chars_max: usize) -> (String, bool) {
    let mut text = Text::new(chars_max);
    text.bytes(bytes, None);
    text.end()
}

/// A PHP value like JSON, but with keys that are integers bare and bytes that are no UTF-8 as `\x…`.
pub fn value(value: &Value, chars_max: usize) -> (String, bool) {
    let mut text = Text::new(chars_max);
    text.value(value);
    text.end()
}

/// The last millisecond that RFC 3339 can tell: the end of the year 9999.
const RFC3339_MS_MAX: u64 = 253_402_300_799_999;

/// `2026-01-31T12:00:00.000Z`, from milliseconds since 1970.
pub fn rfc3339(unix_ms: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms.min(RFC3339_MS_MAX));
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_can_be_told() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn bytes_are_safe_on_a_terminal_and_bounded() {
        assert_eq!(bytes(b"caf\xc3\xa9 \x1b[31m\n\\\xff\xe2\x80\xae", 100).0, "café \\u{1b}[31m\\n\\\\\\xff\\u{202e}");
        assert_eq!(bytes(b"abcdef", 6), ("abcdef".into(), false));
        assert_eq!(bytes(b"abcdefg", 6), ("abcdef…".into(), true));
        assert_eq!(bytes(b"abc\x1b", 6).0, "abc…", "an escape is whole or not there");
    }

    #[test]
    fn values_read_like_json() {
        let list = Value::Array(vec![(ArrayKey::Int(0), Value::Float(1.0)), (ArrayKey::Int(1), Value::Null)]);
        let map = Value::Array(vec![
            (ArrayKey::Bytes(b"a\"".to_vec()), list),
            (ArrayKey::Int(7), Value::Bytes(b"\xff".to_vec())),
        ]);
        assert_eq!(value(&map, 100).0, "{\"a\\\"\": [1.0, null], 7: \"\\xff\"}");
        assert_eq!(value(&Value::Array(vec![]), 100).0, "[]");
        assert!(value(&map, 5).1);
    }
}
