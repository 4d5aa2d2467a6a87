//! What the stashes tell of themselves.

use super::{
    Managed,
    attention::attention,
    views::{
        AheadView, FleetView, ReadyView, RecordView, ShardDownView, StashReadyView, StashView, StatusView, TrafficView,
    },
};
use crate::{
    dialect::About,
    phase::Phase,
    stash::{
        StashFigures,
        mover::{Mover, unix_ms},
    },
};
use tokio::time::Instant;

pub(super) fn status(stashes: &[Managed], about: &About, started: Instant) -> StatusView {
    StatusView {
        version: about.version.clone(),
        member: stashes.first().map(|stash| stash.mover.member().to_owned()).unwrap_or_default(),
        uptime_s: started.elapsed().as_secs(),
        ready: ready(stashes).ready,
        stashes: stashes.iter().map(stash).collect(),
    }
}

pub(super) fn stash(managed: &Managed) -> StashView {
    let mover = &managed.mover;
    let record = mover.shown();
    let stash = mover.stash();
    let mut view = StashView {
        name: stash.name.clone(),
        confirmed: stash.is_confirmed(),
        why_unconfirmed: mover.why_unconfirmed(),
        own: mover.may_move_here(),
        record: record.as_deref().map(RecordView::from),
        attention: Vec::new(),
        fleet: mover.fleet(),
        figures: stash.figures(),
        backfill: managed.backfill.view(false).run,
        verify: managed.verifier.brief(),
    };
    view.attention = attention(&view, unix_ms());
    view
}

pub(super) fn fleet(mover: &Mover) -> FleetView {
    let record = mover.shown();
    FleetView {
        stash: mover.stash().name.clone(),
        member: mover.member().to_owned(),
        version: record.as_ref().map(|record| record.version),
        phase: record.as_ref().map(|record| record.phase),
        ahead: record.as_deref().and_then(AheadView::of),
        fleet: mover.fleet(),
    }
}

pub(super) fn traffic(mover: &Mover) -> TrafficView {
    let stash = mover.stash();
    TrafficView { stash: stash.name.clone(), windows: stash.windows(), slots: stash.slots() }
}

/// Ready is who serves: every phase is confirmed. A tier that is away changes nothing about that, but is told.
pub(super) fn ready(stashes: &[Managed]) -> ReadyView {
    let stashes: Vec<StashReadyView> = stashes.iter().map(|stash| stash_ready(&stash.mover)).collect();
    ReadyView { ready: stashes.iter().all(|stash| stash.ready), stashes }
}

fn stash_ready(mover: &Mover) -> StashReadyView {
    let stash = mover.stash();
    let figures = stash.figures();
    let ready = stash.is_confirmed();
    let why = match mover.why_unconfirmed() {
        _ if ready => None,
        Some(why) => Some(format!("the phase in force is not confirmed yet: {why}")),
        None => Some("the phase in force is not confirmed yet".to_owned()),
    };
    let kask_down = kask_down(mover, &figures).map(str::to_owned);
    let down = figures.shards.into_iter().filter(|shard| figures.redis_in_use && !shard.up);
    let shards_down = down
        .map(|shard| ShardDownView { name: shard.name, why: shard.why_down.unwrap_or_else(|| "no connection".into()) })
        .collect();
    StashReadyView { name: stash.name.clone(), ready, why, shards_down, kask_down }
}

/// As far as its last answers tell: nobody is asked for this page's sake.
fn kask_down(mover: &Mover, figures: &StashFigures) -> Option<&'static str> {
    let record = mover.shown()?;
    let in_use = record.phase.uses_kask() || record.has(Phase::DualWrite);
    match figures.kask_breaker.as_str() {
        _ if !in_use || figures.kask_up => None,
        "" | "closed" => Some("its last answers were failures"),
        _ => Some("it does not answer, and is not asked but for probes"),
    }
}
