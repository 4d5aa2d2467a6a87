//! `decant fleet`: who serves the stash beside this decant, how each follows, and that one is gone.

use super::{
    Exit, Failure, Global, Output,
    client::{self, Client, user},
    text::{ago, plain, table},
};
use crate::{
    admin::views::FleetView,
    stash::mover::{MemberFigures, unix_ms},
};
use reqwest::Method;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub struct FleetArgs {
    #[command(subcommand)]
    command: FleetCommand,
    /// The stash; may be left out where there is only one
    #[arg(long, global = true, value_name = "NAME")]
    stash: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum FleetCommand {
    /// Every decant of the fleet, with the version of the phase that it follows; exit 1 if one holds moves up
    Show,
    /// Declare a silent decant gone for good: no move waits for it any more
    Forget {
        #[arg(value_name = "MEMBER")]
        member: String,
        /// Why; it stays in the history
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who says so [default: the user that runs this]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
}

pub(super) fn run(global: &Global, args: &FleetArgs, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(global)?;
    client::block_on(async {
        let stash = client.stash(args.stash.as_deref()).await?;
        let path = format!("/v1/stashes/{stash}/fleet");
        match &args.command {
            FleetCommand::Show => {
                let (document, view): (_, FleetView) = client.get(&path).await?;
                match global.json {
                    true => output.json(&document)?,
                    false => output.out(&shown(&view, unix_ms()))?,
                }
                Ok(if holds_up(&view) { Exit::Found } else { Exit::Done })
            }
            FleetCommand::Forget { member, reason, by } => {
                let body = json!({ "reason": reason, "by": by.clone().unwrap_or_else(user) });
                match client.call(Method::DELETE, &format!("{path}/{member}"), Some(&body)).await? {
                    Ok(document) if global.json => output.json(&document)?,
                    Ok(_) => {
                        output.out(&format!("{} is of the fleet no more; moves do not wait for it\n", plain(member)))?
                    }
                    Err(refusal) => return Err(Failure { exit: Exit::Found, message: refusal.detail() }),
                }
                Ok(Exit::Done)
            }
        }
    })
}

fn holds_up(view: &FleetView) -> bool {
    let fleet = &view.fleet;
    fleet.store == "etcd"
        && (fleet.trouble.is_some() || fleet.members.iter().any(|member| member.standing != "follows"))
}

fn shown(view: &FleetView, now_unix_ms: u64) -> String {
    let fleet = &view.fleet;
    let record = match (view.phase, view.version) {
        (Some(phase), Some(version)) => format!("{phase}, version {version}"),
        _ => "not known yet".to_owned(),
    };
    let kept = match fleet.store.as_str() {
        "etcd" => "in etcd, shared by the fleet".to_owned(),
        _ => "by the decant that the fence names, which alone may move".to_owned(),
    };
    let mut rows = vec![("stash", plain(&view.stash)), ("phase", record), ("record", kept)];
    rows.extend(view.ahead.as_ref().map(|ahead| ("ahead", plain(&format!("{} in {}", ahead.text, ahead.phase)))));
    rows.extend(fleet.trouble.as_deref().map(|trouble| ("trouble", plain(trouble))));
    rows.extend(fleet.proposal.as_deref().map(|proposal| ("move", plain(proposal))));
    let rows: Vec<(String, String)> = rows.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    let members: Vec<(String, String)> =
        fleet.members.iter().map(|member| (plain(&member.name), of_member(member, now_unix_ms))).collect();
    format!("{}\n{}", table(&rows, 0), table(&members, 0))
}

/// One line.
pub(super) fn of_member(member: &MemberFigures, now_unix_ms: u64) -> String {
    let mut text = format!("{}, version {}", plain(&member.standing), member.version);
    text.extend(member.phase.map(|phase| format!(" ({phase})")));
    text += &format!(", decant {}", plain(&member.decant));
    text.extend(member.said_unix_ms.map(|at| format!(", said so {}", ago(at, now_unix_ms))));
    text.extend(member.silent_since_unix_ms.map(|since| format!(", silent since {}", ago(since, now_unix_ms))));
    let away: Vec<String> = member.shards_away.iter().map(|shard| plain(shard)).collect();
    let redis = format!("Redis {} is away for it", away.join(", "));
    for (is, what) in [
        (member.named, "the fence names it"),
        (member.here, "this one"),
        (member.kask_away, "Kask is away for it"),
        (!away.is_empty(), &redis),
    ] {
        if is {
            text += &format!(", {what}");
        }
    }
    if let Some(alone) = &member.written_alone {
        text += &format!("; {}", plain(alone));
    }
    text
}
