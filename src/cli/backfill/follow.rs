//! Following a run to its end: a progress bar on a terminal, a plain line now and then elsewhere.

use super::text;
use crate::{
    backfill::{BackfillView, RunView, State},
    cli::{Failure, Output, client::Client},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a line is written where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// A decant that does not answer may be starting again, and then goes on by itself.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// The bar's parts of the whole.
const PARTS: u64 = 1_000;

/// The run that ended; none: there is none.
pub(super) async fn to_the_end(
    client: &Client,
    path: &str,
    output: &mut Output,
    quiet: bool,
) -> Result<Option<RunView>, Failure> {
    let mut teller = Teller::new(quiet);
    let mut away_since: Option<Instant> = None;
    loop {
        match client.get::<BackfillView>(path).await {
            Ok((_, view)) => {
                away_since = None;
                let Some(run) = view.run.filter(|run| run.state == State::Running) else {
                    teller.end();
                    // Once more: it may have ended between two looks, or there may be none.
                    let (_, view) = client.get::<BackfillView>(path).await?;
                    return Ok(view.run);
                };
                teller.tell(&run, output);
            }
            Err(failure) => {
                let since = *away_since.get_or_insert_with(Instant::now);
                if since.elapsed() > AWAY_MAX || failure.exit != super::Exit::Failed {
                    teller.end();
                    return Err(failure);
                }
                teller.away(&failure, output);
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

enum Teller {
    Bar(ProgressBar),
    Lines { told: Option<Instant> },
    Quiet,
}

impl Teller {
    fn new(quiet: bool) -> Teller {
        if quiet {
            return Teller::Quiet;
        }
        if !io::stderr().is_terminal() {
            return Teller::Lines { told: None };
        }
        let bar = ProgressBar::with_draw_target(Some(PARTS), ProgressDrawTarget::stderr());
        // The template is a constant; were it wrong, the default would do.
        let style = ProgressStyle::with_template("{bar:24} {prefix}  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Teller::Bar(bar)
    }

    fn tell(&mut self, run: &RunView, output: &mut Output) {
        let (percent, line) = (text::percent(run.share), text::line(run));
        match self {
            Teller::Bar(bar) => {
                bar.set_position((run.share * PARTS as f64) as u64);
                bar.set_prefix(percent);
                bar.set_message(line);
            }
            Teller::Lines { told } if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) => {
                *told = Some(Instant::now());
                output.note(&format!("{percent}  {line}"));
            }
            Teller::Lines { .. } | Teller::Quiet => {}
        }
    }

    fn away(&mut self, failure: &Failure, output: &mut Output) {
        match self {
            Teller::Bar(bar) => bar.set_message(failure.message.clone()),
            Teller::Lines { told } if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) => {
                *told = Some(Instant::now());
                output.note(&format!("{}; waiting", failure.message));
            }
            Teller::Lines { .. } | Teller::Quiet => {}
        }
    }

    fn end(&mut self) {
        if let Teller::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
