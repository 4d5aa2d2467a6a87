//! Moves between the phases, by the rules of the real mover: one at a time, promises first, guards, then the fence; settled when no
//! intent of another direction is left. And what the tiers must hold in the phase that they end in.

use super::{
    scheduler::{Decant, Schedule, fence},
    world::Sim,
};
use bytes::Bytes;
use decant::{
    codec::key::Key,
    phase::{Phase, ahead::Ahead},
    protocol::{
        Belief, Fence, Safeguard,
        world::{Direction, Millis, Newest, Stored},
    },
};
use std::collections::BTreeMap;

/// The phase and the keys ahead of it that a move leads to, and the step that keys take by it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Step {
    phase: Phase,
    ahead: Option<Ahead>,
    /// From, to.
    keys: (Phase, Phase),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Settled,
    /// Every decant below `next` has promised not to write alone.
    Promising {
        to: Step,
        next: usize,
    },
    Raised,
}

/// The phase record, and who moves it.
pub struct Mover {
    /// What stands on the shard, or is about to.
    fence: Fence,
    state: State,
    raised_at: Millis,
    moves_left: u32,
    /// The record is shared: every member may act on it, not only the one that the fence names.
    shared: bool,
    /// What was never copied to Kask, because nothing has happened to it since Kask was empty.
    uncopied: BTreeMap<Key, Bytes>,
    /// Redis lost something since it stopped being the store that is read first.
    evicted: bool,
}

impl Mover {
    pub fn new(fence: Fence, moves_left: u32, shared: bool) -> Mover {
        Mover {
            fence,
            state: State::Settled,
            raised_at: 0,
            moves_left,
            shared,
            uncopied: BTreeMap::new(),
            evicted: false,
        }
    }

    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    fn phase(&self) -> Phase {
        self.fence.phase
    }

    pub fn uncopied(&mut self, key: &Key, value: &Bytes) {
        self.uncopied.insert(key.clone(), value.clone());
    }

    /// "No keys evicted since kask-first" counts from the first time Redis stopped being the store until it is the store again: what it
    /// lost then it still lacks after `redis-standby` and back.
    pub fn evicted(&mut self, phase: Phase) {
        self.evicted |= phase == Phase::KaskFirst;
    }

    /// A fleet's: the fence was raised for the first time, and keys that went to Kask no more until now are those to be copied.
    pub fn follows(&mut self, fence: &Fence, keys: &[Key], sim: &Sim) {
        let old = std::mem::replace(&mut self.fence, fence.clone());
        let begins = |key: &&Key| old.phase_of(key) == Phase::RedisOnly && fence.phase_of(key) > Phase::RedisOnly;
        for key in keys.iter().filter(begins) {
            self.uncopied.remove(key);
            if let Stored::Body(body) = sim.shard.value(key) {
                self.uncopied(key, &body);
            }
        }
        if fence.phase <= Phase::DualWrite && !fence.has(Phase::KaskFirst) {
            self.evicted = false;
        }
    }

    pub fn has_evicted(&self) -> bool {
        self.evicted
    }

    pub fn is_settled(&self) -> bool {
        self.state == State::Settled
    }

    pub fn is_done(&self) -> bool {
        self.moves_left == 0 && self.is_settled()
    }

    /// Tells who may write alone that the record is settled.
    pub fn confirm(&self, decants: &[Decant]) {
        for decant in decants.iter().filter(|d| d.alive) {
            let belief = decant.site.belief();
            let own = self.shared || belief.own;
            if belief.fence.version == self.fence.version && own {
                decant.site.beliefs.set(Belief::new(belief.fence.clone(), true, true));
            }
        }
    }

    /// Kask must hold what backfill brought and verify compared. Only a write may still be on its way there, over a value that was copied:
    /// until it has come, readers of `redis-standby` are given the older one.
    pub fn backfilled(&self, keys: &[Key], sim: &Sim) -> bool {
        keys.iter().all(|key| match sim.shard.value(key) {
            Stored::Body(body) => {
                let newest = sim.shard.record(key).map(|(record, _)| record.newest);
                let written = matches!(newest, Some(Newest::Set(_)));
                let copied = sim.kask.get(key).is_some() || !self.uncopied.contains_key(key);
                sim.kask.get(key) == Some(&body) || written && copied
            }
            Stored::Absent | Stored::Untranscodable(_) => true,
        })
    }

