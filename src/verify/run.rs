//! One run: what all its shards share, and what they come to.

use super::{
    Request,
    case::{Next, Times},
    class::{Class, OVER_LIMIT},
    distinct::{Distinct, HASH_BYTES, Hash},
    feed::feed,
    look::Traits,
    pace::Pace,
    progress::Live,
    report::{Asked, Difference, Keys, Report},
    shard::compare_shard,
    store::Hasher,
};
use crate::{
    codec::{
        key::Key,
        show::{self, rfc3339},
    },
    outbox::Outbox,
    phase::{Phase, Sequencer},
    protocol::Belief,
    scan::{Counts, Glob, names_on},
    stash::{Stash, inspect::hex, mover::unix_ms},
    tier::kask::URL_TOO_LONG,
};
use metrics::{Gauge, counter, gauge};
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Looks under way at once, over all shards: few beside what clients may have.
const LOOKS_AT_ONCE: usize = 32;
/// Keys that wait between the walk and the looks, a shard.
const KEYS_AHEAD: usize = 1_024;
/// Verdicts that wait to be noted.
const VERDICTS_AHEAD: usize = 4_096;
/// Keys that nobody could be asked for, after which a run is given up.
const UNKNOWN_MAX: u64 = 1_000;
/// Differences listed of each class.
const LISTED_MAX: usize = 100;
/// Reasons that are kept why a run is not complete.
const LACKS_MAX: usize = 16;
/// Characters of a key that are shown.
const KEY_CHARS_MAX: usize = 1_024;
/// Bytes of a key's hash that are shown.
const HASH_SHOWN: usize = 8;

/// Shared by everything that works for one run.
pub(super) struct Run {
    pub id: String,
    pub stash: Arc<Stash>,
    /// What holds while the run goes on; a move ends it.
    pub belief: Arc<Belief>,
    pub begun_unix_ms: u64,
    pub asked: Asked,
    pub only: Option<Glob>,
    pub live: Live,
    ratio: Gauge,
    pub stop: CancellationToken,
    pub places: Semaphore,
    pub pace: Pace,
    /// The longest key that the data listener takes, in bytes.
    key_bytes_max: usize,
    show_keys: bool,
    hasher: Arc<Hasher>,
    /// Keys to be drawn from each shard; none: all are walked.
    draws: Vec<Option<u64>>,
    lacks: Mutex<Vec<String>>,
    listed: Mutex<Listed>,
}

/// Some differences of each class.
#[derive(Default)]
struct Listed {
    of_class: BTreeMap<&'static str, usize>,
    all: BTreeMap<(Class, Hash), Difference>,
}

/// What a [`Run`] is made from besides the request.
pub(super) struct Stand {
    pub id: String,
    pub stash: Arc<Stash>,
    pub belief: Arc<Belief>,
    pub hasher: Arc<Hasher>,
    pub key_bytes_max: usize,
    pub stop: CancellationToken,
    /// For the notes of keys that were compared.
    pub notes: PathBuf,
}

/// Compares, and reports.
pub(super) async fn run(request: Request, stand: Stand, tell: impl FnOnce(Arc<Run>)) -> Report {
    let shards: Vec<String> = (0..stand.stash.views.len()).map(|shard| stand.stash.shard_name(shard)).collect();
    let run = Run {
        live: Live::new(shards),
        ratio: gauge!("decant_verify_progress_ratio", "stash" => stand.stash.name.clone()),
        id: stand.id,
        belief: stand.belief,
        begun_unix_ms: unix_ms(),
        asked: request.asked(),
        only: request.only,
        stop: stand.stop,
        places: Semaphore::new(LOOKS_AT_ONCE),
        pace: Pace::new(request.rate),
        key_bytes_max: stand.key_bytes_max,
        show_keys: request.show_keys,
        hasher: stand.hasher,
        draws: Vec::new(),
        lacks: Mutex::default(),
        listed: Mutex::default(),
        stash: stand.stash,
    };
    let outbox = run.stash.site.world.outbox.clone();
    let run = match &outbox {
        Some(outbox) => run.measured(outbox).await,
        None => run,
    };
    let run = Arc::new(run);
    tell(run.clone());
    let (verdicts, noted) = mpsc::channel(VERDICTS_AHEAD);
    let notes = tokio::spawn(note(run.clone(), stand.notes, noted));
    if let Some(outbox) = outbox {
        run.compare(&outbox, &verdicts).await;
    }
    drop(verdicts);
    let counted = notes.await.unwrap_or_else(|fault| Err(io::Error::other(fault)));
    run.reported(counted)
}

