//! What a command writes, and how it ends. Standard output is the result; everything else goes to standard error.

use super::Exit;
use std::io::{self, ErrorKind, IsTerminal as _, Write};

/// Why a command did not end well: an exit code and what standard error shows.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    /// Empty where nobody is left to read it.
    pub message: String,
}

impl Failure {
    /// Wrong usage or configuration: 64.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Usage, message: message.into() }
    }
}

impl From<anyhow::Error> for Failure {
    /// The whole chain of causes in one line.
    fn from(error: anyhow::Error) -> Failure {
        Failure { exit: Exit::Failed, message: format!("{error:#}") }
    }
}

impl From<io::Error> for Failure {
    /// A reader that went away is no error: it has seen what it wanted.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            ErrorKind::BrokenPipe => Failure { exit: Exit::Done, message: String::new() },
            _ => Failure { exit: Exit::Failed, message: format!("cannot write to standard output: {error}") },
        }
    }
}

/// The two streams of a command.
pub struct Output {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    colour: bool,
    /// Standard output is a terminal: a screen can be drawn over the one before.
    terminal: bool,
}

impl Output {
    /// Standard output and standard error. Colour only on a terminal, and not where `NO_COLOR` is set.
    pub fn of_process() -> Output {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let terminal = io::stdout().is_terminal();
        Output { out: Box::new(io::stdout()), err: Box::new(io::stderr()), colour: wanted && terminal, terminal }
    }

    /// What follows is drawn over itself, as `top` does; nothing where there is no terminal. [`Output::end_screens`] gives the old one back.
    pub fn begin_screens(&mut self) -> Result<(), Failure> {
        if self.terminal { self.out("\x1b[?1049h\x1b[?25l") } else { Ok(()) }
    }

    /// One screen. On a terminal it takes the place of the one before, and what does not fit is cut; elsewhere it follows, after an empty line.
    pub fn screen(&mut self, text: &str) -> Result<(), Failure> {
        if !self.terminal {
            return self.out(&format!("{text}\n"));
        }
        let rows = terminal_size::terminal_size().map_or(usize::MAX, |(_, height)| usize::from(height.0));
        self.out(&over_the_last(text, rows))
    }

    pub fn end_screens(&mut self) {
        if self.terminal {
            // Whoever is gone needs no terminal.
            let _ = self.out("\x1b[?25h\x1b[?1049l");
        }
    }

    /// Writes to standard output; `?` on the error ends the command as it should end.
    pub fn out(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(Failure::from)
    }

    /// One JSON document and a newline.
    pub fn json(&mut self, document: &serde_json::Value) -> Result<(), Failure> {
        self.out(&format!("{document:#}\n"))
    }

    /// A line for standard error. Nobody may be reading there: no error.
    pub fn note(&mut self, line: &str) {
        let _ = writeln!(self.err, "{line}");
    }

    /// `text` in an ANSI style (such as `"1"` for bold, `"32"` for green) where colour is wanted.
    pub fn styled(&self, style: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Shows why a command failed, and says how the process ends.
    pub fn end(&mut self, result: Result<Exit, Failure>) -> Exit {
        match result {
            Ok(exit) => exit,
            Err(failure) => {
                if !failure.message.is_empty() {
                    self.note(&format!("decant: {}", failure.message));
                }
                failure.exit
            }
        }
    }
}

/// Drawn from the top left, each line to its end, and nothing below: no flicker, and nothing is left of the screen before.
fn over_the_last(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let shown = if lines.len() < rows { lines.len() } else { rows.saturating_sub(2) };
    let mut drawn = String::from("\x1b[H");
    lines[..shown.min(lines.len())].iter().for_each(|line| drawn.push_str(&format!("{line}\x1b[K\r\n")));
    if shown < lines.len() {
        drawn.push_str(&format!("… {} more lines: make the window higher\x1b[K", lines.len() - shown));
    }
    drawn.push_str("\x1b[J");
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_takes_the_place_of_the_one_before_and_is_cut_to_the_window() {
        assert_eq!(over_the_last("a\nb\n", 10), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J");
        let cut = over_the_last("a\nb\nc\nd\ne\n", 5);
        assert_eq!(cut.matches("\r\n").count(), 3);
        assert!(cut.ends_with("\r\n… 2 more lines: make the window higher\x1b[K\x1b[J"), "{cut:?}");
        assert!(over_the_last("a\nb\n", 0).contains("2 more lines"));
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is() {
        let end = |kind: ErrorKind| Failure::from(io::Error::from(kind)).exit;
        assert_eq!((end(ErrorKind::BrokenPipe), end(ErrorKind::StorageFull)), (Exit::Done, Exit::Failed));
    }
}
