//! The body of an answer: nothing, or one piece.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

/// Go's HTTP server buffers this many bytes; what is longer goes out chunked, and Kask's clients are used to that.
const SIZED_BYTES_MAX: usize = 2048;

/// A whole body. Up to 2048 bytes it is sent with `Content-Length`, above chunked, as Go does.
#[derive(Debug, Default)]
pub struct Reply {
    data: Option<Bytes>,
    chunked: bool,
}

impl Reply {
    pub fn empty() -> Reply {
        Reply::default()
    }

    pub fn whole(data: impl Into<Bytes>) -> Reply {
        let data: Bytes = data.into();
        Reply { chunked: data.len() > SIZED_BYTES_MAX, data: Some(data).filter(|d| !d.is_empty()) }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.data {
            Some(_) if self.chunked => SizeHint::default(),
            Some(data) => SizeHint::with_exact(data.len() as u64),
            None => SizeHint::with_exact(0),
        }
    }
}
