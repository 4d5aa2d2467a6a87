//! Mutations of the product: each takes out one thing that it relies on, and the fault bench must notice. They stand in tests/mutations/,
//! are applied to a copy of the sources under target/, and built there.
//!
//! `DECANT_MUTATIONS=all`, or some names with commas between: deploy/mutations.sh, and with it CI. Each takes a build and a while under faults.

use super::{
    checker::Kind,
    drills::{self, DRILLS},
    fleet,
    report::Found,
    rounds::{self, Plan},
};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

/// The storm has so long for each, after its drills.
const STORM: Duration = Duration::from_secs(75);
/// A drill brings its situation about, and what a mutation makes of it is still up to who is first.
const PLAYS: usize = 4;
/// What a fleet's walk shows is up to where the clients are: it may need another.
const WALKS: usize = 3;
/// Several leases, and far less than what is given to the product itself.
const QUIET_WITHIN: Duration = Duration::from_secs(20);

/// One file of tests/mutations/.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    #[serde(skip)]
    name: String,
    /// What it takes out.
    removes: String,
    /// What comes of it.
    harm: String,
    /// The kinds of violation that show it; others are none of its doing.
    shows: Vec<String>,
    /// What is played before the storm.
    drills: Vec<String>,
    /// Several decants on one etcd are walked through all phases, in place of a storm.
    #[serde(default)]
    fleet: bool,
    edit: Vec<Edit>,
}

/// A text that stands once in a file, and another in its place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: PathBuf,
    find: String,
    replace: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn mutations() -> Vec<Mutation> {
    let mut all: Vec<Mutation> = fs::read_dir(root().join("tests/mutations"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let mutation: Mutation = toml::from_str(&fs::read_to_string(&path).unwrap())
                .unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
            Mutation { name: path.file_stem().unwrap().to_str().unwrap().to_owned(), ..mutation }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

impl Mutation {
    /// The text of a source file with the mutation in it.
    fn applied(&self, file: &Path, text: String) -> Result<String, String> {
        self.edit.iter().filter(|edit| edit.file == file).try_fold(text, |text, edit| {
            match text.matches(&edit.find).count() {
                1 => Ok(text.replacen(&edit.find, &edit.replace, 1)),
                times => Err(format!(
                    "tests/mutations/{}.toml does not fit any more: this stands {times} times in {}, not once:\n{}",
                    self.name,
                    file.display(),
                    edit.find
                )),
            }
        })
    }

    /// The drills named, as they are.
    fn drills(&self) -> impl Iterator<Item = &'static drills::Drill> {
        DRILLS.iter().filter(|drill| self.drills.iter().any(|name| name == drill.name))
    }

    fn shown_in<'a>(&self, violations: &'a [Found]) -> Option<&'a Found> {
        violations.iter().find(|found| self.shows.contains(&format!("{:?}", found.kind)))
    }
}

/// Cheap, so that whoever changes what a mutation is about hears of it at once.
#[test]
fn every_mutation_fits_the_sources() {
    let all = mutations();
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(all.len() >= 8, "only {} mutations", all.len());
    for mutation in &all {
        assert!(!mutation.removes.is_empty() && !mutation.harm.is_empty(), "{}: say why", mutation.name);
        assert_eq!(mutation.drills().count(), mutation.drills.len(), "{}: a drill that there is not", mutation.name);
        for shown in &mutation.shows {
            assert!(Kind::ALL.iter().any(|kind| format!("{kind:?}") == *shown), "{}: no {shown}", mutation.name);
        }
        let row = format!("\n| `{}` | ", mutation.name);
        assert!(architecture.contains(&row), "ARCHITECTURE.md has no row for {}", mutation.name);
        let files: BTreeSet<&Path> = mutation.edit.iter().map(|edit| edit.file.as_path()).collect();
        assert!(!files.is_empty() && files.iter().all(|file| file.starts_with("src")), "{}: {files:?}", mutation.name);
        for file in files {
            let text = fs::read_to_string(root().join(file)).unwrap();
            let mutated = mutation.applied(file, text.clone()).unwrap_or_else(|why| panic!("{why}"));
            assert_ne!(mutated, text, "{} changes nothing in {}", mutation.name, file.display());
        }
    }
}

/// A copy of the sources, and where what is built of it is kept from one mutation to the next.
struct Workshop {
    dir: PathBuf,
    /// Held as long as this one works there.
    _lock: File,
}

impl Workshop {
    fn open() -> Workshop {
        let dir = root().join("target/mutations");
        fs::create_dir_all(dir.join("source/src")).unwrap();
        let lock = File::create(dir.join("lock")).unwrap();
        lock.lock().unwrap();
        let source = dir.join("source");
        for file in ["Cargo.toml", "Cargo.lock", "build.rs"] {
            fs::copy(root().join(file), source.join(file)).unwrap();
        }
        // Cargo looks for every target that its file names, and builds only what it is told to.
        for folder in ["tests", "benches"] {
            let link = source.join(folder);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(root().join(folder), link).unwrap();
        }
        Workshop { dir, _lock: lock }
    }

