//! Who may ask.

use super::problem::Problem;
use crate::config::Secret;
use http::{HeaderValue, StatusCode, header, request::Parts};
use std::net::IpAddr;
use subtle::ConstantTimeEq as _;

/// With a token: who sends it. Without one the listener is on loopback, and who gets there may; but a web page that made its own
/// name point to loopback is kept out by its `Host`.
pub(super) fn may(head: &Parts, token: Option<&Secret>) -> Result<(), Problem> {
    match token {
        Some(token) if sends(head, token) => Ok(()),
        Some(_) => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "token",
            "the admin token is missing or wrong; send it as Authorization: Bearer TOKEN",
        )
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"decant\""))),
        None if is_local(head) => Ok(()),
        None => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "host",
            "without a token only requests to an IP address or to localhost are answered; configure a token to use another name",
        )),
    }
}

fn sends(head: &Parts, token: &Secret) -> bool {
    let sent = head.headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let scheme = b"bearer ";
    if sent.len() < scheme.len() || !sent[..scheme.len()].eq_ignore_ascii_case(scheme) {
        return false;
    }
    sent[scheme.len()..].trim_ascii().ct_eq(token.expose()).into()
}

/// No `Host` is HTTP/1.0, which no browser sends.
fn is_local(head: &Parts) -> bool {
    let Some(host) = head.headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// A form of another site cannot send it, and a script of another site must ask first, which is never granted.
pub(super) fn is_json(head: &Parts) -> Result<(), Problem> {
    let sent = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = sent.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", "send Content-Type: application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn head(name: header::HeaderName, value: &str) -> Parts {
        Request::builder().header(name, value).body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_token_is_wanted_whole() {
        let token = Secret::new("correct horse");
        for (sent, good) in [
            ("Bearer correct horse", true),
            ("bearer  correct horse ", true),
            ("Bearer correct hors", false),
            ("Bearer correct horse!", false),
            ("Bearer ", false),
            ("Bearer", false),
            ("Basic correct horse", false),
            ("correct horse", false),
        ] {
            assert_eq!(may(&head(header::AUTHORIZATION, sent), Some(&token)).is_ok(), good, "{sent}");
        }
        assert!(may(&head(header::ACCEPT, "x"), Some(&token)).is_err());
    }

    #[test]
    fn without_a_token_another_sites_name_is_refused() {
        for (host, good) in [
            ("127.0.0.1:9081", true),
            ("[::1]:9081", true),
            ("[::1]", true),
            ("localhost", true),
            ("LOCALHOST:1", true),
            ("evil.example:9081", false),
            ("127.0.0.1.evil.example", false),
            ("localhost:evil", false),
            ("", false),
        ] {
            assert_eq!(may(&head(header::HOST, host), None).is_ok(), good, "{host}");
        }
        assert!(may(&head(header::ACCEPT, "x"), None).is_ok());
    }

    #[test]
    fn only_json_is_json() {
        for (sent, good) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("application/jsonx", false),
        ] {
            assert_eq!(is_json(&head(header::CONTENT_TYPE, sent)).is_ok(), good, "{sent}");
        }
        assert!(is_json(&head(header::ACCEPT, "application/json")).is_err());
    }
}
