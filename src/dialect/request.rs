//! A request line and its headers -> what is asked, or what to answer at once. Pure.

use super::{Context, Manners, Mount};
use crate::codec::key::{Key, KeyFault};
use http::{HeaderMap, HeaderName, Method, Version, header, request::Parts};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What a request asks for.
pub(super) enum Route<'a> {
    Ask {
        mount: &'a Mount,
        key: Key,
        ask: Ask,
    },
    /// Under a base URI, but not to be asked of its store.
    Refuse(Refusal),
    /// A base URI without its last slash: Go's redirect to it.
    Redirect {
        to: String,
    },
    Health,
    Metrics,
    OpenApi,
    /// Nothing is here.
    Outside,
    /// Go's server refuses it before it looks at the path.
    Malformed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Get { latest: bool },
    Head { latest: bool },
    Set { only_if_absent: bool },
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No key, or one that Kask cannot be asked for: a slash in it, `.`, `..`.
    NoSuchKey,
    /// A query, a method Kask does not have, a key that is no text or too long.
    Bad,
    /// The key is one of decant's own records.
    Reserved,
}

/// Where a request goes. `mounts` have distinct base URIs.
pub(super) fn route<'a>(mounts: &'a [Mount], manners: Manners, key_bytes_max: usize, head: &Parts) -> Route<'a> {
    let path = head.uri.path().as_bytes();
    if !host_is_fine(head) || !can_decode(path) {
        return Route::Malformed;
    }
    match path {
        b"/healthz" => return Route::Health,
        b"/metrics" => return Route::Metrics,
        b"/openapi" => return Route::OpenApi,
        _ => {}
    }
    // The longest base URI wins, as in Go.
    let under = mounts
        .iter()
        .filter_map(|mount| strip_decoded(path, mount.base_uri.as_str().as_bytes()).map(|rest| (mount, rest)))
        .max_by_key(|(mount, _)| mount.base_uri.as_str().len());
    let Some((mount, segment)) = under else { return beside(mounts, head, path) };
    if head.uri.query().is_some_and(|query| !query.is_empty()) {
        return Route::Refuse(Refusal::Bad);
    }
    let key = match Key::from_url(segment) {
        Ok(key) if key.as_bytes().len() > key_bytes_max => return Route::Refuse(Refusal::Bad),
        Ok(key) => key,
        Err(KeyFault::Empty | KeyFault::Slash | KeyFault::Dots) => return Route::Refuse(Refusal::NoSuchKey),
        Err(KeyFault::TooLong | KeyFault::NotUtf8) => return Route::Refuse(Refusal::Bad),
        Err(KeyFault::BadEscape) => return Route::Malformed,
    };
    if manners.reserved_keys && key.is_reserved() {
        return Route::Refuse(Refusal::Reserved);
    }
    match ask(&head.method, &head.headers, manners) {
        Some(ask) => Route::Ask { mount, key, ask },
        None => Route::Refuse(Refusal::Bad),
    }
}

fn ask(method: &Method, headers: &HeaderMap, manners: Manners) -> Option<Ask> {
    let latest = || manners.conditional && has_token(headers, header::CACHE_CONTROL, "no-cache");
    let only_if_absent = || manners.conditional && has_token(headers, header::IF_NONE_MATCH, "*");
    match *method {
        Method::GET => Some(Ask::Get { latest: latest() }),
        Method::HEAD if manners.head_is_get => Some(Ask::Head { latest: latest() }),
        Method::POST => Some(Ask::Set { only_if_absent: only_if_absent() }),
        Method::PUT if manners.put_is_post => Some(Ask::Set { only_if_absent: only_if_absent() }),
        Method::DELETE => Some(Ask::Delete),
        _ => None,
    }
}

/// HTTP/1.1 needs one `Host`, even if empty; HTTP/1.0 needs none.
fn host_is_fine(head: &Parts) -> bool {
    let hosts = head.headers.get_all(header::HOST).iter().count();
    hosts == 1 || (hosts == 0 && (head.version < Version::HTTP_11 || head.method == Method::CONNECT))
}

