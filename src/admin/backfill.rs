//! What is asked of a backfill, and why not.

use super::problem::Problem;
use crate::backfill::{Backfill, BackfillFault, ChangeRequest, Filters, Limits, StartRequest};
use http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{sync::Arc, time::SystemTime};

/// Characters of who asks.
const BY_CHARS_MAX: usize = 200;
const NOBODY: &str = "the admin API";

/// The body of a `POST`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Start {
    #[serde(rename = "match")]
    only: Option<String>,
    /// RFC 3339.
    written_after: Option<String>,
    written_ttl_s: Option<u64>,
    skip_values: Vec<String>,
    min_ttl_s: Option<u64>,
    limit: Option<u64>,
    dry_run: bool,
    keys_per_s: Option<u64>,
    bytes_per_s: Option<u64>,
    by: Option<String>,
}

/// The body of a `PATCH`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Change {
    state: Option<Wanted>,
    keys_per_s: Option<u64>,
    bytes_per_s: Option<u64>,
    by: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Running,
    Paused,
}

/// The body of a `DELETE`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Cancel {
    by: Option<String>,
}

pub(super) async fn start(backfill: &Arc<Backfill>, body: &[u8]) -> Result<(), Problem> {
    let asked = parse_start(body, backfill.limits())?;
    done(backfill, move |backfill| async move { backfill.start(asked).await }).await
}

pub(super) async fn change(backfill: &Arc<Backfill>, body: &[u8]) -> Result<(), Problem> {
    let (asked, by) = parse_change(body)?;
    done(backfill, move |backfill| async move { backfill.change(asked, &by).await }).await
}

pub(super) async fn cancel(backfill: &Arc<Backfill>, body: &[u8]) -> Result<(), Problem> {
    let asked: Cancel = parse(body, "send {\"by\": NAME}, or {}")?;
    let by = by(asked.by)?;
    done(backfill, move |backfill| async move { backfill.cancel(&by).await }).await
}

/// Runs to its end, also when the client goes away: what is told durably must not hang on a connection.
async fn done<F>(backfill: &Arc<Backfill>, work: impl FnOnce(Arc<Backfill>) -> F) -> Result<(), Problem>
where
    F: Future<Output = Result<(), BackfillFault>> + Send + 'static,
{
    let ended = tokio::spawn(work(backfill.clone())).await;
    let ended =
        ended.map_err(|fault| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "server-error", fault.to_string()))?;
    ended.map_err(|fault| refused(backfill, fault))
}

fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail)
}

fn parse<T: DeserializeOwned>(body: &[u8], send: &str) -> Result<T, Problem> {
    // A list would pass for an object of which everything is left out.
    let object = serde_json::from_slice::<Map<String, Value>>(body).map(Value::Object);
    let parsed = object.and_then(serde_json::from_value);
    parsed.map_err(|fault| bad(format!("the body is not what is taken here: {fault}; {send}")))
}

fn by(told: Option<String>) -> Result<String, Problem> {
    let by = told.filter(|by| !by.trim().is_empty()).unwrap_or_else(|| NOBODY.to_owned());
    match by.chars().count() > BY_CHARS_MAX || by.chars().any(char::is_control) {
        true => Err(bad(format!("\"by\" is one line of at most {BY_CHARS_MAX} characters"))),
        false => Ok(by),
    }
}

fn parse_start(body: &[u8], usual: Limits) -> Result<StartRequest, Problem> {
    let asked: Start = parse(
        body,
        "send {} for every key and, as wanted, match, written_after, written_ttl_s, skip_values, min_ttl_s, limit, dry_run, \
         keys_per_s, bytes_per_s, by",
    )?;
    let unix_ms = |text: String| {
        let time = humantime::parse_rfc3339_weak(&text).ok();
        let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let since = since.ok_or_else(|| bad(format!("written_after: {text:?} is no time; write 2026-01-31T12:00:00Z")));
        since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    };
    let filters = Filters {
        only: asked.only,
        written_after_unix_ms: asked.written_after.map(unix_ms).transpose()?,
        written_ttl_s: asked.written_ttl_s,
        skip_values: asked.skip_values,
        min_ttl_s: asked.min_ttl_s,
        limit: asked.limit,
        dry_run: asked.dry_run,
    };
    let limits = Limits {
        keys_per_s: asked.keys_per_s.unwrap_or(usual.keys_per_s),
        bytes_per_s: asked.bytes_per_s.unwrap_or(usual.bytes_per_s),
    };
    Ok(StartRequest { filters, limits, by: by(asked.by)? })
}

