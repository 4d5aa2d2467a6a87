//! `decant kask`: a Kask-compatible server on an embedded store.

use super::{Exit, Failure};
use crate::{
    dialect::{BaseUri, Meter},
    kask_server::{self, Options},
    telemetry::metrics,
};
use anyhow::Context;
use std::{io::Write, net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[derive(Debug, clap::Args)]
pub struct KaskArgs {
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// The store's file; made if it does not exist
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The path that keys follow
    #[arg(long, value_name = "URI", default_value = "/echoseen/v1/")]
    base_uri: BaseUri,
    /// How long a value lives after it was written; 0 = for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    default_ttl: u64,
}

/// Runs until SIGTERM or SIGINT. Prints `{"listening":"ADDR"}` once it can be asked.
pub(super) fn run(args: &KaskArgs) -> Result<Exit, Failure> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(serve(args))?;
    Ok(Exit::Done)
}

async fn serve(args: &KaskArgs) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    let recorder = metrics::install();
    tokio::spawn(metrics::upkeep(recorder.clone(), stop.clone()));
    let mut options = Options::new(args.base_uri.clone(), args.default_ttl);
    options.meter = Some(Meter::new());
    options.pages.metrics = Arc::new(move || recorder.render());
    kask_server::run(args.listen, &args.data, options, announce, stop).await?;
    Ok(())
}

/// For whoever started this: the address, on one line.
fn announce(addr: SocketAddr) {
    let mut out = std::io::stdout().lock();
    // Nobody listening to standard output is no reason not to serve.
    let _ = writeln!(out, "{}", serde_json::json!({ "listening": addr.to_string() }));
    let _ = out.flush();
}

fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
        stop.cancel();
    });
    Ok(())
}
