//! The admin listener: health, metrics, status, and moves between phases.
//!
//! `route` turns a method and a path into a [`Route`], `gate` says whether the client may, the other modules answer.
//! There is no CORS: no page of another site reads an answer, and what a browser says comes from one is refused before it is looked at.

mod attention;
mod backfill;
mod console;
mod fleet;
mod gate;
mod moves;
mod next;
mod outbox;
mod problem;
mod route;
mod shards;
mod status;
mod verify;
pub mod views;

use crate::{
    backfill::Backfill,
    codec::key::{Key, KeyFault},
    config::Secret,
    dialect::About,
    http::{BodyFault, Limits, Reply, Room, discard, read_body},
    outbox::Verdict,
    stash::mover::Mover,
    verify::Verifier,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use next::NextSteps;
use problem::Problem;
use route::{Resource, Route};
use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};
use tokio::{sync::Semaphore, time::Instant};

/// The largest body of a request, in bytes: a move with its reason.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Inspections at once: each may hold a large value of each tier.
const INSPECTIONS_MAX: usize = 4;

/// What an [`Admin`] is built from.
pub struct AdminParts {
    pub stashes: Vec<Managed>,
    /// Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// None: anybody who reaches the listener may do everything. Then it must listen on loopback only.
    pub token: Option<Secret>,
    pub about: About,
}

/// What an operator acts on, of one stash.
#[derive(Clone)]
pub struct Managed {
    pub mover: Arc<Mover>,
    pub backfill: Arc<Backfill>,
    pub verifier: Arc<Verifier>,
}

/// The admin API: a hyper service, made for [`crate::http::serve`].
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    parts: AdminParts,
    started: Instant,
    limits: Limits,
    room: Room,
    inspections: Semaphore,
    /// One for each stash.
    next: Vec<NextSteps>,
}

impl Admin {
    pub fn new(parts: AdminParts) -> Admin {
        let limits = Limits { body_bytes_max: BODY_BYTES_MAX, ..Limits::default() };
        let room = Room::new(limits.held_bytes_max, limits.body_bytes_max);
        let inspections = Semaphore::new(INSPECTIONS_MAX);
        let next = parts.stashes.iter().map(|_| NextSteps::default()).collect();
        Admin(Arc::new(Inner { parts, started: Instant::now(), limits, room, inspections, next }))
    }
}

impl hyper::service::Service<Request<Incoming>> for Admin {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { Ok(inner.handle(request).await) })
    }
}

type Answered = Result<Response<Reply>, Problem>;

