//! Every change of a shared record, with what must hold for it: the whole of it is done, or nothing. Pure.
//!
//! Whoever changes the record compares its revision, so that nobody writes over what it has not seen.

use super::{
    keys::Keys,
    view::{Kept, Member, Promise, Proposal, Registration, Report, View},
};
use crate::{
    etcd::{Txn, When},
    phase::{
        Phase,
        record::{Happening, Line, PhaseRecord, State, What},
    },
};
use serde::Serialize;

/// The line of a move comes before what happened to it later.
const MOVED: &str = "0";

/// Decants of one fleet: a change compares something of each, and etcd takes 128 conditions.
pub const MEMBERS_MAX: usize = 64;

fn json(value: &impl Serialize) -> Vec<u8> {
    // What is written here are plain structs with text for keys, which always are JSON.
    serde_json::to_vec(value).unwrap_or_default()
}

impl Keys {
    /// The first record of a stash.
    pub fn first(&self, record: &PhaseRecord) -> Txn {
        self.recorded(Txn::default().when(When::Absent(self.record())), record)
    }

    /// A decant's own copy takes the place of a record that etcd has lost, or of an older one.
    pub fn restore(&self, stands: Option<&Kept<PhaseRecord>>, copy: &PhaseRecord, happened: &Happening) -> Txn {
        let unseen = match stands {
            None => When::Absent(self.record()),
            Some(stands) => When::Unchanged(self.record(), stands.changed),
        };
        let txn = Txn::default().when(unseen).put(self.record(), json(copy));
        self.happened(txn, happened)
    }

    /// This decant belongs to the fleet from now on, and is alive. `seen`: what stands of it. Who is new waits until no move is proposed:
    /// its maker does not know that there is another promise to wait for.
    pub fn register(
        &self,
        name: &str,
        seen: Option<&Member>,
        registration: &Registration,
        report: &Report,
        lease: i64,
    ) -> Txn {
        let key = self.member_of(name);
        let txn = match seen {
            None => Txn::default().when(When::Absent(key.clone())).when(When::Absent(self.proposal())),
            Some(seen) => Txn::default().when(When::Unchanged(key.clone(), seen.registration.changed)),
        };
        txn.put(key, json(registration))
            .put_leased(self.alive_of(name), json(report), lease)
            .delete(self.promise_of(name))
    }

    /// `registered`: the revision at which it came to belong; one that was forgotten since is told so by a refusal.
    pub fn report(&self, name: &str, registered: i64, report: &Report, lease: i64) -> Txn {
        let belongs = When::Same(self.member_of(name), registered);
        Txn::default().when(belongs).put_leased(self.alive_of(name), json(report), lease)
    }

    pub fn acknowledge(&self, name: &str, stands: &Kept<Registration>, version: u64) -> Txn {
        let next = Registration { acknowledged: version, ..stands.is.clone() };
        Txn::default()
            .when(When::Unchanged(self.member_of(name), stands.changed))
            .put(self.member_of(name), json(&next))
    }

    /// This decant ends, and Redis lacks nothing that it wrote.
    pub fn leave(&self, name: &str, registered: i64) -> Txn {
        let belongs = When::Same(self.member_of(name), registered);
        Txn::default()
            .when(belongs)
            .delete(self.member_of(name))
            .delete(self.alive_of(name))
            .delete(self.promise_of(name))
    }

    /// One move at a time.
    pub fn propose(&self, record: &Kept<PhaseRecord>, proposal: &Proposal, lease: i64) -> Txn {
        Txn::default()
            .when(When::Unchanged(self.record(), record.changed))
            .when(When::Absent(self.proposal()))
            .put_leased(self.proposal(), json(proposal), lease)
    }

    pub fn withdraw(&self, proposal: &Kept<Proposal>) -> Txn {
        Txn::default().when(When::Same(self.proposal(), proposal.created)).delete(self.proposal())
    }

    pub fn promise(&self, name: &str, promise: &Promise, lease: i64) -> Txn {
        let stands = When::Same(self.proposal(), promise.proposal);
        Txn::default().when(stands).put_leased(self.promise_of(name), json(promise), lease)
    }

    /// The move begins: the record is still the one that was weighed (not only of the same version: who forgets a member marks the mirror
    /// unclean), the proposal was not given up meanwhile, and every promise stands. Its maker acknowledges by it, so that others can
    /// finish the move if it dies now. None: a promise is missing.
    pub fn begin(
        &self,
        weighed: &Kept<PhaseRecord>,
        view: &View,
        proposal: &Kept<Proposal>,
        next: &PhaseRecord,
    ) -> Option<Txn> {
        let maker = &view.members.get(&next.member)?.registration;
        let mut txn = self
            .acknowledge(&next.member, maker, next.version)
            .when(When::Unchanged(self.record(), weighed.changed))
            .when(When::Same(self.proposal(), proposal.created));
        for (name, member) in &view.members {
            let promise = member.promise.as_ref().filter(|promise| promise.is.proposal == proposal.created)?;
            // The same promise, said again or not: a lease that ran out, or another session, would have made it anew.
            txn = txn.when(When::Same(self.promise_of(name), promise.created));
        }
        Some(self.recorded(txn, next).delete(self.proposal()))
    }

    pub fn settle(&self, record: &Kept<PhaseRecord>) -> Txn {
        let settled = PhaseRecord { state: State::Settled, ..record.is.clone() };
        Txn::default().when(When::Unchanged(self.record(), record.changed)).put(self.record(), json(&settled))
    }

