//! The tracing layer: an event and the spans around it become one line.

use super::fields::Fields;
use super::format::{self, Line};
use super::writer::Sink;
use crate::config::LogFormat;
use std::time::SystemTime;
use tracing::{
    Event, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{layer::Context, registry::LookupSpan};

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
