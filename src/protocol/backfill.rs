//! Backfill: values that nobody reads are copied to Kask, many of one shard at a time.
//!
//! Each key goes the way of any copy: TAKE, POST, SETTLE. Only the scripts of many keys travel together. What could not be copied
//! leaves no intent, unless its request may still be applied: then the reaper finishes it.

use super::{
    Belief, Site, World,
    copy::{Copier, Ended},
    site::Own,
    world::{
        By, Content, Direction, Event, KaskGot, KaskPut, Newest, Record, Refusal, Seen, Settled, Stored, Taken, Token,
    },
};
use crate::{codec::key::Key, phase::Phase};
use bytes::Bytes;
use futures_util::future::join_all;

/// What Redis holds of a key, before anything is begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// As Kask is to hold it.
    Body(Bytes),
    /// No value, or one that was deleted and put back past decant.
    Nothing,
    Untranscodable(&'static str),
    Failed(Trouble),
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Kask has it.
    Copied {
        bytes: usize,
    },
    /// It had no value any more.
    Nothing,
    Untranscodable(&'static str),
    /// Kask refused it, and will always.
    Refused(String),
    /// Not now.
    Failed(Trouble),
}

/// Why a key could not be looked at or copied now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Redis was not asked, refused, or did not answer.
    Redis(String),
    /// Kask failed.
    Kask(String),
    /// The shard's fence is not the one that this decant believed in. By now it may be.
    Fence,
    /// The key is still on its way to Redis, from an earlier phase.
    Transit,
    /// In this phase nothing is copied.
    Phase(Phase),
}

impl Trouble {
    /// What the shard held before is not copied, or not yet.
    fn of_before() -> Trouble {
        Trouble::Redis(
            "the shard came back, or without its latest writes: nothing is copied from what it held before".into(),
        )
    }
}

/// Whether values are copied to Kask in this phase: Redis is the sequencer, and Kask is written.
pub fn copies_in(phase: Phase) -> bool {
    matches!(phase, Phase::DualWrite | Phase::KaskFirst)
}

/// Reads keys of one shard in one go.
pub async fn look_many<W: World>(site: &Site<W>, keys: &[Key]) -> Vec<Looked> {
    let belief = site.belief();
    if !copies_in(belief.phase()) {
        return vec![Looked::Failed(Trouble::Phase(belief.phase())); keys.len()];
    }
    let (copied, until) = (copied_in(&belief, keys), site.world.now() + site.settings.budget);
    let seen = site.world.read_many(&copied, &belief.text, until).await;
    let looked = |seen| match seen {
        Ok(Seen { record: Some(Record { newest: Newest::Delete, .. }), .. }) => Looked::Nothing,
        Ok(Seen { doubtful: true, .. }) => Looked::Failed(Trouble::of_before()),
        Ok(Seen { value: Stored::Body(body), .. }) => Looked::Body(body),
        Ok(Seen { value: Stored::Absent, .. }) => Looked::Nothing,
        Ok(Seen { value: Stored::Untranscodable(reason), .. }) => Looked::Untranscodable(reason),
        Err(refusal) => Looked::Failed(trouble(site, refusal)),
    };
    let looks = seen.into_iter().map(looked);
    place(&belief, keys, looks, || Looked::Nothing)
}

/// Of a key that is ahead, in `redis-standby`, Kask decides: Redis has nothing that is to be copied.
fn copied_in(belief: &Belief, keys: &[Key]) -> Vec<Key> {
    keys.iter().filter(|key| copies_in(belief.phase_of(key))).cloned().collect()
}

/// What came of the keys of [`copied_in`], among all keys.
fn place<T>(belief: &Belief, keys: &[Key], copied: impl IntoIterator<Item = T>, other: impl Fn() -> T) -> Vec<T> {
    let mut copied = copied.into_iter();
    let of = |key| if copies_in(belief.phase_of(key)) { copied.next() } else { None };
    keys.iter().map(of).map(|one| one.unwrap_or_else(&other)).collect()
}

/// Whether Kask holds this value already. It may be written again right after; that is its writer's business.
///
/// # Errors
/// Why nobody knows.
pub async fn is_held<W: World>(site: &Site<W>, key: &Key, is_same: impl FnOnce(&[u8]) -> bool) -> Result<bool, String> {
    match site.world.kask_get(key, site.world.now() + site.settings.budget).await {
        KaskGot::Hit(held) => Ok(is_same(&held)),
        KaskGot::Miss => Ok(false),
        KaskGot::Error(why) => Err(why),
    }
}

