//! decant's integration tests.
// clippy.toml allows this in #[test] functions only; here the helpers are tests as well.
#![allow(clippy::unwrap_used)]
mod cli_config;
