//! Guards over whether both tiers are fit for what the next phase asks of them. Pure.

use super::{Figures, Guard, KASK_NOT_STALE};
use crate::phase::{Phase, record::PhaseRecord};

/// Intents that writes under way may have open. In a stash that is well there are far fewer.
const OPEN_INTENTS_MAX: u64 = 1_000;

/// What the tiers tell of themselves.
#[derive(Clone, Debug, Default)]
pub struct Fitness {
    /// Why a shard would not keep what decant writes, or that it does not tell, each with its name.
    pub unfit: Vec<String>,
    /// What the shards told otherwise.
    pub facts: Vec<String>,
    /// Kask took a value, gave it back and removed it; else why not. None: it was not tried.
    pub kask_takes: Option<Result<(), String>>,
    /// Intents of every shard, as last seen.
    pub open_intents: u64,
}

/// The checks of one step that rest on these figures.
pub(super) fn guards(record: &PhaseRecord, to: Phase, figures: &Figures) -> Vec<Guard> {
    match (record.phase, to) {
        (Phase::RedisOnly, Phase::DualWrite) => {
            vec![redis_is_fit(&figures.fitness), kask_takes_writes(&figures.fitness)]
        }
        (Phase::DualWrite, Phase::KaskFirst) => vec![no_backlog(&figures.fitness), kask_was_not_stale(figures)],
        _ => Vec::new(),
    }
}

fn redis_is_fit(fitness: &Fitness) -> Guard {
    Guard {
        name: "redis_fit",
        ok: fitness.unfit.is_empty(),
        figure: if fitness.unfit.is_empty() { fitness.facts.join("; ") } else { fitness.unfit.join("; ") },
        needs: "every shard is a primary of Redis 5 or newer that evicts nothing without a TTL and can save, and tells so by INFO: the fence and \
                the records of what still has to be copied are kept there (decant check tells more)"
            .into(),
    }
}

fn kask_takes_writes(fitness: &Fitness) -> Guard {
    let (ok, figure) = match &fitness.kask_takes {
        Some(Ok(())) => (true, "Kask took a probe, gave it back and removed it".into()),
        Some(Err(why)) => (false, why.clone()),
        None => (false, "not tried: a tier does not answer".into()),
    };
    Guard {
        name: "kask_takes_writes",
        ok,
        figure,
        needs: "Kask takes a value, gives the same back, and removes it: from dual-write on every write goes there too. See Kask's log, \
                and that kask.url may be written to"
            .into(),
    }
}

fn no_backlog(fitness: &Fitness) -> Guard {
    Guard {
        name: "no_backlog",
        ok: fitness.open_intents <= OPEN_INTENTS_MAX,
        figure: format!("{} writes are open in the outbox", fitness.open_intents),
        needs: format!(
            "at most {OPEN_INTENTS_MAX}: Kask keeps up with the writes, or clients that read it first are sent on to Redis again and \
             again. See decant outbox list and how Kask fares, and wait"
        ),
    }
}

/// Whether Kask was first written over what may be older: that is remembered by the history alone, for Kask has every write since.
fn kask_was_not_stale(figures: &Figures) -> Guard {
    let overridden = forced_over_stale(&figures.history);
    Guard {
        name: "kask_was_not_stale",
        ok: overridden.is_none(),
        figure: match overridden {
            None => "Kask had nothing older when dual-write began".into(),
            Some(entry) => format!(
                "version {} ({}) was forced by {} although Kask may have held older values",
                entry.version,
                entry.told(),
                entry.by
            ),
        },
        needs: "Kask holds nothing from before dual-write: what was deleted meanwhile would be served again, and no backfill finds it. Go \
                back to redis-only, empty Kask, and come again with --kask-emptied"
            .into(),
    }
}

