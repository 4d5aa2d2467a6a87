//! One look at one key in both tiers. Nothing is changed, no intent is left.

use crate::{
    codec::key::Key,
    protocol::{
        World,
        world::{Digest, KaskGot, Millis, Newest, Refusal, Seen, Stored},
    },
};

/// What Redis held at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// The newest write that an open intent's record tells of; none: the key has no intent, so the tiers are to agree.
    pub open: Option<Newest>,
    pub value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Absent,
    Untranscodable(&'static str),
    Held {
        digest: Digest,
        /// Kask held the same value, in whatever spelling.
        same: bool,
    },
}

/// Redis, Kask, and Redis again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub before: Side,
    /// What Kask held in between; none: nothing. Where `before` decides alone, Kask was not asked.
    pub kask: Option<Digest>,
    pub after: Side,
}

/// What a look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    Seen(Sight),
    /// The shard's fence is not that of the phase that is being compared.
    OtherPhase,
    /// A tier gave no answer.
    Away(String),
}

/// For a report: what differs, without a word of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    pub redis: Option<(&'static str, usize)>,
    pub kask: Option<(&'static str, usize)>,
}

/// Asks Redis with one READ, under `fence`; then Kask; then, unless that was all that is needed, Redis again. `compare` says whether two
/// bodies are the same value, `kind` what one holds.
pub async fn look<W: World>(
    world: &W,
    key: &Key,
    fence: &str,
    until: Millis,
    same: impl Fn(&[u8], &[u8]) -> bool,
    kind: impl Fn(&[u8]) -> &'static str,
) -> (Look, Traits) {
    let mut traits = Traits::default();
    let before = match world.read(key, fence, until).await {
        Ok(seen) => seen,
        Err(refusal) => return (refused(refusal), traits),
    };
    let side = |seen: &Seen, kask: Option<&[u8]>| Side {
        open: seen.record.map(|record| record.newest),
        value: match &seen.value {
            Stored::Absent => Value::Absent,
            Stored::Untranscodable(reason) => Value::Untranscodable(reason),
            Stored::Body(body) => {
                Value::Held { digest: Digest::of(body), same: kask.is_some_and(|kask| same(body, kask)) }
            }
        },
    };
    if before.record.is_none() && !matches!(before.value, Stored::Body(_)) {
        let before = side(&before, None);
        return (Look::Seen(Sight { before, kask: None, after: before }), traits);
    }
    let kask = match world.kask_get(key, until).await {
        KaskGot::Hit(body) => Some(body),
        KaskGot::Miss => None,
        KaskGot::Error(why) => return (Look::Away(why), traits),
    };
    if let Stored::Body(body) = &before.value {
        traits.redis = Some((kind(body), body.len()));
    }
    traits.kask = kask.as_ref().map(|body| (kind(body), body.len()));
    let sight = |before, after| Look::Seen(Sight { before, kask: kask.as_deref().map(Digest::of), after });
    let first = side(&before, kask.as_deref());
    if matches!(first, Side { open: None, value: Value::Held { same: true, .. } }) {
        return (sight(first, first), traits);
    }
    match world.read(key, fence, until).await {
        Ok(after) => (sight(first, side(&after, kask.as_deref())), traits),
        Err(refusal) => (refused(refusal), traits),
    }
}

fn refused(refusal: Refusal) -> Look {
    match refusal {
        Refusal::Fence(_) => Look::OtherPhase,
        Refusal::Transit => Look::Away("the key is in transit between the tiers".to_owned()),
        Refusal::NotDone(why) | Refusal::Unknown(why) => Look::Away(why),
    }
}
