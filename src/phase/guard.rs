//! What a move must have before it begins: named checks with a figure each. Pure.

mod fitness;
mod observed;
mod proven;

use super::{
    Phase,
    proof::{BackfillProof, VerifyProof},
    record::PhaseRecord,
    step::Step,
};
pub use fitness::Fitness;
pub use observed::{Met, Observed};
use serde::Serialize;

/// Its verdict stays with a record, as what it found is not seen any more once Kask is written.
pub const KASK_NOT_STALE: &str = "kask_not_stale";

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guard {
    pub name: &'static str,
    pub ok: bool,
    /// What was measured.
    pub figure: String,
    /// What it takes to pass, and what would be lost otherwise.
    pub needs: String,
}

/// What was measured before a move.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// None: Kask answers; else why not.
    pub kask_fails: Option<String>,
    /// Shards that do not answer.
    pub shards_away: Vec<String>,
    pub damaged: u64,
    /// Keys of Redis that were sampled, and how many of them Kask holds.
    pub sampled: u64,
    pub in_kask: u64,
    /// Fewer keys besides, for which a tier did not answer.
    pub unasked: u64,
    /// Why no sample could be taken, though the step needs one.
    pub sample_fails: Option<String>,
    /// Shards that came back without acknowledged writes, or that are not known well enough to tell, each with the reason.
    pub suspect: Vec<String>,
    /// Keys that Redis evicted since `kask-first` began.
    pub evicted: u64,
    /// Shards that lost writes while Redis was a mirror, each with the time.
    pub mirror_lost: Vec<String>,
    /// The last backfill that met every key, and the last run of verify over every key.
    pub backfill: Option<BackfillProof>,
    pub verify: Option<VerifyProof>,
    /// The moves that are known of, in any order: by them a proof is still worth something.
    pub history: Vec<PhaseRecord>,
    /// Why Redis lacks writes that this decant made past it; none: it has them.
    pub written_alone: Option<String>,
    /// The operator's word that Kask was emptied.
    pub kask_emptied: bool,
    /// What clients met, and who else writes to Redis.
    pub observed: Observed,
    /// What the tiers tell of themselves.
    pub fitness: Fitness,
    pub lease_ms: u64,
    pub now_unix_ms: u64,
}

/// The checks of a move; `--force` overrides those that fail. They are those of the step that keys take by it. Where some keys have a mirror,
/// and go on having one, a rule that changes asks for a clean one: what was written alone is healed only under the version of its time.
pub fn guards_of(record: &PhaseRecord, step: &Step, figures: &Figures) -> Vec<Guard> {
    let mut list = guards(&PhaseRecord { phase: step.from, ..record.clone() }, step.to, figures);
    let stays = record.has(Phase::RedisStandby) && step.phase != Phase::KaskOnly && step.ahead != record.ahead;
    let mirror = mirror_is_clean(record, figures);
    if stays && list.iter().all(|guard| guard.name != mirror.name) {
        list.push(mirror);
    }
    list
}

/// The checks of one step. Every step of the order has a list.
fn guards(record: &PhaseRecord, to: Phase, figures: &Figures) -> Vec<Guard> {
    let mut list = Vec::new();
    if record.phase.uses_redis() || to.uses_redis() {
        list.push(redis_answers(figures));
    }
    if record.phase.uses_kask() || to.uses_kask() {
        list.push(kask_answers(figures));
    }
    // Not only forward: redis-only is entered with an empty outbox, which a damaged intent keeps from ever being empty.
    if record.phase.uses_redis() && to != Phase::DualWrite || record.phase > Phase::DualWrite {
        list.push(nothing_damaged(figures));
    }
    // To redis-only: Redis is the store already, and nothing is judged by what it holds.
    if record.phase.uses_redis() && to != Phase::RedisOnly {
        list.push(no_shard_suspect(figures));
    }
    match (record.phase, to) {
        (Phase::RedisOnly, Phase::DualWrite) => list.push(kask_is_not_stale(record, figures)),
        (Phase::KaskFirst, Phase::DualWrite) => list.push(nothing_evicted(figures)),
        (Phase::KaskFirst, Phase::RedisStandby) => list.extend(proven::guards(record, figures)),
        (Phase::RedisStandby, Phase::KaskFirst) => list.push(mirror_is_clean(record, figures)),
        (Phase::KaskOnly, Phase::RedisStandby) => list.push(redis_missed_nothing(record, figures)),
        _ => {}
    }
    list.extend(fitness::guards(record, to, figures));
    list.extend(observed::guards(record, to, figures.now_unix_ms, &figures.observed));
    list
}

