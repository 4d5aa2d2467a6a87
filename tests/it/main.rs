//! decant's integration tests.
