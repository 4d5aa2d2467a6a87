//! How long a connection may go on as it is: lying still between requests, or sending headers.

use super::Limits;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

#[derive(Clone, Copy)]
enum Stage {
    /// Between two requests, or the answer is going out; cut at `at`. Each byte that goes out puts that off, up to `latest`: who takes an
    /// answer a byte at a time does not make decant hold it for ever. `since`: the last of these bytes.
    Still { since: Instant, at: Instant, latest: Instant },
    /// Headers are arriving; cut at the instant.
    Headers(Instant),
    /// A request is being worked on; its own limits hold.
    Busy,
}

/// One connection's clock. The socket, the service and the watching task share it.
pub(super) struct Pulse {
    stage: Mutex<Stage>,
    idle: Duration,
    headers: Duration,
    answer: Duration,
}

impl Pulse {
    pub(super) fn new(limits: &Limits) -> Arc<Pulse> {
        let (idle, headers, answer) = (limits.idle_timeout, limits.header_timeout, limits.answer_timeout);
        let stage = Mutex::new(still(idle, answer));
        Arc::new(Pulse { stage, idle, headers, answer })
    }

    fn update(&self, change: impl FnOnce(Stage) -> Stage) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        *stage = change(*stage);
    }

    /// The service has the headers.
    pub(super) fn busy(&self) {
        self.update(|_| Stage::Busy);
    }

    fn still(&self) {
        self.update(|_| still(self.idle, self.answer));
    }

    fn bytes_read(&self) {
        self.update(|stage| match stage {
            Stage::Still { .. } => Stage::Headers(Instant::now() + self.headers),
            as_it_is => as_it_is,
        });
    }

    fn bytes_written(&self) {
        self.update(|stage| match stage {
            Stage::Still { latest, .. } => {
                let since = Instant::now();
                Stage::Still { since, at: latest.min(since + self.idle), latest }
            }
            as_it_is => as_it_is,
        });
    }

    /// Returns when the connection has to be cut. `crowded`: others wait for its place, which it may keep no longer than headers may take.
    pub(super) async fn flatline(&self, crowded: impl Fn() -> bool) {
        loop {
            let now = Instant::now();
            let stage = *self.stage.lock().unwrap_or_else(PoisonError::into_inner);
            match stage {
                Stage::Still { at, .. } | Stage::Headers(at) if at <= now => return,
                Stage::Still { since, .. } if since + self.headers <= now && crowded() => return,
                // A stage that begins while this sleeps ends no earlier than its own limit from now, so sleep at most that.
                Stage::Still { at, .. } | Stage::Headers(at) => {
                    tokio::time::sleep_until(at.min(now + self.headers)).await
                }
                Stage::Busy => tokio::time::sleep(self.headers.min(self.idle)).await,
            }
        }
    }
}

/// An answer is handed over; in the end nothing but the idle time is left.
fn still(idle: Duration, answer: Duration) -> Stage {
    let now = Instant::now();
    Stage::Still { since: now, at: now + idle, latest: now + answer + idle }
}

/// A socket that tells its pulse of every byte.
pub(super) struct Felt {
    pub(super) stream: TcpStream,
    pub(super) pulse: Arc<Pulse>,
}

impl AsyncRead for Felt {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.pulse.bytes_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Felt {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.pulse.bytes_written();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.pulse.bytes_written();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer's body; when it is gone the connection lies still.
pub(super) struct Answering<B> {
    body: B,
    pulse: Arc<Pulse>,
}

impl<B> Answering<B> {
    pub(super) fn new(body: B, pulse: Arc<Pulse>) -> Answering<B> {
        Answering { body, pulse }
    }
}

impl<B> Drop for Answering<B> {
    fn drop(&mut self) {
        self.pulse.still();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
