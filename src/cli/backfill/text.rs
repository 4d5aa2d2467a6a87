//! What a backfill looks like to a person. Pure.

use crate::{
    backfill::{BackfillView, Outcome, RunView, State},
    cli::text::{ago, count, length, plain, table},
};

/// Reasons shown; the rest is in `--json`.
const REASONS_MAX: usize = 20;

/// `43.2 %`: never the whole before it is the whole.
pub fn percent(share: f64) -> String {
    let tenths = if share >= 1.0 { 1_000.0 } else { (share * 1_000.0).floor().clamp(0.0, 999.0) };
    format!("{:.1} %", tenths / 10.0)
}

/// `12.3 MB`
pub fn bytes(number: u64) -> String {
    let mut scaled = number as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if scaled < 1_000.0 {
            return if unit == "B" { format!("{number} B") } else { format!("{scaled:.1} {unit}") };
        }
        scaled /= 1_000.0;
    }
    format!("{scaled:.1} TB")
}

/// What is going on, in one line without the share.
pub fn line(run: &RunView) -> String {
    let mut parts = vec![moved(run)];
    if run.not_moved > 0 {
        parts.push(format!("{} not moved", count(run.not_moved)));
    }
    parts.push(format!("{}/s", count(run.keys_per_s.round() as u64)));
    if let Some(left) = run.left_s {
        parts.push(format!("{} left", length(left.saturating_mul(1_000))));
    }
    if let Some(held) = held(run) {
        parts.push(held);
    }
    parts.join(", ")
}

fn moved(run: &RunView) -> String {
    let equal = run.of(Outcome::Equal);
    let (what, done) = match run.filters.dry_run {
        true => ("would be copied", run.of(Outcome::Lacking)),
        false => ("copied", run.of(Outcome::Copied)),
    };
    format!("{} {what}, {} there already", count(done), count(equal))
}

/// What holds it back, and what it waits for.
fn held(run: &RunView) -> Option<String> {
    let held = run.held_by.as_ref()?;
    Some(match (&held.why, run.braked_to) {
        (Some(why), _) => format!("waits for {}: {}", held.what.name(), plain(why)),
        (None, Some(rate)) => format!("held by {}, braked to {}/s", held.what.name(), count(rate.round() as u64)),
        (None, None) => format!("held by {}", held.what.name()),
    })
}

/// For one row of `decant status`.
pub fn brief(run: &RunView, now_unix_ms: u64) -> String {
    let dry = if run.filters.dry_run { "dry run, " } else { "" };
    let why = run.why.as_deref().map(|why| format!(" ({})", plain(why))).unwrap_or_default();
    let rest = match run.state {
        State::Running => format!("{}, {}", percent(run.share), line(run)),
        State::Paused => format!("at {}, {}", percent(run.share), moved(run)),
        _ if run.not_moved > 0 => format!("{}, {} not moved", moved(run), count(run.not_moved)),
        _ => moved(run),
    };
    let when = if run.state == State::Running { String::new() } else { ago(run.changed_unix_ms, now_unix_ms) + ", " };
    format!("{dry}{}{why}, {when}{rest}", run.state.name())
}

/// All of it.
pub fn page(view: &BackfillView, now_unix_ms: u64) -> String {
    let mut text = String::new();
    if let Some(trouble) = &view.trouble {
        text.push_str(&format!("the last backfill cannot be told: {}\n", plain(trouble)));
    }
    let Some(run) = &view.run else {
        if text.is_empty() {
            text.push_str("there was never a backfill\n");
        }
        return text;
    };
    text.push_str(&table(&rows(run, now_unix_ms), 0));
    if let Some(stayed) = &run.stayed {
        for key in stayed {
            let detail = key.detail.as_deref().map(|detail| format!(": {}", plain(detail))).unwrap_or_default();
            text.push_str(&format!("{}  {}, {}{detail}\n", plain(&key.key), key.outcome.name(), plain(&key.reason)));
        }
    }
    text
}

fn rows(run: &RunView, now_unix_ms: u64) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    let why = run.why.as_deref().map(|why| format!(": {}", plain(why))).unwrap_or_default();
    let dry = if run.filters.dry_run { " (a dry run: nothing is copied)" } else { "" };
    row("state", format!("{}{dry}, {}{why}", run.state.name(), ago(run.changed_unix_ms, now_unix_ms)));
    let began = ago(run.begun_unix_ms, now_unix_ms);
    row("begun", format!("{began} by {}, in {} (version {})", plain(&run.by), run.phase, run.version));
    if !run.filters.are_none()
        && let Ok(filters) = serde_json::to_string(&run.filters)
    {
        row("filters", plain(&filters));
    }
    row("walked", format!("{} of all names", percent(run.share)));
    if run.state == State::Running {
        row("now", line(run));
    }
    for shard in run.shards.iter().filter(|_| run.shards.len() > 1) {
        let of = shard.of.map(|of| format!(" of about {}", count(of))).unwrap_or_default();
        let names = format!("{}, {} names{of}", percent(shard.share), count(shard.names));
        row(&format!("  {}", plain(&shard.name)), names);
    }
    for outcome in Outcome::ALL {
        let keys = run.of(outcome);
        let size = match outcome {
            Outcome::Copied | Outcome::Lacking if keys > 0 => format!(", {}", bytes(run.bytes)),
            _ => String::new(),
        };
        if keys > 0 || outcome == Outcome::Copied && !run.filters.dry_run {
            row(said(outcome), format!("{}{size}", count(keys)));
        }
    }
    let walked = run.walked;
    for (name, names) in [
        ("lock keys", walked.locks),
        ("decant's own", walked.own),
        ("other prefixes", walked.foreign),
        ("on the wrong shard", walked.misplaced),
        ("not matched", walked.unmatched),
    ] {
        if names > 0 {
            row(name, count(names));
        }
    }
    for (age, amount) in &run.ages {
        row(&format!("  written {}", age.text()), format!("{} keys, {}", count(amount.keys), bytes(amount.bytes)));
    }
    if run.not_moved > 0 {
        let listed = match (run.stayed.is_some(), run.unlisted) {
            (true, 0) => String::new(),
            (true, more) => format!("; {} more are only counted", count(more)),
            (false, _) => "; `decant backfill status --keys` lists them".to_owned(),
        };
        row("not moved", format!("{} keys{listed}", count(run.not_moved)));
        for (reason, keys) in run.reasons.iter().take(REASONS_MAX) {
            row(&format!("  {}", plain(reason)), count(*keys));
        }
    }
    rows
}

