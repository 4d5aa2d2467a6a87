//! Guards over what clients met while the phase has held, and over who else writes to Redis. Pure.

use super::Guard;
use crate::phase::{Phase, record::PhaseRecord};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Addresses that a figure names; of the others it gives the number.
const NAMED_MAX: usize = 5;
/// What clients met is counted over so long.
const HOUR_MS: u64 = 3_600_000;

/// What clients of one decant met, or those of all of a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Met {
    /// Reads of the last hour.
    pub reads: u64,
    /// Of them, those that Kask had missed and Redis answered.
    pub fallbacks: u64,
    /// At most as long as the decant has run.
    pub without_fallback_ms: u64,
    /// Shadow reads of the last hour that could be compared.
    pub compared: u64,
    /// Of them, those where Kask had another value, and those where it had none.
    pub mismatched: u64,
    pub missing: u64,
    /// Requests to Kask in the last hour, and those that failed.
    pub kask_requests: u64,
    pub kask_errors: u64,
    /// Writes that were acknowledged while the phase has held; since the decant's start, where that was later.
    pub writes: u64,
}

impl Met {
    /// Together with what the clients of another decant met.
    pub fn and(self, other: Met) -> Met {
        Met {
            reads: self.reads.saturating_add(other.reads),
            fallbacks: self.fallbacks.saturating_add(other.fallbacks),
            without_fallback_ms: self.without_fallback_ms.min(other.without_fallback_ms),
            compared: self.compared.saturating_add(other.compared),
            mismatched: self.mismatched.saturating_add(other.mismatched),
            missing: self.missing.saturating_add(other.missing),
            kask_requests: self.kask_requests.saturating_add(other.kask_requests),
            kask_errors: self.kask_errors.saturating_add(other.kask_errors),
            writes: self.writes.saturating_add(other.writes),
        }
    }
}

/// What was seen, and what the config allows of it.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub soak_ms: u64,
    pub shadow_mismatch_max: f64,
    pub kask_errors_max: f64,
    pub met: Met,
    /// Clients that are no decants and whose last command wrote, over all shards.
    pub strangers: Vec<String>,
    /// The same of those whose last command was another one that clients give.
    pub readers: Vec<String>,
    /// Shards that do not tell their clients, each with the reason.
    pub strangers_unseen: Vec<String>,
}

/// The checks of one step that rest on these figures.
pub(super) fn guards(record: &PhaseRecord, to: Phase, now_unix_ms: u64, seen: &Observed) -> Vec<Guard> {
    let mut list = match (record.phase, to) {
        (Phase::DualWrite, Phase::KaskFirst) => vec![shadow_agrees(seen)],
        (Phase::KaskFirst, Phase::RedisStandby) => vec![rehearsal(record, now_unix_ms, seen)],
        (Phase::RedisStandby, Phase::KaskOnly) => vec![soaked(record, now_unix_ms, seen), kask_errors(seen)],
        _ => Vec::new(),
    };
    if to > record.phase {
        list.push(nobody_else_writes(seen));
    }
    if to == Phase::KaskOnly {
        list.push(nobody_else_reads(seen));
    }
    list
}

fn shadow_agrees(seen: &Observed) -> Guard {
    Guard {
        name: "shadow_agrees",
        ok: within(seen.met.mismatched, seen.met.compared, seen.shadow_mismatch_max),
        figure: match seen.met.compared {
            0 => "no read of the last hour was compared with Kask, so this shows nothing (shadow_share says how many are)".into(),
            compared => format!(
                "of {compared} reads of the last hour that were compared, Kask had another value for {} ({}), and none for {}, which \
                 would have fallen back on Redis",
                seen.met.mismatched,
                percent(seen.met.mismatched, compared),
                seen.met.missing
            ),
        },
        needs: format!(
            "another value for at most {} (guards.shadow_mismatch_max): in kask-first clients are given Kask's. See what differs with \
             decant inspect KEY, and wait until the hour is over",
            limit(seen.shadow_mismatch_max)
        ),
    }
}

/// What the next phase would have made of the reads of this one. Before it a read that found nothing in Kask was no fall-back, nor was any
/// looked for: time that passed then shows nothing.
fn rehearsal(record: &PhaseRecord, now_unix_ms: u64, seen: &Observed) -> Guard {
    let held_ms = now_unix_ms.saturating_sub(record.since_unix_ms);
    let without_ms = seen.met.without_fallback_ms.min(held_ms);
    let since = match held_ms {
        // Those of the phase before are counted with them, and were no rehearsal.
        0..HOUR_MS => format!(" (not all of them in {})", record.phase),
        HOUR_MS.. => String::new(),
    };
    let told = match (seen.met.reads, seen.met.fallbacks) {
        (0, _) => "no client has read anything in the last hour, which shows nothing".to_owned(),
        (reads, fallbacks) => {
            format!("{fallbacks} of {reads} reads of the last hour{since} fell back on Redis: misses of the next phase")
        }
    };
    Guard {
        name: "rehearsal",
        ok: without_ms >= seen.soak_ms,
        figure: format!(
            "{told}; {} has held for {}, the last {} of it without such a read",
            record.phase,
            lasting(held_ms),
            lasting(without_ms)
        ),
        needs: format!(
            "{} without a read that falls back on Redis (guards.soak_s), as seen by each decant since its start and since kask-first \
             began: in redis-standby Redis is not asked. Copy what is left with decant backfill, and wait",
            lasting(seen.soak_ms)
        ),
    }
}

