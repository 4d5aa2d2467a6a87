//! The codecs against PHP itself: the same bytes for the same values, and the same verdict on broken bytes.
//!
//! The seed is printed; `DECANT_SEED=n` runs the same values again.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test panics where it fails, and prints its seed")]

use decant::codec::{
    envelope::{self, Serialization},
    json,
    key::Key,
    php::{self, PhpFault, Scan},
    value::{ArrayBuilder, ArrayKey, Value, canonical_int},
};
use fastrand::Rng;
use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
};

/// Values that Rust makes up; PHP must read and write them as we do.
const OURS: usize = 60_000;
/// Values that PHP makes up; we must read and write them as it does.
const THEIRS: usize = 60_000;
/// Mutated bytes of each format.
const BROKEN: usize = 60_000;

fn seed() -> u64 {
    let seed = match std::env::var("DECANT_SEED") {
        Ok(text) => text.parse().expect("DECANT_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("DECANT_SEED={seed}");
    seed
}

/// One php process that is asked in a stream: a thread writes all questions while the test reads the answers.
struct Php {
    child: Child,
    answers: BufReader<ChildStdout>,
    asking: Option<std::thread::JoinHandle<()>>,
}

impl Php {
    fn ask(questions: String) -> Php {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/php/differential.php");
        let settings = ["-n", "-d", "memory_limit=-1", "-d", "precision=14", "-d", "serialize_precision=-1"];
        let mut child = Command::new("php")
            .args(settings)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("php does not start; this test compares the codecs with it: apt-get install php-cli");
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut stdin = child.stdin.take().unwrap();
        let asking =
            std::thread::spawn(move || stdin.write_all(questions.as_bytes()).expect("php reads its questions"));
        Php { child, answers, asking: Some(asking) }
    }

    /// The next line's columns; `None` for a refusal.
    fn answer<const COLUMNS: usize>(&mut self) -> [Option<Vec<u8>>; COLUMNS] {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("php answers");
        let columns: Vec<_> = line.split_whitespace().map(unhex).collect();
        columns.try_into().unwrap_or_else(|_| panic!("php answered {line:?}"))
    }

    fn finish(mut self) {
        self.asking.take().unwrap().join().expect("all questions were asked");
        let mut rest = String::new();
        assert_eq!(self.answers.read_line(&mut rest).unwrap(), 0, "php answered more than it was asked: {rest:?}");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Php {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

fn question(questions: &mut String, op: char, bytes: &[u8]) {
    write!(questions, "{op} x").unwrap();
    for byte in bytes {
        write!(questions, "{byte:02x}").unwrap();
    }
    questions.push('\n');
}

fn unhex(column: &str) -> Option<Vec<u8>> {
    let digits = column.strip_prefix('x')?.as_bytes();
    let digit = |d: u8| char::from(d).to_digit(16).unwrap() as u8;
    Some(digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect())
}

fn shown(bytes: &Option<Vec<u8>>) -> String {
    bytes.as_ref().map_or_else(|| "refused".to_owned(), |bytes| bytes.escape_ascii().to_string())
}

fn assert_same(what: &str, input: &[u8], ours: &Option<Vec<u8>>, php: &Option<Vec<u8>>) {
    assert!(ours == php, "{what} of {}\nours: {}\nphp:  {}", input.escape_ascii(), shown(ours), shown(php));
}

#[test]
fn php_reads_and_writes_our_values_as_we_do() {
    let mut rng = Rng::with_seed(seed());
    // Powers of two lie halfway between two spellings more often than any others.
    let powers = (-1074..1024).map(|power| Value::Float(2f64.powi(power)));
    let values: Vec<Value> = (0..OURS).map(|_| value(&mut rng, 4)).chain(powers).collect();
    let mut questions = String::new();
    for value in &values {
        question(&mut questions, 'v', &php::encode(value));
        if let Ok(json) = json::encode(value) {
            question(&mut questions, 'j', &json);
        }
    }
    let mut php = Php::ask(questions);
    for value in &values {
        let ours = php::encode(value);
        let [serialized, encoded] = php.answer();
        assert_same("serialize", &ours, &Some(ours.clone()), &serialized);
        let json = json::encode(value).ok();
        assert_same("json_encode", &ours, &json, &encoded);
        if let Some(json) = json {
            let decoded = json::decode(&json).ok().map(|value| php::encode(&value));
            let [php] = php.answer();
            assert_same("json_decode", &json, &decoded, &php);
        }
    }
    php.finish();
}

#[test]
fn we_read_and_write_phps_values_as_it_does() {
    let mut php = Php::ask(format!("g {} {THEIRS}\n", seed() as u32));
    for _ in 0..THEIRS {
        let [serialized, encoded] = php.answer();
        let bytes = serialized.expect("php serializes its own values");
        let value = php::decode(&bytes).unwrap_or_else(|fault| panic!("{fault}: {}", bytes.escape_ascii()));
        assert_same("serialize", &bytes, &Some(php::encode(&value)), &Some(bytes.clone()));
        assert_same("json_encode", &bytes, &json::encode(&value).ok(), &encoded);
        assert_eq!(php::scan(&bytes), Ok(Scan { length: bytes.len(), ..Scan::default() }));
    }
    php.finish();
}

/// Values that no [`Value`] is, to be mutated with the others.
const WITH_OBJECTS: [&str; 10] = [
    "O:8:\"stdClass\":2:{s:1:\"p\";i:1;s:1:\"q\";a:1:{i:0;N;}}",
    "O:3:\"A\\B\":1:{i:0;O:1:\"C\":0:{}}",
    "C:1:\"A\":5:{a}b;c}",
    "E:10:\"Suit:Heart\";",
    "a:3:{i:0;O:1:\"A\":0:{}i:1;r:2;i:2;i:5;}",
    "a:3:{i:0;i:7;i:1;R:2;i:2;R:1;}",
    "S:3:\"\\41b\\fF\";",
    "a:2:{S:1:\"\\61\";i:1;s:1:\"a\";i:2;}",
    "a:2:{i:0;d:-INF;i:1;d:NAN;}",
    "O:8:\"stdClass\":1:{s:14:\"__svc_schema__\";s:11:\"CAYCDAgCDw4\";}",
];

#[test]
fn php_and_we_agree_on_broken_serialized_bytes() {
    let mut rng = Rng::with_seed(seed());
    let inputs: Vec<Vec<u8>> = (0..BROKEN)
        .map(|_| {
            let valid = match rng.u8(..5) {
                0 => rng.choice(WITH_OBJECTS).unwrap().as_bytes().to_vec(),
                _ => php::encode(&value(&mut rng, 2)),
            };
            mutated(&mut rng, valid, b"0123456789-+.eEidsbaNOCRrSINF:;\"{}\\x")
        })
        .collect();
    let mut questions = String::new();
    inputs.iter().for_each(|input| question(&mut questions, 'u', input));
    let mut php = Php::ask(questions);
    let (mut accepted, mut objects) = (0, 0);
    for input in &inputs {
        let [theirs] = php.answer();
        accepted += usize::from(theirs.is_some());
        let walked = php::scan(input);
        match php::decode(input) {
            Ok(value) => assert_same("unserialize", input, &Some(php::encode(&value)), &theirs),
            Err(PhpFault::Object | PhpFault::Reference) if walked.is_ok() => {
                objects += 1;
                // Only PHP knows whether an enum exists and whether what a reference means is an object.
                let undecided = walked.is_ok_and(|scan| scan.references) || input.windows(2).any(|two| two == b"E:");
                assert!(theirs.is_some() || undecided, "we accept, php refuses: {}", input.escape_ascii());
            }
            Err(_) => {
                assert!(walked.is_err(), "decoded as broken, walked as sound: {}", input.escape_ascii());
                assert_same("unserialize", input, &None, &theirs);
            }
        }
    }
    php.finish();
    println!("{accepted} of {BROKEN} accepted, {objects} with objects or references");
    assert!(accepted > BROKEN / 20 && accepted < BROKEN * 19 / 20, "the mutations do not test both verdicts");
    assert!(objects > 100);
}

#[test]
fn php_and_we_agree_on_broken_json() {
    let mut rng = Rng::with_seed(seed());
    let inputs: Vec<Vec<u8>> =
        std::iter::repeat_with(|| json::encode(&value(&mut rng, 2)).map(|json| (rng.fork(), json)))
            .flatten()
            .take(BROKEN)
            .map(|(mut rng, json)| {
                mutated(&mut rng, json, b"0123456789-+.eE\"\"[]{},:\\/u dDnrtfabl\t\n\x0b\0\xc3\xed")
            })
            .collect();
    let mut questions = String::new();
    inputs.iter().for_each(|input| question(&mut questions, 'j', input));
    let mut php = Php::ask(questions);
    let mut accepted = 0;
    for input in &inputs {
        let [theirs] = php.answer();
        accepted += usize::from(theirs.is_some());
        let ours = json::decode(input).ok().map(|value| php::encode(&value));
        assert_same("json_decode", input, &ours, &theirs);
    }
    php.finish();
    println!("{accepted} of {BROKEN} accepted");
    assert!(accepted > BROKEN / 20 && accepted < BROKEN * 19 / 20, "the mutations do not test both verdicts");
}

#[test]
fn php_and_we_agree_on_urls_hmacs_and_integers() {
    let mut rng = Rng::with_seed(seed());
    let mut inputs: Vec<Vec<u8>> = vec![(0..=255).collect()];
    inputs.extend((0..3000).map(|_| bytes(&mut rng, 150)));
    inputs.extend((0..3000).map(|_| {
        let int = int(&mut rng).to_string().into_bytes();
        mutated(&mut rng, int, b"0123456789+- .e")
    }));
    let mut questions = String::new();
    inputs.iter().for_each(|input| "khc".chars().for_each(|op| question(&mut questions, op, input)));
    let mut php = Php::ask(questions);
    for input in &inputs {
        let url = Key::from_bytes(input.clone()).to_url().into_bytes();
        assert_same("rawurlencode", input, &Some(url), &php.answer::<1>()[0]);
        let hmac = php.answer::<1>()[0].take().expect("PHP takes keys of any length");
        let body = [b"PHP.", &*hmac, b".payload"].concat();
        assert_same(
            "hash_hmac",
            input,
            &Some(envelope::seal(b"payload", Serialization::Php, Some(input))),
            &Some(body),
        );
        let int = canonical_int(input).map(|int| int.to_string().into_bytes());
        assert_same("(string)(int)", input, &int, &php.answer::<1>()[0]);
    }
    php.finish();
}

/// PHP's limits of depth, to the level: beyond the reach of random values.
#[test]
fn php_and_we_agree_on_depth() {
    let mut questions = String::new();
    let mut inputs = Vec::new();
    for depth in 509..=515 {
        for (open, close) in [("a:1:{i:0;", "}"), ("O:1:\"A\":1:{i:0;", "}")] {
            for inner in ["i:1;", "a:0:{}", "O:1:\"A\":0:{}"] {
                inputs.push(('v', format!("{}{inner}{}", open.repeat(depth), close.repeat(depth)).into_bytes()));
            }
        }
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for inner in ["1", "[]", "{}", ""] {
                inputs.push(('j', format!("{}{inner}{}", open.repeat(depth), close.repeat(depth)).into_bytes()));
            }
        }
    }
    inputs.iter().for_each(|(op, input)| question(&mut questions, *op, input));
    let mut php = Php::ask(questions);
    for (op, input) in &inputs {
        if *op == 'j' {
            let [theirs] = php.answer();
            assert_same("json_decode", input, &json::decode(input).ok().map(|value| php::encode(&value)), &theirs);
            continue;
        }
        let [serialized, encoded] = php.answer();
        assert_eq!(php::scan(input).is_ok(), serialized.is_some(), "depth of {}", input.len());
        if let Ok(value) = php::decode(input) {
            assert_same("serialize", input, &Some(php::encode(&value)), &serialized);
            assert_same("json_encode", input, &json::encode(&value).ok(), &encoded);
        }
    }
    php.finish();
}

fn value(rng: &mut Rng, depth: u8) -> Value {
    match rng.u8(..if depth > 0 { 10 } else { 7 }) {
        0 => Value::Null,
        1 => Value::Bool(rng.bool()),
        2 => Value::Int(int(rng)),
        3 => Value::Float(float(rng)),
        4 => Value::Bytes(int(rng).to_string().into_bytes()),
        5 | 6 => Value::Bytes(bytes(rng, 20)),
        kind => {
            let mut array = ArrayBuilder::new();
            for _ in 0..rng.u8(..6) {
                match kind {
                    7 => array.push(value(rng, depth - 1)),
                    _ => array.insert(key(rng), value(rng, depth - 1)),
                }
            }
            array.finish()
        }
    }
}

fn key(rng: &mut Rng) -> ArrayKey {
    match rng.u8(..4) {
        0 => ArrayKey::Int(int(rng)),
        1 => {
            let odd = ["", "-0", "00", "05", "-5", "+5", "5 ", "1.5", "9223372036854775808", "-9223372036854775808"];
            ArrayKey::from_bytes(rng.choice(odd).unwrap().as_bytes().to_vec())
        }
        _ => ArrayKey::from_bytes(bytes(rng, 6)),
    }
}

fn int(rng: &mut Rng) -> i64 {
    match rng.u8(..3) {
        0 => rng.i64(-9..10),
        1 => *rng.choice(&[i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1]).unwrap(),
        _ => rng.i64(..) >> rng.u8(..64),
    }
}

fn float(rng: &mut Rng) -> f64 {
    match rng.u8(..6) {
        0 => f64::from_bits(rng.u64(..)),
        1 => f64::from(rng.i32(-100_000..100_000)) / 10f64.powi(rng.i32(0..9)),
        2 => format!("{}e{}", rng.u32(1..100), rng.i32(-330..310)).parse().unwrap(),
        3 => 2f64.powi(rng.i32(-1074..1024)),
        4 => rng.i64(..) as f64,
        _ => {
            *rng.choice(&[0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, 5e-324, 1e22, 1e23]).unwrap()
        }
    }
}

fn bytes(rng: &mut Rng, length_max: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let binary = rng.u8(..4) == 0;
    for _ in 0..rng.usize(..=length_max) {
        match rng.u8(..8) {
            0 if binary => bytes.push(rng.u8(..)),
            1 => bytes.push(rng.u8(..32)),
            2 => bytes.extend(rng.char(..).to_string().bytes()),
            3 => bytes.push(*rng.choice(b"\"/\\;:{}<&'\x7f").unwrap()),
            _ => bytes.push(rng.u8(b' '..=b'~')),
        }
    }
    bytes
}

/// One to three small changes, or none: insert, replace, remove, double a piece, swap pieces, cut off.
fn mutated(rng: &mut Rng, mut bytes: Vec<u8>, alphabet: &[u8]) -> Vec<u8> {
    for _ in 0..rng.u8(..4) {
        let at = rng.usize(..=bytes.len());
        let end = (at + rng.usize(..6)).min(bytes.len());
        let byte = if rng.u8(..20) == 0 { rng.u8(..) } else { *rng.choice(alphabet).unwrap() };
        match rng.u8(..6) {
            0 => bytes.insert(at, byte),
            1 | 2 if at < bytes.len() => bytes[at] = byte,
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                let to = rng.usize(..=bytes.len());
                bytes.splice(to..to, piece);
            }
            5 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes
}
