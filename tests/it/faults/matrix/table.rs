//! The rows as they stand in ARCHITECTURE.md: a table for each phase, and one line for all faults that nothing tells apart.

use super::{fault::Fault, measure::Row};
use std::fmt::Write as _;

pub const PHASES: [&str; 5] = ["redis-only", "dual-write", "kask-first", "redis-standby", "kask-only"];
const HEAD: &str = "get: both have it | get: only Redis has it | get: nobody has it | set | delete | afterwards";

/// Every phase with its rows, in the order of [`Fault::ALL`].
pub type Rows = Vec<(&'static str, Vec<(Fault, Row)>)>;

fn cells(row: &Row) -> String {
    format!("{} | {}", row.answers.join(" | "), row.afterwards)
}

pub fn render(rows: &Rows) -> String {
    let mut text = String::new();
    for (phase, rows) in rows {
        let _ = write!(text, "\n| `{phase}` | {HEAD} |\n|---|---|---|---|---|---|---|\n");
        let mut lines: Vec<(Vec<Fault>, String)> = Vec::new();
        for (fault, row) in rows {
            let cells = cells(row);
            match lines.iter_mut().find(|(_, same)| *same == cells) {
                Some((faults, _)) => faults.push(*fault),
                None => lines.push((vec![*fault], cells)),
            }
        }
        for (faults, cells) in lines {
            let _ = writeln!(text, "| {} | {cells} |", names(&faults));
        }
    }
    text.push('\n');
    text
}

/// `Redis is slow, hangs; Kask is down`
fn names(faults: &[Fault]) -> String {
    let mut text = String::new();
    let mut last = "";
    for (whose, what) in faults.iter().map(|fault| fault.name()) {
        match last {
            "" => text += &format!("{whose} {what}"),
            same if same == whose => text += &format!(", {what}"),
            _ => text += &format!("; {whose} {what}"),
        }
        last = whose;
    }
    text
}

fn names_it(names: &str, fault: Fault) -> bool {
    let (whose, what) = fault.name();
    let whats = names.split("; ").filter_map(|group| group.strip_prefix(whose)?.strip_prefix(' '));
    whats.flat_map(|whats| whats.split(", ")).any(|named| named == what)
}

/// What a rendered text says of a fault in a phase, as [`cells`] has it.
pub fn said<'a>(text: &'a str, phase: &str, fault: Fault) -> Option<&'a str> {
    let (_, table) = text.split_once(&format!("| `{phase}` |"))?;
    let lines = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    let mut found = lines.filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    found.find(|(names, _)| names_it(names, fault)).map(|(_, cells)| cells)
}

pub fn is_as_said(text: &str, phase: &str, fault: Fault, row: &Row) -> bool {
    said(text, phase, fault) == Some(cells(row).as_str())
}

/// What no busy machine explains: a broken promise, or 404 to a get of what is there, where that is not said.
pub fn is_wrong_at_once(text: &str, phase: &str, fault: Fault, row: &Row) -> bool {
    const OF_WHAT_IS_THERE: usize = 2;
    let stands: Vec<&str> = said(text, phase, fault).unwrap_or("").split(" | ").collect();
    let gets = row.answers.iter().take(OF_WHAT_IS_THERE).zip(stands);
    row.breaks_a_promise() || gets.into_iter().any(|(is, said)| is.contains("404") && !said.contains("404"))
}

pub fn differs(text: &str, phase: &str, fault: Fault, row: &Row) -> String {
    let stands = said(text, phase, fault).unwrap_or("nothing");
    format!("{phase}, {}:\n  stands:   {stands}\n  measured: {}", names(&[fault]), cells(row))
}

#[test]
fn what_is_rendered_is_found_again() {
    let row = |set: &str| Row {
        answers: ["200 Kask", "404", "404", set, "204"].map(str::to_owned),
        afterwards: "nothing to heal".to_owned(),
    };
    let [first, second, third, fourth, ..] = Fault::ALL;
    let rows: Rows = PHASES[..2]
        .iter()
        .map(|phase| {
            let rows = [(first, row("201")), (second, row("201")), (third, row(phase)), (fourth, row("201"))];
            (*phase, rows.into())
        })
        .collect();
    let text = render(&rows);
    assert!(text.contains("\n| nothing is wrong; Redis is slow, hangs | 200 Kask | "), "{text}");
    for (phase, rows) in &rows {
        for (fault, row) in rows {
            assert!(is_as_said(&text, phase, *fault, row), "{}", differs(&text, phase, *fault, row));
        }
    }
    assert!(!is_as_said(&text, PHASES[0], first, &row("503")));
    assert_eq!(said(&text, PHASES[2], first), None);
    let wrong = |row: Row| is_wrong_at_once(&text, PHASES[0], first, &row);
    let with = |get: usize, told: &str| {
        let mut row = row("201");
        row.answers[get] = told.to_owned();
        row
    };
    assert!(!wrong(row("201")) && !wrong(row("503")) && !wrong(with(0, "503")) && !wrong(with(1, "503, then 404")));
    assert!(wrong(with(0, "404")) && wrong(with(0, "200 Kask, then 404")));
    for broken in ["**acknowledged writes are lost**", "**the tiers differ**; the loss is told"] {
        assert!(wrong(Row { afterwards: broken.to_owned(), ..row("201") }), "{broken}");
    }
}
