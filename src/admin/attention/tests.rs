use super::*;
use crate::{
    stash::{SuspectFigures, alone::AloneFigures, mover::MemberFigures, traffic::Counts},
    verify::Brief,
};

const NOW: u64 = 10_000_000;

/// Settled in a phase, with everything well.
fn well(phase: Phase) -> StashView {
    let shard = ShardFigures {
        name: "main".into(),
        address: "127.0.0.1:6379/0".into(),
        up: true,
        fence_version: Some(3),
        seen_ms_ago: Some(50),
        damaged: Some(0),
        ..ShardFigures::default()
    };
    let record = serde_json::json!({
        "phase": phase, "version": 3, "state": "settled", "since": "x", "since_unix_ms": NOW - 1_000, "by": "me", "reason": "r",
        "forced": false, "member": "m", "kask_stale_since": null, "mirror_unclean_since": null
    });
    StashView {
        name: "s".into(),
        confirmed: true,
        why_unconfirmed: None,
        own: true,
        record: Some(serde_json::from_value(record).unwrap()),
        attention: Vec::new(),
        fleet: FleetFigures::default(),
        figures: StashFigures { redis_in_use: true, kask_up: true, shards: vec![shard], ..StashFigures::default() },
        backfill: None,
        verify: Brief::default(),
    }
}

fn backfill(state: &str, failed: u64, waits_for: Option<&str>) -> Option<RunView> {
    let run = serde_json::json!({
        "state": state, "why": null, "by": "me", "begun_unix_ms": 1, "changed_unix_ms": 2, "phase": "kask-first", "version": 3,
        "filters": {}, "limits": { "keys_per_s": 0, "bytes_per_s": 0 }, "share": 0.5, "left_s": null, "keys_per_s": 0.0,
        "bytes_per_s": 0.0, "held_by": { "what": "kask", "why": waits_for }, "braked_to": null, "keys": { "failed": failed },
        "not_moved": failed, "reasons": {}, "bytes": 0, "walked": {}, "ages": {}, "shards": [], "listed": 0, "unlisted": 0,
        "complete": null
    });
    Some(serde_json::from_value(run).unwrap())
}

/// What is told after `change`, as `bad: …` or `warn: …`.
fn told(phase: Phase, change: impl FnOnce(&mut StashView)) -> Vec<String> {
    let mut stash = well(phase);
    change(&mut stash);
    attention(&stash, NOW).into_iter().map(|one| format!("{:?}: {}", one.level, one.what)).collect()
}

fn shard(stash: &mut StashView) -> &mut ShardFigures {
    &mut stash.figures.shards[0]
}

fn record(stash: &mut StashView) -> &mut RecordView {
    stash.record.as_mut().unwrap()
}

#[test]
fn where_all_is_well_nothing_is_told() {
    for phase in Phase::ALL {
        assert!(told(phase, |_| {}).is_empty(), "{phase}");
    }
}

#[test]
fn each_trouble_is_told_alone() {
    let first = Phase::KaskFirst;
    assert_eq!(told(first, |s| s.record = None), ["Bad: the phase in force is not confirmed, and nothing is served"]);
    assert_eq!(told(first, |s| shard(s).up = false), ["Bad: Redis main (127.0.0.1:6379/0) is down"]);
    let suspect =
        SuspectFigures { since: "x".into(), writes_seen: 9, writes_kept: Some(7), ..SuspectFigures::default() };
    let lost =
        ["Bad: Redis main came back without acknowledged writes at x: 2 of the 9 writes that were counted are missing"];
    assert_eq!(told(first, |s| shard(s).suspect = Some(suspect)), lost);
    let mirror = ["Warn: Redis main lost writes of the mirror, accepted at x"];
    assert_eq!(told(Phase::RedisStandby, |s| shard(s).mirror_lost_since = Some("x".into())), mirror);
    assert_eq!(told(first, |s| shard(s).evicted = 3), ["Warn: Redis has evicted 3 keys since kask-first began"]);
    assert!(told(Phase::DualWrite, |s| shard(s).evicted = 3).is_empty(), "it counts from kask-first on");
    let hangs = ["Bad: Redis main (127.0.0.1:6379/0) is connected, but does not answer"];
    assert_eq!(told(first, |s| shard(s).breaker = "open".into()), hangs);
    assert_eq!(told(first, |s| shard(s).seen_ms_ago = Some(5_000)), ["Warn: Redis main was last looked at 5 s ago"]);
    let differs = ["Bad: Redis main has fence 3, which this decant does not follow"];
    assert_eq!(told(first, |s| shard(s).fence_differs = true), differs);
    assert_eq!(told(first, |s| shard(s).fence_version = None), ["Bad: Redis main has lost its fence"]);
    assert_eq!(
        told(first, |s| shard(s).oldest_ms = Some(180_000)),
        ["Warn: the oldest intent on Redis main is 3 min old"]
    );
    let damaged = ["Bad: 2 copies were given up on: their keys' tiers differ for good"];
    assert_eq!(told(first, |s| shard(s).damaged = Some(2)), damaged);
    assert_eq!(told(first, |s| s.figures.kask_up = false), ["Bad: Kask does not answer"]);
    let failing = Counts { kask_requests: 100, kask_errors: 3, ..Counts::default() };
    let told_of = ["Warn: Kask failed 3 of 100 requests of the last minute"];
    assert_eq!(told(first, |s| s.figures.traffic.minute.counts = failing), told_of);
    let long = |s: &mut StashView| {
        record(s).state = State::Moving;
        record(s).since_unix_ms = NOW - 120_000;
    };
    assert_eq!(told(first, long), ["Warn: the move to kask-first has not settled for 2 min"]);
    let alone = AloneFigures { keys: 7, since: Some("then".into()), ..AloneFigures::default() };
    let lone = |alone: AloneFigures| move |s: &mut StashView| s.figures.alone = alone;
    let standby = Phase::RedisStandby;
    assert_eq!(told(standby, lone(alone.clone())), ["Warn: 7 keys were written to Kask alone since then"]);
    let trouble = AloneFigures { trouble: Some("damaged".into()), ..alone };
    assert_eq!(told(standby, lone(trouble)), ["Bad: writes have gone past Redis since then"]);
    let unclean = |s: &mut StashView| record(s).mirror_unclean_since = Some("then".into());
    assert_eq!(told(standby, unclean), ["Warn: Redis lacks writes since then"]);
    let stale = |s: &mut StashView| record(s).kask_stale_since = Some("then".into());
    assert_eq!(told(Phase::RedisOnly, stale), ["Warn: writes have gone past Kask since then"]);
    let compared = Counts { compared: 50, differing: 1, ..Counts::default() };
    let differed = ["Warn: Kask differed in 1 of 50 compared reads of the last hour"];
    assert_eq!(told(Phase::DualWrite, |s| s.figures.traffic.hour.counts = compared), differed);
}

