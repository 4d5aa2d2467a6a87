use super::super::value::arbitrary;
use super::*;
use proptest::{collection::vec, prelude::*};

const KEY: &[u8] = b"sekrit";

fn json() -> Transcoder {
    Transcoder::new(Serialization::Json, None)
}

fn php() -> Transcoder {
    Transcoder::new(Serialization::Php, None)
}

fn all() -> [Transcoder; 4] {
    [
        json(),
        php(),
        Transcoder::new(Serialization::Json, Some(KEY.into())),
        Transcoder::new(Serialization::Php, Some(KEY.into())),
    ]
}

/// Values as MediaWiki's own classes write them: into Redis, into Kask as JSON, and the payload in Kask as PHP.
const VECTORS: [(&str, &str, &str); 14] = [
    ("s:14:\"20191018142328\";", "JSON..\"20191018142328\"", "s:14:\"20191018142328\";"),
    ("42", "JSON..42", "i:42;"),
    ("-7", "JSON..-7", "i:-7;"),
    ("s:2:\"42\";", "JSON..\"42\"", "s:2:\"42\";"),
    ("s:3:\"007\";", "JSON..\"007\"", "s:3:\"007\";"),
    ("d:1.5;", "JSON..1.5", "d:1.5;"),
    ("b:1;", "JSON..true", "b:1;"),
    ("b:0;", "JSON..false", "b:0;"),
    ("N;", "JSON..null", "N;"),
    ("s:0:\"\";", "JSON..\"\"", "s:0:\"\";"),
    ("s:12:\"café / 😀\";", "JSON..\"caf\\u00e9 \\/ \\ud83d\\ude00\"", "s:12:\"café / 😀\";"),
    (
        "a:2:{s:1:\"a\";i:1;s:1:\"b\";a:2:{i:0;i:1;i:1;i:2;}}",
        "JSON..{\"a\":1,\"b\":[1,2]}",
        "a:2:{s:1:\"a\";i:1;s:1:\"b\";a:2:{i:0;i:1;i:1;i:2;}}",
    ),
    ("a:1:{i:5;i:1;}", "JSON..{\"5\":1}", "a:1:{i:5;i:1;}"),
    ("a:0:{}", "JSON..[]", "a:0:{}"),
];

#[test]
fn mediawikis_values_both_ways() {
    for (redis, json_body, php_payload) in VECTORS {
        let php_body = format!("PHP..{php_payload}");
        for (transcoder, body) in [(json(), json_body), (php(), &*php_body)] {
            assert_eq!(transcoder.to_kask(redis.as_bytes()).unwrap(), body.as_bytes(), "{redis}");
            assert_eq!(transcoder.to_redis(body.as_bytes()), redis.as_bytes(), "{body}");
        }
    }
    let signed = Transcoder::new(Serialization::Php, Some(KEY.into()));
    for (redis, body) in [
        ("s:14:\"20191018142328\";", "PHP.Jj6/rWdVlj6n1R1IYXGmYeRjr4TA+3nID/0oj5VIIVM=.s:14:\"20191018142328\";"),
        ("42", "PHP.PJo4MkTznaUQ8WDERAKdE+UjSmiCEPG47yFNc1hSbr8=.i:42;"),
    ] {
        assert_eq!(signed.to_kask(redis.as_bytes()).unwrap(), body.as_bytes());
        assert_eq!(signed.to_redis(body.as_bytes()), redis.as_bytes());
    }
}