    fn guards(&self, step: &Step, keys: &[Key], sim: &Sim, alone: bool) -> bool {
        let promised = sim.rules.holds(Safeguard::Members);
        let (from, to) = step.keys;
        let forward = to > from || to == Phase::DualWrite;
        // What was written alone is healed under the version it was written under.
        let mirrors = self.fence.has(Phase::RedisStandby) && step.phase != Phase::KaskOnly;
        let other_rule = step.ahead != self.fence.ahead && mirrors;
        match (from, to) {
            _ if !sim.is_any_connected() => false,
            _ if forward && !sim.is_trusted() => false,
            _ if self.fence.has(Phase::RedisStandby) && alone && promised => false,
            _ if other_rule && (sim.unclean() || !sim.is_trusted()) => false,
            (Phase::RedisStandby, Phase::KaskFirst) => !sim.unclean() && sim.is_trusted(),
            (Phase::KaskFirst, Phase::RedisStandby) => self.backfilled(keys, sim),
            (Phase::KaskFirst, Phase::DualWrite) => !self.evicted,
            // Kask was emptied at least a lease after `redis-only` began.
            (Phase::RedisOnly, Phase::DualWrite) => {
                sim.now >= self.raised_at + sim.lease && sim.kask.flights.is_empty()
            }
            _ => true,
        }
    }

    /// The operator's part of a step.
    fn prepare(&mut self, step: &Step, keys: &[Key], sim: &mut Sim) {
        match step.keys {
            (Phase::RedisOnly, Phase::DualWrite) => {
                // With keys ahead it was emptied for them, and no write of the others has reached it since.
                if self.fence.ahead.is_none() {
                    sim.kask.wipe();
                    sim.log.wiped();
                    self.uncopied.clear();
                }
                let fence = self.fence.clone();
                for key in keys.iter().filter(|key| fence.phase_of(key) == Phase::RedisOnly) {
                    self.uncopied.remove(key);
                    if let Stored::Body(body) = sim.shard.value(key) {
                        self.uncopied(key, &body);
                    }
                }
            }
            (Phase::KaskOnly, Phase::RedisStandby) => sim.forced = true,
            _ => {}
        }
    }

    pub fn no_other_direction(&self, sim: &Sim) -> bool {
        let count = |wanted| sim.shard.open().filter(|(_, direction)| *direction == wanted).count() as u64;
        self.fence.of_before(count(Direction::ToKask), count(Direction::ToRedis), Some(sim.shard.open())) == Some(0)
    }

    /// Everything is quiet: what a reader of this phase is given must be right, and the tiers agree as far as it promises.
    pub fn judge(&self, keys: &[Key], sim: &mut Sim) {
        for key in keys {
            let redis = match sim.shard.value(key) {
                Stored::Body(body) => Some(body),
                Stored::Absent | Stored::Untranscodable(_) => None,
            };
            let kask = sim.kask.get(key).cloned();
            let lost = redis.is_none() && sim.log.was_evicted(key);
            let overridden = sim.log.is_overridden(key);
            let forgotten = sim.shard.life.suspect && !sim.log.was_written_since_a_loss(key);
            match self.fence.phase_of(key) {
                // Kask is stale there, and is emptied before it is read again.
                Phase::RedisOnly => sim.log.check_final(key, "Redis", &redis),
                Phase::DualWrite | Phase::KaskFirst => {
                    let untouched = kask.is_none() && redis.is_some() && redis.as_ref() == self.uncopied.get(key);
                    sim.log.check_final(key, "Redis", &redis);
                    // Kask's is what `kask-first` reads. Where Redis lost its value, the log admits a miss.
                    if !untouched {
                        sim.log.check_final(key, "Kask", &kask);
                    }
                    sim.log.check_same(key, &redis, &kask, &[lost, untouched, forgotten, overridden]);
                }
                Phase::RedisStandby => {
                    sim.log.check_final(key, "Kask", &kask);
                    let known = sim.unclean() || sim.shard.life.suspect;
                    sim.log.check_same(key, &redis, &kask, &[lost, known, overridden]);
                }
                // Redis is retired.
                Phase::KaskOnly => sim.log.check_final(key, "Kask", &kask),
            }
        }
    }
}

impl Schedule {
    /// The mover's next step; `begin`: it may begin another move.
    pub fn move_on(&mut self, begin: bool) {
        if self.fleet.is_some() {
            return self.members_go_on(begin);
        }
        self.raise_again();
        match self.mover.state.clone() {
            State::Settled if begin && self.mover.moves_left > 0 => self.begin_move(),
            State::Settled => {}
            State::Promising { to, next } => self.promise(to, next),
            State::Raised => self.settle_move(),
        }
    }

    /// A fence that is missing or older is raised again from the record.
    fn raise_again(&mut self) {
        let sim = &mut *self.sim.lock().unwrap();
        let (lease, now, fence) = (sim.lease, sim.now, self.mover.fence());
        let settled = self.mover.state != State::Raised;
        if sim.shard.fence() != Some(fence) && sim.is_any_connected() {
            assert!(sim.shard.raise(fence, settled, lease, now));
            sim.say(|| format!("the fence is raised again: {}, version {}", fence.phase, fence.version));
        }
    }

