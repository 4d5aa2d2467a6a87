//! A move of a fleet: proposed, promised by every member, weighed by the figures of all, begun.

use super::{MoveFault, MoveRequest, Moved, Mover, fleet::Joined, joint::of_all, unix_ms};
use crate::{
    etcd::Fault,
    fleet::{Kept, Known, Proposal, View},
    phase::{ahead::told, guard::Figures, record::PhaseRecord},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A member promises once its writes to Kask alone have ended: each is over within a request's time.
const PROMISED_WITHIN: Duration = Duration::from_secs(8);
/// What etcd holds is told of at once, or not at all.
const TOLD_WITHIN: Duration = Duration::from_secs(4);
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Mover {
    pub(super) async fn move_fleet(&self, joined: &Joined, request: MoveRequest) -> Result<Moved, MoveFault> {
        let shared = &joined.shared;
        let known = shared.known();
        let record = confirmed(&known)?.clone();
        if self.shown().is_none() {
            return Err(MoveFault::Starting);
        }
        self.may_move(&record.is, &request)?;
        may_propose(&known)?;
        let figures = self.figures(&record.is, &request).await?;
        let says =
            known.view.members.iter().filter_map(|(name, member)| Some((name.as_str(), &member.report.as_ref()?.is)));
        let (guards, next) = self.weigh(&record.is, &request, &of_all(&figures, &self.member, says))?;
        if request.dry_run {
            return Ok(Moved { record: next, guards, dry_run: true });
        }
        let proposal = Proposal {
            to: next.phase,
            ahead: next.ahead.clone(),
            version: next.version,
            by: request.by.clone(),
            member: self.member.clone(),
            since_unix_ms: unix_ms(),
        };
        match shared.commit(|lease| shared.keys.propose(&record, &proposal, lease)).await {
            Ok(true) => {}
            Ok(false) => return Err(self.overtaken(joined, &record).await),
            Err(fault) => return Err(MoveFault::Etcd(fault.to_string())),
        }
        let begun = self.begin_promised(joined, &record, &proposal, &request, &figures).await;
        if begun.is_err() {
            self.withdraw(joined, &proposal).await;
        }
        begun
    }

    async fn begin_promised(
        &self,
        joined: &Joined,
        record: &Kept<PhaseRecord>,
        proposal: &Proposal,
        request: &MoveRequest,
        figures: &Figures,
    ) -> Result<Moved, MoveFault> {
        let shared = &joined.shared;
        let promised = shared.until(PROMISED_WITHIN, |known| {
            let stands = ours(&known.view, proposal)?;
            let waits = known.view.unpromised(stands.created);
            match waits.iter().any(|name| known.view.is_silent(name)) {
                // Its promise does not come any more.
                true => Some(None),
                false => waits.is_empty().then(|| Some((known.view.clone(), stands.clone()))),
            }
        });
        let Some((view, stands)) = promised.await.flatten() else {
            let known = shared.known();
            confirmed(&known)?;
            let stands = ours(&known.view, proposal).ok_or(MoveFault::Changed)?;
            follow_all(&known.view)?;
            let missing = known.view.unpromised(stands.created).into_iter().map(str::to_owned).collect();
            return Err(MoveFault::Unpromised(missing));
        };
        // What happened while the guards were measured counts as well.
        let says =
            view.members.iter().filter_map(|(name, member)| Some((name.as_str(), &member.promise.as_ref()?.is.says)));
        let (guards, next) = self.weigh(&record.is, request, &of_all(figures, &self.member, says))?;
        let txn = shared.keys.begin(record, &view, &stands, &next).ok_or(MoveFault::Changed)?;
        match shared.commit(|_| txn).await {
            Ok(true) => {}
            Ok(false) => return Err(MoveFault::Changed),
            Err(Fault::Refused(why)) => return Err(MoveFault::Etcd(why)),
            Err(Fault::Unanswered(why)) => {
                let is = |known: &Known| known.record().filter(|now| now.is.version >= next.version).cloned();
                let begun = shared.until(TOLD_WITHIN, is).await;
                if !begun.is_some_and(|now| now.is.member == next.member && now.is.since_unix_ms == next.since_unix_ms)
                {
                    return Err(MoveFault::Unknown(why));
                }
            }
        }
        tracing::info!(
            stash = self.stash.name,
            from = record.is.told(),
            to = next.told(),
            version = next.version,
            by = next.by,
            forced = next.forced,
            "a move has begun"
        );
        // Who asks next is shown what has begun.
        let until = Instant::now() + TOLD_WITHIN;
        while self.shown().is_none_or(|shown| shown.version < next.version) && Instant::now() < until {
            sleep(LOOK_EVERY).await;
        }
        Ok(Moved { record: next, guards, dry_run: false })
    }

    /// What cannot be taken back yet, or is not seen yet, is a duty of this decant: see [`crate::fleet::Duty::Withdraw`].
    async fn withdraw(&self, joined: &Joined, proposal: &Proposal) {
        let known = joined.shared.known();
        let Some(stands) = ours(&known.view, proposal) else { return };
        if let Err(fault) = joined.shared.commit(|_| joined.shared.keys.withdraw(stands)).await {
            tracing::warn!(stash = self.stash.name, fault = %fault, "the proposal of a move is not taken back yet");
        }
    }

    /// Somebody else was first: who, and since when.
    async fn overtaken(&self, joined: &Joined, record: &Kept<PhaseRecord>) -> MoveFault {
        let seen = joined.shared.until(TOLD_WITHIN, |known| match (&known.view.proposal, known.record()) {
            (_, Some(now)) if now.changed != record.changed => Some(MoveFault::UnderWay(Box::new(now.is.clone()))),
            (Some(proposal), _) => Some(proposed(&proposal.is)),
            _ => None,
        });
        seen.await.unwrap_or(MoveFault::Changed)
    }
}

/// This very proposal, as it stands in etcd.
fn ours<'a>(view: &'a View, proposal: &Proposal) -> Option<&'a Kept<Proposal>> {
    view.proposal.as_ref().filter(|stands| stands.is == *proposal)
}

fn confirmed(known: &Known) -> Result<&Kept<PhaseRecord>, MoveFault> {
    if !known.is_confirmed() {
        return Err(MoveFault::Away(known.trouble.clone().unwrap_or_else(|| "it is not reached".into())));
    }
    known.record().ok_or(MoveFault::Starting)
}

/// No force helps here: a member that does not follow may write under a phase that is over.
fn may_propose(known: &Known) -> Result<(), MoveFault> {
    if let Some(proposal) = &known.view.proposal {
        return Err(proposed(&proposal.is));
    }
    follow_all(&known.view)
}

fn follow_all(view: &View) -> Result<(), MoveFault> {
    match view.hold_ups() {
        behind if behind.is_empty() => Ok(()),
        behind => Err(MoveFault::Behind(behind)),
    }
}

pub(super) fn proposed(proposal: &Proposal) -> MoveFault {
    MoveFault::Proposed {
        by: proposal.by.clone(),
        to: told(proposal.to, proposal.ahead.as_ref()),
        member: proposal.member.clone(),
        since_unix_ms: proposal.since_unix_ms,
    }
}
