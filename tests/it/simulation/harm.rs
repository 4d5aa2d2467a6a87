//! Faults that the scheduler does: to requests on their way, to tasks, to decants and to the tiers.

use super::{
    Fault,
    checker::show,
    fleet::Fleet,
    scheduler::{Kind, Schedule},
    world::Wait,
};
use decant::{
    phase::Phase,
    protocol::world::{KaskPut, Stored},
};

impl Schedule {
    /// Lands one flight, as it should or with a fault.
    pub fn land_any(&mut self) {
        let (mut rng, sim) = (self.rng.fork(), &mut *self.sim.lock().unwrap());
        if sim.kask.flights.is_empty() {
            return;
        }
        let at = rng.usize(0..sim.kask.flights.len());
        let (id, awaited) = (sim.kask.flights[at].id, sim.kask.flights[at].awaited);
        if !awaited {
            // Nobody waits: it may hang for a while yet, or never be applied.
            if rng.u32(0..100) < sim.mix.hang_percent && sim.faults_left > 0 {
                return;
            }
            let applied = rng.u32(0..3) > 0;
            sim.say(|| {
                format!("kask {} flight {id}, which was given up on", if applied { "applies" } else { "forgets" })
            });
            return sim.kask.land(at, applied, KaskPut::Done);
        }
        let (applied, answer) = if sim.strikes(Fault::Refuse) {
            (false, KaskPut::Refused("400".into()))
        } else if sim.strikes(Fault::NotSent) {
            (false, KaskPut::NotSent("no connection".into()))
        } else if sim.strikes(Fault::Error) {
            (rng.bool(), KaskPut::Unknown("500".into()))
        } else if sim.strikes(Fault::Late) {
            sim.say(|| format!("flight {id} hangs, and its sender gives up"));
            return sim.kask.answer_unknown(at);
        } else {
            (true, KaskPut::Done)
        };
        sim.say(|| format!("kask {} flight {id}: {answer:?}", if applied { "applies" } else { "does not apply" }));
        sim.kask.land(at, applied, answer);
    }

    pub fn straggle(&mut self) {
        let sim = &mut *self.sim.lock().unwrap();
        if sim.stragglers.is_empty() {
            return;
        }
        let at = self.rng.usize(0..sim.stragglers.len());
        let (name, script) = sim.stragglers.swap_remove(at);
        let arrives = self.rng.bool();
        sim.say(|| format!("{name}: {}", if arrives { "arrives at last" } else { "is lost on its way" }));
        if arrives {
            script(&mut sim.shard, sim.now);
        }
    }

    /// One fault that needs no operation to meet it.
    pub fn harm(&mut self) {
        let decant = self.rng.usize(0..self.decants.len());
        let strikes = |fault| self.sim.lock().unwrap().strikes(fault);
        if !self.decants[decant].alive {
            // A fleet is to notice, and to forget it or to finish what it began.
            let seldom = self.fleet.as_ref().map_or(4, Fleet::back_at);
            if self.rng.u32(0..seldom) == 0 {
                self.sim().say(|| format!("d{decant} starts again"));
                self.start_decant(decant);
            }
        } else if strikes(Fault::Crash) {
            self.sim().say(|| format!("d{decant} crashes"));
            self.decants[decant].alive = false;
            if let Some(fleet) = &mut self.fleet {
                fleet.died(decant, &self.sim.lock().unwrap());
            }
            for task in self.tasks.iter_mut().filter(|t| t.decant == decant) {
                task.work = None;
            }
            let gone: Vec<u64> = self.sim().kask.flights.iter().map(|f| f.id).collect();
            let waiting = |id: &u64| {
                self.tasks
                    .iter()
                    .any(|t| t.work.is_some() && matches!(t.wait, Wait::Flight { id: of, .. } if of == *id))
            };
            let orphans: Vec<u64> = gone.into_iter().filter(|id| !waiting(id)).collect();
            orphans.into_iter().for_each(|id| self.sim().kask.abandon(id));
        } else if strikes(Fault::Stall) {
            let now = self.sim().now;
            let until = now + self.rng.u64(self.settings.copy_window / 2..self.settings.lease * 3);
            let whole = self.rng.u32(0..4) == 0;
            let mut some: Vec<usize> = (0..self.tasks.len()).filter(|i| self.tasks[*i].work.is_some()).collect();
            some.retain(|i| if whole { self.tasks[*i].decant == decant } else { self.tasks[*i].kind == Kind::Client });
            if !whole && !some.is_empty() {
                some = vec![some[self.rng.usize(0..some.len())]];
            }
            self.sim().say(|| format!("d{decant}: tasks {some:?} sleep until {until} ms"));
            some.into_iter().for_each(|i| self.tasks[i].stalled_until = until);
        } else {
            self.harm_tiers(decant);
        }
    }

    fn harm_tiers(&mut self, decant: usize) {
        let sim = &mut *self.sim.lock().unwrap();
        let key = &self.keys[self.rng.usize(0..self.keys.len())];
        let phase = self.mover.fence().phase_of(key);
        if sim.cut[decant] && self.rng.u32(0..4) == 0 {
            sim.cut[decant] = false;
            sim.say(|| format!("d{decant} reaches the shard again"));
        } else if sim.full && self.rng.u32(0..4) == 0 {
            sim.full = false;
            sim.say(|| "the shard has room again".into());
        } else if !sim.cut[decant] && sim.strikes(Fault::Cut) {
            sim.cut[decant] = true;
            sim.say(|| format!("d{decant} is cut off from the shard"));
            if let Some(fleet) = &mut self.fleet {
                fleet.cut_from_redis(decant);
            }
        } else if !sim.full && sim.strikes(Fault::Full) {
            sim.full = true;
            sim.say(|| "the shard is full".into());
        } else if phase <= Phase::KaskFirst && sim.shard.value(key) != Stored::Absent && sim.strikes(Fault::Evict) {
            sim.say(|| format!("the shard evicts {}", show(key)));
            sim.shard.set_value(key, Stored::Absent);
            sim.log.evict(key);
            self.mover.evicted(phase);
        } else if sim.strikes(Fault::Lose) {
            sim.lose(&mut self.rng);
            // What had been evicted is back: nobody has copied it.
            for key in self.keys.iter().filter(|key| sim.log.was_evicted(key) && sim.kask.get(key).is_none()) {
                if let Stored::Body(body) = sim.shard.value(key) {
                    self.mover.uncopied(key, &body);
                }
            }
        }
    }
}