    fn begin_move(&mut self) {
        let steps = self.steps();
        if steps.is_empty() {
            self.mover.moves_left = 0;
            return;
        }
        self.mover.moves_left -= 1;
        let step = steps[self.rng.usize(0..steps.len())].clone();
        let asks = self.mover.fence.has(Phase::RedisStandby) && self.sim().rules.holds(Safeguard::Members);
        if asks {
            self.sim().say(|| format!("the mover asks for promises, to go to {step:?}"));
            self.mover.state = State::Promising { to: step, next: 0 };
        } else {
            self.raise(step);
        }
    }

    /// What can come next: a phase beside this one, some keys ahead, or none ahead any more. While some are, the stash can only follow them.
    fn steps(&mut self) -> Vec<Step> {
        let (phase, ahead) = (self.mover.phase(), self.mover.fence.ahead.clone());
        let route = self.mix.route;
        let next = phase.next().filter(|next| route.contains(next));
        let to = |phase, ahead, keys| Step { phase, ahead, keys };
        let Some(rule) = ahead else {
            let mut steps: Vec<Step> = route
                .iter()
                .filter(|to| phase.is_step_to(**to))
                .map(|beside| to(*beside, None, (phase, *beside)))
                .collect();
            if let Some(next) = next.filter(|_| self.rng.u32(0..100) < self.mix.ahead_percent) {
                steps.push(to(phase, Some(self.any_rule()), (phase, next)));
            }
            return steps;
        };
        let Some(next) = next else { return Vec::new() };
        let mut steps = vec![to(next, None, (phase, next)), to(phase, None, (next, phase))];
        let other = self.any_rule();
        if other != rule && other.widens(&rule) {
            steps.push(to(phase, Some(other), (phase, next)));
        }
        steps
    }

    /// One that covers one of the keys, or, of these keys, none or all.
    pub fn any_rule(&mut self) -> Ahead {
        match self.rng.u32(0..4) {
            0 | 1 => Ahead::matching(["a", "b"][self.rng.usize(0..2)]).unwrap(),
            share => Ahead::Share(["0.1", "0.9"][share as usize - 2].parse().unwrap()),
        }
    }

    fn promise(&mut self, to: Step, next: usize) {
        let Some(decant) = self.decants.get(next) else { return self.raise(to) };
        // A decant that ended writes nothing; started again, it reads a record that is no longer settled.
        if decant.alive {
            if self.sim().cut[next] {
                return self.refuse(&to);
            }
            let belief = decant.site.belief();
            decant.site.beliefs.set(Belief::new(belief.fence.clone(), false, belief.own));
        }
        self.mover.state = State::Promising { to, next: next + 1 };
    }

    fn refuse(&mut self, to: &Step) {
        self.sim().say(|| format!("the move to {to:?} is refused"));
        self.mover.state = State::Settled;
        self.mover.confirm(&self.decants);
    }

    fn raise(&mut self, to: Step) {
        let alone = self.alone_under_way();
        let owner = self.rng.usize(0..self.decants.len());
        let mut fence: Fence = fence(self.mover.fence().version + 1, to.phase, owner);
        fence.ahead = to.ahead.clone();
        let allowed = {
            let sim = &mut *self.sim.lock().unwrap();
            let allowed = self.mover.guards(&to, &self.keys, sim, alone);
            if allowed {
                self.mover.prepare(&to, &self.keys, sim);
                let (lease, now) = (sim.lease, sim.now);
                assert!(sim.shard.raise(&fence, false, lease, now));
                sim.say(|| format!("the fence is raised: {}", fence.to_text()));
            }
            allowed
        };
        if !allowed {
            return self.refuse(&to);
        }
        if fence.phase <= Phase::DualWrite && !fence.has(Phase::KaskFirst) {
            self.mover.evicted = false;
        }
        self.mover.fence = fence;
        let at = self.sim().now;
        self.mover.raised_at = at;
        self.mover.state = State::Raised;
    }

    /// A decant whose look is fresh reads Kask by what it believes. So a move is not over before every fresh look was sent after its fence
    /// was raised: else a decant that is two moves behind reads Kask in `kask-first` while others write Redis alone.
    fn settle_move(&mut self) {
        let seen_by_all = !self.mix.pause || self.sim().now > self.mover.raised_at + self.settings.look_fresh;
        // An outbox that a server forgot is no empty one: what it told of must have arrived.
        let known = {
            let sim = self.sim();
            let quiet = sim.rules.holds(Safeguard::Quiet) && sim.now < sim.shard.life.quiet;
            sim.is_any_connected() && sim.shard.fence() == Some(self.mover.fence()) && !quiet
        };
        let settled = seen_by_all && known && self.mover.no_other_direction(&self.sim());
        if settled {
            self.sim().say(|| "the move has settled".into());
            self.mover.state = State::Settled;
            self.mover.confirm(&self.decants);
        }
    }
}