fn soaked(record: &PhaseRecord, now_unix_ms: u64, seen: &Observed) -> Guard {
    let held = now_unix_ms.saturating_sub(record.since_unix_ms);
    Guard {
        name: "soaked",
        ok: held >= seen.soak_ms,
        figure: format!("{} has held for {}", record.phase, lasting(held)),
        needs: format!(
            "{} (guards.soak_s): there is no way back from kask-only without a loss. Wait",
            lasting(seen.soak_ms)
        ),
    }
}

fn kask_errors(seen: &Observed) -> Guard {
    Guard {
        name: "kask_errors",
        ok: within(seen.met.kask_errors, seen.met.kask_requests, seen.kask_errors_max),
        figure: match seen.met.kask_requests {
            0 => "no request went to Kask in the last hour, so this shows nothing".into(),
            requests => format!(
                "{} of {requests} requests to Kask failed in the last hour ({})",
                seen.met.kask_errors,
                percent(seen.met.kask_errors, requests)
            ),
        },
        needs: format!(
            "at most {} (guards.kask_errors_max): in kask-only nothing else answers. See what Kask says, and wait until the hour is over",
            limit(seen.kask_errors_max)
        ),
    }
}

fn nobody_else_writes(seen: &Observed) -> Guard {
    Guard {
        name: "nobody_else_writes",
        ok: seen.strangers.is_empty() && seen.strangers_unseen.is_empty(),
        figure: told_of(&seen.strangers, &seen.strangers_unseen, "no client but decants wrote last"),
        needs: "no other client writes to Redis: decant does not see such a write, and Kask never gets it. Send every writer through \
                decant, and end its connections; decant's own user must be allowed CLIENT LIST"
            .into(),
    }
}

fn nobody_else_reads(seen: &Observed) -> Guard {
    Guard {
        name: "nobody_else_reads",
        ok: seen.readers.is_empty() && seen.strangers_unseen.is_empty(),
        figure: told_of(&seen.readers, &seen.strangers_unseen, "no client but decants read last"),
        needs: "no other client reads from Redis, which gets no write any more and is to go. Send every reader through decant, and end its \
                connections; who only asks how Redis fares (INFO, PING, CONFIG) may stay. decant's own user must be allowed CLIENT LIST"
            .into(),
    }
}

