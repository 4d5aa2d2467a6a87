//! The command line: one file a subcommand.

mod kask;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The command line was wrong.
const USAGE: u8 = 64;
/// It was right, but what it asked for failed.
const FAILED: u8 = 2;

/// Pours a live MediaWiki store from Redis into Kask without spilling.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Kask(kask::Args),
}

/// Parses the process's arguments and runs what they ask for.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            // Help and version are no errors. A closed pipe is none either.
            let _ = told.print();
            return if told.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match cli.command {
        Command::Kask(args) => kask::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(fault) => {
            complain(&fault);
            ExitCode::from(FAILED)
        }
    }
}

#[expect(clippy::print_stderr, reason = "the command line talks to a person")]
fn complain(fault: &anyhow::Error) {
    eprintln!("decant: {fault:#}");
}
