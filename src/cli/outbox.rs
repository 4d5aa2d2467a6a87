//! `decant outbox`: what is under way between the tiers, and what was given up on.

use super::{
    Exit, Failure, Global, Output,
    client::{self, Client},
    text::{count, length, plain, table},
};
use crate::admin::views::{OutboxView, ShardOutboxView};
use reqwest::Method;
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub struct OutboxArgs {
    #[command(subcommand)]
    command: OutboxCommand,
    /// The stash; may be left out where there is only one
    #[arg(long, global = true, value_name = "NAME")]
    stash: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum OutboxCommand {
    /// Open intents by shard
    List,
    /// Intents given up on, with the reason; exit 1 if there are any
    Damaged {
        /// Show keys, which are personal data
        #[arg(long)]
        keys: bool,
    },
    /// Try a damaged intent again
    Retry {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Forget a damaged intent: its key's tiers stay as they are, and may differ for good
    Drop {
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub(super) fn run(global: &Global, args: &OutboxArgs, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(global)?;
    client::block_on(async {
        let stash = client.stash(args.stash.as_deref()).await?;
        match &args.command {
            OutboxCommand::List => {
                let (document, view): (Value, OutboxView) = client.get(&format!("/v1/stashes/{stash}/outbox")).await?;
                shown(global, output, &document, || listed(&view))?;
                Ok(Exit::Done)
            }
            OutboxCommand::Damaged { keys } => {
                let query = if *keys { "?keys=1" } else { "" };
                let (document, view): (Value, OutboxView) =
                    client.get(&format!("/v1/stashes/{stash}/outbox{query}")).await?;
                shown(global, output, &document, || damaged(&view))?;
                Ok(if view.damaged > 0 { Exit::Found } else { Exit::Done })
            }
            OutboxCommand::Retry { id } => judge(global, output, &client, Method::POST, &stash, id).await,
            OutboxCommand::Drop { id } => judge(global, output, &client, Method::DELETE, &stash, id).await,
        }
    })
}

fn shown(global: &Global, output: &mut Output, document: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if global.json { output.json(document) } else { output.out(&text()) }
}

async fn judge(
    global: &Global,
    output: &mut Output,
    client: &Client,
    method: Method,
    stash: &str,
    id: &str,
) -> Result<Exit, Failure> {
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Failure::usage("an id is 32 hex digits, as `decant outbox damaged` shows it"));
    }
    match client.call(method, &format!("/v1/stashes/{stash}/damaged/{id}"), Some(&json!({}))).await? {
        Ok(document) => {
            shown(global, output, &document, || {
                format!("{id} {}\n", document.get("now").and_then(Value::as_str).unwrap_or("done"))
            })?;
            Ok(Exit::Done)
        }
        Err(refusal) => Err(Failure { exit: Exit::Failed, message: refusal.detail() }),
    }
}

fn listed(view: &OutboxView) -> String {
    let shard = |shard: &ShardOutboxView| {
        let number = |n: Option<u64>| n.map_or_else(|| "not seen yet".to_owned(), count);
        let oldest = shard.oldest_ms.map(|ms| format!(", the oldest {} old", length(ms))).unwrap_or_default();
        let line = format!(
            "{} to Kask, {} to Redis, {} damaged{oldest}",
            number(shard.to_kask),
            number(shard.to_redis),
            number(shard.damaged)
        );
        (plain(&shard.name), line)
    };
    table(&view.shards.iter().map(shard).collect::<Vec<_>>(), 0)
}

fn damaged(view: &OutboxView) -> String {
    let mut text = String::new();
    for shard in &view.shards {
        if let Some(error) = &shard.error {
            text.push_str(&format!("shard {}: {}\n", plain(&shard.name), plain(error)));
        }
        for intent in &shard.damaged_intents {
            let key = intent.key.as_deref().map_or_else(|| format!("key sha256:{}", intent.key_sha256), plain);
            text.push_str(&format!(
                "{}  to {}, {} tries, since {}, {key}\n    {}\n",
                intent.id,
                plain(&intent.direction),
                intent.tries,
                plain(&intent.since),
                plain(&intent.reason)
            ));
        }
    }
    if text.is_empty() { "nothing is damaged\n".to_owned() } else { text }
}
