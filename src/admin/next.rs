//! What a next step would need: the guards of a move that is only tried. They are measured at most once in a while, however many look,
//! and to the end, also where nobody waits for it any more: a sample of keys takes a while.

use super::{
    Managed,
    problem::Problem,
    status,
    views::{Attention, GuardView, NextView},
};
use crate::{
    phase::{
        Phase,
        record::{PhaseRecord, State},
        step::Goal,
    },
    stash::mover::{MoveFault, MoveRequest, Mover},
};
use http::StatusCode;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// Figures of one stash are measured again after this long, or when a move begins or settles, or something
/// new needs attention.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// One step, as it was measured last.
#[derive(Debug)]
struct Measured {
    to: Phase,
    version: u64,
    state: State,
    /// What needed attention then: what has changed since may have changed a figure.
    attention: Vec<Attention>,
    at: Instant,
    guards: Vec<GuardView>,
    refused: Option<String>,
}

/// The steps of one stash, one a phase that was asked for. The lock is held while one is measured, so that nobody measures it beside.
#[derive(Clone, Debug, Default)]
pub(super) struct NextSteps(Arc<Mutex<Vec<Measured>>>);

impl NextSteps {
    /// `to` is the phase of a `?to=`; without one it is the step forward.
    pub(super) async fn view(&self, managed: &Managed, to: Option<Phase>) -> Result<NextView, Problem> {
        let mover = &managed.mover;
        let record = mover.shown().ok_or_else(|| Problem::busy(MoveFault::Starting.to_string()))?;
        let (stash, from) = (mover.stash().name.clone(), record.phase);
        let Some(to) = to.or_else(|| forward(from)) else {
            return Ok(NextView { stash, from, to: None, guards: Vec::new(), refused: None, measured_ms_ago: 0 });
        };
        let (steps, mover, attention) = (self.0.clone(), mover.clone(), status::stash(managed).attention);
        let measuring = tokio::spawn(async move {
            let mut steps = steps.lock().await;
            steps.retain(|step| {
                let same = (step.version, step.state, &step.attention) == (record.version, record.state, &attention);
                same && step.at.elapsed() < FRESH_FOR
            });
            if !steps.iter().any(|step| step.to == to) {
                let measured = measure(&mover, &record, to, attention).await;
                steps.push(measured);
            }
            let step = steps.iter().find(|step| step.to == to)?;
            let measured_ms_ago = u64::try_from(step.at.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (guards, refused) = (step.guards.clone(), step.refused.clone());
            Some(NextView { stash, from, to: Some(to), guards, refused, measured_ms_ago })
        });
        let ended = measuring.await.map_err(|fault| fault.to_string()).and_then(|view| view.ok_or("lost".into()));
        ended.map_err(|why| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "server-error", why))
    }
}

fn forward(from: Phase) -> Option<Phase> {
    Phase::ALL.into_iter().find(|to| *to > from)
}

async fn measure(mover: &Mover, record: &PhaseRecord, to: Phase, attention: Vec<Attention>) -> Measured {
    let request = MoveRequest {
        from: Some(record.phase),
        goal: Goal::Phase(to),
        reason: String::new(),
        by: String::new(),
        force: false,
        dry_run: true,
        kask_emptied: false,
    };
    let (guards, refused) = match mover.move_to(request).await {
        Ok(moved) => (moved.guards, None),
        Err(MoveFault::Guarded { guards, .. }) => (guards, None),
        Err(other) => (Vec::new(), Some(other.to_string())),
    };
    let guards = guards.iter().map(GuardView::from).collect();
    Measured { to, version: record.version, state: record.state, attention, at: Instant::now(), guards, refused }
}
