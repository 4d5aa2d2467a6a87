//! Accept, serve, drain.

use super::{
    Limits,
    pulse::{Answering, Felt, Pulse},
};
use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use std::{convert::Infallible, error::Error, io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Out of file descriptors and the like pass by themselves; asking again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still at work when the drain's time was over, and were cut.
    pub cut: usize,
}

/// Serves `listener` until `stop` is cancelled; then accepts nothing more, lets requests under way finish for at most
/// `limits.drain_timeout`, and returns.
pub async fn serve<S, B>(listener: TcpListener, service: S, limits: Limits, stop: CancellationToken) -> Drained
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let slots = Arc::new(Semaphore::new(limits.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let http1 = builder(&limits);
    loop {
        let slot = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            slot = slots.clone().acquire_owned() => slot,
        };
        let stream = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            stream = accept(&listener) => stream,
        };
        // Answers are one write each; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        let pulse = Pulse::new(&limits);
        let io = TokioIo::new(Felt { stream, pulse: pulse.clone() });
        let connection = graceful.watch(http1.serve_connection(io, felt(service.clone(), pulse.clone())));
        let (cut, places) = (cut.clone(), slots.clone());
        connections.spawn(async move {
            tokio::select! {
                // An error here is the client's: it went away, or sent what is no HTTP and got hyper's 400.
                _ = connection => {}
                () = pulse.flatline(|| places.available_permits() == 0) => {}
                () = cut.cancelled() => {}
            }
            drop(slot);
        });
    }
    drop(listener);
    drain(graceful, connections, cut, limits.drain_timeout).await
}

fn builder(limits: &Limits) -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        // The pulse cuts slow headers, and tells them apart from a connection that lies still.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes_max.max(8192))
        .max_headers(limits.headers_max)
        // A client that closes its half after the request still gets its answer, as from Go.
        .half_close(true)
        .title_case_headers(true);
    http1
}

/// The service, telling the connection's pulse when it has a request and when the answer is out.
fn felt<S, B>(
    service: S,
    pulse: Arc<Pulse>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Answering<B>>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Answering<B>>, Infallible>> + Send,
>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send,
    B: Body<Data = Bytes> + Unpin,
{
    service_fn(move |request| {
        pulse.busy();
        let pulse = pulse.clone();
        let answer = service.call(request);
        async move { Ok(answer.await?.map(|body| Answering::new(body, pulse))) }
    })
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(fault) if went_away(&fault) => {}
            Err(fault) => {
                // Once is enough while it lasts.
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%fault, "cannot accept a connection; trying again (out of file descriptors? see LimitNOFILE)");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The client was gone before it was accepted: the next one may be fine.
fn went_away(fault: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(fault.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn drain(
    graceful: GracefulShutdown,
    connections: TaskTracker,
    cut: CancellationToken,
    at_most: Duration,
) -> Drained {
    let finished = tokio::time::timeout(at_most, graceful.shutdown()).await.is_ok();
    connections.close();
    let left = if finished { 0 } else { connections.len() };
    cut.cancel();
    connections.wait().await;
    Drained { cut: left }
}
