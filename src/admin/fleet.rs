//! A member of the fleet is declared gone.

use super::{Answered, json, moves, problem::Problem, status, views::FleetView};
use crate::stash::mover::{ForgetFault, Mover};
use http::StatusCode;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    by: Option<String>,
}

pub(super) async fn forget(mover: &Mover, member: &str, body: &[u8]) -> Answered {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail);
    let body: Body = serde_json::from_slice(body).map_err(|fault| {
        bad(format!("the body is not what this takes: {fault}; send {{\"reason\": TEXT}} and, as wanted, by"))
    })?;
    let by = moves::who(body.by);
    moves::one_line(&body.reason, &by)?;
    mover.forget(member, &by, &body.reason).await.map_err(|fault| {
        let detail = fault.to_string();
        match fault {
            ForgetFault::NoFleet => Problem::new(StatusCode::CONFLICT, "no-fleet", detail),
            ForgetFault::NoSuchMember(_) => Problem::new(StatusCode::NOT_FOUND, "no-such-member", detail),
            ForgetFault::Alive(_) => Problem::new(StatusCode::CONFLICT, "member-alive", detail),
            ForgetFault::NoReason => bad(detail),
            ForgetFault::Changed => Problem::new(StatusCode::CONFLICT, "fleet-changed", detail),
            ForgetFault::Etcd(_) => Problem::busy(detail),
        }
    })?;
    let mut view: FleetView = status::fleet(mover);
    // The news of it may still be on its way.
    view.fleet.members.retain(|known| known.name != member);
    json(StatusCode::OK, &view)
}
