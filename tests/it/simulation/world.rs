//! The world of one decant in the simulation: every call gives way to the scheduler before and after its effect.

use super::{
    Fault, Rng,
    checker::{Log, ReadFlags, show},
    forget::Links,
    kask::Kask,
    scenarios::Mix,
    shard::Shard,
};
use decant::{
    codec::key::Key,
    protocol::{
        Fence, Rules, Site, World,
        backfill::{Looked, copy_many, is_held, look_many},
        copy::Ended,
        heal::heal,
        pending::Look,
        reap,
        world::{
            Applied, Background, Claimed, Content, Event, KaskGot, KaskPut, Millis, Owned, Refusal, Seen, Settled,
            Stored, Taken, Token, Unheard,
        },
    },
};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

/// What a task that gave way waits for.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    Ready,
    Until(Millis),
    Flight { id: u64, until: Millis },
}

/// What the scheduler and the checker know of the task that runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskFlags {
    pub read: ReadFlags,
    /// It writes in a phase in which Kask decides.
    pub by_kask: bool,
    /// It has made "this mirror is unclean" durable and may be writing Kask alone.
    pub alone: bool,
}

/// A script that was given up on and reaches the shard later.
type Straggler = (String, Box<dyn FnOnce(&mut Shard, Millis) + Send>);

/// A line of a decant's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alone {
    pub decant: usize,
    key: Key,
    pub version: u64,
    noted_at: Millis,
}

/// Everything there is besides the tasks.
pub struct Sim {
    pub now: Millis,
    pub rng: Rng,
    pub mix: Mix,
    pub rules: Rules,
    pub lease: Millis,
    pub shard: Shard,
    pub links: Links,
    pub kask: Kask,
    pub faults_left: u32,
    /// By decant: cannot reach the shard.
    pub cut: Vec<bool>,
    /// By decant: nothing is written alone under a phase of this version or an older one.
    pub promised: Vec<u64>,
    /// The shard takes no new values.
    pub full: bool,
    /// `kask-only` was left backwards.
    pub forced: bool,
    /// What was written to Kask alone and is not mirrored yet. While there is any, the mirror is unclean.
    pub journal: Vec<Alone>,
    pub stragglers: Vec<Straggler>,
    pub log: Log,
    /// The task that is being polled, and what it waits for.
    pub task: usize,
    pub wait: Wait,
    pub flags: Vec<TaskFlags>,
    pub spawned: Vec<(usize, Background)>,
    pub trace: Option<Vec<String>>,
}

impl Sim {
    pub fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>7} ms  {}", self.now, brief(&what())));
        }
    }

    /// Whether a fault of this kind happens here and now.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        let hit = self.faults_left > 0 && self.rng.u32(0..100) < self.mix.percent(fault);
        if hit {
            self.faults_left -= 1;
        }
        hit
    }

    /// The server has been compared by all who are there, and lacks nothing that they know of.
    pub fn is_trusted(&self) -> bool {
        self.are_all_connected() && !self.shard.life.suspect && self.now >= self.shard.life.quiet
    }

    pub fn unclean(&self) -> bool {
        self.forced || !self.journal.is_empty()
    }

    fn flags(&mut self) -> &mut ReadFlags {
        let task = self.task;
        &mut self.flags[task].read
    }
}

/// One decant's view.
pub struct SimWorld {
    pub sim: Arc<Mutex<Sim>>,
    pub decant: usize,
}

/// Gives way once.
struct Pause {
    sim: Arc<Mutex<Sim>>,
    wait: Option<Wait>,
}

