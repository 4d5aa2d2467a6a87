//! The checker shown each kind of violation, and histories that are right.

use super::{
    checker::{Kind, Left, Violation, check, check_left},
    history::{Action, Attempt, Epoch, Op, Sample, Told},
};
use Action::{Add, Delete, Get, Set};
use Told::{Done, Exists, Hit, Missing, Unknown};

/// `(began, ended, action, told)` on one key through one decant, each of another client.
type Line = (u64, u64, Action, Told);

fn epoch_in(phase: &'static str, initial: Option<u64>, lines: &[Line]) -> Epoch {
    let op = |(client, &(began, ended, action, told)): (usize, &Line)| Op {
        client,
        decant: 0,
        key: 0,
        action,
        began,
        ended,
        told,
    };
    Epoch {
        initial: [(0, initial)].into(),
        ops: lines.iter().enumerate().map(op).collect(),
        samples: vec![vec![sample(0, 0), sample(1_000, 0)]],
        attempts: vec![Attempt { version: 1, phase, asked: 0 }],
    }
}

fn sample(at: u64, redis_failures: u64) -> Sample {
    Sample { asked: at, answered: at, life: 0, redis_failures, version: 1, settled: false }
}

fn epoch(initial: Option<u64>, lines: &[Line]) -> Epoch {
    epoch_in("kask-first", initial, lines)
}

fn kinds(epoch: &Epoch) -> Vec<Kind> {
    check(epoch).violations.iter().map(|violation| violation.kind).collect()
}

fn left(epoch: &Epoch, phase: &str, redis: Option<u64>, kask: Option<u64>) -> Vec<Kind> {
    let mut found: Vec<Violation> = Vec::new();
    check_left(epoch, phase, Left { key: 0, redis, kask, may_lack: false }, &mut found);
    found.iter().map(|violation| violation.kind).collect()
}

#[test]
fn each_kind_of_wrong_answer_is_flagged() {
    let set = (10, 20, Set(1), Done);
    let cases: [(&str, Option<u64>, Vec<Line>, Kind); 13] = [
        ("the value before the acknowledged one", Some(7), vec![set, (30, 40, Get, Hit(7))], Kind::WentBack),
        ("an older set", None, vec![set, (30, 40, Set(2), Done), (50, 60, Get, Hit(1))], Kind::WentBack),
        ("a tier error told as 404", None, vec![set, (30, 40, Get, Missing)], Kind::FalseMiss),
        ("a lost initial value", Some(7), vec![(30, 40, Get, Missing)], Kind::FalseMiss),
        ("deleted and back", None, vec![set, (30, 40, Delete, Done), (50, 60, Get, Hit(1))], Kind::Returned),
        (
            "deleted in an earlier life and back",
            Some(7),
            vec![(10, 20, Delete, Done), (50, 60, Get, Hit(7))],
            Kind::Returned,
        ),
        ("nobody wrote it", None, vec![set, (30, 40, Get, Hit(9))], Kind::FromNowhere),
        ("read before it was written", None, vec![(1, 5, Get, Hit(1)), set], Kind::FromNowhere),
        ("a body that nobody wrote", None, vec![(1, 5, Get, Told::Corrupt)], Kind::FromNowhere),
        (
            "of unknown outcome, but seen, then overwritten, and back",
            None,
            vec![(10, 20, Set(1), Unknown(503)), (21, 25, Get, Hit(1)), (30, 40, Set(2), Done), (50, 60, Get, Hit(1))],
            Kind::WentBack,
        ),
        ("an add over a value", Some(7), vec![(10, 20, Add(1), Done)], Kind::FalseAdd),
        ("an add refused for nothing", None, vec![(10, 20, Add(1), Exists)], Kind::FalseExists),
        (
            "an add refused after a delete",
            Some(7),
            vec![(1, 5, Delete, Done), (10, 20, Add(1), Exists)],
            Kind::FalseExists,
        ),
    ];
    for (what, initial, lines, kind) in cases {
        assert_eq!(kinds(&epoch(initial, &lines)), [kind], "{what}");
    }
}

