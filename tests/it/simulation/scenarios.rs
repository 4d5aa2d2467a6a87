//! What kinds of schedules there are, and the tests that run them.

use super::{Fault, fleet::Kind, scheduler::Schedule};
use decant::{
    phase::Phase::{self, DualWrite, KaskFirst, RedisOnly, RedisStandby},
    protocol::{Rules, Safeguard},
};
use std::ops::Range;

/// One kind of schedule: what happens, and how often.
#[derive(Clone, Debug)]
pub struct Mix {
    pub starts: &'static [Phase],
    /// At most so many moves, through these phases only.
    pub moves: u32,
    pub route: &'static [Phase],
    /// How probable it is that some keys can be sent ahead, where a move begins, in percent.
    pub ahead_percent: u32,
    /// A move settles only when every fresh look was sent after its fence was raised.
    pub pause: bool,
    pub decants: Range<usize>,
    pub keys: Range<usize>,
    pub ops: Range<u32>,
    /// Set, delete, add, read, backfill.
    pub ops_weights: [u32; 5],
    /// At most so many faults.
    pub faults: u32,
    /// How probable a fault is wherever it can happen, in percent.
    pub percents: &'static [(Fault, u32)],
    /// How probable it is that a request that was given up on goes on hanging each time it could land.
    pub hang_percent: u32,
    pub async_percent: u32,
    /// A look lists so many pending keys, and none where there are more.
    pub look_max: usize,
    /// The record is shared in etcd, and every decant is a member; none: one mover moves, who knows all.
    pub fleet: Option<Kind>,
}

impl Mix {
    pub fn percent(&self, fault: Fault) -> u32 {
        self.percents.iter().find(|(kind, _)| *kind == fault).map_or(0, |(_, percent)| *percent)
    }
}

pub const EVERYTHING: Mix = Mix {
    starts: &Phase::ALL,
    moves: 4,
    route: &Phase::ALL,
    ahead_percent: 50,
    pause: true,
    decants: 2..4,
    keys: 1..3,
    ops: 3..16,
    ops_weights: [4, 2, 1, 5, 2],
    faults: 4,
    percents: &[
        (Fault::Crash, 8),
        (Fault::Late, 12),
        (Fault::Refuse, 5),
        (Fault::NotSent, 4),
        (Fault::Error, 6),
        (Fault::KaskGet, 4),
        (Fault::KaskAway, 4),
        (Fault::Stall, 12),
        (Fault::Evict, 10),
        (Fault::Cut, 8),
        (Fault::LostReply, 3),
        (Fault::LateScript, 2),
        (Fault::Full, 5),
    ],
    hang_percent: 80,
    async_percent: 25,
    look_max: 100,
    fleet: None,
};

/// Redis loses its last writes. The promises are weaker then: see [`super::checker`].
const FORGETS: Mix = Mix {
    moves: 2,
    faults: 5,
    percents: &[
        (Fault::Lose, 40),
        (Fault::Late, 12),
        (Fault::Refuse, 3),
        (Fault::NotSent, 6),
        (Fault::Error, 8),
        (Fault::KaskGet, 4),
        (Fault::Crash, 6),
        (Fault::Evict, 4),
        (Fault::LostReply, 3),
        (Fault::LateScript, 2),
        (Fault::Full, 3),
    ],
    ..EVERYTHING
};

pub fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Panics with the story of the schedule.
pub fn tell(seed: u64, mix: &Mix, rules: Rules) -> ! {
    let outcome = Schedule::run(seed, mix, rules, true);
    let failure =
        outcome.failure.unwrap_or_else(|| "it does not fail when traced: the simulation is not deterministic".into());
    panic!("seed {seed}: {failure}\n{}\nseed {seed}: {failure}", outcome.trace.join("\n"));
}

