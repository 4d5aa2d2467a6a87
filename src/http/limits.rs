//! What one listener grants its clients.

use crate::codec::key::KEY_BYTES_MAX;
use std::time::Duration;

/// Limits of one listener. Every one of them holds for clients that mean harm as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and headers together, in bytes; more is answered 431. At least 8192. A request line holds at most 65,534
    /// bytes whatever stands here (414).
    pub header_bytes_max: usize,
    /// Headers of one request, counted; more is answered 431.
    pub headers_max: usize,
    /// A request's body, in bytes; more is answered 413.
    pub body_bytes_max: usize,
    /// All large bodies that are being held at the same time, of requests and of answers, in bytes; one that finds no room is answered 503.
    pub held_bytes_max: usize,
    /// From the first byte of a request to the end of its headers; then the connection is cut.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body; then 408 and the connection is closed.
    pub body_timeout: Duration,
    /// How long a connection may lie still between two requests. Longer than the 4.5 s after which Envoy gives one up, so
    /// that it is never decant that closes a connection Envoy is about to use.
    pub idle_timeout: Duration,
    /// How long a client may take for an answer that it takes slowly, beyond `idle_timeout`; then the connection is cut.
    pub answer_timeout: Duration,
    /// Open connections; over it none is accepted until one ends.
    pub connections_max: usize,
    /// How long a stopping listener waits for requests under way; then their connections are cut.
    pub drain_timeout: Duration,
    /// A decoded key, in bytes; more is answered 400.
    pub key_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_bytes_max: 128 * 1024,
            headers_max: 100,
            body_bytes_max: 16 * 1024 * 1024,
            held_bytes_max: 256 * 1024 * 1024,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            answer_timeout: Duration::from_secs(30),
            connections_max: 4096,
            drain_timeout: Duration::from_secs(10),
            key_bytes_max: KEY_BYTES_MAX,
        }
    }
}
