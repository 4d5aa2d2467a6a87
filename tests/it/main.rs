//! decant's integration tests.
mod simulation;
