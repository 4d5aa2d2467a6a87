//! The environment layer: which variables are configuration, and what they are called in the file.
//!
//! `DECANT_STASH__ECHOSEEN__REDIS__URL` is `stash.echoseen.redis.url`: `__` descends, letters become small. A variable
//! without `__` is a top-level key (`DECANT_LISTEN`), or one of [`RESERVED`], which are not configuration:
//! `DECANT_ADMIN` is where the command line finds the admin listener, while `DECANT_ADMIN__LISTEN` is `admin.listen`.

use super::fault::{Fault, Place};
use figment::value::{Dict, Value};
use std::ffi::OsString;

/// What every variable begins with.
pub const PREFIX: &str = "DECANT_";

/// Variables that belong to the command line, not to the configuration:
/// the admin listener's URL and the token for it, the configuration file, and filter directives that override `log.level`.
pub const RESERVED: [&str; 4] = ["DECANT_ADMIN", "DECANT_ADMIN_TOKEN", "DECANT_CONFIG", "DECANT_LOG"];

/// Variables for test programs begin with this; decant does not look at them.
const TESTS: &str = "DECANT_TEST_";

/// More than any key has: the layers are walked by recursion.
const DEPTH_MAX: usize = 8;
const NAME_CHARS_SHOWN: usize = 60;

/// Picks the configuration out of `variables`. Values stay text: the schema knows what they should be.
pub(super) fn collect(variables: Vec<(OsString, OsString)>) -> (Dict, Vec<Fault>) {
    let mut dict = Dict::new();
    let mut faults = Vec::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if RESERVED.contains(&name.as_str()) || name.starts_with(TESTS) || is_service_link(rest) {
            continue;
        }
        let Ok(value) = value.into_string() else {
            faults.push(fault(&name, "is not UTF-8", "set it to text"));
            continue;
        };
        let segments: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        if segments.len() > DEPTH_MAX {
            let start: String = name.chars().take(NAME_CHARS_SHOWN).collect();
            faults.push(fault(&format!("{start}…"), "descends deeper than any key does", "unset it"));
            continue;
        }
        if segments.iter().any(String::is_empty) {
            faults.push(fault(&name, "has an empty part between the \"__\"", "write it as DECANT_TABLE__KEY"));
            continue;
        }
        if !insert(&mut dict, &segments, value) {
            faults.push(fault(
                &name,
                "is both a key and a table that other variables set keys of",
                "unset one of them",
            ));
        }
    }
    (dict, faults)
}

/// The variable that sets a key; `None` where a part of the key cannot be written in one.
pub(super) fn variable_of(path: &str) -> Option<String> {
    let plain = path.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.');
    plain.then(|| format!("{PREFIX}{}", path.replace('.', "__").to_ascii_uppercase()))
}

fn fault(name: &str, what: &str, todo: &str) -> Fault {
    Fault {
        place: Place::Environment(name.to_owned()),
        key: String::new(),
        what: what.to_owned(),
        todo: todo.to_owned(),
    }
}

/// Kubernetes gives every pod variables for each service of its namespace; for one that is called `decant` or
/// `decant-admin` they begin as ours do, and must not stop decant from starting.
fn is_service_link(rest: &str) -> bool {
    let port = |part: &str| part == "PORT" || part.ends_with("_PORT");
    let with_number = rest.split("PORT_").nth(1).is_some_and(|tail| tail.starts_with(|c: char| c.is_ascii_digit()));
    !rest.contains("__")
        && (rest.contains("SERVICE_HOST") || rest.contains("SERVICE_PORT") || port(rest) || with_number)
}

/// False where the path leads through a value, or ends at a table.
fn insert(dict: &mut Dict, segments: &[String], value: String) -> bool {
    let Some((first, rest)) = segments.split_first() else { return false };
    if rest.is_empty() {
        return match dict.contains_key(first) {
            true => false,
            false => dict.insert(first.clone(), Value::from(value)).is_none(),
        };
    }
    match dict.entry(first.clone()).or_insert_with(|| Value::from(Dict::new())) {
        Value::Dict(_, inner) => insert(inner, rest, value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(pairs: &[(&str, &str)]) -> (Dict, Vec<Fault>) {
        collect(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn descends_and_leaves_what_is_not_ours() {
        let (dict, faults) = collected(&[
            ("DECANT_ADMIN", "http://127.0.0.1:9081"),
            ("DECANT_ADMIN_TOKEN", "x"),
            ("DECANT_ADMIN__LISTEN", "127.0.0.1:1"),
            ("DECANT_LISTEN", "127.0.0.1:2"),
            ("DECANT_LOG", "debug"),
            ("DECANT_TEST_SEED", "7"),
            ("DECANTER_X", "y"),
        ]);
        assert_eq!(faults, []);
        assert_eq!(dict.keys().collect::<Vec<_>>(), ["admin", "listen"]);
    }

    #[test]
    fn links_of_a_kubernetes_service_are_not_configuration() {
        let links =
            ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8081_TCP", "PORT_8081_TCP_ADDR"];
        for service in ["DECANT_", "DECANT_ADMIN_"] {
            for link in links {
                let (dict, faults) = collected(&[(&format!("{service}{link}"), "tcp://10.0.0.1:8081")]);
                assert!(dict.is_empty() && faults.is_empty(), "{service}{link}");
            }
        }
    }

    #[test]
    fn a_key_that_is_also_a_table_is_a_fault() {
        for pairs in [[("DECANT_A", "1"), ("DECANT_A__B", "2")], [("DECANT_A__B", "2"), ("DECANT_A", "1")]] {
            assert_eq!(collected(&pairs).1.len(), 1);
        }
    }
}
