//! The record of a stash's phase: where it is kept, and how it changes.

mod file;

pub use file::FileStore;
