//! `decant status`: where a migration stands, whether it is healthy, and what is left until Redis can go. On one screen.

mod screen;

use super::{
    Exit, Failure, Global, Output,
    client::{self, Client},
};
use crate::{
    admin::views::{NextView, StatusView},
    stash::mover::unix_ms,
};
use screen::Screen;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Between two pictures.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// While watching, guards that take longer than this are told at a later picture: decant goes on measuring them.
const WATCH_PATIENCE: Duration = Duration::from_millis(1_500);

#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Draw it anew every 2 s, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

pub(super) fn run(global: &Global, args: &StatusArgs, output: &mut Output) -> Result<Exit, Failure> {
    if args.watch && global.json {
        return Err(Failure::usage("--watch draws for a person; for a program, ask for --json again and again"));
    }
    let client = Client::new(global)?;
    client::block_on(async {
        if args.watch {
            return watch(&client, output).await;
        }
        let picture = Picture::take(&client, None).await?;
        match global.json {
            true => output.json(&picture.document)?,
            false => output.out(&picture.text(output))?,
        }
        Ok(Exit::Done)
    })
}

/// Everything that is shown, of about one moment.
struct Picture {
    status: StatusView,
    /// Of each stash; none: not known yet, or it cannot be asked for.
    next: Vec<Option<NextView>>,
    /// The status as it came, with each stash's next step in it.
    document: Value,
}

impl Picture {
    /// `patience`: how long to wait for a step's guards; none: as long as they take.
    async fn take(client: &Client, patience: Option<Duration>) -> Result<Picture, Failure> {
        let (mut document, status): (Value, StatusView) = client.get("/v1/status").await?;
        let mut next = Vec::new();
        for (index, stash) in status.stashes.iter().enumerate() {
            let path = format!("/v1/stashes/{}/phase/next", stash.name);
            let asked = client.get(&path);
            // A decant that is starting has no next step, and one of another version may not tell it: the rest is worth showing.
            let answered: Option<(Value, NextView)> = match patience {
                Some(patience) => timeout(patience, asked).await.ok().and_then(Result::ok),
                None => asked.await.ok(),
            };
            let (told, view) = answered.unzip();
            if let Some(stash) = document["stashes"][index].as_object_mut() {
                stash.insert("next".to_owned(), told.unwrap_or_default());
            }
            next.push(view);
        }
        Ok(Picture { status, next, document })
    }

    fn text(&self, output: &Output) -> String {
        let styled = |style: &str, text: &str| output.styled(style, text);
        Screen { now_unix_ms: unix_ms(), styled: &styled }.draw(&self.status, &self.next)
    }
}

/// Until Ctrl-C. What does not answer at the first time fails; later it is waited for.
async fn watch(client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let mut picture = Picture::take(client, Some(WATCH_PATIENCE)).await?;
    let mut seen = Instant::now();
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    output.begin_screens()?;
    let ended = loop {
        let mut text = picture.text(output);
        let old = seen.elapsed();
        if old >= REFRESH_EVERY {
            let told = format!("decant has not answered for {} s: what follows is old", old.as_secs());
            text.insert_str(0, &format!("{}\n\n", output.styled("31", &told)));
        }
        if let Err(gone) = output.screen(&text) {
            break Err(gone);
        }
        tokio::select! {
            _ = &mut interrupted => break Ok(Exit::Done),
            () = sleep(REFRESH_EVERY) => {}
        }
        tokio::select! {
            _ = &mut interrupted => break Ok(Exit::Done),
            taken = Picture::take(client, Some(WATCH_PATIENCE)) => if let Ok(mut newer) = taken {
                // Guards that are still being measured: what they were last is better than nothing.
                for (next, before) in newer.next.iter_mut().zip(picture.next) {
                    *next = next.take().or(before.filter(|before| newer.status.stashes.iter().any(|stash| {
                        stash.name == before.stash && stash.record.as_ref().is_some_and(|record| record.phase == before.from)
                    })));
                }
                (picture, seen) = (newer, Instant::now());
            },
        }
    };
    output.end_screens();
    ended
}
