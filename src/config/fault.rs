//! What is wrong with a configuration: where, what, and what to do.

use std::fmt::{self, Write as _};

/// Where a value came from. The order is the order of the report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file, and the line in it where that can be told (counted from 1).
    File { name: String, line: Option<usize> },
    /// An environment variable, by its full name.
    Environment(String),
    /// A flag of the command line, with its dashes.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { name, line: Some(line) } => write!(f, "{name}:{line}"),
            Place::File { name, line: None } => f.write_str(name),
            Place::Environment(name) => write!(f, "environment {name}"),
            Place::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One fault. No field ever holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    /// The path of the key, such as `stash.echoseen.kask.timeout_ms`; empty where the whole source is at fault.
    pub key: String,
    pub what: String,
    pub todo: String,
}

/// Not wrong, but worth a word: the configuration is used all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub place: Place,
    pub key: String,
    pub what: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.key, self.what)
    }
}

/// Every fault of a configuration, at least one. `Display` is the full report, in the order of the places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFaults(Vec<Fault>);

impl ConfigFaults {
    /// `faults` must not be empty.
    pub(super) fn new(mut faults: Vec<Fault>) -> ConfigFaults {
        debug_assert!(!faults.is_empty());
        faults.sort_by(|a, b| a.place.cmp(&b.place).then_with(|| a.key.cmp(&b.key)));
        faults.dedup();
        ConfigFaults(faults)
    }

    pub fn faults(&self) -> &[Fault] {
        &self.0
    }
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} fault{}", if count == 1 { "" } else { "s" })?;
        for fault in &self.0 {
            let mut head = fault.place.to_string();
            if !fault.key.is_empty() {
                write!(head, ": {}", fault.key)?;
            }
            write!(f, "\n\n{head}\n    {}\n    -> {}", fault.what, fault.todo)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}