#[test]
fn right_histories_are_accepted() {
    let unknown = (10, 20, Set(1), Unknown(503));
    let histories: [(&str, Option<u64>, Vec<Line>); 10] = [
        ("nothing happens", Some(7), vec![(1, 2, Get, Hit(7)), (3, 4, Get, Hit(7))]),
        (
            "set, read, delete, read",
            None,
            vec![(1, 2, Set(1), Done), (3, 4, Get, Hit(1)), (5, 6, Delete, Done), (7, 8, Get, Missing)],
        ),
        (
            "a read beside a write sees either",
            Some(7),
            vec![(10, 40, Set(1), Done), (15, 20, Get, Hit(7)), (16, 21, Get, Hit(1)), (22, 30, Get, Hit(7))],
        ),
        (
            "two writes race, either order shows until one is over",
            None,
            vec![(10, 40, Set(1), Done), (20, 50, Set(2), Done), (60, 70, Get, Hit(1)), (80, 90, Get, Hit(2))],
        ),
        ("unknown: not done", Some(7), vec![unknown, (30, 40, Get, Hit(7))]),
        (
            "unknown: done late, after a later write",
            Some(7),
            vec![unknown, (30, 40, Set(2), Done), (50, 60, Get, Hit(1))],
        ),
        ("an unknown delete", Some(7), vec![(10, 20, Delete, Unknown(0)), (30, 40, Get, Missing)]),
        (
            "an add beside a delete",
            Some(7),
            vec![(10, 40, Delete, Done), (15, 30, Add(1), Done), (50, 60, Get, Hit(1))],
        ),
        ("an add refused for an unknown set", None, vec![unknown, (30, 40, Add(2), Exists), (50, 60, Get, Missing)]),
        ("a read that fails tells nothing", Some(7), vec![(10, 20, Set(1), Done), (30, 40, Get, Unknown(503))]),
    ];
    for (what, initial, lines) in histories {
        assert_eq!(kinds(&epoch(initial, &lines)), [], "{what}");
    }
}

#[test]
fn what_is_left_must_be_the_newest_acknowledged_write_on_both_tiers() {
    let written = epoch(Some(7), &[(10, 20, Set(1), Done), (30, 40, Set(2), Done), (50, 60, Set(3), Unknown(503))]);
    assert_eq!(left(&written, "kask-first", Some(2), Some(2)), []);
    assert_eq!(left(&written, "kask-first", Some(3), Some(3)), [], "what is unknown may have been done");
    assert_eq!(left(&written, "kask-first", Some(1), Some(1)), [Kind::Lost]);
    assert_eq!(left(&written, "redis-standby", Some(7), Some(7)), [Kind::Lost]);
    assert_eq!(left(&written, "dual-write", None, None), [Kind::Lost]);
    assert_eq!(left(&written, "dual-write", Some(2), Some(1)), [Kind::TiersDiffer]);
    assert_eq!(left(&written, "redis-standby", None, Some(2)), [Kind::TiersDiffer]);
    assert_eq!(left(&written, "kask-first", Some(2), None), [Kind::TiersDiffer]);
    assert_eq!(left(&written, "redis-only", Some(2), Some(1)), [], "nobody writes or reads Kask there");
    assert_eq!(left(&written, "kask-only", Some(1), Some(2)), [], "nor Redis there");
    let deleted = epoch(Some(7), &[(10, 20, Delete, Done)]);
    assert_eq!(left(&deleted, "kask-first", None, None), []);
    assert_eq!(left(&deleted, "kask-first", Some(7), Some(7)), [Kind::Lost], "a deleted key is back");
    assert_eq!(left(&deleted, "redis-standby", None, Some(7)), [Kind::Lost, Kind::TiersDiffer]);
    let mut found = Vec::new();
    let lacking = Left { key: 0, redis: Some(7), kask: None, may_lack: true };
    assert_eq!(check_left(&epoch(Some(7), &[]), "dual-write", lacking, &mut found), Some(7));
    assert!(found.is_empty(), "Kask may lack what was written before it was");
    check_left(&epoch(Some(7), &[]), "kask-first", lacking, &mut found);
    assert_eq!(found.iter().map(|v| v.kind).collect::<Vec<_>>(), [Kind::TiersDiffer], "it was read, and not copied");
    found.clear();
    check_left(&epoch(Some(7), &[]), "redis-standby", lacking, &mut found);
    assert_eq!(found.iter().map(|v| v.kind).collect::<Vec<_>>(), [Kind::Lost, Kind::TiersDiffer]);
}

