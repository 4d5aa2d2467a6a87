//! How far something long has come: a bar on a terminal, elsewhere a plain line now and then. On standard error, so that standard output is
//! the result alone.

use super::Output;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// One bar, or the lines in its place.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    quiet: bool,
    told: Option<Instant>,
}

impl Bar {
    /// `quiet`: nothing is shown where nobody watches.
    pub(super) fn new(quiet: bool) -> Bar {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:24} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Bar { bar, quiet, told: None }
    }

    /// `line` says everything by itself; the first is shown only once [`LINE_EVERY`] has passed, so that what is over at once shows none.
    pub(super) fn show(&mut self, output: &mut Output, done: u64, of: u64, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_length(of.max(1));
            bar.set_position(done.min(of));
            bar.set_message(line.to_owned());
            return;
        }
        let told = *self.told.get_or_insert_with(Instant::now);
        if !self.quiet && told.elapsed() >= LINE_EVERY {
            output.note(line);
            self.told = Some(Instant::now());
        }
    }

    /// Leaves nothing of the bar behind.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
