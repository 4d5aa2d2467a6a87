//! A key: bytes, as MediaWiki made them, and their two spellings in a URL.

use bytes::Bytes;
use std::fmt;

/// The longest key Cassandra stores, in bytes.
pub const KEY_BYTES_MAX: usize = 65_535;

/// The decoded key. Keys are personal data: `Debug` shows only the length.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Bytes);

impl Key {
    /// A key from its decoded bytes, unchecked: for keys that come from a store.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Key {
        Key(bytes.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}
