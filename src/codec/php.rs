//! PHP's serialize and unserialize.
//!
//! [`decode`] builds a [`Value`] and refuses objects; [`scan`] walks anything PHP can write, without building or
//! instantiating it, so that a payload can be embedded as it is. Both accept what PHP 8.2 accepts, so also bytes that
//! stand *after* the value: `i:5;x` is 5 there (8.3 warns, and still answers 5). [`encode`] is `serialize`.

mod lexer;

use super::{
    float,
    value::{ArrayBuilder, ArrayKey, DEPTH_MAX, VALUES_MAX, Value},
};
use lexer::{KeyToken, Lexer, Token};
use std::io::Write;

/// Why bytes are no PHP value that can be carried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhpFault {
    #[error("the serialized value ends too early")]
    Truncated,
    #[error("no serialized PHP value: byte {at} is unexpected")]
    Malformed { at: usize },
    #[error("arrays stand more than {DEPTH_MAX} deep in one another")]
    TooDeep,
    #[error("more than {VALUES_MAX} values in one")]
    TooMany,
    #[error("the value holds an object or an enum case")]
    Object,
    #[error("the value holds a PHP reference")]
    Reference,
    #[error("a reference points to value number {slot}, which is not there")]
    DanglingReference { slot: usize },
}

/// What [`scan`] saw on its walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// How many bytes the value takes; more may follow.
    pub length: usize,
    /// An `O:`, `C:` or `E:` was met.
    pub objects: bool,
    /// An `r:` or `R:` was met.
    pub references: bool,
    /// The value is BagOStuff's list of segments: its bytes live under other keys.
    pub segmented: bool,
}

/// The property that marks BagOStuff's segment containers, whatever schema it names.
const SEGMENT_MARK: &[u8] = b"__svc_schema__";

/// Walks one value. Whether classes exist, and what a `C:` holds, only PHP can know; all else is checked as it checks.
pub fn scan(input: &[u8]) -> Result<Scan, PhpFault> {
    let mut lexer = Lexer::new(input);
    let mut scan = Scan::default();
    // Entries still to come, for each open container.
    let mut open: Vec<usize> = Vec::new();
    // Values so far, as references count them: keys and `R:` do not count.
    let mut slots = 0usize;
    // Only properties of an outermost stdClass make a segment container.
    let mut outer_is_container = false;
    loop {
        let token = lexer.value()?;
        if let Token::Reference { slot } | Token::SameObject { slot } = token {
            // A value can't refer to itself, nor to one that comes later.
            if slot == 0 || slot > slots {
                return Err(PhpFault::DanglingReference { slot });
            }
            scan.references = true;
        }
        slots += usize::from(!matches!(token, Token::Reference { .. }));
        match token {
            Token::Array { entries: 0 } => lexer.close()?,
            Token::Array { entries } | Token::Object { entries, .. } if open.len() < DEPTH_MAX => {
                if let Token::Object { class, .. } = token {
                    scan.objects = true;
                    outer_is_container |= open.is_empty() && class.eq_ignore_ascii_case(b"stdClass");
                }
                open.push(entries);
            }
            Token::Array { .. } | Token::Object { .. } => return Err(PhpFault::TooDeep),
            Token::Opaque => scan.objects = true,
            _ => {}
        }
        while open.last() == Some(&0) {
            lexer.close()?;
            open.pop();
        }
        let depth = open.len();
        let Some(left) = open.last_mut() else {
            scan.length = lexer.at;
            return Ok(scan);
        };
        *left -= 1;
        let key = lexer.key()?;
        scan.segmented |= outer_is_container && depth == 1 && matches!(key, KeyToken::Bytes(k) if *k == *SEGMENT_MARK);
    }
}

/// An array being read: what it has, the key whose value comes next, and how many entries follow that.
struct Open {
    array: ArrayBuilder,
    key: ArrayKey,
    left: usize,
}

impl Open {
    fn read_key(&mut self, lexer: &mut Lexer<'_>) -> Result<(), PhpFault> {
        self.left -= 1;
        self.key = match lexer.key()? {
            KeyToken::Int(int) => ArrayKey::Int(int),
            KeyToken::Bytes(bytes) => ArrayKey::from_bytes(bytes.into_owned()),
        };
        Ok(())
    }
}

/// Unserializes a value without objects and references, of at most [`VALUES_MAX`] values.
pub fn decode(input: &[u8]) -> Result<Value, PhpFault> {
    let mut lexer = Lexer::new(input);
    let mut open: Vec<Open> = Vec::new();
    let mut values = 0;
    loop {
        values += 1;
        if values > VALUES_MAX {
            return Err(PhpFault::TooMany);
        }
        let mut value = match lexer.value()? {
            Token::Null => Value::Null,
            Token::Bool(bool) => Value::Bool(bool),
            Token::Int(int) => Value::Int(int),
            Token::Float(float) => Value::Float(float),
            Token::Bytes(bytes) => Value::Bytes(bytes.into_owned()),
            Token::Array { entries: 0 } => {
                lexer.close()?;
                Value::Array(Vec::new())
            }
            Token::Array { .. } if open.len() == DEPTH_MAX => return Err(PhpFault::TooDeep),
            Token::Array { entries } => {
                let mut array = Open { array: ArrayBuilder::new(), key: ArrayKey::Int(0), left: entries };
                array.read_key(&mut lexer)?;
                open.push(array);
                continue;
            }
            Token::Object { .. } | Token::Opaque => return Err(PhpFault::Object),
            Token::SameObject { .. } | Token::Reference { .. } => return Err(PhpFault::Reference),
        };
        loop {
            let Some(mut array) = open.pop() else { return Ok(value) };
            array.array.insert(std::mem::replace(&mut array.key, ArrayKey::Int(0)), value);
            if array.left > 0 {
                array.read_key(&mut lexer)?;
                open.push(array);
                break;
            }
            lexer.close()?;
            value = array.array.finish();
        }
    }
}

/// Serializes a value, as PHP's `serialize` does with `serialize_precision = -1`.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

/// Recurses as deep as the value is: at most [`DEPTH_MAX`] for values that a decoder built.
fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"N;"),
        Value::Bool(bool) => out.extend_from_slice(if *bool { b"b:1;" } else { b"b:0;" }),
        Value::Int(int) => write_int(out, *int),
        Value::Float(float) => write_float(out, *float),
        Value::Bytes(bytes) => write_bytes(out, bytes),
        Value::Array(entries) => {
            // Writing into a Vec cannot fail.
            let _infallible = write!(out, "a:{}:{{", entries.len());
            for (key, value) in entries {
                match key {
                    ArrayKey::Int(int) => write_int(out, *int),
                    ArrayKey::Bytes(bytes) => write_bytes(out, bytes),
                }
                write(out, value);
            }
            out.push(b'}');
        }
    }
}

fn write_int(out: &mut Vec<u8>, int: i64) {
    let _infallible = write!(out, "i:{int};");
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let _infallible = write!(out, "s:{}:\"", bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\";");
}

fn write_float(out: &mut Vec<u8>, float: f64) {
    out.extend_from_slice(b"d:");
    if float.is_nan() {
        out.extend_from_slice(b"NAN");
    } else if float.is_infinite() {
        out.extend_from_slice(if float > 0.0 { b"INF" } else { b"-INF" });
    } else {
        float::write_finite(out, float, b'E');
    }
    out.push(b';');
}

#[cfg(test)]
mod tests;
