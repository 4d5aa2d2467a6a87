//! Runs one schedule: polls tasks, lands flights, moves the clock and the phase, and does harm, all in an order that the seed decides.

use super::{
    Rng,
    checker::{Log, show},
    fleet::{Fleet, Happened},
    forget::Links,
    kask::{HOLD, Kask},
    life::Known,
    mover::Mover,
    scenarios::Mix,
    shard::Shard,
    world::{Sim, SimWorld, TaskFlags, Wait, backfill_on, heal_on, look_on, reap_on},
};
use bytes::Bytes;
use decant::{
    codec::key::Key,
    phase::Phase,
    protocol::{
        Belief, Beliefs, Fence, Rules, Settings, Site,
        read::read,
        world::{Background, Content, Millis, Stored},
        write::{Change, write},
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

/// More than any schedule needs before the faults stop.
const STEPS_MAX: u32 = 4_000;
/// Rounds of clock steps in which everything must have drained: many leases.
const ROUNDS_MAX: u32 = 200;

// No flight outlives the lease of the intent it was sent for.
const _: () = assert!(HOLD + Settings::DEFAULT.copy_window < Settings::DEFAULT.lease);

pub struct Decant {
    pub site: Arc<Site<SimWorld>>,
    pub alive: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Client,
    /// Look or reaper: never ends.
    Standing,
}

pub struct Task {
    pub decant: usize,
    pub kind: Kind,
    pub work: Option<Background>,
    pub wait: Wait,
    /// Asleep: not polled before this.
    pub stalled_until: Millis,
}

/// One schedule.
pub struct Schedule {
    pub sim: Arc<Mutex<Sim>>,
    pub decants: Vec<Decant>,
    pub tasks: Vec<Task>,
    pub rng: Rng,
    pub mix: Mix,
    pub mover: Mover,
    /// Who moves instead of the mover, where the record is shared in etcd.
    pub fleet: Option<Fleet>,
    pub keys: Vec<Key>,
    pub settings: Settings,
    ops_left: u32,
    ops_ever: u32,
}

/// What a schedule came to.
pub struct Outcome {
    pub failure: Option<String>,
    pub trace: Vec<String>,
    pub acked: u64,
    pub reads_checked: u64,
    pub happened: BTreeMap<Happened, u64>,
}

impl Schedule {
    pub fn run(seed: u64, mix: &Mix, rules: Rules, traced: bool) -> Outcome {
        let mut schedule = Schedule::new(seed, mix, rules, traced);
        schedule.trouble();
        schedule.heal();
        let happened = schedule.fleet.take().map(|fleet| fleet.happened).unwrap_or_default();
        let mut sim = schedule.sim();
        Outcome {
            happened,
            failure: sim.log.failure.take(),
            trace: sim.trace.take().unwrap_or_default(),
            acked: sim.log.acked,
            reads_checked: sim.log.reads_checked,
        }
    }

    fn new(seed: u64, mix: &Mix, rules: Rules, traced: bool) -> Schedule {
        let mut rng = Rng::with_seed(seed);
        let settings = Settings {
            answer_before_copy: rng.u32(0..100) < mix.async_percent,
            fail_on_tier_failure: rng.u32(0..100) < 10,
            repairs_max: rng.usize(1..4),
            hold_doubtful: rng.bool(),
            ..Settings::DEFAULT
        };
        let count = rng.usize(mix.decants.clone());
        let sim = Sim {
            now: rng.u64(0..1_000_000),
            rng: rng.fork(),
            mix: mix.clone(),
            rules,
            lease: settings.lease,
            shard: Shard::new(rules),
            links: Links::new(count),
            kask: Kask::default(),
            faults_left: rng.u32(0..=mix.faults),
            cut: vec![false; count],
            promised: vec![0; count],
            full: false,
            forced: false,
            journal: Vec::new(),
            stragglers: Vec::new(),
            log: Log::default(),
            task: 0,
            wait: Wait::Ready,
            flags: Vec::new(),
            spawned: Vec::new(),
            trace: traced.then(Vec::new),
        };
        let phase = mix.starts[rng.usize(0..mix.starts.len())];
        let mut schedule = Schedule {
            sim: Arc::new(Mutex::new(sim)),
            decants: Vec::new(),
            tasks: Vec::new(),
            mover: Mover::new(first_fence(phase), mix.moves, rng.bool()),
            keys: [&b"a"[..], b"b"][..rng.usize(mix.keys.clone())].iter().map(|k| Key::from_bytes(*k)).collect(),
            fleet: mix.fleet.map(|kind| Fleet::new(kind, &first_fence(phase), mix.moves, count)),
            settings,
            ops_left: rng.u32(mix.ops.clone()),
            ops_ever: 0,
            rng,
            mix: mix.clone(),
        };
        schedule.begin_in(phase);
        for decant in 0..count {
            schedule.start_decant(decant);
        }
        schedule.mover.confirm(&schedule.decants);
        schedule
    }

    pub fn sim(&self) -> MutexGuard<'_, Sim> {
        self.sim.lock().unwrap()
    }

    /// The values that were there before.
    fn begin_in(&mut self, phase: Phase) {
        let sim = &mut *self.sim.lock().unwrap();
        let (lease, now) = (sim.lease, sim.now);
        sim.shard.adopt(Known::default(), lease, now);
        assert!(sim.shard.raise(&first_fence(phase), false, lease, now));
        for key in &self.keys {
            let old = (self.rng.u32(0..4) > 0).then(|| Bytes::from(format!("{}0", show(key))));
            let copied = match phase {
                Phase::RedisOnly => false,
                Phase::DualWrite | Phase::KaskFirst => self.rng.u32(0..3) > 0,
                Phase::RedisStandby | Phase::KaskOnly => true,
            };
            if let Some(old) = &old {
                sim.shard.set_value(key, Stored::Body(old.clone()));
                match copied {
                    true => sim.kask.set(key, Some(old.clone())),
                    false => self.mover.uncopied(key, old),
                }
            }
            sim.log.start_with(key, old, copied);
        }
        sim.say(|| format!("begins in {phase}"));
    }

    /// A decant reads the record before it serves, and knows nothing else.
    pub fn start_decant(&mut self, decant: usize) {
        let fence = self.mover.fence().clone();
        self.sim().connect(decant);
        let own = fence.member == member(decant);
        let (fence, own) = match &mut self.fleet {
            None => (fence, own),
            Some(fleet) => (fleet.starts(decant, &mut self.sim.lock().unwrap()), false),
        };
        let (world, rules) = (SimWorld { sim: self.sim.clone(), decant }, self.sim().rules);
        let beliefs = Beliefs::new(Belief::new(fence, false, own), &member(decant));
        let site = Site::new(world, rules, self.settings.clone(), beliefs, 1);
        self.spawn(decant, Kind::Standing, Box::pin(look_on(site.clone())));
        self.spawn(decant, Kind::Standing, Box::pin(reap_on(site.clone())));
        self.spawn(decant, Kind::Standing, Box::pin(heal_on(site.clone())));
        let started = Decant { site, alive: true };
        if decant < self.decants.len() { self.decants[decant] = started } else { self.decants.push(started) }
    }

    fn spawn(&mut self, decant: usize, kind: Kind, work: Background) {
        self.tasks.push(Task { decant, kind, work: Some(work), wait: Wait::Ready, stalled_until: 0 });
        self.sim().flags.push(TaskFlags::default());
    }

    fn ready(&self, task: &Task, sim: &Sim) -> bool {
        task.work.is_some()
            && sim.now >= task.stalled_until
            && match task.wait {
                Wait::Ready => true,
                Wait::Until(when) => sim.now >= when,
                Wait::Flight { id, until } => sim.now >= until || sim.kask.is_answered(id),
            }
    }

    /// Polls any task that can go on. Whether there was one.
    fn poll_any(&mut self) -> bool {
        let ready: Vec<usize> = {
            let sim = self.sim();
            (0..self.tasks.len()).filter(|i| self.ready(&self.tasks[*i], &sim)).collect()
        };
        if ready.is_empty() {
            return false;
        }
        let at = ready[self.rng.usize(0..ready.len())];
        {
            let mut sim = self.sim();
            (sim.task, sim.wait) = (at, Wait::Ready);
        }
        let Some(work) = &mut self.tasks[at].work else { return true };
        let polled = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(()) = polled {
            self.tasks[at].work = None;
        }
        let (wait, spawned) = {
            let mut sim = self.sim();
            sim.flags[at].alone &= polled.is_pending();
            (sim.wait, std::mem::take(&mut sim.spawned))
        };
        self.tasks[at].wait = wait;
        for (decant, work) in spawned {
            self.spawn(decant, Kind::Client, work);
        }
        true
    }

    /// Whether a write to Kask alone may be under way.
    pub fn alone_under_way(&self) -> bool {
        (0..self.decants.len()).any(|decant| self.is_alone(decant))
    }

    /// Whether this decant may have one under way.
    pub fn is_alone(&self, decant: usize) -> bool {
        let sim = self.sim();
        let of_it = |i: &usize| self.tasks[*i].decant == decant && self.tasks[*i].work.is_some();
        (0..self.tasks.len()).filter(of_it).any(|i| sim.flags[i].alone)
    }

    fn moves_are_done(&self) -> bool {
        self.fleet.as_ref().map_or(self.mover.is_done(), Fleet::is_done)
    }

    fn clients(&self) -> usize {
        self.tasks.iter().filter(|t| t.kind == Kind::Client && t.work.is_some()).count()
    }

    /// Operations, moves and faults.
    fn trouble(&mut self) {
        // The members of a fleet move for a while yet.
        let seldom = if self.fleet.is_some() { 400 } else { 50 };
        for _ in 0..STEPS_MAX {
            let over =
                self.ops_left == 0 && self.clients() == 0 && (self.moves_are_done() || self.rng.u32(0..seldom) == 0);
            if over || self.sim().log.failure.is_some() {
                return;
            }
            if self.fleet.is_some() && self.rng.bool() {
                self.members_go_on(true);
                continue;
            }
            match self.rng.u32(0..100) {
                0..8 => self.start_op(),
                8..16 => self.land_any(),
                16..20 => self.harm(),
                20..24 => self.move_on(true),
                24..26 => self.straggle(),
                26..30 => self.tick(),
                _ => {
                    if !self.poll_any() {
                        match self.rng.u32(0..3) {
                            0 => self.start_op(),
                            1 => self.land_any(),
                            _ => self.tick(),
                        }
                    }
                }
            }
        }
    }

    /// No faults any more: everything must drain, and then be right.
    fn heal(&mut self) {
        if self.sim().log.failure.is_some() {
            return;
        }
        {
            let mut sim = self.sim();
            sim.say(|| "no faults from here on".into());
            (sim.faults_left, sim.full) = (0, false);
            sim.cut.fill(false);
        }
        for decant in 0..self.decants.len() {
            if !self.decants[decant].alive {
                self.start_decant(decant);
            }
        }
        self.fleet.iter_mut().for_each(Fleet::mend);
        for _ in 0..ROUNDS_MAX {
            for _ in 0..STEPS_MAX {
                match self.rng.u32(0..8) {
                    0 => self.land_any(),
                    1 => self.move_on(false),
                    2 => self.straggle(),
                    _ if !self.poll_any() => break,
                    _ => {}
                }
            }
            if self.sim().log.failure.is_some() {
                return;
            }
            self.members_go_on_for_long();
            if self.is_quiet() {
                return self.mover.judge(&self.keys, &mut self.sim.lock().unwrap());
            }
            let step = self.rng.u64(10..self.settings.lease);
            self.advance(step);
        }
        let why = self.fleet.as_ref().map_or("the outbox does not drain".into(), Fleet::why_stuck);
        self.sim().log.fail(format!("stuck: {why}"));
    }

    fn is_quiet(&mut self) -> bool {
        let clients = self.clients();
        let drained = {
            let sim = self.sim();
            let open = self.keys.iter().any(|key| !sim.shard.intents(key).is_empty());
            let compared = sim.are_all_connected() && sim.now >= sim.shard.life.quiet;
            !open && compared && sim.kask.flights.is_empty() && sim.stragglers.is_empty()
        };
        clients == 0 && drained && self.is_settled()
    }

    fn start_op(&mut self) {
        let serves = |d: &usize| self.fleet.as_ref().is_none_or(|fleet| fleet.members[*d].serving);
        let alive: Vec<usize> = (0..self.decants.len()).filter(|d| self.decants[*d].alive && serves(d)).collect();
        if self.ops_left == 0 || alive.is_empty() || self.clients() >= 4 {
            return;
        }
        self.ops_left -= 1;
        self.ops_ever += 1;
        let decant = alive[self.rng.usize(0..alive.len())];
        let site = self.decants[decant].site.clone();
        let key = self.keys[self.rng.usize(0..self.keys.len())].clone();
        let [set, delete, add, reads, backfills] = self.mix.ops_weights;
        let roll = self.rng.u32(0..set + delete + add + reads + backfills);
        let work: Background = if roll >= set + delete + add + reads {
            Box::pin(backfill_on(site, self.keys.clone()))
        } else if roll >= set + delete + add {
            let latest = self.rng.u32(0..10) == 0;
            Box::pin(client_read(site, key, latest))
        } else {
            let value =
                (!(set..set + delete).contains(&roll)).then(|| Bytes::from(format!("{}{}", show(&key), self.ops_ever)));
            Box::pin(client_write(site, key, value, roll >= set + delete))
        };
        self.spawn(decant, Kind::Client, work);
    }

    /// Small steps mostly; now and then past everything's patience.
    fn tick(&mut self) {
        let asleep = self.tasks.iter().any(|t| t.work.is_some() && t.stalled_until > self.sim.lock().unwrap().now);
        let step = match self.rng.u32(0..100) {
            0..10 if asleep => self.rng.u64(1_000..self.settings.lease),
            0..70 => self.rng.u64(1..30),
            70..94 => self.rng.u64(30..400),
            94..99 => self.rng.u64(400..3_000),
            _ => self.rng.u64(3_000..self.settings.lease * 5 / 4),
        };
        self.advance(step);
    }

    fn advance(&mut self, step: Millis) {
        // One that ended is started again while what it knows can still be compared in time.
        for decant in 0..self.decants.len() {
            let quiet = {
                let sim = self.sim();
                sim.now < sim.shard.life.quiet
            };
            if quiet && !self.decants[decant].alive {
                self.start_decant(decant);
            }
        }
        let alive: Vec<bool> = self.decants.iter().map(|decant| decant.alive).collect();
        let sim = &mut *self.sim.lock().unwrap();
        let to = sim.now + step;
        sim.connect_before(to, &alive);
        for told in sim.kask.before(to, &mut self.rng) {
            sim.say(|| told);
        }
        sim.now = to;
    }
}

fn first_fence(phase: Phase) -> Fence {
    fence(1, phase, 0)
}

pub fn fence(version: u64, phase: Phase, owner: usize) -> Fence {
    Fence { version, phase, stash: "s".into(), shards: "x".into(), member: member(owner), ahead: None }
}

pub fn member(decant: usize) -> String {
    format!("m{decant}")
}

async fn client_write(site: Arc<Site<SimWorld>>, key: Key, value: Option<Bytes>, only_if_absent: bool) {
    let world = &site.world;
    let (op, began) = {
        let sim = &mut *world.sim();
        let verb = if only_if_absent { "add" } else { "write" };
        let value_name = value.as_ref().map_or("nothing".into(), |v| String::from_utf8_lossy(v).into_owned());
        sim.say(|| format!("d{} client: {verb} {} {value_name}", world.decant, show(&key)));
        (sim.log.begin_write(&key, value.clone()), sim.now)
    };
    let content = value.map_or(Content::Nothing, Content::Body);
    let change = Change { content, only_if_absent };
    write(&site, &key, &change, began, |answer| {
        let sim = &mut *world.sim();
        sim.say(|| format!("d{} client of op {op} is told {answer:?}", world.decant));
        let flags = sim.flags[sim.task];
        let strict = !site.settings.answer_before_copy && !flags.read.redis_failed;
        sim.log.end_write(op, &answer, strict, flags.by_kask);
    })
    .await;
}

async fn client_read(site: Arc<Site<SimWorld>>, key: Key, latest: bool) {
    let world = &site.world;
    let (begun, began) = {
        let sim = &mut *world.sim();
        let begun = sim.log.event();
        sim.say(|| {
            format!(
                "d{} client: read {} (event {begun}){}",
                world.decant,
                show(&key),
                if latest { " latest" } else { "" }
            )
        });
        (begun, sim.now)
    };
    let answer = read(&site, &key, latest, began).await;
    let sim = &mut *world.sim();
    sim.say(|| format!("d{} client of read {begun} is told {answer:?}", world.decant));
    let (flags, strict) = (sim.flags[sim.task].read, !site.settings.answer_before_copy);
    sim.log.end_read(&key, begun, &answer, flags, strict);
}
