//! RESTBagOStuff's envelope: `<TYPE>.<HMAC>.<PAYLOAD>`, as MediaWiki stores values in Kask.
//!
//! TYPE is `JSON` or `PHP`. HMAC is the base64 (standard alphabet, padded) of the raw SHA-256 HMAC over the PAYLOAD, and
//! empty where no key is configured. Base64 has no full stop, so everything after the second one is the payload.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// RESTBagOStuff's `serialization_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Serialization {
    Json,
    Php,
}

impl Serialization {
    /// The envelope's TYPE.
    pub fn tag(self) -> &'static str {
        match self {
            Serialization::Json => "JSON",
            Serialization::Php => "PHP",
        }
    }
}

/// Why a body is no envelope that this reader may open. MediaWiki calls each of them a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeFault {
    #[error("the body is no envelope: it has no two full stops")]
    NoEnvelope,
    #[error("the envelope is of another serialization type")]
    OtherType,
    #[error("the envelope's HMAC is not that of its payload under the configured key")]
    WrongHmac,
}

/// Opens an envelope and answers its payload. Without a key any HMAC will do, as in MediaWiki.
///
/// With a key the HMAC must be spelled as MediaWiki spells it; PHP's reader would also take it without its padding.
pub fn open<'a>(body: &'a [u8], serialization: Serialization, key: Option<&[u8]>) -> Result<&'a [u8], EnvelopeFault> {
    let mut pieces = body.splitn(3, |&byte| byte == b'.');
    let (Some(tag), Some(hmac), Some(payload)) = (pieces.next(), pieces.next(), pieces.next()) else {
        return Err(EnvelopeFault::NoEnvelope);
    };
    if tag != serialization.tag().as_bytes() {
        return Err(EnvelopeFault::OtherType);
    }
    if let Some(key) = key {
        let right: bool = hmac.ct_eq(hmac_of(payload, key).as_bytes()).into();
        if !right {
            return Err(EnvelopeFault::WrongHmac);
        }
    }
    Ok(payload)
}

/// Builds the envelope that RESTBagOStuff builds around a payload.
pub fn seal(payload: &[u8], serialization: Serialization, key: Option<&[u8]>) -> Vec<u8> {
    let hmac = key.map(|key| hmac_of(payload, key)).unwrap_or_default();
    let tag = serialization.tag().as_bytes();
    let mut body = Vec::with_capacity(tag.len() + hmac.len() + payload.len() + 2);
    for piece in [tag, b".", hmac.as_bytes(), b".", payload] {
        body.extend_from_slice(piece);
    }
    body
}

fn hmac_of(payload: &[u8], key: &[u8]) -> String {
    // HMAC takes keys of any length: longer than a block they are hashed first.
    #[allow(clippy::expect_used, reason = "no key length is refused")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(payload);
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"sekrit";
    const ECHO: &[u8] = b"PHP.Jj6/rWdVlj6n1R1IYXGmYeRjr4TA+3nID/0oj5VIIVM=.s:14:\"20191018142328\";";

    #[test]
    fn seals_as_mediawiki_does() {
        assert_eq!(seal(b"s:14:\"20191018142328\";", Serialization::Php, Some(KEY)), ECHO);
        assert_eq!(
            seal(b"i:42;", Serialization::Php, Some(KEY)),
            b"PHP.PJo4MkTznaUQ8WDERAKdE+UjSmiCEPG47yFNc1hSbr8=.i:42;"
        );
        assert_eq!(seal(b"42", Serialization::Json, None), b"JSON..42");
    }

    #[test]
    fn opens_what_it_may() {
        let php = |body, key| open(body, Serialization::Php, key);
        assert_eq!(php(ECHO, Some(KEY)), Ok(&b"s:14:\"20191018142328\";"[..]));
        assert_eq!(php(ECHO, None), Ok(&b"s:14:\"20191018142328\";"[..]));
        assert_eq!(php(b"PHP.whatever.d:1.5;", None), Ok(&b"d:1.5;"[..]));
        assert_eq!(php(b"PHP..", None), Ok(&b""[..]));
        assert_eq!(php(ECHO, Some(b"other")), Err(EnvelopeFault::WrongHmac));
        assert_eq!(php(b"PHP..i:1;", Some(KEY)), Err(EnvelopeFault::WrongHmac));
        assert_eq!(php(b"JSON..1", None), Err(EnvelopeFault::OtherType));
        assert_eq!(php(b"php..i:1;", None), Err(EnvelopeFault::OtherType));
        assert_eq!(php(b"PHP.i:1;", None), Err(EnvelopeFault::NoEnvelope));
        assert_eq!(php(b"KASK:V:INTEGRATION_TEST_VALUE", None), Err(EnvelopeFault::NoEnvelope));
        assert_eq!(php(b"", None), Err(EnvelopeFault::NoEnvelope));
    }

    #[test]
    fn every_changed_byte_breaks_the_hmac() {
        for at in 4..ECHO.len() {
            let mut body = ECHO.to_vec();
            body[at] ^= 1;
            assert!(open(&body, Serialization::Php, Some(KEY)).is_err(), "byte {at}");
        }
    }
}
