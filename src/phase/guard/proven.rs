//! Guards over what has been shown of the old data: that it was copied, and compared. Pure.

use super::{Figures, Guard, sampled};
use crate::phase::{
    Sequencer,
    proof::{VerifyProof, kask_was_written_since},
    record::PhaseRecord,
};

/// Up to one key in so many may be misplaced: those that nutcracker and MediaWiki write to another shard while one is down.
const MISPLACED_ONE_IN: u64 = 100;

/// The checks before Redis is not read any more.
pub(super) fn guards(record: &PhaseRecord, figures: &Figures) -> [Guard; 3] {
    [backfill_finished(record, figures), verified(record, figures), still_in_kask(figures)]
}

fn backfill_finished(record: &PhaseRecord, figures: &Figures) -> Guard {
    let (ok, figure) = match &figures.backfill {
        None => (false, "no backfill over every key has finished".into()),
        Some(proof) if !kask_was_written_since(proof.version, record, &figures.history) => {
            (false, format!("the last began at version {}, and writes have gone past Kask since", proof.version))
        }
        Some(proof) => {
            let failed = match proof.failed {
                0 => String::new(),
                failed => format!("; it left {failed} keys that a tier had failed for"),
            };
            let ended = ago(proof.ended_unix_ms, figures);
            (proof.failed == 0, format!("finished {ended}: {} keys are in Kask by it{failed}", proof.keys))
        }
    };
    Guard {
        name: "backfill_finished",
        ok,
        figure,
        needs: "a `decant backfill` over every key, begun after the move to dual-write, has finished and left none that failed: what nobody \
                reads is in Kask by it alone"
            .into(),
    }
}

fn verified(record: &PhaseRecord, figures: &Figures) -> Guard {
    let (ok, figure) = match &figures.verify {
        None => (false, "no run of verify over every key has ended".into()),
        Some(proof) => match why_no_proof(proof, record, figures) {
            Some(why) => (false, format!("the last ended {}; {why}", ago(proof.ended_unix_ms, figures))),
            None => (true, found(proof, figures)),
        },
    };
    Guard {
        name: "verified",
        ok,
        figure,
        needs: "a `decant verify` over every key, begun after the backfill had ended, found none missing and none different: what is only in \
                Redis is not read any more from redis-standby on, and is lost with Redis"
            .into(),
    }
}

/// What was proven holds for as long as nobody empties Kask.
fn still_in_kask(figures: &Figures) -> Guard {
    Guard {
        name: "still_in_kask",
        ok: figures.sample_fails.is_none() && figures.in_kask == figures.sampled,
        figure: sampled(figures),
        needs: "all of a sample of Redis's keys: a Kask that was emptied since it was verified has lost what is only in Redis. Copy again with \
                `decant backfill start`, and verify again"
            .into(),
    }
}

/// Why what a run found does not count for the step; what it found comes last.
fn why_no_proof(proof: &VerifyProof, record: &PhaseRecord, figures: &Figures) -> Option<String> {
    if proof.phase.sequencer() == Sequencer::Kask {
        return Some(format!("it was made in {}, where it is Redis that is held to Kask", proof.phase));
    }
    if !kask_was_written_since(proof.version, record, &figures.history) {
        return Some(format!("it began at version {}, and writes have gone past Kask since", proof.version));
    }
    if !proof.complete {
        return Some("it is not complete: `decant verify --last` tells why".into());
    }
    if figures.backfill.as_ref().is_none_or(|backfill| proof.begun_unix_ms < backfill.ended_unix_ms) {
        return Some("it is older than the end of the last backfill".into());
    }
    if proof.misplaced.saturating_mul(MISPLACED_ONE_IN) > proof.compared {
        return Some(format!(
            "{} keys are on a shard where decant does not look for them, and {} were compared: `distribution`, `hash` or the shards' names \
             are not what they were placed by",
            proof.misplaced, proof.compared
        ));
    }
    if proof.compared == 0 && proof.foreign > 0 {
        return Some(format!("none of the {} names in Redis has the stash's prefix", proof.foreign));
    }
    if proof.missing + proof.different + proof.pending > 0 {
        let VerifyProof { compared, missing, different, pending, .. } = proof;
        return Some(format!(
            "of {compared} keys it found {missing} missing in Kask, {different} different and {pending} not settled"
        ));
    }
    None
}

fn found(proof: &VerifyProof, figures: &Figures) -> String {
    let uncarried = match proof.uncarried {
        0 => String::new(),
        uncarried => format!("; {uncarried} stay behind, which no client can read"),
    };
    let ended = ago(proof.ended_unix_ms, figures);
    format!("ended {ended}: {} keys compared, none missing in Kask, none different{uncarried}", proof.compared)
}