/// Copies keys of one shard.
pub async fn copy_many<W: World>(site: &Site<W>, keys: &[Key]) -> Vec<Moved> {
    let belief = site.belief();
    if !copies_in(belief.phase()) {
        return vec![Moved::Failed(Trouble::Phase(belief.phase())); keys.len()];
    }
    let deadline = site.world.now() + site.settings.copy_window;
    let takes: Vec<(Key, Token)> = copied_in(&belief, keys).into_iter().map(|key| (key, site.world.token())).collect();
    let owns: Vec<Own<'_, W>> = takes.iter().map(|(key, _)| site.own(key)).collect();
    let taken = site.world.take_many(&takes, &belief.text, deadline).await;
    let copiers = takes.iter().map(|(key, intent)| Copier { site, key, intent: *intent, deadline, by: By::Backfill });
    let copiers: Vec<Copier<'_, W>> = copiers.collect();
    let copies = copiers.iter().zip(taken).map(|(copier, taken)| send(copier, taken));
    let sent = join_all(copies).await;
    let moved = settle(site, copiers, owns, sent).await;
    place(&belief, keys, moved, || Moved::Nothing)
}

/// What is left to do for a key after its copy.
enum Left {
    /// No intent was added.
    None,
    /// The intent stays: its request may still be applied.
    ToReaper,
    Settle {
        generation: u64,
    },
}

async fn send<W: World>(copier: &Copier<'_, W>, taken: Result<Taken, Refusal>) -> (Moved, Left) {
    let (value, generation) = match taken {
        Ok(Taken::Value { value, generation }) => (value, generation),
        Ok(Taken::Nothing) => return (Moved::Nothing, Left::None),
        Ok(Taken::Shown { .. }) => return (Moved::Failed(Trouble::of_before()), Left::None),
        Ok(Taken::Odd(reason)) => return (Moved::Untranscodable(reason), Left::None),
        Err(refusal) => {
            let left = if matches!(refusal, Refusal::Unknown(_)) { Left::ToReaper } else { Left::None };
            return (Moved::Failed(trouble(copier.site, refusal)), left);
        }
    };
    let moved = match value {
        Stored::Body(body) => match post(copier, body).await {
            // It may be applied later: whoever settles must look again.
            (moved, false) => return (moved, Left::ToReaper),
            (moved, true) => moved,
        },
        Stored::Untranscodable(reason) => {
            copier.site.world.note(Event::Untranscodable(Direction::ToKask, reason));
            Moved::Untranscodable(reason)
        }
        Stored::Absent => Moved::Nothing,
    };
    (moved, Left::Settle { generation })
}

/// Sends once; whether the outcome is sure.
async fn post<W: World>(copier: &Copier<'_, W>, body: Bytes) -> (Moved, bool) {
    if copier.too_late() {
        return (Moved::Failed(Trouble::Redis("TAKE was answered too late".into())), true);
    }
    let bytes = body.len();
    match copier.site.world.kask_put(copier.key, &Content::Body(body), copier.deadline).await {
        KaskPut::Done => (Moved::Copied { bytes }, true),
        // Nothing was stored, so the tiers differ no more than before: a write would count this as a try, but here nobody was told anything.
        KaskPut::Refused(why) => (Moved::Refused(why), true),
        KaskPut::NotSent(why) => (Moved::Failed(Trouble::Kask(why)), true),
        KaskPut::Unknown(why) => (Moved::Failed(Trouble::Kask(why)), false),
    }
}

/// Removes the intents in one go; what was written meanwhile is copied key by key.
async fn settle<W: World>(
    site: &Site<W>,
    copiers: Vec<Copier<'_, W>>,
    owns: Vec<Own<'_, W>>,
    sent: Vec<(Moved, Left)>,
) -> Vec<Moved> {
    let mut moved = Vec::with_capacity(sent.len());
    let (mut settles, mut waiting) = (Vec::new(), Vec::new());
    for ((copier, own), (became, left)) in copiers.into_iter().zip(owns).zip(sent) {
        moved.push(became);
        match left {
            Left::None => own.settled(),
            Left::ToReaper => drop(own),
            Left::Settle { generation } => {
                settles.push((copier.key.clone(), copier.intent, generation));
                waiting.push((copier, own));
            }
        }
    }
    let Some((first, _)) = waiting.first() else { return moved };
    // Too late: the reaper settles them all.
    if first.too_late() {
        return moved;
    }
    let settled = site.world.settle_many(&settles, first.deadline).await;
    let newer = waiting.into_iter().zip(settled).map(|((copier, own), settled)| async move {
        let ended = match settled {
            Ok(Settled::Gone { alone }) => {
                site.world.note(Event::Settled(By::Backfill));
                Ended::Settled { alone }
            }
            Ok(Settled::Lost) => Ended::Lost,
            Ok(Settled::Kept) => Ended::Left,
            Ok(Settled::Newer { generation, held }) => copier.copy(&held, generation).await,
            Err(_) => Ended::Left,
        };
        if ended != Ended::Left {
            own.settled();
        }
    });
    join_all(newer).await;
    moved
}

fn trouble<W: World>(site: &Site<W>, refusal: Refusal) -> Trouble {
    match refusal {
        Refusal::Fence(seen) => {
            site.learn(seen.as_ref());
            Trouble::Fence
        }
        Refusal::Transit => Trouble::Transit,
        Refusal::NotDone(why) | Refusal::Unknown(why) => Trouble::Redis(why),
    }
}