/// The last move by which keys left `redis-only` over a stale Kask, of those since all of them were there: of all keys, or of some that
/// went ahead. Unless Kask was emptied since, which only a guard that found the record stale has asked for.
fn forced_over_stale(history: &[PhaseRecord]) -> Option<&PhaseRecord> {
    let mut moves: Vec<&PhaseRecord> = history.iter().collect();
    moves.sort_by_key(|entry| entry.version);
    let mut forced = None;
    let mut stale_at = None;
    for entry in moves {
        if entry.phase == Phase::RedisOnly && entry.ahead.is_none() {
            forced = None;
        } else if entry.from == Some(Phase::RedisOnly) {
            let was_stale = stale_at == Some(entry.version.saturating_sub(1));
            match entry.guards.iter().find(|guard| guard.name == KASK_NOT_STALE) {
                Some(guard) if !guard.ok => forced = Some(entry),
                Some(_) if was_stale => forced = None,
                _ => {}
            }
        }
        stale_at = entry.kask_stale_since_unix_ms.map(|_| entry.version);
    }
    forced
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::record::{Measured, sample};

    fn failing(from: Phase, to: Phase, figures: &Figures) -> Vec<(&'static str, String)> {
        let list = guards(&sample(from, 9), to, figures);
        list.into_iter().filter(|guard| !guard.ok).map(|guard| (guard.name, guard.figure)).collect()
    }

    #[test]
    fn each_fails_alone() {
        let fine = Fitness { kask_takes: Some(Ok(())), open_intents: OPEN_INTENTS_MAX, ..Fitness::default() };
        let first = |fitness| failing(Phase::RedisOnly, Phase::DualWrite, &Figures { fitness, ..Figures::default() });
        assert_eq!(first(fine.clone()), []);
        let evicts = "main: maxmemory-policy is allkeys-lru".to_owned();
        assert_eq!(first(Fitness { unfit: vec![evicts.clone()], ..fine.clone() }), [("redis_fit", evicts)]);
        let refused = "a write was refused: 405".to_owned();
        let seen = Fitness { kask_takes: Some(Err(refused.clone())), ..fine.clone() };
        assert_eq!(first(seen), [("kask_takes_writes", refused)]);
        assert_eq!(first(Fitness { kask_takes: None, ..fine.clone() })[0].0, "kask_takes_writes");
        let second = |fitness| failing(Phase::DualWrite, Phase::KaskFirst, &Figures { fitness, ..Figures::default() });
        assert_eq!(second(fine.clone()), []);
        let full = Fitness { open_intents: OPEN_INTENTS_MAX + 1, ..fine };
        assert_eq!(second(full), [("no_backlog", "1001 writes are open in the outbox".to_owned())]);
    }

    #[test]
    fn what_was_overridden_on_the_way_to_dual_write_is_remembered_until_it_is_entered_anew() {
        let told = |history| failing(Phase::DualWrite, Phase::KaskFirst, &Figures { history, ..Figures::default() });
        assert_eq!(told(vec![entered(4, true)]), [], "another guard was overridden");
        let back = PhaseRecord { from: Some(Phase::KaskFirst), ..sample(Phase::DualWrite, 6) };
        let stale = told(vec![entered(4, false), back, sample(Phase::RedisOnly, 3)]);
        assert_eq!(stale[0].0, "kask_was_not_stale");
        assert!(stale[0].1.contains("version 4 (dual-write) was forced by root"), "{stale:?}");
        let back = PhaseRecord { from: Some(Phase::DualWrite), ..sample(Phase::RedisOnly, 7) };
        assert_eq!(told(vec![entered(4, false), back, entered(8, true)]), []);
    }

    #[test]
    fn keys_that_were_forced_ahead_count_until_kask_was_emptied_for_all() {
        let ahead = |ok| PhaseRecord { phase: Phase::RedisOnly, ahead: "share:0.1".parse().ok(), ..entered(4, ok) };
        let told = |history| failing(Phase::DualWrite, Phase::KaskFirst, &Figures { history, ..Figures::default() });
        let forced = told(vec![ahead(false), entered(5, true)]);
        assert_eq!(forced[0].0, "kask_was_not_stale");
        assert!(
            forced[0].1.contains("version 4 (redis-only, with 10 % of all keys in dual-write) was forced"),
            "{forced:?}"
        );
        assert_eq!(told(vec![ahead(true), entered(5, true)]), []);
        // As the record was stale still, the guard that passed had the operator's word.
        let stale = PhaseRecord { kask_stale_since_unix_ms: Some(1), ..ahead(false) };
        assert_eq!(told(vec![entered(5, true), stale.clone()]), []);
        assert_eq!(told(vec![entered(6, true), stale])[0].0, "kask_was_not_stale", "version 5 is unknown");
    }

    fn entered(version: u64, ok: bool) -> PhaseRecord {
        PhaseRecord {
            from: Some(Phase::RedisOnly),
            forced: !ok,
            guards: vec![Measured { name: "kask_not_stale".into(), ok, figure: "stale".into() }],
            ..sample(Phase::DualWrite, version)
        }
    }
}
