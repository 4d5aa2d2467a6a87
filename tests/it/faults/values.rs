//! Keys and values: each value says its number, and is as long as its number wants.

use super::history::Value;
use crate::whole::BASE;

/// Few, so that clients meet.
pub const KEYS: usize = 16;

pub fn name(key: usize) -> String {
    format!("bench:{key}")
}

pub fn path(key: usize) -> String {
    format!("{BASE}bench%3A{key}")
}

fn text(value: Value) -> String {
    // Mostly short; some fill several packets.
    let padding = match value % 16 {
        15 => 20_000,
        rest => rest as usize * 20,
    };
    format!("{value}:{}", "x".repeat(padding))
}

/// As RESTBagOStuff writes it.
pub fn body(value: Value) -> String {
    format!("JSON..\"{}\"", text(value))
}

/// The number of a body; `None`: nobody wrote that.
pub fn of_body(found: &[u8]) -> Option<Value> {
    let inner = found.strip_prefix(b"JSON..\"")?;
    let value = std::str::from_utf8(inner).ok()?.split_once(':')?.0.parse().ok()?;
    (body(value).as_bytes() == found).then_some(value)
}

/// As RedisBagOStuff writes it.
pub fn redis(value: Value) -> String {
    let text = text(value);
    format!("s:{}:\"{text}\";", text.len())
}

/// The number of what RedisBagOStuff writes; `None`: nobody wrote that.
pub fn of_redis(found: &[u8]) -> Option<Value> {
    let found = std::str::from_utf8(found).ok()?;
    let value = found.splitn(3, ':').nth(2)?.trim_start_matches('"').split_once(':')?.0.parse().ok()?;
    (found == redis(value)).then_some(value)
}

#[test]
fn a_value_is_found_again_and_no_other() {
    for value in [0, 15, 123_456] {
        assert_eq!(of_body(body(value).as_bytes()), Some(value));
        assert_eq!(of_redis(redis(value).as_bytes()), Some(value));
        assert_eq!(of_body(&body(value).as_bytes()[..body(value).len() - 1]), None);
    }
}
