//! PHP's serialization format, token by token, accepting exactly what PHP 8.2's unserialize accepts.

use super::PhpFault;
use std::borrow::Cow;

/// One value's beginning. Containers are followed by `entries` pairs of key and value and a [`Lexer::close`].
#[derive(Debug, PartialEq)]
pub(super) enum Token<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Bytes(Cow<'a, [u8]>),
    Array {
        entries: usize,
    },
    Object {
        class: &'a [u8],
        entries: usize,
    },
    /// `C:` (class with its own format) or `E:` (enum case): opaque, consumed whole.
    Opaque,
    /// `r:` (the same object again): the number of the value meant, counted from 1.
    SameObject {
        slot: usize,
    },
    /// `R:` (a PHP reference): likewise.
    Reference {
        slot: usize,
    },
}

/// An array's or object's key.
#[derive(Debug, PartialEq)]
pub(super) enum KeyToken<'a> {
    Int(i64),
    Bytes(Cow<'a, [u8]>),
}

/// Reads one input from its start. No length in it is trusted before the bytes are there.
pub(super) struct Lexer<'a> {
    input: &'a [u8],
    /// Bytes consumed so far.
    pub at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(input: &'a [u8]) -> Lexer<'a> {
        Lexer { input, at: 0 }
    }

    fn peek(&self) -> Result<u8, PhpFault> {
        self.input.get(self.at).copied().ok_or(PhpFault::Truncated)
    }

    fn malformed<T>(&self) -> Result<T, PhpFault> {
        Err(PhpFault::Malformed { at: self.at })
    }

    fn expect(&mut self, text: &[u8]) -> Result<(), PhpFault> {
        for &byte in text {
            if self.peek()? != byte {
                return self.malformed();
            }
            self.at += 1;
        }
        Ok(())
    }

    pub fn value(&mut self) -> Result<Token<'a>, PhpFault> {
        let kind = self.peek()?;
        self.at += 1;
        match kind {
            b'N' => self.expect(b";").map(|()| Token::Null),
            b'b' => self.bool(),
            b'i' => Ok(Token::Int(self.int()?)),
            b'd' => Ok(Token::Float(self.float()?)),
            b's' => Ok(Token::Bytes(Cow::Borrowed(self.string()?))),
            b'S' => Ok(Token::Bytes(Cow::Owned(self.escaped_string()?))),
            b'a' => self.array(),
            b'O' => self.object(),
            b'C' => self.custom(),
            b'E' => self.enum_case(),
            b'r' => Ok(Token::SameObject { slot: self.slot()? }),
            b'R' => Ok(Token::Reference { slot: self.slot()? }),
            _ => {
                self.at -= 1;
                self.malformed()
            }
        }
    }

    /// A key: an integer or a string, nothing else.
    pub fn key(&mut self) -> Result<KeyToken<'a>, PhpFault> {
        match self.peek()? {
            b'i' => {
                self.at += 1;
                Ok(KeyToken::Int(self.int()?))
            }
            b's' | b'S' => match self.value()? {
                Token::Bytes(bytes) => Ok(KeyToken::Bytes(bytes)),
                _ => self.malformed(),
            },
            _ => self.malformed(),
        }
    }

    /// The end of a container.
    pub fn close(&mut self) -> Result<(), PhpFault> {
        self.expect(b"}")
    }

    fn bool(&mut self) -> Result<Token<'a>, PhpFault> {
        self.expect(b":")?;
        let digit = self.peek()?;
        if !matches!(digit, b'0' | b'1') {
            return self.malformed();
        }
        self.at += 1;
        self.expect(b";").map(|()| Token::Bool(digit == b'1'))
    }

    fn int(&mut self) -> Result<i64, PhpFault> {
        self.expect(b":")?;
        let start = self.at;
        self.sign();
        if self.digits() == 0 {
            self.peek()?;
            return self.malformed();
        }
        let int = clamped_int(&self.input[start..self.at]);
        self.expect(b";").map(|()| int)
    }

    fn sign(&mut self) {
        if matches!(self.peek(), Ok(b'+' | b'-')) {
            self.at += 1;
        }
    }

    /// Consumes digits; answers how many.
    fn digits(&mut self) -> usize {
        let count = self.input[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn float(&mut self) -> Result<f64, PhpFault> {
        self.expect(b":")?;
        for (text, float) in
            [(&b"NAN;"[..], f64::NAN), (&b"INF;"[..], f64::INFINITY), (&b"-INF;"[..], f64::NEG_INFINITY)]
        {
            let rest = &self.input[self.at..];
            if rest.starts_with(text) {
                self.at += text.len();
                return Ok(float);
            }
            if !rest.is_empty() && rest != b"-" && text.starts_with(rest) {
                return Err(PhpFault::Truncated);
            }
        }
        let start = self.at;
        self.sign();
        let mut digits = self.digits();
        if matches!(self.peek(), Ok(b'.')) {
            self.at += 1;
            digits += self.digits();
        }
        if digits == 0 {
            self.peek()?;
            return self.malformed();
        }
        if matches!(self.peek(), Ok(b'e' | b'E')) {
            self.at += 1;
            self.sign();
            if self.digits() == 0 {
                self.peek()?;
                return self.malformed();
            }
        }
        let text = std::str::from_utf8(&self.input[start..self.at]).unwrap_or_default();
        let Ok(float) = text.parse() else { return self.malformed() };
        self.expect(b";").map(|()| float)
    }

    /// `:len` as PHP reads an unsigned number: it wraps, so a silly length becomes a small one or one that is not there.
    fn length(&mut self) -> Result<usize, PhpFault> {
        self.expect(b":")?;
        let start = self.at;
        if self.digits() == 0 {
            self.peek()?;
            return self.malformed();
        }
        let digits = &self.input[start..self.at];
        Ok(digits.iter().fold(0usize, |n, d| n.wrapping_mul(10).wrapping_add(usize::from(d - b'0'))))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], PhpFault> {
        let end = self.at.checked_add(len).ok_or(PhpFault::Truncated)?;
        let bytes = self.input.get(self.at..end).ok_or(PhpFault::Truncated)?;
        self.at = end;
        Ok(bytes)
    }

    fn string(&mut self) -> Result<&'a [u8], PhpFault> {
        let len = self.length()?;
        self.expect(b":\"")?;
        let bytes = self.take(len)?;
        self.expect(b"\";").map(|()| bytes)
    }

    /// `S:`: as `s:`, with `\xx` for any byte; the length counts the bytes meant.
    fn escaped_string(&mut self) -> Result<Vec<u8>, PhpFault> {
        let len = self.length()?;
        self.expect(b":\"")?;
        if len > self.input.len() - self.at {
            return Err(PhpFault::Truncated);
        }
        let mut bytes = Vec::with_capacity(len);
        for _ in 0..len {
            let byte = self.peek()?;
            self.at += 1;
            if byte != b'\\' {
                bytes.push(byte);
                continue;
            }
            let mut escaped = 0;
            for _ in 0..2 {
                let Some(digit) = char::from(self.peek()?).to_digit(16) else { return self.malformed() };
                escaped = escaped << 4 | digit as u8;
                self.at += 1;
            }
            bytes.push(escaped);
        }
        self.expect(b"\";").map(|()| bytes)
    }

    fn array(&mut self) -> Result<Token<'a>, PhpFault> {
        self.expect(b":")?;
        let start = self.at;
        if self.digits() == 0 {
            self.peek()?;
            return self.malformed();
        }
        let entries = clamped_int(&self.input[start..self.at]);
        self.expect(b":{")?;
        Ok(Token::Array { entries: self.entries(entries)? })
    }

    /// Nothing is allocated for a count: a wrong one meets the end of the input, or a brace, soon enough.
    fn entries(&self, entries: i64) -> Result<usize, PhpFault> {
        usize::try_from(entries).or_else(|_| self.malformed())
    }

    /// `:len:"Class":`, for `O` and `C`.
    fn class(&mut self) -> Result<&'a [u8], PhpFault> {
        let len = self.length()?;
        self.expect(b":\"")?;
        let class = self.take(len)?;
        let valid = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'\\' | 0x80..);
        if class.is_empty() || class[0] == b'\\' || !class.iter().all(valid) {
            return self.malformed();
        }
        self.expect(b"\":").map(|()| class)
    }

    /// A number that PHP reads without checking that it is one: `O:1:"A"::{}` counts 0.
    fn loose_int(&mut self) -> i64 {
        let start = self.at;
        self.sign();
        self.digits();
        clamped_int(&self.input[start..self.at])
    }

    fn object(&mut self) -> Result<Token<'a>, PhpFault> {
        let class = self.class()?;
        let entries = self.loose_int();
        self.expect(b":{")?;
        Ok(Token::Object { class, entries: self.entries(entries)? })
    }

    fn custom(&mut self) -> Result<Token<'a>, PhpFault> {
        self.class()?;
        let len = self.loose_int();
        self.expect(b":{")?;
        let Ok(len) = usize::try_from(len) else { return self.malformed() };
        self.take(len)?;
        self.close().map(|()| Token::Opaque)
    }

    fn enum_case(&mut self) -> Result<Token<'a>, PhpFault> {
        let name = self.string()?;
        if name.iter().position(|&b| b == b':').is_none_or(|colon| colon == 0) {
            return self.malformed();
        }
        Ok(Token::Opaque)
    }

    fn slot(&mut self) -> Result<usize, PhpFault> {
        let slot = self.length()?;
        self.expect(b";").map(|()| slot)
    }
}

/// An integer as PHP's parse_iv reads it: what is out of range becomes the nearest i64. No digits at all are 0.
fn clamped_int(text: &[u8]) -> i64 {
    let negative = text.first() == Some(&b'-');
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let bound = if negative { i64::MIN } else { i64::MAX };
    // Counted downwards, where i64 has one number more.
    let minus = digits.iter().try_fold(0i64, |n, d| n.checked_mul(10)?.checked_sub(i64::from(d - b'0')));
    match minus {
        Some(minus) if negative => minus,
        Some(minus) => minus.checked_neg().unwrap_or(bound),
        None => bound,
    }
}
