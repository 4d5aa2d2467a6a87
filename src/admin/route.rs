//! A method and a path -> what is asked for. Pure.

use super::console::{self, Asset};
use super::problem::Problem;
use http::{HeaderValue, Method, StatusCode, header};

/// What a path names. Stash names and keys are as they stand in the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource<'a> {
    Health,
    Ready,
    Metrics,
    OpenApi,
    Console(&'static Asset),
    Status,
    Stash(&'a str),
    Phase(&'a str),
    /// Which keys are one phase ahead.
    Ahead(&'a str),
    History(&'a str),
    Next(&'a str),
    /// The key as the URL spells it.
    Key(&'a str, &'a str),
    Outbox(&'a str),
    Backfill(&'a str),
    Traffic(&'a str),
    Fleet(&'a str),
    /// A member of the fleet, by its name.
    Member(&'a str, &'a str),
    Shards(&'a str),
    /// A shard whose loss of writes an operator accepts, by its name.
    Loss(&'a str, &'a str),
    /// A damaged intent, by the id that the outbox lists.
    Damaged(&'a str, &'a str),
    Verify(&'a str),
}

impl<'a> Resource<'a> {
    /// Open without a token: probes and scrapers have none, the API's description is no secret, and the console's files show nothing
    /// of themselves.
    pub(super) fn is_open(&self) -> bool {
        matches!(
            self,
            Resource::Health | Resource::Ready | Resource::Metrics | Resource::OpenApi | Resource::Console(_)
        )
    }

    fn stash(&self) -> Option<&'a str> {
        match *self {
            Resource::Stash(stash)
            | Resource::Phase(stash)
            | Resource::Ahead(stash)
            | Resource::History(stash)
            | Resource::Next(stash)
            | Resource::Key(stash, _)
            | Resource::Damaged(stash, _)
            | Resource::Member(stash, _)
            | Resource::Fleet(stash)
            | Resource::Shards(stash)
            | Resource::Loss(stash, _)
            | Resource::Backfill(stash)
            | Resource::Outbox(stash)
            | Resource::Traffic(stash)
            | Resource::Verify(stash) => Some(stash),
            _ => None,
        }
    }

    fn methods(&self) -> &'static str {
        match self {
            Resource::Phase(_) => "GET, HEAD, PUT",
            Resource::Ahead(_) => "PUT, DELETE",
            Resource::Damaged(..) => "POST, DELETE",
            Resource::Member(..) => "DELETE",
            Resource::Loss(..) => "POST",
            Resource::Backfill(_) => "GET, HEAD, POST, PATCH, DELETE",
            Resource::Verify(_) => "GET, HEAD, POST, DELETE",
            _ => "GET, HEAD",
        }
    }
}

/// A request that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    pub resource: Resource<'a>,
    /// The stash's index; 0 where none is named.
    pub stash: usize,
    /// What is asked for is a change.
    pub writes: bool,
    /// A DELETE.
    pub deletes: bool,
}

/// `None`: there is no such page.
pub(super) fn resource(path: &str) -> Option<Resource<'_>> {
    match path {
        "/healthz" => return Some(Resource::Health),
        "/readyz" => return Some(Resource::Ready),
        "/metrics" => return Some(Resource::Metrics),
        "/openapi" => return Some(Resource::OpenApi),
        "/v1/status" => return Some(Resource::Status),
        _ => {}
    }
    if let Some(asset) = console::asset(path) {
        return Some(Resource::Console(asset));
    }
    let rest = path.strip_prefix("/v1/stashes/")?;
    let Some((stash, rest)) = rest.split_once('/') else { return Some(Resource::Stash(rest)) };
    match rest {
        "phase" => Some(Resource::Phase(stash)),
        "phase/ahead" => Some(Resource::Ahead(stash)),
        "phase/history" => Some(Resource::History(stash)),
        "phase/next" => Some(Resource::Next(stash)),
        "outbox" => Some(Resource::Outbox(stash)),
        "backfill" => Some(Resource::Backfill(stash)),
        "traffic" => Some(Resource::Traffic(stash)),
        "fleet" => Some(Resource::Fleet(stash)),
        "verify" => Some(Resource::Verify(stash)),
        "shards" => Some(Resource::Shards(stash)),
        _ => {
            if let Some(id) = rest.strip_prefix("damaged/") {
                return Some(Resource::Damaged(stash, id));
            }
            if let Some(member) = rest.strip_prefix("fleet/") {
                return Some(Resource::Member(stash, member));
            }
            if let Some(shard) = rest.strip_prefix("shards/") {
                return Some(Resource::Loss(stash, shard.strip_suffix("/accept-loss")?));
            }
            Some(Resource::Key(stash, rest.strip_prefix("keys/")?))
        }
    }
}

/// `stash` finds a stash by its name.
pub(super) fn route<'a>(
    resource: Option<Resource<'a>>,
    method: &Method,
    stash: impl Fn(&str) -> Option<usize>,
) -> Result<Route<'a>, Problem> {
    let Some(resource) = resource else { return Err(Problem::no_such_page()) };
    let index = match resource.stash() {
        None => 0,
        Some(name) => stash(name).ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_FOUND,
                "no-such-stash",
                "there is no stash of this name; /v1/status lists them",
            )
        })?,
    };
    let methods = resource.methods();
    if !methods.split(", ").any(|known| known == method.as_str()) {
        let detail = format!("this page takes {methods}");
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail)
            .with_header(header::ALLOW, HeaderValue::from_static(methods)));
    }
    Ok(Route {
        resource,
        stash: index,
        writes: matches!(*method, Method::PUT | Method::POST | Method::PATCH | Method::DELETE),
        deletes: *method == Method::DELETE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(path: &str, method: Method) -> u16 {
        let known = |name: &str| (name == "echoseen").then_some(3);
        match route(resource(path), &method, known) {
            Ok(route) => {
                assert_eq!(route.stash, if path.contains("echoseen") { 3 } else { 0 });
                200
            }
            Err(problem) => problem.status().as_u16(),
        }
    }

    #[test]
    fn pages_and_methods() {
        for (path, get, put, post) in [
            ("/", 200, 405, 405),
            ("/healthz", 200, 405, 405),
            ("/v1/status", 200, 405, 405),
            ("/v1/stashes/echoseen", 200, 405, 405),
            ("/v1/stashes/echoseen/phase", 200, 200, 405),
            ("/v1/stashes/echoseen/phase/ahead", 405, 200, 405),
            ("/v1/stashes/echoseen/phase/history", 200, 405, 405),
            ("/v1/stashes/echoseen/phase/next", 200, 405, 405),
            ("/console/console.js", 200, 405, 405),
            ("/console/", 404, 404, 404),
            ("/console/../status.rs", 404, 404, 404),
            ("/v1/stashes/echoseen/keys/a%2Fb", 200, 405, 405),
            ("/v1/stashes/echoseen/outbox", 200, 405, 405),
            ("/v1/stashes/echoseen/traffic", 200, 405, 405),
            ("/v1/stashes/echoseen/damaged/00", 405, 405, 200),
            ("/v1/stashes/echoseen/fleet", 200, 405, 405),
            ("/v1/stashes/echoseen/fleet/one", 405, 405, 405),
            ("/v1/stashes/echoseen/shards", 200, 405, 405),
            ("/v1/stashes/echoseen/shards/main/accept-loss", 405, 405, 200),
            ("/v1/stashes/echoseen/shards/main", 404, 404, 404),
            ("/v1/stashes/echoseen/backfill", 200, 405, 200),
            ("/v1/stashes/echoseen/verify", 200, 405, 200),
            ("/v1/stashes/other/phase", 404, 404, 404),
            ("/v1/stashes/echoseen/", 404, 404, 404),
            ("/v1/stashes/", 404, 404, 404),
            ("/v1", 404, 404, 404),
            ("/healthz/", 404, 404, 404),
            ("*", 404, 404, 404),
        ] {
            assert_eq!(
                (status(path, Method::GET), status(path, Method::PUT), status(path, Method::POST)),
                (get, put, post),
                "{path}"
            );
            assert_eq!(status(path, Method::HEAD), get, "HEAD is GET: {path}");
        }
        assert_eq!(
            resource("/v1/stashes/s/keys/a/b"),
            Some(Resource::Key("s", "a/b")),
            "the key's own rules refuse it"
        );
    }
}
