use super::super::{php, value::arbitrary};
use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// `serialize(json_decode($s, true))`.
fn decoded(text: &str) -> Result<String, JsonFault> {
    decode(text.as_bytes()).map(|value| String::from_utf8(php::encode(&value)).unwrap())
}

/// `json_encode(unserialize($s))`.
fn encoded(php: &str) -> Result<String, JsonFault> {
    encode(&php::decode(php.as_bytes()).unwrap()).map(|json| String::from_utf8(json).unwrap())
}

#[test]
fn encodes_as_php_does() {
    for (value, json) in [
        ("N;", "null"),
        ("b:1;", "true"),
        ("b:0;", "false"),
        ("i:-42;", "-42"),
        ("d:1.5;", "1.5"),
        ("d:1;", "1"),
        ("d:-0;", "-0"),
        ("d:1e15;", "1000000000000000"),
        ("d:1e17;", "1.0e+17"),
        ("d:1e100;", "1.0e+100"),
        ("d:0.00001;", "1.0e-5"),
        ("d:0.30000000000000004;", "0.30000000000000004"),
        ("s:0:\"\";", "\"\""),
        ("s:1:\"/\";", "\"\\/\""),
        ("s:12:\"café / 😀\";", "\"caf\\u00e9 \\/ \\ud83d\\ude00\""),
        ("s:10:\"<>&'\"\\\u{8}\u{c}\r\t\";", "\"<>&'\\\"\\\\\\b\\f\\r\\t\""),
        ("s:4:\"\0\u{1f}\u{7f}\n\";", "\"\\u0000\\u001f\u{7f}\\n\""),
        ("s:6:\"\u{2028}\u{ffff}\";", "\"\\u2028\\uffff\""),
        ("a:0:{}", "[]"),
        ("a:2:{i:0;i:1;i:1;i:2;}", "[1,2]"),
        ("a:1:{i:5;i:1;}", "{\"5\":1}"),
        ("a:2:{i:1;i:1;i:0;i:2;}", "{\"1\":1,\"0\":2}"),
        ("a:2:{s:1:\"a\";i:1;s:1:\"b\";a:2:{i:0;i:1;i:1;i:2;}}", "{\"a\":1,\"b\":[1,2]}"),
        ("a:2:{s:0:\"\";i:1;s:2:\"\0a\";a:0:{}}", "{\"\":1,\"\\u0000a\":[]}"),
    ] {
        assert_eq!(encoded(value).as_deref(), Ok(json), "{value}");
    }
    for float in ["INF", "-INF", "NAN"] {
        assert_eq!(encoded(&format!("a:1:{{i:0;d:{float};}}")), Err(JsonFault::NotFinite));
    }
    for bytes in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"] {
        assert_eq!(encode(&Value::Bytes(bytes.to_vec())), Err(JsonFault::InvalidUtf8));
        let key = Value::Array(vec![(ArrayKey::Bytes(bytes.to_vec()), Value::Null)]);
        assert_eq!(encode(&key), Err(JsonFault::InvalidUtf8));
    }
}

#[test]
fn decodes_as_php_does() {
    for (json, value) in [
        ("null", "N;"),
        (" \t\r\n1 \n", "i:1;"),
        ("-0", "i:0;"),
        ("-0.0", "d:-0;"),
        ("-0e5", "d:-0;"),
        ("1e5", "d:100000;"),
        ("1E+5", "d:100000;"),
        ("1e400", "d:INF;"),
        ("1.5e-400", "d:0;"),
        ("9223372036854775807", "i:9223372036854775807;"),
        ("9223372036854775808", "d:9.223372036854776E+18;"),
        ("-9223372036854775808", "i:-9223372036854775808;"),
        ("-9223372036854775809", "d:-9.223372036854776E+18;"),
        ("\"\\/\\b\\f\\n\\r\\t\\\"\\\\\"", "s:8:\"/\u{8}\u{c}\n\r\t\"\\\";"),
        ("\"\\u00E9\\ud83d\\uDE00\u{7f}\"", "s:7:\"é😀\u{7f}\";"),
        ("\"\\u0000\"", "s:1:\"\0\";"),
        ("{}", "a:0:{}"),
        ("[ ]", "a:0:{}"),
        ("{\"\":1,\"\\u0000a\":2}", "a:2:{s:0:\"\";i:1;s:2:\"\0a\";i:2;}"),
        ("{\"a\":1,\"b\":2,\"a\":{\"a\":3}}", "a:2:{s:1:\"a\";a:1:{s:1:\"a\";i:3;}s:1:\"b\";i:2;}"),
        (
            "{\"5\":1,\"05\":2,\"-5\":3,\"-0\":4,\"9223372036854775808\":5}",
            "a:5:{i:5;i:1;s:2:\"05\";i:2;i:-5;i:3;s:2:\"-0\";i:4;s:19:\"9223372036854775808\";i:5;}",
        ),
        ("[1,[2,{\"a\" : [ ] } ] , 3]", "a:3:{i:0;i:1;i:1;a:2:{i:0;i:2;i:1;a:1:{s:1:\"a\";a:0:{}}}i:2;i:3;}"),
    ] {
        assert_eq!(decoded(json).as_deref(), Ok(value), "{json}");
    }
}

