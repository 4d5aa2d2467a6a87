//! Log lines: one JSON object a line on standard output, with ECS field names, or text for a person.
//!
//! Lines are made where the event happens and written by a thread of their own, so that a standard output that nobody
//! reads stops no request; over [`LINES_WAITING_MAX`] lines are dropped and counted.

mod fields;
mod format;
mod layer;
mod writer;

pub use layer::LogLayer;
pub use writer::LogGuard;

use crate::config::{LogConfig, LogLevel};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// The variable whose filter directives override `log.level`.
pub const FILTER_VARIABLE: &str = "DECANT_LOG";

/// Lines that may wait for standard output.
pub const LINES_WAITING_MAX: usize = 8192;

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    #[error(
        "{FILTER_VARIABLE} is no list of filter directives ({0}); write it as info,decant::outbox=debug, or unset it"
    )]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("the thread that writes log lines cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    #[error("logging is already set up in this process")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logging for the whole process. Keep the guard until the end: dropping it writes what still waits.
pub fn init(config: &LogConfig) -> Result<LogGuard, LogFault> {
    let directives = std::env::var(FILTER_VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let filter = EnvFilter::try_new(directives.unwrap_or_else(|| directives_of(config.level)))?;
    let (sink, guard) = writer::start(Box::new(std::io::stdout()), LINES_WAITING_MAX)?;
    tracing_subscriber::registry().with(filter).with(LogLayer::new(config.format, sink)).try_init()?;
    Ok(guard)
}

/// Libraries stay at info or above: below that they show requests, and with them keys.
fn directives_of(level: LogLevel) -> String {
    match level {
        LogLevel::Error => "error".to_owned(),
        LogLevel::Warn => "warn".to_owned(),
        LogLevel::Info => "info".to_owned(),
        LogLevel::Debug => "info,decant=debug".to_owned(),
        LogLevel::Trace => "info,decant=trace".to_owned(),
    }
}

#[cfg(test)]
mod tests;
