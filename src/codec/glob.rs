//! Redis's glob patterns, matched here: as `SCAN … MATCH` does it, on the key as clients know it. Pure.
//!
//! Matching here and not in Redis lets a walk count what it passes by, and leaves Redis less to do; and a rule of a fence means the same
//! keys to every decant.

/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1_024;

/// The text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobFault {
    #[error("the pattern is empty: it would fit no key; leave it out, or write *")]
    Empty,
    #[error("the pattern is longer than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
}

/// `*` any bytes, `?` one byte, `[abc]` `[a-z]` `[^abc]` one of a class, `\` takes the next byte as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Any,
    One,
    Byte(u8),
    Class { not: bool, ranges: Vec<(u8, u8)> },
}

impl Glob {
    /// # Errors
    /// What is wrong with the pattern.
    pub fn new(text: &str) -> Result<Glob, GlobFault> {
        match text.len() {
            0 => Err(GlobFault::Empty),
            1..=PATTERN_BYTES_MAX => Ok(Glob { text: text.to_owned(), pieces: pieces(text.as_bytes()) }),
            _ => Err(GlobFault::TooLong),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the whole key fits. Takes at most (bytes of key) x (pieces) steps: no pattern makes it slow.
    pub fn fits(&self, key: &[u8]) -> bool {
        let (mut at, mut piece) = (0, 0);
        // Where the last `*` stands, and how far it reaches.
        let mut star: Option<(usize, usize)> = None;
        while at < key.len() {
            match self.pieces.get(piece) {
                Some(Piece::Any) => {
                    star = Some((piece, at));
                    piece += 1;
                }
                Some(one) if one.fits(key[at]) => {
                    at += 1;
                    piece += 1;
                }
                _ => {
                    // The last `*` takes one byte more; those before it need not change.
                    let Some((stands, reaches)) = star else { return false };
                    star = Some((stands, reaches + 1));
                    at = reaches + 1;
                    piece = stands + 1;
                }
            }
        }
        self.pieces[piece..].iter().all(|rest| *rest == Piece::Any)
    }
}

impl Piece {
    fn fits(&self, byte: u8) -> bool {
        match self {
            Piece::Any => false,
            Piece::One => true,
            Piece::Byte(wanted) => *wanted == byte,
            Piece::Class { not, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *not,
        }
    }
}

fn pieces(text: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        pieces.push(match (byte, after.split_first()) {
            (b'*', _) => Piece::Any,
            (b'?', _) => Piece::One,
            (b'\\', Some((&taken, after))) => {
                rest = after;
                Piece::Byte(taken)
            }
            (b'[', _) => {
                let (class, after) = class(after);
                rest = after;
                class
            }
            _ => Piece::Byte(byte),
        });
    }
    pieces
}

/// What stands behind a `[`. As Redis has it: a class that is not closed ends with the pattern.
fn class(text: &[u8]) -> (Piece, &[u8]) {
    let (not, mut rest) = text.strip_prefix(b"^").map_or((false, text), |rest| (true, rest));
    let mut ranges = Vec::new();
    loop {
        rest = match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', taken, after @ ..] => {
                ranges.push((*taken, *taken));
                after
            }
            [low, b'-', high, after @ ..] => {
                ranges.push((*low.min(high), *low.max(high)));
                after
            }
            [byte, after @ ..] => {
                ranges.push((*byte, *byte));
                after
            }
        }
    }
    (Piece::Class { not, ranges }, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_keys() {
        for (pattern, key, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*:echo:seen:*", "enwiki:echo:seen:alert:time:7", true),
            ("*:echo:seen:*", "enwiki:echo:unseen:7", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*ab*ab", "abaabab", true),
            ("*ab*ab", "abaaba", false),
            ("[a-c]x[^0-9]", "bxz", true),
            ("[a-c]x[^0-9]", "bx5", false),
            ("[c-a]", "b", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            (r"[\]]", "]", true),
            ("[abc", "b", true),
            ("a[", "a[", false),
            ("", "x", false),
        ] {
            assert_eq!(Glob::new(pattern).is_ok_and(|glob| glob.fits(key.as_bytes())), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn a_pattern_has_a_length() {
        assert_eq!(Glob::new(""), Err(GlobFault::Empty));
        assert_eq!(Glob::new(&"x".repeat(PATTERN_BYTES_MAX + 1)), Err(GlobFault::TooLong));
        assert!(Glob::new(&"x".repeat(PATTERN_BYTES_MAX)).is_ok());
    }

    #[test]
    fn many_stars_are_not_slow() {
        let glob = Glob::new(&"*a".repeat(500)).unwrap();
        assert!(!glob.fits("a".repeat(499).as_bytes()));
        assert!(!glob.fits(&[b"a".repeat(60_000), b"b".to_vec()].concat()));
    }
}
