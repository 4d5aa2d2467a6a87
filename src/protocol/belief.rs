//! The fence, and what this decant believes of it.

use super::world::Direction;
use crate::{
    codec::key::Key,
    phase::{
        Phase,
        ahead::{self, Ahead},
    },
};
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex};

/// What stands on every shard of a stash: the phase in force and who raised it.
///
/// On the shard it is one line of text, compared as a whole:
/// `decant-fence/1 <version> <phase> <stash> <shards digest> <member>`, and where some keys are ahead `<rule>`. None of the fields holds a
/// space. A decant that knows no such rules cannot read a fence with one, and does nothing under it.
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
    /// Keys that are one phase ahead; none: no key is.
    pub ahead: Option<Ahead>,
}

const FENCE_TAG: &str = "decant-fence/1";

/// The text on a shard is no fence of this decant's kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the fence on the shard is not one this decant can read; was it written by a newer decant?")]
pub struct FenceUnreadable;

impl Fence {
    pub fn to_text(&self) -> String {
        let Fence { version, phase, stash, shards, member, ahead } = self;
        let rule = ahead.as_ref().map(|rule| format!(" {rule}")).unwrap_or_default();
        format!("{FENCE_TAG} {version} {} {stash} {shards} {member}{rule}", phase.name())
    }

    pub fn parse(text: &str) -> Result<Fence, FenceUnreadable> {
        let fields: Vec<&str> = text.split(' ').collect();
        let [FENCE_TAG, version, phase, stash, shards, member, ref rule @ ..] = fields[..] else {
            return Err(FenceUnreadable);
        };
        let ahead = match rule {
            [] => None,
            [rule] => Some(rule.parse().map_err(|_| FenceUnreadable)?),
            _ => return Err(FenceUnreadable),
        };
        Ok(Fence {
            version: version.parse().map_err(|_| FenceUnreadable)?,
            phase: phase.parse().map_err(|_| FenceUnreadable)?,
            stash: stash.to_owned(),
            shards: shards.to_owned(),
            member: member.to_owned(),
            ahead,
        })
    }

    /// The phase that holds for this key.
    pub fn phase_of(&self, key: &Key) -> Phase {
        if self.is_ahead(key) { self.phase.next().unwrap_or(self.phase) } else { self.phase }
    }

    pub fn is_ahead(&self, key: &Key) -> bool {
        self.ahead.as_ref().is_some_and(|rule| rule.covers(key))
    }

    /// Whether this phase holds for any key.
    pub fn has(&self, phase: Phase) -> bool {
        ahead::holds(phase, self.phase, self.ahead.as_ref())
    }

    /// The key's phase makes no such intents itself: this one is of the phase before.
    pub fn is_of_before(&self, key: &Key, direction: Direction) -> bool {
        is_of_before(self.phase_of(key), direction)
    }

    /// How many intents are of the phase before; none: with a rule it takes all of them to tell, and they are not `listed`.
    pub fn of_before<'a>(
        &self,
        to_kask: u64,
        to_redis: u64,
        listed: Option<impl Iterator<Item = (&'a Key, Direction)>>,
    ) -> Option<u64> {
        if self.ahead.is_none() {
            let count = |direction, open| if is_of_before(self.phase, direction) { open } else { 0 };
            return Some(count(Direction::ToKask, to_kask) + count(Direction::ToRedis, to_redis));
        }
        Some(listed?.filter(|(key, direction)| self.is_of_before(key, *direction)).count() as u64)
    }
}

fn is_of_before(phase: Phase, direction: Direction) -> bool {
    match phase {
        Phase::RedisOnly | Phase::KaskOnly => true,
        Phase::DualWrite | Phase::KaskFirst => direction == Direction::ToRedis,
        Phase::RedisStandby => direction == Direction::ToKask,
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

    /// The stash's phase; a key can be ahead of it.
    pub fn phase(&self) -> Phase {
        self.fence.phase
    }

    pub fn phase_of(&self, key: &Key) -> Phase {
        self.fence.phase_of(key)
    }

    /// Of this key Kask alone counts, and nobody but this decant could change that: with Redis out of reach it goes on by itself.
    pub fn may_be_alone(&self, key: &Key) -> bool {
        self.phase_of(key) == Phase::RedisStandby && self.settled && self.own
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
        Fence {
            version,
            phase: Phase::DualWrite,
            stash: "s".into(),
            shards: "d".into(),
            member: "m".into(),
            ahead: None,
        }
    }

    #[test]
    fn a_fence_survives_its_text() {
        let canary = Fence { ahead: Some(Ahead::matching("test wiki:*").unwrap()), ..fence(8) };
        for fence in [fence(7), canary] {
            assert_eq!(Fence::parse(&fence.to_text()), Ok(fence));
        }
        for bad in [
            "",
            "decant-fence/1",
            "decant-fence/2 1 dual-write s d m",
            "decant-fence/1 x dual-write s d m",
            "decant-fence/1 1 dual s d m",
            "decant-fence/1 1 dual-write s d m everything",
            "decant-fence/1 1 dual-write s d m share:0.1 more",
        ] {
            assert_eq!(Fence::parse(bad), Err(FenceUnreadable), "{bad}");
        }
    }

    #[test]
    fn a_key_that_a_rule_covers_is_one_phase_ahead() {
        let (canary, other) = (Key::from_bytes("testwiki:a"), Key::from_bytes("enwiki:a"));
        let mut fence = Fence { ahead: Some(Ahead::matching("testwiki:*").unwrap()), ..fence(1) };
        assert_eq!((fence.phase_of(&canary), fence.phase_of(&other)), (Phase::KaskFirst, Phase::DualWrite));
        assert!(fence.has(Phase::DualWrite) && fence.has(Phase::KaskFirst) && !fence.has(Phase::RedisStandby));
        fence.phase = Phase::KaskFirst;
        assert!(fence.is_of_before(&canary, Direction::ToKask) && !fence.is_of_before(&other, Direction::ToKask));
        assert!(!fence.is_of_before(&canary, Direction::ToRedis) && fence.is_of_before(&other, Direction::ToRedis));
        assert!(Belief::new(fence.clone(), true, true).may_be_alone(&canary));
        assert!(!Belief::new(fence, true, true).may_be_alone(&other));
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
