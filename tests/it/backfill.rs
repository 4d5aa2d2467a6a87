//! The bulk copy as a whole: real Redis, real Kask, decant as a process, its admin API and its command line.

mod filters;
pub mod stage;
mod trouble;
mod whole_runs;
