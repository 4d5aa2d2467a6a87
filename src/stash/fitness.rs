//! Whether both tiers are fit to be written to together: figures for the guards of the step to `dual-write`.

use super::Stash;
use crate::{
    codec::key::Key,
    phase::guard::Fitness,
    tier::{
        Forward,
        kask::{KaskRead, KaskTier, KaskWrite},
        redis::{
            Shard,
            info::{self, Level},
            value::into_bytes,
        },
    },
};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// A shard's INFO and settings may take this long together.
const INFO_TIMEOUT: Duration = Duration::from_secs(1);
/// Kask's write, read and delete of a probe may take this long together.
const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(3);
/// As MediaWiki writes a string.
const PROBE: &[u8] = b"JSON..\"decant-probe\"";
/// What everybody sees who asks `decant status`.
const TOLD: [&str; 3] = ["version", "eviction", "persistence"];
/// A warning about these is that nothing is known of them.
const MUST_TELL: [&str; 3] = ["version", "role", "eviction"];

impl Stash {
    /// `away`: shards that do not answer, which is another guard's to tell. `write`: also write to Kask, under a key that nobody has.
    pub(super) async fn fitness(&self, away: &[String], write: bool) -> Fitness {
        let mut fitness = Fitness { open_intents: self.open_intents(), ..Fitness::default() };
        let shards = self.site.world.outbox.iter().flat_map(|outbox| outbox.shards());
        for shard in shards.filter(|shard| !away.contains(&shard.name)) {
            judge(shard, &mut fitness).await;
        }
        if write {
            fitness.kask_takes = Some(round_trip(&self.site.world.kask).await);
        }
        fitness
    }

    /// As last seen, over all shards.
    pub(super) fn open_intents(&self) -> u64 {
        self.views.iter().filter_map(|view| view.last()).map(|seen| seen.to_kask + seen.to_redis).sum()
    }
}

/// What it does not tell stands against it.
async fn judge(shard: &Shard, fitness: &mut Fitness) {
    let until = Instant::now() + INFO_TIMEOUT;
    let text = match shard.command(redis::cmd("INFO"), until).await {
        Ok(reply) => into_bytes(reply).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default(),
        Err(failure) => {
            let todo = match info::is_forbidden(&failure) {
                true => "allow decant's user INFO",
                false => "ask again once it does",
            };
            return fitness.unfit.push(format!("{} does not tell what it is: {failure} ({todo})", shard.name));
        }
    };
    let (mut facts, mut unfit) = (Vec::new(), Vec::new());
    for verdict in info::judge(shard, &text, until).await {
        match verdict.level {
            Level::Fail => unfit.push(format!("{} ({})", verdict.figure, verdict.todo)),
            Level::Warn if MUST_TELL.contains(&verdict.check) => {
                unfit.push(format!("{} ({})", verdict.figure, verdict.todo));
            }
            _ if TOLD.contains(&verdict.check) => facts.push(verdict.figure),
            _ => {}
        }
    }
    let told = |list: Vec<String>| (!list.is_empty()).then(|| format!("{}: {}", shard.name, list.join(", ")));
    fitness.facts.extend(told(facts));
    fitness.unfit.extend(told(unfit));
}

async fn round_trip(kask: &KaskTier) -> Result<(), String> {
    let key = Key::from_bytes(format!("decant-probe-{:016x}", fastrand::u64(..)));
    let (until, body, ctx) = (Instant::now() + ROUND_TRIP_TIMEOUT, Bytes::from_static(PROBE), Forward::default());
    done(kask.put(&key, body.clone(), until, &ctx).await).map_err(|why| format!("a probe was not written: {why}"))?;
    let read = kask.get(&key, until, &ctx).await;
    let removed = done(kask.delete(&key, until, &ctx).await);
    match read {
        KaskRead::Hit(found) if found == body => {}
        KaskRead::Hit(_) => return Err("Kask gave back another value than the probe that it took".into()),
        KaskRead::Miss => return Err("Kask took a probe and does not have it".into()),
        KaskRead::Error(why) => return Err(format!("a probe was written and not read back: {why}")),
    }
    removed.map_err(|why| format!("a probe was not removed: {why}"))
}

fn done(write: KaskWrite) -> Result<(), String> {
    match write {
        KaskWrite::Done => Ok(()),
        KaskWrite::Refused(why) | KaskWrite::NotSent(why) | KaskWrite::Unknown(why) => Err(why.to_string()),
    }
}
