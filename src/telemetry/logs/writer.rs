//! The thread that writes log lines.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread,
    time::{Duration, Instant},
};

/// How long the end of the process may wait for lines to be written.
const END_WAITS: Duration = Duration::from_secs(2);
const END_POLLS: Duration = Duration::from_millis(5);

enum Message {
    Line(String),
    End,
}

/// Where lines go. Never blocks, never fails.
#[derive(Clone)]
pub struct Sink(SyncSender<Message>);

/// Writes what still waits when it is dropped, for at most two seconds.
#[derive(Debug)]
pub struct LogGuard {
    end: SyncSender<Message>,
    done: Receiver<()>,
}

/// Starts the thread. `lines_max` lines may wait.
pub(super) fn start(out: Box<dyn Write + Send>, lines_max: usize) -> io::Result<(Sink, LogGuard)> {
    let (sender, lines) = sync_channel(lines_max);
    let (finished, done) = sync_channel(1);
    thread::Builder::new().name("decant-log".to_owned()).spawn(move || {
        write_all(out, &lines);
        // The guard may be gone already.
        let _ = finished.try_send(());
    })?;
    Ok((Sink(sender.clone()), LogGuard { end: sender, done }))
}

/// A standard output that is broken or full takes nothing, and nothing can be said about that anywhere: lines are lost,
/// and decant serves on.
fn write_all(mut out: Box<dyn Write + Send>, lines: &Receiver<Message>) {
    while let Ok(Message::Line(line)) = lines.recv() {
        let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        if written.is_err() {
            ::metrics::counter!("decant_log_lines_dropped_total").increment(1);
        }
    }
}

impl Sink {
    /// `line` ends with a newline.
    pub fn send(&self, line: String) {
        if self.0.try_send(Message::Line(line)).is_err() {
            ::metrics::counter!("decant_log_lines_dropped_total").increment(1);
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let deadline = Instant::now() + END_WAITS;
        // A full queue takes the end only once the thread has written a line.
        while let Err(TrySendError::Full(_)) = self.end.try_send(Message::End) {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(END_POLLS);
        }
        let _ = self.done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}
