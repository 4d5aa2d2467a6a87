use super::*;
use crate::config::LogFormat;
use std::{
    io::{self, Write},
    sync::{Arc, Mutex, mpsc},
};

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `events` writes.
fn logged(format: LogFormat, events: impl FnOnce()) -> String {
    let kept = Kept::default();
    let (sink, guard) = writer::start(Box::new(kept.clone()), 16).unwrap();
    let subscriber = tracing_subscriber::registry().with(LogLayer::new(format, sink));
    tracing::subscriber::with_default(subscriber, events);
    drop(guard);
    let bytes = kept.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn some_events() {
    let request = tracing::info_span!("request", trace.id = "req-1", stash = "echoseen", late = tracing::field::Empty);
    let _entered = request.enter();
    request.record("late", true);
    let error = io::Error::other("refused\nby \"kask\"");
    tracing::warn!(tries = 3, share = 0.5, error = &error as &dyn std::error::Error, "copy of a {} failed", "key");
    tracing::info!(stash = "other", nan = f64::NAN, "second");
}

#[test]
fn a_json_line_has_ecs_names() {
    let text = logged(LogFormat::Json, some_events);
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    let mut first = lines[0].clone();
    let at = first.as_object_mut().unwrap().remove("@timestamp").unwrap();
    assert!(humantime::parse_rfc3339(at.as_str().unwrap()).is_ok(), "{at}");
    assert_eq!(
        first,
        serde_json::json!({
            "log": { "level": "warn", "logger": "decant::telemetry::logs::tests" },
            "message": "copy of a key failed",
            "service": { "name": "decant", "type": "decant" },
            "trace": { "id": "req-1" },
            "error": { "message": "refused\nby \"kask\"" },
            "decant": { "stash": "echoseen", "late": true, "tries": 3, "share": 0.5 },
        })
    );
    assert_eq!(lines[1]["decant"], serde_json::json!({ "stash": "other", "late": true, "nan": null }));
}

#[test]
fn a_text_line_is_one_line() {
    let text = logged(LogFormat::Text, some_events);
    let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    let expected = [
        " WARN copy of a key failed trace.id=req-1 stash=echoseen late=true tries=3 share=0.5 error=\"refused\\nby \\\"kask\\\"\"",
        " INFO second trace.id=req-1 stash=other late=true nan=null",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn nothing_breaks_out_of_its_line() {
    let hostile = "a\r\n{\"log\":1}\u{1b}[2J";
    for format in [LogFormat::Json, LogFormat::Text] {
        let text = logged(format, || tracing::info!(hostile, "{hostile}"));
        assert_eq!(text.matches(['\n', '\r', '\u{1b}']).count(), 1, "{text:?}");
    }
}

#[test]
fn long_values_are_cut_at_a_character() {
    let text = logged(LogFormat::Json, || tracing::info!(long = "é".repeat(100_000), "x"));
    assert!(text.len() < 5_000 && text.contains("é…\""), "{} bytes", text.len());
}

#[test]
fn an_output_that_is_broken_or_stuck_stops_nobody() {
    struct Stuck(mpsc::Receiver<()>);
    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            // Until the test is over; then it is a broken pipe.
            let _ = self.0.recv();
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (release, stuck) = mpsc::channel();
    let (sink, guard) = writer::start(Box::new(Stuck(stuck)), 4).unwrap();
    (0..1_000).for_each(|_| sink.send("line\n".to_owned()));
    drop(release);
    drop(guard);
    sink.send("after the end\n".to_owned());
}

#[test]
fn libraries_never_go_below_info() {
    for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
        let directives = directives_of(level);
        assert!(EnvFilter::try_new(&directives).is_ok());
        let first = directives.split(',').next().unwrap();
        assert!(!["debug", "trace"].contains(&first), "{directives}");
    }
}
