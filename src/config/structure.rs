//! The merged layers against the schema, key by key: unknown keys, wrong types, values out of range.
//!
//! What is sound goes on as a typed value; what is not becomes a fault and is left out, so that one wrong key hides
//! no other. Shows the value that was found, except where it could be a secret.

use super::fault::{Fault, Place};
use super::review::Review;
use super::schema::{self, KeySpec, Kind, Node};
use super::{environment, file};
use figment::value::{Dict, Num, Value};
use std::net::SocketAddr;

/// Items of a list.
const LIST_MAX: usize = 16;
/// Longer values are shown cut.
const SHOWN_CHARS_MAX: usize = 60;

/// The sound part of `dict`, the table at `path`.
pub(super) fn sound_part(dict: &Dict, path: &mut Vec<String>, review: &mut Review) -> Dict {
    let mut sound = Dict::new();
    for (name, value) in dict {
        path.push(name.clone());
        if let Some(kept) = sound_value(value, path, review) {
            sound.insert(name.clone(), kept);
        }
        path.pop();
    }
    sound
}

fn sound_value(value: &Value, path: &mut Vec<String>, review: &mut Review) -> Option<Value> {
    match (schema::node_at(path), value) {
        (Node::Table, Value::Dict(_, inner)) => {
            let inner = sound_part(inner, path, review);
            Some(Value::from(inner))
        }
        (Node::Table, other) => {
            let what = format!("is {}, and must be a table", type_name(other));
            let todo = format!("give it keys of its own: {}", schema::names_in(path).join(", "));
            refuse(path, other, what, todo, review);
            None
        }
        (Node::Key(spec), value) => {
            let place = review.place_of_value(path, value);
            match sound_leaf(spec, value, &place) {
                Ok(value) => {
                    review.seen(&file::dotted(path), place);
                    Some(value)
                }
                Err((what, todo)) => {
                    refuse(path, value, what, todo, review);
                    None
                }
            }
        }
        (Node::Unknown, value) => {
            let todo = suggestion(path, &review.place_of_value(path, value));
            refuse(path, value, "is no key of decant's".to_owned(), todo, review);
            None
        }
    }
}

fn refuse(path: &[String], value: &Value, what: String, todo: String, review: &mut Review) {
    let place = review.place_of_value(path, value);
    let key = file::dotted(path);
    review.faulty(&key);
    review.push(Fault { place, key, what, todo });
}

/// The value in the type that the image wants, or (what, todo).
fn sound_leaf(spec: &KeySpec, value: &Value, place: &Place) -> Result<Value, (String, String)> {
    let from_file = matches!(place, Place::File { .. });
    // Variables and flags are text; a file says what it means.
    let text = value.as_str().filter(|_| !from_file).map(str::trim);
    let wrong = |wanted: String| {
        let todo = spec.default.map_or_else(|| wanted.clone(), |default| format!("{wanted}; the default is {default}"));
        Err((format!("is {}", shown(spec.kind, value)), format!("set it to {todo}")))
    };
    match spec.kind {
        Kind::Secret if from_file => Err((
            "is a secret in the configuration file".to_owned(),
            format!("put it in a file of its own and name that as {}_file, or set it in the environment", leaf(spec)),
        )),
        Kind::Text | Kind::Secret | Kind::SecretUrl => match value.as_str() {
            Some(text) => Ok(Value::from(text)),
            None => wrong("text in quotes".to_owned()),
        },
        Kind::List => match list(value) {
            Some(items) => Ok(Value::from(items)),
            None => wrong(format!("an array of 1 to {LIST_MAX} texts, or one text with commas between them")),
        },
        Kind::Path => match value.as_str() {
            Some(text) if !text.is_empty() => Ok(Value::from(text)),
            _ => wrong("the path of a file or directory, in quotes".to_owned()),
        },
        Kind::Address => match value.as_str().map(|text| (text, text.trim().parse::<SocketAddr>())) {
            Some((text, Ok(_))) => Ok(Value::from(text.trim())),
            _ => wrong("an IP address and a port, such as \"127.0.0.1:8081\" or \"[::1]:8081\"".to_owned()),
        },
        Kind::Bool => match text.map_or_else(|| value.to_bool(), |text| text.parse().ok()) {
            Some(boolean) => Ok(Value::from(boolean)),
            None => wrong("true or false".to_owned()),
        },
        Kind::Whole { min, max, unit } => match whole(value, text).filter(|n| (min..=max).contains(n)) {
            Some(number) => Ok(Value::from(number)),
            None => wrong(format!("a whole number of {unit} from {min} to {max}")),
        },
        Kind::Share => match share(value, text).filter(|share| (0.0..=1.0).contains(share)) {
            Some(share) => Ok(Value::from(share)),
            None => wrong("a number from 0 to 1".to_owned()),
        },
        Kind::Word(words) => match value.as_str().map(str::trim) {
            Some(word) if words.contains(&word) => Ok(Value::from(word)),
            Some(word) => match schema::nearest(word, words.iter().copied()) {
                Some(near) => wrong(format!("{} (did you mean \"{near}\"?)", listed(words))),
                None => wrong(listed(words)),
            },
            None => wrong(listed(words)),
        },
    }
}

