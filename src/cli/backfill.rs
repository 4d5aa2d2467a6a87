//! `decant backfill`: begin a bulk copy, follow it, change it, end it.

mod follow;
pub(super) mod text;

use super::{
    Exit, Failure, Global, Output,
    client::{self, Client, user},
};
use crate::backfill::{BackfillView, RunView, State};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

#[derive(Debug, clap::Args)]
pub struct BackfillArgs {
    #[command(subcommand)]
    command: BackfillCommand,
    /// The stash; may be left out where there is only one
    #[arg(long, global = true, value_name = "NAME")]
    stash: Option<String>,
    /// Who asks [default: the user that runs this]
    #[arg(long, global = true, value_name = "NAME")]
    by: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum BackfillCommand {
    /// Copy to Kask what it lacks, and follow that to its end; exit 1 if keys stay behind
    Start(Box<StartArgs>),
    /// How far it is
    Status {
        /// Follow it to its end
        #[arg(long)]
        follow: bool,
        /// Show the keys that stay behind, which are personal data
        #[arg(long)]
        keys: bool,
    },
    /// Stop for now; it keeps its place
    Pause,
    /// Go on; of a finished run: try once more what had failed
    Resume(PaceArgs),
    /// Go faster or slower from now on
    Pace(PaceArgs),
    /// End it; what is copied stays
    Cancel,
}

#[derive(Debug, clap::Args)]
struct StartArgs {
    /// Only keys that fit, without the stash's prefix: * any bytes, ? one, [a-z] a class
    #[arg(long = "match", value_name = "GLOB")]
    only: Option<String>,
    /// Only values written after a time (2026-01-31T12:00:00Z) or not longer ago than this (90d). When a value was written
    /// follows from its remaining TTL, or from itself where it is a timestamp; where nobody knows it is copied
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    written_after: Option<SystemTime>,
    /// The TTL that values were written with, if it is not the stash's default_ttl
    #[arg(long, value_name = "LENGTH", value_parser = humantime::parse_duration)]
    written_ttl: Option<Duration>,
    /// A string or integer that is as good as no value; Echo's default is 19700101000001. May be given several times
    #[arg(long, value_name = "VALUE")]
    skip_value: Vec<String>,
    /// Only values that live at least so long more; those without a TTL live for ever
    #[arg(long, value_name = "LENGTH", value_parser = humantime::parse_duration)]
    min_ttl: Option<Duration>,
    /// Copy at most so many keys; after a pause or a crash, up to three pages of each shard more
    #[arg(long, value_name = "KEYS")]
    limit: Option<u64>,
    /// Only count what would be copied, by age
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pace: PaceArgs,
    /// Return when it has begun
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, clap::Args)]
struct PaceArgs {
    /// Keys looked at in a second; 0: no limit
    #[arg(long, value_name = "KEYS")]
    keys_per_s: Option<u64>,
    /// Bytes of their values in a second, such as 5M; 0: no limit
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    bytes_per_s: Option<u64>,
}

pub(super) fn run(global: &Global, args: &BackfillArgs, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(global)?;
    client::block_on(async {
        let stash = client.stash(args.stash.as_deref()).await?;
        let by = args.by.clone().unwrap_or_else(user);
        let mut session =
            Session { client: &client, path: format!("/v1/stashes/{stash}/backfill"), json: global.json, output };
        match &args.command {
            BackfillCommand::Start(start) => session.start(start, &by).await,
            BackfillCommand::Status { follow: true, keys } => session.follow(*keys).await,
            BackfillCommand::Status { follow: false, keys } => session.status(*keys).await,
            BackfillCommand::Pause => session.change(Method::PATCH, json!({ "state": "paused", "by": by })).await,
            BackfillCommand::Resume(pace) => {
                let mut body = pace.body(&by);
                body["state"] = "running".into();
                session.change(Method::PATCH, body).await
            }
            BackfillCommand::Pace(pace) => session.change(Method::PATCH, pace.body(&by)).await,
            BackfillCommand::Cancel => session.change(Method::DELETE, json!({ "by": by })).await,
        }
    })
}

impl PaceArgs {
    fn body(&self, by: &str) -> Value {
        let mut body = json!({ "by": by });
        for (name, told) in [("keys_per_s", self.keys_per_s), ("bytes_per_s", self.bytes_per_s)] {
            if let Some(told) = told {
                body[name] = told.into();
            }
        }
        body
    }
}

