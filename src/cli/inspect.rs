//! `decant inspect`: one key in both tiers.

use super::{
    Exit, Failure, Global, Output,
    client::{self, Client},
    text::{ago, count, length, plain, table},
};
use crate::{
    codec::key::{Key, KeyFault},
    stash::{
        inspect::{Inspection, RecordSide, ShownValue, Written},
        mover::unix_ms,
    },
};

#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// The key as MediaWiki makes it, not as a URL spells it
    #[arg(value_name = "KEY")]
    key: String,
    /// The stash; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    stash: Option<String>,
}

pub(super) fn run(global: &Global, args: &InspectArgs, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(global)?;
    let key = Key::from_bytes(args.key.clone());
    // Said here as well: an empty key, or one of dots, would make another path.
    if let Some(fault @ (KeyFault::Empty | KeyFault::Dots | KeyFault::TooLong)) = key.fault() {
        return Err(Failure::usage(fault.to_string()));
    }
    let url = key.to_url();
    let (document, seen): (_, Inspection) = client::block_on(async {
        let stash = client.stash(args.stash.as_deref()).await?;
        client.get(&format!("/v1/stashes/{stash}/keys/{url}")).await
    })?;
    match global.json {
        true => output.json(&document)?,
        false => {
            let text = render(&seen, unix_ms(), &|text| output.styled("1", text));
            output.out(&text)?;
        }
    }
    Ok(Exit::Done)
}

/// `bold` makes a heading.
fn render(seen: &Inspection, now_unix_ms: u64, bold: &dyn Fn(&str) -> String) -> String {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let why = seen.comparison.why.as_deref().map(|why| format!(": {}", plain(why))).unwrap_or_default();
    let mut head = vec![
        row("key", plain(&seen.key)),
        row("stash", format!("{}, {}", plain(&seen.stash), plain(&seen.phase))),
        row("tiers", format!("{}{why}", plain(&seen.comparison.result))),
        row("pending", plain(&seen.pending)),
    ];
    if seen.remembered_delete {
        head.push(row(
            "tombstone",
            "yes: it was deleted, and Kask may not know it yet; reads answer a miss".to_owned(),
        ));
    }
    head.extend(seen.explanation.iter().map(|sentence| row("why", plain(sentence))));
    let mut redis = Vec::new();
    let on = seen.shard.as_deref().map(|shard| format!(" (shard {})", plain(shard))).unwrap_or_default();
    match (&seen.redis.error, seen.redis.kind.as_deref()) {
        (Some(why), _) => redis.push(row("error", plain(why))),
        (None, Some("none") | None) => redis.push(row("value", "none".to_owned())),
        (None, Some(kind)) => {
            redis.push(row("type", plain(kind)));
            redis.push(row("expires", seen.redis.ttl_ms.map_or("never".into(), |ms| format!("in {}", length(ms)))));
            redis.extend(seen.redis.written.iter().map(|written| row("written", written_text(written, now_unix_ms))));
        }
    }
    redis.extend(seen.redis.name.iter().map(|name| row("name", plain(name))));
    redis.extend(seen.redis.value.iter().flat_map(value));
    let mut kask = Vec::new();
    match (&seen.kask.error, &seen.kask.value) {
        (Some(why), _) => kask.push(row("error", plain(why))),
        (None, None) => kask.push(row("value", "none".to_owned())),
        (None, Some(shown)) => kask.extend(value(shown)),
    }
    kask.extend(seen.kask.unreadable.iter().map(|why| row("MediaWiki", format!("reads a miss: {}", plain(why)))));
    let record = match &seen.record {
        None => vec![row("intents", "none".to_owned())],
        Some(record) => record_rows(record),
    };
    let part = |name: String, rows: &[(String, String)]| format!("\n{}\n{}", bold(&name), table(rows, 2));
    let parts = [part(format!("Redis{on}"), &redis), part("Kask".into(), &kask), part("outbox".into(), &record)];
    format!("{}{}", table(&head, 0), parts.concat())
}

fn written_text(written: &Written, now_unix_ms: u64) -> String {
    let by = match written.by.as_str() {
        "value" => "says the value, a timestamp",
        _ => "by its TTL, if it was written with default_ttl",
    };
    format!("{}, {} ({by})", ago(written.unix_ms, now_unix_ms), plain(&written.at))
}

fn value(value: &ShownValue) -> Vec<(String, String)> {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let mut rows = vec![row("bytes", count(value.bytes)), row("raw", plain(&value.raw))];
    match (&value.decoded, &value.undecodable) {
        (Some(decoded), _) => rows.push(row("decoded", plain(decoded))),
        (None, Some(why)) => rows.push(row("decoded", format!("not: {}", plain(why)))),
        (None, None) => {}
    }
    if value.raw_cut || value.decoded_cut {
        rows.push(row("note", "too long to be shown whole; \"…\" is where it was cut".to_owned()));
    }
    rows.extend(value.sha256.iter().map(|digest| row("sha256", plain(digest))));
    rows
}

fn record_rows(record: &RecordSide) -> Vec<(String, String)> {
    let to = if record.direction == "kask" { "Kask" } else { "Redis" };
    let mut rows = vec![
        ("copy to".to_owned(), to.to_owned()),
        ("newest".to_owned(), plain(&record.newest)),
        ("generation".to_owned(), count(record.generation)),
    ];
    for intent in &record.intents {
        let age = intent.age_ms.map_or("damaged".to_owned(), |ms| format!("{} old", length(ms)));
        let reason = intent.reason.as_deref().map(|why| format!(": {}", plain(why))).unwrap_or_default();
        rows.push(("intent".to_owned(), format!("{age}, {} tries, owner {}{reason}", intent.tries, plain(&intent.id))));
    }
    let more = record.intents_total.saturating_sub(record.intents.len());
    if more > 0 {
        rows.push(("intents".to_owned(), format!("and {more} more")));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tiers_on_one_screen() {
        let seen: Inspection = serde_json::from_str(
            r#"{"stash":"echoseen","key":"enwiki:a b","phase":"kask-first","shard":"main","pending":"yes",
            "redis":{"error":null,"name":"enwiki:a b","kind":"string","ttl_ms":86400000,
            "written":{"at":"2026-01-01T00:00:00.000Z","unix_ms":1767225600000,"by":"ttl"},"value":{"bytes":2,
            "sha256":"aa","raw":"42","raw_cut":false,"decoded":"42","decoded_cut":false,"undecodable":null}},
            "kask":{"error":null,"value":null,"unreadable":null},"record":{"direction":"kask","generation":7,
            "newest":"old","intents_total":3,"intents":[{"id":"0a","age_ms":1500,"tries":0},
            {"id":"0b","age_ms":null,"tries":5,"reason":"Kask refused: 400"}]},"remembered_delete":true,
            "comparison":{"result":"only in Redis","why":null},"explanation":"Because."}"#,
        )
        .unwrap();
        insta::assert_snapshot!(render(&seen, 1_767_225_900_000, &|text| text.to_owned()));
    }
}