/// Without spaces around its items, of which none is empty.
fn list(value: &Value) -> Option<Vec<String>> {
    let texts: Vec<&str> = match value {
        Value::Array(_, items) => items.iter().map(Value::as_str).collect::<Option<_>>()?,
        value => value.as_str()?.split(',').collect(),
    };
    let items: Vec<String> = texts.into_iter().map(|text| text.trim().to_owned()).collect();
    let fits = (1..=LIST_MAX).contains(&items.len()) && items.iter().all(|item| !item.is_empty());
    fits.then_some(items)
}

fn whole(value: &Value, text: Option<&str>) -> Option<u64> {
    match (text, value) {
        (Some(text), _) => text.parse().ok(),
        (None, Value::Num(_, Num::F32(_) | Num::F64(_))) => None,
        (None, value) => value
            .to_u128()
            .and_then(|number| u64::try_from(number).ok())
            .or_else(|| value.to_i128().and_then(|number| u64::try_from(number).ok())),
    }
}

fn share(value: &Value, text: Option<&str>) -> Option<f64> {
    match text {
        Some(text) => text.parse().ok(),
        None => {
            value.to_f64().or_else(|| whole(value, None).and_then(|number| u32::try_from(number).ok()).map(f64::from))
        }
    }
}

fn leaf(spec: &KeySpec) -> &'static str {
    spec.path.rsplit('.').next().unwrap_or(spec.path)
}

/// `"a", "b" or "c"`
fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.join(""),
    }
}

/// What was found, for a person; secrets only by their type.
fn shown(kind: Kind, value: &Value) -> String {
    let secret = matches!(kind, Kind::Secret | Kind::SecretUrl);
    match value {
        Value::String(_, text) if !secret => {
            let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            format!("{:?}{}", cut, if cut.len() < text.len() { " …" } else { "" })
        }
        Value::Bool(_, boolean) if !secret => boolean.to_string(),
        Value::Num(_, number) if !secret => match (number.to_i128(), number.to_u128(), number.to_f64()) {
            (Some(number), _, _) => number.to_string(),
            (_, Some(number), _) => number.to_string(),
            (_, _, Some(number)) => number.to_string(),
            _ => "a number".to_owned(),
        },
        other => type_name(other).to_owned(),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "text",
        Value::Bool(..) => "true or false",
        Value::Num(..) => "a number",
        Value::Empty(..) => "nothing",
        Value::Dict(..) => "a table",
        Value::Array(..) => "an array",
    }
}

/// What to do about an unknown key: the nearest one here, else where one of this name stands, else all that stand here.
fn suggestion(path: &[String], place: &Place) -> String {
    let (Some(name), Some(table)) = (path.last(), path.get(..path.len().saturating_sub(1))) else {
        return "remove it".to_owned();
    };
    let spelled = |key: String| match (place, environment::variable_of(&key)) {
        (Place::Environment(_), Some(variable)) => {
            match schema::node_at(&key.split('.').map(str::to_owned).collect::<Vec<_>>()) {
                Node::Table => format!("{variable}__…"),
                Node::Key(_) | Node::Unknown => variable,
            }
        }
        _ => key,
    };
    let names = schema::names_in(table);
    if let Some(near) = schema::nearest(name, names.iter().copied().filter(|name| *name != "*")) {
        return format!("did you mean {}?", spelled(file::join(&file::dotted(table), near)));
    }
    let elsewhere = schema::elsewhere(path);
    if !elsewhere.is_empty() {
        return format!("did you mean {}?", elsewhere.into_iter().map(spelled).collect::<Vec<_>>().join(" or "));
    }
    let here: Vec<String> = names.into_iter().map(|name| spelled(file::join(&file::dotted(table), name))).collect();
    match here.is_empty() {
        true => "remove it".to_owned(),
        false => format!("remove it, or use one of {}", here.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_secret_is_told_by_its_type_alone() {
        for kind in [Kind::Secret, Kind::SecretUrl] {
            let told = [Value::from("hunter2"), Value::from(1234), Value::from(true)].map(|value| shown(kind, &value));
            assert_eq!(told, ["text", "a number", "true or false"]);
        }
        assert_eq!(shown(Kind::Text, &Value::from("é".repeat(61))), format!("\"{}\" …", "é".repeat(60)));
    }
}
