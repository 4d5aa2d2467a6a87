//! A write or a delete, from its beginning to its end. Once begun it runs to its end even when the client goes away.

use super::{
    Belief, Safeguard, Site, World,
    copy::{Copier, Ended},
    mirror::Mirror,
    pending::Pending,
    world::{Applied, By, Content, Direction, Event, KaskGot, KaskPut, Millis, Newest, Refusal, Token, Unheard},
};
use crate::{
    codec::key::Key,
    phase::{Phase, Sequencer},
};

/// A waiting write's pauses double up to so many times the first.
const PAUSE_GROWS_MAX: Millis = 8;

/// What the client asked for.
#[derive(Clone, Debug)]
pub struct Change {
    pub content: Content,
    /// BagOStuff's `add`.
    pub only_if_absent: bool,
}

/// What the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteAnswer {
    Done,
    /// `only_if_absent`, and there is a value: nothing was done.
    Exists,
    /// Kask, as the sequencer, refused it for good.
    Refused(String),
    /// `on_tier_failure = "fail"`: Redis holds the write, Kask does not yet.
    HalfDone(String),
    /// A tier that is needed cannot answer. `unknown`: the write may or may not have been done.
    Unavailable {
        why: String,
        unknown: bool,
        in_transit: bool,
    },
}

impl WriteAnswer {
    fn unavailable(why: impl Into<String>) -> WriteAnswer {
        WriteAnswer::Unavailable { why: why.into(), unknown: false, in_transit: false }
    }
}

/// A try is not begun later than so many polls before the budget ends.
const LAST_TRY_POLLS: Millis = 5;

/// How a write began.
enum Begun<L> {
    /// APPLY in `redis-only`: nothing else is to be done.
    RedisAlone,
    /// APPLY: Redis holds it; `asked_at` is when APPLY was sent, `applied_at` when it was answered.
    Applied {
        intent: Token,
        generation: u64,
        others: bool,
        asked_at: Millis,
        applied_at: Millis,
    },
    /// MARK: Kask may be written.
    Marked {
        intent: Token,
        asked_at: Millis,
    },
    /// Kask may be written, without an intent; with Redis out of reach a move waits until the guard is dropped.
    KaskAlone(Option<L>),
    Answered(WriteAnswer),
}

/// Runs a write that the client sent at `began`; `answer` is called exactly once, often before the write has ended.
pub async fn write<W: World>(
    site: &Site<W>,
    key: &Key,
    change: &Change,
    began: Millis,
    answer: impl FnOnce(WriteAnswer) + Send,
) {
    let own = site.own(key);
    let settled = match begin(site, key, change, began).await {
        Begun::Answered(WriteAnswer::Unavailable { why, unknown: true, in_transit }) => {
            answer(WriteAnswer::Unavailable { why, unknown: true, in_transit });
            false
        }
        Begun::Answered(other) => {
            answer(other);
            true
        }
        Begun::RedisAlone => {
            answer(WriteAnswer::Done);
            true
        }
        Begun::Applied { intent, generation, others, asked_at, applied_at } => {
            let deadline = asked_at + site.settings.copy_window;
            let copier = Copier { site, key, intent, deadline, by: By::Writer };
            finish_copy(&copier, &change.content, Applying { generation, others, applied_at, began }, answer).await
        }
        Begun::Marked { intent, asked_at } => {
            let deadline = asked_at + site.settings.copy_window;
            let mirror = Mirror { site, key, intent, deadline, by: By::Writer };
            finish_mirror(&mirror, &change.content, began, answer).await
        }
        Begun::KaskAlone(_under_way) => {
            // What was noted as written alone is healed a lease later, and what `add` saw in Kask grows old: nothing is sent after that.
            let until = began + site.settings.budget.min(site.settings.copy_window);
            if site.world.now() < until {
                answer(kask_decides(site.world.kask_put(key, &change.content, until).await));
            } else {
                answer(WriteAnswer::unavailable("no time was left to write Kask"));
            }
            true
        }
    };
    if settled {
        own.settled();
    }
}