impl Future for Pause {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.wait.take() {
            Some(wait) => {
                self.sim.lock().unwrap().wait = wait;
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

enum Failed {
    NotDone,
    Unknown,
}

impl SimWorld {
    pub fn sim(&self) -> MutexGuard<'_, Sim> {
        self.sim.lock().unwrap()
    }

    fn pause(&self, wait: Wait) -> Pause {
        Pause { sim: self.sim.clone(), wait: Some(wait) }
    }

    /// One script: on its way, done (or not, or later), its answer on its way back.
    async fn script<T: std::fmt::Debug>(
        &self,
        name: String,
        until: Millis,
        begins: bool,
        effect: impl FnOnce(&mut Shard, Millis) -> T + Send + 'static,
    ) -> Result<T, Failed> {
        self.pause(Wait::Ready).await;
        let result = self.run(name, until, begins, effect);
        if result.is_err() {
            self.sim().flags().redis_failed = true;
        }
        self.pause(Wait::Ready).await;
        result
    }

    fn run<T: std::fmt::Debug>(
        &self,
        name: String,
        until: Millis,
        begins: bool,
        effect: impl FnOnce(&mut Shard, Millis) -> T + Send + 'static,
    ) -> Result<T, Failed> {
        let decant = self.decant;
        let sim = &mut *self.sim();
        if sim.cut[decant] {
            sim.say(|| format!("d{decant} {name}: cut off"));
            return Err(Failed::NotDone);
        }
        if !sim.is_connected(decant) {
            sim.say(|| format!("d{decant} {name}: no connection"));
            return Err(Failed::NotDone);
        }
        if sim.full && begins {
            sim.say(|| format!("d{decant} {name}: the shard is full"));
            return Err(Failed::NotDone);
        }
        // What was given up on while it was on its way: never sent, done and not heard, done and heard after all, or still on its way.
        let overdue = if sim.now >= until { sim.rng.u32(0..4) } else { 2 };
        if overdue == 0 {
            sim.say(|| format!("d{decant} {name}: given up before it was sent"));
            return Err(Failed::NotDone);
        }
        if overdue == 3 || sim.strikes(Fault::LateScript) {
            sim.say(|| format!("d{decant} {name}: given up on, still on its way"));
            let late = Box::new(move |shard: &mut Shard, now| drop(effect(shard, now)));
            sim.stragglers.push((format!("d{decant} {name}"), late));
            return Err(Failed::Unknown);
        }
        let (shard, now) = (&mut sim.shard, sim.now);
        let before = shard.writes();
        let result = effect(shard, now);
        let writes = shard.writes();
        let lost = overdue == 1 || sim.strikes(Fault::LostReply);
        if writes != before {
            sim.links.remember(&sim.shard);
        }
        if !lost && writes != before {
            sim.links.saw(decant, writes);
        }
        sim.say(|| format!("d{decant} {name}: {result:?}{}", if lost { ", and the answer is lost" } else { "" }));
        if lost { Err(Failed::Unknown) } else { Ok(result) }
    }

    /// A script runs only in the life of the shard that its sender was accepted in.
    fn if_accepted<T>(
        &self,
        effect: impl FnOnce(&mut Shard, Millis) -> T + Send + 'static,
    ) -> impl FnOnce(&mut Shard, Millis) -> Option<T> + Send + 'static {
        let life = self.sim().links.known(self.decant).life;
        move |shard, now| shard.accepts(life).then(|| effect(shard, now))
    }

    async fn beginning<T: std::fmt::Debug>(
        &self,
        name: String,
        until: Millis,
        effect: impl FnOnce(&mut Shard, Millis) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        // READ begins nothing: a full shard still answers it.
        let begins = !name.starts_with("READ");
        match self.script(name, until, begins, self.if_accepted(effect)).await {
            Ok(Some(result)) => result,
            Ok(None) => Err(Refusal::Fence(None)),
            Err(Failed::NotDone) => Err(Refusal::NotDone("Redis did not take it".into())),
            Err(Failed::Unknown) => Err(Refusal::Unknown("Redis did not answer".into())),
        }
    }

    async fn finishing<T: std::fmt::Debug>(
        &self,
        name: String,
        until: Millis,
        begins: bool,
        effect: impl FnOnce(&mut Shard, Millis) -> T + Send + 'static,
    ) -> Result<T, Unheard> {
        match self.script(name, until, begins, self.if_accepted(effect)).await {
            Ok(Some(result)) => Ok(result),
            _ => Err(Unheard("Redis was not heard".into())),
        }
    }