fn redis_answers(figures: &Figures) -> Guard {
    Guard {
        name: "redis_answers",
        ok: figures.shards_away.is_empty(),
        figure: match figures.shards_away.len() {
            0 => "every shard answers".into(),
            _ => format!("no answer from {}", figures.shards_away.join(", ")),
        },
        needs: "every shard answers: the fence must be raised on each. decant status tells why one does not; bring that Redis back, or mend \
                where the config says it is (decant check tries it)"
            .into(),
    }
}

fn kask_answers(figures: &Figures) -> Guard {
    Guard {
        name: "kask_answers",
        ok: figures.kask_fails.is_none(),
        figure: figures.kask_fails.clone().unwrap_or_else(|| "Kask answers a probe".into()),
        needs: "Kask answers a read of a key that nobody has. See Kask's log, and that kask.url is right (decant check tries it)".into(),
    }
}

fn nothing_damaged(figures: &Figures) -> Guard {
    Guard {
        name: "nothing_damaged",
        ok: figures.damaged == 0,
        figure: format!("{} damaged intents", figures.damaged),
        needs: "none: a damaged intent is a key whose tiers differ for good. decant outbox damaged tells which and why; then decant outbox \
                retry or drop"
            .into(),
    }
}

fn no_shard_suspect(figures: &Figures) -> Guard {
    Guard {
        name: "no_shard_suspect",
        ok: figures.suspect.is_empty(),
        figure: match figures.suspect.len() {
            0 => "every shard has what it acknowledged".into(),
            _ => figures.suspect.join("; "),
        },
        needs: "every shard has what it acknowledged, or an operator has accepted what it lost (decant shard accept-loss): a step on older \
                values would make them count"
            .into(),
    }
}

fn nothing_evicted(figures: &Figures) -> Guard {
    Guard {
        name: "nothing_evicted",
        ok: figures.evicted == 0,
        figure: format!("{} keys evicted since kask-first began", figures.evicted),
        needs: "none: in dual-write Redis alone is read, and what it evicted is then a miss although Kask has it. decant shard show tells which \
                Redis it was. Stay in kask-first, where nobody misses them, or go back without them by --force"
            .into(),
    }
}

fn kask_is_not_stale(record: &PhaseRecord, figures: &Figures) -> Guard {
    let absent = figures.in_kask == 0 && figures.sample_fails.is_none();
    let looked = sampled(figures);
    let (ok, figure) = match record.kask_stale_since_unix_ms {
        None => (absent, format!("this stash has not written to Kask before; {looked}")),
        Some(since) => {
            let past_ms = figures.now_unix_ms.saturating_sub(since);
            let emptied = if figures.kask_emptied { "yes, says the operator" } else { "nobody says so" };
            (
                figures.kask_emptied && past_ms >= figures.lease_ms && absent,
                format!("writes have gone past Kask for {} s; emptied: {emptied}; {looked}", past_ms / 1000),
            )
        }
    };
    Guard {
        name: KASK_NOT_STALE,
        ok,
        figure,
        needs: "a sample of Redis's keys is absent in Kask; and where writes have gone past Kask, it was emptied at least a lease after that \
                began (say so with --kask-emptied): otherwise older values would be served again"
            .into(),
    }
}

/// Not to be able to look is not to have seen that all is well.
fn sampled(figures: &Figures) -> String {
    match &figures.sample_fails {
        Some(why) => format!("the sample could not be taken: {why}"),
        None => {
            let unasked = match figures.unasked {
                0 => String::new(),
                unasked => format!(" ({unasked} more were not answered for)"),
            };
            let told = format!("{} of {} sampled keys are in Kask{unasked}", figures.in_kask, figures.sampled);
            if figures.sampled == 0 { format!("{told}: Redis gave none that can be looked for") } else { told }
        }
    }
}

fn mirror_is_clean(record: &PhaseRecord, figures: &Figures) -> Guard {
    Guard {
        name: "mirror_is_clean",
        ok: record.mirror_unclean_since_unix_ms.is_none()
            && figures.written_alone.is_none()
            && figures.mirror_lost.is_empty(),
        figure: match (&figures.written_alone, record.mirror_unclean_since_unix_ms) {
            (Some(why), _) => why.clone(),
            (None, Some(_)) => "writes have gone past Redis".into(),
            (None, None) if figures.mirror_lost.is_empty() => "Redis has every write".into(),
            (None, None) => format!("Redis lost writes of the mirror: {}", figures.mirror_lost.join(", ")),
        },
        needs: "Redis has every write; otherwise older values would be read from it, and deleted ones. Where decant status tells of keys that \
                were written to Kask alone, wait until they are healed. The rest stays lost to Redis: decant verify --fix renews what it \
                still holds, and --force goes back without what it lacks"
            .into(),
    }
}