/// Asks the phase how to begin, and begins; starts over when the shard knows a newer phase, and waits while the key is in transit.
async fn begin<W: World>(site: &Site<W>, key: &Key, change: &Change, began: Millis) -> Begun<W::Lone> {
    let give_up_at = began + site.settings.budget;
    let mut waited = false;
    let mut pause = site.settings.transit_poll;
    loop {
        let belief = site.belief();
        let refusal = match begin_once(site, key, change, &belief, give_up_at).await {
            Ok(begun) => return begun,
            Err(refusal) => refusal,
        };
        let wait = match refusal {
            Refusal::Fence(seen) => {
                if site.learn(seen.as_ref()) {
                    0
                } else {
                    pause
                }
            }
            Refusal::Transit => {
                if !std::mem::replace(&mut waited, true) {
                    site.world.note(Event::Waited);
                }
                pause
            }
            Refusal::NotDone(why) => {
                return Begun::Answered(WriteAnswer::Unavailable { why, unknown: false, in_transit: waited });
            }
            Refusal::Unknown(why) => {
                return Begun::Answered(WriteAnswer::Unavailable { why, unknown: true, in_transit: false });
            }
        };
        // A last try without time for its answer would end as "outcome unknown", or as Redis's fault, and hide what it waited for.
        if site.world.now() + wait + LAST_TRY_POLLS * site.settings.transit_poll >= give_up_at {
            let why = if waited {
                "the key is in transit between the tiers"
            } else {
                "the phase in force could not be confirmed on the shard"
            };
            return Begun::Answered(WriteAnswer::Unavailable { why: why.into(), unknown: false, in_transit: waited });
        }
        // Most keys are in transit for milliseconds; what takes longer is asked for less often.
        if wait > 0 {
            pause = (pause * 2).min(site.settings.transit_poll * PAUSE_GROWS_MAX);
        }
        site.world.sleep(wait).await;
    }
}

async fn begin_once<W: World>(
    site: &Site<W>,
    key: &Key,
    change: &Change,
    belief: &Belief,
    until: Millis,
) -> Result<Begun<W::Lone>, Refusal> {
    let world = &site.world;
    let phase = belief.phase_of(key);
    if phase.sequencer() == Sequencer::Kask && world.kask_is_away() {
        // At once, and before anything is left behind for a write that cannot be sent.
        return Ok(Begun::Answered(WriteAnswer::unavailable("Kask does not answer, and it decides in this phase")));
    }
    if change.only_if_absent && phase != Phase::RedisOnly && phase != Phase::DualWrite {
        match add_may_go_on(site, key, belief, until).await? {
            Ok(()) => {}
            Err(answer) => return Ok(Begun::Answered(answer)),
        }
    }
    let asked_at = world.now();
    let intent = world.token();
    match phase {
        Phase::RedisOnly => {
            Ok(match world.apply(key, &belief.text, &change.content, None, change.only_if_absent, until).await? {
                Applied::Done { .. } => Begun::RedisAlone,
                Applied::Exists => Begun::Answered(WriteAnswer::Exists),
            })
        }
        Phase::DualWrite | Phase::KaskFirst if !site.rules.holds(Safeguard::RedisFirst) => {
            world.kask_put(key, &change.content, until).await;
            world.apply(key, &belief.text, &change.content, None, false, until).await?;
            Ok(Begun::RedisAlone)
        }
        Phase::DualWrite | Phase::KaskFirst => Ok(
            match world.apply(key, &belief.text, &change.content, Some(intent), change.only_if_absent, until).await? {
                Applied::Done { generation, others } => {
                    Begun::Applied { intent, generation, others, asked_at, applied_at: world.now() }
                }
                Applied::Exists => Begun::Answered(WriteAnswer::Exists),
            },
        ),
        Phase::RedisStandby if !site.rules.holds(Safeguard::Mark) => Ok(Begun::KaskAlone(None)),
        Phase::RedisStandby => match world.mark(key, &belief.text, intent, until).await {
            Ok(()) => Ok(Begun::Marked { intent, asked_at }),
            // Without time to write Kask the mirror is not made unclean for nothing.
            Err(Refusal::NotDone(why) | Refusal::Unknown(why)) if world.now() < until => {
                alone(site, key, belief, why).await
            }
            Err(Refusal::NotDone(why) | Refusal::Unknown(why)) => Err(Refusal::NotDone(why)),
            Err(refusal) => Err(refusal),
        },
        Phase::KaskOnly => Ok(Begun::KaskAlone(None)),
    }
}

