//! What Kask's answers, and the lack of one, mean.

use super::{KaskError, KaskRead, KaskWrite};
use crate::http::{NoRoom, Room};
use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use serde::Deserialize;
use std::{error::Error, fmt::Write as _, io};

/// The largest problem document that is read, in bytes. Kask's repeat the path, so a long key makes a long one.
const PROBLEM_BYTES_MAX: usize = 512 * 1024;

/// What is sure about a request that got no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// It can never be sent.
    Never,
    NotSent,
    Unknown,
}

/// A request without a whole answer.
#[derive(Debug)]
pub(super) struct Fault {
    certainty: Certainty,
    pub(super) error: KaskError,
}

impl Fault {
    pub(super) fn new(certainty: Certainty, kind: &'static str, detail: impl Into<String>) -> Fault {
        Fault { certainty, error: KaskError { kind, detail: detail.into() } }
    }
}

impl From<Fault> for KaskWrite {
    fn from(fault: Fault) -> KaskWrite {
        match fault.certainty {
            Certainty::Never => KaskWrite::Refused(fault.error),
            Certainty::NotSent => KaskWrite::NotSent(fault.error),
            Certainty::Unknown => KaskWrite::Unknown(fault.error),
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Whole {
    status: StatusCode,
    /// A page for people: a proxy's or a captive portal's, never Kask's.
    html: bool,
    body: Bytes,
}

/// Reads the body to its end, and refuses one whose end cannot be told from a broken connection.
pub(super) async fn read_whole(
    response: Response<Incoming>,
    body_bytes_max: usize,
    room: &Room,
) -> Result<Whole, Fault> {
    let unknown = |kind, detail: String| Fault::new(Certainty::Unknown, kind, detail);
    let (head, body) = response.into_parts();
    let status = head.status;
    if status.is_redirection() {
        // The status says all, and the connection is not worth keeping.
        return Ok(Whole { status, html: false, body: Bytes::new() });
    }
    let framed = body.size_hint().exact().is_some() || head.headers.contains_key(header::TRANSFER_ENCODING);
    if status == StatusCode::OK && !framed {
        return Err(unknown("half_body", "neither a length nor chunks: the end of the body cannot be checked".into()));
    }
    let bytes_max = if status == StatusCode::OK { body_bytes_max } else { PROBLEM_BYTES_MAX.min(body_bytes_max) };
    let body = match read_held(Limited::new(body, bytes_max), room).await {
        Ok(whole) => whole,
        // The status says all; the body was only read to keep the connection.
        Err(_) if status.is_server_error() => Bytes::new(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(unknown(
                "too_large",
                format!("the body is over {bytes_max} bytes (status {})", status.as_u16()),
            ));
        }
        Err(error) if error.is::<NoRoom>() => return Err(unknown("no_room", chain(&*error))),
        Err(error) => {
            let kind = if is_bad_framing(&*error) { "garbage" } else { "half_body" };
            return Err(unknown(kind, chain(&*error)));
        }
    };
    let html = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    Ok(Whole { status, html, body })
}

async fn read_held(mut body: Limited<Incoming>, room: &Room) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
    let mut growing = room.begin(body.size_hint().exact());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        growing.push(data)?;
    }
    Ok(growing.finish())
}

/// What a failure before the answer's head means.
pub(super) fn of_client_error(error: &hyper_util::client::legacy::Error) -> Fault {
    if error.is_connect() {
        return Fault::new(Certainty::NotSent, "connect", chain(error));
    }
    let kind = match find::<hyper::Error>(error) {
        Some(cause) if cause.is_parse_too_large() => "too_large",
        Some(cause) if cause.is_parse() => "garbage",
        _ => "closed",
    };
    Fault::new(Certainty::Unknown, kind, chain(error))
}

pub(super) fn of_get(whole: Whole) -> KaskRead {
    match whole.status {
        StatusCode::OK if whole.html => KaskRead::Error(error("not_kask", "200 with a web page; check the URL")),
        StatusCode::OK if whole.body.is_empty() => KaskRead::Error(error("empty_body", "200 without a value")),
        StatusCode::OK => KaskRead::Hit(whole.body),
        StatusCode::NOT_FOUND if whole.is_not_found() => KaskRead::Miss,
        _ => KaskRead::Error(whole.error()),
    }
}

pub(super) fn of_post(whole: &Whole) -> KaskWrite {
    match whole.status {
        StatusCode::OK if whole.html => KaskWrite::Unknown(error("not_kask", "200 with a web page; check the URL")),
        StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => KaskWrite::Done,
        _ => whole.refusal(),
    }
}

pub(super) fn of_delete(whole: &Whole) -> KaskWrite {
    match whole.status {
        StatusCode::OK if whole.html => KaskWrite::Unknown(error("not_kask", "200 with a web page; check the URL")),
        StatusCode::OK | StatusCode::NO_CONTENT => KaskWrite::Done,
        StatusCode::NOT_FOUND if whole.is_not_found() => KaskWrite::Done,
        _ => whole.refusal(),
    }
}

#[derive(Deserialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
}

impl Whole {
    /// The last part of the problem's type, if the body is one of Kask's problem documents.
    fn problem(&self) -> Option<String> {
        let problem: Problem = serde_json::from_slice(&self.body).ok()?;
        problem.kind.split_once("/errors/").map(|(_, name)| name.to_owned())
    }

    fn is_not_found(&self) -> bool {
        self.problem().is_some_and(|name| name == "not_found")
    }

    fn error(&self) -> KaskError {
        let status = self.status.as_u16();
        match status {
            300..=399 => error("redirect", format!("status {status}; redirects are not followed, check the URL")),
            400..=499 if self.is_definite() => error("status_4xx", format!("status {status}")),
            400..=499 => error("not_kask", format!("status {status}, but not in Kask's words; check the URL")),
            500..=599 => error("status_5xx", format!("status {status}")),
            _ => error("unexpected_status", format!("status {status}")),
        }
    }

    /// A refusal that will not change: Kask's own, or a proxy's about sizes. A proxy that limits rates or lost its
    /// patience (408, 425, 429) may say yes the next time, and one that knows no such path says nothing about Kask.
    fn is_definite(&self) -> bool {
        match self.status.as_u16() {
            413 | 414 | 431 => true,
            408 | 425 | 429 => false,
            _ => self.problem().is_some(),
        }
    }

    fn refusal(&self) -> KaskWrite {
        let error = self.error();
        if error.kind == "status_4xx" { KaskWrite::Refused(error) } else { KaskWrite::Unknown(error) }
    }
}

fn error(kind: &'static str, detail: impl Into<String>) -> KaskError {
    KaskError { kind, detail: detail.into() }
}

/// The body's framing is broken, as opposed to cut short.
fn is_bad_framing(error: &(dyn Error + 'static)) -> bool {
    find::<io::Error>(error)
        .is_some_and(|e| matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// The error and its causes; hyper's never hold the URL.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let _ = write!(text, ": {cause}"); // a String takes everything
        next = cause.source();
    }
    text
}
