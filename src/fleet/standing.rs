//! Who holds a move up, and what a member is to do next. Pure.

use super::view::{Member, View};
use crate::phase::record::{PhaseRecord, State};

/// How a member stands to the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Follows,
    /// It is alive, and has not acknowledged the record's version yet.
    Behind,
    /// Its lease ran out. It may be at work all the same, cut off from etcd: so nothing moves until it is back or forgotten.
    Silent,
}

impl Standing {
    pub const ALL: [Standing; 3] = [Standing::Follows, Standing::Behind, Standing::Silent];

    pub fn name(self) -> &'static str {
        match self {
            Standing::Follows => "follows",
            Standing::Behind => "behind",
            Standing::Silent => "silent",
        }
    }
}

/// What a member is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Of the proposal of this revision: begin nothing alone any more, wait for what is under way, and say so.
    Promise(i64),
    /// The proposal of this revision is its own, and no move here is waiting for it any more: what was to take it back failed, or came before
    /// it was seen. Else it would stand as long as this decant lives, and nobody could move.
    Withdraw(i64),
    /// Of this version.
    Acknowledge(u64),
    /// Who is to finish the move is silent.
    TakeOver,
    Settle,
}

/// What a member knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    pub member: &'a str,
    /// The version of the phase that it believes in.
    pub believes: u64,
    /// The shards show it that the move is over.
    pub over: bool,
    /// A move is being made here.
    pub proposes: bool,
}

/// Who finishes a move: its maker, or who took it over.
pub fn driver(record: &PhaseRecord) -> &str {
    record.driver.as_deref().unwrap_or(&record.member)
}

impl View {
    fn version(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.is.version)
    }

    pub fn standing(&self, member: &Member) -> Standing {
        match &member.report {
            None => Standing::Silent,
            Some(_) if member.registration.is.acknowledged < self.version() => Standing::Behind,
            Some(_) => Standing::Follows,
        }
    }

    pub fn is_silent(&self, member: &str) -> bool {
        self.members.get(member).is_some_and(|member| self.standing(member) == Standing::Silent)
    }

    /// Who keeps any move from beginning, by name, and how.
    pub fn hold_ups(&self) -> Vec<String> {
        let told = |(name, member): (&String, &Member)| match self.standing(member) {
            Standing::Follows => None,
            Standing::Behind => {
                Some(format!("{name} is at version {} of {}", member.registration.is.acknowledged, self.version()))
            }
            Standing::Silent => Some(format!("{name} is silent")),
        };
        self.members.iter().filter_map(told).collect()
    }

    /// Who has not acknowledged the record. Who is silent and did before is no hindrance: it reads the record before it serves again.
    pub fn unacknowledged(&self) -> Vec<&str> {
        let version = self.version();
        let behind = self.members.iter().filter(|(_, member)| member.registration.is.acknowledged < version);
        behind.map(|(name, _)| name.as_str()).collect()
    }

    /// Who has not promised yet.
    pub fn unpromised(&self, proposal: i64) -> Vec<&str> {
        let promised = |member: &Member| member.promise.as_ref().is_some_and(|promise| promise.is.proposal == proposal);
        self.members.iter().filter(|(_, member)| !promised(member)).map(|(name, _)| name.as_str()).collect()
    }

    /// In the order in which it is to be done.
    pub fn duties(&self, own: &Own<'_>) -> Vec<Duty> {
        let Some(me) = self.members.get(own.member) else { return Vec::new() };
        let mut duties = Vec::new();
        if let Some(proposal) = &self.proposal {
            if proposal.is.member == own.member && !own.proposes {
                duties.push(Duty::Withdraw(proposal.created));
            } else if me.promise.as_ref().is_none_or(|promise| promise.is.proposal != proposal.created) {
                duties.push(Duty::Promise(proposal.created));
            }
        }
        let Some(record) = self.record.as_ref().filter(|record| record.is.version == own.believes) else {
            return duties;
        };
        if me.registration.is.acknowledged < own.believes {
            duties.push(Duty::Acknowledge(own.believes));
        }
        if record.is.state == State::Moving {
            let driver = driver(&record.is);
            if driver == own.member {
                if own.over && self.unacknowledged().is_empty() {
                    duties.push(Duty::Settle);
                }
            } else if self.members.get(driver).is_none_or(|driver| driver.report.is_none()) {
                duties.push(Duty::TakeOver);
            }
        }
        duties
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fleet::view::{Kept, Promise, Proposal, Registration, Report},
        phase::{Phase, record::sample},
    };

    fn kept<T>(is: T, at: i64) -> Kept<T> {
        Kept { is, created: at, changed: at }
    }

    fn proposed_by(maker: &str) -> View {
        let member = Member {
            registration: kept(Registration { acknowledged: 3, ..Registration::default() }, 1),
            report: Some(kept(Report::default(), 2)),
            promise: None,
        };
        let proposal = Proposal {
            to: Phase::DualWrite,
            ahead: None,
            version: 4,
            by: "root".into(),
            member: maker.into(),
            since_unix_ms: 1,
        };
        View {
            record: Some(kept(sample(Phase::KaskFirst, 3), 3)),
            proposal: Some(kept(proposal, 7)),
            members: ["a", "b"].map(|name| (name.to_owned(), member.clone())).into(),
            unreadable: Vec::new(),
        }
    }

    fn duties(view: &View, member: &str, proposes: bool) -> Vec<Duty> {
        view.duties(&Own { member, believes: 3, over: false, proposes })
    }

    #[test]
    fn who_has_made_a_proposal_takes_it_back_once_no_move_waits_for_it() {
        let mut view = proposed_by("a");
        assert_eq!(duties(&view, "a", true), [Duty::Promise(7)]);
        assert_eq!(duties(&view, "b", true), [Duty::Promise(7)], "its own move comes second");
        assert_eq!(duties(&view, "b", false), [Duty::Promise(7)]);
        assert_eq!(duties(&view, "a", false), [Duty::Withdraw(7)]);
        let promise = Promise { proposal: 7, says: Report::default() };
        view.members.values_mut().for_each(|member| member.promise = Some(kept(promise.clone(), 8)));
        assert_eq!(duties(&view, "a", false), [Duty::Withdraw(7)], "also when all have promised");
        assert_eq!((duties(&view, "a", true), duties(&view, "b", false)), (Vec::new(), Vec::new()));
    }
}