#[test]
fn what_a_phase_does_not_use_may_be_away_and_a_move_raises_fences() {
    assert!(told(Phase::RedisOnly, |s| s.figures.kask_up = false).is_empty());
    let retired = |s: &mut StashView| {
        s.figures.redis_in_use = false;
        shard(s).up = false;
    };
    assert!(told(Phase::KaskOnly, retired).is_empty());
    let moving = |s: &mut StashView| {
        record(s).state = State::Moving;
        shard(s).fence_differs = true;
    };
    assert!(told(Phase::KaskFirst, moving).is_empty());
}

#[test]
fn the_worst_comes_first() {
    let both = |s: &mut StashView| {
        shard(s).seen_ms_ago = Some(5_000);
        s.figures.kask_up = false;
    };
    assert_eq!(told(Phase::KaskFirst, both)[0], "Bad: Kask does not answer");
}

#[test]
fn who_holds_moves_up_is_named_and_so_is_an_etcd_that_is_away() {
    let silent =
        MemberFigures { name: "two".into(), standing: "silent".into(), version: 3, ..MemberFigures::default() };
    let follows = MemberFigures { name: "one".into(), standing: "follows".into(), ..MemberFigures::default() };
    let cut_off =
        MemberFigures { name: "three".into(), kask_away: true, shards_away: vec!["main".into()], ..follows.clone() };
    let of = |members: &[&MemberFigures], trouble: Option<&str>| {
        let members = members.iter().map(|member| (*member).clone()).collect();
        let fleet = FleetFigures { store: "etcd".into(), trouble: trouble.map(str::to_owned), proposal: None, members };
        told(Phase::KaskFirst, |stash| stash.fleet = fleet)
    };
    assert!(of(&[&follows], None).is_empty());
    assert_eq!(of(&[&follows, &silent], None), ["Warn: two is silent, at version 3"]);
    assert_eq!(of(&[&follows, &cut_off], None), ["Warn: three cannot reach Redis main, Kask"]);
    assert!(of(&[&MemberFigures { here: true, ..cut_off.clone() }], None).is_empty());
    let away = of(&[&follows, &silent], Some("no answer"));
    assert!(matches!(&away[..], [one] if one.starts_with("Bad: etcd is not reached")), "{away:?}");
}

#[test]
fn a_backfill_is_told_of_where_it_needs_somebody() {
    let of = |state, failed, waits| told(Phase::KaskFirst, |s| s.backfill = backfill(state, failed, waits));
    for (state, failed) in [("running", 1), ("finished", 0), ("cancelled", 1)] {
        assert!(of(state, failed, None).is_empty(), "{state}");
    }
    assert_eq!(of("running", 0, Some("it does not answer")), ["Warn: the backfill waits for kask"]);
    assert_eq!(of("paused", 0, None), ["Warn: the backfill is paused"]);
    assert_eq!(of("void", 0, None), ["Warn: what the backfill has copied counts no more"]);
    assert_eq!(of("finished", 3, None), ["Warn: the backfill left 3 keys for which a tier had failed"]);
}
