//! What a next step would need: the guards of a move that is only tried. They are measured at most once in a while, however many look,
//! and to the end, also where nobody waits for it any more: a sample of keys takes a while.

use super::{
    Managed, moves,
    problem::Problem,
    status,
    views::{Attention, GuardView, NextView},
};
use crate::{
    codec::key::percent_decode,
    phase::{
        ahead::{Ahead, AheadFault},
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

/// So many are remembered. People look at a few.
const STEPS_MAX: usize = 8;

/// One step, as it was measured last.
#[derive(Debug)]
struct Measured {
    goal: Goal,
    version: u64,
    state: State,
    /// What needed attention then: what has changed since may have changed a figure.
    attention: Vec<Attention>,
    at: Instant,
    guards: Vec<GuardView>,
    refused: Option<String>,
}

/// The steps of one stash, one a goal that was asked for. The lock is held while one is measured, so that nobody measures it beside.
#[derive(Clone, Debug, Default)]
pub(super) struct NextSteps(Arc<Mutex<Vec<Measured>>>);

impl NextSteps {
    /// Without a goal it is the step forward.
    pub(super) async fn view(&self, managed: &Managed, goal: Option<Goal>) -> Result<NextView, Problem> {
        let mover = &managed.mover;
        let record = mover.shown().ok_or_else(|| Problem::busy(MoveFault::Starting.to_string()))?;
        let (stash, from) = (mover.stash().name.clone(), record.phase);
        let Some(goal) = goal.or_else(|| from.next().map(Goal::Phase)) else {
            return Ok(NextView { stash, from, to: None, guards: Vec::new(), refused: None, measured_ms_ago: 0 });
        };
        let to = match &goal {
            Goal::Phase(to) => Some(*to),
            Goal::Ahead(_) => from.next(),
            Goal::NoneAhead => Some(from),
        };
        let (steps, mover, attention) = (self.0.clone(), mover.clone(), status::stash(managed).attention);
        let measuring = tokio::spawn(async move {
            let mut steps = steps.lock().await;
            steps.retain(|step| {
                let same = (step.version, step.state, &step.attention) == (record.version, record.state, &attention);
                same && step.at.elapsed() < FRESH_FOR
            });
            if !steps.iter().any(|step| step.goal == goal) {
                let measured = measure(&mover, &record, goal.clone(), attention).await;
                if steps.len() == STEPS_MAX {
                    steps.remove(0);
                }
                steps.push(measured);
            }
            let step = steps.iter().find(|step| step.goal == goal)?;
            let measured_ms_ago = u64::try_from(step.at.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (guards, refused) = (step.guards.clone(), step.refused.clone());
            Some(NextView { stash, from, to, guards, refused, measured_ms_ago })
        });
        let ended = measuring.await.map_err(|fault| fault.to_string()).and_then(|view| view.ok_or("lost".into()));
        ended.map_err(|why| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "server-error", why))
    }
}

/// `to=PHASE`, `match=PATTERN`, `share=NUMBER` or `ahead=none`; none of them: the step forward.
pub(super) fn goal(query: &str) -> Result<Option<Goal>, Problem> {
    let asked = query.split('&').filter_map(|pair| pair.split_once('=')).find_map(|(name, value)| {
        Some(match name {
            "to" => moves::phase(value).map(Goal::Phase),
            "match" => matching(value),
            "share" => ahead(value.parse().map(Ahead::Share)),
            "ahead" if value == "none" => Ok(Goal::NoneAhead),
            _ => return None,
        })
    });
    asked.transpose()
}

fn matching(spelled: &str) -> Result<Goal, Problem> {
    let pattern = percent_decode(spelled.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    ahead(pattern.ok_or(AheadFault::Spelling).and_then(|pattern| Ahead::matching(&pattern)))
}

fn ahead(rule: Result<Ahead, AheadFault>) -> Result<Goal, Problem> {
    let bad = |fault: AheadFault| Problem::new(StatusCode::BAD_REQUEST, "bad-request", fault.to_string());
    rule.map(Goal::Ahead).map_err(bad)
}

async fn measure(mover: &Mover, record: &PhaseRecord, goal: Goal, attention: Vec<Attention>) -> Measured {
    let request = MoveRequest {
        from: Some(record.phase),
        goal: goal.clone(),
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
    Measured { goal, version: record.version, state: record.state, attention, at: Instant::now(), guards, refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_step_a_query_is_about() {
        let asked = |query: &str| goal(query).map_err(|problem| problem.status().as_u16());
        let rule = |text: &str| Ok(Some(Goal::Ahead(text.parse().unwrap())));
        assert_eq!(asked(""), Ok(None));
        assert_eq!(asked("x=1&to=dual-write"), Ok(Some(Goal::Phase(crate::phase::Phase::DualWrite))));
        assert_eq!(asked("match=a%26b%3D%2A"), rule("match:a%26b%3D%2A"));
        assert_eq!(asked("share=0.01"), rule("share:0.01"));
        assert_eq!(asked("ahead=none"), Ok(Some(Goal::NoneAhead)));
        for (bad, status) in
            [("to=nonsense", 422), ("match=", 400), ("match=%", 400), ("match=%ff", 400), ("share=2", 400)]
        {
            assert_eq!(asked(bad), Err(status), "{bad}");
        }
    }
}
