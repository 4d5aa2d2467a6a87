//! What is answered in which phase under which fault, and what heals afterwards: measured on real processes, and written into
//! ARCHITECTURE.md. `cargo test` measures it again and holds what stands there to it; deploy/matrix.sh writes it.

mod fault;
mod measure;
mod table;

use super::bench::join;
use fault::Fault;
use measure::{Row, measure};
use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use table::{PHASES, Rows};

/// Rows measured at once: they mostly wait.
const AT_ONCE: usize = 6;
/// What a busy machine has spoilt is measured again so often; what it cannot have spoilt is not: that fails at once.
const TRIES: usize = 4;
const BEGINS: &str = "<!-- measured: deploy/matrix.sh writes what follows -->\n";
const ENDS: &str = "<!-- measured: until here -->\n";

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")
}

/// Every row of every phase, each by `one`.
fn all(one: impl Fn(&'static str, Fault) -> Row + Sync) -> Rows {
    let wanted: Vec<(&'static str, Fault)> =
        PHASES.into_iter().flat_map(|phase| Fault::ALL.map(|fault| (phase, fault))).collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(vec![None; wanted.len()]));
    std::thread::scope(|scope| {
        let work = || {
            while let Some((phase, fault)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let at = wanted.iter().position(|same| same == &(*phase, *fault)).unwrap();
                let row = one(phase, *fault);
                found.lock().unwrap()[at] = Some(row);
            }
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(join);
    });
    let mut found = found.into_inner().unwrap().into_iter().flatten();
    let rows = |phase| (phase, Fault::ALL.map(|fault| (fault, found.next().unwrap())).into());
    PHASES.map(rows).into()
}

/// What two measurements say.
fn sure(phase: &'static str, fault: Fault) -> Row {
    let mut seen = Vec::new();
    for _ in 0..2 * TRIES {
        let row = measure(phase, fault);
        assert!(!row.breaks_a_promise(), "{phase}, {fault:?}: {row:#?}");
        if seen.contains(&row) {
            return row;
        }
        seen.push(row);
    }
    panic!("{phase}, {fault:?}: no two measurements say the same: {seen:#?}");
}

/// `DECANT_MATRIX=write` writes it instead.
#[test]
fn the_matrix_in_the_document_is_what_is_measured() {
    let text = std::fs::read_to_string(document()).unwrap();
    let (before, rest) = text.split_once(BEGINS).expect("the line before the matrix");
    let (stands, after) = rest.split_once(ENDS).expect("the line after the matrix");
    if std::env::var("DECANT_MATRIX").is_ok_and(|what| what == "write") {
        let measured = table::render(&all(sure));
        std::fs::write(document(), format!("{before}{BEGINS}{measured}{ENDS}{after}")).unwrap();
        return;
    }
    let measured = all(|phase, fault| {
        let again = (0..TRIES).map(|_| measure(phase, fault));
        let mut last = None;
        for row in again {
            let wrong = table::is_wrong_at_once(stands, phase, fault, &row);
            if wrong || table::is_as_said(stands, phase, fault, &row) {
                return row;
            }
            last = Some(row);
        }
        last.unwrap()
    });
    let mut wrong = Vec::new();
    for (phase, rows) in &measured {
        let is_well = |fault, row| {
            table::is_as_said(stands, phase, fault, row) && !table::is_wrong_at_once(stands, phase, fault, row)
        };
        let differing = rows.iter().filter(|(fault, row)| !is_well(*fault, row));
        wrong.extend(differing.map(|(fault, row)| table::differs(stands, phase, *fault, row)));
    }
    assert!(
        wrong.is_empty(),
        "ARCHITECTURE.md does not say what is measured. If that is as it should be, deploy/matrix.sh writes it anew.\n{}",
        wrong.join("\n")
    );
}
