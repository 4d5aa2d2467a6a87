//! The two stores a stash moves between, as thin I/O: one call, one exact outcome.
//!
//! There is no policy here. No call is repeated, nothing is decided about phases, and every failure says whether the store
//! surely did not see the request, surely refused it, or may have applied it. What to do about that is the caller's.
//! Handles of metrics are made when a tier is built, so the metrics recorder must be installed before that.
pub mod breaker;
pub mod kask;
mod metrics;
pub mod redis;
pub mod shards;

use http::HeaderValue;

/// What is passed on to Kask from the request being served, so that both sides' logs and traces meet.
#[derive(Clone, Debug, Default)]
pub struct Forward {
    /// `X-Request-Id`; left out if it is empty or cannot stand in a header.
    pub request_id: String,
    /// W3C trace context, verbatim.
    pub traceparent: Option<HeaderValue>,
    /// W3C trace context, verbatim; only sent beside a `traceparent`, as the specification asks.
    pub tracestate: Option<HeaderValue>,
}
