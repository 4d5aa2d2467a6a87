//! Runs of verify: begun, cancelled, told of.

use super::{Answered, json, problem::Problem};
use crate::{
    scan::Glob,
    verify::{Request, SAMPLE_MAX, StartFault, Verifier},
};
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;

/// The body of a `POST`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Body {
    sample: Option<u64>,
    #[serde(rename = "match")]
    only: Option<String>,
    fix: bool,
    show_keys: bool,
    rate: Option<u32>,
}

fn parse(body: &[u8]) -> Result<Request, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail);
    let body: Body = serde_json::from_slice(body).map_err(|fault| {
        bad(format!(
            "the body is not what verify takes: {fault}; send {{}} and, as wanted, sample, match, fix, show_keys, rate"
        ))
    })?;
    if body.sample.is_some_and(|sample| !(1..=SAMPLE_MAX).contains(&sample)) {
        return Err(bad(format!("\"sample\" is a number of keys from 1 to {SAMPLE_MAX}; leave it out to compare all")));
    }
    let only = body.only.as_deref().map(Glob::new).transpose().map_err(|fault| bad(format!("\"match\": {fault}")))?;
    Ok(Request { sample: body.sample, only, fix: body.fix, show_keys: body.show_keys, rate: body.rate })
}

pub(super) fn start(verifier: &Arc<Verifier>, body: &[u8]) -> Answered {
    let id = verifier.start(parse(body)?).map_err(refused)?;
    json(StatusCode::ACCEPTED, &serde_json::json!({ "stash": verifier.stash_name(), "id": id }))
}

pub(super) fn cancel(verifier: &Verifier) -> Answered {
    match verifier.cancel() {
        true => json(StatusCode::OK, &serde_json::json!({ "stash": verifier.stash_name(), "cancelled": true })),
        false => Err(Problem::new(StatusCode::NOT_FOUND, "no-such-run", "no run of verify is under way")),
    }
}

fn refused(fault: StartFault) -> Problem {
    let detail = fault.to_string();
    let conflict = |kind| Problem::new(StatusCode::CONFLICT, kind, detail.clone());
    match fault {
        StartFault::Starting => Problem::busy(detail),
        StartFault::UnderWay { id, .. } => conflict("verify-under-way").with("id", id.into()),
        StartFault::Moving(_) => conflict("move-under-way"),
        StartFault::Retired | StartFault::CannotFix(_) => conflict("phase"),
        StartFault::NoRedis => conflict("no-redis"),
        StartFault::NoStore(_) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "state-dir", detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_verify_takes() {
        for (body, expected) in [
            ("{}", 200),
            (r#"{"sample":1000,"match":"*:echo:seen:*","fix":true,"show_keys":true,"rate":500}"#, 200),
            (r#"{"sample":null,"match":null,"rate":null}"#, 200),
            (r#"{"sample":0}"#, 400),
            (r#"{"sample":1000001}"#, 400),
            (r#"{"sample":-1}"#, 400),
            (r#"{"match":""}"#, 400),
            (r#"{"only":"*"}"#, 400),
            (r#"{"fix":"yes"}"#, 400),
            ("", 400),
            ("3", 400),
        ] {
            let status = parse(body.as_bytes()).map_or_else(|problem| problem.status().as_u16(), |_| 200);
            assert_eq!(status, expected, "{body}");
        }
    }
}
