//! The fence, and what this decant believes of it.

use crate::phase::Phase;
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex};

/// What stands on every shard of a stash: the phase in force and who raised it.
///
/// On the shard it is one line of text, compared as a whole:
/// `decant-fence/1 <version> <phase> <stash> <shards digest> <member>`. None of the fields holds a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Never reused; each move takes the next.
    pub version: u64,
    pub phase: Phase,
    pub stash: String,
    /// Digest of the list of shards: two decants that place keys differently must not share an outbox.
    pub shards: String,
    /// The decant that raised it: without a shared record, the only one that may move phases or write alone.
    pub member: String,
}

const FENCE_TAG: &str = "decant-fence/1";

/// The text on a shard is no fence of this decant's kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the fence on the shard is not one this decant can read; was it written by a newer decant?")]
pub struct FenceUnreadable;

impl Fence {
    pub fn to_text(&self) -> String {
        format!("{FENCE_TAG} {} {} {} {} {}", self.version, self.phase.name(), self.stash, self.shards, self.member)
    }

    pub fn parse(text: &str) -> Result<Fence, FenceUnreadable> {
        let fields: Vec<&str> = text.split(' ').collect();
        let [FENCE_TAG, version, phase, stash, shards, member] = fields[..] else { return Err(FenceUnreadable) };
        Ok(Fence {
            version: version.parse().map_err(|_| FenceUnreadable)?,
            phase: phase.parse().map_err(|_| FenceUnreadable)?,
            stash: stash.to_owned(),
            shards: shards.to_owned(),
            member: member.to_owned(),
        })
    }
}

/// A fence as this decant last confirmed it, and what it knows beyond the fence.
#[derive(Clone, Debug)]
pub struct Belief {
    pub fence: Fence,
    /// The fence as it stands on the shards; made once, compared often.
    pub text: String,
    /// No intent of another direction is left: the move to this phase is over.
    pub settled: bool,
    /// This decant is the one that the fence names.
    pub own: bool,
}

impl Belief {
    pub fn new(fence: Fence, settled: bool, own: bool) -> Belief {
        Belief { text: fence.to_text(), fence, settled, own }
    }

    pub fn phase(&self) -> Phase {
        self.fence.phase
    }

    /// Kask alone counts, and nobody but this decant could change that: with Redis out of reach it goes on by itself.
    pub fn may_be_alone(&self) -> bool {
        self.phase() == Phase::RedisStandby && self.settled && self.own
    }
}

/// What learning of a fence came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// It was newer: the decant believes it now; start over.
    Adopted,
    /// It is what the decant believes already (another request was faster): start over.
    Same,
    /// It is missing, older, or another stash's: it must be raised again, or an operator must look; nothing can begin here now.
    Unusable,
}

/// Holds the current belief: read once by each request, changed seldom.
#[derive(Debug)]
pub struct Beliefs {
    current: ArcSwap<Belief>,
    /// Adoption compares and then stores; the lock makes that one step. Readers never take it.
    change: Mutex<()>,
    member: String,
}

impl Beliefs {
    pub fn new(first: Belief, member: &str) -> Beliefs {
        Beliefs { current: ArcSwap::from_pointee(first), change: Mutex::new(()), member: member.to_owned() }
    }

    /// This decant's name in fences.
    pub fn member(&self) -> &str {
        &self.member
    }

    pub fn current(&self) -> Arc<Belief> {
        self.current.load_full()
    }

    /// Takes over what a shard answered. Versions only go up.
    pub fn learn(&self, seen: Option<&Fence>) -> Adoption {
        let Some(seen) = seen else { return Adoption::Unusable };
        let _one_at_a_time = self.change.lock().unwrap_or_else(|e| e.into_inner());
        let now = self.current.load();
        if *seen == now.fence {
            return Adoption::Same;
        }
        if seen.stash != now.fence.stash || seen.shards != now.fence.shards || seen.version <= now.fence.version {
            return Adoption::Unusable;
        }
        let own = seen.member == self.member;
        self.current.store(Arc::new(Belief::new(seen.clone(), false, own)));
        Adoption::Adopted
    }

    /// The mover's own change: a fence it has made durable, or the news that its move has settled.
    pub fn set(&self, belief: Belief) {
        let _one_at_a_time = self.change.lock().unwrap_or_else(|e| e.into_inner());
        if belief.fence.version >= self.current.load().fence.version {
            self.current.store(Arc::new(belief));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(version: u64) -> Fence {
        Fence { version, phase: Phase::DualWrite, stash: "s".into(), shards: "d".into(), member: "m".into() }
    }

    #[test]
    fn a_fence_survives_its_text() {
        assert_eq!(Fence::parse(&fence(7).to_text()), Ok(fence(7)));
        for bad in [
            "",
            "decant-fence/1",
            "decant-fence/2 1 dual-write s d m",
            "decant-fence/1 x dual-write s d m",
            "decant-fence/1 1 dual s d m",
        ] {
            assert_eq!(Fence::parse(bad), Err(FenceUnreadable), "{bad}");
        }
    }

    #[test]
    fn versions_only_go_up_and_other_stashes_are_never_adopted() {
        let beliefs = Beliefs::new(Belief::new(fence(3), true, true), "m");
        assert_eq!(beliefs.learn(None), Adoption::Unusable);
        assert_eq!(beliefs.learn(Some(&fence(2))), Adoption::Unusable);
        assert_eq!(beliefs.learn(Some(&fence(3))), Adoption::Same);
        assert_eq!(beliefs.learn(Some(&Fence { stash: "t".into(), ..fence(4) })), Adoption::Unusable);
        assert_eq!(beliefs.learn(Some(&Fence { shards: "e".into(), ..fence(4) })), Adoption::Unusable);
        assert_eq!(beliefs.learn(Some(&fence(4))), Adoption::Adopted);
        assert!(!beliefs.current().settled);
    }
}
