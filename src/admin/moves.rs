//! Moves between phases: what is asked, and what came of it.

use super::{
    Answered, json,
    problem::Problem,
    views::{GuardView, HistoryView, MovedView, PhaseView, RecordView},
};
use crate::{
    phase::{
        Phase,
        ahead::{Ahead, AheadFault},
        guard::Guard,
        record::Line,
        step::Goal,
    },
    stash::mover::{HistoryFault, MoveFault, MoveRequest, Moved, Mover},
};
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;

/// Characters of a reason; it stays in the history for good.
const REASON_CHARS_MAX: usize = 1_000;
/// Characters of who moves.
const BY_CHARS_MAX: usize = 200;
/// Who moves, where nobody says so.
const NOBODY: &str = "the admin API";

/// Which move a body is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `PUT …/phase`.
    Phase,
    /// `PUT …/phase/ahead`.
    Ahead,
    /// `DELETE …/phase/ahead`.
    NoneAhead,
}

impl Kind {
    fn takes(self) -> &'static str {
        match self {
            Kind::Phase => "{\"to\": PHASE, \"reason\": TEXT}",
            Kind::Ahead => "{\"match\": PATTERN, \"reason\": TEXT} or {\"share\": NUMBER, \"reason\": TEXT}",
            Kind::NoneAhead => "{\"reason\": TEXT}",
        }
    }
}

/// The body of a move.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default, rename = "match")]
    pattern: Option<String>,
    #[serde(default)]
    share: Option<serde_json::Number>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    kask_emptied: bool,
}

pub(super) fn parse(kind: Kind, body: &[u8]) -> Result<MoveRequest, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail);
    let not_so = |why: &str| {
        let takes = kind.takes();
        bad(format!(
            "the body is not what a move takes: {why}; send {takes} and, as wanted, from, by, force, dry_run, kask_emptied"
        ))
    };
    let body: Body = serde_json::from_slice(body).map_err(|fault| not_so(&fault.to_string()))?;
    let rule = |rule: Result<Ahead, AheadFault>| rule.map(Goal::Ahead).map_err(|fault| bad(fault.to_string()));
    let goal = match (kind, &body.to, &body.pattern, &body.share) {
        (Kind::Phase, Some(to), None, None) => Goal::Phase(phase(to)?),
        (Kind::Ahead, None, Some(pattern), None) => rule(Ahead::matching(pattern))?,
        (Kind::Ahead, None, None, Some(share)) => rule(share.to_string().parse().map(Ahead::Share))?,
        (Kind::NoneAhead, None, None, None) => Goal::NoneAhead,
        _ => return Err(not_so("not the fields of this one")),
    };
    let by = who(body.by);
    one_line(&body.reason, &by)?;
    if body.reason.trim().is_empty() && !body.dry_run {
        return Err(bad(MoveFault::NoReason.to_string()));
    }
    Ok(MoveRequest {
        from: body.from.as_deref().map(phase).transpose()?,
        goal,
        reason: body.reason,
        by,
        force: body.force,
        dry_run: body.dry_run,
        kask_emptied: body.kask_emptied,
    })
}

/// Who did it, for those who read of it later.
pub(super) fn who(by: Option<String>) -> String {
    by.filter(|by| !by.trim().is_empty()).unwrap_or_else(|| NOBODY.to_owned())
}

/// What stays for others to read must be readable.
pub(super) fn one_line(reason: &str, by: &str) -> Result<(), Problem> {
    for (name, text, chars_max) in [("reason", reason, REASON_CHARS_MAX), ("by", by, BY_CHARS_MAX)] {
        if text.chars().count() > chars_max || text.chars().any(char::is_control) {
            let detail = format!("\"{name}\" is one line of at most {chars_max} characters");
            return Err(Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail));
        }
    }
    Ok(())
}

