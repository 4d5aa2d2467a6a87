use super::super::value::arbitrary;
use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn php(text: &str) -> Result<String, PhpFault> {
    decode(text.as_bytes()).map(|value| String::from_utf8(encode(&value)).unwrap())
}

/// `depth` arrays around a value.
fn nested(depth: usize, inner: &str) -> String {
    format!("{}{inner}{}", "a:1:{i:0;".repeat(depth), "}".repeat(depth))
}

/// Left what PHP 8.2 unserializes, right what it serializes again.
#[test]
fn accepts_what_php_accepts_and_writes_it_as_php_does() {
    for (input, output) in [
        ("N;", "N;"),
        ("b:1;", "b:1;"),
        ("b:0;", "b:0;"),
        ("i:42;", "i:42;"),
        ("i:+5;", "i:5;"),
        ("i:-0;", "i:0;"),
        ("i:007;", "i:7;"),
        ("i:9223372036854775808;", "i:9223372036854775807;"),
        ("i:-9223372036854775808;", "i:-9223372036854775808;"),
        ("i:-99999999999999999999;", "i:-9223372036854775808;"),
        ("d:1;", "d:1;"),
        ("d:.5;", "d:0.5;"),
        ("d:5.;", "d:5;"),
        ("d:+.5E+3;", "d:500;"),
        ("d:1.e-5;", "d:1.0E-5;"),
        ("d:-0.0;", "d:-0;"),
        ("d:1e999;", "d:INF;"),
        ("d:-INF;", "d:-INF;"),
        ("d:NAN;", "d:NAN;"),
        ("s:5:\"a\";b\"\";", "s:5:\"a\";b\"\";"),
        ("s:01:\"a\";", "s:1:\"a\";"),
        ("s:18446744073709551617:\"a\";", "s:1:\"a\";"),
        ("S:2:\"\\41b\";", "s:2:\"Ab\";"),
        ("a:0:{}", "a:0:{}"),
        ("a:1:{s:1:\"5\";i:1;}", "a:1:{i:5;i:1;}"),
        ("a:1:{s:2:\"-0\";i:1;}", "a:1:{s:2:\"-0\";i:1;}"),
        ("a:3:{s:1:\"a\";i:1;i:3;i:9;s:1:\"a\";i:2;}", "a:2:{s:1:\"a\";i:2;i:3;i:9;}"),
        // What follows the value is ignored, as PHP 8.2 does silently.
        ("i:5;x", "i:5;"),
        ("N;N;", "N;"),
        ("b:0;}", "b:0;"),
    ] {
        assert_eq!(php(input).unwrap(), output, "{input}");
        assert!(scan(input.as_bytes()).is_ok(), "{input}");
    }
}

#[test]
fn refuses_what_php_refuses() {
    for input in [
        "",
        "N",
        "n;",
        " i:1;",
        "i:1",
        "i:;",
        "i:+-1;",
        "i:0x5;",
        "b:2;",
        "b:01;",
        "d:-NAN;",
        "d:.;",
        "d:1E;",
        "d:--1;",
        "d:e5;",
        "d:1e5.5;",
        "d:INF",
        "s:2:\"a\";",
        "s:1:\"ab\";",
        "s:1:\"a\"",
        "s:+1:\"a\";",
        "s:-1:\"a\";",
        "s:1:a;",
        "S:1:\"\\4\";",
        "S:2:\"a\";",
        "a:1:{}",
        "a:1:{i:0;}",
        "a:1:{b:1;i:1;}",
        "a:1:{N;i:1;}",
        "a:2:{i:0;i:1;}",
        "a:0:{i:0;i:1;}",
        "a:-1:{}",
        "a:99999999999999999999:{}",
        "a:1:{i:0;i:1;",
        "}",
        "O:0:\"\":0:{}",
        "O:1:\"-\":0:{}",
        "O:2:\"\\A\":0:{}",
        "O:1:\"A\":-1:{}",
        "O:1:\"A\":1:{N;i:1;}",
        "O:1:\"A\":0:",
        "C:1:\"A\":2:{x}",
        "C:1:\"A\":1:{x",
        "C:1:\"A\":-1:{}",
        "E:2:\"AB\";",
        "E:3:\"A:B\"",
        "R:1;",
        "r:1;",
        "a:1:{i:0;r:2;}",
        "a:2:{i:0;i:1;i:1;R:4;}",
        "o:0:{}",
        "a:2:{i:0;R:1;i:1;R:2;}",
    ] {
        assert!(scan(input.as_bytes()).is_err(), "{input}");
        assert!(decode(input.as_bytes()).is_err(), "{input}");
    }
}