fn parse_change(body: &[u8]) -> Result<(ChangeRequest, String), Problem> {
    let send = "send state (running, paused), keys_per_s, bytes_per_s (0: no limit), as wanted, and by";
    let Change { state, keys_per_s, bytes_per_s, by: told } = parse(body, send)?;
    if state.is_none() && keys_per_s.is_none() && bytes_per_s.is_none() {
        return Err(bad(format!("nothing is asked for; {send}")));
    }
    let go_on = state.map(|state| state == Wanted::Running);
    Ok((ChangeRequest { keys_per_s, bytes_per_s, go_on }, by(told)?))
}

fn refused(backfill: &Backfill, fault: BackfillFault) -> Problem {
    let detail = fault.to_string();
    let conflict = |kind| Problem::new(StatusCode::CONFLICT, kind, detail.clone());
    match fault {
        BackfillFault::Starting | BackfillFault::Ending => Problem::busy(detail),
        BackfillFault::NoRedis => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no-redis", detail),
        BackfillFault::Phase(_) | BackfillFault::Moving(_) => conflict("wrong-phase"),
        BackfillFault::UnderWay { .. } => {
            let view = serde_json::to_value(backfill.view(false)).unwrap_or_default();
            conflict("backfill-under-way").with("backfill", view)
        }
        BackfillFault::Filter(_) => bad(detail),
        BackfillFault::NoneThat(_) => conflict("no-such-backfill"),
        BackfillFault::Store(_) | BackfillFault::Told(_) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "state-dir", detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_takes() {
        let usual = Limits { keys_per_s: 7, bytes_per_s: 9 };
        let asked = parse_start(b"{}", usual).unwrap();
        assert!(asked.filters.are_none() && asked.limits == usual && asked.by == NOBODY);
        let all =
            br#"{"match":"*:echo:*","written_after":"2026-01-31T00:00:00Z","written_ttl_s":5,"skip_values":["x"],"min_ttl_s":1,
            "limit":3,"dry_run":true,"keys_per_s":0,"by":"me"}"#;
        let asked = parse_start(all, usual).unwrap();
        assert_eq!(asked.filters.written_after_unix_ms, Some(1_769_817_600_000));
        assert_eq!((asked.limits, asked.by.as_str()), (Limits { keys_per_s: 0, bytes_per_s: 9 }, "me"));
        for bad in [
            &b"{\"written_after\":\"soon\"}"[..],
            b"{\"written_after\":\"1969-01-01T00:00:00Z\"}",
            b"{\"limit\":-1}",
            b"{\"matches\":\"*\"}",
            b"{\"by\":\"a\\nb\"}",
            b"[]",
            b"",
        ] {
            let problem = parse_start(bad, usual).unwrap_err();
            assert_eq!(problem.status().as_u16(), 400, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn what_a_change_takes() {
        let asked =
            |body: &[u8]| parse_change(body).map(|(asked, _)| asked).map_err(|problem| problem.status().as_u16());
        let paused = ChangeRequest { go_on: Some(false), ..ChangeRequest::default() };
        assert_eq!(asked(br#"{"state":"paused"}"#), Ok(paused));
        let limited = ChangeRequest { keys_per_s: Some(0), go_on: Some(true), ..ChangeRequest::default() };
        assert_eq!(asked(br#"{"state":"running","keys_per_s":0}"#), Ok(limited));
        for bad in [&b"{}"[..], br#"{"by":"x"}"#, br#"{"state":"finished"}"#, br#"{"keys_per_s":"many"}"#] {
            assert_eq!(asked(bad), Err(400), "{}", String::from_utf8_lossy(bad));
        }
    }
}