#[test]
fn what_json_cannot_carry_is_told_by_reason() {
    let container = b"O:8:\"stdClass\":2:{s:14:\"__svc_schema__\";s:11:\"CAYCDAgCDw4\";s:10:\"__hashes__\";a:0:{}}";
    let deep = format!("{}i:1;{}", "a:1:{i:0;".repeat(513), "}".repeat(513));
    for (redis, reason_json, reason_php) in [
        (&b"O:8:\"stdClass\":1:{s:1:\"p\";i:1;}"[..], "object", ""),
        (b"E:10:\"Suit:Heart\";", "object", ""),
        (b"C:1:\"A\":3:{abc}", "object", ""),
        (b"a:2:{i:0;i:1;i:1;R:2;}", "reference", ""),
        (b"s:2:\"\xff\xfe\";", "invalid_utf8", ""),
        (b"a:1:{s:1:\"\xff\";i:1;}", "invalid_utf8", ""),
        (b"d:INF;", "not_finite", ""),
        (b"d:NAN;", "not_finite", ""),
        (container, "segmented", "segmented"),
        (deep.as_bytes(), "depth", "depth"),
        (b"s:14:\"2019", "truncated", "truncated"),
        (b"O:8:\"stdClass\":1:{s:1:", "truncated", "truncated"),
        (b"", "truncated", "truncated"),
        (b"i:abc;", "not_php", "not_php"),
        (b"N;ope", "", ""),
        (b"\x00\x01binary", "not_php", "not_php"),
        (b"\xff\xfe", "not_php", "not_php"),
    ] {
        for (transcoder, reason) in [(json(), reason_json), (php(), reason_php)] {
            let got = transcoder.to_kask(redis);
            let label = got.as_ref().map_or_else(|fault| fault.reason, |_| "");
            assert_eq!(label, reason, "{:?} {:?}", transcoder, String::from_utf8_lossy(redis));
            assert!(reason.is_empty() || REASONS.contains(&reason));
        }
    }
}

#[test]
fn php_payloads_are_embedded_as_they_are() {
    for redis in ["O:8:\"stdClass\":1:{s:1:\"p\";i:1;}", "i:05;", "i:42;x", "d:1.0;", "a:1:{s:1:\"5\";R:1;}"] {
        let body = format!("PHP..{redis}");
        assert_eq!(php().to_kask(redis.as_bytes()).unwrap(), body.as_bytes());
        assert_eq!(php().to_redis(body.as_bytes()), redis.as_bytes());
    }
}

#[test]
fn bodies_that_are_no_envelopes_are_kept_verbatim_and_marked_where_they_would_be_misread() {
    let raw = |body: &[u8]| [RAW_MARK, body].concat();
    for body in [
        &b"KASK:V:INTEGRATION_TEST_VALUE"[..],
        b"token with\nlines",
        "café".as_bytes(),
        b"007",
        b"PHP..i:1;",
        b"JSON..",
    ] {
        assert_eq!(json().to_redis(body), body, "{}", String::from_utf8_lossy(body));
    }
    let container = b"PHP..O:8:\"stdClass\":1:{s:14:\"__svc_schema__\";s:1:\"x\";}";
    assert_eq!(php().to_redis(container), container);
    for body in
        [&b"42"[..], b"N;", b"i:1;", b"s:5:\"oh", b"decant-raw:x", b"", b"\xff\x00", b"a:b:c", b"JSON..\"\xff\""]
    {
        assert_eq!(json().to_redis(body), raw(body), "{}", String::from_utf8_lossy(body));
    }
    // PHP reads it as infinite, and could not write it again.
    assert_eq!(json().to_redis(b"JSON..1e400"), b"JSON..1e400");
    let wrong_hmac = b"PHP.AAAA.i:1;";
    assert_eq!(Transcoder::new(Serialization::Php, Some(KEY.into())).to_redis(wrong_hmac), wrong_hmac);
}

#[test]
fn a_json_body_of_too_many_values_is_kept_verbatim() {
    let body = format!("JSON..[{}0]", "0,".repeat(super::super::value::VALUES_MAX)).into_bytes();
    assert!(json().to_redis(&body) == body);
    assert!(json().to_kask(&body).as_ref() == Ok(&body));
    let redis = format!("a:2000000:{{{}}}", "i:0;N;".repeat(2_000_000));
    assert_eq!(json().to_kask(redis.as_bytes()).unwrap_err().reason, "too_many");
}

