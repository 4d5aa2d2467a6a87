//! One request from its headers to its answer.

use super::{
    Answer, BaseUri, Context, KeyValue, Manners, Meter, Mount, Operation, Pages, Verb, pages,
    request::{self, Ask, Route},
    respond,
};
use crate::{
    codec::key::Key,
    http::{BodyFault, Limits, Reply, Room, discard, read_body},
    telemetry::seldom::Seldom,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::{Body, Incoming};
use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Instant};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Operations under way, those of clients that went away included. Over it: 503.
const OPERATIONS_MAX: usize = 16_384;

/// Kask's HTTP API over any number of stores: a hyper service, made for [`crate::http::serve`].
#[derive(Clone)]
pub struct Dialect(Arc<Inner>);

struct Inner {
    mounts: Vec<Mount>,
    manners: Manners,
    pages: Pages,
    openapi: String,
    /// `None`: requests are not counted here, for an embedded Kask whose requests are decant's own.
    meter: Option<Meter>,
    limits: Limits,
    room: Room,
    operations: Arc<Semaphore>,
    running: TaskTracker,
    /// An outage refuses every request: one line in a while says so, the metrics say how many.
    refusals: Seldom,
}

/// Two stores cannot be mounted at the same place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("two stores have the base URI {0}; give each its own")]
pub struct SameBaseUri(pub BaseUri);

impl Dialect {
    /// `room` is for the bodies of its requests, and of whatever else shares it.
    ///
    /// # Errors
    /// Two mounts with one base URI.
    pub fn new(
        mounts: Vec<Mount>,
        manners: Manners,
        pages: Pages,
        meter: Option<Meter>,
        limits: Limits,
        room: Room,
    ) -> Result<Dialect, SameBaseUri> {
        for (i, mount) in mounts.iter().enumerate() {
            if mounts[..i].iter().any(|other| other.base_uri == mount.base_uri) {
                return Err(SameBaseUri(mount.base_uri.clone()));
            }
        }
        let openapi = pages::openapi(&mounts, manners.put_is_post && manners.head_is_get);
        let operations = Arc::new(Semaphore::new(OPERATIONS_MAX));
        let running = TaskTracker::new();
        Ok(Dialect(Arc::new(Inner {
            mounts,
            manners,
            pages,
            openapi,
            meter,
            limits,
            room,
            operations,
            running,
            refusals: Seldom::default(),
        })))
    }

    /// Waits for operations whose clients went away. To be called when the listener has drained.
    pub async fn settled(&self) {
        self.0.running.close();
        self.0.running.wait().await;
    }
}

impl hyper::service::Service<Request<Incoming>> for Dialect {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { Ok(inner.handle(request).await) })
    }
}

/// What an answer needs of its request's head.
struct Arrived {
    began: Instant,
    request_id: Option<HeaderValue>,
    method: Method,
    /// The decoded path.
    instance: Vec<u8>,
    sender_waits: bool,
    /// Under a base URI: the request counts in the metrics.
    counted: bool,
}

/// A body on its way.
struct Arriving<'a> {
    body: &'a mut Incoming,
    /// The client sent `Expect: 100-continue`: it sends nothing until the body is asked for.
    sender_waits: bool,
}

impl Arriving<'_> {
    async fn read(&mut self, limits: &Limits, room: &Room) -> Result<Bytes, BodyFault> {
        let declared_too_large = self.body.size_hint().lower() > limits.body_bytes_max as u64;
        let read = read_body(self.body, limits, room).await;
        // A sender in the midst of a large body would see a reset and not the answer.
        let sends_on = matches!(read, Err(BodyFault::TooLarge | BodyFault::NoRoom));
        if sends_on && !(declared_too_large && self.sender_waits) {
            discard(self.body).await;
        }
        read
    }
}

