//! decant's integration tests.
mod cli_config;
