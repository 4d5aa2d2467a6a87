//! `decant check`: what decant understood of its configuration, or every fault of it; then every tier is tried once.

use super::{Exit, Failure, Global, Output, text::plain};
use crate::{
    config::{Config, Distribution, KaskEndpoint, Loaded, ShardConfig, StashConfig},
    preflight::{self, Finding, Level},
};
use serde_json::json;

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Read the configuration and its secret files only; connect to nothing
    #[arg(long)]
    pub offline: bool,
}

pub(super) fn run(global: &Global, args: &CheckArgs, output: &mut Output) -> Result<Exit, Failure> {
    let Loaded { config, warnings } = global.load()?;
    for warning in &warnings {
        output.note(&format!("warning: {warning}"));
    }
    let findings = match args.offline {
        true => None,
        false => Some(super::client::block_on(async { Ok(preflight::probe(&config).await) })?),
    };
    let worst = findings.iter().flatten().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    let exit = if worst == Level::Fail { Exit::Found } else { Exit::Done };
    if global.json {
        let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let stashes: Vec<_> = config
            .stashes
            .iter()
            .map(|stash| json!(facts(stash).into_iter().collect::<serde_json::Map<_, _>>()))
            .collect();
        let top: serde_json::Map<_, _> = listeners(&config).into_iter().collect();
        output.json(&json!({
            "ok": exit == Exit::Done, "warnings": warnings, "config": top, "stashes": stashes, "tiers": findings
        }))?;
        return Ok(exit);
    }
    let mut text = table(&listeners(&config), 0);
    for stash in &config.stashes {
        text.push_str(&format!("\n{}\n", output.styled("1", &format!("stash {}", stash.name))));
        // The name stands in the heading.
        text.push_str(&table(facts(stash).get(1..).unwrap_or_default(), 2));
    }
    let end = match warnings.len() {
        0 => "the configuration has no faults".to_owned(),
        1 => "the configuration has no faults, and 1 warning".to_owned(),
        count => format!("the configuration has no faults, and {count} warnings"),
    };
    match &findings {
        None => output.out(&format!("{text}\n{end}; no tier was asked\n"))?,
        Some(findings) => {
            let told = tiers(findings, output);
            output.out(&format!("{text}\n{end}\n{told}"))?;
        }
    }
    Ok(exit)
}

/// One line a finding, what to do under it, and the sum.
fn tiers(findings: &[Finding], output: &Output) -> String {
    let mut text = String::new();
    let mut heading = None;
    for finding in findings {
        let place = (&finding.stash, &finding.tier);
        if heading != Some(place) {
            heading = Some(place);
            let title = format!("{}: {}", finding.stash, finding.tier);
            text.push_str(&format!("\n{}\n", output.styled("1", &title)));
        }
        let verdict = match finding.level {
            Level::Ok => output.styled("32", "ok  "),
            Level::Warn => output.styled("33", "warn"),
            Level::Fail => output.styled("31", "FAIL"),
        };
        text.push_str(&format!("  {verdict}  {:11}  {}\n", finding.check, plain(&finding.figure)));
        if !finding.todo.is_empty() {
            text.push_str(&format!("                     -> {}\n", finding.todo));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let sum = match (count(Level::Fail), count(Level::Warn)) {
        (0, 0) => "every tier is fit".to_owned(),
        (0, warned) => format!("every tier can be used; {warned} to know about"),
        (failed, _) => format!("{failed} to mend before decant can run"),
    };
    format!("{text}\n{sum}\n")
}

type Facts = Vec<(String, serde_json::Value)>;

fn listeners(config: &Config) -> Facts {
    let facts = [
        ("data listener", json!(config.listen.to_string())),
        ("admin listener", json!(config.admin.listen.to_string())),
        ("admin token", json!(if config.admin.token.is_some() { "set" } else { "none" })),
        ("state", json!(config.state_dir.display().to_string())),
        ("log", json!(format!("{:?}, {:?}", config.log.format, config.log.level).to_lowercase())),
    ];
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Secrets appear only as present or absent.
fn facts(stash: &StashConfig) -> Facts {
    let kask = match &stash.kask.endpoint {
        KaskEndpoint::Embedded => "embedded".to_owned(),
        KaskEndpoint::Url(url) => url.clone(),
    };
    let redis = match &stash.redis {
        None => "none".to_owned(),
        Some(redis) => {
            let several = redis.shards.len() > 1;
            let name = |shard: &ShardConfig| if several { format!("{} ", shard.name) } else { String::new() };
            let shards: Vec<String> = redis.shards.iter().map(|shard| format!("{}{}", name(shard), shard.at)).collect();
            format!("{} ({} ms)", shards.join(", "), redis.timeout.as_millis())
        }
    };
    let ttl = match stash.default_ttl_s {
        0 => "never expires".to_owned(),
        seconds => format!("{seconds} s"),
    };
    let facts = [
        ("name", json!(stash.name)),
        ("base URI", json!(stash.base_uri.as_str())),
        ("first phase", json!(stash.phase.name())),
        ("kask", json!(format!("{kask} ({} ms)", stash.kask.timeout.as_millis()))),
        ("redis", json!(redis)),
        ("keys placed", json!(placed(stash))),
        ("values", json!(format!("{:?}", stash.serialization).to_lowercase())),
        ("hmac key", json!(if stash.hmac_key.is_some() { "set" } else { "none" })),
        ("time to live", json!(ttl)),
        ("replication", json!(format!("{:?}", stash.replication).to_lowercase())),
        ("on tier failure", json!(format!("{:?}", stash.on_tier_failure).to_lowercase())),
        ("lease", json!(format!("{} ms", stash.outbox.lease.as_millis()))),
    ];
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// How keys are spread over the shards.
fn placed(stash: &StashConfig) -> String {
    let Some(redis) = &stash.redis else { return "none".to_owned() };
    let how = match redis.distribution {
        Distribution::Single => "all on one shard".to_owned(),
        Distribution::Mediawiki => "as MediaWiki does".to_owned(),
        Distribution::Ketama { hash, tag } => {
            let tag = tag.map(|tag| format!(", hash_tag {}", tag.escape_ascii())).unwrap_or_default();
            format!("as nutcracker does: ketama, {}{tag}", hash.name())
        }
    };
    match redis.prefix.as_str() {
        "" => how,
        prefix => format!("{how}; prefix {prefix:?}"),
    }
}

fn table(facts: &[(String, serde_json::Value)], indent: usize) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let line = |(name, value): &(String, serde_json::Value)| {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{:indent$}{name:width$}  {shown}\n", "")
    };
    facts.iter().map(line).collect()
}
