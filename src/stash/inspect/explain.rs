//! Why a key's tiers differ, in a sentence. Pure.

use super::{Inspection, RecordSide};
use crate::phase::{Phase, Sequencer};

/// `None`: they do not differ, or one of them could not be asked.
pub(super) fn explain(seen: &Inspection, lease_ms: u64) -> Option<String> {
    let result = seen.comparison.result.as_str();
    if !matches!(result, "different" | "only in Redis" | "only in Kask") {
        return None;
    }
    if let Some(record) = &seen.record {
        return Some(under_way(seen, record, lease_ms));
    }
    let phase: Phase = seen.phase.parse().ok()?;
    if let Some(why) = &seen.comparison.why {
        return Some(format!("{why}; to clients of decant such a value is a miss, and it is never copied."));
    }
    Some(at_rest(result, phase).to_owned())
}

/// The key has intents: the outbox knows that the tiers may differ.
fn under_way(seen: &Inspection, record: &RecordSide, lease_ms: u64) -> String {
    let tier = if record.direction == "kask" { "Kask" } else { "Redis" };
    let given_up = record.intents.iter().find_map(|intent| intent.reason.as_deref());
    let alive = record.intents.iter().filter_map(|intent| intent.age_ms).max();
    let what = match seen.remembered_delete {
        true => "The key was deleted, and Kask has not confirmed it yet: reads answer a miss",
        false => "A write or copy has not been proven to be in both tiers yet",
    };
    match (alive, given_up) {
        (None, Some(why)) => format!(
            "{what}, and bringing it to {tier} was given up ({why}): the tiers stay as they are until the intent is retried or dropped \
             (decant outbox)."
        ),
        (Some(age), _) if age <= lease_ms => format!(
            "{what}: whoever began it {age} ms ago may still be at it, and after a lease of {lease_ms} ms the reaper finishes it."
        ),
        (Some(age), _) => format!(
            "{what}: its intent is {age} ms old, older than the lease, and the reaper is to bring it to {tier}."
        ),
        (None, None) => format!("{what}."),
    }
}

/// No intent is open, so as far as decant knows the tiers agree.
fn at_rest(result: &str, phase: Phase) -> &'static str {
    match (result, phase, phase.sequencer()) {
        ("only in Redis", Phase::RedisOnly, _) => "In redis-only nothing is written to Kask.",
        ("only in Redis", Phase::KaskFirst, _) => {
            "It was written before dual-write, or past decant, and nothing has copied it yet; the next read does."
        }
        ("only in Redis", _, Sequencer::Redis) => {
            "It was written before dual-write, or past decant, and nothing has copied it yet."
        }
        ("only in Redis", _, Sequencer::Kask) => {
            "Kask counts, so clients read a miss: the value was never copied, has expired in Kask, or was deleted there while Redis was away. \
             Back in kask-first it would be read again."
        }
        ("only in Kask", _, Sequencer::Redis) => {
            "Redis let it go (it expired, or was evicted), or it was deleted past decant; where Kask is read first it is still a hit."
        }
        ("only in Kask", _, Sequencer::Kask) => {
            "Kask counts, so clients read it; Redis has let it go, or lacks writes that went past it."
        }
        (_, Phase::RedisOnly, _) => "In redis-only writes go past Kask: Redis counts, and what Kask holds is stale.",
        (_, _, Sequencer::Redis) => {
            "No write is under way, so something was written past decant, to either tier, or Kask was not emptied after a time in \
             redis-only; Redis counts, and the next write of the key brings both in step."
        }
        (_, _, Sequencer::Kask) => {
            "No write is under way, so something was written past decant, or Redis lacks writes that went past it; Kask counts."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stash::inspect::{Comparison, IntentSide, KaskSide, RedisSide};

    fn seen(result: &str, phase: &str, intents: &[(Option<u64>, Option<&str>)]) -> Inspection {
        let intents: Vec<IntentSide> = intents
            .iter()
            .map(|(age_ms, reason)| IntentSide {
                id: "0a".into(),
                age_ms: *age_ms,
                tries: 0,
                reason: reason.map(str::to_owned),
            })
            .collect();
        Inspection {
            stash: "s".into(),
            key: "k".into(),
            phase: phase.into(),
            shard: None,
            pending: "no".into(),
            redis: RedisSide::default(),
            kask: KaskSide::default(),
            record: (!intents.is_empty()).then(|| RecordSide {
                direction: "kask".into(),
                generation: 1,
                newest: "old".into(),
                intents_total: intents.len(),
                intents,
            }),
            remembered_delete: false,
            comparison: Comparison { result: result.into(), why: None },
            explanation: None,
        }
    }

    #[test]
    fn what_does_not_differ_needs_no_explanation() {
        for result in ["equal", "in neither", "unknown"] {
            assert_eq!(explain(&seen(result, "dual-write", &[(Some(5), None)]), 15_000), None);
        }
    }

    #[test]
    fn intents_explain_first() {
        let told = |intents: &[_]| explain(&seen("only in Redis", "dual-write", intents), 15_000).unwrap();
        assert!(told(&[(Some(40), None)]).contains("began it 40 ms ago"));
        assert!(told(&[(Some(40), None), (Some(20_000), None)]).contains("older than the lease"));
        assert!(told(&[(Some(40), None), (None, Some("400"))]).contains("began it 40 ms ago"), "one is still alive");
        let given_up = told(&[(None, Some("Kask refused: 400"))]);
        assert!(given_up.contains("given up (Kask refused: 400)") && given_up.contains("decant outbox"), "{given_up}");
        let deleted = Inspection { remembered_delete: true, ..seen("only in Kask", "dual-write", &[(Some(1), None)]) };
        assert!(explain(&deleted, 15_000).unwrap().starts_with("The key was deleted, and Kask has not confirmed"));
    }

    #[test]
    fn every_difference_in_every_phase_has_a_sentence_that_says_which_tier_counts() {
        for phase in Phase::ALL {
            for result in ["different", "only in Redis", "only in Kask"] {
                let told = explain(&seen(result, phase.name(), &[]), 15_000).unwrap();
                assert!(told.ends_with('.'), "{told}");
                let counts = if phase.sequencer() == Sequencer::Kask { "Redis counts" } else { "Kask counts" };
                assert!(!told.contains(counts), "{phase}: {told}");
            }
        }
        let mut odd = seen("only in Redis", "kask-first", &[]);
        odd.comparison.why = Some("the value in Redis cannot be carried to Kask (object)".into());
        assert!(explain(&odd, 15_000).unwrap().contains("never copied"));
    }
}
