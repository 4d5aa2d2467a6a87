//! `decant verify`: compares the tiers of a running decant's stash, and says whether everything arrived.

use super::{
    Exit, Failure, Global, Output,
    bar::Bar,
    client::{self, Client},
    text::{ago, count, length, plain, table},
};
use crate::{
    stash::mover::unix_ms,
    verify::{BLIND, Difference, Progress, Report, View},
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// decant may be restarted, and its listener away for so long.
const AWAY_MAX: Duration = Duration::from_secs(30);
/// Differences shown to a person.
const SHOWN_MAX: usize = 20;

/// Status 0 only where a run over everything (or over everything that fits --match) found every key equal in both tiers; 1 otherwise, also
/// for a sample in which nothing was found: it proves nothing of the other keys.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Compare so many keys, drawn at random, instead of all
    #[arg(long, value_name = "KEYS", value_parser = clap::value_parser!(u64).range(1..=crate::verify::SAMPLE_MAX))]
    sample: Option<u64>,
    /// Bring in step what differs, by the copy protocol, and look at it again
    #[arg(long)]
    fix: bool,
    /// Only keys that fit this pattern, as Redis's SCAN … MATCH takes it
    #[arg(long = "match", value_name = "GLOB")]
    only: Option<String>,
    /// Show keys, which are personal data
    #[arg(long)]
    show_keys: bool,
    /// At most so many keys a second
    #[arg(long, value_name = "KEYS")]
    rate: Option<u32>,
    /// Begin nothing: show the run under way, or what the last one came to
    #[arg(long, conflicts_with_all = ["sample", "fix", "only", "show_keys", "rate", "cancel"])]
    last: bool,
    /// End the run under way; its report says that it is not complete
    #[arg(long, conflicts_with_all = ["sample", "fix", "only", "show_keys", "rate"])]
    cancel: bool,
    /// The stash; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    stash: Option<String>,
}

pub(super) fn run(global: &Global, args: &VerifyArgs, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(global)?;
    client::block_on(async {
        let stash = client.stash(args.stash.as_deref()).await?;
        let path = format!("/v1/stashes/{stash}/verify");
        if args.cancel {
            let document = asked(client.call(Method::DELETE, &path, None).await?)?;
            match global.json {
                true => output.json(&document)?,
                false => output.out("the run is ending; `decant verify --last` shows what it has found\n")?,
            }
            return Ok(Exit::Done);
        }
        let id = match args.last {
            true => None,
            false => {
                let body = json!({ "sample": args.sample, "match": args.only, "fix": args.fix, "show_keys": args.show_keys, "rate": args.rate });
                let begun = asked(client.call(Method::POST, &path, Some(&body)).await?)?;
                Some(begun.get("id").and_then(Value::as_str).unwrap_or_default().to_owned())
            }
        };
        let mut session = Session { client: &client, path, json: global.json, output };
        match id {
            Some(id) => session.follow(&id).await,
            None => session.last().await,
        }
    })
}

fn asked(answer: Result<Value, client::Refusal>) -> Result<Value, Failure> {
    answer.map_err(|refusal| {
        let exit = if refusal.status == 400 { Exit::Usage } else { Exit::Failed };
        Failure { exit, message: plain(&refusal.detail()) }
    })
}

struct Session<'a> {
    client: &'a Client,
    path: String,
    json: bool,
    output: &'a mut Output,
}

