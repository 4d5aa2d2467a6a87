//! The HTTP client of Kask: one request, one exact outcome.
//!
//! # Sending, and never sending twice
//! A request whose first byte was written is never sent again, whatever its method: a write may still be applied after the
//! answer was given up on, and only the layer that keeps intents knows when it is safe to look again.
//!
//! hyper-util's `retry_canceled_requests` stays **on**, because it is no retry. hyper hands a request back only if its
//! connection died before that request was taken from the queue in front of it, that is before any byte of it was encoded;
//! only then, and only for a connection that came from the pool, hyper-util takes another one. Without it each connection that
//! Kask closed while it lay idle could cost one request that nobody saw. A request that was written into a connection just being closed ends as `closed`, for a write as
//! `Unknown`. To make that rare, idle connections are dropped before the usual idle timeouts of servers and sidecars (5 s and more).
mod answer;
mod away;

use crate::codec::key::Key;
use crate::http::{Limits, Room};
use crate::tier::breaker::{Asker, LiveBreaker, Outcome};
use crate::tier::{Forward, metrics::OpMetrics};
use answer::{Certainty, Fault, Whole};
use away::{Says, subject};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri, header,
    uri::{self, Authority, PathAndQuery, Scheme},
};
use http_body_util::Full;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::{fmt, time::Duration};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

/// How many callers may wait for a place in the pool, for each place there is.
const WAITING_PER_PLACE: usize = 4;
/// The largest head of an answer, in bytes; hyper reads ahead, so it finds out at less than twice as many. Kask's heads have under 300.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A key of so many bytes fits into a URL however it is escaped, behind any base that a config can name.
const KEY_BYTES_SURE: usize = 8 * 1024;
/// Why a key cannot be asked for that [`KaskTier::takes`] refuses, as metrics and reports name it.
pub const URL_TOO_LONG: &str = "url_too_long";
const USER_AGENT: &str = concat!("decant/", env!("CARGO_PKG_VERSION"));

/// What one [`KaskTier`] may take.
#[derive(Clone, Debug)]
pub struct KaskLimits {
    /// Requests under way at once; also the idle connections kept.
    pub connections_max: usize,
    /// The largest value read from Kask, in bytes.
    pub body_bytes_max: usize,
    /// Room for the large ones of the values being read, which they keep until they are let go of.
    pub room: Room,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
}

impl Default for KaskLimits {
    /// 256 connections; 16 MiB (what Kask on Cassandra takes) and a little for the envelope; 4 s.
    fn default() -> KaskLimits {
        let (body_bytes_max, room) = (16 * 1024 * 1024 + 64 * 1024, Limits::default().held_bytes_max);
        KaskLimits {
            connections_max: 256,
            body_bytes_max,
            room: Room::new(room, body_bytes_max),
            idle_timeout: Duration::from_secs(4),
        }
    }
}

/// Why a request did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Kask: {kind}: {detail}")]
pub struct KaskError {
    /// The metric label, one of [`KINDS`].
    pub kind: &'static str,
    /// For the log. Never holds a key, a path or a value.
    pub detail: String,
}

/// Every [`KaskError::kind`].
pub const KINDS: [&str; 17] = [
    "timeout",           // the deadline passed while the request was under way
    "connect",           // no connection could be made
    "pool_full",         // no place in the pool before the deadline, or too many were waiting
    "deadline",          // the deadline had passed before anything was sent
    "away",              // the breaker is open: Kask was not asked
    "closed",            // the connection ended without an answer
    "half_body",         // it ended in the middle of the answer's body, or the body has no end that can be checked
    "garbage",           // what came back is no HTTP
    "no_room",           // too many large values are being held
    "too_large",         // the answer's head or body is over its limit
    "redirect",          // 3xx; never followed
    "not_kask",          // something answered, but not Kask: check the URL
    "empty_body",        // 200 without a value; Kask stores no empty values
    "status_4xx",        // Kask refused
    "status_5xx",        // Kask failed
    "unexpected_status", // another status
    "key_too_long",      // the key does not fit into a URL
];

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KaskRead {
    /// The value, whole.
    Hit(Bytes),
    /// Kask itself said that it has no value.
    Miss,
    /// Nothing is known about the key.
    Error(KaskError),
}

/// What became of a write or delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KaskWrite {
    /// Kask applied it.
    Done,
    /// Kask refused it: nothing was changed, and trying again will not change that.
    Refused(KaskError),
    /// Not a byte was sent: it is surely not applied and never will be.
    NotSent(KaskError),
    /// It may have been applied, or may be applied later.
    Unknown(KaskError),
}

