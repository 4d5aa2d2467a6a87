//! One line, as JSON with ECS field names or as text. Pure.

use super::fields::Fields;
use serde_json::{Map, Value, json};
use std::{fmt::Write as _, time::SystemTime};
use tracing::Level;

/// ECS field sets whose dotted fields are nested as they are; all other fields go under [`OWN`].
const ECS_SETS: [&str; 10] =
    ["trace", "span", "error", "event", "http", "client", "server", "process", "url", "transaction"];
/// What is decant's own, so that it never collides with a field of ECS.
const OWN: &str = "decant";

/// What a line is made of.
pub(super) struct Line<'a> {
    pub at: SystemTime,
    pub level: Level,
    pub target: &'a str,
    pub fields: Fields,
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// `{"@timestamp":…,"log":{"level":…,"logger":…},"message":…,"service":{…},"trace":{"id":…},"decant":{…}}` and a newline.
pub(super) fn json(line: Line<'_>) -> String {
    let mut object = Map::new();
    object.insert("@timestamp".to_owned(), humantime::format_rfc3339_millis(line.at).to_string().into());
    object.insert("log".to_owned(), json!({ "level": level_name(line.level), "logger": line.target }));
    object.insert("message".to_owned(), line.fields.message.into());
    object.insert("service".to_owned(), json!({ "name": "decant", "type": "decant" }));
    for (name, value) in line.fields.rest {
        // tracing's habit and ECS's name for the same thing
        let name = if name == "error" { "error.message" } else { name };
        match name.split_once('.') {
            Some((set, rest)) if ECS_SETS.contains(&set) => put(&mut object, set, rest, value),
            _ => put(&mut object, OWN, name, value),
        }
    }
    let mut text = Value::Object(object).to_string();
    text.push('\n');
    text
}

/// Puts a value into the object `set`. What remains of the name stays one key, dots and all: ECS reads both alike.
fn put(object: &mut Map<String, Value>, set: &str, name: &str, value: Value) {
    if let Value::Object(inner) = object.entry(set).or_insert_with(|| Value::Object(Map::new())) {
        inner.insert(name.to_owned(), value);
    }
}

/// `2026-01-01T00:00:00.000Z  INFO message name=value` and a newline.
pub(super) fn text(line: &Line<'_>) -> String {
    let level = level_name(line.level).to_ascii_uppercase();
    let mut text = format!("{} {level:>5} {}", humantime::format_rfc3339_millis(line.at), safe(&line.fields.message));
    for (name, value) in &line.fields.rest {
        let value = match value {
            Value::String(value) if value.is_empty() || value.contains([' ', '"', '=']) => format!("{value:?}"),
            Value::String(value) => safe(value),
            other => other.to_string(),
        };
        // Writing to a String does not fail.
        let _ = write!(text, " {name}={value}");
    }
    text.push('\n');
    text
}

/// Control characters escaped: a value must not begin a line of its own, or steer the terminal.
fn safe(value: &str) -> String {
    value.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}
