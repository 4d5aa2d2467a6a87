//! Where things stand in etcd.
//!
//! | key | holds |
//! |---|---|
//! | `<prefix>/stash/<stash>/record` | the phase record |
//! | `…/proposal` | the move that is being made; goes with its maker's lease |
//! | `…/member/<member>` | that this decant belongs to the fleet, and which version it has acknowledged; stays until it leaves or is forgotten |
//! | `…/alive/<member>` | what it says of itself; goes with its lease |
//! | `…/promise/<member>` | that it writes nothing alone before that move is made or given up; goes with its lease |
//! | `<prefix>/history/<stash>/<version>.<kind>` | one line each, never changed |

/// The keys of one stash.
#[derive(Clone, Debug)]
pub struct Keys {
    root: String,
    history: String,
}

/// A member's keys, by what they are for.
const MEMBER: &str = "member/";
const ALIVE: &str = "alive/";
const PROMISE: &str = "promise/";

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named<'a> {
    Record,
    Proposal,
    Member(&'a str),
    Alive(&'a str),
    Promise(&'a str),
}

impl Keys {
    pub fn new(prefix: &str, stash: &str) -> Keys {
        Keys { root: format!("{prefix}/stash/{stash}/"), history: format!("{prefix}/history/{stash}/") }
    }

    /// Everything but the history begins so.
    pub fn root(&self) -> &str {
        &self.root
    }

    pub fn history(&self) -> &str {
        &self.history
    }

    pub fn record(&self) -> String {
        format!("{}record", self.root)
    }

    pub(super) fn proposal(&self) -> String {
        format!("{}proposal", self.root)
    }

    pub(super) fn member_of(&self, member: &str) -> String {
        format!("{}{MEMBER}{member}", self.root)
    }

    pub(super) fn alive_of(&self, member: &str) -> String {
        format!("{}{ALIVE}{member}", self.root)
    }

    pub(super) fn promise_of(&self, member: &str) -> String {
        format!("{}{PROMISE}{member}", self.root)
    }

    /// In the order of the versions. `kind`: `0` for the move itself, else what happened later.
    pub(super) fn line(&self, version: u64, kind: &str) -> String {
        format!("{}{version:020}.{kind}", self.history)
    }

    pub(super) fn named<'a>(&self, key: &'a str) -> Option<Named<'a>> {
        match key.strip_prefix(&self.root)? {
            "record" => Some(Named::Record),
            "proposal" => Some(Named::Proposal),
            rest => rest
                .strip_prefix(MEMBER)
                .map(Named::Member)
                .or_else(|| rest.strip_prefix(ALIVE).map(Named::Alive))
                .or_else(|| rest.strip_prefix(PROMISE).map(Named::Promise)),
        }
    }
}
