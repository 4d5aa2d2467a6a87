//! Kask's HTTP API, in and out. It stands once and serves twice: decant's data listener and the embedded Kask.
//!
//! `request` turns a method and a path into an [`Operation`], `service` asks a [`KeyValue`] for the [`Answer`], and
//! `respond`, the only status table, turns that into bytes on the wire.

mod manners;
mod meter;
mod operation;
mod pages;
mod problem;
mod request;
mod respond;
mod service;

pub use crate::codec::base_uri::{BaseUri, BaseUriFault};
pub use manners::Manners;
pub use meter::Meter;
pub use operation::{Answer, AnswerFuture, Context, KeyValue, Mount, Operation, Verb};
pub use pages::{About, Pages};
pub use service::{Dialect, SameBaseUri};
