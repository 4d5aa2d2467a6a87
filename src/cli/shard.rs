//! `decant shard`: the Redis shards of a stash, and an operator's word on one that lost writes.

use super::{
    Exit, Failure, Global, Output,
    client::{self, Client, user},
    text::{count, length, plain, table},
};
use crate::{
    admin::views::{LossAcceptedView, ShardsView},
    stash::ShardFigures,
};
use anyhow::Context as _;
use reqwest::Method;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub struct ShardArgs {
    #[command(subcommand)]
    command: ShardCommand,
    /// The stash; may be left out where there is only one
    #[arg(long, global = true, value_name = "NAME")]
    stash: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum ShardCommand {
    /// The shards: whether they answer, and whether they lost writes; exit 1 if one is suspect
    Show {
        /// One shard only
        #[arg(value_name = "SHARD")]
        shard: Option<String>,
    },
    /// Accept that a Redis came back without writes that it had acknowledged: what it holds counts again
    AcceptLoss {
        #[arg(value_name = "SHARD")]
        shard: String,
        /// Why; it stays with the shard
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who accepts it [default: the user that runs this]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
}

pub(super) fn run(global: &Global, args: &ShardArgs, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(global)?;
    client::block_on(async {
        let stash = client.stash(args.stash.as_deref()).await?;
        let (mut document, view): (_, ShardsView) = client.get(&format!("/v1/stashes/{stash}/shards")).await?;
        let known: Vec<&str> = view.shards.iter().map(|shard| shard.name.as_str()).collect();
        let one = match &args.command {
            ShardCommand::Show { shard } => shard.as_deref(),
            ShardCommand::AcceptLoss { shard, .. } => Some(shard.as_str()),
        };
        // Before it becomes a part of a path.
        if let Some(one) = one.filter(|one| !known.contains(one)) {
            return Err(Failure::usage(format!(
                "there is no shard {}; the stash has {}",
                plain(one),
                known.join(", ")
            )));
        }
        let is_shown = |name: &str| one.is_none_or(|one| one == name);
        match &args.command {
            ShardCommand::Show { .. } => {
                if let Some(shards) = document["shards"].as_array_mut() {
                    shards.retain(|shard| shard["name"].as_str().is_some_and(is_shown));
                }
                let shown: Vec<&ShardFigures> = view.shards.iter().filter(|shard| is_shown(&shard.name)).collect();
                match global.json {
                    true => output.json(&document)?,
                    false => {
                        output.out(&shown.iter().map(|shard| told(shard, &view.after_loss)).collect::<String>())?
                    }
                }
                Ok(if shown.iter().any(|shard| shard.suspect.is_some()) { Exit::Found } else { Exit::Done })
            }
            ShardCommand::AcceptLoss { shard, reason, by } => {
                let path = format!("/v1/stashes/{stash}/shards/{shard}/accept-loss");
                let body = json!({ "reason": reason, "by": by.clone().unwrap_or_else(user) });
                match client.call(Method::POST, &path, Some(&body)).await? {
                    Ok(document) if global.json => output.json(&document)?,
                    Ok(document) => {
                        let view: LossAcceptedView =
                            serde_json::from_value(document).context("the answer is not as it should be")?;
                        output.out(&format!(
                            "{}: the loss is accepted: {}\n",
                            plain(&view.shard),
                            plain(&view.accepted)
                        ))?;
                    }
                    Err(refusal) => return Err(Failure { exit: Exit::Failed, message: refusal.detail() }),
                }
                Ok(Exit::Done)
            }
        }
    })
}

fn told(shard: &ShardFigures, after_loss: &str) -> String {
    let state = match (shard.up, &shard.why_down) {
        (true, _) => "up".to_owned(),
        (false, why) => format!("down: {}", plain(why.as_deref().unwrap_or("no connection"))),
    };
    let mut rows = vec![("address", plain(&shard.address)), ("state", state)];
    match &shard.suspect {
        None if shard.seen_ms_ago.is_none() => rows.push(("writes", "not looked at yet".to_owned())),
        None => rows.push(("writes", "it has what it acknowledged, as far as is known".to_owned())),
        Some(suspect) => {
            rows.push((
                "writes",
                format!("LOST, noticed at {} by {}", plain(&suspect.since), plain(&suspect.noticed_by)),
            ));
            rows.push(("missing", suspect.extent()));
            rows.push(("dropped", format!("{} copies to Kask that were of before", count(suspect.copies_dropped))));
            let fallbacks = match after_loss {
                "hold" => "a miss, until the loss is accepted",
                _ => "served, although it may be older than what Kask had",
            };
            rows.push((
                "only there",
                format!("what only this Redis has is {fallbacks} (after_loss = {})", plain(after_loss)),
            ));
        }
    }
    if shard.quiet_ms > 0 {
        rows.push((
            "came back",
            format!("just now; nothing is copied from what it held before for {}", length(shard.quiet_ms)),
        ));
    }
    if let Some(accepted) = &shard.loss_accepted {
        rows.push(("accepted", plain(accepted)));
    }
    if let Some(since) = &shard.mirror_lost_since {
        rows.push(("mirror", format!("lacks writes since {}", plain(since))));
    }
    if shard.evicted > 0 {
        rows.push(("evicted", format!("{} keys since kask-first began", count(shard.evicted))));
    }
    let rows: Vec<(String, String)> = rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    format!("{}\n{}", plain(&shard.name), table(&rows, 2))
}
