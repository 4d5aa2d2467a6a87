//! decant's integration tests.
mod cli_config;
mod php_differential;
