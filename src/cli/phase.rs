//! `decant phase`: show the phase, move to another, and what moves there were.

use super::{
    Exit, Failure, Global, Output,
    client::{self, Client, Refusal, user},
    text::{ago, guards, plain, table},
};
use crate::{
    admin::views::{GuardView, HistoryView, MovedView, PhaseView, RecordView},
    codec::show::rfc3339,
    phase::{
        Phase,
        ahead::Share,
        record::{Happening, State},
    },
    stash::mover::unix_ms,
};
use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How often a move under way is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a person is told that it is still under way.
const TELL_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct PhaseArgs {
    #[command(subcommand)]
    command: PhaseCommand,
    /// The stash; may be left out where there is only one
    #[arg(long, global = true, value_name = "NAME")]
    stash: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum PhaseCommand {
    /// The phase in force, since when, by whom and why
    Show,
    /// Move to a neighbouring phase: redis-only, dual-write, kask-first, redis-standby, kask-only
    Set(SetArgs),
    /// Some keys one phase ahead of the stash, to try the next step on them
    Ahead(AheadArgs),
    /// The moves so far, oldest first, with the guards as they were measured
    History(HistoryArgs),
}

#[derive(Debug, clap::Args)]
struct HistoryArgs {
    /// One line a move, without its guards
    #[arg(long)]
    short: bool,
}

#[derive(Debug, clap::Args)]
struct SetArgs {
    #[arg(value_name = "PHASE")]
    to: Phase,
    #[command(flatten)]
    how: MoveArgs,
}

#[derive(Debug, clap::Args)]
struct AheadArgs {
    #[command(subcommand)]
    command: AheadCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AheadCommand {
    /// Send these keys one phase ahead, or more of them where a share is ahead already
    Set(AheadSetArgs),
    /// Take them back to the phase of the others
    Clear(MoveArgs),
}

#[derive(Debug, clap::Args)]
struct AheadSetArgs {
    #[command(flatten)]
    rule: AheadRule,
    #[command(flatten)]
    how: MoveArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct AheadRule {
    /// Keys that fit, as in Redis's SCAN: * any run, ? one byte, [a-z] one of these, \ takes the next as it stands
    #[arg(long = "match", value_name = "PATTERN")]
    pattern: Option<String>,
    /// About this share of all keys, by their hash: a number between 0 and 1
    #[arg(long, value_name = "NUMBER")]
    share: Option<Share>,
}

/// How any move is made.
#[derive(Debug, clap::Args)]
struct MoveArgs {
    /// Why; it stays in the history. Only a dry run needs none
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Who moves [default: the user that runs this]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// The phase that is believed to hold; if another one does, nothing is done [default: the one that holds now]
    #[arg(long, value_name = "PHASE")]
    from: Option<Phase>,
    /// Move although guards fail: they say what may be lost
    #[arg(long)]
    force: bool,
    /// Only tell whether the move would begin
    #[arg(long)]
    dry_run: bool,
    /// Kask was emptied since writes went past it (from redis-only to dual-write)
    #[arg(long)]
    kask_emptied: bool,
    /// Wait until the move has settled; this is the default
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Return when the move has begun
    #[arg(long)]
    no_wait: bool,
    /// How long to wait; the move goes on all the same
    #[arg(long, value_name = "LENGTH", default_value = "30s", value_parser = humantime::parse_duration)]
    wait_timeout: Duration,
}

pub(super) fn run(global: &Global, args: &PhaseArgs, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(global)?;
    client::block_on(async {
        let stash = client.stash(args.stash.as_deref()).await?;
        match &args.command {
            PhaseCommand::Show => show(&client, &stash, global.json, output).await,
            PhaseCommand::Set(set) => {
                let mut session = Session { client: &client, stash, json: global.json, output };
                session.make(Method::PUT, "", json!({ "to": set.to }), &set.how).await
            }
            PhaseCommand::Ahead(AheadArgs { command }) => {
                let mut session = Session { client: &client, stash, json: global.json, output };
                match command {
                    AheadCommand::Set(AheadSetArgs { rule, how }) => {
                        let rule = match (&rule.pattern, rule.share) {
                            (Some(pattern), _) => json!({ "match": pattern }),
                            (None, share) => json!({ "share": share.map(Share::number) }),
                        };
                        session.make(Method::PUT, "/ahead", rule, how).await
                    }
                    AheadCommand::Clear(how) => session.make(Method::DELETE, "/ahead", json!({}), how).await,
                }
            }
            PhaseCommand::History(args) => history(&client, &stash, args.short, global.json, output).await,
        }
    })
}

fn path(stash: &str, rest: &str) -> String {
    format!("/v1/stashes/{stash}/phase{rest}")
}

async fn show(client: &Client, stash: &str, as_json: bool, output: &mut Output) -> Result<Exit, Failure> {
    let (document, view): (_, PhaseView) = client.get(&path(stash, "")).await?;
    match as_json {
        true => output.json(&document)?,
        false => output.out(&table(&rows(&view, unix_ms()), 0))?,
    }
    Ok(Exit::Done)
}

fn rows(view: &PhaseView, now_unix_ms: u64) -> Vec<(String, String)> {
    let record = &view.record;
    let forced = if record.forced { " (forced)" } else { "" };
    let mut rows = vec![
        ("stash", plain(&view.stash)),
        ("phase", format!("{}{forced}", record.phase)),
        (
            "ahead",
            record
                .ahead
                .as_ref()
                .map_or("no key".to_owned(), |ahead| plain(&format!("{} in {}", ahead.text, ahead.phase))),
        ),
        ("state", state(record).to_owned()),
        ("version", record.version.to_string()),
        ("since", format!("{}, {}", ago(record.since_unix_ms, now_unix_ms), plain(&record.since))),
        ("by", plain(&record.by)),
        ("reason", plain(&record.reason)),
        ("owner", if view.own { "this decant".to_owned() } else { plain(&record.member) }),
    ];
    if let Some(since) = &record.kask_stale_since {
        rows.push(("kask", format!("writes have gone past it since {}", plain(since))));
    }
    if let Some(since) = &record.mirror_unclean_since {
        rows.push(("mirror", format!("writes have gone past Redis since {}", plain(since))));
    }
    rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn state(record: &RecordView) -> &'static str {
    match record.state {
        State::Settled => "settled",
        State::Moving => "moving",
    }
}

async fn history(
    client: &Client,
    stash: &str,
    short: bool,
    as_json: bool,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let (document, view): (_, HistoryView) = client.get(&path(stash, "/history")).await?;
    if as_json {
        output.json(&document)?;
        return Ok(Exit::Done);
    }
    let moves = view.history.iter().map(|record| (record.since_unix_ms, told(record, short, output)));
    let events = view.events.iter().map(|event| (event.at_unix_ms, happened(event)));
    let mut lines: Vec<(u64, String)> = moves.chain(events).collect();
    lines.sort_by_key(|(at, _)| *at);
    let text: String = lines.into_iter().map(|(_, text)| text).collect();
    output.out(&text)?;
    Ok(Exit::Done)
}

/// A move of the history, and under it its guards.
fn told(record: &RecordView, short: bool, output: &Output) -> String {
    let forced = if record.forced { " (forced)" } else { "" };
    let (by, reason) = (plain(&record.by), plain(&record.reason));
    let mut text =
        format!("{}  {:>4}  {:<13}  {by}{forced}: {reason}\n", plain(&record.since), record.version, record.phase);
    match &record.ahead {
        Some(ahead) => text.push_str(&plain(&format!("      ahead       {} in {}\n", ahead.text, ahead.phase))),
        // The phase stays, and nobody is ahead of it: they came back.
        None if record.from == Some(record.phase) => text.push_str("      ahead       no key any more\n"),
        None => {}
    }
    let width = record.guards.iter().map(|guard| guard.name.len()).max().unwrap_or_default();
    for guard in record.guards.iter().filter(|_| !short) {
        let verdict = if guard.ok { output.styled("32", "ok        ") } else { output.styled("31", "overridden") };
        let (name, figure) = (plain(&guard.name), plain(&guard.figure));
        text.push_str(&format!("      {verdict}  {name:width$}  {figure}\n"));
    }
    text
}

/// What happened to the record beside its moves.
fn happened(event: &Happening) -> String {
    let (at, member) = (rfc3339(event.at_unix_ms), plain(&event.member));
    format!(
        "{at}  {:>4}  {member} {}  {}: {}\n",
        event.version,
        event.what.name(),
        plain(&event.by),
        plain(&event.reason)
    )
}

/// One move.
struct Session<'a> {
    client: &'a Client,
    stash: String,
    json: bool,
    output: &'a mut Output,
}

impl Session<'_> {
    /// `goal`: what is to hold.
    async fn make(&mut self, method: Method, page: &str, goal: Value, args: &MoveArgs) -> Result<Exit, Failure> {
        let (phase, from) = match args.from {
            Some(from) => (from, from.to_string()),
            None => {
                let record = self.client.get::<PhaseView>(&path(&self.stash, "")).await?.1.record;
                (record.phase, plain(&record.told()))
            }
        };
        let mut body = json!({
            "from": phase, "reason": args.reason.as_deref().unwrap_or_default(), "by": args.by.clone().unwrap_or_else(user),
            "force": args.force, "dry_run": args.dry_run, "kask_emptied": args.kask_emptied,
        });
        if let (Some(body), Value::Object(goal)) = (body.as_object_mut(), goal) {
            body.extend(goal);
        }
        let mut document = match self.client.call(method, &path(&self.stash, page), Some(&body)).await? {
            Ok(document) => document,
            Err(refusal) => return self.refused(&refusal),
        };
        let moved: MovedView = serde_json::from_value(document.clone()).context("the answer is not as it should be")?;
        if !self.json {
            let guards = self.guards(&moved.guards);
            self.output.out(&guards)?;
        }
        let record = &moved.record;
        let to = plain(&record.told());
        if moved.dry_run {
            let forced = if record.forced { ", with --force" } else { "" };
            let told = format!("{from} -> {to} would begin{forced}; nothing was done\n");
            return self.end(&document, &told);
        }
        if args.no_wait && !args.wait {
            return self.end(&document, &format!("{from} -> {to} has begun\n"));
        }
        let begun = Instant::now();
        let settled = self.settled(record, args.wait_timeout).await?;
        if let Some(document) = document.as_object_mut() {
            document.insert("record".to_owned(), settled);
        }
        let ms = begun.elapsed().as_millis();
        self.end(&document, &format!("{from} -> {to} has settled after {ms} ms\n"))
    }

    fn end(&mut self, document: &Value, told: &str) -> Result<Exit, Failure> {
        match self.json {
            true => self.output.json(document)?,
            false => self.output.out(told)?,
        }
        Ok(Exit::Done)
    }

    /// Waits until the move is over; answers the record.
    async fn settled(&mut self, moved: &RecordView, at_most: Duration) -> Result<Value, Failure> {
        let begun = Instant::now();
        let mut tell_at = TELL_EVERY;
        loop {
            let (document, view): (Value, PhaseView) = self.client.get(&path(&self.stash, "")).await?;
            let record = &view.record;
            if record.version > moved.version {
                let why = format!(
                    "{} has moved on to {} meanwhile (version {})",
                    self.stash,
                    plain(&record.told()),
                    record.version
                );
                return Err(Failure { exit: Exit::Failed, message: why });
            }
            if record.state == State::Settled {
                return Ok(document);
            }
            let waited = begun.elapsed();
            if waited >= at_most {
                let why = format!(
                    "the move to {} has begun and is recorded, but has not settled within {}; it goes on: see decant status",
                    plain(&moved.told()),
                    humantime::format_duration(at_most)
                );
                return Err(Failure { exit: Exit::Failed, message: why });
            }
            if waited >= tell_at {
                tell_at += TELL_EVERY;
                self.output.note(&format!("moving to {} for {} s …", plain(&moved.told()), waited.as_secs()));
            }
            tokio::time::sleep(LOOK_EVERY.min(at_most - waited)).await;
        }
    }

    fn guards(&self, list: &[GuardView]) -> String {
        guards(list, 0, &|style, text| self.output.styled(style, text))
    }

    /// Nothing has changed; the guards say what it would take.
    fn refused(&mut self, refusal: &Refusal) -> Result<Exit, Failure> {
        if refusal.status.is_server_error() {
            return Err(Failure { exit: Exit::Failed, message: refusal.detail() });
        }
        let exit = if refusal.status == 400 { Exit::Usage } else { Exit::Found };
        if self.json {
            self.output.json(&refusal.problem)?;
            return Ok(exit);
        }
        let list = refusal.problem.get("guards").cloned().unwrap_or_default();
        let failed: Vec<GuardView> = serde_json::from_value(list).unwrap_or_default();
        if failed.is_empty() {
            return Err(Failure { exit, message: plain(&refusal.detail()) });
        }
        let text = self.guards(&failed);
        self.output.out(&text)?;
        Err(Failure { exit, message: "the move was refused: a guard fails; nothing was done".to_owned() })
    }
}
