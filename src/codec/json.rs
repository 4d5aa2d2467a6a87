//! PHP's `json_encode($v)` with no flags, byte for byte, and `json_decode($s, true)`.
//!
//! What PHP does and other encoders don't: `/` is `\/`, all but ASCII is `\uxxxx` (UTF-16), a whole float loses its point
//! (1.0 is `1`, -0.0 is `-0`), an array whose keys are 0, 1, 2, … in order is a list, an empty one too. On the way back
//! objects are arrays, `"5"` is the key 5, `-0` is the integer 0 and an integer beyond 64 bits is a float.

use super::{
    float,
    value::{ArrayBuilder, ArrayKey, DEPTH_MAX, VALUES_MAX, Value},
};
use std::io::Write;

/// Why a value has no JSON, or a text no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    #[error("a string is not UTF-8, which JSON requires")]
    InvalidUtf8,
    #[error("a float is infinite or not a number, which JSON cannot say")]
    NotFinite,
    #[error("arrays stand too deep in one another for PHP's limit of {DEPTH_MAX}")]
    TooDeep,
    #[error("more than {VALUES_MAX} values in one")]
    TooMany,
    #[error("no JSON: byte {at} is unexpected")]
    Syntax { at: usize },
    #[error("half a surrogate pair at byte {at}")]
    LoneSurrogate { at: usize },
}

/// `json_encode($v)`; where PHP would answer false or throw, so do we.
pub fn encode(value: &Value) -> Result<Vec<u8>, JsonFault> {
    let mut out = Vec::new();
    write(&mut out, value, 0)?;
    Ok(out)
}

/// `depth` is the number of arrays around the value; the recursion ends at [`DEPTH_MAX`].
fn write(out: &mut Vec<u8>, value: &Value, depth: usize) -> Result<(), JsonFault> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(bool) => out.extend_from_slice(if *bool { b"true" } else { b"false" }),
        Value::Int(int) => {
            // Writing into a Vec cannot fail.
            let _infallible = write!(out, "{int}");
        }
        Value::Float(float) if float.is_finite() => float::write_finite(out, *float, b'e'),
        Value::Float(_) => return Err(JsonFault::NotFinite),
        Value::Bytes(bytes) => write_string(out, bytes)?,
        Value::Array(_) if depth == DEPTH_MAX => return Err(JsonFault::TooDeep),
        Value::Array(entries) => write_array(out, entries, depth + 1)?,
    }
    Ok(())
}

fn write_array(out: &mut Vec<u8>, entries: &[(ArrayKey, Value)], depth: usize) -> Result<(), JsonFault> {
    let list = entries.iter().enumerate().all(|(i, (key, _))| *key == ArrayKey::Int(i as i64));
    out.push(if list { b'[' } else { b'{' });
    for (i, (key, value)) in entries.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if !list {
            match key {
                ArrayKey::Int(int) => {
                    let _infallible = write!(out, "\"{int}\"");
                }
                ArrayKey::Bytes(bytes) => write_string(out, bytes)?,
            }
            out.push(b':');
        }
        write(out, value, depth)?;
    }
    out.push(if list { b']' } else { b'}' });
    Ok(())
}

