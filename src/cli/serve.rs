//! `decant serve`: the proxy.

use super::{Exit, Failure, Global};
use crate::{app, telemetry};
use anyhow::Context;
use std::{io::Write, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Print {"listening":{"data":"ADDR","admin":"ADDR"}} on standard error once both listeners are bound
    #[arg(long)]
    pub announce: bool,
}

/// Serves until SIGTERM or SIGINT, then drains; a second signal ends it at once.
pub(super) fn run(global: &Global, args: &ServeArgs) -> Result<Exit, Failure> {
    let loaded = global.load()?;
    // Lines still to be written are written before the process ends.
    let _logs = telemetry::logs::init(&loaded.config.log).context("cannot write logs")?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let metrics = telemetry::metrics::install();
    let shown = metrics.clone();
    let render = Arc::new(move || shown.render());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let announce = args.announce;
    runtime.block_on(async move {
        let stop = CancellationToken::new();
        let second = on_signals(stop.clone())?;
        tokio::spawn(telemetry::metrics::upkeep(metrics, stop.clone()));
        tokio::select! {
            ended = app::run(loaded.config, render, |addresses| ready(addresses, announce), stop) => {
                ended.map(|()| Exit::Done).map_err(|fault| Failure { exit: Exit::Failed, message: fault.to_string() })
            }
            () = second.cancelled() => {
                tracing::warn!("a second signal: ended before everything was drained");
                Ok(Exit::Failed)
            }
        }
    })
}

fn ready(addresses: app::Addresses, announce: bool) {
    tracing::info!(data = %addresses.data, admin = %addresses.admin, "listening");
    if announce {
        let told = serde_json::json!({ "listening": { "data": addresses.data.to_string(), "admin": addresses.admin.to_string() } });
        // Nobody listening is no reason not to serve.
        let _ = writeln!(std::io::stderr(), "{told}");
    }
}

/// The first signal cancels `stop`; the returned token is cancelled by the second.
fn on_signals(stop: CancellationToken) -> Result<CancellationToken, Failure> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let second = CancellationToken::new();
    let told = second.clone();
    tokio::spawn(async move {
        for token in [stop, told] {
            tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
            token.cancel();
        }
    });
    Ok(second)
}
