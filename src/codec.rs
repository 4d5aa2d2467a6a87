//! Codecs: pure leaves.
pub mod key;
pub mod transcode;