fn ago(unix_ms: u64, figures: &Figures) -> String {
    let s = figures.now_unix_ms.saturating_sub(unix_ms) / 1000;
    match s {
        0..120 => format!("{s} s ago"),
        120..7_200 => format!("{} min ago", s / 60),
        7_200..172_800 => format!("{} h ago", s / 3_600),
        _ => format!("{} d ago", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{fine, record},
        *,
    };
    use crate::phase::{Phase, proof::BackfillProof};

    /// What fails before `redis-standby` once the proofs are changed, with the figure of each.
    fn unproven(change: impl FnOnce(&mut Figures)) -> Vec<(&'static str, String)> {
        let mut figures = fine();
        change(&mut figures);
        let failing = guards(&record(Phase::KaskFirst), &figures).into_iter().filter(|g| !g.ok);
        failing.map(|guard| (guard.name, guard.figure)).collect()
    }

    #[test]
    fn of_a_sample_all_must_be_in_kask_still() {
        let still = |change: fn(&mut Figures)| match unproven(change).as_slice() {
            [] => None,
            [("still_in_kask", figure)] => Some(figure.clone()),
            other => panic!("{other:?}"),
        };
        assert_eq!(still(|figures| (figures.sampled, figures.in_kask) = (200, 200)), None);
        let one_lacks = still(|figures| (figures.sampled, figures.in_kask) = (200, 199));
        assert_eq!(one_lacks.as_deref(), Some("199 of 200 sampled keys are in Kask"));
        let some_fail = still(|figures| (figures.sampled, figures.in_kask, figures.unasked) = (9, 8, 7));
        assert_eq!(some_fail.as_deref(), Some("8 of 9 sampled keys are in Kask (7 more were not answered for)"));
        assert!(still(|figures| figures.sample_fails = Some("no SCAN".into())).unwrap().ends_with("no SCAN"));
    }

    #[test]
    fn the_backfill_counts_only_whole_and_since_kask_has_every_write() {
        let backfill = |change: fn(&mut BackfillProof)| {
            let failing = unproven(|figures| change(figures.backfill.as_mut().unwrap()));
            assert_eq!(failing.len(), 1, "{failing:?}");
            assert_eq!(failing[0].0, "backfill_finished");
            failing[0].1.clone()
        };
        assert!(backfill(|proof| proof.failed = 2).contains("left 2 keys"));
        assert!(backfill(|proof| proof.version = 1).contains("writes have gone past Kask"));
        // What was verified is worth nothing without it: keys may have come from past decant.
        let names: Vec<_> = unproven(|figures| figures.backfill = None).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["backfill_finished", "verified"]);
    }

    #[test]
    fn only_a_complete_run_after_the_backfill_that_found_all_of_it_has_verified() {
        let verified = |change: fn(&mut Figures)| {
            let failing = unproven(change);
            assert_eq!(failing.len(), 1, "{failing:?}");
            assert_eq!(failing[0].0, "verified");
            failing[0].1.clone()
        };
        fn proof(figures: &mut Figures) -> &mut VerifyProof {
            figures.verify.as_mut().unwrap()
        }
        assert_eq!(verified(|figures| figures.verify = None), "no run of verify over every key has ended");
        assert!(verified(|figures| proof(figures).complete = false).contains("not complete"));
        assert!(
            verified(|figures| proof(figures).missing = 1)
                .ends_with("found 1 missing in Kask, 0 different and 0 not settled")
        );
        assert!(
            verified(|figures| proof(figures).misplaced = 1)
                .contains("1 keys are on a shard where decant does not look")
        );
        assert!(
            verified(|figures| (proof(figures).compared, proof(figures).foreign) = (0, 3))
                .ends_with("none of the 3 names in Redis has the stash's prefix")
        );
        let few = unproven(|figures| (proof(figures).compared, proof(figures).misplaced) = (10_000, 100));
        assert!(few.is_empty(), "{few:?}");
        assert!(verified(|figures| proof(figures).different = 1).contains("1 different"));
        assert!(verified(|figures| proof(figures).pending = 1).contains("1 not settled"));
        assert!(
            verified(|figures| proof(figures).begun_unix_ms = 199).contains("older than the end of the last backfill")
        );
        assert!(verified(|figures| proof(figures).version = 1).contains("writes have gone past Kask"));
        assert!(verified(|figures| proof(figures).phase = Phase::RedisStandby).contains("Redis that is held to Kask"));
        let all = guards(&record(Phase::KaskFirst), &fine());
        let passes = all.iter().find(|guard| guard.name == "verified").unwrap();
        assert_eq!(
            passes.figure,
            "ended 60 s ago: 10 keys compared, none missing in Kask, none different; 1 stay behind, which no client can read"
        );
    }
}