/// Who was seen, or which shards do not tell; else that there is `none`.
fn told_of(named: &[String], unseen: &[String], none: &str) -> String {
    match (named.len(), unseen) {
        (0, []) => none.to_owned(),
        (0, unseen) => unseen.join("; "),
        (count, _) => {
            let more = match count.saturating_sub(NAMED_MAX) {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            format!("{}{more}", named[..count.min(NAMED_MAX)].join(", "))
        }
    }
}

fn within(part: u64, of: u64, share_max: f64) -> bool {
    part as f64 <= of as f64 * share_max
}

fn percent(part: u64, of: u64) -> String {
    format!("{:.2} %", part as f64 * 100.0 / of as f64)
}

fn limit(share: f64) -> String {
    format!("{} %", share * 100.0)
}

/// In whole seconds.
pub(super) fn lasting(ms: u64) -> String {
    humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::record::sample;

    const HOUR: u64 = HOUR_MS;

    fn fine() -> Observed {
        Observed {
            soak_ms: HOUR,
            shadow_mismatch_max: 0.001,
            kask_errors_max: 0.01,
            met: Met {
                reads: 1_000,
                without_fallback_ms: HOUR,
                compared: 1_000,
                mismatched: 1,
                missing: 900,
                kask_requests: 100,
                kask_errors: 1,
                ..Met::default()
            },
            ..Observed::default()
        }
    }

    fn met(change: impl FnOnce(&mut Met)) -> Observed {
        let mut seen = fine();
        change(&mut seen.met);
        seen
    }

    #[test]
    fn a_fleet_has_met_what_each_of_it_has() {
        let busy = Met { fallbacks: 3, without_fallback_ms: 5, writes: 2, ..fine().met };
        let both = fine().met.and(busy);
        assert_eq!(
            both,
            Met {
                reads: 2_000,
                fallbacks: 3,
                without_fallback_ms: 5,
                compared: 2_000,
                mismatched: 2,
                missing: 1_800,
                kask_requests: 200,
                kask_errors: 2,
                writes: 2,
            }
        );
    }

    fn failing(from: Phase, to: Phase, now_unix_ms: u64, seen: &Observed) -> Vec<(&'static str, String)> {
        let list = guards(&sample(from, 1), to, now_unix_ms, seen);
        list.into_iter().filter(|guard| !guard.ok).map(|guard| (guard.name, guard.figure)).collect()
    }

    #[test]
    fn each_fails_alone_right_past_its_bound() {
        use Phase::{DualWrite, KaskFirst, KaskOnly, RedisOnly, RedisStandby};
        let steps =
            [(RedisOnly, DualWrite), (DualWrite, KaskFirst), (KaskFirst, RedisStandby), (RedisStandby, KaskOnly)];
        // The record is of 1 ms after 1970.
        let in_time = HOUR + 1;
        for (from, to) in steps {
            assert_eq!(failing(from, to, in_time, &fine()), [], "{from} {to}");
            assert_eq!(failing(to, from, 0, &Observed { strangers: vec!["a".into()], ..Observed::default() }), []);
        }
        let one = |(from, to), now, seen: Observed, name, figure: &str| {
            let failed = failing(from, to, now, &seen);
            assert_eq!(failed, [(name, figure.to_owned())]);
        };
        let [_, shadow, standby, only] = steps;
        let told = "of 1000 reads of the last hour that were compared, Kask had another value for 2 (0.20 %), and none for 900, which would \
                    have fallen back on Redis";
        one(shadow, in_time, met(|met| met.mismatched = 2), "shadow_agrees", told);
        let told = "3 of 1000 reads of the last hour fell back on Redis: misses of the next phase; kask-first has held for 1h, the last \
                    59m 59s of it without such a read";
        let seen = met(|met| (met.fallbacks, met.without_fallback_ms) = (3, HOUR - 1));
        one(standby, in_time, seen, "rehearsal", told);
        one(only, in_time - 1, fine(), "soaked", "redis-standby has held for 59m 59s");
        let told = "2 of 100 requests to Kask failed in the last hour (2.00 %)";
        one(only, in_time, met(|met| met.kask_errors = 2), "kask_errors", told);
        for step in steps {
            let strangers: Vec<String> = (1..=7).map(|i| format!("c{i}")).collect();
            let told = "c1, c2, c3, c4, c5, and 2 more";
            one(step, in_time, Observed { strangers, ..fine() }, "nobody_else_writes", told);
            let unseen = Observed { strangers_unseen: vec!["main: NOPERM".into()], ..fine() };
            let told = failing(step.0, step.1, in_time, &unseen);
            assert!(told.iter().all(|(_, figure)| figure == "main: NOPERM"), "{told:?}");
            let names: Vec<_> = told.iter().map(|(name, _)| *name).collect();
            let expected = ["nobody_else_writes", "nobody_else_reads"];
            assert_eq!(names, expected[..if step == only { 2 } else { 1 }]);
        }
        let readers = vec!["10.0.0.1:5 (get, 3 s ago)".to_owned()];
        one(only, in_time, Observed { readers: readers.clone(), ..fine() }, "nobody_else_reads", &readers[0]);
        assert_eq!(
            failing(standby.0, standby.1, in_time, &Observed { readers, ..fine() }),
            [],
            "Redis is mirrored still"
        );
    }

    /// A stash that nobody uses may move, and is not told that all was seen to be well.
    #[test]
    fn where_no_client_has_shown_anything_the_figures_say_so() {
        let steps = [(Phase::DualWrite, Phase::KaskFirst), (Phase::RedisStandby, Phase::KaskOnly)];
        let told = steps.map(|(from, to)| guards(&sample(from, 1), to, 2, &Observed::default()));
        let idle = told.iter().flatten().filter(|guard| ["shadow_agrees", "kask_errors"].contains(&guard.name));
        let figures: Vec<_> = idle.map(|guard| (guard.ok, guard.figure.contains("so this shows nothing"))).collect();
        assert_eq!(figures, [(true, true); 2]);
    }

    /// A decant that has been up for two days has met no fall-back in them: in dual-write there is none.
    #[test]
    fn time_before_kask_first_is_no_rehearsal() {
        let seen = met(|met| (met.fallbacks, met.without_fallback_ms) = (0, 48 * HOUR));
        let step = (Phase::KaskFirst, Phase::RedisStandby);
        let told = "0 of 1000 reads of the last hour (not all of them in kask-first) fell back on Redis: misses of the next phase; \
                    kask-first has held for 59m 59s, the last 59m 59s of it without such a read";
        assert_eq!(failing(step.0, step.1, HOUR, &seen), [("rehearsal", told.to_owned())]);
        assert_eq!(failing(step.0, step.1, HOUR + 1, &seen), []);
        let unread = met(|met| (met.reads, met.fallbacks, met.without_fallback_ms) = (0, 0, 1_000));
        let told = failing(step.0, step.1, HOUR + 1, &unread);
        assert!(
            told[0].1.starts_with("no client has read anything in the last hour, which shows nothing; "),
            "{told:?}"
        );
    }
}