    /// The look at the outbox, and the fence that came with it. Where the server has to be compared again, that is done.
    pub async fn look(&self) -> Result<(Look, Option<Fence>), Unheard> {
        let life = self.sim().links.known(self.decant).life;
        let look_max = self.sim().mix.look_max;
        let looked = move |shard: &mut Shard, _| (shard.look(look_max), shard.accepts(life), shard.writes());
        let look = self.script("LOOK".into(), Millis::MAX, false, looked).await;
        let Ok((look, accepted, writes)) = look else { return Err(Unheard("Redis was not heard".into())) };
        let sim = &mut *self.sim();
        if !accepted || sim.links.known(self.decant).writes > writes {
            if sim.is_connected(self.decant) {
                sim.connect(self.decant);
            }
        } else {
            sim.links.saw(self.decant, writes);
        }
        Ok(look)
    }

    /// All open intents, oldest first.
    pub async fn expired(&self) -> Result<Vec<(Token, Key)>, Unheard> {
        self.finishing("EXPIRED".into(), Millis::MAX, false, |shard, now| shard.expired(0, 100, now)).await
    }
}

/// Leaves out what is the same everywhere, and the bytes of digests.
fn brief(line: &str) -> String {
    let line = line.replace(", stash: \"s\", shards: \"x\"", "");
    let mut parts = line.split("Digest([");
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digest, rest) = part.split_once("])").unwrap_or((part, ""));
        told.push_str(&format!("digest {}{rest}", digest.split(',').next().unwrap_or_default()));
    }
    told
}

fn short(token: Token) -> String {
    format!("#{:04x}", token.0 & 0xffff)
}

pub fn tell(content: &Content) -> String {
    match content {
        Content::Body(body) => String::from_utf8_lossy(body).into_owned(),
        Content::Nothing => "nothing".into(),
    }
}

impl World for SimWorld {
    type Lone = ();

    fn now(&self) -> Millis {
        self.sim().now
    }

    async fn sleep(&self, length: Millis) {
        let until = self.now() + length;
        self.pause(Wait::Until(until)).await;
    }

    fn spawn(&self, work: Background) {
        self.sim().spawned.push((self.decant, work));
    }

    fn token(&self) -> Token {
        Token(self.sim().rng.u128(..))
    }

    fn shard_of(&self, _: &Key) -> usize {
        0
    }

    async fn apply(
        &self,
        key: &Key,
        fence: &str,
        content: &Content,
        intent: Option<Token>,
        only_if_absent: bool,
        until: Millis,
    ) -> Result<Applied, Refusal> {
        let name = format!("APPLY {} {} {}", show(key), tell(content), intent.map(short).unwrap_or_default());
        let (key, fence, content) = (key.clone(), fence.to_owned(), content.clone());
        let effect = move |s: &mut Shard, now| s.apply(&key, &fence, &content, intent, only_if_absent, now);
        self.beginning(name, until, effect).await
    }

    async fn read(&self, key: &Key, fence: &str, until: Millis) -> Result<Seen, Refusal> {
        let name = format!("READ {}", show(key));
        let (key, fence) = (key.clone(), fence.to_owned());
        let seen = self.beginning(name, until, move |s: &mut Shard, now| s.read(&key, &fence, now)).await;
        if matches!(&seen, Ok(Seen { value: Stored::Absent, .. })) {
            self.sim().flags().told_absent = true;
        }
        seen
    }

    async fn take(&self, key: &Key, fence: &str, intent: Token, until: Millis) -> Result<Taken, Refusal> {
        let name = format!("TAKE {} {}", show(key), short(intent));
        let (key, fence) = (key.clone(), fence.to_owned());
        let taken = self.beginning(name, until, move |s: &mut Shard, now| s.take(&key, &fence, intent, now)).await;
        if matches!(&taken, Ok(Taken::Nothing | Taken::Shown { doubtful: true, .. })) {
            self.sim().flags().told_absent = true;
        }
        taken
    }

    async fn settle(&self, key: &Key, intent: Token, generation: u64, until: Millis) -> Result<Settled, Unheard> {
        let name = format!("SETTLE {} {} generation {generation}", show(key), short(intent));
        let key = key.clone();
        self.finishing(name, until, false, move |s, now| s.settle(&key, intent, generation, now)).await
    }

