//! decant's integration tests.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod dialect;
mod http;
mod kask_server;
mod support;
