//! The tracing layer: an event and the spans around it become one line.

use super::format::{self, Line};
use super::writer::Sink;
use crate::config::LogFormat;
use serde_json::{Number, Value};
use std::{fmt, time::SystemTime};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{layer::Context, registry::LookupSpan};

/// Longer field values are cut: a line must stay a line.
const VALUE_BYTES_MAX: usize = 4096;

/// Fields in the order in which they were recorded; a name stands once.
#[derive(Default)]
pub(super) struct Fields {
    pub message: String,
    pub rest: Vec<(&'static str, Value)>,
}

/// See the module above. Fields of spans come first, the outermost span's first; an event's own field of the same name wins.
pub struct LogLayer {
    format: LogFormat,
    sink: Sink,
}

impl LogLayer {
    pub(super) fn new(format: LogFormat, sink: Sink) -> LogLayer {
        LogLayer { format, sink }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(around) = span.extensions().get::<Fields>() {
                around.rest.iter().for_each(|(name, value)| fields.put(name, value.clone()));
            }
        }
        event.record(&mut fields);
        let line =
            Line { at: SystemTime::now(), level: *event.metadata().level(), target: event.metadata().target(), fields };
        self.sink.send(match self.format {
            LogFormat::Json => format::json(line),
            LogFormat::Text => format::text(&line),
        });
    }
}

impl Fields {
    fn put(&mut self, name: &'static str, value: Value) {
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