    /// The move's driver is silent: `name` finishes it.
    pub fn take_over(&self, record: &Kept<PhaseRecord>, name: &str, now_unix_ms: u64) -> Txn {
        let from = super::standing::driver(&record.is).to_owned();
        let next = PhaseRecord { driver: Some(name.to_owned()), ..record.is.clone() };
        let txn = Txn::default().when(When::Unchanged(self.record(), record.changed)).put(self.record(), json(&next));
        let reason = format!("{from} made the move and is silent");
        let happened = happening(&record.is, What::TakenOver, from, (name, &reason), now_unix_ms);
        self.happened(txn, &happened)
    }

    /// An operator's word that a silent member is gone. What it may have written alone is not known: the mirror counts as unclean.
    pub fn forget(
        &self,
        record: &Kept<PhaseRecord>,
        (name, member): (&str, &Member),
        (by, reason): (&str, &str),
        now_unix_ms: u64,
    ) -> Txn {
        let mut txn = Txn::default()
            .when(When::Unchanged(self.record(), record.changed))
            .when(When::Unchanged(self.member_of(name), member.registration.changed))
            .when(When::Absent(self.alive_of(name)))
            .delete(self.member_of(name))
            .delete(self.promise_of(name));
        if record.is.has(Phase::RedisStandby) || record.is.phase == Phase::KaskOnly {
            let unclean = record.is.mirror_unclean_since_unix_ms.unwrap_or(now_unix_ms);
            let next = PhaseRecord { mirror_unclean_since_unix_ms: Some(unclean), ..record.is.clone() };
            txn = txn.put(self.record(), json(&next));
        }
        let happened = happening(&record.is, What::Forgotten, name.to_owned(), (by, reason), now_unix_ms);
        self.happened(txn, &happened)
    }

    /// Moves that the history lacks: all of them, or none where one is there.
    pub(super) fn tell(&self, moves: &[PhaseRecord]) -> Txn {
        moves.iter().fold(Txn::default(), |txn, made| self.told(txn, made))
    }

    /// The line of the move to this version.
    pub(super) fn moved(&self, version: u64) -> String {
        self.line(version, MOVED)
    }

    fn told(&self, txn: Txn, record: &PhaseRecord) -> Txn {
        let line = self.moved(record.version);
        txn.when(When::Absent(line.clone())).put(line, json(&Line::Moved(Box::new(record.clone()))))
    }

    fn recorded(&self, txn: Txn, record: &PhaseRecord) -> Txn {
        self.told(txn, record).put(self.record(), json(record))
    }

    fn happened(&self, txn: Txn, happened: &Happening) -> Txn {
        let kind = format!("{:013}.{}.{}", happened.at_unix_ms, happened.what.name(), happened.member);
        let line = self.line(happened.version, &kind);
        txn.when(When::Absent(line.clone())).put(line, json(&Line::Happened(happened.clone())))
    }
}

/// What happened to the record of `record`'s version, to whom, by whom and why.
pub fn happening(
    record: &PhaseRecord,
    what: What,
    member: String,
    (by, reason): (&str, &str),
    at_unix_ms: u64,
) -> Happening {
    Happening {
        stash: record.stash.clone(),
        what,
        at_unix_ms,
        version: record.version,
        phase: record.phase,
        member,
        by: by.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::record::sample;

    fn kept<T>(is: T, at: i64) -> Kept<T> {
        Kept { is, created: at, changed: at }
    }

    #[test]
    fn who_is_new_does_not_join_while_a_move_is_proposed() {
        let keys = Keys::new("/decant", "echoseen");
        let (registration, report) = (Registration::default(), Report::default());
        let unproposed = When::Absent(keys.proposal());
        let new = keys.register("b", None, &registration, &report, 1);
        assert!(new.when.contains(&unproposed));
        let known = Member { registration: kept(registration.clone(), 3), report: None, promise: None };
        let back = keys.register("b", Some(&known), &registration, &report, 1);
        assert!(!back.when.contains(&unproposed), "its maker waits for it");
        assert!(back.then.contains(&crate::etcd::Then::Delete(keys.promise_of("b"))), "and does not begin without it");
    }

    #[test]
    fn a_record_that_has_changed_since_it_was_weighed_is_not_moved_on() {
        let keys = Keys::new("/decant", "echoseen");
        let weighed = kept(sample(Phase::RedisStandby, 3), 5);
        let says = kept(Promise { proposal: 6, says: Report::default() }, 7);
        let maker = Member { registration: kept(Registration::default(), 1), report: None, promise: Some(says) };
        // Another member was forgotten after the proposal: the mirror is unclean.
        let unclean = PhaseRecord { mirror_unclean_since_unix_ms: Some(9), ..weighed.is.clone() };
        let view = View {
            record: Some(Kept { changed: 8, ..kept(unclean, 5) }),
            members: [("m".to_owned(), maker)].into(),
            ..View::default()
        };
        let proposal = Proposal {
            to: Phase::KaskFirst,
            ahead: None,
            version: 4,
            by: "root".into(),
            member: "m".into(),
            since_unix_ms: 1,
        };
        let txn = keys.begin(&weighed, &view, &kept(proposal, 6), &sample(Phase::KaskFirst, 4)).unwrap();
        assert!(txn.when.contains(&When::Unchanged(keys.record(), 5)), "{txn:?}");
    }
}
