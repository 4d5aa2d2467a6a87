//! The path that a store is mounted at, such as `/echoseen/v1/`.

use std::{fmt, str::FromStr};

/// Paths of the data listener itself: no stash may be served under them.
const RESERVED: [&str; 3] = ["healthz", "metrics", "openapi"];

/// Longer ones leave no room for a key in a request line.
const BYTES_MAX: usize = 1024;

/// A normalised path such as `/echoseen/v1/`: begins and ends with `/`, at least one segment, nothing in it needs
/// percent-encoding.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BaseUri(String);

/// The text is no base URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUriFault {
    #[error("it is longer than {BYTES_MAX} bytes")]
    TooLong,
    #[error("\"{0}\" is the root, which would swallow /healthz, /metrics and /openapi")]
    Root(String),
    #[error("\"{0}\" has an empty, \".\" or \"..\" segment")]
    Segment(String),
    #[error("\"{0}\" has a character other than A-Z a-z 0-9 - . _ ~ and \"/\"")]
    Character(String),
    #[error("\"{0}\" is under a path of the listener itself ({1})")]
    Reserved(String, &'static str),
}

impl BaseUri {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without the last slash.
    pub fn without_slash(&self) -> &str {
        self.0.trim_end_matches('/')
    }

    /// Whether a request for one could be meant for the other: they are equal, or one is under the other.
    pub fn overlaps(&self, other: &BaseUri) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }
}

impl fmt::Display for BaseUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for BaseUri {
    type Err = BaseUriFault;

    /// Adds a missing first or last slash, as Kask does; corrects nothing else.
    fn from_str(text: &str) -> Result<BaseUri, BaseUriFault> {
        if text.len() > BYTES_MAX {
            return Err(BaseUriFault::TooLong);
        }
        let rest = text.strip_prefix('/').unwrap_or(text);
        let inner = rest.strip_suffix('/').unwrap_or(rest);
        if inner.is_empty() {
            return Err(BaseUriFault::Root(text.to_owned()));
        }
        if inner.bytes().any(|b| !(b.is_ascii_alphanumeric() || b"-._~/".contains(&b))) {
            return Err(BaseUriFault::Character(text.to_owned()));
        }
        if inner.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(BaseUriFault::Segment(text.to_owned()));
        }
        let first = inner.split('/').next().unwrap_or_default();
        if let Some(reserved) = RESERVED.into_iter().find(|reserved| *reserved == first) {
            return Err(BaseUriFault::Reserved(text.to_owned(), reserved));
        }
        Ok(BaseUri(format!("/{inner}/")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_normalised() {
        for text in ["/echoseen/v1/", "/echoseen/v1", "echoseen/v1/", "echoseen/v1"] {
            assert_eq!(text.parse::<BaseUri>().unwrap().as_str(), "/echoseen/v1/");
        }
    }

    #[test]
    fn refuses_what_no_request_could_match_or_every_request_would() {
        for text in ["", "/", "//", "/a//b/", "/a/../b", "/./", "/a b/", "/a%20b/", "/é/", "/a?b", "/metrics/"] {
            assert!(text.parse::<BaseUri>().is_err(), "{text:?} was taken");
        }
        assert_eq!("/a".repeat(513).parse::<BaseUri>(), Err(BaseUriFault::TooLong));
    }

    #[test]
    fn overlap_is_by_segment() {
        let uri = |text: &str| text.parse::<BaseUri>().unwrap();
        assert!(
            uri("/a/").overlaps(&uri("/a/b/")) && uri("/a/b/").overlaps(&uri("/a/")) && uri("/a").overlaps(&uri("/a/"))
        );
        assert!(!uri("/a/").overlaps(&uri("/ab/")));
    }
}