#[test]
fn refuses_what_php_refuses() {
    for json in [
        "",
        "  ",
        "nul",
        "NULL",
        "True",
        "nullx",
        "1 2",
        "01",
        "00",
        "-",
        "-00",
        "1.",
        ".5",
        "1.e5",
        "1e",
        "1e+",
        "+1",
        "0x1",
        "\u{b}1",
        "\u{feff}1",
        "1\0",
        "\0",
        "\"a",
        "\"\n\"",
        "\"\0\"",
        "\"\\v\"",
        "\"\\u12\"",
        "\"\\U0041\"",
        "'a'",
        "[",
        "[1",
        "[1,]",
        "[,]",
        "[,1]",
        "[1]]",
        "[1}",
        "{",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1]",
        "}",
        "\"a\\",
        "\"\\u00",
        "\"a\\ud83d",
    ] {
        assert!(decode(json.as_bytes()).is_err(), "{json:?}");
    }
    for json in ["\"\\ud800\"", "\"\\udc00\"", "\"\\ud83d\\u0041\"", "\"\\uD83Dx\"", "\"\\ud83d\\ud83d\""] {
        assert!(matches!(decoded(json), Err(JsonFault::LoneSurrogate { at: 1 })), "{json}");
    }
    for json in [&b"\"\xff\""[..], b"\"\xed\xa0\x80\"", b"\"\xc0\x80\"", b"\xa0"] {
        assert!(decode(json).is_err(), "{json:?}");
    }
}

/// PHP writes 512 levels and reads 511: a scalar inside counts as one.
#[test]
fn as_deep_as_php_goes() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let value = decode(nested(511).as_bytes()).unwrap();
        assert_eq!(encode(&value).unwrap(), nested(511).as_bytes());
        assert_eq!(decoded(&nested(512)), Err(JsonFault::TooDeep));
        let deeper = Value::Array(vec![(ArrayKey::Int(0), value)]);
        assert!(encode(&deeper).is_ok());
        assert_eq!(encode(&Value::Array(vec![(ArrayKey::Int(0), deeper)])), Err(JsonFault::TooDeep));
    }
    assert!(decode(format!("{}{}", "[".repeat(511), "]".repeat(511)).as_bytes()).is_ok());
    assert_eq!(decoded(&format!("{}{}", "[".repeat(512), "]".repeat(512))), Err(JsonFault::TooDeep));
}

#[test]
fn hostile_nesting_is_refused_quickly_on_a_small_stack() {
    let begin = Instant::now();
    let thread = std::thread::Builder::new().stack_size(128 * 1024).spawn(|| {
        for unit in ["[", "{\"a\":", "[[],", "[{\"a\":[", "\"\\ud83d", "-"] {
            assert!(decode(unit.repeat(1_000_000 / unit.len()).as_bytes()).is_err(), "{unit}");
        }
        // Whole, so that without the limit there would be a value to drop, level by level.
        assert!(decode(format!("{}{}", "[".repeat(500_000), "]".repeat(500_000)).as_bytes()).is_err());
    });
    thread.unwrap().join().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn too_many_values_are_refused() {
    let list = |count: usize| format!("[{}0]", "0,".repeat(count - 1)).into_bytes();
    assert!(decode(&list(VALUES_MAX - 1)).is_ok());
    assert_eq!(decode(&list(VALUES_MAX)), Err(JsonFault::TooMany));
}

proptest! {
    #[test]
    fn what_php_writes_is_written_again(value in arbitrary::json_value()) {
        let json = encode(&value).unwrap();
        prop_assert_eq!(encode(&decode(&json).unwrap()).unwrap(), json);
    }

    #[test]
    fn every_truncation_of_an_array_or_string_is_a_fault(value in arbitrary::json_value()) {
        let json = encode(&value).unwrap();
        if matches!(json[0], b'[' | b'{' | b'"') {
            for end in 0..json.len() {
                prop_assert!(decode(&json[..end]).is_err());
            }
        }
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn nothing_that_looks_like_json_panics(text in "([\\[\\]{},:\" ]|null|true|\\\\u[0-9a-f]{4}|\\\\|[0-9.eE+-]|é){0,40}") {
        if let Ok(value) = decode(text.as_bytes()) {
            let _ = encode(&value);
        }
    }
}
