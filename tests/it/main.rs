//! decant's integration tests.
mod mediawiki;
