//! RFC 9457 problem documents.

use crate::http::Reply;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// An answer that says why not.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    more: Vec<(&'static str, Value)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// `kind` is the end of the problem's type, `urn:decant:problem:<kind>`: what programs compare. `detail` is for people.
    pub(super) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem { status, kind, detail: detail.into(), more: Vec::new(), headers: Vec::new() }
    }

    pub(super) fn no_such_page() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "no-such-page", "there is no such page; /openapi lists them")
    }

    /// It will be better in a moment.
    pub(super) fn busy(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    pub(super) fn with(mut self, name: &'static str, value: Value) -> Problem {
        self.more.push((name, value));
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    #[cfg(test)]
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    /// `instance` is the path that was asked for.
    pub(super) fn into_response(self, instance: &str) -> Response<Reply> {
        let mut document = json!({
            "type": format!("urn:decant:problem:{}", self.kind),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "instance": instance,
        });
        if let Some(document) = document.as_object_mut() {
            document.extend(self.more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        let mut answer = Response::new(Reply::whole(format!("{document:#}\n")));
        *answer.status_mut() = self.status;
        answer.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
        for (name, value) in self.headers {
            answer.headers_mut().insert(name, value);
        }
        answer
    }
}