impl Session<'_> {
    /// Shows how far the run is, then what it came to. If this is interrupted the run goes on.
    async fn follow(&mut self, id: &str) -> Result<Exit, Failure> {
        let (mut bar, mut away) = (Bar::new(self.json), None::<Instant>);
        loop {
            match self.client.get::<View>(&self.path).await {
                Ok((_, View { running: Some(progress), .. })) if progress.id == id => {
                    away = None;
                    bar.show(self.output, progress.walked, progress.of, &progress_line(&progress));
                }
                Ok((document, View { report: Some(report), .. })) if report.id == id => {
                    bar.end();
                    return self.reported(document, &report);
                }
                Ok(_) => {
                    bar.end();
                    let message = "another run came after this one, and its report is gone".to_owned();
                    return Err(Failure { exit: Exit::Failed, message });
                }
                Err(failure) if away.get_or_insert_with(Instant::now).elapsed() > AWAY_MAX => {
                    bar.end();
                    return Err(failure);
                }
                Err(_) => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn last(&mut self) -> Result<Exit, Failure> {
        let (document, view): (Value, View) = self.client.get(&self.path).await?;
        match (view.running, view.report) {
            (Some(progress), _) => {
                match self.json {
                    true => self.output.json(&document)?,
                    false => self.output.out(&format!("{}\n", progress_line(&progress)))?,
                }
                Ok(Exit::Found)
            }
            (None, Some(report)) => self.reported(document, &report),
            (None, None) => {
                let message = "there was no run yet: `decant verify` begins one".to_owned();
                Err(Failure { exit: Exit::Found, message })
            }
        }
    }

    fn reported(&mut self, document: Value, report: &Report) -> Result<Exit, Failure> {
        match self.json {
            true => self.output.json(document.get("report").unwrap_or(&document))?,
            false => {
                let text = render(report, unix_ms(), &|style, text| self.output.styled(style, text));
                self.output.out(&text)?;
            }
        }
        Ok(if report.arrived { Exit::Done } else { Exit::Found })
    }
}

pub(super) fn progress_line(progress: &Progress) -> String {
    let percent = progress.percent.as_deref().map(|percent| format!(" ({percent} %)")).unwrap_or_default();
    let mut line = format!("{} of about {}{percent}", count(progress.walked), count(progress.of));
    for (class, keys) in &progress.classes {
        line.push_str(&format!(", {} {}", count(*keys), plain(class)));
    }
    if progress.waiting > 0 {
        line.push_str(&format!(", {} to be looked at again", count(progress.waiting)));
    }
    line.push_str(&format!(", {}/s", count(progress.keys_per_s as u64)));
    if let Some(left) = progress.left_ms {
        line.push_str(&format!(", about {} left", length(left)));
    }
    if let Some(why) = &progress.held_back_by {
        line.push_str(&format!("; held back by {}", plain(why)));
    }
    line
}

/// `styled(style, text)` colours the text where colour is wanted.
fn render(report: &Report, now_unix_ms: u64, styled: &dyn Fn(&str, &str) -> String) -> String {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let took = length(report.ended_unix_ms.saturating_sub(report.begun_unix_ms));
    let mut head = vec![
        row("stash", format!("{}, {} (version {})", plain(&report.stash), report.phase, report.version)),
        row("run", format!("{}, {}, took {took}", plain(&report.id), ago(report.begun_unix_ms, now_unix_ms))),
    ];
    head.extend(report.asked.sample.map(|sample| row("sample", format!("{} keys, drawn at random", count(sample)))));
    head.extend(report.asked.only.as_deref().map(|only| row("match", plain(only))));
    head.push(row("compared", format!("{} keys", count(report.keys.compared))));
    let verdict = match report.arrived {
        true => styled("32", &plain(&report.summary)),
        false => styled("31", &plain(&report.summary)),
    };
    let mut text = format!("{}{}\n", table(&head, 0), table(&classes(report), 2));
    for difference in report.differences.iter().take(SHOWN_MAX) {
        text.push_str(&difference_line(difference));
    }
    let more = report.differences.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        text.push_str(&format!("and {} more with --json, which lists up to 100 of each class\n", count(more as u64)));
    }
    if !report.differences.is_empty() {
        text.push('\n');
    }
    for why in &report.incomplete {
        text.push_str(&format!("{}\n", styled("33", &format!("not complete: {}", plain(why)))));
    }
    format!("{text}{verdict}\nnot compared: {BLIND}\n")
}

/// Only what there is, but for the classes that decide.
fn classes(report: &Report) -> Vec<(String, String)> {
    let keys = &report.keys;
    let percent = report.equal_percent.as_deref().map(|percent| format!(" ({percent} %)")).unwrap_or_default();
    let mut rows = vec![("equal".to_owned(), format!("{}{percent}", count(keys.equal)))];
    let mut row = |name: &str, number: u64, always: bool| {
        if always || number > 0 {
            rows.push((name.to_owned(), count(number)));
        }
    };
    row("fixed", keys.fixed, report.asked.fix);
    row("missing", keys.missing, true);
    row("different", keys.different, true);
    row("tombstone", keys.tombstone, false);
    row("pending", keys.pending, false);
    row("unknown", keys.unknown, false);
    let reasons = |by: &BTreeMap<String, u64>| {
        let texts: Vec<String> = by.iter().map(|(why, keys)| format!("{} {}", count(*keys), plain(why))).collect();
        format!("{} ({})", count(by.values().sum()), texts.join(", "))
    };
    for (name, by) in [("untranscodable", &keys.untranscodable), ("unstorable", &keys.unstorable)] {
        if !by.is_empty() {
            rows.push((name.to_owned(), reasons(by)));
        }
    }
    let left = &report.left_out;
    let left: Vec<String> = [
        (left.gone, "gone meanwhile"),
        (left.retired, "ahead in kask-only, where Redis is told nothing"),
        (left.locks, "locks"),
        (left.misplaced, "on a shard where nobody looks for them"),
        (left.foreign, "without the prefix"),
        (left.unmatched, "that do not fit"),
    ]
    .iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {what}", count(*number)))
    .collect();
    if !left.is_empty() {
        rows.push(("left out".to_owned(), left.join(", ")));
    }
    rows
}

fn difference_line(difference: &Difference) -> String {
    let side = |kind: &Option<String>, bytes: Option<u64>| match (kind, bytes) {
        (Some(kind), Some(bytes)) => format!("{}, {} bytes", plain(kind), count(bytes)),
        _ => "nothing".to_owned(),
    };
    let key = difference.key.as_deref().map(|key| format!(" {}", plain(key))).unwrap_or_default();
    let what = match &difference.reason {
        Some(reason) => plain(reason),
        None => format!(
            "redis: {}; kask: {}",
            side(&difference.redis_kind, difference.redis_bytes),
            side(&difference.kask_kind, difference.kask_bytes)
        ),
    };
    format!(
        "{:<14} {} on {}  {what}{key}\n",
        plain(&difference.class),
        plain(&difference.key_hash),
        plain(&difference.shard)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(json: &str) -> Report {
        serde_json::from_str(json).unwrap()
    }

    const HEAD: &str = r#""id":"00aa","stash":"echoseen","phase":"kask-first","version":3,"begun":"b","begun_unix_ms":1000,
        "ended":"e","ended_unix_ms":13000,"fix":false,"not_compared":"x""#;

    #[test]
    fn a_run_that_found_something() {
        let found = report(&format!(
            r#"{{{HEAD},"sample":null,"match":"en*","keys":{{"compared":100000,"equal":99990,"missing":4,"different":2,
            "untranscodable":{{"object":3}},"unstorable":{{"slash":1}}}},"left_out":{{"locks":2,"own":9}},"complete":false,
            "incomplete":["shard b gave no more keys"],"arrived":false,"equal_percent":"99.99","summary":"not everything arrived",
            "differences":[{{"key_hash":"0123456789abcdef","class":"missing","shard":"a","redis_kind":"string","kask_kind":null,
            "redis_bytes":22,"kask_bytes":null}},{{"key_hash":"fedcba9876543210","key":"a/b","class":"unstorable","reason":"slash",
            "shard":"a","redis_kind":null,"kask_kind":null,"redis_bytes":null,"kask_bytes":null}}]}}"#
        ));
        insta::assert_snapshot!(render(&found, 61_000, &|_, text| text.to_owned()));
    }

    #[test]
    fn a_run_that_proves_it() {
        let proof = report(&format!(
            r#"{{{HEAD},"sample":null,"match":null,"keys":{{"compared":7,"equal":7}},"left_out":{{}},"complete":true,"incomplete":[],
            "arrived":true,"equal_percent":"100","summary":"everything arrived: 7 keys, equal in both tiers","differences":[]}}"#
        ));
        insta::assert_snapshot!(render(&proof, 61_000, &|_, text| text.to_owned()));
    }

    #[test]
    fn a_line_of_progress_says_what_holds_it_back() {
        let progress = Progress {
            walked: 12_345,
            of: 50_000,
            percent: Some("24.69".into()),
            classes: BTreeMap::from([("equal".to_owned(), 12_000), ("missing".to_owned(), 3)]),
            waiting: 2,
            keys_per_s: 8_100.9,
            left_ms: Some(65_000),
            held_back_by: Some("rate limit".into()),
            ..Progress::default()
        };
        assert_eq!(
            progress_line(&progress),
            "12,345 of about 50,000 (24.69 %), 12,000 equal, 3 missing, 2 to be looked at again, 8,100/s, about 65 s left; held back by \
             rate limit"
        );
    }
}
