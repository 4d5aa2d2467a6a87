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

/// A browser says from where a request comes: of another origin's pages nothing is taken, whatever it asks for and however it was let in.
/// Programs say nothing of the kind.
pub(super) fn is_own(head: &Parts) -> Result<(), Problem> {
    let text = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    // `none`: a person who typed the address, or chose a bookmark.
    let by_site = text("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    let host = text("host").unwrap_or_default();
    let by_origin = text("origin").is_none_or(|origin| {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.is_some_and(|authority| !host.is_empty() && authority.eq_ignore_ascii_case(host))
    });
    if by_site && by_origin {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "origin",
        "a page of another origin sent this; only decant's own console, and programs, may ask here",
    ))
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
    fn pages_of_another_origin_are_refused() {
        for (sent, good) in [
            (&[][..], true),
            (&[("host", "127.0.0.1:9081")], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("host", "127.0.0.1:9081"), ("origin", "http://127.0.0.1:9081")], true),
            (&[("host", "LOCALHOST:9081"), ("origin", "http://localhost:9081")], true),
            // Behind a proxy that speaks TLS.
            (&[("host", "decant.example"), ("origin", "https://decant.example")], true),
            (&[("host", "127.0.0.1:9081"), ("origin", "http://127.0.0.1:8081")], false),
            (&[("host", "127.0.0.1:9081"), ("origin", "http://evil.example")], false),
            (&[("host", "127.0.0.1:9081"), ("origin", "null")], false),
            (&[("host", ""), ("origin", "http://")], false),
            (&[("origin", "http://127.0.0.1:9081")], false),
            (&[("host", "a:1"), ("origin", "http://a:1"), ("sec-fetch-site", "cross-site")], false),
        ] {
            let mut request = Request::builder();
            for (name, value) in sent {
                request = request.header(*name, *value);
            }
            assert_eq!(is_own(&request.body(()).unwrap().into_parts().0).is_ok(), good, "{sent:?}");
        }
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
