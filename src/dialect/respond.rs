//! Answers -> HTTP. The only status table.

use super::{
    Answer,
    problem::{self, Kind},
    request::Refusal,
};
use crate::http::{BodyFault, Reply};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const DECANT_TIER: HeaderName = HeaderName::from_static("decant-tier");

/// The answer to an operation. `instance` is the decoded path; `head` leaves the body away and keeps its length.
pub(super) fn answer(answer: Answer, instance: &[u8], head: bool) -> Response<Reply> {
    match answer {
        Answer::Hit { body, tier } => {
            let mut hit = if head {
                let mut hit = plain(StatusCode::OK, Reply::empty());
                hit.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
                hit
            } else {
                plain(StatusCode::OK, Reply::whole(body))
            };
            hit.headers_mut().insert(header::CONTENT_TYPE, BYTES);
            if let Some(tier) = tier {
                hit.headers_mut().insert(DECANT_TIER, HeaderValue::from_static(tier));
            }
            hit
        }
        Answer::Missing => problem(StatusCode::NOT_FOUND, Kind::NotFound, None, instance),
        Answer::Stored => {
            let mut stored = plain(StatusCode::CREATED, Reply::empty());
            stored.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            stored
        }
        Answer::Deleted => plain(StatusCode::NO_CONTENT, Reply::empty()),
        Answer::Exists => problem(StatusCode::PRECONDITION_FAILED, Kind::PreconditionFailed, None, instance),
        Answer::BadRequest { detail } => problem(StatusCode::BAD_REQUEST, Kind::BadRequest, Some(&detail), instance),
        Answer::Failed { .. } => problem(StatusCode::INTERNAL_SERVER_ERROR, Kind::ServerError, None, instance),
        Answer::Unavailable { detail, retry_after_s } => {
            let mut away = problem(StatusCode::SERVICE_UNAVAILABLE, Kind::Unavailable, Some(&detail), instance);
            away.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
            away
        }
    }
}

/// A request that no store is asked about.
pub(super) fn refusal(refusal: Refusal, instance: &[u8]) -> Response<Reply> {
    match refusal {
        Refusal::NoSuchKey => problem(StatusCode::NOT_FOUND, Kind::NotFound, None, instance),
        Refusal::Bad => problem(StatusCode::BAD_REQUEST, Kind::BadRequest, None, instance),
        Refusal::Reserved => {
            let detail = "Keys that begin with \"decant|\" are reserved for decant's own records";
            problem(StatusCode::BAD_REQUEST, Kind::BadRequest, Some(detail), instance)
        }
    }
}

/// A write without a body that can be used. The connection is closed where the rest of the body may still come.
pub(super) fn body_fault(fault: BodyFault, says_too_large: bool, instance: &[u8]) -> Response<Reply> {
    let mut answer = match fault {
        BodyFault::TooLarge if !says_too_large => {
            problem(StatusCode::INTERNAL_SERVER_ERROR, Kind::ServerError, None, instance)
        }
        BodyFault::TooLarge => problem(StatusCode::PAYLOAD_TOO_LARGE, Kind::PayloadTooLarge, None, instance),
        BodyFault::TooSlow => problem(StatusCode::REQUEST_TIMEOUT, Kind::RequestTimeout, None, instance),
        BodyFault::Broken => problem(StatusCode::BAD_REQUEST, Kind::BadRequest, None, instance),
        BodyFault::NoRoom => {
            let detail = "Too many large request bodies are being held; try again later".to_owned();
            self::answer(Answer::Unavailable { detail, retry_after_s: 1 }, instance, false)
        }
    };
    answer.headers_mut().insert(header::CONNECTION, CLOSE);
    answer
}

/// Go's redirect: a page for GET, its type for HEAD, nothing for the others.
pub(super) fn redirect(to: &str, method: &Method) -> Response<Reply> {
    let mut moved = plain(StatusCode::MOVED_PERMANENTLY, Reply::empty());
    if method == Method::GET {
        *moved.body_mut() = Reply::whole(format!("<a href=\"{}\">Moved Permanently</a>.\n\n", html_escaped(to)));
    }
    if method == Method::GET || method == Method::HEAD {
        moved.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    if let Ok(to) = HeaderValue::from_str(to) {
        moved.headers_mut().insert(header::LOCATION, to);
    }
    moved
}

fn html_escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&#34;").replace('\'', "&#39;")
}

/// Go's 404 for a path that nobody has.
pub(super) fn outside() -> Response<Reply> {
    let mut answer = plain(StatusCode::NOT_FOUND, Reply::whole("404 page not found\n"));
    answer.headers_mut().insert(header::CONTENT_TYPE, PLAIN);
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    answer
}

/// What Go's server says to a request it cannot parse.
pub(super) fn malformed() -> Response<Reply> {
    let mut answer = plain(StatusCode::BAD_REQUEST, Reply::whole("400 Bad Request"));
    answer.headers_mut().insert(header::CONTENT_TYPE, PLAIN);
    answer.headers_mut().insert(header::CONNECTION, CLOSE);
    answer
}

/// One of the listener's own pages.
pub(super) fn page(content_type: &'static str, body: String) -> Response<Reply> {
    let mut answer = plain(StatusCode::OK, Reply::whole(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn problem(status: StatusCode, kind: Kind, detail: Option<&str>, instance: &[u8]) -> Response<Reply> {
    let mut answer = plain(status, Reply::whole(problem::body(kind, detail, instance)));
    answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    answer
}

fn plain(status: StatusCode, body: Reply) -> Response<Reply> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}
