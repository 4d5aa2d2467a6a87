//! Codecs: pure leaves. Every function here is `fn(&[u8]) -> Result<_, _>` or the way back: no I/O, no clock, no state,
//! so each can be driven by any fuzzer as it stands. Nothing recurses deeper than [`value::DEPTH_MAX`] and no length
//! that a peer claims is ever allocated before the bytes behind it were seen.
//!
//! Which PHP: every rule was read off PHP 8.2 itself, and `tests/it/php_differential.rs` holds it to that.
pub mod base_uri;
mod compare;
pub mod envelope;
mod float;
pub mod glob;
pub mod json;
pub mod key;
pub mod php;
pub mod show;
pub mod transcode;
pub mod value;
pub mod written;
