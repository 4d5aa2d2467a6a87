//! Taking a script's reply apart, without ever panicking on one that has another shape.

use redis::Value;

/// A reply has another shape than the script that sent it promises. The reply itself is not shown: it may be a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis answered with {got} where {wanted} was expected; is this the same version of decant's scripts?")]
pub struct OddReply {
    wanted: &'static str,
    got: &'static str,
}

/// A string's bytes. Lua strings and status replies alike.
pub fn as_bytes(value: &Value) -> Result<&[u8], OddReply> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.as_bytes()),
        Value::Okay => Ok(b"OK"),
        other => Err(odd("a string", other)),
    }
}

/// As [`as_bytes`], where nil (Lua's `false`) stands for nothing.
pub fn as_maybe_bytes(value: &Value) -> Result<Option<&[u8]>, OddReply> {
    if matches!(value, Value::Nil) { Ok(None) } else { as_bytes(value).map(Some) }
}

/// The bytes of a string, without a copy.
pub fn into_bytes(value: Value) -> Result<Vec<u8>, OddReply> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        other => as_bytes(&other).map(<[u8]>::to_vec),
    }
}

/// An integer, or a string that is the decimal text of one (what Redis stores for counters).
pub fn as_int(value: &Value) -> Result<i64, OddReply> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::BulkString(bytes) => {
            std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or_else(|| odd("an integer", value))
        }
        other => Err(odd("an integer", other)),
    }
}

/// The elements of an array.
pub fn as_array(value: &Value) -> Result<&[Value], OddReply> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(odd("an array", other)),
    }
}

/// The elements of an array, owned.
pub fn into_array(value: Value) -> Result<Vec<Value>, OddReply> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(odd("an array", &other)),
    }
}

/// The `index`th element of an array, from 0.
pub fn element(items: &[Value], index: usize) -> Result<&Value, OddReply> {
    items.get(index).ok_or(OddReply { wanted: "a longer array", got: "a short one" })
}

impl OddReply {
    pub fn new(wanted: &'static str, got: &'static str) -> OddReply {
        OddReply { wanted, got }
    }
}

fn odd(wanted: &'static str, got: &Value) -> OddReply {
    let got = match got {
        Value::Nil => "nil",
        Value::Int(_) => "an integer",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
        Value::Array(_) => "an array",
        Value::ServerError(_) => "an error",
        _ => "something RESP2 does not have",
    };
    OddReply { wanted, got }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_taken_apart() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        assert_eq!(as_bytes(&bulk("x\u{0}y")), Ok(&b"x\0y"[..]));
        assert_eq!(as_bytes(&Value::Okay), Ok(&b"OK"[..]));
        assert_eq!(into_bytes(Value::SimpleString("PONG".into())), Ok(b"PONG".to_vec()));
        assert_eq!(as_maybe_bytes(&Value::Nil), Ok(None));
        assert_eq!((as_int(&Value::Int(-3)), as_int(&bulk("42"))), (Ok(-3), Ok(42)));
        let array = Value::Array(vec![Value::Int(1), Value::Nil]);
        assert_eq!(as_array(&array).and_then(|items| as_int(element(items, 0)?)), Ok(1));
        assert_eq!(into_array(array).map(|items| items.len()), Ok(2));
    }

    #[test]
    fn another_shape_is_an_error_that_shows_no_value() {
        let secret = Value::BulkString(b"enwiki:secret".to_vec());
        for error in [
            as_int(&secret).unwrap_err(),
            as_array(&secret).unwrap_err(),
            into_array(secret).unwrap_err(),
            as_bytes(&Value::Int(1)).unwrap_err(),
            as_bytes(&Value::Nil).unwrap_err(),
            as_maybe_bytes(&Value::Array(vec![])).unwrap_err(),
            as_int(&Value::BulkString(b"9223372036854775808".to_vec())).unwrap_err(),
            element(&[], 3).unwrap_err(),
        ] {
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