/// One client: what it was told counts for itself, whatever others do, and also where a tier that its phase does not need is away.
#[test]
fn a_client_never_reads_behind_its_own_write() {
    let own = |lines: &[Line]| {
        let mut epoch = epoch(Some(7), lines);
        epoch.ops.iter_mut().for_each(|op| op.client = 3);
        epoch
    };
    let set = (10, 20, Set(1), Done);
    assert_eq!(kinds(&own(&[set, (30, 40, Get, Hit(7))])), [Kind::WentBehindOwn]);
    assert_eq!(kinds(&own(&[set, (30, 40, Get, Missing)])), [Kind::FalseMiss]);
    assert_eq!(kinds(&own(&[set, (30, 40, Get, Hit(1)), (50, 60, Get, Unknown(503)), (70, 80, Get, Hit(1))])), []);
    assert_eq!(kinds(&own(&[(10, 20, Set(1), Unknown(503)), (30, 40, Get, Hit(7))])), [], "it was never acknowledged");
    let mut beside = own(&[set, (30, 40, Get, Hit(2))]);
    beside.ops.insert(0, Op { client: 4, action: Set(2), began: 5, ended: 15, ..beside.ops[0] });
    assert_eq!(kinds(&beside), [], "another's write was under way beside it, and either may be the newer");
    beside.ops[0].ended = 9;
    beside.ops[0].began = 8;
    assert_eq!(kinds(&beside), [Kind::WentBehindOwn]);
}

/// In `redis-standby` Redis is not needed: a read that goes back is excused only while the move there is not over.
#[test]
fn once_kask_alone_counts_nothing_is_excused() {
    let judge = |line: Line, settled: bool, asked: &[Attempt]| {
        let mut epoch = epoch_in("redis-standby", Some(7), &[(100, 120, Set(1), Done), line]);
        epoch.attempts.extend(asked);
        epoch.samples = vec![vec![Sample { settled, ..sample(200, 3) }, sample(500, 9)]];
        kinds(&epoch)
    };
    let (old, miss) = ((300, 400, Get, Hit(7)), (300, 400, Get, Missing));
    assert_eq!(judge(old, true, &[]), [Kind::WentBack]);
    assert_eq!(judge(miss, true, &[]), [Kind::FalseMiss]);
    assert_eq!(judge(old, false, &[]), [], "a copy to Kask may have failed, and only Redis knows");
    let to = |phase| [Attempt { version: 2, phase, asked: 350 }];
    assert_eq!(judge(old, true, &to("kask-first")), [], "there Redis is needed");
    assert_eq!(judge(old, true, &to("kask-only")), [Kind::WentBack]);
    assert_eq!(judge(old, true, &[Attempt { asked: 401, ..to("kask-first")[0] }]), [Kind::WentBack], "asked for later");
}

/// The excuse needs both: a phase that reads Kask, and a Redis that was not reached while the read was under way.
#[test]
fn only_kasks_answer_without_redis_is_excused() {
    let old = [(100, 120, Set(1), Done), (300, 400, Get, Hit(7))];
    let miss = [(100, 120, Set(1), Done), (300, 400, Get, Missing)];
    let judge = |phase, lines: &[Line], failures: u64, life: u64| {
        let mut epoch = epoch_in(phase, Some(7), lines);
        epoch.samples = vec![vec![sample(200, 3), Sample { life, ..sample(500, 3 + failures) }]];
        let verdict = check(&epoch);
        (verdict.violations.len(), verdict.excused.into_keys().collect::<Vec<_>>())
    };
    let (none, old_one) = (Vec::new(), vec![Kind::WentBack]);
    assert_eq!(judge("kask-first", &old, 0, 0), (1, none.clone()), "Redis was reached");
    assert_eq!(judge("kask-first", &old, 1, 0), (0, old_one.clone()));
    assert_eq!(judge("kask-first", &old, 0, 1), (0, old_one), "killed meanwhile: nobody knows");
    assert_eq!(judge("dual-write", &old, 1, 0), (1, none.clone()), "Kask is not read there");
    assert_eq!(judge("kask-first", &miss, 1, 0), (1, none), "a miss is told only after Redis was asked");
    assert_eq!(judge("redis-standby", &miss, 1, 0), (0, vec![Kind::FalseMiss]));
    let deleted = [(100, 120, Delete, Done), (300, 400, Get, Hit(7))];
    assert_eq!(judge("kask-first", &deleted, 1, 0), (0, vec![Kind::Returned]));
    let mut moved = epoch_in("redis-standby", Some(7), &old);
    moved.attempts.push(Attempt { version: 2, phase: "kask-first", asked: 50 });
    moved.attempts.push(Attempt { version: 3, phase: "dual-write", asked: 60 });
    moved.samples = vec![vec![Sample { version: 3, ..sample(200, 0) }, Sample { version: 3, ..sample(500, 9) }]];
    assert_eq!(check(&moved).violations.len(), 1, "this decant had left the phases that read Kask");
    moved.samples[0][0].version = 2;
    assert_eq!(check(&moved).violations.len(), 0, "it may have believed in kask-first still");
}
