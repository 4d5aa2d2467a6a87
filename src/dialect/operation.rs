//! What a client asks of a store, and what a store can answer.

use super::BaseUri;
use crate::codec::key::Key;
use bytes::Bytes;
use http::HeaderValue;
use std::{future::Future, pin::Pin, sync::Arc};

/// What is to be done with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `latest`: the client sent `Cache-Control: no-cache` and wants what the last write left.
    Get {
        latest: bool,
    },
    /// `body` is never empty. `only_if_absent`: the client sent `If-None-Match: *`.
    Set {
        body: Bytes,
        only_if_absent: bool,
    },
    Delete,
}

/// What goes with a request into logs and to the next tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The client's `X-Request-Id`, cut to 128 harmless characters, or a new one. Never empty.
    pub request_id: String,
    pub traceparent: Option<HeaderValue>,
    pub tracestate: Option<HeaderValue>,
}

/// One request, read whole.
#[derive(Clone, Debug)]
pub struct Operation {
    pub key: Key,
    pub verb: Verb,
    pub context: Context,
}

/// What became of an operation. `respond.rs` says which status each is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The value, byte for byte. `tier` is the text of the `Decant-Tier` header.
    Hit {
        body: Bytes,
        tier: Option<&'static str>,
    },
    Missing,
    Stored,
    Deleted,
    /// The key has a value, and the write was to happen only without one.
    Exists,
    /// `detail` is shown to the client; empty: Kask's own sentence.
    BadRequest {
        detail: String,
    },
    /// `detail` is logged and not shown: it may name what lies behind.
    Failed {
        detail: String,
    },
    /// A tier that is needed cannot answer. `detail` is shown to the client and logged; it names no key.
    Unavailable {
        detail: String,
        retry_after_s: u32,
    },
}

/// The future of an [`Answer`].
pub type AnswerFuture<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// A store behind the dialect. Every call is run to its end, also when the client goes away; a panic becomes a 500.
pub trait KeyValue: Send + Sync + 'static {
    fn call(&self, op: Operation) -> AnswerFuture<'_>;
}

/// A store and where it is found.
#[derive(Clone)]
pub struct Mount {
    pub base_uri: BaseUri,
    pub store: Arc<dyn KeyValue>,
}