pub(super) fn phase(name: &str) -> Result<Phase, Problem> {
    let parsed: Result<Phase, _> = name.parse();
    parsed.map_err(|unknown| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no-such-step", unknown.to_string()))
}

/// Runs to its end, also when the client goes away: what a move came to must not hang on a connection.
pub(super) async fn make(mover: Arc<Mover>, request: MoveRequest) -> Answered {
    let (stash, goal, by) = (mover.stash().name.clone(), request.goal.clone(), request.by.clone());
    let moving = tokio::spawn(async move { mover.move_to(request).await });
    let moved = moving
        .await
        .map_err(|fault| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "server-error", fault.to_string()))?;
    match moved {
        Ok(Moved { record, guards, dry_run }) => {
            json(StatusCode::OK, &MovedView { record: (&record).into(), guards: views(&guards), dry_run })
        }
        Err(fault @ MoveFault::Unknown(_)) => {
            tracing::warn!(stash, goal = goal.text(), by, fault = %fault, "it is not known whether a move has begun");
            Err(refused(fault))
        }
        Err(fault) => {
            tracing::info!(stash, goal = goal.text(), by, fault = %fault, "a move was refused");
            Err(refused(fault))
        }
    }
}

fn refused(fault: MoveFault) -> Problem {
    let detail = fault.to_string();
    let conflict = |kind| Problem::new(StatusCode::CONFLICT, kind, detail.clone());
    match fault {
        MoveFault::Starting | MoveFault::LoneWrites(_) => Problem::busy(detail),
        MoveFault::NotOwner { own, named } => {
            conflict("not-owner").with("member", own.into()).with("owner", named.into())
        }
        MoveFault::Stale { now, .. } => conflict("phase-changed").with("record", value(&RecordView::from(&*now))),
        MoveFault::Overtaken(_) | MoveFault::Changed => conflict("phase-changed"),
        MoveFault::Proposed { .. } => conflict("move-under-way"),
        MoveFault::Behind(ref members) | MoveFault::Unpromised(ref members) => {
            conflict("member-behind").with("members", members.clone().into())
        }
        MoveFault::History(HistoryFault::File(_)) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "record", detail),
        MoveFault::History(HistoryFault::Shared(_)) | MoveFault::Away(_) | MoveFault::Etcd(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "etcd", detail)
        }
        // Not to be taken for one that was refused: who asked must look before they ask again.
        MoveFault::Unknown(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "move-unknown", detail),
        MoveFault::UnderWay(now) => conflict("move-under-way").with("record", value(&RecordView::from(&*now))),
        MoveFault::Guarded { record, guards } => conflict("guard-failed")
            .with("record", value(&RecordView::from(&*record)))
            .with("guards", value(&views(&guards))),
        MoveFault::There { now, .. } => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no-such-step", detail)
            .with("record", value(&RecordView::from(&*now))),
        MoveFault::NoStep(_) | MoveFault::NoRedis => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no-such-step", detail)
        }
        MoveFault::NoReason => Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail),
        MoveFault::Record(_) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "record", detail),
    }
}

fn views(guards: &[Guard]) -> Vec<GuardView> {
    guards.iter().map(GuardView::from).collect()
}

fn value(document: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(document).unwrap_or_default()
}

pub(super) fn shown(mover: &Mover) -> Answered {
    let Some(record) = mover.shown() else { return Err(refused(MoveFault::Starting)) };
    let view =
        PhaseView { stash: mover.stash().name.clone(), own: mover.may_move_here(), record: RecordView::from(&*record) };
    json(StatusCode::OK, &view)
}

