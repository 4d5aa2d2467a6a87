//! The keys of one shard: each is looked at, and again, until its verdict is known.

use super::{
    case::{Case, Next},
    class::Class,
    distinct::Hash,
    fix::fix,
    look::{Look, Traits, look},
    run::Run,
};
use crate::{
    codec::key::Key,
    protocol::{World as _, world::Millis},
};
use std::{cmp::Ordering, collections::BinaryHeap, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};

/// Looks of one shard that are under way, or wait for their turn.
const LOOKS_MAX: usize = 64;
/// Keys of one shard that wait for their next look; over it no new ones are taken.
const WAITING_MAX: usize = 8_192;

/// A key between two looks. The greatest is the one that is due first.
struct Waiting {
    at: Millis,
    key: Key,
    case: Case,
}

/// A key after a look.
struct Looked {
    key: Key,
    case: Case,
    next: Next,
    traits: Traits,
}

/// Ends when no key is left, or the run is over.
pub(super) async fn compare_shard(
    run: Arc<Run>,
    shard: usize,
    mut fed: mpsc::Receiver<Key>,
    verdicts: mpsc::Sender<(Hash, Class)>,
) {
    let (mut looks, mut waiting, mut more) = (JoinSet::new(), BinaryHeap::<Waiting>::new(), true);
    while more || !looks.is_empty() || !waiting.is_empty() {
        let now = run.stash.site.world.now();
        let room = looks.len() < LOOKS_MAX;
        if room && waiting.peek().is_some_and(|first| first.at <= now) {
            if let Some(due) = waiting.pop() {
                run.live.waits(-1);
                looks.spawn(look_at(run.clone(), due.key, due.case));
            }
            continue;
        }
        let next_due = waiting.peek().map_or(u64::MAX, |first| first.at.saturating_sub(now));
        tokio::select! {
            () = run.stop.cancelled() => return,
            Some(looked) = looks.join_next(), if !looks.is_empty() => match looked {
                Ok(looked) => take(&run, shard, looked, &mut waiting, &verdicts).await,
                Err(fault) => run.give_up(format!("a look ended: {fault}; please report this")),
            },
            () = sleep(Duration::from_millis(next_due)), if room && next_due < u64::MAX => {}
            key = fed.recv(), if room && more && waiting.len() < WAITING_MAX => match key {
                None => more = false,
                Some(key) if run.is_retired(&key) => run.live.retired(),
                Some(key) => match run.unstorable(&key) {
                    Some(why) => run.settle(shard, &key, Class::Unstorable(why), Traits::default(), &verdicts).await,
                    None => {
                        looks.spawn(look_at(run.clone(), key, Case::default()));
                    }
                },
            },
        }
    }
}

async fn take(
    run: &Run,
    shard: usize,
    looked: Looked,
    waiting: &mut BinaryHeap<Waiting>,
    verdicts: &mpsc::Sender<(Hash, Class)>,
) {
    let Looked { key, case, next, traits } = looked;
    match next {
        Next::Done(class) => run.settle(shard, &key, class, traits, verdicts).await,
        Next::Gone => run.live.gone(),
        Next::Again(at) => {
            run.live.waits(1);
            waiting.push(Waiting { at, key, case });
        }
        Next::OtherPhase => {
            run.give_up(format!("a move began while {} was being compared", run.belief.phase()));
        }
    }
}

/// One look in its turn, and what the verdict asks for.
async fn look_at(run: Arc<Run>, key: Key, mut case: Case) -> Looked {
    // Never closed.
    let _place = run.places.acquire().await;
    let waited = run.pace.turn().await;
    run.live.limited(waited);
    let (mut next, traits) = look_once(&run, &key, &mut case).await;
    if let Some(class) = run.is_to_be_fixed(&key, &next) {
        next = fix(&run, &key, class).await;
    }
    Looked { key, case, next, traits }
}

pub(super) async fn look_once(run: &Run, key: &Key, case: &mut Case) -> (Next, Traits) {
    let site = &run.stash.site;
    let until = site.world.now() + site.settings.budget;
    // Without an outbox there is no shard, and no look.
    let transcoder = site.world.outbox.as_ref().map(|outbox| outbox.transcoder());
    let same = |a: &[u8], b: &[u8]| transcoder.is_some_and(|transcoder| transcoder.same_value(a, b));
    let kind = |body: &[u8]| transcoder.map_or("unreadable", |transcoder| transcoder.kind(body));
    let (mut seen, traits) = look(&site.world, key, &run.belief.text, until, same, kind).await;
    if seen == Look::OtherPhase && run.is_of_this_phase() {
        // The looker learns of a move a moment later; a fence that is missing is raised again.
        seen = Look::Away("a shard's fence is missing or another's".to_owned());
    }
    match &seen {
        Look::Away(why) => run.live.away(why),
        _ => run.live.answered(),
    }
    (case.judge(&seen, site.world.now(), run.times()), traits)
}

impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.at == other.at
    }
}

impl Eq for Waiting {}
