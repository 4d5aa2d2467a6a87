//! What an operator has to look at, in words: told once, here, for the console and for `decant status`. Pure.

use super::views::{RecordView, StashView};
use crate::{
    backfill::{self, Hold, Outcome, RunView},
    phase::{Phase, record::State},
    stash::{ShardFigures, StashFigures, mover::FleetFigures},
};
use serde::{Deserialize, Serialize};

/// Intents older than this are not healed as they should be: the reaper comes after a lease of some 15 s.
const OLD_INTENT_MS: u64 = 120_000;
/// A shard that was not looked at for this long is not known.
const UNSEEN_MS: u64 = 2_000;
/// A move takes a second or so.
const LONG_MOVE_MS: u64 = 60_000;
/// Kask's errors over the last minute count from this many and this share on.
const KASK_ERRORS_MIN: u64 = 3;
const KASK_ERROR_SHARE: f64 = 0.01;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Look at it before the next step.
    Warn,
    /// Clients are failed, or data is at risk.
    Bad,
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attention {
    pub level: Level,
    pub what: String,
    /// What follows from it, or what to do.
    pub todo: String,
}

fn bad(what: impl Into<String>, todo: impl Into<String>) -> Attention {
    Attention { level: Level::Bad, what: what.into(), todo: todo.into() }
}

fn warn(what: impl Into<String>, todo: impl Into<String>) -> Attention {
    Attention { level: Level::Warn, what: what.into(), todo: todo.into() }
}

/// Everything about one stash, the worst first.
pub(super) fn attention(stash: &StashView, now_unix_ms: u64) -> Vec<Attention> {
    let mut list = Vec::new();
    let figures = &stash.figures;
    match &stash.record {
        None => list.push(unconfirmed(stash)),
        Some(record) => of_record(record, figures, now_unix_ms, &mut list),
    }
    if figures.redis_in_use {
        let moving = stash.record.as_ref().is_some_and(|record| record.state == State::Moving);
        figures.shards.iter().for_each(|shard| of_shard(shard, moving, &mut list));
        let evicted: u64 = figures.shards.iter().map(|shard| shard.evicted).sum();
        if evicted > 0 && stash.record.as_ref().is_some_and(|record| record.has(Phase::KaskFirst)) {
            list.push(warn(
                format!("Redis has evicted {evicted} keys since kask-first began"),
                "Kask has them; going back to dual-write, which reads Redis alone, would miss them",
            ));
        }
    }
    of_fleet(&stash.fleet, &mut list);
    of_kask(figures, stash.record.as_ref().map(|record| record.phase), &mut list);
    let damaged: u64 = figures.shards.iter().filter_map(|shard| shard.damaged).sum();
    if damaged > 0 {
        list.push(bad(
            format!("{damaged} copies were given up on: their keys' tiers differ for good"),
            "decant outbox damaged tells why; then decant outbox retry or drop. They block moves",
        ));
    }
    if let Some(since) = &figures.alone.since {
        list.push(match &figures.alone.trouble {
            Some(trouble) => bad(format!("writes have gone past Redis since {since}"), trouble.clone()),
            None => warn(
                format!("{} keys were written to Kask alone since {since}", figures.alone.keys),
                "they are healed once Redis is back; until then there is no way back",
            ),
        });
    }
    if let Some(run) = &stash.backfill {
        of_backfill(run, &mut list);
    }
    list.sort_by_key(|one| std::cmp::Reverse(one.level));
    list
}

fn unconfirmed(stash: &StashView) -> Attention {
    let why = stash.why_unconfirmed.as_deref().unwrap_or("the shards' fences have not been read yet");
    bad("the phase in force is not confirmed, and nothing is served", why)
}

fn of_record(record: &RecordView, figures: &StashFigures, now_unix_ms: u64, list: &mut Vec<Attention>) {
    let moving_ms = now_unix_ms.saturating_sub(record.since_unix_ms);
    if record.state == State::Moving && moving_ms > LONG_MOVE_MS {
        list.push(warn(
            format!("the move to {} has not settled for {} min", record.told(), moving_ms / 60_000),
            "intents of the phase before are still open, or a shard does not show the new fence; no other move can begin",
        ));
    }
    // What the journal still heals is told of by itself.
    if let (true, Some(since), None) =
        (record.has(Phase::RedisStandby), &record.mirror_unclean_since, &figures.alone.since)
    {
        list.push(warn(format!("Redis lacks writes since {since}"), "going back would lose them"));
    }
    if let (Phase::RedisOnly, Some(since)) = (record.phase, &record.kask_stale_since) {
        list.push(warn(
            format!("writes have gone past Kask since {since}"),
            "before dual-write it must be emptied: older values would be served again",
        ));
    }
    let hour = &figures.traffic.hour;
    if record.phase == Phase::DualWrite && hour.counts.differing > 0 {
        list.push(warn(
            format!(
                "Kask differed in {} of {} compared reads of the last hour",
                hour.counts.differing, hour.counts.compared
            ),
            "what was there before dual-write is missing until it is copied; decant inspect KEY shows both tiers",
        ));
    }
}