pub(super) async fn history(mover: Arc<Mover>) -> Answered {
    let stash = mover.stash().name.clone();
    let (mut history, mut events) = (Vec::new(), Vec::new());
    for line in mover.history().await.map_err(|fault| refused(fault.into()))? {
        match line {
            Line::Moved(record) => history.push(RecordView::from(&*record)),
            Line::Happened(happening) => events.push(happening),
        }
    }
    json(StatusCode::OK, &HistoryView { stash, history, events })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(body: &str) -> u16 {
        status_of(Kind::Phase, body)
    }

    fn status_of(kind: Kind, body: &str) -> u16 {
        parse(kind, body.as_bytes()).map_or_else(|problem| problem.status().as_u16(), |_| 200)
    }

    #[test]
    fn what_a_move_takes() {
        let long = "x".repeat(REASON_CHARS_MAX + 1);
        for (body, expected) in [
            (r#"{"to":"dual-write","reason":"r"}"#, 200),
            (r#"{"from":null,"to":"dual-write","reason":"r","by":null}"#, 200),
            (r#"{"to":"dual-write","dry_run":true}"#, 200),
            (r#"{"to":"dual-write"}"#, 400),
            (r#"{"to":"dual-write","reason":"  "}"#, 400),
            (r#"{"reason":"r"}"#, 400),
            (r#"{"to":"dual-write","reason":"r","forced":true}"#, 400),
            (r#"{"to":"dual-write","reason":"r","force":"yes"}"#, 400),
            (r#"{"to":"dual-write","reason":"a\nb"}"#, 400),
            (&format!(r#"{{"to":"dual-write","reason":"{long}"}}"#), 400),
            (r#"{"to":"nonsense","reason":"r"}"#, 422),
            (r#"{"from":"nonsense","to":"dual-write","reason":"r"}"#, 422),
            ("", 400),
            ("[]", 400),
            ("{", 400),
        ] {
            assert_eq!(status(body), expected, "{body:.80}");
        }
    }

    #[test]
    fn a_move_that_may_have_begun_is_told_from_one_that_has_not() {
        let told = |fault: MoveFault| {
            let problem = refused(fault);
            (problem.status().as_u16(), problem.kind())
        };
        assert_eq!(told(MoveFault::Unknown("no answer within 3 s".into())), (503, "move-unknown"));
        assert_eq!(told(MoveFault::Away("it is not reached".into())), (503, "etcd"));
        assert_eq!(told(MoveFault::Etcd("permission denied".into())), (503, "etcd"));
        assert_eq!(told(MoveFault::Starting), (503, "busy"));
    }

    #[test]
    fn what_a_rule_takes() {
        let goal = |body: &str| parse(Kind::Ahead, body.as_bytes()).map(|request| request.goal).ok();
        let rule = |text: &str| Some(Goal::Ahead(text.parse().unwrap()));
        assert_eq!(goal(r#"{"match":"testwiki:*","reason":"r"}"#), rule("match:testwiki%3A%2A"));
        assert_eq!(goal(r#"{"share":0.01,"reason":"r"}"#), rule("share:0.01"));
        assert_eq!(goal(r#"{"share":1e-6,"dry_run":true}"#), rule("share:0.000001"));
        for bad in [
            r#"{"reason":"r"}"#,
            r#"{"to":"dual-write","reason":"r"}"#,
            r#"{"match":"a","share":0.1,"reason":"r"}"#,
            r#"{"match":"","reason":"r"}"#,
            r#"{"share":0,"reason":"r"}"#,
            r#"{"share":1.5,"reason":"r"}"#,
            r#"{"share":"0.1","reason":"r"}"#,
            r#"{"share":0.1}"#,
        ] {
            assert_eq!(status_of(Kind::Ahead, bad), 400, "{bad}");
        }
        assert_eq!(status_of(Kind::NoneAhead, r#"{"reason":"r"}"#), 200);
        assert_eq!(status_of(Kind::NoneAhead, r#"{"reason":"r","share":0.1}"#), 400);
        assert_eq!(status_of(Kind::Phase, r#"{"to":"dual-write","reason":"r","share":0.1}"#), 400);
    }

    #[test]
    fn who_moves_is_never_empty() {
        let by = |body: &str| parse(Kind::Phase, body.as_bytes()).unwrap().by;
        assert_eq!(by(r#"{"to":"dual-write","reason":"r","by":" "}"#), NOBODY);
        assert_eq!(by(r#"{"to":"dual-write","reason":"r","by":"root"}"#), "root");
    }
}
