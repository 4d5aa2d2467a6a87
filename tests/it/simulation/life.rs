//! What a shard remembers of the processes that served it, and how a decant compares that with what it has seen itself: the reference for
//! the script `adopt`.

use decant::protocol::world::Millis;
use std::collections::BTreeMap;

/// Lives and losses that are remembered.
pub const LIVES_MAX: usize = 32;

/// One process on one line of data: its number, and when it was accepted.
pub type LifeId = (u64, Millis);

/// What a decant knows of the shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub life: Option<LifeId>,
    pub writes: u64,
}

/// Part of the data: lost and restored with it.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// The one in force.
    pub now: Option<LifeId>,
    /// Until then nothing is copied from what was there before.
    pub quiet: Millis,
    /// Records to Kask of this generation or an older one are not believed.
    pub before: u64,
    pub suspect: bool,
    /// Until then what was begun under the fence before can arrive in Kask.
    pub moved: Millis,
    /// Oldest first, each with the count of writes that it began with.
    pub lives: Vec<(LifeId, u64)>,
    /// Of which it is known that writes are lost, up to which count, and which generations are of before that.
    pub losses: BTreeMap<LifeId, (u64, u64)>,
}

impl Life {
    /// ADOPT. `used`: the shard has been used before. Answers what the decant knows from now on.
    pub fn adopt(&mut self, run: u64, known: Known, count: &mut u64, used: bool, lease: Millis, now: Millis) -> Known {
        if self.lives.last().is_none_or(|((of, _), _)| *of != run) {
            let stamp = self.lives.last().map_or(now, |((_, last), _)| now.max(last + 1));
            if used || !self.lives.is_empty() || *count > 0 {
                self.quiet = now + lease;
            }
            self.now = Some((run, stamp));
            self.lives.push(((run, stamp), *count));
            while self.lives.len() > LIVES_MAX {
                self.lives.remove(0);
            }
        }
        let current = *self.lives.last().unwrap();
        if let Some(life) = known.life {
            self.compare(life, known.writes, count, lease, now);
        }
        Known { life: Some(current.0), writes: *count }
    }

    fn compare(&mut self, life: LifeId, seen: u64, count: &mut u64, lease: Millis, now: Millis) {
        let at = self.lives.iter().position(|(id, _)| *id == life);
        let following = at.and_then(|at| self.lives.get(at + 1)).map(|(_, base)| *base);
        let (reached, before) = match (at, following) {
            (_, Some(base)) => (Some(base), base),
            (Some(_), None) => (Some(*count), seen.max(*count)),
            (None, None) => (None, self.lives.last().unwrap().1),
        };
        let missing = reached.is_none_or(|reached| reached < seen);
        let known = self.losses.get(&life).copied();
        if !missing || known.is_some_and(|(up_to, _)| up_to >= seen) {
            return;
        }
        let before = known.map_or(before, |(_, before)| before);
        *count = seen.max(*count) + 1;
        self.suspect = true;
        self.before = self.before.max(before);
        self.quiet = now + lease;
        self.losses.insert(life, (seen, before));
        while self.losses.len() > LIVES_MAX {
            let oldest = *self.losses.keys().min_by_key(|(_, stamp)| *stamp).unwrap();
            self.losses.remove(&oldest);
        }
    }

    /// ACCEPT. Whether there was something to accept, and it could be.
    pub fn accept(&mut self, count: &mut u64, now: Millis) -> bool {
        let may = self.suspect && now >= self.quiet;
        if may {
            self.suspect = false;
            *count += 1;
        }
        may
    }
}