impl StartArgs {
    fn body(&self, by: &str) -> Value {
        let mut body = self.pace.body(by);
        let seconds = |length: Duration| length.as_secs();
        body["match"] = self.only.clone().into();
        body["written_after"] =
            self.written_after.map(|time| humantime::format_rfc3339_millis(time).to_string()).into();
        body["written_ttl_s"] = self.written_ttl.map(seconds).into();
        body["skip_values"] = self.skip_value.clone().into();
        body["min_ttl_s"] = self.min_ttl.map(seconds).into();
        body["limit"] = self.limit.into();
        body["dry_run"] = self.dry_run.into();
        body
    }
}

/// One command.
struct Session<'a> {
    client: &'a Client,
    path: String,
    json: bool,
    output: &'a mut Output,
}

impl Session<'_> {
    async fn start(&mut self, args: &StartArgs, by: &str) -> Result<Exit, Failure> {
        let document = self.call(Method::POST, &args.body(by)).await?;
        if args.detach {
            match self.json {
                true => self.output.json(&document)?,
                false => {
                    self.output.out("the backfill has begun; follow it with `decant backfill status --follow`\n")?
                }
            }
            return Ok(Exit::Done);
        }
        if !self.json {
            self.output.note("it runs inside decant: Ctrl-C only stops following it");
        }
        self.follow(false).await
    }

    async fn status(&mut self, keys: bool) -> Result<Exit, Failure> {
        let query = if keys { "?keys=1" } else { "" };
        let (document, view): (Value, BackfillView) = self.client.get(&format!("{}{query}", self.path)).await?;
        self.shown(&document, &view)?;
        Ok(Exit::Done)
    }

    async fn change(&mut self, method: Method, body: Value) -> Result<Exit, Failure> {
        let document = self.call(method, &body).await?;
        let view = self.client.typed(&self.path, document.clone())?;
        self.shown(&document, &view)?;
        Ok(Exit::Done)
    }

    async fn call(&self, method: Method, body: &Value) -> Result<Value, Failure> {
        let answered = self.client.call(method, &self.path, Some(body)).await?;
        answered.map_err(|refusal| {
            let exit = match refusal.status.as_u16() {
                400 => Exit::Usage,
                409 => Exit::Found,
                _ => Exit::Failed,
            };
            Failure { exit, message: refusal.detail() }
        })
    }

    fn shown(&mut self, document: &Value, view: &BackfillView) -> Result<(), Failure> {
        match self.json {
            true => self.output.json(document),
            false => self.output.out(&text::page(view, crate::stash::mover::unix_ms())),
        }
    }

    /// Until it ends: a bar, or a line now and then where nobody watches.
    async fn follow(&mut self, keys: bool) -> Result<Exit, Failure> {
        let ended = follow::to_the_end(self.client, &self.path, self.output, self.json).await?;
        self.status(keys).await?;
        match ended {
            None => Ok(Exit::Done),
            Some(run) => ended_as(&run),
        }
    }
}

/// Only what has met every key and left none behind is done.
fn ended_as(run: &RunView) -> Result<Exit, Failure> {
    match run.state {
        State::Finished if run.not_moved == 0 => Ok(Exit::Done),
        State::Finished => Ok(Exit::Found),
        state => {
            let why = run.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            Err(Failure { exit: Exit::Failed, message: format!("the backfill is {}{why}", state.name()) })
        }
    }
}

/// A time, or how long ago.
fn parse_when(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(|| "that is too long ago".to_owned());
    }
    humantime::parse_rfc3339_weak(text)
        .map_err(|_| "write a time as 2026-01-31T12:00:00Z, or how long ago as 90d".to_owned())
}

/// A number of bytes, with k, M or G for 1000, 1000² or 1000³ of them.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_000),
        Some((at, 'M')) => (&text[..at], 1_000_000),
        Some((at, 'G')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    let number: Option<u64> = digits.parse().ok().and_then(|number: u64| number.checked_mul(unit));
    number.ok_or_else(|| "write a whole number of bytes, or one with k, M or G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        for (text, bytes) in [("0", 0), ("512", 512), ("5k", 5_000), ("2M", 2_000_000), ("1G", 1_000_000_000)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1.5M", "-1", "5T", "99999999999999G", "é"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_told_or_how_long_ago() {
        let day = Duration::from_secs(86_400);
        let told = parse_when("1970-01-02T00:00:00Z").unwrap();
        assert_eq!(told, SystemTime::UNIX_EPOCH + day);
        let then = parse_when("90d").unwrap();
        let ago = SystemTime::now().duration_since(then).unwrap();
        assert!((day * 90..day * 91).contains(&ago));
        assert!(parse_when("soon").is_err());
    }
}
