//! The path a store is mounted at: `/echoseen/v1/`.

use std::{fmt, str::FromStr};

/// A path that begins and ends with a slash and needs no escaping. Valid by construction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BaseUri(String);

/// The text is no base URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no base URI: {why}; use a path like /echoseen/v1/")]
pub struct BaseUriFault {
    pub text: String,
    pub why: &'static str,
}

/// Paths that the listener answers itself.
const TAKEN: [&str; 3] = ["/healthz/", "/metrics/", "/openapi/"];
/// Longer ones leave no room for a key in a request line.
const BYTES_MAX: usize = 1024;

impl BaseUri {
    /// Adds a missing first or last slash, as Kask does.
    ///
    /// # Errors
    /// Empty or `/` alone, an empty, `.` or `..` segment, a character that a URL path would escape, more than 1024 bytes, or one of
    /// `/healthz`, `/metrics` and `/openapi`.
    pub fn new(text: &str) -> Result<BaseUri, BaseUriFault> {
        let fault = |why| Err(BaseUriFault { text: text.chars().take(BYTES_MAX).collect(), why });
        let inner = text.strip_prefix('/').unwrap_or(text);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        if inner.is_empty() {
            return fault("it has no segment");
        }
        if inner.len() > BYTES_MAX {
            return fault("it is longer than 1024 bytes");
        }
        if let Some(segment) = inner.split('/').find(|s| matches!(*s, "" | "." | "..")) {
            return fault(if segment.is_empty() { "it has an empty segment" } else { "it has a segment of dots" });
        }
        if !inner.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~:@+$".contains(&b)) {
            return fault("it holds a character that does not belong into a path");
        }
        let whole = format!("/{inner}/");
        if TAKEN.contains(&whole.as_str()) {
            return fault("decant answers there itself");
        }
        Ok(BaseUri(whole))
    }

    /// With both slashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without the last slash.
    pub(super) fn without_slash(&self) -> &str {
        self.0.trim_end_matches('/')
    }
}

impl fmt::Display for BaseUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for BaseUri {
    type Err = BaseUriFault;
    fn from_str(text: &str) -> Result<BaseUri, BaseUriFault> {
        BaseUri::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_slashes_are_added() {
        for text in ["echoseen/v1", "/echoseen/v1", "echoseen/v1/", "/echoseen/v1/"] {
            assert_eq!(BaseUri::new(text).unwrap().as_str(), "/echoseen/v1/");
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        let long = "a".repeat(1025);
        for (text, why) in [
            ("", "no segment"),
            ("/", "no segment"),
            ("//", "no segment"),
            ("/a//b/", "empty segment"),
            ("///", "empty segment"),
            ("/a/../b/", "segment of dots"),
            ("/a b/", "does not belong"),
            ("/a%20b/", "does not belong"),
            ("/a?b/", "does not belong"),
            ("/metrics", "answers there itself"),
            (long.as_str(), "longer than 1024"),
        ] {
            let fault = BaseUri::new(text).unwrap_err();
            assert!(fault.to_string().contains(why), "{text}: {fault}");
        }
    }
}