    async fn read_many(&self, keys: &[Key], fence: &str, until: Millis) -> Vec<Result<Seen, Refusal>> {
        let mut seen = Vec::new();
        for key in keys {
            seen.push(self.read(key, fence, until).await);
        }
        seen
    }

    async fn take_many(&self, keys: &[(Key, Token)], fence: &str, until: Millis) -> Vec<Result<Taken, Refusal>> {
        let mut taken = Vec::new();
        for (key, intent) in keys {
            taken.push(self.take(key, fence, *intent, until).await);
        }
        taken
    }

    async fn settle_many(&self, copies: &[(Key, Token, u64)], until: Millis) -> Vec<Result<Settled, Unheard>> {
        let mut settled = Vec::new();
        for (key, intent, generation) in copies {
            settled.push(self.settle(key, *intent, *generation, until).await);
        }
        settled
    }

    async fn mark(&self, key: &Key, fence: &str, intent: Token, until: Millis) -> Result<(), Refusal> {
        let name = format!("MARK {} {}", show(key), short(intent));
        let (key, fence) = (key.clone(), fence.to_owned());
        let marked = self.beginning(name, until, move |s: &mut Shard, now| s.mark(&key, &fence, intent, now)).await;
        let sim = &mut *self.sim();
        let task = sim.task;
        sim.flags[task].by_kask = marked.is_ok();
        marked
    }

    async fn mirror(&self, key: &Key, intent: Token, content: &Content, until: Millis) -> Result<Owned, Unheard> {
        let name = format!("MIRROR {} {} {}", show(key), tell(content), short(intent));
        let (key, content) = (key.clone(), content.clone());
        self.finishing(name, until, true, move |s, now| s.mirror(&key, intent, &content, now)).await
    }

    async fn release(&self, key: &Key, intent: Token, until: Millis) -> Result<Owned, Unheard> {
        let name = format!("release {} {}", show(key), short(intent));
        let key = key.clone();
        self.finishing(name, until, false, move |s, now| s.release(&key, intent, now)).await
    }

    async fn claim(&self, key: &Key, expired: &[Token], intent: Token, until: Millis) -> Result<Claimed, Unheard> {
        let old: Vec<String> = expired.iter().copied().map(short).collect();
        let name = format!("CLAIM {} {} as {}", show(key), old.join(" "), short(intent));
        let (key, expired) = (key.clone(), expired.to_vec());
        let lease = if self.sim().rules.holds(decant::protocol::Safeguard::Lease) { self.sim().lease } else { 0 };
        self.finishing(name, until, false, move |s, now| s.claim(&key, &expired, intent, lease, now)).await
    }

    async fn give_up(&self, key: &Key, intent: Token, reason: &str, until: Millis) -> Result<(), Unheard> {
        let name = format!("give up {} {}", show(key), short(intent));
        let (key, reason) = (key.clone(), reason.to_owned());
        self.finishing(name, until, false, move |s, now| s.give_up(&key, intent, &reason, now)).await
    }

    async fn kask_get(&self, key: &Key, until: Millis) -> KaskGot {
        self.pause(Wait::Ready).await;
        let got = {
            let sim = &mut *self.sim();
            let failed = sim.strikes(Fault::KaskGet) || sim.now >= until && sim.rng.bool();
            let got = match sim.kask.get(key) {
                _ if failed => KaskGot::Error("Kask did not answer".into()),
                Some(body) => KaskGot::Hit(body.clone()),
                None => KaskGot::Miss,
            };
            // A hit counts as "not the newest" where the reader compares it with a digest; the value checks cover the rest.
            sim.flags().told_absent |= !failed;
            sim.say(|| format!("d{} kask GET {}: {got:?}", self.decant, show(key)));
            got
        };
        self.pause(Wait::Ready).await;
        got
    }

    fn kask_is_away(&self) -> bool {
        self.sim().strikes(Fault::KaskAway)
    }

    fn is_busy(&self) -> bool {
        false
    }