/// Runs the schedules of one kind; how many writes were acknowledged and reads checked.
fn run_all(mix: &Mix, first: u64, count: u64) -> (u64, u64) {
    let (mut acked, mut reads) = (0, 0);
    for seed in first..first + count {
        let outcome = Schedule::run(seed, mix, Rules::ALL, false);
        if outcome.failure.is_some() {
            tell(seed, mix, Rules::ALL);
        }
        acked += outcome.acked;
        reads += outcome.reads_checked;
    }
    (acked, reads)
}

#[test]
fn holds() {
    let (first, count) = (env("DECANT_SIM_SEED", 1), env("DECANT_SIM_SCHEDULES", 20_000));
    let began = std::time::Instant::now();
    println!("seeds {first}..{}", first + count);
    let (acked, reads) = run_all(&EVERYTHING, first, count);
    println!("{count} schedules in {:.1?}: {acked} writes acknowledged, {reads} reads checked", began.elapsed());
    assert!(acked > count && reads > count, "the schedules do too little: {acked} writes, {reads} reads");
}

/// The schedules in which a missing safeguard shows must be right with all of them.
#[test]
fn holds_where_it_is_hardest() {
    let (first, count) = (env("DECANT_SIM_SEED", 1), env("DECANT_SIM_SCHEDULES", 20_000) / 10);
    println!("seeds {first}..{}", first + count);
    for safeguard in Safeguard::ALL {
        println!("as without {safeguard:?}");
        run_all(&mix_without(safeguard), first, count);
    }
    println!("much of everything");
    let much = Mix { moves: 10, decants: 3..4, ops: 10..30, faults: 12, ..EVERYTHING };
    run_all(&much, first, count);
}

/// What shows best what a safeguard is for.
fn mix_without(safeguard: Safeguard) -> Mix {
    const WRITES: [u32; 5] = [4, 2, 0, 1, 0];
    // Nothing moves; requests hang, tasks sleep.
    let busy = Mix {
        starts: &[KaskFirst],
        moves: 0,
        keys: 1..2,
        ops: 2..8,
        ops_weights: WRITES,
        percents: &[(Fault::Late, 30), (Fault::Stall, 25), (Fault::Error, 10), (Fault::Crash, 5)],
        ..EVERYTHING
    };
    let standby = Mix { starts: &[RedisStandby], ..busy.clone() };
    let moving =
        Mix { starts: &[KaskFirst, RedisStandby], moves: 3, route: &[KaskFirst, RedisStandby], ..busy.clone() };
    let cut = Mix { percents: &[(Fault::Cut, 40), (Fault::Late, 10), (Fault::Stall, 10)], faults: 6, ..moving.clone() };
    match safeguard {
        Safeguard::Intent | Safeguard::Validate | Safeguard::Tombstone | Safeguard::Lease | Safeguard::RedisFirst => {
            busy
        }
        Safeguard::Token => Mix { percents: &[(Fault::LateScript, 30), (Fault::Stall, 20)], ..standby },
        Safeguard::RepairIntent => Mix { ops_weights: [2, 2, 0, 4, 0], ..busy },
        Safeguard::NoResend => Mix { percents: &[(Fault::Late, 50)], ..busy },
        Safeguard::Digest => Mix {
            percents: &[(Fault::Evict, 50), (Fault::Error, 20), (Fault::NotSent, 20), (Fault::Crash, 10)],
            ..busy
        },
        Safeguard::Mark | Safeguard::Check => standby,
        // A decant two moves behind.
        Safeguard::Fence => EVERYTHING,
        Safeguard::Transit => moving,
        Safeguard::Members => cut,
        Safeguard::Unclean => Mix { moves: 0, ..cut },
        Safeguard::WaitOthers => {
            Mix { async_percent: 0, ops_weights: [4, 2, 0, 6, 0], percents: &[(Fault::Late, 30)], ..busy }
        }
        Safeguard::CheckedRead => Mix { async_percent: 0, ops_weights: [4, 2, 0, 6, 0], ..moving },
        Safeguard::EvictDigest => Mix {
            async_percent: 0,
            ops_weights: [4, 0, 0, 6, 0],
            percents: &[(Fault::Evict, 50), (Fault::Error, 20), (Fault::NotSent, 20)],
            ..busy
        },
        Safeguard::Compare => FORGETS,
        Safeguard::Disbelief => Mix { moves: 0, starts: &[KaskFirst], ..FORGETS },
        // Long enough for the quiet lease to pass.
        Safeguard::Doubt => Mix {
            moves: 0,
            starts: &[KaskFirst],
            keys: 1..2,
            ops: 20..40,
            ops_weights: [2, 3, 0, 8, 0],
            faults: 2,
            percents: &[(Fault::Lose, 20)],
            ..FORGETS
        },
        Safeguard::Arrival => Mix {
            starts: &[KaskFirst],
            moves: 1,
            route: &[KaskFirst, RedisStandby],
            keys: 1..2,
            ops: 4..12,
            ops_weights: [6, 1, 0, 1, 0],
            percents: &[(Fault::Lose, 30), (Fault::Late, 50)],
            hang_percent: 95,
            ..FORGETS
        },
        Safeguard::Quiet => Mix { moves: 0, starts: &[KaskFirst], keys: 1..2, ..FORGETS },
    }
}

