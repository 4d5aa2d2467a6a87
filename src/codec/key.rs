//! A key: bytes, as MediaWiki made them, and their spelling in a URL.
//!
//! MediaWiki sends PHP's `rawurlencode(key)`; its keys hold `%3A` and `%25` of their own, so decoding exactly once is what
//! keeps `a%253Ab` and `a%3Ab` two keys.

use bytes::Bytes;
use std::fmt;

/// The longest key Cassandra stores, in bytes.
pub const KEY_BYTES_MAX: usize = 65_535;

/// The decoded key. Keys are personal data: `Debug` shows only the length.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Bytes);

/// Why a path segment is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("the key holds a % that two hexadecimal digits do not follow")]
    BadEscape,
    #[error("the key is empty")]
    Empty,
    #[error("the key is longer than {KEY_BYTES_MAX} bytes")]
    TooLong,
    #[error("the key holds a slash")]
    Slash,
    #[error("the key is \".\" or \"..\"")]
    Dot,
    #[error("the key is not UTF-8")]
    NotUtf8,
}

impl Key {
    /// A key from its decoded bytes, unchecked: for keys that come from a store.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Key {
        Key(bytes.into())
    }

    /// A key from the path segment of a URL, percent-decoded exactly once; `+` is a plus.
    pub fn from_url(path_segment: &[u8]) -> Result<Key, KeyFault> {
        let bytes = percent_decode(path_segment).ok_or(KeyFault::BadEscape)?;
        if bytes.is_empty() {
            return Err(KeyFault::Empty);
        }
        if bytes.contains(&b'/') {
            return Err(KeyFault::Slash);
        }
        if bytes == b"." || bytes == b".." {
            return Err(KeyFault::Dot);
        }
        if bytes.len() > KEY_BYTES_MAX {
            return Err(KeyFault::TooLong);
        }
        if std::str::from_utf8(&bytes).is_err() {
            return Err(KeyFault::NotUtf8);
        }
        Ok(Key(bytes.into()))
    }

    /// PHP's `rawurlencode`: `A-Za-z0-9-_.~` as they are, everything else `%XX`.
    pub fn to_url(&self) -> String {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let mut url = String::with_capacity(self.0.len() + self.0.len() / 4);
        for &byte in self.0.iter() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
                url.push(byte as char);
            } else {
                url.push('%');
                url.push(HEX[usize::from(byte >> 4)] as char);
                url.push(HEX[usize::from(byte & 15)] as char);
            }
        }
        url
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// `None` where a `%` is not followed by two hexadecimal digits.
fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |d: Option<&u8>| d.and_then(|d| (*d as char).to_digit(16));
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push((high * 16 + low) as u8);
    }
    Some(bytes)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_decoded_exactly_once() {
        let key = Key::from_url(b"enwiki%3Aa%253Ab%3Ac%2525d%3Ae%20f+g").unwrap();
        assert_eq!(key.as_bytes(), b"enwiki:a%3Ab:c%25d:e f+g");
        assert_eq!(key.to_url(), "enwiki%3Aa%253Ab%3Ac%2525d%3Ae%20f%2Bg");
    }

    #[test]
    fn what_is_no_key_says_why() {
        let long = vec![b'k'; KEY_BYTES_MAX + 1];
        let cases: [(&[u8], KeyFault); 9] = [
            (b"a%", KeyFault::BadEscape),
            (b"a%4", KeyFault::BadEscape),
            (b"%zz", KeyFault::BadEscape),
            (b"", KeyFault::Empty),
            (b"a%2Fb", KeyFault::Slash),
            (b"%2e%2E", KeyFault::Dot),
            (b".", KeyFault::Dot),
            (b"%FF", KeyFault::NotUtf8),
            (&long, KeyFault::TooLong),
        ];
        for (segment, fault) in cases {
            assert_eq!(Key::from_url(segment), Err(fault));
        }
    }
}
