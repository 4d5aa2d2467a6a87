//! decant's integration tests.
mod php_differential;