fn redis_missed_nothing(record: &PhaseRecord, figures: &Figures) -> Guard {
    let held = figures.now_unix_ms.saturating_sub(record.since_unix_ms);
    Guard {
        name: "redis_missed_nothing",
        ok: false,
        figure: format!(
            "Redis has had no write for {}; it lacks {} that were acknowledged meanwhile, as far as known here",
            observed::lasting(held),
            figures.observed.met.writes
        ),
        needs: format!(
            "going back from kask-only is always forced (--force): Redis lacks every write since, {} as far as known here, and holds what was \
             deleted. decant verify --fix then renews what it still holds; kask-first, one step further back, is forced too, and gives \
             clients what Redis has",
            figures.observed.met.writes
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::{
        ahead::Ahead,
        record::sample,
        step::{Goal, step},
    };

    pub(super) fn record(phase: Phase) -> PhaseRecord {
        PhaseRecord { since_unix_ms: 0, ..sample(phase, 3) }
    }

    fn failing(record: &PhaseRecord, to: Phase, figures: &Figures) -> Vec<&'static str> {
        guards(record, to, figures).into_iter().filter(|g| !g.ok).map(|g| g.name).collect()
    }

    /// With nothing wrong: backfilled and verified since the move to dual-write.
    pub(super) fn fine() -> Figures {
        let backfill = BackfillProof {
            begun_unix_ms: 100,
            ended_unix_ms: 200,
            phase: Phase::DualWrite,
            version: 2,
            keys: 9,
            impossible: 1,
            failed: 0,
        };
        let verify = VerifyProof {
            begun_unix_ms: 200,
            ended_unix_ms: 300,
            phase: Phase::KaskFirst,
            version: 3,
            complete: true,
            compared: 10,
            missing: 0,
            different: 0,
            pending: 0,
            uncarried: 1,
            misplaced: 0,
            foreign: 0,
        };
        let history = [Phase::RedisOnly, Phase::DualWrite, Phase::KaskFirst];
        let history = history.into_iter().zip(1..).map(|(phase, version)| sample(phase, version)).collect();
        let (backfill, verify) = (Some(backfill), Some(verify));
        let fitness = Fitness { kask_takes: Some(Ok(())), ..Fitness::default() };
        Figures { backfill, verify, history, fitness, now_unix_ms: 60_300, ..Figures::default() }
    }

    #[test]
    fn with_nothing_wrong_every_step_but_the_one_out_of_kask_only_is_free() {
        for from in Phase::ALL {
            for to in Phase::ALL.into_iter().filter(|to| from.is_step_to(*to)) {
                let expected: &[&str] = if from == Phase::KaskOnly { &["redis_missed_nothing"] } else { &[] };
                assert_eq!(failing(&record(from), to, &fine()), expected, "{from} {to}");
            }
        }
    }

    /// Who is refused is told where to look, or what to do.
    #[test]
    fn each_says_what_to_do_where_it_fails() {
        let moves = Phase::ALL.into_iter().flat_map(|from| Phase::ALL.map(|to| (from, to)));
        let all =
            moves.filter(|(from, to)| from.is_step_to(*to)).flat_map(|(from, to)| guards(&record(from), to, &fine()));
        let advice = ["decant ", "--force", "--kask-emptied", "kask.url", "Wait", "and wait", "Send every"];
        let silent = all.filter(|guard| !advice.iter().any(|text| guard.needs.contains(text)));
        assert_eq!(silent.map(|guard| guard.name).collect::<Vec<_>>(), [""; 0]);
        let mut figures = fine();
        figures.observed.met.writes = 7;
        let cost = guards(&record(Phase::KaskOnly), Phase::RedisStandby, &figures);
        let told = cost.iter().find(|guard| guard.name == "redis_missed_nothing").unwrap();
        assert!(told.needs.contains("every write since, 7 as far as known here"), "{}", told.needs);
    }

    #[test]
    fn a_rule_has_the_guards_of_the_step_that_its_keys_take() {
        use Phase::{KaskFirst, KaskOnly, RedisStandby};
        let rule: Ahead = "share:0.1".parse().unwrap();
        let names = |phase, ahead: Option<&Ahead>, goal: &Goal| {
            let record = PhaseRecord { ahead: ahead.cloned(), ..record(phase) };
            let step = step(phase, ahead, goal).unwrap();
            guards_of(&record, &step, &fine()).into_iter().map(|guard| guard.name).collect::<Vec<_>>()
        };
        for phase in Phase::ALL.into_iter().filter(|phase| phase.next().is_some()) {
            let next = phase.next().unwrap();
            let forward = names(phase, None, &Goal::Phase(next));
            let set = names(phase, None, &Goal::Ahead(rule.clone()));
            let mirror: &[&str] = if phase == RedisStandby { &["mirror_is_clean"] } else { &[] };
            assert_eq!(set, [forward.as_slice(), mirror].concat(), "{phase}");
            let back = names(next, None, &Goal::Phase(phase));
            let cleared = names(phase, Some(&rule), &Goal::NoneAhead);
            assert_eq!(cleared, [back.as_slice(), mirror].concat(), "{phase}");
        }
        // The mirror of those that were ahead is one of all now; of the last phase there is none.
        assert!(names(KaskFirst, Some(&rule), &Goal::Phase(RedisStandby)).contains(&"mirror_is_clean"));
        assert!(!names(RedisStandby, Some(&rule), &Goal::Phase(KaskOnly)).contains(&"mirror_is_clean"));
    }

    #[test]
    fn each_guard_fails_alone() {
        let fine = fine();
        let first = record(Phase::KaskFirst);
        let away = Figures { shards_away: vec!["main".into()], ..fine.clone() };
        assert_eq!(failing(&first, Phase::RedisStandby, &away), ["redis_answers"]);
        let kask = Figures { kask_fails: Some("timeout".into()), ..fine.clone() };
        assert_eq!(failing(&first, Phase::RedisStandby, &kask), ["kask_answers"]);
        let damaged = Figures { damaged: 1, ..fine.clone() };
        assert_eq!(failing(&first, Phase::RedisStandby, &damaged), ["nothing_damaged"]);
        let dual = record(Phase::DualWrite);
        assert_eq!(failing(&dual, Phase::RedisOnly, &damaged), ["nothing_damaged"]);
        let unclean = PhaseRecord { mirror_unclean_since_unix_ms: Some(1), ..record(Phase::RedisStandby) };
        assert_eq!(failing(&unclean, Phase::KaskFirst, &fine), ["mirror_is_clean"]);
        let suspect = Figures { suspect: vec!["main: 1 write is missing".into()], ..fine.clone() };
        for from in Phase::ALL {
            for to in Phase::ALL.into_iter().filter(|to| from.is_step_to(*to) && *to != Phase::RedisOnly) {
                let blocked = failing(&record(from), to, &suspect).contains(&"no_shard_suspect");
                assert_eq!(blocked, from != Phase::KaskOnly, "{from} {to}");
            }
        }
        assert!(failing(&dual, Phase::RedisOnly, &suspect).is_empty());
        let evicted = Figures { evicted: 1, ..fine.clone() };
        assert_eq!(failing(&first, Phase::DualWrite, &evicted), ["nothing_evicted"]);
        assert!(failing(&first, Phase::RedisStandby, &evicted).is_empty());
        let lost = Figures { mirror_lost: vec!["main since today".into()], ..fine.clone() };
        assert_eq!(failing(&record(Phase::RedisStandby), Phase::KaskFirst, &lost), ["mirror_is_clean"]);
        let alone = Figures { written_alone: Some("2 keys".into()), ..fine.clone() };
        assert_eq!(failing(&record(Phase::RedisStandby), Phase::KaskFirst, &alone), ["mirror_is_clean"]);
    }

    #[test]
    fn a_stale_kask_needs_the_operators_word_a_lease_and_an_empty_sample() {
        let stale = PhaseRecord { kask_stale_since_unix_ms: Some(0), ..record(Phase::RedisOnly) };
        let good = Figures { kask_emptied: true, now_unix_ms: 15_000, lease_ms: 15_000, ..fine() };
        assert!(failing(&stale, Phase::DualWrite, &good).is_empty());
        for bad in [
            Figures { kask_emptied: false, ..good.clone() },
            Figures { now_unix_ms: 14_999, ..good.clone() },
            Figures { sampled: 5, in_kask: 1, ..good.clone() },
            Figures { sample_fails: Some("no SCAN".into()), ..good.clone() },
        ] {
            assert_eq!(failing(&stale, Phase::DualWrite, &bad), ["kask_not_stale"]);
        }
        let first = record(Phase::RedisOnly);
        for bad in
            [Figures { sampled: 5, in_kask: 1, ..fine() }, Figures { sample_fails: Some("no SCAN".into()), ..fine() }]
        {
            assert_eq!(
                failing(&first, Phase::DualWrite, &bad),
                ["kask_not_stale"],
                "also where it was never written to"
            );
        }
    }
}
