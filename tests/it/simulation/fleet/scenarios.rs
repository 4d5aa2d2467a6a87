//! Fleets through all kinds of moves and faults, and without each of their rules.

use super::{Happened, Kind, Pact};
use crate::simulation::{
    Fault::{self, Crash, Cut, EtcdCut, Late, LateTxn, LeaseOver, NotSent, Stall, UnheardTxn},
    scenarios::{EVERYTHING, Mix, env, tell},
    scheduler::Schedule,
};
use decant::{
    phase::Phase::{DualWrite, KaskFirst, RedisOnly, RedisStandby},
    protocol::Rules,
};
use std::collections::BTreeMap;

const FLEET: Mix = Mix {
    moves: 6,
    ahead_percent: 25,
    decants: 2..4,
    ops: 6..20,
    faults: 8,
    percents: &[
        (Fault::Crash, 10),
        (Fault::Late, 6),
        (Fault::Refuse, 2),
        (Fault::NotSent, 2),
        (Fault::Error, 3),
        (Fault::KaskGet, 2),
        (Fault::Stall, 5),
        (Fault::Evict, 5),
        (Fault::Cut, 10),
        (Fault::LostReply, 1),
        (Fault::LateScript, 1),
        (Fault::EtcdCut, 25),
        (Fault::LeaseOver, 10),
        (Fault::LateTxn, 2),
        (Fault::UnheardTxn, 2),
    ],
    fleet: Some(Kind { force_percent: 20, back_at: 12, slow_percent: 10, without: None }),
    ..EVERYTHING
};

fn run_all(mix: &Mix, first: u64, count: u64) -> BTreeMap<Happened, u64> {
    let mut happened = BTreeMap::new();
    for seed in first..first + count {
        let outcome = Schedule::run(seed, mix, Rules::ALL, false);
        if outcome.failure.is_some() {
            tell(seed, mix, Rules::ALL);
        }
        outcome.happened.into_iter().for_each(|(what, count)| *happened.entry(what).or_default() += count);
    }
    happened
}

#[test]
fn fleets_hold_through_all_sequences_of_moves() {
    let (first, count) = (env("DECANT_SIM_SEED", 1), env("DECANT_SIM_SCHEDULES", 20_000) / 10);
    let began = std::time::Instant::now();
    println!("seeds {first}..{}", first + count);
    let happened = run_all(&FLEET, first, count);
    println!("{count} schedules in {:.1?}: {happened:#?}", began.elapsed());
    for what in Happened::ALL {
        assert!(happened.contains_key(&what), "{what:?} has not happened");
    }
}

/// The schedules in which a missing rule shows must be right with all of them.
#[test]
fn fleets_hold_where_it_is_hardest() {
    let (first, count) = (env("DECANT_SIM_SEED", 1), env("DECANT_SIM_SCHEDULES", 20_000) / 100);
    println!("seeds {first}..{}", first + count);
    for pact in Pact::ALL {
        println!("as without {pact:?}");
        let mix = mix_without(pact);
        run_all(&Mix { fleet: mix.fleet.map(|kind| Kind { without: None, ..kind }), ..mix }, first, count);
    }
    println!("much of everything");
    run_all(&Mix { moves: 12, decants: 3..4, ops: 10..30, faults: 16, ..FLEET }, first, count);
}

/// What shows best what a rule is for.
fn mix_without(pact: Pact) -> Mix {
    let kind = Kind { force_percent: 0, back_at: 12, slow_percent: 0, without: Some(pact) };
    let standby = Mix {
        starts: &[RedisStandby],
        route: &[KaskFirst, RedisStandby],
        moves: 4,
        ahead_percent: 0,
        keys: 1..2,
        ops: 12..30,
        ops_weights: [4, 2, 0, 4, 0],
        faults: 6,
        percents: &[(Cut, 40), (EtcdCut, 40), (Crash, 5)],
        async_percent: 0,
        fleet: Some(kind),
        ..FLEET
    };
    match pact {
        Pact::Promises | Pact::HoldUps | Pact::Stands => standby,
        Pact::Gate => {
            Mix { percents: &[(Cut, 60), (EtcdCut, 5)], fleet: Some(Kind { slow_percent: 33, ..kind }), ..standby }
        }
        Pact::Says => Mix { percents: &[(Cut, 60), (EtcdCut, 5)], ..standby },
        // Seldom: what is still on its way to Kask must come after Kask was emptied for the way back.
        Pact::Over => Mix {
            starts: &[DualWrite],
            route: &[RedisOnly, DualWrite, KaskFirst],
            moves: 6,
            percents: &[(Late, 40), (Stall, 10), (NotSent, 20)],
            ..standby
        },
        Pact::Unclean => Mix { percents: &[(Cut, 60), (Crash, 40)], ..standby },
        // Whoever was forgotten leaves the mirror unclean: a move is forced.
        Pact::ByFence | Pact::Ended => Mix {
            percents: &[(Crash, 40), (EtcdCut, 80), (Cut, 20)],
            fleet: Some(Kind { force_percent: 100, back_at: 6, ..kind }),
            ..standby
        },
        Pact::Withdraw => Mix { percents: &[(UnheardTxn, 20), (LateTxn, 20), (LeaseOver, 5)], ..standby },
    }
}

/// At most so many schedules until a missing rule must have shown.
const SHOWS_WITHIN: u64 = 10_000;

fn is_needed(pact: Pact) {
    let (mix, first) = (mix_without(pact), env("DECANT_SIM_SEED", 1));
    let fails = |seed| Some((seed, Schedule::run(seed, &mix, Rules::ALL, false).failure?));
    match (first..first + SHOWS_WITHIN).find_map(fails) {
        Some((seed, why)) => println!("without {pact:?}, seed {seed}: {why}"),
        None => panic!("without {pact:?} nothing fails in {SHOWS_WITHIN} schedules: it is not needed, or not tested"),
    }
}

/// One test for each rule: without it the simulation fails.
macro_rules! needed {
    ($($name:ident: $pact:ident,)*) => {
        $(
            #[test]
            fn $name() {
                is_needed(Pact::$pact);
            }
        )*

        #[test]
        fn every_pact_has_its_test() {
            assert_eq!(Pact::ALL, [$(Pact::$pact),*]);
        }
    };
}

needed! {
    moves_of_a_fleet_need_promises: Promises,
    promises_need_to_shut_the_gate: Gate,
    silent_members_need_to_hold_moves_up: HoldUps,
    promises_need_to_outlast_the_session: Stands,
    settling_needs_the_shards_word: Over,
    guards_need_what_members_say: Says,
    forgotten_members_need_to_leave_the_mirror_unclean: Unclean,
    members_that_start_cut_off_need_the_fence: ByFence,
    only_members_that_ended_need_forgetting: Ended,
    proposals_need_to_be_taken_back: Withdraw,
}