/// What it came to of itself, and nobody has looked at yet.
fn of_backfill(run: &RunView, list: &mut Vec<Attention>) {
    let why = || run.why.clone().unwrap_or_default();
    match run.state {
        backfill::State::Running => {
            if let Some(Hold { what, why: Some(why) }) = &run.held_by {
                list.push(warn(format!("the backfill waits for {}", what.name()), why.clone()));
            }
        }
        backfill::State::Paused => list.push(warn("the backfill is paused", why())),
        backfill::State::Void => list.push(warn("what the backfill has copied counts no more", why())),
        backfill::State::Finished if run.of(Outcome::Failed) > 0 => list.push(warn(
            format!("the backfill left {} keys for which a tier had failed", run.of(Outcome::Failed)),
            "decant backfill resume tries them again; decant backfill status --keys lists them",
        )),
        backfill::State::Finished | backfill::State::Cancelled => {}
    }
}

fn of_shard(shard: &ShardFigures, moving: bool, list: &mut Vec<Attention>) {
    let name = &shard.name;
    if !shard.up {
        let why = shard.why_down.as_deref().unwrap_or("no connection");
        list.push(bad(format!("Redis {name} ({}) is down", shard.address), why));
        return;
    }
    if matches!(shard.breaker.as_str(), "open" | "half-open") {
        list.push(bad(
            format!("Redis {name} ({}) is connected, but does not answer", shard.address),
            "it is not asked but for probes, until one of them is answered",
        ));
        return;
    }
    if let Some(suspect) = &shard.suspect {
        list.push(bad(
            format!("Redis {name} came back without acknowledged writes at {}: {}", suspect.since, suspect.extent()),
            "nothing is copied from what it held before, and moves wait: compare keys (decant inspect), then decant shard accept-loss",
        ));
    }
    if let Some(since) = &shard.mirror_lost_since {
        list.push(warn(
            format!("Redis {name} lost writes of the mirror, accepted at {since}"),
            "going back would lose them",
        ));
    }
    if let Some(ms) = shard.seen_ms_ago.filter(|ms| *ms >= UNSEEN_MS) {
        list.push(warn(
            format!("Redis {name} was last looked at {} s ago", ms / 1_000),
            "all its keys are read with care until it is looked at again",
        ));
    }
    // Raising it is what a move does.
    match shard.fence_version {
        Some(version) if shard.fence_differs && !moving => list.push(bad(
            format!("Redis {name} has fence {version}, which this decant does not follow"),
            "nothing begins on it until one gives way: see the log",
        )),
        None if shard.seen_ms_ago.is_some() && !moving => {
            list.push(bad(format!("Redis {name} has lost its fence"), "it is raised again from the record"));
        }
        _ => {}
    }
    if let Some(ms) = shard.oldest_ms.filter(|ms| *ms > OLD_INTENT_MS) {
        list.push(warn(
            format!("the oldest intent on Redis {name} is {} min old", ms / 60_000),
            "what has lost its writer is healed within a lease or two; does the other tier answer?",
        ));
    }
}

fn of_fleet(fleet: &FleetFigures, list: &mut Vec<Attention>) {
    if fleet.store != "etcd" {
        return;
    }
    if let Some(trouble) = &fleet.trouble {
        let what = "etcd is not reached: this decant serves in the phase it has, and nobody can move";
        list.push(bad(what, trouble.clone()));
        return;
    }
    for member in fleet.members.iter().filter(|member| member.standing != "follows") {
        let todo = match member.standing.as_str() {
            "silent" => format!(
                "no move begins until it is back or, if it is gone for good: decant fleet forget {}",
                member.name
            ),
            _ => "no move begins until it follows".to_owned(),
        };
        list.push(warn(format!("{} is {}, at version {}", member.name, member.standing, member.version), todo));
    }
    // Of this decant's own tiers more is told elsewhere.
    for member in fleet.members.iter().filter(|member| !member.here) {
        let shards = member.shards_away.iter().map(|shard| format!("Redis {shard}"));
        let away: Vec<String> = shards.chain(member.kask_away.then(|| "Kask".to_owned())).collect();
        if !away.is_empty() {
            let todo = "the guards of a move count it: see the status of that decant";
            list.push(warn(format!("{} cannot reach {}", member.name, away.join(", ")), todo));
        }
    }
}

fn of_kask(figures: &StashFigures, phase: Option<Phase>, list: &mut Vec<Attention>) {
    if phase.is_none_or(|phase| !phase.uses_kask()) {
        return;
    }
    let minute = &figures.traffic.minute.counts;
    if !figures.kask_up {
        list.push(bad(
            "Kask does not answer",
            "its last requests failed; what a fallback hides, clients do not notice",
        ));
    } else if minute.kask_errors >= KASK_ERRORS_MIN
        && minute.kask_error_share().is_some_and(|share| share > KASK_ERROR_SHARE)
    {
        list.push(warn(
            format!("Kask failed {} of {} requests of the last minute", minute.kask_errors, minute.kask_requests),
            "Redis hides it only until redis-standby; do not move forward before it is over",
        ));
    }
}

#[cfg(test)]
mod tests;