/// Where more is pending than a look lists, every key is, and every read asks Redis.
#[test]
fn holds_where_looks_list_nothing() {
    let (first, count) = (env("DECANT_SIM_SEED", 1), env("DECANT_SIM_SCHEDULES", 20_000) / 4);
    run_all(&Mix { look_max: 0, ..EVERYTHING }, first, count);
    run_all(&Mix { look_max: 1, ..EVERYTHING }, first, count);
}

/// An `add` must not be told of a value in Kask whose delete is acknowledged and still on its way there: it waits, as any write does for a
/// key in transit. (Seed 57594 of everything found it, before `redis-standby` asked for the record.)
#[test]
fn adds_wait_for_deletes_in_transit() {
    let mix = Mix {
        starts: &[KaskFirst],
        moves: 2,
        route: &[KaskFirst, RedisStandby],
        keys: 1..2,
        ops_weights: [2, 3, 4, 0, 0],
        percents: &[(Fault::Error, 30), (Fault::NotSent, 30)],
        async_percent: 0,
        ..EVERYTHING
    };
    run_all(&mix, env("DECANT_SIM_SEED", 1), 5_000);
}

/// A read that slept longer than its budget is not answered with what it saw before, or with half of it. (It could span several moves.)
#[test]
fn reads_that_overslept_are_refused() {
    let mix = Mix {
        starts: &[RedisStandby],
        moves: 6,
        route: &[DualWrite, KaskFirst, RedisOnly],
        keys: 1..2,
        ops_weights: [2, 1, 0, 6, 0],
        percents: &[(Fault::Stall, 60)],
        async_percent: 0,
        ..EVERYTHING
    };
    run_all(&mix, env("DECANT_SIM_SEED", 1), 10_000);
}

/// A write alone that slept after it was noted must not be sent when the note has been healed meanwhile: nobody would know of it.
#[test]
fn lone_writes_that_overslept_are_refused() {
    let mix = Mix {
        starts: &[RedisStandby],
        moves: 0,
        keys: 1..2,
        ops: 2..6,
        ops_weights: [3, 1, 0, 0, 0],
        faults: 6,
        percents: &[(Fault::Cut, 30), (Fault::Stall, 60)],
        ..EVERYTHING
    };
    run_all(&mix, env("DECANT_SIM_SEED", 1), 10_000);
}

/// A Redis that comes back without its last writes. What was copied is in Kask and is not overwritten by what is older; what was deleted
/// in Kask does not come back there; what is written from then on is kept as ever; and a difference that nobody knows of is a failure.
#[test]
fn a_redis_that_forgets_harms_nothing_that_kask_has() {
    let (first, count) = (env("DECANT_SIM_SEED", 1), env("DECANT_SIM_SCHEDULES", 20_000));
    println!("seeds {first}..{}", first + count);
    run_all(&FORGETS, first, count);
    run_all(&Mix { moves: 0, starts: &[KaskFirst], keys: 1..2, ops: 6..20, ..FORGETS }, first, count / 2);
    run_all(&Mix { moves: 0, starts: &[RedisStandby], ..FORGETS }, first, count / 4);
    run_all(&mix_without(Safeguard::Doubt), first, count / 4);
    run_all(&mix_without(Safeguard::Arrival), first, count / 4);
}