/// The URL cannot be a Kask's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("kask.url: {0}; write it as http://HOST:PORT/BASE/, for example http://127.0.0.1:8081/echoseen/v1/")]
pub struct KaskUrlFault(&'static str);

/// A Kask behind one base URL, with its own pool of connections.
pub struct KaskTier {
    client: Client<HttpConnector, Full<Bytes>>,
    base: Base,
    timeout: Duration,
    body_bytes_max: usize,
    room: Room,
    /// One permit for each request under way.
    places: Semaphore,
    places_max: usize,
    /// One permit for each request under way or waiting.
    queue: Semaphore,
    breaker: LiveBreaker,
    get: OpMetrics,
    put: OpMetrics,
    delete: OpMetrics,
}

impl fmt::Debug for KaskTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KaskTier")
            .field("base", &self.base.text)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl KaskTier {
    /// `url` is `http://host:port/base/`; no request takes longer than `timeout`, whatever its deadline; `stash` is a metric label.
    /// Half of `timeout` is for connecting, so that a peer which does not answer at all is known before the deadline as
    /// surely not sent.
    pub fn new(url: &str, timeout: Duration, stash: &str) -> Result<KaskTier, KaskUrlFault> {
        KaskTier::with_limits(url, timeout, stash, KaskLimits::default())
    }

    /// As [`KaskTier::new`], with other limits.
    pub fn with_limits(
        url: &str,
        timeout: Duration,
        stash: &str,
        limits: KaskLimits,
    ) -> Result<KaskTier, KaskUrlFault> {
        let base = Base::parse(url)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout / 2));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits.idle_timeout)
            .pool_max_idle_per_host(limits.connections_max)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .retry_canceled_requests(true)
            .build(connector);
        let of = |op, ends: &[&'static str]| OpMetrics::new(stash, "kask", op, &[ends, &KINDS].concat());
        let connections_max = limits.connections_max.clamp(1, Semaphore::MAX_PERMITS / (WAITING_PER_PLACE + 1));
        Ok(KaskTier {
            client,
            base,
            timeout,
            body_bytes_max: limits.body_bytes_max,
            room: limits.room,
            places: Semaphore::new(connections_max),
            places_max: connections_max,
            queue: Semaphore::new(connections_max * (WAITING_PER_PLACE + 1)),
            breaker: LiveBreaker::new(away::rules(timeout), stash, None),
            get: of("get", &["hit", "miss"]),
            put: of("put", &["done"]),
            delete: of("delete", &["done"]),
        })
    }

    /// Whether the key fits into a URL of this Kask. One that does not is never asked for.
    pub fn takes(&self, key: &Key) -> bool {
        key.as_bytes().len() <= KEY_BYTES_SURE || self.base.uri(key).is_ok()
    }

    /// Whether Kask counts as away.
    pub fn breaker(&self) -> &LiveBreaker {
        &self.breaker
    }

    /// More than half of the places are taken.
    pub fn is_busy(&self) -> bool {
        self.places.available_permits() * 2 < self.places_max
    }

    /// The value of `key`, read whole before this returns.
    pub async fn get(&self, key: &Key, deadline: Instant, ctx: &Forward) -> KaskRead {
        self.read(key, deadline, ctx, Some(Asker::Eager)).await
    }

    /// As [`KaskTier::get`], asked although Kask may count as away: for an operator, who wants to know.
    pub async fn get_all_the_same(&self, key: &Key, deadline: Instant) -> KaskRead {
        self.read(key, deadline, &Forward::default(), None).await
    }

    async fn read(&self, key: &Key, deadline: Instant, ctx: &Forward, asker: Option<Asker>) -> KaskRead {
        let begun = Instant::now();
        let exchanged = self.watched(key, asker, self.exchange(Method::GET, key, None, deadline, ctx), answer::of_get);
        let read = exchanged.await.unwrap_or_else(|fault| KaskRead::Error(fault.error));
        let outcome = match &read {
            KaskRead::Hit(_) => "hit",
            KaskRead::Miss => "miss",
            KaskRead::Error(error) => error.kind,
        };
        self.get.record(outcome, begun.elapsed());
        read
    }

    /// Stores `body` under `key`.
    pub async fn put(&self, key: &Key, body: Bytes, deadline: Instant, ctx: &Forward) -> KaskWrite {
        let begun = Instant::now();
        let exchange = self.exchange(Method::POST, key, Some(body), deadline, ctx);
        let write = self.watched(key, Some(Asker::Reluctant), exchange, |whole| answer::of_post(&whole)).await;
        let write = write.unwrap_or_else(KaskWrite::from);
        self.put.record(write.outcome(), begun.elapsed());
        write
    }

    /// Removes `key`; it is done as well if there was nothing.
    pub async fn delete(&self, key: &Key, deadline: Instant, ctx: &Forward) -> KaskWrite {
        let begun = Instant::now();
        let exchange = self.exchange(Method::DELETE, key, None, deadline, ctx);
        let write = self.watched(key, Some(Asker::Reluctant), exchange, |whole| answer::of_delete(&whole)).await;
        let write = write.unwrap_or_else(KaskWrite::from);
        self.delete.record(write.outcome(), begun.elapsed());
        write
    }

    /// Sends only if the breaker lets the asker, and tells it what came of it. No asker: sent in any case.
    async fn watched<T: Says>(
        &self,
        key: &Key,
        asker: Option<Asker>,
        exchange: impl Future<Output = Result<Whole, Fault>>,
        of: impl FnOnce(Whole) -> T,
    ) -> Result<T, Fault> {
        let pass = match asker.map(|asker| self.breaker.ask(subject(key), asker)) {
            Some(None) => return Err(Fault::new(Certainty::NotSent, "away", "it has not answered for a while")),
            Some(pass) => pass,
            None => None,
        };
        let ended = exchange.await.map(of);
        let outcome = match &ended {
            Ok(answer) => answer.says(),
            Err(fault) => fault.error.says(),
        };
        match pass {
            Some(pass) => pass.tell(outcome),
            None if outcome == Outcome::Answered => self.breaker.answered(),
            None => {}
        }
        ended
    }

    /// One request and its whole answer. Dropping the future, as the deadline does, closes the connection it is on.
    async fn exchange(
        &self,
        method: Method,
        key: &Key,
        body: Option<Bytes>,
        deadline: Instant,
        ctx: &Forward,
    ) -> Result<Whole, Fault> {
        let request = self.request(method, key, body, ctx)?;
        let deadline = deadline.min(Instant::now() + self.timeout);
        let not_sent = |kind, detail: &str| Fault::new(Certainty::NotSent, kind, detail);
        let _queued = self.queue.try_acquire().map_err(|_| not_sent("pool_full", "too many requests are waiting"))?;
        let _place = match timeout_at(deadline, self.places.acquire()).await {
            Ok(Ok(place)) => place,
            _ => return Err(not_sent("pool_full", "no place in the pool before the deadline")),
        };
        // A send after the deadline could outlive the caller's lease.
        if Instant::now() >= deadline {
            return Err(not_sent("deadline", "the deadline had passed before anything was sent"));
        }
        let whole = async {
            let response = self.client.request(request).await.map_err(|error| answer::of_client_error(&error))?;
            answer::read_whole(response, self.body_bytes_max, &self.room).await
        };
        match timeout_at(deadline, whole).await {
            Ok(result) => result,
            Err(_) => Err(Fault::new(Certainty::Unknown, "timeout", "no whole answer before the deadline")),
        }
    }

    fn request(
        &self,
        method: Method,
        key: &Key,
        body: Option<Bytes>,
        ctx: &Forward,
    ) -> Result<Request<Full<Bytes>>, Fault> {
        let too_long = |_| Fault::new(Certainty::Never, "key_too_long", "the key does not fit into a URL");
        let uri = self.base.uri(key).map_err(too_long)?;
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(header::HOST, self.base.host.clone());
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        }
        ctx.write_to(&mut headers);
        let mut request = Request::new(Full::new(body.unwrap_or_default()));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
        Ok(request)
    }
}

