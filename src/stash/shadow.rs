//! Shadow reads: in `dual-write` a sample of the reads also asks Kask, in the background, and the two are compared.

use super::{Stash, current_forward, pace::Pace, with_forward};
use crate::{
    codec::key::Key,
    phase::Phase,
    protocol::{
        World,
        pending::Pending,
        read::ReadAnswer,
        world::{KaskGot, Stored},
    },
};

/// Shadow reads are given up on after this long, in milliseconds.
const SHADOW_TIMEOUT_MS: u64 = 2_000;

impl Stash {
    pub(super) fn shadow(&self, key: &Key, answered: &ReadAnswer) {
        let belief = self.site.belief();
        let sampled = belief.phase_of(key) == Phase::DualWrite && fastrand::f64() < self.shadow_share;
        let ReadAnswer::Hit { body, .. } = answered else { return };
        if !sampled || self.site.pending_of(key) != Pending::No {
            return;
        }
        // Clients come first: without a free place there is no shadow.
        if self.pace() != Pace::Many {
            return;
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else { return };
        let (site, metrics, key, body) = (self.site.clone(), self.metrics.clone(), key.clone(), body.clone());
        self.tasks.spawn(with_forward(current_forward(), async move {
            let until = site.world.now() + SHADOW_TIMEOUT_MS;
            let found = site.world.kask_get(&key, until).await;
            let result = match found {
                KaskGot::Hit(other) if other == body => "match",
                KaskGot::Error(_) => "error",
                // A write may have come in between: only what still differs from Redis, with nothing under way, counts.
                differs => match site.world.read(&key, &belief.text, until).await {
                    Ok(seen) if seen.record.is_none() && seen.value == Stored::Body(body) => match differs {
                        KaskGot::Miss => "missing",
                        _ => "mismatch",
                    },
                    Ok(_) => "match",
                    Err(_) => "error",
                },
            };
            metrics.shadow(result);
            drop(place);
        }));
    }
}
