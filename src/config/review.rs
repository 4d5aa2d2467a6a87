//! What the checks share: where each key stands, which are already known to be faulty, and the faults so far.

use super::environment;
use super::fault::{Fault, Place, Warning};
use figment::{Figment, value::Value};
use std::collections::{BTreeMap, BTreeSet};

/// Names of figment's layers, by which a value's layer is told.
pub(super) const ENVIRONMENT: &str = "environment";
pub(super) const FLAGS: &str = "flags";

/// A review of one configuration.
pub(super) struct Review {
    figment: Figment,
    file: String,
    lines: BTreeMap<String, usize>,
    flags: BTreeMap<String, String>,
    places: BTreeMap<String, Place>,
    faulty: BTreeSet<String>,
    pub faults: Vec<Fault>,
    pub warnings: Vec<Warning>,
}

impl Review {
    /// `lines`: key path -> line in `file`; `flags`: key path -> flag that set it.
    pub fn new(
        figment: Figment,
        file: String,
        lines: BTreeMap<String, usize>,
        flags: BTreeMap<String, String>,
        faults: Vec<Fault>,
    ) -> Review {
        let (places, faulty, warnings) = Default::default();
        Review { figment, file, lines, flags, places, faulty, faults, warnings }
    }

    /// Where a value of the merged layers came from.
    pub fn place_of_value(&self, path: &[String], value: &Value) -> Place {
        let key = super::file::dotted(path);
        let layer = self.figment.get_metadata(value.tag()).map(|metadata| metadata.name.as_ref());
        match layer {
            // An empty table is known by its content alone; a value always has its layer's tag.
            Some(ENVIRONMENT) => match environment::variable_of(&key) {
                Some(variable) => Place::Environment(variable),
                None => Place::Environment(format!("{}{key}", environment::PREFIX)),
            },
            Some(FLAGS) => Place::Flag(self.flags.get(&key).cloned().unwrap_or(key)),
            _ => self.in_file(&key),
        }
    }

    /// Where a key stands or, where it is left out, the nearest table around it.
    pub fn place(&self, key: &str) -> Place {
        self.places.get(key).cloned().unwrap_or_else(|| self.in_file(key))
    }

    /// Whether a sound value of this key was found.
    pub fn place_known(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    fn in_file(&self, key: &str) -> Place {
        let mut around = key;
        loop {
            if let Some(line) = self.lines.get(around) {
                return Place::File { name: self.file.clone(), line: Some(*line) };
            }
            match around.rsplit_once('.') {
                Some((table, _)) => around = table,
                None => return Place::File { name: self.file.clone(), line: None },
            }
        }
    }

    /// Remembers where a sound key stands.
    pub fn seen(&mut self, key: &str, place: Place) {
        self.places.insert(key.to_owned(), place);
    }

    /// Remembers that a key was refused, so that nobody reports it as missing too.
    pub fn faulty(&mut self, key: &str) {
        self.faulty.insert(key.to_owned());
    }

    /// Whether the key, or the table it would stand in, was already refused.
    pub fn is_faulty(&self, key: &str) -> bool {
        let ends = key.match_indices('.').map(|(end, _)| end).chain([key.len()]);
        ends.into_iter().any(|end| key.get(..end).is_some_and(|part| self.faulty.contains(part)))
    }

    pub fn push(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Adds a fault of `key`, where it stands.
    pub fn fault(&mut self, key: &str, what: impl Into<String>, todo: impl Into<String>) {
        let place = self.place(key);
        self.push(Fault { place, key: key.to_owned(), what: what.into(), todo: todo.into() });
    }

    pub fn warn(&mut self, key: &str, what: impl Into<String>) {
        let warning = Warning { place: self.place(key), key: key.to_owned(), what: what.into() };
        // Several shards can share one key.
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The value of a required key; a fault if it is left out (and was not refused already).
    pub fn required<T>(&mut self, key: &str, value: Option<T>, todo: &str) -> Option<T> {
        if value.is_none() && !self.is_faulty(key) {
            self.fault(key, "is missing", todo);
        }
        value
    }
}
