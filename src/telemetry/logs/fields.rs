//! What an event or a span carries, as JSON values.

use serde_json::{Number, Value};
use std::fmt;
use tracing::field::{Field, Visit};

/// Longer field values are cut: a line must stay a line.
const VALUE_BYTES_MAX: usize = 4096;

/// Fields in the order in which they were recorded; a name stands once.
#[derive(Default)]
pub(super) struct Fields {
    pub message: String,
    pub rest: Vec<(&'static str, Value)>,
}

impl Fields {
    pub(super) fn put(&mut self, name: &'static str, value: Value) {
        match self.rest.iter_mut().find(|(have, _)| *have == name) {
            Some((_, have)) => *have = value,
            None => self.rest.push((name, value)),
        }
    }

    fn put_text(&mut self, field: &Field, text: String) {
        let text = cut(text);
        match field.name() {
            "message" => self.message = text,
            name => self.put(name, Value::String(text)),
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > VALUE_BYTES_MAX {
        let end = (0..=VALUE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value.to_owned());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN.
        self.put(field.name(), Number::from_f64(value).map_or(Value::Null, Value::Number));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put_text(field, value.to_string());
    }
}
