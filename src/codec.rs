//! Codecs: pure leaves.
pub mod key;
