//! One shard as the protocol means it: the value, the record and the intents of each key, the fence, and each script as one step.
//!
//! It knows nothing of tasks, faults or other shards: each script is a plain method that takes the shard's clock. So it can stand
//! in for Redis in a simulation, and beside a real one as the reference its answers are compared with.

use super::life::{Known, Life, LifeId};
use decant::{
    codec::key::Key,
    protocol::{
        Fence, Rules, Safeguard,
        pending::Look,
        world::{
            Applied, Claimed, Content, Digest, Direction, Held, Millis, Newest, Owned, Record, Refusal, Seen, Settled,
            Stored, Taken, Token,
        },
    },
};
use std::collections::BTreeMap;

/// After so many tries that will not do better next time an intent is damaged.
pub const TRIES_MAX: u32 = 5;

/// One copy or write under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// By the shard's clock.
    pub born: Millis,
    pub tries: u32,
    /// Why it was given up on.
    pub damaged: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    record: Record,
    generation: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    value: Stored,
    /// Some while there are intents.
    kept: Option<Kept>,
    intents: BTreeMap<Token, Intent>,
    /// The newest write of all times: only what settles without an intent (a safeguard was removed) is compared with it.
    last: Option<Kept>,
}

impl Default for Entry {
    fn default() -> Entry {
        Entry { value: Stored::Absent, kept: None, intents: BTreeMap::new(), last: None }
    }
}

impl Entry {
    fn add(&mut self, intent: Token, now: Millis) {
        self.intents.insert(intent, Intent { born: now, tries: 0, damaged: None });
    }

    /// Removes the intent; the record goes with the last. Whether it was the last.
    fn remove(&mut self, intent: Token) -> bool {
        self.intents.remove(&intent);
        if self.intents.is_empty() {
            self.kept = None;
        }
        self.intents.is_empty()
    }

    fn held(&self, newest: Newest) -> Held {
        match (&self.value, newest) {
            (Stored::Body(body), _) => Held::Is(Content::Body(body.clone())),
            (Stored::Untranscodable(reason), _) => Held::Untranscodable(reason),
            (Stored::Absent, Newest::Delete) => Held::Is(Content::Nothing),
            (Stored::Absent, Newest::Set(digest)) => Held::Evicted(digest),
            (Stored::Absent, Newest::Old) => Held::Unknown,
        }
    }
}

/// The reference shard. A clone of it is a snapshot.
#[derive(Clone, Debug)]
pub struct Shard {
    rules: Rules,
    /// Which process serves: another one after every restart.
    pub run: u64,
    pub life: Life,
    fence: Option<Fence>,
    fence_text: Option<String>,
    generations: u64,
    entries: BTreeMap<Key, Entry>,
    /// Who claimed what: only looked at where [`Safeguard::Token`] was removed.
    successors: BTreeMap<Token, Token>,
}

impl Shard {
    pub fn new(rules: Rules) -> Shard {
        Shard {
            rules,
            run: 0,
            life: Life::default(),
            fence: None,
            fence_text: None,
            generations: 0,
            entries: BTreeMap::new(),
            successors: BTreeMap::new(),
        }
    }

    fn entry(&mut self, key: &Key) -> &mut Entry {
        self.entries.entry(key.clone()).or_default()
    }

    fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }

    /// Whether scripts of a decant that was accepted in this life run. Otherwise there is no fence for who begins something, and no answer
    /// for who finishes.
    pub fn accepts(&self, life: Option<LifeId>) -> bool {
        life.is_some() && self.life.now == life
    }

    /// Nothing is copied yet from what was there before the process came.
    fn is_quiet(&self, now_ms: Millis) -> bool {
        self.rules.holds(Safeguard::Quiet) && now_ms < self.life.quiet
    }

    /// A record to Kask of before a loss is not to be believed.
    fn is_of_before(&self, kept: &Kept) -> bool {
        let old = kept.generation <= self.life.before || self.life.suspect && kept.record.newest == Newest::Old;
        self.rules.holds(Safeguard::Disbelief) && kept.record.direction == Direction::ToKask && old
    }

    fn believed(&self, key: &Key) -> Option<Kept> {
        self.entries.get(key)?.kept.filter(|kept| !self.is_of_before(kept))
    }

    /// Forgets a record that is not to be believed, with its intents. Whether there was one.
    fn forget_of_before(&mut self, key: &Key) -> bool {
        let gone = self.entries.get(key).and_then(|entry| entry.kept).is_some_and(|kept| self.is_of_before(&kept));
        if gone {
            let entry = self.entry(key);
            entry.kept = None;
            entry.intents.clear();
        }
        gone
    }

    fn in_transit(&self, key: &Key, wanted: Direction) -> bool {
        self.believed(key).is_some_and(|kept| kept.record.direction != wanted)
    }

    fn check_fence(&self, fence: &str) -> Result<(), Refusal> {
        if self.fence_text.as_deref() == Some(fence) || !self.rules.holds(Safeguard::Fence) {
            return Ok(());
        }
        Err(Refusal::Fence(self.fence.clone()))
    }

    /// Fence and direction: what begins something needs both.
    fn check(&mut self, key: &Key, fence: &str, wanted: Direction) -> Result<(), Refusal> {
        self.check_fence(fence)?;
        let transit = self.rules.holds(Safeguard::Transit) && self.in_transit(key, wanted);
        if transit { Err(Refusal::Transit) } else { Ok(()) }
    }

    /// The intent that a token stands for now.
    fn resolve(&self, mut intent: Token) -> Token {
        while let (false, Some(next)) = (self.rules.holds(Safeguard::Token), self.successors.get(&intent)) {
            intent = *next;
        }
        intent
    }

    /// Whether there are operations that go on without an intent.
    fn bare(&self) -> bool {
        !self.rules.holds(Safeguard::Intent) || !self.rules.holds(Safeguard::RepairIntent)
    }

    /// APPLY and APPLY-DELETE. Each takes a new generation.
    pub fn apply(
        &mut self,
        key: &Key,
        fence: &str,
        content: &Content,
        intent: Option<Token>,
        only_if_absent: bool,
        now_ms: Millis,
    ) -> Result<Applied, Refusal> {
        self.check(key, fence, Direction::ToKask)?;
        // Without an intent nothing could be said to whoever holds one: any record refuses.
        if intent.is_none() && self.believed(key).is_some() && self.rules.holds(Safeguard::Transit) {
            return Err(Refusal::Transit);
        }
        if only_if_absent && self.entry(key).value != Stored::Absent {
            return Ok(Applied::Exists);
        }
        let others = intent.is_some() && !self.entry(key).intents.is_empty();
        self.forget_of_before(key);
        let newest = match content {
            Content::Body(body) => Newest::Set(Digest::of(body)),
            Content::Nothing if self.rules.holds(Safeguard::Tombstone) => Newest::Delete,
            Content::Nothing => Newest::Old,
        };
        let leaves = self.rules.holds(Safeguard::Intent);
        let generation = self.next_generation();
        let entry = self.entry(key);
        entry.value = as_stored(content);
        let kept = Kept { record: Record { direction: Direction::ToKask, newest }, generation };
        if let Some(intent) = intent {
            entry.last = Some(kept);
            if leaves {
                entry.kept = Some(kept);
                entry.add(intent, now_ms);
            }
        }
        Ok(Applied::Done { generation, others })
    }

    /// READ: fence, record and value of one instant.
    pub fn read(&mut self, key: &Key, fence: &str, _now_ms: Millis) -> Result<Seen, Refusal> {
        self.check_fence(fence)?;
        let (believed, value) = (self.believed(key), self.value(key));
        let doubtful = self.life.suspect && believed.is_none() && value != Stored::Absent;
        Ok(Seen { record: believed.map(|kept| kept.record), value, doubtful })
    }

    /// TAKE: an existing record stays as it is; a new one takes a new generation and remembers `old`.
    pub fn take(&mut self, key: &Key, fence: &str, intent: Token, now_ms: Millis) -> Result<Taken, Refusal> {
        self.check(key, fence, Direction::ToKask)?;
        let leaves = self.rules.holds(Safeguard::RepairIntent);
        let believed = self.believed(key);
        let deleted = believed.is_some_and(|kept| kept.record.newest == Newest::Delete);
        let value = self.value(key);
        if deleted || value == Stored::Absent {
            return Ok(Taken::Nothing);
        }
        let doubtful = self.life.suspect && believed.is_none();
        if self.is_quiet(now_ms) || doubtful && self.rules.holds(Safeguard::Doubt) {
            return Ok(Taken::Shown { value, doubtful });
        }
        let entry = self.entry(key);
        if !leaves {
            let generation = entry.last.map_or(0, |kept| kept.generation);
            return Ok(Taken::Value { value, generation });
        }
        let generation = self.join(key, Direction::ToKask, intent, now_ms);
        Ok(Taken::Value { value, generation })
    }

    /// MARK.
    pub fn mark(&mut self, key: &Key, fence: &str, intent: Token, now_ms: Millis) -> Result<(), Refusal> {
        self.check(key, fence, Direction::ToRedis)?;
        if self.rules.holds(Safeguard::Arrival) && now_ms < self.life.quiet.min(self.life.moved) {
            return Err(Refusal::Transit);
        }
        if self.rules.holds(Safeguard::Intent) {
            self.join(key, Direction::ToRedis, intent, now_ms);
        }
        Ok(())
    }

    /// Adds an intent under the record that exists, or under a new one that remembers `old`.
    fn join(&mut self, key: &Key, direction: Direction, intent: Token, now_ms: Millis) -> u64 {
        self.forget_of_before(key);
        let counted = self.next_generation();
        let generation = self.entry(key).kept.map_or(counted, |kept| kept.generation);
        let entry = self.entry(key);
        let newest = entry.kept.map_or(Newest::Old, |kept| kept.record.newest);
        entry.kept = Some(Kept { record: Record { direction, newest }, generation });
        entry.add(intent, now_ms);
        generation
    }

    /// SETTLE.
    pub fn settle(&mut self, key: &Key, intent: Token, generation: u64, now_ms: Millis) -> Settled {
        let (intent, bare, validate) = (self.resolve(intent), self.bare(), self.rules.holds(Safeguard::Validate));
        let (quiet, of_before) = (self.is_quiet(now_ms), self.believed(key).is_none());
        let entry = self.entry(key);
        if entry.kept.is_some() && of_before {
            return Settled::Lost;
        }
        if quiet && entry.intents.contains_key(&intent) {
            return Settled::Kept;
        }
        if !entry.intents.contains_key(&intent) && !bare {
            return if self.rules.holds(Safeguard::Token) { Settled::Lost } else { Settled::Gone { alone: false } };
        }
        let current = entry.kept.or(entry.last);
        let same = current.is_none_or(|kept| kept.generation == generation);
        let newest = current.map_or(Newest::Old, |kept| kept.record.newest);
        if same || !validate || newest == Newest::Old {
            return Settled::Gone { alone: entry.remove(intent) };
        }
        Settled::Newer { generation: current.map_or(0, |kept| kept.generation), held: entry.held(newest) }
    }

    fn owned(&mut self, key: &Key, intent: Token) -> Option<&mut Entry> {
        let (bare, no_token) = (self.bare(), !self.rules.holds(Safeguard::Token));
        let entry = self.entry(key);
        (entry.intents.contains_key(&intent) || bare || no_token).then_some(entry)
    }

    /// MIRROR: the value, only while the intent is the caller's.
    pub fn mirror(&mut self, key: &Key, intent: Token, content: &Content, _now_ms: Millis) -> Owned {
        let intent = self.resolve(intent);
        let Some(entry) = self.owned(key, intent) else { return Owned::Lost };
        entry.value = as_stored(content);
        self.next_generation();
        Owned::Yes
    }

    /// Removes a mirror's intent.
    pub fn release(&mut self, key: &Key, intent: Token, _now_ms: Millis) -> Owned {
        let intent = self.resolve(intent);
        let Some(entry) = self.owned(key, intent) else { return Owned::Lost };
        entry.remove(intent);
        Owned::Yes
    }

    /// CLAIM: the listed intents that still exist, are older than the lease and not damaged become one, the claimer's. It has seen as
    /// many tries as the one among them that has seen most.
    pub fn claim(&mut self, key: &Key, expired: &[Token], intent: Token, lease: Millis, now_ms: Millis) -> Claimed {
        if self.is_quiet(now_ms) || self.forget_of_before(key) {
            return Claimed::Nothing;
        }
        let entry = self.entry(key);
        let ripe = |found: &&Intent| found.damaged.is_none() && now_ms.saturating_sub(found.born) >= lease;
        let taken: Vec<Token> =
            expired.iter().copied().filter(|t| entry.intents.get(t).filter(ripe).is_some()).collect();
        let (Some(kept), false) = (entry.kept, taken.is_empty()) else { return Claimed::Nothing };
        let tries = taken.iter().filter_map(|t| entry.intents.remove(t)).map(|gone| gone.tries).max().unwrap_or(0);
        entry.intents.insert(intent, Intent { born: now_ms, tries, damaged: None });
        let answer = match kept.record.direction {
            Direction::ToKask => Claimed::ToKask { generation: kept.generation, held: entry.held(kept.record.newest) },
            Direction::ToRedis => Claimed::ToRedis,
        };
        self.successors.extend(taken.into_iter().map(|old| (old, intent)));
        self.next_generation();
        answer
    }

    /// Counts a try that will not do better next time.
    pub fn give_up(&mut self, key: &Key, intent: Token, reason: &str, _now_ms: Millis) {
        if let Some(found) = self.entry(key).intents.get_mut(&intent) {
            found.tries += 1;
            if found.tries >= TRIES_MAX {
                found.damaged = Some(reason.to_owned());
            }
        }
    }

    /// LOOK: the keys with an open intent (damaged ones too), or that they are more than `bound`; and the fence.
    pub fn look(&self, bound: usize) -> (Look, Option<Fence>) {
        let pending = || self.entries.iter().filter(|(_, entry)| !entry.intents.is_empty()).map(|(key, _)| key.clone());
        let look = if pending().count() > bound { Look::Everything } else { Look::Keys(pending().collect()) };
        (look, self.fence.clone())
    }

    /// EXPIRED: what is `age` old or older and not damaged, oldest first, at most `limit`.
    pub fn expired(&self, age: Millis, limit: usize, now_ms: Millis) -> Vec<(Token, Key)> {
        let mut found: Vec<(Millis, Token, Key)> = Vec::new();
        for (key, entry) in &self.entries {
            for (token, intent) in &entry.intents {
                if intent.damaged.is_none() && now_ms.saturating_sub(intent.born) >= age {
                    found.push((intent.born, *token, key.clone()));
                }
            }
        }
        found.sort();
        found.truncate(limit);
        found.into_iter().map(|(_, token, key)| (token, key)).collect()
    }

    /// RAISE: never lowered, never over another stash's or another list of shards. Whether the fence stands now. `settled`: nothing of
    /// before it is left to arrive in Kask, unless an older fence stands.
    pub fn raise(&mut self, fence: &Fence, settled: bool, lease: Millis, now_ms: Millis) -> bool {
        if self.fence.as_ref() == Some(fence) {
            return true;
        }
        let fits = self
            .fence
            .as_ref()
            .is_none_or(|now| now.version < fence.version && now.stash == fence.stash && now.shards == fence.shards);
        if fits {
            if self.fence.is_some() || !settled {
                self.life.moved = now_ms + lease;
            }
            self.fence = Some(fence.clone());
            self.fence_text = Some(fence.to_text());
            self.next_generation();
        }
        fits
    }

    /// ADOPT, for a decant that is connected to the process that serves now.
    pub fn adopt(&mut self, known: Known, lease: Millis, now_ms: Millis) -> Known {
        let known = if self.rules.holds(Safeguard::Compare) { known } else { Known::default() };
        let used = self.fence.is_some();
        self.life.adopt(self.run, known, &mut self.generations, used, lease, now_ms)
    }

    /// ACCEPT.
    pub fn accept(&mut self, now_ms: Millis) -> bool {
        self.life.accept(&mut self.generations, now_ms)
    }

    /// How many writes, intents and fences there were, as far as this data knows.
    pub fn writes(&self) -> u64 {
        self.generations
    }

    /// Another process serves, with what `snapshot` held.
    pub fn restart_from(&mut self, snapshot: &Shard) {
        let run = self.run + 1;
        *self = Shard { run, ..snapshot.clone() };
    }

    /// FLUSHALL: the process stays.
    pub fn flush(&mut self) {
        *self = Shard { run: self.run, ..Shard::new(self.rules) };
    }

    // What follows are no scripts: the world's doing, and a look inside.

    pub fn fence(&self) -> Option<&Fence> {
        self.fence.as_ref()
    }

    pub fn value(&self, key: &Key) -> Stored {
        self.entries.get(key).map_or(Stored::Absent, |entry| entry.value.clone())
    }

    /// Sets the value past the protocol: what was there before, what MediaWiki wrote itself, or an eviction.
    pub fn set_value(&mut self, key: &Key, value: Stored) {
        self.entry(key).value = value;
    }

    /// Record and generation.
    pub fn record(&self, key: &Key) -> Option<(Record, u64)> {
        self.entries.get(key)?.kept.map(|kept| (kept.record, kept.generation))
    }

    pub fn intents(&self, key: &Key) -> BTreeMap<Token, Intent> {
        self.entries.get(key).map(|entry| entry.intents.clone()).unwrap_or_default()
    }

    /// The open intents, each with its key and its direction.
    pub fn open(&self) -> impl Iterator<Item = (&Key, Direction)> {
        self.entries
            .iter()
            .filter_map(|(key, entry)| Some((key, entry.kept?.record.direction, entry.intents.len())))
            .flat_map(|(key, direction, intents)| std::iter::repeat_n((key, direction), intents))
    }
}

fn as_stored(content: &Content) -> Stored {
    match content {
        Content::Body(body) => Stored::Body(body.clone()),
        Content::Nothing => Stored::Absent,
    }
}
