//! Following a run to its end.

use super::text;
use crate::{
    backfill::{BackfillView, RunView, State},
    cli::{Failure, Output, bar::Bar, client::Client},
};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
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
    let mut bar = Bar::new(quiet);
    let mut done = 0;
    let mut away_since: Option<Instant> = None;
    loop {
        match client.get::<BackfillView>(path).await {
            Ok((_, view)) => {
                away_since = None;
                let Some(run) = view.run.filter(|run| run.state == State::Running) else {
                    bar.end();
                    // Once more: it may have ended between two looks, or there may be none.
                    let (_, view) = client.get::<BackfillView>(path).await?;
                    return Ok(view.run);
                };
                done = (run.share * PARTS as f64) as u64;
                bar.show(output, done, PARTS, &format!("{}  {}", text::percent(run.share), text::line(&run)));
            }
            Err(failure) => {
                let since = *away_since.get_or_insert_with(Instant::now);
                if since.elapsed() > AWAY_MAX || failure.exit != super::Exit::Failed {
                    bar.end();
                    return Err(failure);
                }
                bar.show(output, done, PARTS, &format!("{}; waiting", failure.message));
            }
        }
        sleep(LOOK_EVERY).await;
    }
}
