//! stand-in
use crate::{config::Secret, dialect::About, http::Reply, stash::mover::Mover};
use http::{Request, Response};
use hyper::body::Incoming;
use std::{convert::Infallible, future::Ready, sync::Arc};
pub struct AdminParts {
    pub movers: Vec<Arc<Mover>>,
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub token: Option<Secret>,
    pub about: About,
}
#[derive(Clone)]
pub struct Admin;
impl Admin {
    pub fn new(_: AdminParts) -> Admin {
        Admin
    }
}
impl hyper::service::Service<Request<Incoming>> for Admin {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Reply>, Infallible>>;
    fn call(&self, _: Request<Incoming>) -> Self::Future {
        std::future::ready(Ok(Response::new(Reply::empty())))
    }
}