/// Redis is out of reach in `redis-standby`. Kask may be written alone only by a decant that knows its record as settled and is the one
/// that the fence names, and only after "this mirror is unclean" is durable.
async fn alone<W: World>(site: &Site<W>, key: &Key, belief: &Belief, why: String) -> Result<Begun<W::Lone>, Refusal> {
    let known = belief.settled && belief.own || !site.rules.holds(Safeguard::Members);
    if !known {
        return Ok(Begun::Answered(WriteAnswer::unavailable(why)));
    }
    let noted = if site.rules.holds(Safeguard::Unclean) {
        site.world.note_alone(key, belief.fence.version).await.map(Some)
    } else {
        Ok(None)
    };
    // The belief is read again: a promise not to write alone may have been given while the note was made durable.
    let still = site.belief();
    let unchanged = still.settled && still.own && still.fence.version == belief.fence.version
        || !site.rules.holds(Safeguard::Members);
    match noted {
        Ok(under_way) if unchanged => Ok(Begun::KaskAlone(under_way)),
        // Another phase is in force now: start over in that one.
        _ if still.fence.version != belief.fence.version => Err(Refusal::Fence(Some(still.fence.clone()))),
        Ok(_) => Ok(Begun::Answered(WriteAnswer::unavailable(why))),
        Err(Unheard(unnoted)) => Ok(Begun::Answered(WriteAnswer::unavailable(format!("{why}; {unnoted}")))),
    }
}

/// `add` where Kask is read: it must not hold a value either. Best effort where Kask is the sequencer: two decants can both find none.
///
/// Of a pending key the record decides: in `kask-first` a remembered delete is a miss, whatever Kask still holds. In `redis-standby` a key
/// in transit to Kask waits, as every write does: Kask may still hold a value whose delete was acknowledged.
async fn add_may_go_on<W: World>(
    site: &Site<W>,
    key: &Key,
    belief: &Belief,
    until: Millis,
) -> Result<Result<(), WriteAnswer>, Refusal> {
    let phase = belief.phase_of(key);
    let standby = phase == Phase::RedisStandby;
    let redis_knows = standby || phase == Phase::KaskFirst;
    if redis_knows && site.pending_of(key) != Pending::No {
        let record = match site.world.read(key, &belief.text, until).await {
            Ok(seen) => seen.record.filter(|r| r.direction == Direction::ToKask),
            // Kask is the sequencer: without Redis the write may still go on alone, which is decided later.
            Err(Refusal::NotDone(_) | Refusal::Unknown(_)) if standby => None,
            Err(refusal) => return Err(refusal),
        };
        match record {
            Some(_) if standby => return Err(Refusal::Transit),
            Some(record) if record.newest == Newest::Delete => return Ok(Ok(())),
            _ => {}
        }
    }
    Ok(match site.world.kask_get(key, until).await {
        KaskGot::Miss => Ok(()),
        KaskGot::Hit(_) => Err(WriteAnswer::Exists),
        KaskGot::Error(why) => Err(WriteAnswer::unavailable(why)),
    })
}

struct Applying {
    generation: u64,
    others: bool,
    applied_at: Millis,
    began: Millis,
}