impl Run {
    /// How much there is, and how much of it is to be drawn.
    async fn measured(mut self, outbox: &Outbox) -> Run {
        let mut names = Vec::with_capacity(self.stash.views.len());
        for shard in 0..self.stash.views.len() {
            let there = names_on(outbox, shard).await.unwrap_or_else(|fault| {
                self.live.shard_trouble(shard, &fault.to_string());
                0
            });
            self.live.there_are(shard, there);
            names.push(there);
        }
        let all: u64 = names.iter().sum();
        let share = |sample: u64, there: u64| {
            let share = (u128::from(sample) * u128::from(there)).div_ceil(u128::from(all.max(1)));
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        // A sample of more than there is is everything.
        let sample = self.asked.sample.filter(|sample| *sample < all);
        self.draws = names.into_iter().map(|there| sample.map(|sample| share(sample, there))).collect();
        self
    }

    /// Names were walked past: in the figures of the run, and in the metric.
    pub fn walked(&self, shard: usize, counts: Counts) {
        self.live.walked(shard, counts);
        self.ratio.set(self.live.share(&self.asked));
    }

    pub fn to_draw(&self, shard: usize) -> Option<u64> {
        self.draws.get(shard).copied().flatten()
    }

    async fn compare(self: &Arc<Run>, outbox: &Arc<Outbox>, verdicts: &mpsc::Sender<(Hash, Class)>) {
        let mut shards = JoinSet::new();
        for shard in 0..outbox.shards().len() {
            let (keys, fed) = mpsc::channel(KEYS_AHEAD);
            shards.spawn(feed(self.clone(), outbox.clone(), shard, keys));
            shards.spawn(compare_shard(self.clone(), shard, fed, verdicts.clone()));
        }
        while let Some(ended) = shards.join_next().await {
            if let Err(fault) = ended {
                self.give_up(format!("a task of the run ended: {fault}; please report this"));
            }
        }
    }

    pub fn times(&self) -> Times {
        let settings = &self.stash.site.settings;
        Times { settle_wait: settings.settle_wait, lease: settings.lease }
    }

    /// Whether the phase that is being compared in still holds, as far as this decant knows.
    pub fn is_of_this_phase(&self) -> bool {
        self.stash.site.belief().fence.version == self.belief.fence.version
    }

    /// Of this key Kask counts, and Redis is its mirror.
    pub fn compares_a_mirror(&self, key: &Key) -> bool {
        self.belief.phase_of(key).sequencer() == Sequencer::Kask
    }

    /// Of this key, which is ahead, Redis is told nothing any more.
    pub fn is_retired(&self, key: &Key) -> bool {
        !self.belief.phase_of(key).uses_redis()
    }

    /// Why the run will not be complete; it goes on.
    pub fn lacks(&self, why: String) {
        let mut lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        if lacks.len() < LACKS_MAX && !lacks.contains(&why) {
            lacks.push(why);
        }
    }

    /// Ends the run, incomplete.
    pub fn give_up(&self, why: String) {
        self.lacks(why);
        self.stop.cancel();
    }

    /// Why no Kask can have this key.
    pub fn unstorable(&self, key: &Key) -> Option<&'static str> {
        match key.fault() {
            Some(fault) => Some(fault.name()),
            None if key.as_bytes().len() > self.key_bytes_max => Some(OVER_LIMIT),
            None if !self.stash.site.world.kask.takes(key) => Some(URL_TOO_LONG),
            None => None,
        }
    }