fn write_string(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), JsonFault> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonFault::InvalidUtf8)?;
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    for char in text.chars() {
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '/' => out.extend_from_slice(b"\\/"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            ' '..='\u{7f}' => out.push(char as u8),
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _infallible = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push(b'"');
    Ok(())
}

/// `json_decode($s, true)`, of at most [`VALUES_MAX`] values.
pub fn decode(input: &[u8]) -> Result<Value, JsonFault> {
    // PHP allows UTF-8 in strings only, and elsewhere any other byte is a fault too: one look suffices.
    let text = std::str::from_utf8(input).map_err(|fault| JsonFault::Syntax { at: fault.valid_up_to() })?;
    Parser { text, at: 0, values: 0, open: Vec::new() }.document()
}

/// An array or object being read; `key` is the one whose value comes next, `None` in a list.
struct Open {
    array: ArrayBuilder,
    key: Option<ArrayKey>,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// Begun so far.
    values: usize,
    open: Vec<Open>,
}

impl Parser<'_> {
    fn syntax<T>(&self) -> Result<T, JsonFault> {
        Err(JsonFault::Syntax { at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Consumes the byte if it comes next.
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn document(mut self) -> Result<Value, JsonFault> {
        loop {
            self.skip_space();
            let Some(value) = self.begin_value()? else { continue };
            let Some(value) = self.end_value(value)? else { continue };
            self.skip_space();
            return if self.at == self.text.len() { Ok(value) } else { self.syntax() };
        }
    }

    /// A whole scalar or empty array; `None` where an array was opened and its first value comes next.
    fn begin_value(&mut self) -> Result<Option<Value>, JsonFault> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(JsonFault::TooMany);
        }
        let close = match self.peek() {
            Some(b'[') => b']',
            Some(b'{') => b'}',
            _ => return self.scalar().map(Some),
        };
        self.at += 1;
        // PHP counts the scalar inside as a level, so one array less than the limit is allowed.
        if self.open.len() + 1 == DEPTH_MAX {
            return Err(JsonFault::TooDeep);
        }
        self.skip_space();
        if self.eat(close) {
            return Ok(Some(Value::Array(Vec::new())));
        }
        let key = if close == b'}' { Some(self.key()?) } else { None };
        self.open.push(Open { array: ArrayBuilder::new(), key });
        Ok(None)
    }

    /// Puts a value where it belongs and closes what it completes; `None` where another value comes next.
    fn end_value(&mut self, mut value: Value) -> Result<Option<Value>, JsonFault> {
        while let Some(Open { mut array, key }) = self.open.pop() {
            let object = key.is_some();
            match key {
                Some(key) => array.insert(key, value),
                None => array.push(value),
            }
            self.skip_space();
            if self.eat(b',') {
                self.skip_space();
                let key = if object { Some(self.key()?) } else { None };
                self.open.push(Open { array, key });
                return Ok(None);
            }
            if !self.eat(if object { b'}' } else { b']' }) {
                return self.syntax();
            }
            value = array.finish();
        }
        Ok(Some(value))
    }

    fn key(&mut self) -> Result<ArrayKey, JsonFault> {
        if self.peek() != Some(b'"') {
            return self.syntax();
        }
        let key = ArrayKey::from_bytes(self.string()?);
        self.skip_space();
        if self.eat(b':') { Ok(key) } else { self.syntax() }
    }

    fn scalar(&mut self) -> Result<Value, JsonFault> {
        match self.peek() {
            Some(b'"') => return self.string().map(Value::Bytes),
            Some(b'-' | b'0'..=b'9') => return self.number(),
            _ => {}
        }
        for (word, value) in [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))] {
            if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(value);
            }
        }
        self.syntax()
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), JsonFault> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.syntax() } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Value, JsonFault> {
        let start = self.at;
        self.eat(b'-');
        // A digit after a leading zero is left over, and so a fault.
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _sign = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        // Fractions, exponents and what is beyond 64 bits are floats.
        if let Ok(int) = text.parse() {
            return Ok(Value::Int(int));
        }
        text.parse().map(Value::Float).or_else(|_| self.syntax())
    }

    fn string(&mut self) -> Result<Vec<u8>, JsonFault> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = rest.iter().take_while(|&&b| b >= b' ' && b != b'"' && b != b'\\').count();
            out.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => self.escape(&mut out)?,
                _ => return self.syntax(),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), JsonFault> {
        let start = self.at;
        self.at += 1;
        let byte = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let first = self.unit()?;
                let is_first_half = (0xd800..0xdc00).contains(&first);
                let pair = is_first_half && self.text.as_bytes()[self.at..].starts_with(b"\\u");
                let char = if pair {
                    self.at += 1;
                    char::decode_utf16([first, self.unit()?]).next()
                } else {
                    char::decode_utf16([first]).next()
                };
                let Some(Ok(char)) = char else { return Err(JsonFault::LoneSurrogate { at: start }) };
                out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return self.syntax(),
        };
        self.at += 1;
        out.push(byte);
        Ok(())
    }

    /// `u` and four hexadecimal digits.
    fn unit(&mut self) -> Result<u16, JsonFault> {
        self.at += 1;
        let mut unit = 0u16;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(16)) else { return self.syntax() };
            unit = unit << 4 | digit as u16;
            self.at += 1;
        }
        Ok(unit)
    }
}

#[cfg(test)]
mod tests;