impl Inner {
    async fn handle(&self, request: Request<Incoming>) -> Response<Reply> {
        let (route, context, arrived, mut body) = self.arrive(request);
        let instance = &arrived.instance;
        let mut answer = match route {
            Route::Ask { mount, key, ask } => {
                let mut incoming = Arriving { body: &mut body, sender_waits: arrived.sender_waits };
                self.ask(mount, key, ask, context, &mut incoming, instance).await
            }
            Route::Refuse(refusal) => respond::refusal(refusal, instance),
            Route::Redirect { to } => respond::redirect(&to, &arrived.method),
            Route::Health => respond::page("application/json", self.pages.health()),
            Route::Metrics => respond::page("text/plain; version=0.0.4; charset=utf-8", (self.pages.metrics)()),
            Route::OpenApi => respond::page("application/x-yaml", self.openapi.clone()),
            Route::Outside => respond::outside(),
            Route::Malformed => respond::malformed(),
        };
        if let (true, Some(id)) = (self.manners.request_id, arrived.request_id) {
            answer.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
        }
        if let (true, Some(meter)) = (arrived.counted, &self.meter) {
            meter.count(&arrived.method, answer.status().as_u16(), arrived.began.elapsed());
        }
        answer
    }

    /// Takes a request's head apart. The head is gone before anything is waited for: it is large, and while it is there hyper cannot
    /// use the connection's read buffer again.
    fn arrive(&self, request: Request<Incoming>) -> (Route<'_>, Context, Arrived, Incoming) {
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let context = request::context(&head.headers);
        let route = request::route(&self.mounts, self.manners, self.limits.key_bytes_max, &head);
        let arrived = Arrived {
            began,
            request_id: HeaderValue::from_str(&context.request_id).ok(),
            instance: request::decode(head.uri.path().as_bytes()).unwrap_or_default(),
            sender_waits: head.headers.contains_key(http::header::EXPECT),
            counted: matches!(route, Route::Ask { .. } | Route::Refuse(_)),
            method: head.method,
        };
        (route, context, arrived, body)
    }

    async fn ask(
        &self,
        mount: &Mount,
        key: Key,
        ask: Ask,
        context: Context,
        incoming: &mut Arriving<'_>,
        instance: &[u8],
    ) -> Response<Reply> {
        let verb = match ask {
            Ask::Get { latest } | Ask::Head { latest } => Verb::Get { latest },
            Ask::Delete => Verb::Delete,
            // Boxed: a GET, which reads no body, is not to carry the room for it.
            Ask::Set { only_if_absent } => match Box::pin(incoming.read(&self.limits, &self.room)).await {
                Ok(body) if body.is_empty() => {
                    return respond::answer(Answer::BadRequest { detail: String::new() }, instance, false);
                }
                Ok(body) => Verb::Set { body, only_if_absent },
                Err(fault) => return respond::body_fault(fault, self.manners.says_too_large, instance),
            },
        };
        let answer = self.run(mount.store.clone(), Operation { key, verb, context }).await;
        respond::answer(answer, instance, matches!(ask, Ask::Head { .. }))
    }

    /// Runs an operation to its end, whatever becomes of the client or of the store's code.
    async fn run(&self, store: Arc<dyn KeyValue>, op: Operation) -> Answer {
        let Ok(permit) = self.operations.clone().try_acquire_owned() else {
            let detail = "Too many operations are under way; try again later".to_owned();
            return Answer::Unavailable { detail, retry_after_s: 1 };
        };
        let request_id = op.context.request_id.clone();
        let running = self.running.spawn(async move {
            let answer = store.call(op).await;
            drop(permit);
            answer
        });
        let answer = running.await.unwrap_or_else(|fault| Answer::Failed { detail: fault.to_string() });
        match &answer {
            Answer::Failed { detail } => tracing::error!(%request_id, detail, "an operation failed"),
            Answer::Unavailable { detail, .. } if self.refusals.is_due() => {
                tracing::warn!(%request_id, detail, "an operation was refused; more of the next 10 s are told of at debug level");
            }
            Answer::Unavailable { detail, .. } => tracing::debug!(%request_id, detail, "an operation was refused"),
            _ => {}
        }
        answer
    }
}
