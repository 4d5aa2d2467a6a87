//! Whether two Kask bodies are one value to MediaWiki, and what kind of value a body holds. Pure.

use super::{
    json, php,
    transcode::{Serialization, Transcoder},
    value::Value,
};

impl Transcoder {
    /// Whether RESTBagOStuff reads the same value from both: PHP's `===`, so that an array's order counts. Bodies that it cannot read are the
    /// same only byte for byte, and so are values with objects.
    pub fn same_value(&self, a: &[u8], b: &[u8]) -> bool {
        a == b || self.value(a).is_some_and(|a| self.value(b).is_some_and(|b| a == b))
    }

    /// What RESTBagOStuff reads from a body, where that needs no object.
    pub fn value(&self, kask_body: &[u8]) -> Option<Value> {
        let payload = self.payload(kask_body).ok()?;
        match self.serialization() {
            Serialization::Json => json::decode(payload).ok(),
            Serialization::Php => php::decode(payload).ok(),
        }
    }

    /// What a body holds, without a word of it: a PHP type; `object` stands for everything that only PHP itself can build, and
    /// `unreadable` for what RESTBagOStuff reads as a miss.
    pub fn kind(&self, kask_body: &[u8]) -> &'static str {
        match (self.value(kask_body), self.payload(kask_body)) {
            (Some(value), _) => match value {
                Value::Null => "null",
                Value::Bool(_) => "bool",
                Value::Int(_) => "int",
                Value::Float(_) => "float",
                Value::Bytes(_) => "string",
                Value::Array(_) => "array",
            },
            (None, Ok(payload)) if self.serialization() == Serialization::Php && php::scan(payload).is_ok() => "object",
            (None, _) => "unreadable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json() -> Transcoder {
        Transcoder::new(Serialization::Json, None)
    }

    #[test]
    fn what_php_decodes_to_the_same_value_is_the_same() {
        for (a, b, same) in [
            (r#"JSON.."a/b""#, r#"JSON.."a\/b""#, true),
            (r#"JSON..{"a":[1,2]}"#, r#"JSON..{ "a" : [ 1, 2 ] }"#, true),
            (r#"JSON..{"0":1}"#, "JSON..[1]", true),
            ("JSON..-0", "JSON..0", true),
            (r#"JSON..{"a":1,"b":2}"#, r#"JSON..{"b":2,"a":1}"#, false),
            ("JSON..1", "JSON..1.0", false),
            ("JSON..1", r#"JSON.."1""#, false),
            ("JSON..true", "JSON..1", false),
            ("JSON..null", r#"JSON.."""#, false),
            ("JSON..1", "JSON.x.1", true),
            ("JSON..1", "PHP..i:1;", false),
            ("KASK:V", "KASK:V", true),
            ("KASK:V", "KASK:W", false),
            ("JSON..{", "JSON..{", true),
            ("JSON..{", "JSON..{ ", false),
        ] {
            assert_eq!(json().same_value(a.as_bytes(), b.as_bytes()), same, "{a} {b}");
            assert_eq!(json().same_value(b.as_bytes(), a.as_bytes()), same, "{b} {a}");
        }
    }

    #[test]
    fn an_envelope_that_mediawiki_would_not_open_is_another_value() {
        let keyed = Transcoder::new(Serialization::Json, Some(b"sekrit".to_vec()));
        let good = keyed.to_kask(b"42").unwrap();
        assert!(keyed.same_value(&good, &good));
        assert!(!keyed.same_value(&good, b"JSON..42"));
        assert_eq!((keyed.kind(&good), keyed.kind(b"JSON..42")), ("int", "unreadable"));
    }

    #[test]
    fn kinds_say_nothing_of_the_value() {
        for (body, kind) in [
            ("JSON..null", "null"),
            ("JSON..true", "bool"),
            ("JSON..7", "int"),
            ("JSON..1.5", "float"),
            (r#"JSON.."7""#, "string"),
            ("JSON..{}", "array"),
            ("JSON..{", "unreadable"),
            ("probe", "unreadable"),
        ] {
            assert_eq!(json().kind(body.as_bytes()), kind, "{body}");
        }
        let php = Transcoder::new(Serialization::Php, None);
        let kinds =
            [&b"PHP..O:8:\"stdClass\":0:{}"[..], b"PHP..a:0:{}", b"PHP..i:7;", b"PHP..x"].map(|body| php.kind(body));
        assert_eq!(kinds, ["object", "array", "int", "unreadable"]);
    }

    #[test]
    fn values_with_objects_are_compared_byte_for_byte() {
        let php = Transcoder::new(Serialization::Php, None);
        let object = b"PHP..O:8:\"stdClass\":1:{s:1:\"a\";d:0.1;}";
        assert!(php.same_value(object, object));
        assert!(!php.same_value(object, b"PHP..O:8:\"stdClass\":1:{s:1:\"a\";d:0.10000000000000001;}"));
        assert!(php.same_value(b"PHP..d:0.1;", b"PHP..d:0.10000000000000001;"));
    }

    proptest! {
        /// A value in another spelling is the same, and a body is the same as what comes back from Redis.
        #[test]
        fn there_and_back_is_the_same(value in super::super::value::arbitrary::value()) {
            let Ok(body) = json().to_kask(&php::encode(&value)) else { return Ok(()) };
            let back = json().to_kask(&json().to_redis(&body)).unwrap();
            prop_assert!(json().same_value(&body, &back));
        }

        #[test]
        fn nothing_panics(a in proptest::collection::vec(any::<u8>(), 0..60)) {
            let body = [b"JSON..", a.as_slice()].concat();
            let _ = (json().kind(&body), json().same_value(&body, &a));
        }
    }
}