    async fn kask_put(&self, key: &Key, content: &Content, until: Millis) -> KaskPut {
        let id = {
            let sim = &mut *self.sim();
            let id = sim.kask.send(key, content, sim.now);
            sim.say(|| format!("d{} kask PUT {} {}: flight {id}", self.decant, show(key), tell(content)));
            id
        };
        loop {
            self.pause(Wait::Flight { id, until }).await;
            let sim = &mut *self.sim();
            if let Some(answer) = sim.kask.answer(id) {
                sim.say(|| format!("d{} flight {id}: {answer:?}", self.decant));
                return answer;
            }
            if sim.now >= until {
                sim.kask.abandon(id);
                sim.say(|| format!("d{} flight {id}: given up on", self.decant));
                return KaskPut::Unknown("timed out".into());
            }
        }
    }

    async fn note_alone(&self, key: &Key, version: u64) -> Result<(), Unheard> {
        self.pause(Wait::Ready).await;
        let slowly = {
            let sim = &mut *self.sim();
            if version <= sim.promised[self.decant] {
                return Err(Unheard("the stash moves".into()));
            }
            let task = sim.task;
            (sim.flags[task].alone, sim.flags[task].by_kask) = (true, true);
            sim.mix.fleet.is_some()
        };
        // Of a fleet, others may ask for a promise while the disk is at work.
        if slowly {
            self.pause(Wait::Ready).await;
        }
        {
            let sim = &mut *self.sim();
            sim.journal.push(Alone { decant: self.decant, key: key.clone(), version, noted_at: sim.now });
            sim.say(|| format!("d{} notes that {} is written alone", self.decant, show(key)));
        }
        self.pause(Wait::Ready).await;
        Ok(())
    }

    fn note(&self, _: Event) {}
}

/// The look task of a decant: what is pending, and which phase is in force.
pub async fn look_on(site: Arc<Site<SimWorld>>) {
    loop {
        let sent = site.world.now();
        if let Ok((look, fence)) = site.world.look().await {
            site.beliefs.learn(fence.as_ref());
            site.pending[0].looked(look, sent);
        }
        site.world.sleep(100).await;
    }
}

/// The reaper task of a decant.
pub async fn reap_on(site: Arc<Site<SimWorld>>) {
    let mut watch = reap::Watch::default();
    loop {
        if let Ok(listed) = site.world.expired().await {
            let expired = watch.expired(&listed, reap::lease(&site), site.world.now());
            for (key, tokens) in &expired {
                reap::reap(&site, key, tokens).await;
            }
        }
        site.world.sleep(500).await;
    }
}

/// A backfill meets all keys once.
pub async fn backfill_on(site: Arc<Site<SimWorld>>, keys: Vec<Key>) {
    let mut lacking = Vec::new();
    for (key, looked) in keys.iter().zip(look_many(&site, &keys).await) {
        if let Looked::Body(body) = looked
            && is_held(&site, key, |held| held == body).await != Ok(true)
        {
            lacking.push(key.clone());
        }
    }
    let moved = copy_many(&site, &lacking).await;
    let sim = &mut *site.world.sim();
    sim.say(|| format!("d{} backfill: {moved:?}", site.world.decant));
}

/// The task that heals what a decant wrote alone, once it reaches the shard again: a lease after it was noted, and only while the phase is
/// the one it was written under.
pub async fn heal_on(site: Arc<Site<SimWorld>>) {
    let world = &site.world;
    loop {
        let (now, belief) = (world.now(), site.belief());
        let ripe = |line: &&Alone| {
            line.decant == world.decant
                && line.version == belief.fence.version
                && now >= line.noted_at + site.settings.lease
        };
        let next = world.sim().journal.iter().find(ripe).cloned();
        if let Some(line) = next
            && let Ok(Ended::Settled { .. }) = heal(&site, &line.key, &belief).await
        {
            let sim = &mut *world.sim();
            sim.say(|| format!("d{} has healed {}, written alone", world.decant, show(&line.key)));
            sim.journal.retain(|other| *other != line);
        }
        world.sleep(700).await;
    }
}