    pub fn short_hash(&self, key: &Key) -> u64 {
        let hash = self.hasher.hash(key);
        hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A verdict that stands: counted, listed, and noted.
    pub async fn settle(
        &self,
        shard: usize,
        key: &Key,
        class: Class,
        traits: Traits,
        verdicts: &mpsc::Sender<(Hash, Class)>,
    ) {
        self.live.judged(class);
        counter!("decant_verify_keys_total", "stash" => self.stash.name.clone(), "result" => class.name()).increment(1);
        if class == Class::Unknown && self.live.unknown() >= UNKNOWN_MAX {
            self.give_up(format!("{UNKNOWN_MAX} keys could not be asked for"));
        }
        let whole = self.hasher.hash(key);
        let mut hash = Hash::default();
        hash.copy_from_slice(&whole[..HASH_BYTES]);
        if class != Class::Equal {
            self.list(shard, key, class, hash, traits);
        }
        // It fails only where noting has ended, which has ended the run.
        let _ = verdicts.send((hash, class)).await;
    }

    fn list(&self, shard: usize, key: &Key, class: Class, hash: Hash, traits: Traits) {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let of_its_class = listed.of_class.entry(class.name()).or_default();
        if *of_its_class >= LISTED_MAX {
            return;
        }
        *of_its_class += 1;
        let difference = Difference {
            key_hash: hex(&hash[..HASH_SHOWN]),
            key: self.show_keys.then(|| show::bytes(key.as_bytes(), KEY_CHARS_MAX).0),
            class: class.name().to_owned(),
            reason: class.reason().map(str::to_owned),
            shard: self.stash.shard_name(shard),
            redis_kind: traits.redis.map(|(kind, _)| kind.to_owned()),
            kask_kind: traits.kask.map(|(kind, _)| kind.to_owned()),
            redis_bytes: traits.redis.map(|(_, bytes)| bytes as u64),
            kask_bytes: traits.kask.map(|(_, bytes)| bytes as u64),
        };
        listed.all.insert((class, hash), difference);
    }

    fn reported(&self, counted: io::Result<BTreeMap<Class, u64>>) -> Report {
        let counts = counted.unwrap_or_else(|fault| {
            self.lacks(format!(
                "the keys that were compared could not be noted in state_dir: {fault}; is the disk full?"
            ));
            BTreeMap::new()
        });
        if self.stop.is_cancelled() && self.lacks.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.lacks("it was stopped before its end".to_owned());
        }
        if !self.is_of_this_phase() {
            self.lacks(format!(
                "the phase is not {} (version {}) any more",
                self.belief.phase(),
                self.belief.fence.version
            ));
        }
        if let Some(why) =
            self.stash.site.world.alone.why_unclean().filter(|_| self.belief.fence.has(Phase::RedisStandby))
        {
            self.lacks(why);
        }
        self.ratio.set(self.live.share(&self.asked));
        let keys = Keys::of(&counts);
        if keys.unknown > 0 {
            let most = self.live.troubles().into_iter().next().map(|why| format!(": {why}")).unwrap_or_default();
            self.lacks(format!("{} keys could not be asked for{most}", keys.unknown));
        }
        let ended_unix_ms = unix_ms();
        let report = Report {
            id: self.id.clone(),
            stash: self.stash.name.clone(),
            phase: self.belief.phase(),
            version: self.belief.fence.version,
            begun: rfc3339(self.begun_unix_ms),
            begun_unix_ms: self.begun_unix_ms,
            ended: rfc3339(ended_unix_ms),
            ended_unix_ms,
            asked: self.asked.clone(),
            keys,
            left_out: self.live.left_out(),
            complete: false,
            incomplete: self.lacks.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            arrived: false,
            equal_percent: None,
            summary: String::new(),
            differences: self.differences(),
            not_compared: String::new(),
        };
        report.concluded()
    }

    /// What tells most first; a key that was looked at twice once.
    fn differences(&self) -> Vec<Difference> {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = std::collections::HashSet::new();
        let greatest_first = listed.all.iter().rev().filter(|((_, hash), _)| seen.insert(*hash));
        greatest_first.map(|(_, difference)| difference.clone()).collect()
    }

    /// What is to be done about a verdict that a write or a look explains.
    pub fn is_to_be_fixed(&self, key: &Key, next: &Next) -> Option<Class> {
        match next {
            // What only the mirror has may be the last copy of what was never brought to Kask: it is told, and left alone.
            Next::Done(Class::Missing) if self.compares_a_mirror(key) => None,
            Next::Done(class) if self.asked.fix && class.is_to_be_fixed() => Some(*class),
            _ => None,
        }
    }
}

/// Notes the verdicts as they come, and counts them when the last has come. The disk is written beside the runtime.
async fn note(
    run: Arc<Run>,
    dir: PathBuf,
    mut verdicts: mpsc::Receiver<(Hash, Class)>,
) -> io::Result<BTreeMap<Class, u64>> {
    let noted = async {
        let mut distinct = on_disk(move || Distinct::new(dir)).await?;
        while let Some((hash, class)) = verdicts.recv().await {
            distinct.note(hash, class);
            if distinct.is_full() {
                distinct = on_disk(move || distinct.spill().map(|()| distinct)).await?;
            }
        }
        on_disk(move || distinct.count()).await
    };
    let counted = noted.await;
    if counted.is_err() {
        run.stop.cancel();
    }
    counted
}

async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|fault| Err(io::Error::other(fault)))
}