#[test]
fn the_walk_sees_what_decoding_refuses() {
    let walk = |text: &str| scan(text.as_bytes()).unwrap();
    for object in [
        "O:8:\"stdClass\":1:{s:1:\"p\";i:1;}",
        "O:8:\"stdClass\":1:{i:1;i:1;}",
        "O:1:\"A\"::{}",
        "O:3:\"a\\b\":0:{}",
        "C:1:\"A\":3:{a}c}",
        "E:10:\"Suit:Heart\";",
        "a:1:{i:0;O:1:\"A\":1:{s:1:\"a\";O:1:\"A\":0:{}}}",
    ] {
        let seen = walk(object);
        assert_eq!(seen, Scan { length: object.len(), objects: true, ..Scan::default() }, "{object}");
        assert_eq!(decode(object.as_bytes()), Err(PhpFault::Object), "{object}");
    }
    for reference in ["a:2:{i:0;i:1;i:1;R:2;}", "a:1:{i:0;R:1;}"] {
        let seen = walk(reference);
        assert_eq!(seen, Scan { length: reference.len(), references: true, ..Scan::default() }, "{reference}");
        assert_eq!(decode(reference.as_bytes()), Err(PhpFault::Reference), "{reference}");
    }
    let same = walk("a:2:{i:0;O:1:\"A\":0:{}i:1;r:2;}x");
    assert_eq!(same, Scan { length: 30, objects: true, references: true, segmented: false });
}

#[test]
fn segment_containers_are_known_by_their_mark() {
    let container = "O:8:\"stdClass\":2:{s:14:\"__svc_schema__\";s:11:\"CAYCDAgCDw4\";s:10:\"__hashes__\";a:0:{}}";
    assert!(scan(container.as_bytes()).unwrap().segmented);
    let legacy = "O:8:\"STDCLASS\":2:{s:1:\"a\";a:1:{i:0;i:1;}s:14:\"__svc_schema__\";s:11:\"DAAIDgoKAQw\";}";
    assert!(scan(legacy.as_bytes()).unwrap().segmented);
    for other in [
        "a:1:{s:14:\"__svc_schema__\";i:1;}",
        "O:1:\"A\":1:{s:14:\"__svc_schema__\";i:1;}",
        "a:1:{i:0;O:8:\"stdClass\":1:{s:14:\"__svc_schema__\";i:1;}}",
        "O:8:\"stdClass\":1:{s:1:\"a\";O:8:\"stdClass\":1:{s:14:\"__svc_schema__\";i:1;}}",
        "O:8:\"stdClass\":1:{s:1:\"a\";s:14:\"__svc_schema__\";}",
    ] {
        assert!(!scan(other.as_bytes()).unwrap().segmented, "{other}");
    }
}

#[test]
fn as_deep_as_the_limit_and_no_deeper() {
    for inner in ["i:1;", "a:0:{}", "s:1:\"a\";"] {
        let deepest = nested(DEPTH_MAX, inner);
        assert_eq!(php(&deepest).unwrap(), deepest);
        assert_eq!(scan(deepest.as_bytes()).unwrap().length, deepest.len());
        let deeper = nested(DEPTH_MAX + 1, inner);
        assert_eq!(decode(deeper.as_bytes()), Err(PhpFault::TooDeep));
        assert_eq!(scan(deeper.as_bytes()), Err(PhpFault::TooDeep));
    }
    assert_eq!(scan(nested(DEPTH_MAX, "O:1:\"A\":0:{}").as_bytes()), Err(PhpFault::TooDeep));
    assert!(scan(nested(DEPTH_MAX - 1, "O:1:\"A\":0:{}").as_bytes()).is_ok());
}

