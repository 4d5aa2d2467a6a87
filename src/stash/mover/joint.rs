//! The figures of a whole fleet, for the guards of a move that one of its members makes: what the others alone know counts as well. Pure.

use crate::{fleet::Report, phase::guard::Figures};

/// `own`: as `mover` measured them. `says`: what each member says of itself, the mover included.
pub fn of_all<'a>(own: &Figures, mover: &str, says: impl Iterator<Item = (&'a str, &'a Report)>) -> Figures {
    let mut all = own.clone();
    let mut alone = Vec::new();
    for (name, report) in says {
        alone.extend(report.written_alone.as_ref().map(|why| format!("{name}: {why}")));
        // A run is shown by the decant that made it, and the newest counts, whatever it found.
        let (backfill, verify) = (report.backfill.as_ref(), report.verify.as_ref());
        all.backfill = all.backfill.into_iter().chain(backfill.cloned()).max_by_key(|proof| proof.ended_unix_ms);
        all.verify = all.verify.into_iter().chain(verify.cloned()).max_by_key(|proof| proof.ended_unix_ms);
        // The mover has asked both tiers itself just now.
        if name == mover {
            continue;
        }
        all.observed.met = all.observed.met.and(report.met);
        all.shards_away.extend(report.shards_away.iter().map(|shard| format!("{shard} (asked by {name})")));
        if report.kask_away {
            let why = format!("it counts as away for {name}");
            all.kask_fails = Some(all.kask_fails.map_or(why.clone(), |others| format!("{others}; {why}")));
        }
    }
    if !alone.is_empty() {
        all.written_alone = Some(alone.join("; "));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::{
        Phase,
        guard::{Met, Observed},
        proof::{BackfillProof, VerifyProof},
    };

    fn backfill(ended_unix_ms: u64) -> BackfillProof {
        BackfillProof {
            begun_unix_ms: 1,
            ended_unix_ms,
            phase: Phase::KaskFirst,
            version: 3,
            keys: ended_unix_ms,
            impossible: 0,
            failed: 0,
        }
    }

    fn verify(ended_unix_ms: u64) -> VerifyProof {
        VerifyProof {
            begun_unix_ms: 1,
            ended_unix_ms,
            phase: Phase::KaskFirst,
            version: 3,
            complete: true,
            compared: 1,
            missing: ended_unix_ms,
            different: 0,
            pending: 0,
            uncarried: 0,
            misplaced: 0,
            foreign: 0,
        }
    }

    #[test]
    fn what_any_member_knows_counts() {
        let met = |reads| Met { reads, ..Met::default() };
        let observed = Observed { met: met(1), ..Observed::default() };
        let own =
            Figures { backfill: Some(backfill(5)), kask_fails: Some("504".into()), observed, ..Figures::default() };
        let quiet = Report { met: met(10), ..Report::default() };
        let cut_off = Report { kask_away: true, shards_away: vec!["main".into()], ..Report::default() };
        let alone = Report { written_alone: Some("2 keys".into()), ..Report::default() };
        let shown = Report { met: met(100), backfill: Some(backfill(9)), verify: Some(verify(7)), ..Report::default() };
        let late = Report { backfill: Some(backfill(8)), verify: Some(verify(11)), ..Report::default() };
        let says = [("a", &quiet), ("b", &cut_off), ("c", &alone), ("d", &shown), ("e", &late)];
        let all = of_all(&own, "a", says.into_iter());
        assert_eq!(all.kask_fails.as_deref(), Some("504; it counts as away for b"));
        assert_eq!(all.shards_away, ["main (asked by b)"]);
        assert_eq!(all.written_alone.as_deref(), Some("c: 2 keys"));
        assert_eq!((all.backfill, all.verify), (Some(backfill(9)), Some(verify(11))));
        assert_eq!(all.observed.met.reads, 101, "the mover's own are measured, not told");
        // What the mover measured itself is newer than what it said of itself.
        let all = of_all(&Figures::default(), "b", says.into_iter().take(2));
        assert_eq!((all.kask_fails, all.shards_away, all.written_alone), (None, Vec::new(), None));
    }

    #[test]
    fn what_the_mover_wrote_alone_counts_where_nobody_says_anything() {
        let own = Figures { written_alone: Some("1 key".into()), ..Figures::default() };
        assert_eq!(of_all(&own, "a", std::iter::empty()).written_alone.as_deref(), Some("1 key"));
    }
}