/// Backfills of several decants beside writers, with requests that hang, decants that crash, and moves.
#[test]
fn backfills_hold() {
    let mix = Mix {
        starts: &[DualWrite, KaskFirst],
        route: &[DualWrite, KaskFirst, RedisStandby],
        ops_weights: [4, 3, 0, 3, 8],
        percents: &[
            (Fault::Late, 25),
            (Fault::Stall, 20),
            (Fault::Error, 10),
            (Fault::Crash, 5),
            (Fault::LostReply, 5),
        ],
        ..EVERYTHING
    };
    run_all(&mix, env("DECANT_SIM_SEED", 1), 10_000);
}

/// At most so many schedules until a missing safeguard must have shown.
const SHOWS_WITHIN: u64 = 20_000;

/// The first schedule that fails.
fn first_failure(mix: &Mix, rules: Rules) -> Option<(u64, String)> {
    let first = env("DECANT_SIM_SEED", 1);
    (first..first + SHOWS_WITHIN).find_map(|seed| Some((seed, Schedule::run(seed, mix, rules, false).failure?)))
}

fn is_needed(safeguard: Safeguard) {
    let mix = mix_without(safeguard);
    match first_failure(&mix, Rules::without(safeguard)) {
        Some((seed, why)) => println!("without {safeguard:?}, seed {seed}: {why}"),
        None => {
            panic!("without {safeguard:?} nothing fails in {SHOWS_WITHIN} schedules: it is not needed, or not tested")
        }
    }
}

/// One test for each safeguard: without it the simulation fails.
macro_rules! needed {
    ($($name:ident: $safeguard:ident,)*) => {
        $(
            #[test]
            fn $name() {
                is_needed(Safeguard::$safeguard);
            }
        )*

        #[test]
        fn every_safeguard_has_its_test() {
            assert_eq!(Safeguard::ALL, [$(Safeguard::$safeguard),*]);
        }
    };
}

needed! {
    writes_need_their_intent: Intent,
    copies_of_old_values_need_their_intent: RepairIntent,
    settling_needs_the_generation: Validate,
    deletes_need_to_be_remembered: Tombstone,
    evicted_values_need_their_digest: Digest,
    the_reaper_needs_to_wait_for_the_lease: Lease,
    settling_needs_the_owners_token: Token,
    unknown_outcomes_need_the_reaper: NoResend,
    the_sequencer_needs_to_be_first: RedisFirst,
    scripts_need_the_fence: Fence,
    keys_in_transit_need_to_wait: Transit,
    standby_needs_its_intent: Mark,
    mirrors_need_to_be_checked: Check,
    moves_need_every_members_promise: Members,
    lone_writes_need_to_be_told: Unclean,
    writes_beside_others_need_to_wait: WaitOthers,
    pending_reads_need_the_record: CheckedRead,
    evicted_reads_need_the_digest: EvictDigest,
    lost_writes_need_to_be_noticed: Compare,
    records_of_before_a_loss_need_to_be_disbelieved: Disbelief,
    values_of_before_a_loss_need_to_stay_where_they_are: Doubt,
    servers_that_come_back_need_a_quiet_lease: Quiet,
    moves_need_what_was_forgotten_to_have_arrived: Arrival,
}

/// Two moves within one look: a decant that believes `kask-first`, with a fresh look, reads Kask while others write Redis alone.
#[test]
fn moves_need_a_pause() {
    let mix =
        Mix { starts: &[KaskFirst], route: &[KaskFirst, DualWrite, RedisOnly], pause: false, faults: 0, ..EVERYTHING };
    let (seed, why) = first_failure(&mix, Rules::ALL).expect("the pause is not needed, or not tested");
    println!("without the pause, seed {seed}: {why}");
}
