//! decant's integration tests.
mod dialect;
mod http;
mod kask_server;
mod support;