/// Redis holds the write: copies it to Kask and settles. Whether the intent surely is gone.
async fn finish_copy<W: World>(
    copier: &Copier<'_, W>,
    content: &Content,
    at: Applying,
    answer: impl FnOnce(WriteAnswer) + Send,
) -> bool {
    let site = copier.site;
    let mut answer = Some(answer);
    let mut tell = |what: WriteAnswer| {
        if let Some(answer) = answer.take() {
            answer(what);
        }
    };
    if site.settings.answer_before_copy {
        tell(WriteAnswer::Done);
    }
    let others = at.others && site.rules.holds(Safeguard::WaitOthers);
    let sent = send_own(copier, content, at.began + site.settings.budget).await;
    let known_by_all = at.applied_at + site.settings.settle_wait;
    match sent {
        Ok(()) if !others => {
            tell(WriteAnswer::Done);
            copier.settle(at.generation).await != Ended::Left
        }
        Ok(()) => {
            let ended = copier.settle(at.generation).await;
            if ended != (Ended::Settled { alone: true }) {
                sleep_until(site, known_by_all).await;
            }
            tell(WriteAnswer::Done);
            ended != Ended::Left
        }
        Err(why) => {
            sleep_until(site, known_by_all).await;
            tell(if site.settings.fail_on_tier_failure { WriteAnswer::HalfDone(why) } else { WriteAnswer::Done });
            false
        }
    }
}

async fn send_own<W: World>(copier: &Copier<'_, W>, content: &Content, budget_end: Millis) -> Result<(), String> {
    let world = &copier.site.world;
    let until = copier.deadline.min(budget_end);
    if world.now() >= until {
        return Err("no time was left to copy to Kask".into());
    }
    match world.kask_put(copier.key, content, until).await {
        KaskPut::Done => Ok(()),
        KaskPut::Refused(why) => {
            copier.give_up(&why).await;
            Err(why)
        }
        KaskPut::Unknown(_) if !copier.site.rules.holds(Safeguard::NoResend) => {
            world.kask_put(copier.key, content, until).await;
            Ok(())
        }
        KaskPut::NotSent(why) | KaskPut::Unknown(why) => Err(why),
    }
}

async fn sleep_until<W: World>(site: &Site<W>, when: Millis) {
    let now = site.world.now();
    if now < when {
        site.world.sleep(when - now).await;
    }
}

/// The intent stands: writes Kask, answers with its status, mirrors in the background. Whether the intent surely is gone.
async fn finish_mirror<W: World>(
    mirror: &Mirror<'_, W>,
    content: &Content,
    began: Millis,
    answer: impl FnOnce(WriteAnswer) + Send,
) -> bool {
    let site = mirror.site;
    let until = mirror.deadline.min(began + site.settings.budget);
    if site.world.now() >= until {
        answer(WriteAnswer::unavailable("no time was left to write Kask"));
        return false;
    }
    let put = site.world.kask_put(mirror.key, content, until).await;
    let next = match &put {
        KaskPut::Done => Next::Mirror(content.clone()),
        KaskPut::Refused(_) => Next::Compare,
        KaskPut::NotSent(_) => Next::Release,
        KaskPut::Unknown(_) => Next::Leave,
    };
    answer(kask_decides(put));
    let ended = match next {
        Next::Mirror(content) => mirror.run(content).await,
        // Nothing was stored: Redis is brought to what Kask holds, which it should hold already.
        Next::Compare => mirror.from_kask().await,
        // Nothing was changed on its account. Else a Kask that is away would fill the outbox with every write that was refused.
        Next::Release => mirror.release().await,
        Next::Leave => Ended::Left,
    };
    ended != Ended::Left
}

/// What becomes of a mirror's intent.
enum Next {
    Mirror(Content),
    Compare,
    Release,
    Leave,
}

fn kask_decides(put: KaskPut) -> WriteAnswer {
    match put {
        KaskPut::Done => WriteAnswer::Done,
        KaskPut::Refused(why) => WriteAnswer::Refused(why),
        KaskPut::NotSent(why) => WriteAnswer::unavailable(why),
        KaskPut::Unknown(why) => WriteAnswer::Unavailable { why, unknown: true, in_transit: false },
    }
}