impl Inner {
    async fn handle(&self, request: Request<Incoming>) -> Response<Reply> {
        let (head, mut body) = request.into_parts();
        let path = head.uri.path();
        let answered = match self.route(&head) {
            Ok(route) => self.answer(route, &head, &mut body).await,
            Err(problem) => Err(problem),
        };
        let mut answer = answered.unwrap_or_else(|problem| problem.into_response(path));
        let headers = answer.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    /// Who may not is not told what there is.
    fn route<'a>(&self, head: &'a Parts) -> Result<Route<'a>, Problem> {
        let stash = |name: &str| self.parts.stashes.iter().position(|stash| stash.mover.stash().name == name);
        let resource = route::resource(head.uri.path());
        if !matches!(resource, Some(ref open) if open.is_open()) {
            gate::may(head, self.parts.token.as_ref())?;
            gate::is_own(head)?;
        }
        route::route(resource, &head.method, stash)
    }

    async fn answer(&self, route: Route<'_>, head: &Parts, body: &mut Incoming) -> Answered {
        let stashes = &self.parts.stashes;
        let stash = || stashes.get(route.stash).ok_or_else(Problem::no_such_page);
        let mover = || stash().map(|stash| &stash.mover);
        match route.resource {
            Resource::Health => Ok(text("application/json", self.health())),
            Resource::Ready => Ok(self.ready()),
            Resource::Metrics => Ok(text("text/plain; version=0.0.4; charset=utf-8", (self.parts.metrics)())),
            Resource::OpenApi => Ok(text("application/yaml", include_str!("admin/openapi.yaml").to_owned())),
            Resource::Console(asset) => Ok(console::answer(asset)),
            Resource::Status => json(StatusCode::OK, &status::status(stashes, &self.parts.about, self.started)),
            Resource::Stash(_) => json(StatusCode::OK, &status::stash(stash()?)),
            Resource::Backfill(_) => self.backfill(&stash()?.backfill, &route, head, body).await,
            Resource::Phase(_) if route.writes => {
                let mover = mover()?.clone();
                gate::is_json(head)?;
                let asked = moves::parse(moves::Kind::Phase, &self.body(body).await?)?;
                moves::make(mover, asked).await
            }
            Resource::Ahead(_) => {
                let mover = mover()?.clone();
                gate::is_json(head)?;
                let kind = if route.deletes { moves::Kind::NoneAhead } else { moves::Kind::Ahead };
                let asked = moves::parse(kind, &self.body(body).await?)?;
                moves::make(mover, asked).await
            }
            Resource::Phase(_) => moves::shown(mover()?),
            Resource::History(_) => moves::history(mover()?.clone()).await,
            Resource::Next(_) => self.next(route.stash, head).await,
            Resource::Key(_, segment) => self.inspect(mover()?, segment).await,
            Resource::Damaged(_, id) => {
                // A form of another site could send a POST, but not with this type.
                if !route.deletes {
                    gate::is_json(head)?;
                }
                let verdict = if route.deletes { Verdict::Drop } else { Verdict::Retry };
                json(StatusCode::OK, &outbox::judge(mover()?.stash(), id, verdict).await?)
            }
            Resource::Fleet(_) => json(StatusCode::OK, &status::fleet(mover()?)),
            Resource::Member(_, member) => {
                gate::is_json(head)?;
                fleet::forget(mover()?, member, &self.body(body).await?).await
            }
            Resource::Shards(_) => json(StatusCode::OK, &shards::view(mover()?.stash())),
            Resource::Loss(_, shard) => {
                let mover = mover()?.clone();
                gate::is_json(head)?;
                let asked = self.body(body).await?;
                json(StatusCode::OK, &shards::accept_loss(mover.stash(), shard, &asked).await?)
            }
            Resource::Traffic(_) => json(StatusCode::OK, &status::traffic(mover()?)),
            Resource::Outbox(_) => json(StatusCode::OK, &outbox::view(mover()?.stash(), wants_keys(head)).await),
            Resource::Verify(_) if route.deletes => verify::cancel(&stash()?.verifier),
            Resource::Verify(_) if route.writes => {
                let verifier = stash()?.verifier.clone();
                gate::is_json(head)?;
                verify::start(&verifier, &self.body(body).await?)
            }
            Resource::Verify(_) => json(StatusCode::OK, &stash()?.verifier.view()),
        }
    }

    async fn backfill(
        &self,
        backfill: &Arc<Backfill>,
        route: &Route<'_>,
        head: &Parts,
        body: &mut Incoming,
    ) -> Answered {
        if !route.writes {
            return json(StatusCode::OK, &backfill.view(wants_keys(head)));
        }
        gate::is_json(head)?;
        let body = self.body(body).await?;
        match head.method {
            Method::POST => backfill::start(backfill, &body).await?,
            Method::PATCH => backfill::change(backfill, &body).await?,
            _ => backfill::cancel(backfill, &body).await?,
        }
        let status = if head.method == Method::POST { StatusCode::CREATED } else { StatusCode::OK };
        json(status, &backfill.view(false))
    }

    async fn next(&self, stash: usize, head: &Parts) -> Answered {
        let (Some(managed), Some(steps)) = (self.parts.stashes.get(stash), self.next.get(stash)) else {
            return Err(Problem::no_such_page());
        };
        let goal = next::goal(head.uri.query().unwrap_or_default())?;
        json(StatusCode::OK, &steps.view(managed, goal).await?)
    }

    /// Kask's shape.
    fn health(&self) -> String {
        let About { version, build_date, build_host, rustc } = &self.parts.about;
        let about = serde_json::json!(
            { "version": version, "build_date": build_date, "build_host": build_host, "rustc": rustc });
        about.to_string()
    }

    fn ready(&self) -> Response<Reply> {
        let ready = status::ready(&self.parts.stashes);
        let status = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(status, &ready).unwrap_or_else(|problem| problem.into_response("/readyz"))
    }

    async fn inspect(&self, mover: &Mover, segment: &str) -> Answered {
        // Also one that Kask cannot have: the lists of what stays behind are of such keys.
        let key = match Key::from_escaped(segment).map(|key| (key.fault(), key)) {
            None => Err(KeyFault::BadEscape),
            Some((Some(fault @ (KeyFault::Empty | KeyFault::TooLong)), _)) => Err(fault),
            Some((_, key)) => Ok(key),
        };
        let key = key.map_err(|fault| Problem::new(StatusCode::BAD_REQUEST, "bad-key", fault.to_string()))?;
        let Ok(_place) = self.inspections.try_acquire() else {
            return Err(Problem::busy("too many inspections are under way; try again"));
        };
        json(StatusCode::OK, &mover.stash().inspect(&key).await)
    }

    async fn body(&self, body: &mut Incoming) -> Result<bytes::Bytes, Problem> {
        let fault = match read_body(body, &self.limits, &self.room).await {
            Ok(body) => return Ok(body),
            Err(fault) => fault,
        };
        if matches!(fault, BodyFault::TooLarge | BodyFault::NoRoom) {
            discard(body).await;
        }
        let problem = match fault {
            BodyFault::TooLarge => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                format!("the body is larger than {BODY_BYTES_MAX} bytes; shorten the reason"),
            ),
            BodyFault::TooSlow => Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", fault.to_string()),
            BodyFault::NoRoom => Problem::busy("too many bodies are being held; try again"),
            BodyFault::Broken => Problem::new(StatusCode::BAD_REQUEST, "bad-body", fault.to_string()),
        };
        Err(problem.with_header(header::CONNECTION, HeaderValue::from_static("close")))
    }
}

/// Keys are personal data: they are shown only where they are asked for.
fn wants_keys(head: &Parts) -> bool {
    head.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "keys=1"))
}

fn text(content_type: &'static str, body: String) -> Response<Reply> {
    let mut answer = Response::new(Reply::whole(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// One JSON document and a newline.
fn json(status: StatusCode, document: &impl serde::Serialize) -> Answered {
    let mut body = serde_json::to_string_pretty(document)
        .map_err(|fault| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "server-error", fault.to_string()))?;
    body.push('\n');
    let mut answer = text("application/json", body);
    *answer.status_mut() = status;
    Ok(answer)
}