/// The lossy family, in full view.
#[test]
fn envelopes_spelled_otherwise_come_back_in_the_codecs_spelling() {
    for (body, back) in [
        ("JSON.. [ 1 ]", "JSON..[1]"),
        ("JSON..{}", "JSON..[]"),
        ("JSON..{\"0\":1}", "JSON..[1]"),
        ("JSON..1.0", "JSON..1"),
        ("JSON..[-0]", "JSON..[0]"),
        ("JSON..\"\\u0041/\"", "JSON..\"A\\/\""),
        ("JSON..{\"a\":1,\"a\":2}", "JSON..{\"a\":2}"),
        ("JSON.whatever.1", "JSON..1"),
    ] {
        assert_eq!(json().to_kask(&json().to_redis(body.as_bytes())).unwrap(), back.as_bytes());
    }
    assert_eq!(php().to_redis(b"PHP.whatever.i:1;"), b"1");
}

#[test]
fn an_empty_key_is_no_key_and_debug_shows_none() {
    let transcoder = Transcoder::new(Serialization::Json, Some(Vec::new()));
    assert_eq!(transcoder.to_kask(b"42").unwrap(), b"JSON..42");
    let text = format!("{:?}", Transcoder::new(Serialization::Php, Some(KEY.into())));
    assert!(text.contains("(secret)") && !text.contains("sekrit") && !text.contains("115"), "{text}");
}

/// Bodies of all kinds: noise, text, near-envelopes.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let php_like = arbitrary::value().prop_map(|value| php::encode(&value));
    let json_like = arbitrary::json_value().prop_map(|value| json::encode(&value).unwrap());
    let payload = prop_oneof![php_like, json_like, vec(any::<u8>(), 0..12), "[0-9]{1,3}".prop_map(String::into_bytes)];
    let head = prop_oneof![
        Just(""),
        Just("JSON.."),
        Just("PHP.."),
        Just("PHP.x."),
        Just("JSON."),
        Just("decant-raw:"),
        Just("i:"),
        Just("N;"),
    ];
    let tail = prop_oneof![Just(""), Just(";"), Just("x"), Just(" ")];
    (head, payload, tail).prop_map(|(head, payload, tail)| [head.as_bytes(), &payload, tail.as_bytes()].concat())
}

fn round_trip(transcoder: &Transcoder, body: &[u8]) -> Vec<u8> {
    transcoder.to_kask(&transcoder.to_redis(body)).expect("what to_redis writes can be read")
}

fn opens(transcoder: &Transcoder, body: &[u8]) -> bool {
    envelope::open(body, transcoder.serialization, transcoder.key()).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_body_comes_back_and_only_envelopes_may_change(body in body()) {
        for transcoder in all() {
            let back = round_trip(&transcoder, &body);
            prop_assert!(back == body || opens(&transcoder, &body), "{:?}", transcoder);
            // Once in the codec's spelling it stays.
            prop_assert_eq!(round_trip(&transcoder, &back), back);
        }
    }

    #[test]
    fn mediawikis_json_bodies_come_back_byte_for_byte(value in arbitrary::json_value()) {
        let payload = json::encode(&value).unwrap();
        for key in [None, Some(KEY)] {
            let transcoder = Transcoder::new(Serialization::Json, key.map(<[u8]>::to_vec));
            let body = envelope::seal(&payload, Serialization::Json, key);
            prop_assert_eq!(round_trip(&transcoder, &body), body.clone());
            prop_assert!(!transcoder.to_redis(&body).starts_with(b"JSON"), "readable by RedisBagOStuff");
        }
    }

    #[test]
    fn mediawikis_php_bodies_come_back_byte_for_byte(value in arbitrary::value()) {
        let payload = php::encode(&value);
        for key in [None, Some(KEY)] {
            let transcoder = Transcoder::new(Serialization::Php, key.map(<[u8]>::to_vec));
            let body = envelope::seal(&payload, Serialization::Php, key);
            prop_assert_eq!(round_trip(&transcoder, &body), body.clone());
            let redis = transcoder.to_redis(&body);
            prop_assert!(redis == payload || canonical_int(&redis).is_some());
        }
    }

    #[test]
    fn nothing_in_redis_panics(bytes in prop_oneof![vec(any::<u8>(), 0..60), body()]) {
        for transcoder in all() {
            if let Err(fault) = transcoder.to_kask(&bytes) {
                prop_assert!(REASONS.contains(&fault.reason));
            }
        }
    }
}