impl KaskWrite {
    fn outcome(&self) -> &'static str {
        match self {
            KaskWrite::Done => "done",
            KaskWrite::Refused(error) | KaskWrite::NotSent(error) | KaskWrite::Unknown(error) => error.kind,
        }
    }
}

impl Forward {
    fn write_to(&self, headers: &mut HeaderMap) {
        if let Ok(id) = HeaderValue::try_from(&self.request_id)
            && !id.is_empty()
        {
            headers.insert("x-request-id", id);
        }
        if let Some(parent) = &self.traceparent {
            headers.insert("traceparent", parent.clone());
            if let Some(state) = &self.tracestate {
                headers.insert("tracestate", state.clone());
            }
        }
    }
}

/// A base URL taken apart, so that a request's URI is put together instead of parsed.
struct Base {
    /// `http://host:port/base/`
    text: String,
    authority: Authority,
    /// `/base/`
    path: String,
    /// As hyper would write it: the port only where it is not HTTP's own.
    host: HeaderValue,
}

impl Base {
    fn parse(url: &str) -> Result<Base, KaskUrlFault> {
        let uri = Uri::try_from(url).map_err(|_| KaskUrlFault("this is no URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(KaskUrlFault("https is not spoken here; let a local TLS proxy do it")),
            _ => return Err(KaskUrlFault("it must begin with http://")),
        }
        let Some(authority) = uri.authority() else { return Err(KaskUrlFault("the host is missing")) };
        if authority.as_str().contains('@') {
            return Err(KaskUrlFault("Kask takes no user or password"));
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(KaskUrlFault("a base URL has no query and no fragment"));
        }
        if !uri.path().ends_with('/') {
            return Err(KaskUrlFault("the path must end with a slash"));
        }
        let host = match authority.port_u16() {
            Some(port) if port != 80 => format!("{}:{port}", authority.host()),
            _ => authority.host().to_owned(),
        };
        Ok(Base {
            text: format!("http://{authority}{}", uri.path()),
            path: uri.path().to_owned(),
            host: HeaderValue::try_from(host).map_err(|_| KaskUrlFault("the host cannot stand in a header"))?,
            authority: authority.clone(),
        })
    }

    /// The URI of a key. Fails only where it is too long.
    fn uri(&self, key: &Key) -> Result<Uri, http::Error> {
        let mut path = String::with_capacity(self.path.len() + key.as_bytes().len() * 3);
        path.push_str(&self.path);
        key.write_url(&mut path);
        let mut parts = uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(Bytes::from(path))?);
        Ok(Uri::from_parts(parts)?)
    }
}
