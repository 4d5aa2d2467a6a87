//! A PHP value without objects: what both of MediaWiki's formats can carry.

use std::collections::HashMap;

/// How deeply arrays may stand in one another: PHP's default for json_encode. Its unserialize would go to 4096, which no
/// value of MediaWiki's comes near; a deeper one is told as untranscodable.
/// Decoders refuse more, so encoding and dropping a decoded [`Value`] recurses no deeper than this.
pub const DEPTH_MAX: usize = 512;

/// How many values a decoder builds from one input, itself included. A value takes 50 to 250 bytes here and can take two
/// in the input; without this bound a 16 MiB body would take a gigabyte. Only JSON mode builds values at all.
pub const VALUES_MAX: usize = 1 << 20;

/// Up to this many entries a scan finds a duplicate key faster than a hash does.
const SCAN_ENTRIES_MAX: usize = 8;

/// A PHP value. Strings are bytes: PHP does not know encodings.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Bytes(Vec<u8>),
    /// In PHP's order, each key once. Build it with [`ArrayBuilder`] where keys may repeat.
    Array(Vec<(ArrayKey, Value)>),
}

/// A key as PHP keeps it: what looks like a canonical decimal integer *is* an integer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ArrayKey {
    Int(i64),
    Bytes(Vec<u8>),
}

impl ArrayKey {
    /// The key PHP makes of a string: `"5"` is 5, while `"05"`, `"-0"` and what no i64 holds stay strings.
    pub fn from_bytes(bytes: Vec<u8>) -> ArrayKey {
        match canonical_int(&bytes) {
            Some(int) => ArrayKey::Int(int),
            None => ArrayKey::Bytes(bytes),
        }
    }
}

/// The integer whose PHP spelling is exactly these bytes: `$blob === (string)(int)$blob`.
pub fn canonical_int(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let negative = digits.len() != bytes.len();
    match digits {
        [] => return None,
        [b'0'] => return if negative { None } else { Some(0) },
        [b'0', ..] => return None,
        _ if !digits.iter().all(u8::is_ascii_digit) => return None,
        _ => {}
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Collects entries as PHP's arrays do: of a repeated key the last value stays, at the first one's place.
#[derive(Debug, Default)]
pub struct ArrayBuilder {
    entries: Vec<(ArrayKey, Value)>,
    /// All keys so far were 0, 1, 2, …: then a new one of that row cannot repeat an old one.
    list: bool,
    /// Where each key stands; empty until a scan would be slow.
    places: HashMap<ArrayKey, usize>,
}

impl ArrayBuilder {
    pub fn new() -> ArrayBuilder {
        ArrayBuilder { entries: Vec::new(), list: true, places: HashMap::new() }
    }

    /// Appends to a list.
    pub fn push(&mut self, value: Value) {
        self.insert(ArrayKey::Int(self.entries.len() as i64), value);
    }

    pub fn insert(&mut self, key: ArrayKey, value: Value) {
        if self.list {
            if key == ArrayKey::Int(self.entries.len() as i64) {
                self.entries.push((key, value));
                return;
            }
            self.list = false;
        }
        match self.place(&key) {
            Some(place) => self.entries[place].1 = value,
            None => {
                if !self.places.is_empty() {
                    self.places.insert(key.clone(), self.entries.len());
                }
                self.entries.push((key, value));
            }
        }
    }

    fn place(&mut self, key: &ArrayKey) -> Option<usize> {
        if self.entries.len() <= SCAN_ENTRIES_MAX {
            return self.entries.iter().position(|(k, _)| k == key);
        }
        if self.places.is_empty() {
            self.places = self.entries.iter().enumerate().map(|(place, (k, _))| (k.clone(), place)).collect();
        }
        self.places.get(key).copied()
    }

    pub fn finish(self) -> Value {
        Value::Array(self.entries)
    }
}

#[cfg(test)]
pub(super) mod arbitrary;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_integers_are_those_php_prints() {
        for (text, int) in [
            ("0", Some(0)),
            ("-7", Some(-7)),
            ("42", Some(42)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("-0", None),
            ("007", None),
            ("-", None),
            ("", None),
            ("+1", None),
            ("1 ", None),
            ("1.0", None),
        ] {
            assert_eq!(canonical_int(text.as_bytes()), int, "{text:?}");
        }
    }

    #[test]
    fn of_a_repeated_key_the_last_value_stays_at_the_first_place() {
        for filler in [0, 3, 50] {
            let mut array = ArrayBuilder::new();
            array.insert(ArrayKey::from_bytes(b"a".to_vec()), Value::Int(1));
            for i in 0..filler {
                array.insert(ArrayKey::Int(i * 7), Value::Null);
            }
            array.insert(ArrayKey::from_bytes(b"5".to_vec()), Value::Int(3));
            array.insert(ArrayKey::Bytes(b"a".to_vec()), Value::Int(4));
            array.insert(ArrayKey::Int(5), Value::Int(6));
            let Value::Array(entries) = array.finish() else { unreachable!() };
            assert_eq!(entries.len() as i64, filler + 2);
            assert_eq!(entries[0], (ArrayKey::Bytes(b"a".to_vec()), Value::Int(4)));
            assert_eq!(entries.last().unwrap(), &(ArrayKey::Int(5), Value::Int(6)));
        }
    }

    #[test]
    fn a_list_that_stops_being_one_still_finds_its_old_keys() {
        let mut array = ArrayBuilder::new();
        (0..20).for_each(|i| array.push(Value::Int(i)));
        array.insert(ArrayKey::Int(3), Value::Null);
        let Value::Array(entries) = array.finish() else { unreachable!() };
        assert_eq!((entries.len(), &entries[3].1), (20, &Value::Null));
    }
}
