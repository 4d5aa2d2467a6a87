//! The command line: one file a subcommand under `cli/`, and what they share.
//!
//! To add a command: a module, a variant of [`Command`], an arm in [`run`]. A command returns an [`Exit`], or an error
//! that becomes one here; it writes through [`Output`], never with `println!`, so that a reader who has seen enough
//! (`decant … | head -1`) is no error.

mod backfill;
mod bar;
mod check;
mod client;
mod fleet;
mod inspect;
mod kask;
mod outbox;
mod output;
mod phase;
mod serve;
mod shard;
mod status;
mod text;
mod verify;

pub use output::{Failure, Output};

use crate::config::{self, FlagValue, Loaded, LogFormat, Sources};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, process::ExitCode};

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 a check found something; 2 it failed; 64 wrong usage or configuration.
Every key of the configuration can be set from the environment: DECANT_STASH__ECHOSEEN__REDIS__URL is stash.echoseen.redis.url.
DECANT_LOG takes filter directives that override log.level. NO_COLOR is respected.";

const LONG_VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (source of ", env!("BUILD_SOURCE_DATE"), ", rustc ", env!("BUILD_RUSTC"), ")");

/// Pours a live MediaWiki store from Redis into Kask without spilling.
#[derive(Debug, Parser)]
#[command(name = "decant", version, long_version = LONG_VERSION, after_help = AFTER_HELP, max_term_width = 120)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The configuration file [default: proxy.toml]
    #[arg(long, global = true, value_name = "FILE", env = "DECANT_CONFIG")]
    pub config: Option<PathBuf>,
    /// The admin listener of a running decant, for the commands that talk to one
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "DECANT_ADMIN",
        hide_env_values = true,
        default_value = "http://127.0.0.1:9081"
    )]
    pub admin: String,
    /// A file with the admin listener's token [default: DECANT_ADMIN_TOKEN]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// One JSON document on standard output, and nothing else
    #[arg(long, global = true)]
    pub json: bool,
    /// How log lines are written, over log.format of the configuration
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormatArg>,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormatArg {
    Json,
    Text,
}

impl From<LogFormatArg> for LogFormat {
    fn from(argument: LogFormatArg) -> LogFormat {
        match argument {
            LogFormatArg::Json => LogFormat::Json,
            LogFormatArg::Text => LogFormat::Text,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Report every fault of the configuration at once, then try every tier; nothing is bound
    Check(check::CheckArgs),
    /// Run the proxy
    Serve(serve::ServeArgs),
    /// Where the migration is, whether it is healthy, and what is left until Redis can go
    Status(status::StatusArgs),
    /// The phase of a stash: show it, move to another, tell its history
    Phase(phase::PhaseArgs),
    /// The decants that share a stash: who follows, who is silent; declare one gone
    Fleet(fleet::FleetArgs),
    /// The bulk copy: everything that Kask lacks, beside live traffic
    Backfill(backfill::BackfillArgs),
    /// Intents under way between the tiers, and those given up on
    Outbox(outbox::OutboxArgs),
    /// The Redis shards: show them, accept that one lost writes
    Shard(shard::ShardArgs),
    /// Compare the tiers key by key, and say whether everything arrived
    Verify(verify::VerifyArgs),
    /// One key in both tiers: bytes, decoded value, TTL, intents
    Inspect(inspect::InspectArgs),
    /// Serve Kask's HTTP API from a store in one file
    Kask(kask::KaskArgs),
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// A check found something: a difference, a refused move.
    Found = 1,
    Failed = 2,
    /// Wrong usage, or a configuration with faults.
    Usage = 64,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl Global {
    /// The configuration, of file, environment and flags. `Err` prints as the full report and exits with 64.
    pub fn load(&self) -> Result<Loaded, Failure> {
        let mut flags = Vec::new();
        if let Some(value) = self.log_format.and_then(|format| format.to_possible_value()) {
            flags.push(FlagValue { key: "log.format", flag: "--log-format", value: value.get_name().to_owned() });
        }
        config::load(Sources::of_process(self.config.clone(), flags))
            .map_err(|faults| Failure::usage(faults.to_string()))
    }
}

/// Parses the arguments of this process and runs the command.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run(&cli).into(),
        Err(error) => {
            // Help and version are what was asked for; everything else is wrong usage. Nobody may be reading: no error.
            let _ = error.print();
            if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
        }
    }
}

/// Runs one command to its end.
pub fn run(cli: &Cli) -> Exit {
    let mut output = Output::of_process();
    let result = match &cli.command {
        Command::Check(args) => check::run(&cli.global, args, &mut output),
        Command::Serve(args) => serve::run(&cli.global, args),
        Command::Status(args) => status::run(&cli.global, args, &mut output),
        Command::Phase(args) => phase::run(&cli.global, args, &mut output),
        Command::Fleet(args) => fleet::run(&cli.global, args, &mut output),
        Command::Backfill(args) => backfill::run(&cli.global, args, &mut output),
        Command::Outbox(args) => outbox::run(&cli.global, args, &mut output),
        Command::Shard(args) => shard::run(&cli.global, args, &mut output),
        Command::Verify(args) => verify::run(&cli.global, args, &mut output),
        Command::Inspect(args) => inspect::run(&cli.global, args, &mut output),
        Command::Kask(args) => kask::run(args),
    };
    output.end(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
