//! A key: bytes, as MediaWiki made them, and their two spellings in a URL.

use bytes::Bytes;
use std::fmt;

/// The longest key Cassandra stores, in bytes.
pub const KEY_BYTES_MAX: usize = 65_535;

/// What decant's own names on Redis begin with, after a stash's key prefix: no client's key may. `|` is in no keyspace of MediaWiki.
pub const RESERVED: &str = "decant|";

/// The decoded key. Keys are personal data: `Debug` shows only the length.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Bytes);

/// Why a path segment is no key. No variant holds the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("the key is empty")]
    Empty,
    #[error("the key is longer than {KEY_BYTES_MAX} bytes")]
    TooLong,
    #[error("the key has a % that is not followed by two hexadecimal digits")]
    BadEscape,
    #[error("the key has a slash; MediaWiki's rawurlencode writes it as %2F, but Kask has no such keys")]
    Slash,
    #[error("the key is \".\" or \"..\", which URLs cannot carry")]
    Dots,
    #[error("the key is not UTF-8, which Kask requires")]
    NotUtf8,
}

impl KeyFault {
    /// As metrics and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            KeyFault::Empty => "empty",
            KeyFault::TooLong => "too_long",
            KeyFault::BadEscape => "bad_escape",
            KeyFault::Slash => "slash",
            KeyFault::Dots => "dots",
            KeyFault::NotUtf8 => "not_utf8",
        }
    }
}

impl Key {
    /// A key from its decoded bytes, unchecked: for keys that come from a store.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Key {
        Key(bytes.into())
    }

    /// The key that a URL's path segment spells: percent-decoded exactly once, `+` is a plus.
    pub fn from_url(path_segment: &[u8]) -> Result<Key, KeyFault> {
        let key = Key(percent_decode(path_segment)?.into());
        match key.fault() {
            Some(fault) => Err(fault),
            None => Ok(key),
        }
    }

    /// The key that [`Key::to_url`] wrote, whatever its bytes; `None` for another text.
    pub fn from_escaped(text: &str) -> Option<Key> {
        percent_decode(text.as_bytes()).ok().map(|bytes| Key(bytes.into()))
    }

    /// Why Kask cannot have such a key; a store can hold any.
    pub fn fault(&self) -> Option<KeyFault> {
        match self.0.as_ref() {
            b"" => Some(KeyFault::Empty),
            bytes if bytes.len() > KEY_BYTES_MAX => Some(KeyFault::TooLong),
            b"." | b".." => Some(KeyFault::Dots),
            bytes if bytes.contains(&b'/') => Some(KeyFault::Slash),
            bytes if std::str::from_utf8(bytes).is_err() => Some(KeyFault::NotUtf8),
            _ => None,
        }
    }

    /// The key as MediaWiki spells it in a URL, PHP's rawurlencode: all but `A-Za-z0-9-_.~` as `%XX`.
    pub fn to_url(&self) -> String {
        let mut url = String::with_capacity(self.0.len() + self.0.len() / 4);
        self.write_url(&mut url);
        url
    }

    /// Appends what [`Key::to_url`] gives.
    pub fn write_url(&self, url: &mut String) {
        for &byte in &self.0 {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
                url.push(char::from(byte));
            } else {
                let digit = |four: u8| char::from(b"0123456789ABCDEF"[usize::from(four)]);
                url.extend(['%', digit(byte >> 4), digit(byte & 0xf)]);
            }
        }
    }

    /// Whether it could be taken for one of decant's own names.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(RESERVED.as_bytes())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What `%XX` spell, once; everything else stands for itself.
///
/// # Errors
/// A `%` without two hexadecimal digits.
pub fn percent_decode(text: &[u8]) -> Result<Vec<u8>, KeyFault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let hex = |at: usize| after.get(at).and_then(|&b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (hex(0), hex(1)) else { return Err(KeyFault::BadEscape) };
        bytes.push((high << 4 | low) as u8);
        rest = &after[2..];
    }
    Ok(bytes)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(segment: &str) -> Result<Vec<u8>, KeyFault> {
        Key::from_url(segment.as_bytes()).map(|key| key.as_bytes().to_vec())
    }

    #[test]
    fn mediawikis_keys_there_and_back() {
        for (url, key) in [
            ("enwiki%3Aecho%3Aseen%3Aalert%3Atime%3A12345", "enwiki:echo:seen:alert:time:12345"),
            ("enwiki%3Aa%253Ab%3Ac%2525d%3Ae%20f", "enwiki:a%3Ab:c%25d:e f"),
            ("caf%C3%A9", "café"),
            ("a%2Bb~c-d._", "a+b~c-d._"),
            ("%00", "\0"),
        ] {
            assert_eq!(decoded(url).unwrap(), key.as_bytes(), "{url}");
            assert_eq!(Key::from_bytes(key.as_bytes().to_vec()).to_url(), url);
        }
    }

    #[test]
    fn other_spellings_decode_once_and_leave_the_plus() {
        assert_eq!(decoded("a+b:c%3a%41").unwrap(), b"a+b:c:A");
        assert_eq!(decoded("%2541").unwrap(), b"%41");
        assert_eq!(decoded("...").unwrap(), b"...");
    }

    #[test]
    fn each_fault_has_its_name() {
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        let longer = "%41".repeat(KEY_BYTES_MAX + 1);
        for (segment, fault) in [
            ("", KeyFault::Empty),
            ("%", KeyFault::BadEscape),
            ("a%4", KeyFault::BadEscape),
            ("a%4g", KeyFault::BadEscape),
            ("%+1", KeyFault::BadEscape),
            ("a/b", KeyFault::Slash),
            ("a%2Fb", KeyFault::Slash),
            (".", KeyFault::Dots),
            ("%2E%2e", KeyFault::Dots),
            ("%FF", KeyFault::NotUtf8),
            ("%ED%A0%80", KeyFault::NotUtf8),
            (&long, KeyFault::TooLong),
            (&longer, KeyFault::TooLong),
        ] {
            assert_eq!(decoded(segment), Err(fault), "{:.20}", segment);
        }
        assert!(decoded(&long[1..]).is_ok());
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", Key::from_bytes("secret")), "Key(6 bytes)");
    }

    proptest! {
        #[test]
        fn any_utf8_key_round_trips(key in "[^/]{1,60}") {
            prop_assume!(key != "." && key != "..");
            let url = Key::from_bytes(key.clone()).to_url();
            prop_assert_eq!(decoded(&url).unwrap(), key.as_bytes());
        }

        #[test]
        fn nothing_panics(segment in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Key::from_url(&segment);
        }
    }
}
