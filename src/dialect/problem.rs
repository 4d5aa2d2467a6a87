//! Kask's problem bodies, byte for byte as Go's `json.MarshalIndent` writes them.

use std::fmt::Write;

/// The kinds Kask has, and decant's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BadRequest,
    NotFound,
    ServerError,
    /// Decant's own from here on.
    RequestTimeout,
    PreconditionFailed,
    PayloadTooLarge,
    Unavailable,
}

impl Kind {
    /// (last segment of the type, title, detail)
    fn texts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::BadRequest => ("bad_request", "Bad request", "The request was incorrect or malformed"),
            Kind::NotFound => ("not_found", "Not found", "The value you requested was not found"),
            Kind::ServerError => {
                ("server_error", "Internal server error", "The server encountered an error with your request")
            }
            Kind::RequestTimeout => (
                "request_timeout",
                "Request timeout",
                "The request body did not arrive in time; send it faster or smaller",
            ),
            Kind::PreconditionFailed => ("precondition_failed", "Precondition failed", "The key has a value already"),
            Kind::PayloadTooLarge => {
                ("payload_too_large", "Payload too large", "The request body is larger than this server accepts")
            }
            Kind::Unavailable => {
                ("unavailable", "Service unavailable", "The store cannot answer at the moment; try again later")
            }
        }
    }
}

/// The body of a problem. `instance` is the decoded path; `detail` replaces the kind's own sentence where it is given.
pub(super) fn body(kind: Kind, detail: Option<&str>, instance: &[u8]) -> String {
    let (name, title, own_detail) = kind.texts();
    let detail = detail.filter(|d| !d.is_empty()).unwrap_or(own_detail);
    let mut json = String::with_capacity(256 + instance.len());
    json.push_str("{\n  \"type\": \"https://www.mediawiki.org/wiki/Kask/errors/");
    json.push_str(name);
    json.push_str("\",\n  \"title\": \"");
    json.push_str(title);
    json.push_str("\",\n  \"detail\": \"");
    escape_into(&mut json, detail.as_bytes());
    json.push_str("\",\n  \"instance\": \"");
    escape_into(&mut json, instance);
    json.push_str("\"\n}\n");
    json
}

/// Go's escaping: `<`, `>`, `&`, U+2028 and U+2029 as `\u….`, every byte that is no UTF-8 as `\ufffd`.
fn escape_into(json: &mut String, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => json.push_str("\\\""),
                '\\' => json.push_str("\\\\"),
                '\n' => json.push_str("\\n"),
                '\r' => json.push_str("\\r"),
                '\t' => json.push_str("\\t"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                    let _ = write!(json, "\\u{:04x}", u32::from(c));
                }
                _ => json.push(c),
            }
        }
        for _ in chunk.invalid() {
            json.push_str("\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_written_as_go_writes_it() {
        assert_eq!(
            body(Kind::NotFound, None, b"/echoseen/v1/k"),
            "{\n  \"type\": \"https://www.mediawiki.org/wiki/Kask/errors/not_found\",\n  \"title\": \"Not found\",\n  \
             \"detail\": \"The value you requested was not found\",\n  \"instance\": \"/echoseen/v1/k\"\n}\n"
        );
    }

    /// The expectation was printed by Go's encoding/json.
    #[test]
    fn gos_escaping() {
        let mut json = String::new();
        escape_into(&mut json, b"<a>&\"\\\n\r\t\x00\x1f\x7f\xff\xfe \xe2\x80\xa8 caf\xc3\xa9 \xe2\x82");
        assert_eq!(
            json,
            "\\u003ca\\u003e\\u0026\\\"\\\\\\n\\r\\t\\u0000\\u001f\u{7f}\\ufffd\\ufffd \\u2028 café \\ufffd\\ufffd"
        );
    }
}