fn said(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Copied => "copied",
        Outcome::Equal => "there already",
        Outcome::Lacking => "would be copied",
        Outcome::Gone => "gone meanwhile",
        Outcome::WrittenBefore => "written before",
        Outcome::SkippedValue => "skipped value",
        Outcome::ShortLived => "too short a life",
        Outcome::Untranscodable => "untranscodable",
        Outcome::Unstorable => "no key of Kask's",
        Outcome::Refused => "refused by Kask",
        Outcome::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn view(state: &str, share: f64, more: serde_json::Value) -> BackfillView {
        let mut view = serde_json::json!({
            "stash": "echoseen", "trouble": null, "state": state, "why": null, "by": "root", "begun_unix_ms": 1_000,
            "changed_unix_ms": 31_000, "phase": "kask-first", "version": 3, "filters": {},
            "limits": { "keys_per_s": 0, "bytes_per_s": 0 }, "share": share, "left_s": null, "keys_per_s": 0.0,
            "bytes_per_s": 0.0, "held_by": null, "braked_to": null, "keys": { "copied": 1_234_567, "equal": 10 },
            "not_moved": 0, "reasons": {}, "bytes": 45_678_901, "walked": { "names": 1_300_000, "locks": 2 }, "ages": {},
            "shards": [{ "name": "main", "share": share, "done": false, "names": 1_300_000, "of": 3_000_000 }],
            "listed": 0, "unlisted": 0, "complete": null
        });
        view.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(view).unwrap()
    }

    #[test]
    fn a_run_on_one_page() {
        let more = serde_json::json!({
            "left_s": 340, "keys_per_s": 5_123.4, "held_by": { "what": "brake", "why": null }, "braked_to": 5_200.0,
            "not_moved": 4, "reasons": { "untranscodable: object": 3, "failed: kask": 1 },
            "keys": { "copied": 1_234_567, "equal": 10, "untranscodable": 3, "failed": 1, "gone": 5 },
            "filters": { "match": "*:echo:*", "min_ttl_s": 60 }
        });
        insta::assert_snapshot!(page(&view("running", 0.4329, more), 61_000));
    }

    #[test]
    fn a_dry_run_tells_ages_and_a_list_its_keys() {
        let more = serde_json::json!({
            "filters": { "dry_run": true }, "keys": { "lacking": 12 }, "bytes": 999,
            "ages": { "under_a_day": { "keys": 2, "bytes": 99 }, "unknown": { "keys": 10, "bytes": 900 } },
            "not_moved": 1, "unlisted": 7, "reasons": { "unstorable: slash": 1 },
            "stayed": [{ "key": "a/b", "outcome": "unstorable", "reason": "slash", "detail": null }]
        });
        insta::assert_snapshot!(page(&view("finished", 1.0, more), 61_000));
    }

    #[test]
    fn the_whole_is_told_only_of_the_whole() {
        let told = [0.0, 0.4329, 0.9999, 0.99999999, 1.0].map(percent);
        assert_eq!(told, ["0.0 %", "43.2 %", "99.9 %", "99.9 %", "100.0 %"]);
        assert_eq!(
            [0, 999, 1_000, 45_678_901, 5_000_000_000_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "45.7 MB", "5.0 TB"]
        );
    }

    #[test]
    fn what_it_waits_for_is_said() {
        let more = serde_json::json!({ "held_by": { "what": "redis", "why": "shard a is away\n" } });
        let view = view("running", 0.5, more);
        let told = brief(view.run.as_ref().unwrap(), 61_000);
        assert!(told.ends_with("waits for redis: shard a is away\u{fffd}"), "{told}");
        assert!(told.starts_with("running, 50.0 %, 1,234,567 copied, 10 there already, 0/s"), "{told}");
    }

    #[test]
    fn nothing_is_said_in_words() {
        let view: BackfillView = serde_json::from_str(r#"{"stash":"s","trouble":null}"#).unwrap();
        assert_eq!(page(&view, 0), "there was never a backfill\n");
        let view: BackfillView = serde_json::from_str(r#"{"stash":"s","trouble":"it is damaged"}"#).unwrap();
        assert_eq!(page(&view, 0), "the last backfill cannot be told: it is damaged\n");
    }
}
