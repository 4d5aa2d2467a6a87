//! Whether a tier is worth asking: a circuit breaker. Pure: time comes in, and what to do comes out. [`live`] puts it to work.
//!
//! ```text
//!            too long a run of failures                    its wait is over: one asks
//!   closed ----------------------------> open ---------------------------------------> half-open
//!     ^                                   ^                                             |    |
//!     |                                   +------------ that one fails -----------------+    |
//!     +------------------------------ anybody is answered -----------------------------------+
//! ```
//! It never opens because of one slow or failing subject (a key), and not where a tier fails for a part of its keys: Kask does that
//! while its `/healthz` is green, and taking it for away would turn answers into errors. A run of failures counts only if nobody at all
//! was answered after they asked, if it is of several subjects, and if it has lasted as long as one request may take. Where failures and
//! answers have alternated lately it must be of more subjects: chance makes short runs there.
mod live;

pub use live::{LiveBreaker, Pass};
use std::time::Duration;
use tokio::time::Instant;

/// After an answer that followed a failure, for so long, a run must be of [`Rules::subjects_if_mixed`].
const MIXED_FOR: Duration = Duration::from_secs(60);

/// When one kind of tier counts as away.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// So many different subjects must have failed in a row.
    pub subjects: usize,
    /// The same where some have failed and some were answered lately.
    pub subjects_if_mixed: usize,
    /// So long must nobody have been answered, from when the first of them was asked.
    pub silence: Duration,
    /// Between opening, or a probe that failed, and the next probe.
    pub wait: Duration,
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Closed,
    /// Nobody asks.
    Open,
    /// One asks, and its answer decides.
    HalfOpen,
}

impl Standing {
    pub const ALL: [Standing; 3] = [Standing::Closed, Standing::Open, Standing::HalfOpen];

    pub fn name(self) -> &'static str {
        match self {
            Standing::Closed => "closed",
            Standing::Open => "open",
            Standing::HalfOpen => "half-open",
        }
    }
}

/// How a request ended, as far as the tier is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The tier answered, if only with a refusal.
    Answered,
    /// It did not, or with a failure of its own.
    Failed,
    /// Nothing was learned of it: the request was not sent, or nobody waited.
    Nothing,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// May be the probe as soon as one is due: it can afford not to be answered.
    Eager,
    /// Is the probe only where no eager one has come for a while: a write whose outcome is unknown is the worst of answers.
    Reluctant,
}

/// A request that may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    subject: u64,
    asked: Instant,
    probe: bool,
}

/// What became of the breaker when something was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    Opened,
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    /// A probe is due at `until`.
    Open {
        until: Instant,
    },
    HalfOpen,
}

/// Of one tier, or one part of it that fails by itself.
#[derive(Debug)]
pub struct Breaker {
    rules: Rules,
    state: State,
    /// When the first of the run was asked; none: the last that was heard of was answered.
    run_since: Option<Instant>,
    /// The different subjects of the run, as far as they count: never more than the rules ask for.
    run: Vec<u64>,
    answered: Option<Instant>,
    mixed_until: Option<Instant>,
}

impl Breaker {
    pub fn new(rules: Rules) -> Breaker {
        Breaker { rules, state: State::Closed, run_since: None, run: Vec::new(), answered: None, mixed_until: None }
    }

    pub fn standing(&self) -> Standing {
        match self.state {
            State::Closed => Standing::Closed,
            State::Open { .. } => Standing::Open,
            State::HalfOpen => Standing::HalfOpen,
        }
    }

    /// `None`: it is not to be asked now. Whoever got leave must tell what it came to.
    pub fn ask(&mut self, subject: u64, asker: Asker, now: Instant) -> Option<Leave> {
        let probe = match self.state {
            State::Closed => false,
            _ if self.refuses(asker, now) => return None,
            _ => {
                self.state = State::HalfOpen;
                true
            }
        };
        Some(Leave { subject, asked: now, probe })
    }

    /// Whether [`Breaker::ask`] would give no leave now.
    pub fn refuses(&self, asker: Asker, now: Instant) -> bool {
        match (self.state, asker) {
            (State::Closed, _) => false,
            (State::Open { until }, Asker::Eager) => now < until,
            (State::Open { until }, Asker::Reluctant) => now < until + 2 * self.rules.wait,
            (State::HalfOpen, _) => true,
        }
    }

    /// A request has ended.
    pub fn heard(&mut self, leave: Leave, outcome: Outcome, now: Instant) -> Change {
        match (outcome, self.state) {
            (Outcome::Answered, _) => self.answered(now),
            (Outcome::Failed, State::Closed) => self.failed(leave, now),
            (Outcome::Failed, State::HalfOpen) if leave.probe => {
                self.state = State::Open { until: now + self.rules.wait };
                Change::None
            }
            // The next one is the probe.
            (Outcome::Nothing, State::HalfOpen) if leave.probe => {
                self.state = State::Open { until: now };
                Change::None
            }
            // It was asked before the breaker opened: that it fails is no news.
            (Outcome::Failed | Outcome::Nothing, _) => Change::None,
        }
    }

    /// The tier has answered somebody, whenever that one asked.
    pub fn answered(&mut self, now: Instant) -> Change {
        self.answered = Some(now);
        if self.run_since.take().is_some() {
            self.run.clear();
            // A run that opened the breaker was an outage, and no sign that some fail and some do not.
            self.mixed_until = matches!(self.state, State::Closed).then_some(now + MIXED_FOR);
        }
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => Change::None,
            State::Open { .. } | State::HalfOpen => Change::Closed,
        }
    }

    fn failed(&mut self, leave: Leave, now: Instant) -> Change {
        // One that was asked before the last answer came may be of the slow ones of a burst, of which the others were answered.
        if self.answered.is_some_and(|answered| leave.asked <= answered) {
            return Change::None;
        }
        let since = *self.run_since.get_or_insert(leave.asked);
        let mixed = self.mixed_until.is_some_and(|until| now < until);
        let needed = if mixed { self.rules.subjects_if_mixed } else { self.rules.subjects };
        if self.run.len() < needed && !self.run.contains(&leave.subject) {
            self.run.push(leave.subject);
        }
        if self.run.len() < needed || now.saturating_duration_since(since) < self.rules.silence {
            return Change::None;
        }
        self.state = State::Open { until: now + self.rules.wait };
        Change::Opened
    }
}

#[cfg(test)]
mod tests;
