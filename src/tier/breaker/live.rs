//! A breaker at work: shared by all who ask a tier, told of in metrics and, once each, in the log.

use super::{Asker, Breaker, Change, Leave, Outcome, Rules, Standing};
use metrics::{Counter, Gauge, counter, gauge};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Of one tier or shard.
pub struct LiveBreaker {
    /// A `std` mutex: held for a few comparisons.
    breaker: Mutex<Breaker>,
    stash: String,
    /// `Kask`, or a shard's name: for the log.
    whom: String,
    /// 1 for where it stands, in the order of [`Standing::ALL`].
    standings: [Gauge; 3],
    opened: Counter,
}

/// One request that may be sent. Dropped untold, as when nobody waits any more, it has shown nothing.
pub struct Pass<'a> {
    live: &'a LiveBreaker,
    leave: Leave,
    told: bool,
}

impl LiveBreaker {
    /// `shard`: of Redis; none: of Kask.
    pub fn new(rules: Rules, stash: &str, shard: Option<&str>) -> LiveBreaker {
        let stash = stash.to_owned();
        let mut labels =
            vec![("stash", stash.clone()), ("tier", if shard.is_some() { "redis" } else { "kask" }.into())];
        labels.extend(shard.map(|shard| ("shard", shard.to_owned())));
        let standing = |standing: Standing| {
            let mut labels = labels.clone();
            labels.push(("state", standing.name().to_owned()));
            gauge!("decant_breaker", &labels)
        };
        let live = LiveBreaker {
            standings: Standing::ALL.map(standing),
            opened: counter!("decant_breaker_opened_total", &labels),
            breaker: Mutex::new(Breaker::new(rules)),
            whom: shard.map_or_else(|| "Kask".to_owned(), |shard| format!("Redis shard {shard}")),
            stash,
        };
        live.show(Standing::Closed);
        live
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn standing(&self) -> Standing {
        self.breaker().standing()
    }

    /// `None`: the tier is not to be asked now.
    pub fn ask(&self, subject: u64, asker: Asker) -> Option<Pass<'_>> {
        let mut breaker = self.breaker();
        let leave = breaker.ask(subject, asker, Instant::now())?;
        if leave.probe {
            self.show(Standing::HalfOpen);
        }
        Some(Pass { live: self, leave, told: false })
    }

    /// Whether nobody of this kind would get a pass now.
    pub fn refuses(&self, asker: Asker) -> bool {
        self.breaker().refuses(asker, Instant::now())
    }

    /// The tier was heard of by somebody who needed no pass.
    pub fn answered(&self) {
        self.change(|breaker| breaker.answered(Instant::now()));
    }

    fn change(&self, change: impl FnOnce(&mut Breaker) -> Change) {
        let mut breaker = self.breaker();
        let (before, change) = (breaker.standing(), change(&mut breaker));
        // Under the lock, so that the last to change it is the last to show it.
        if breaker.standing() != before {
            self.show(breaker.standing());
        }
        drop(breaker);
        match change {
            Change::None => {}
            Change::Opened => {
                self.opened.increment(1);
                let (stash, whom) = (&self.stash, &self.whom);
                tracing::warn!(stash, "{whom} does not answer: it is not asked any more, but for a probe now and then");
            }
            Change::Closed => tracing::info!(stash = self.stash, "{} answers again", self.whom),
        }
    }

    fn show(&self, now: Standing) {
        for (standing, gauge) in Standing::ALL.into_iter().zip(&self.standings) {
            gauge.set(if standing == now { 1.0 } else { 0.0 });
        }
    }
}

impl Pass<'_> {
    pub fn tell(mut self, outcome: Outcome) {
        self.told = true;
        self.live.change(|breaker| breaker.heard(self.leave, outcome, Instant::now()));
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.live.change(|breaker| breaker.heard(self.leave, Outcome::Nothing, Instant::now()));
        }
    }
}
