//! The file layer: TOML, with the line of every key.
//!
//! Parsed once, by a parser that keeps spans and goes on after an error; figment's own reader does neither.

use super::fault::{Fault, Place};
use figment::value::{Dict, Value};
use std::{collections::BTreeMap, fs, io::Read as _, path::Path};
use toml::de::{DeTable, DeValue};

/// The largest configuration file read, in bytes: anything larger is another file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A file that was read.
#[derive(Debug, Default)]
pub(super) struct FileLayer {
    pub dict: Dict,
    /// Key path -> line, counted from 1; for a table, the line of its first header.
    pub lines: BTreeMap<String, usize>,
}

/// Reads and parses `path`. `Err`: it cannot be read, or its syntax is wrong (all errors, each with its line).
pub(super) fn read(path: &Path) -> Result<FileLayer, Vec<Fault>> {
    let name = path.display().to_string();
    let fault = |line, what, todo: &str| Fault {
        place: Place::File { name: name.clone(), line },
        key: String::new(),
        what,
        todo: todo.to_owned(),
    };
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(|error| {
        vec![fault(
            None,
            format!("cannot be read: {error}"),
            "name a file that this user may read with --config, or take proxy.toml of the distribution as a start",
        )]
    })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(vec![fault(None, format!("is larger than {FILE_BYTES_MAX} bytes"), "name the configuration file")]);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
        vec![fault(Some(line), "is not UTF-8 from here on".to_owned(), "save the file as UTF-8")]
    })?;
    parse(&text).map_err(|errors| {
        errors
            .into_iter()
            .map(|(line, message)| {
                fault(Some(line), format!("is not TOML: {message}"), "mend the syntax; then the rest can be checked")
            })
            .collect()
    })
}

/// `Err`: (line, message) of every syntax error.
pub(super) fn parse(text: &str) -> Result<FileLayer, Vec<(usize, String)>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let place = |error: &toml::de::Error| error.span().map_or(1, |span| line_of(text.as_bytes(), span.start));
        return Err(errors.iter().map(|error| (place(error), error.message().replace('\n', "; "))).collect());
    }
    let mut layer = FileLayer::default();
    layer.dict = dict_of(text, table.get_ref(), "", &mut layer.lines);
    Ok(layer)
}

fn dict_of(text: &str, table: &DeTable<'_>, prefix: &str, lines: &mut BTreeMap<String, usize>) -> Dict {
    let mut dict = Dict::new();
    for (key, value) in table.iter() {
        let path = join(prefix, key.get_ref());
        lines.insert(path.clone(), line_of(text.as_bytes(), key.span().start));
        dict.insert(key.get_ref().to_string(), value_of(text, value.get_ref(), &path, lines));
    }
    dict
}

fn value_of(text: &str, value: &DeValue<'_>, path: &str, lines: &mut BTreeMap<String, usize>) -> Value {
    match value {
        DeValue::String(string) => Value::from(string.as_ref()),
        DeValue::Boolean(boolean) => Value::from(*boolean),
        // Numbers that do not fit stay text; the schema then says what was wanted.
        DeValue::Integer(integer) => match i128::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(integer.as_str()),
        },
        DeValue::Float(float) => match float.as_str().parse::<f64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(float.as_str()),
        },
        DeValue::Datetime(datetime) => Value::from(datetime.to_string()),
        DeValue::Array(array) => {
            Value::from(array.iter().map(|item| value_of(text, item.get_ref(), path, lines)).collect::<Vec<_>>())
        }
        DeValue::Table(table) => Value::from(dict_of(text, table, path, lines)),
    }
}

/// The whole path of a key as it is written in TOML.
pub(super) fn dotted(path: &[String]) -> String {
    path.iter().fold(String::new(), |prefix, name| join(&prefix, name))
}

/// The path of a key as it is written in TOML.
pub(super) fn join(prefix: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if prefix.is_empty() { key } else { format!("{prefix}.{key}") }
}

fn line_of(text: &[u8], offset: usize) -> usize {
    1 + text.iter().take(offset).filter(|byte| **byte == b'\n').count()
}