    /// The program with the mutation in it.
    fn build(&self, mutation: &Mutation) -> Result<PathBuf, String> {
        let source = self.dir.join("source");
        let mut wanted = BTreeSet::new();
        sync(Path::new("src"), &source, mutation, &mut wanted)?;
        remove_others(&source.join("src"), &source, &wanted);
        let output = Command::new(env!("CARGO"))
            // What it needs is built once, for this and for deploy/quickstart.sh. A cargo that is too old for that builds it here again.
            .env("CARGO_BUILD_BUILD_DIR", root().join("target"))
            .args(["build", "--quiet", "--locked", "--profile", "quick", "--bin", "decant", "--target-dir"])
            .arg(self.dir.join("built"))
            .current_dir(&source)
            .output()
            .unwrap();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("tests/mutations/{}.toml does not compile:\n{said}", mutation.name));
        }
        let program = self.dir.join(&mutation.name);
        fs::copy(self.dir.join("built/quick/decant"), &program).unwrap();
        Ok(program)
    }
}

/// Brings the copy of one folder up to date. What is right already is not touched, so that it is not built again.
fn sync(folder: &Path, to: &Path, mutation: &Mutation, wanted: &mut BTreeSet<PathBuf>) -> Result<(), String> {
    fs::create_dir_all(to.join(folder)).unwrap();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let file = folder.join(entry.unwrap().file_name());
        let path = root().join(&file);
        if path.is_dir() {
            sync(&file, to, mutation, wanted)?;
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => mutation.applied(&file, text)?.into_bytes(),
            Err(binary) => binary.into_bytes(),
        };
        if !fs::read(to.join(&file)).is_ok_and(|there| there == bytes) {
            fs::write(to.join(&file), bytes).unwrap();
        }
        wanted.insert(file);
    }
    Ok(())
}

fn remove_others(folder: &Path, of: &Path, wanted: &BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            remove_others(&path, of, wanted);
        } else if !wanted.contains(path.strip_prefix(of).unwrap()) {
            fs::remove_file(path).unwrap();
        }
    }
}

/// What showed it, or all that was found instead.
fn hunt(mutation: &Mutation, program: &Path) -> Result<String, String> {
    let began = Instant::now();
    let mut others = Vec::new();
    for drill in (0..PLAYS).flat_map(|_| mutation.drills()) {
        let report = drills::play(drill, program, QUIET_WITHIN);
        if let Some(found) = mutation.shown_in(&report.violations) {
            let after = began.elapsed().as_secs();
            return Ok(format!("{:?} after {after} s, by the drill \"{}\"", found.kind, drill.name));
        }
        others.extend(report.violations);
    }
    for _ in 0..if mutation.fleet { WALKS } else { 0 } {
        let report = fleet::play(program, QUIET_WITHIN);
        if let Some(found) = mutation.shown_in(&report.violations) {
            return Ok(format!("{:?} after {} s, by a fleet's walk", found.kind, began.elapsed().as_secs()));
        }
        others.extend(report.violations);
    }
    let until = Instant::now() + if mutation.fleet { Duration::ZERO } else { STORM };
    while Instant::now() < until {
        let seed = fastrand::u64(..1_000_000);
        let length = until.saturating_duration_since(Instant::now());
        let plan = Plan { seed, length, decant: program, faults: true, quiet_within: QUIET_WITHIN };
        let report = rounds::run(plan, |_| {});
        if let Some(found) = mutation.shown_in(&report.violations) {
            let after = began.elapsed().as_secs();
            return Ok(format!("{:?} after {after} s, by the storm with seed {seed}", found.kind));
        }
        others.extend(report.violations);
    }
    let others: Vec<String> = others.iter().map(|found| format!("{:?}", found.kind)).collect();
    Err(format!("not caught in {} s: {} (found: {others:?})", began.elapsed().as_secs(), mutation.removes))
}

#[test]
fn each_mutation_is_caught() {
    let Ok(asked) = std::env::var("DECANT_MUTATIONS") else { return };
    let mut all = mutations();
    if asked != "all" {
        let names: Vec<&str> = asked.split(',').collect();
        let known = |name: &&str| all.iter().any(|mutation| mutation.name == *name);
        assert!(names.iter().all(known), "DECANT_MUTATIONS={asked}: there are only the files of tests/mutations/");
        all.retain(|mutation| names.contains(&mutation.name.as_str()));
    }
    // The next one is built while this one is hunted.
    let (built, programs) = mpsc::sync_channel(0);
    let workshop = Workshop::open();
    let missed: Vec<String> = std::thread::scope(|scope| {
        let all = &all;
        scope.spawn(move || all.iter().for_each(|mutation| built.send(workshop.build(mutation)).unwrap()));
        let hunts = all.iter().zip(programs).map(|(mutation, program)| {
            let hunted = |program: PathBuf| {
                let hunt = AssertUnwindSafe(|| hunt(mutation, &program));
                let came_to = catch_unwind(hunt);
                fs::remove_file(&program).unwrap();
                came_to.unwrap_or_else(|_| Err("the bench itself broke down: see above".into()))
            };
            let came_to = program.and_then(hunted);
            println!("{}: {}", mutation.name, came_to.as_ref().unwrap_or_else(|why| why));
            came_to.err().map(|why| format!("{}: {why}", mutation.name))
        });
        hunts.flatten().collect()
    });
    assert!(missed.is_empty(), "{} of {} mutations:\n{}", missed.len(), all.len(), missed.join("\n"));
}
