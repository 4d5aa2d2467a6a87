//! The layers: who may import whom, how long a file may be, and that ARCHITECTURE.md speaks of files that are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// From the top down. A module may import what stands in a row below its own, and nothing else of the crate.
/// ARCHITECTURE.md shows the same rows.
const LAYERS: [&[&str]; 13] = [
    &["cli"],
    &["app"],
    &["admin", "preflight"],
    &["backfill", "verify"],
    &["stash"],
    &["scan"],
    &["outbox", "kask_server", "fleet"],
    &["dialect", "tier", "etcd"],
    &["http", "telemetry"],
    &["config", "protocol"],
    &["phase"],
    &["codec"],
    &["durable"],
];

const LINES_MAX: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_under(dir: &Path, ends: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_under(&path, ends, found);
        } else if path.extension().is_some_and(|e| ends.iter().any(|end| e == *end)) {
            found.push(path);
        }
    }
}

fn sources(ends: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files_under(&root().join("src"), ends, &mut found);
    found.sort();
    assert!(found.len() > 50, "only {} files: is the test looking in the right place?", found.len());
    found
}

/// `src/stash/mover.rs` and `src/stash.rs` are of `stash`.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The text without line comments: what they name is no import. `"//` is in a string: an URL.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The modules behind every `crate::…`, those of `crate::{a, b::{c, d}}` included.
fn imported(text: &str) -> BTreeSet<String> {
    let text = without_comments(text);
    let mut found = BTreeSet::new();
    for (at, path) in text.match_indices("crate::") {
        if text[..at].ends_with(is_of_a_name) {
            continue;
        }
        let rest = &text[at + path.len()..];
        match rest.strip_prefix('{') {
            None => found.extend(name_at(rest)),
            Some(list) => {
                let (mut depth, mut begins) = (1, true);
                for (i, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => begins = true,
                        c if depth == 1 && begins && is_of_a_name(c) => {
                            found.extend(name_at(&list[i..]));
                            begins = false;
                        }
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    found
}

fn name_at(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| is_of_a_name(*c)).collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn imports_are_found_however_they_are_written() {
    let text = "use crate::{a::X, b::{c, d::{e}}, f}; // crate::comment\nfn x(_: crate::g::Y) { my_crate::no(); $crate::h!() }\n";
    let expected = ["a", "b", "f", "g", "h"].map(str::to_owned);
    assert_eq!(imported(text), BTreeSet::from(expected));
}

#[test]
fn imports_only_point_down() {
    let rows: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().flat_map(|(row, names)| names.iter().map(move |name| (*name, row))).collect();
    let mut faults = Vec::new();
    for path in sources(&["rs"]) {
        let module = module_of(&path);
        if module == "lib" || module == "main" {
            continue;
        }
        let shown = path.strip_prefix(root()).unwrap().display();
        let Some(own) = rows.get(module.as_str()) else {
            faults.push(format!("{shown}: \"{module}\" stands in no layer"));
            continue;
        };
        for other in imported(&fs::read_to_string(&path).unwrap()) {
            match rows.get(other.as_str()) {
                Some(row) if row > own || other == module => {}
                Some(_) => faults.push(format!("{shown}: {module} imports {other}, which does not stand below it")),
                None => faults.push(format!("{shown}: imports crate::{other}, which stands in no layer")),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_layer_has_its_module_and_every_module_its_layer() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared: BTreeSet<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let layered: BTreeSet<&str> = LAYERS.iter().flat_map(|names| names.iter().copied()).collect();
    assert_eq!(declared, layered);
}

/// ARCHITECTURE.md and the crate's own page draw the same picture.
#[test]
fn the_layers_are_drawn_as_they_are() {
    for (file, prefix) in [("ARCHITECTURE.md", ""), ("src/lib.rs", "//! ")] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for names in LAYERS {
            let row = format!("\n{prefix}{} ", names.join("  "));
            assert!(text.contains(&row), "{file} has no row \"{}\"", names.join("  "));
        }
    }
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = sources(&["rs", "lua"])
        .iter()
        .map(|path| (path, fs::read_to_string(path).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines, split them by idea: {}", long.join(", "));
}

/// What stands in backquotes and looks like a path of this repository.
fn paths_named(text: &str) -> Vec<String> {
    let tops = ["src/", "tests/", "deploy/", "benches/", ".ci/"];
    let ends = [".rs", ".lua", ".sh", ".toml", ".md", ".yaml"];
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let pieces = line.split('`').skip(1).step_by(2).filter(|_| !fenced);
        found.extend(pieces.filter(|piece| {
            let plain = !piece.contains([' ', '<', '*', '{', '…']);
            plain && (tops.iter().any(|top| piece.starts_with(top)) || ends.iter().any(|end| piece.ends_with(end)))
        }));
    }
    found.into_iter().map(|piece| piece.split("::").next().unwrap_or(piece).to_owned()).collect()
}

/// A path may be told from the root, from `src/`, or from `tests/it/`.
fn is_there(named: &str) -> bool {
    ["", "src", "tests/it"].iter().any(|base| root().join(base).join(named).exists())
}

#[test]
fn the_documents_name_only_files_that_exist() {
    for document in ["ARCHITECTURE.md", "README.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let named = paths_named(&text);
        assert!(named.len() >= 5, "{document} names only {named:?}");
        let gone: Vec<&String> = named.iter().filter(|named| !is_there(named)).collect();
        assert!(gone.is_empty(), "{document} names what is not there: {gone:?}");
    }
}

/// The table of safeguards names a test for each, and those tests exist.
#[test]
fn the_safeguards_table_names_the_tests_that_there_are() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let scenarios = fs::read_to_string(root().join("tests/it/simulation/scenarios.rs")).unwrap();
    for safeguard in decant::protocol::Safeguard::ALL {
        let begins = format!("| {safeguard:?} |");
        let row = text.lines().find(|line| line.starts_with(&begins));
        let row = row.unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for {safeguard:?}"));
        let test = row.rsplit('`').nth(1).unwrap_or_default();
        let listed = format!("{test}: {safeguard:?},");
        assert!(scenarios.contains(&listed), "the test of {safeguard:?} is not \"{test}\"");
    }
}