/// A megabyte of each: refused at once, on a small stack, without the allocation that the counts ask for.
#[test]
fn hostile_input_is_refused_quickly_on_a_small_stack() {
    let hostile = |unit: &str| unit.repeat(1_000_000 / unit.len()).into_bytes();
    let inputs = [
        hostile("a:1:{i:0;"),
        hostile("a:100000:{i:0;"),
        hostile("O:1:\"A\":1:{i:0;"),
        hostile("a:0:{"),
        // Whole, so that without the limit there would be a value to drop, level by level.
        nested(100_000, "i:1;").into_bytes(),
        b"a:9223372036854775807:{i:0;i:1;}".to_vec(),
        b"s:9223372036854775807:\"a\";".to_vec(),
        b"S:9223372036854775807:\"a\";".to_vec(),
        b"s:18446744073709551615:\"a\";".to_vec(),
        b"C:1:\"A\":9223372036854775807:{}".to_vec(),
    ];
    let begin = Instant::now();
    let thread = std::thread::Builder::new().stack_size(128 * 1024).spawn(move || {
        for input in inputs {
            assert!(decode(&input).is_err());
            assert!(scan(&input).is_err());
        }
    });
    thread.unwrap().join().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

/// Encoding and dropping recurse; the deepest value that a decoder builds must leave room on a worker's stack.
#[test]
fn the_deepest_value_is_encoded_and_dropped_on_half_a_megabyte() {
    let thread = std::thread::Builder::new().stack_size(512 * 1024).spawn(|| {
        let deepest = nested(DEPTH_MAX, "i:1;");
        let value = decode(deepest.as_bytes()).unwrap();
        assert_eq!(encode(&value), deepest.as_bytes());
        assert!(super::super::json::encode(&value).is_ok());
        drop(value);
    });
    thread.unwrap().join().unwrap();
}

/// Eight times the keys take about eight times as long, not sixty-four times. The shortest of several tries counts: a busy machine makes
/// only some of them longer.
#[test]
fn many_keys_take_no_square_of_time() {
    let shortest = |keys: usize| {
        let entries: String = (0..keys).map(|i| format!("s:7:\"k{i:06}\";N;")).collect();
        let input = format!("a:{keys}:{{{entries}}}");
        let tries = (0..7).map(|_| {
            let begin = Instant::now();
            assert_eq!(php(&input).unwrap(), input);
            begin.elapsed()
        });
        tries.min().unwrap()
    };
    let (few, many) = (shortest(5_000), shortest(40_000));
    assert!(many < 24 * few, "5,000 keys: {few:?}, 40,000 keys: {many:?}");
}

#[test]
fn a_value_of_too_many_values_is_walked_but_not_built() {
    let list = |count: usize| format!("a:{count}:{{{}}}", "i:0;N;".repeat(count)).into_bytes();
    assert!(decode(&list(VALUES_MAX - 1)).is_ok());
    assert_eq!(decode(&list(VALUES_MAX)), Err(PhpFault::TooMany));
    assert!(scan(&list(VALUES_MAX)).is_ok());
}

proptest! {
    #[test]
    fn values_round_trip(value in arbitrary::value()) {
        let bytes = encode(&value);
        let decoded = decode(&bytes).unwrap();
        // Compared as bytes: NAN is not equal to itself.
        prop_assert_eq!(encode(&decoded), bytes.clone());
        prop_assert_eq!(scan(&bytes).unwrap(), Scan { length: bytes.len(), ..Scan::default() });
    }

    #[test]
    fn every_truncation_is_a_fault(value in arbitrary::value()) {
        let bytes = encode(&value);
        for end in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes[..end]).map(|_| ()), scan(&bytes[..end]).map(|_| ()));
            prop_assert!(matches!(scan(&bytes[..end]), Err(PhpFault::Truncated)), "{} of {:?}", end, bytes);
        }
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (decode(&bytes), scan(&bytes));
    }

    #[test]
    fn nothing_that_looks_like_php_panics(text in "([NbidsSaOCErR]|[:;{}\"\\\\]|[0-9]{1,2}|-){0,40}") {
        let walked = scan(text.as_bytes());
        if decode(text.as_bytes()).is_ok() {
            prop_assert!(walked.is_ok(), "{}", text);
        }
    }
}
