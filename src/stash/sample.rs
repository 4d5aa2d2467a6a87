//! A sample of Redis's keys, looked for in Kask: enough to notice that it was emptied, or was not; not to prove either.

use super::Stash;
use crate::{
    codec::key::Key,
    phase::Phase,
    protocol::{
        World,
        world::{KaskGot, Millis, Refusal, Seen, Stored},
    },
    scan::{Place, Step, Walk},
};
use bytes::Bytes;
use std::{collections::HashSet, time::Duration};
use tokio::time::{Instant, timeout_at};

/// Everything for one sample; half of it for finding keys.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a sample found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub sampled: u64,
    pub in_kask: u64,
    /// Keys besides that a tier did not answer for: nothing is known of them.
    pub unasked: u64,
}

impl Sample {
    /// A sample of too little is none: a Kask that answers for a few keys of many has shown nothing of the others.
    fn judged(self, why: Option<String>) -> Result<Sample, String> {
        match why {
            Some(why) if self.unasked > self.sampled => {
                let keys = self.sampled.saturating_add(self.unasked);
                Err(format!("of {keys} keys, {} were not answered for: {why}", self.unasked))
            }
            _ => Ok(self),
        }
    }
}

/// Looks for the first keys that SCAN gives, which are in no order that means anything: at most `most`, over all shards, and of them those
/// that are in `phase`, for some may be ahead.
///
/// # Errors
/// Why Redis does not tell its keys, or a tier does not answer for most of them.
pub async fn take(stash: &Stash, phase: Phase, most: usize) -> Result<Sample, String> {
    let (scan_until, until) = (Instant::now() + SAMPLE_TIMEOUT / 2, Instant::now() + SAMPLE_TIMEOUT);
    let (mut sample, mut why) = (Sample::default(), None);
    let shards = stash.views.len().max(1);
    for shard in 0..stash.views.len() {
        for key in some_keys(stash, shard, most.div_ceil(shards), scan_until).await? {
            if Instant::now() >= until {
                return sample.judged(why);
            }
            if stash.site.belief().phase_of(&key) != phase || key.fault().is_some() {
                continue;
            }
            match look_for(stash, &key).await {
                Ok(None) => {}
                Ok(Some(in_kask)) => {
                    sample.sampled += 1;
                    sample.in_kask += u64::from(in_kask);
                }
                Err(fault) => {
                    sample.unasked += 1;
                    why = Some(fault);
                }
            }
        }
    }
    sample.judged(why)
}

async fn some_keys(stash: &Stash, shard: usize, most: usize, until: Instant) -> Result<HashSet<Key>, String> {
    let mut keys = HashSet::new();
    let Some(outbox) = &stash.site.world.outbox else { return Ok(keys) };
    let mut walk = Walk::new(outbox.clone(), shard, Place::Start, None);
    while keys.len() < most {
        match timeout_at(until, walk.next()).await {
            Ok(Ok(Step::Page(page))) => keys.extend(page.keys.into_iter().take(most - keys.len())),
            Ok(Ok(Step::BegunAgain)) => {}
            Ok(Ok(Step::End)) => break,
            Err(_) if !keys.is_empty() => break,
            Ok(Err(fault)) => return Err(format!("SCAN on shard {}: {fault}", stash.shard_name(shard))),
            Err(_) => return Err(format!("SCAN on shard {} gave no key in time", stash.shard_name(shard))),
        }
    }
    Ok(keys)
}

/// Whether Kask has the key. Redis is read before and after Kask: only what nobody wrote meanwhile, and nobody is copying, counts.
async fn look_for(stash: &Stash, key: &Key) -> Result<Option<bool>, String> {
    let site = &stash.site;
    let until = site.world.now() + site.settings.budget;
    let Some(before) = at_rest(stash, key, until).await? else { return Ok(None) };
    let in_kask = match site.world.kask_get(key, until).await {
        KaskGot::Hit(_) => true,
        KaskGot::Miss => false,
        KaskGot::Error(why) => return Err(format!("Kask: {why}")),
    };
    let after = at_rest(stash, key, until).await?;
    Ok((after == Some(before)).then_some(in_kask))
}

/// Redis's value, if it has one that can be copied and no intent is open.
async fn at_rest(stash: &Stash, key: &Key, until: Millis) -> Result<Option<Bytes>, String> {
    match stash.site.world.read(key, &stash.site.belief().text, until).await {
        Ok(Seen { record: None, value: Stored::Body(body), .. }) => Ok(Some(body)),
        Ok(_) | Err(Refusal::Transit) => Ok(None),
        Err(Refusal::Fence(_)) => Err("Redis: its fence has changed".to_owned()),
        Err(Refusal::NotDone(why) | Refusal::Unknown(why)) => Err(format!("Redis: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_which_most_was_not_answered_for_is_none() {
        let judged = |sampled, unasked| {
            let sample = Sample { sampled, in_kask: 0, unasked };
            sample.judged((unasked > 0).then(|| "Kask: 500".to_owned()))
        };
        for (sampled, unasked) in [(0, 0), (1, 0), (5, 5)] {
            assert_eq!(judged(sampled, unasked).map(|sample| sample.sampled), Ok(sampled));
        }
        assert_eq!(judged(0, 1).unwrap_err(), "of 1 keys, 1 were not answered for: Kask: 500");
        assert_eq!(judged(5, 6).unwrap_err(), "of 11 keys, 6 were not answered for: Kask: 500");
    }
}