/// Not under a base URI: perhaps one without its last slash.
fn beside<'a>(mounts: &[Mount], head: &Parts, path: &[u8]) -> Route<'a> {
    let is_base = |mount: &&Mount| {
        strip_decoded(path, mount.base_uri.without_slash().as_bytes()).is_some_and(|rest| rest.is_empty())
    };
    match mounts.iter().find(is_base) {
        Some(mount) => {
            let query = head.uri.query().filter(|q| !q.is_empty()).map(|q| format!("?{q}")).unwrap_or_default();
            Route::Redirect { to: format!("{}{query}", mount.base_uri) }
        }
        None => Route::Outside,
    }
}

/// What goes with the request. A request id that is missing, or has nothing harmless in it, is replaced by a new one.
pub(super) fn context(headers: &HeaderMap) -> Context {
    let sent = headers.get(X_REQUEST_ID).map(|id| id.as_bytes()).unwrap_or_default();
    let harmless = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(b);
    let kept: String = sent.iter().filter(|b| harmless(b)).take(REQUEST_ID_BYTES_MAX).map(|b| char::from(*b)).collect();
    Context {
        request_id: if kept.is_empty() { new_request_id() } else { kept },
        traceparent: headers.get(TRACEPARENT).cloned(),
        tracestate: headers.get(TRACESTATE).cloned(),
    }
}

/// Shaped like a UUID v4. Nothing secret depends on it.
fn new_request_id() -> String {
    let bits = (fastrand::u128(..) & !(0xf000 << 64) & !(0xc << 60)) | (0x4000 << 64) | (0x8 << 60);
    let mut id = String::with_capacity(36);
    for (at, byte) in bits.to_be_bytes().into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        // No fmt: this runs for every request whose client sends no id.
        id.extend([byte >> 4, byte & 0xf].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
    }
    id
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    values
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|t| t.trim().eq_ignore_ascii_case(token))
}

/// One decoded byte of a path and what follows it; `None` at the end and at a broken escape.
fn step(path: &[u8]) -> Option<(u8, &[u8])> {
    match path {
        [b'%', high, low, rest @ ..] => {
            let digit = |d: &u8| char::from(*d).to_digit(16);
            Some(((digit(high)? * 16 + digit(low)?) as u8, rest))
        }
        [b'%', ..] | [] => None,
        [byte, rest @ ..] => Some((*byte, rest)),
    }
}

/// The path decoded once, or `None` where an escape is broken.
pub(super) fn decode(mut path: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(path.len());
    while !path.is_empty() {
        let (byte, rest) = step(path)?;
        decoded.push(byte);
        path = rest;
    }
    Some(decoded)
}

/// Whether no escape is broken.
fn can_decode(mut path: &[u8]) -> bool {
    while let Some(escape) = path.iter().position(|b| *b == b'%') {
        let Some((_, rest)) = step(&path[escape..]) else { return false };
        path = rest;
    }
    true
}

/// The raw rest of `path` behind `base`, where `path` may spell any byte of `base` with an escape.
fn strip_decoded<'a>(mut path: &'a [u8], base: &[u8]) -> Option<&'a [u8]> {
    for expected in base {
        let (byte, rest) = step(path)?;
        if byte != *expected {
            return None;
        }
        path = rest;
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_kept_if_harmless_bounded_and_never_empty() {
        let with = |id: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, http::HeaderValue::from_bytes(id).unwrap());
            context(&headers).request_id
        };
        assert_eq!(with(b"abc-123"), "abc-123");
        assert_eq!(with(b"a\"b\\c<d> e\xff"), "abcde");
        assert_eq!(with(&[b'x'; 500]).len(), 128);
        for fresh in [with(b"\"\""), with(b""), context(&HeaderMap::new()).request_id] {
            let parts: Vec<&str> = fresh.split('-').collect();
            assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{fresh}");
            assert!(parts[2].starts_with('4') && "89ab".contains(&parts[3][..1]), "{fresh}");
        }
    }

    #[test]
    fn a_base_is_found_however_it_is_escaped() {
        assert_eq!(strip_decoded(b"/a%2Fb%2fk%2F", b"/a/b/"), Some(b"k%2F".as_slice()));
        assert_eq!(strip_decoded(b"/a%252Fb/k", b"/a/b/"), None);
        assert_eq!(decode(b"/%41%2541"), Some(b"/A%41".to_vec()));
        assert_eq!(decode(b"/%4"), None);
        for path in [b"/a%2Fb%00".as_slice(), b"/%4", b"%", b"%%41", b"/%zz", b"", b"/a", b"%41%4g"] {
            assert_eq!(can_decode(path), decode(path).is_some(), "{path:?}");
        }
    }
}
