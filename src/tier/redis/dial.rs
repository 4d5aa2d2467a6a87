//! From a target to a stream of bytes: the Sentinels asked, TCP or a Unix socket, TLS.

use super::target::{Place, Target};
use super::tls::Tls;
use super::url::Socket;
use redis::RedisError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A connection that nothing has been said on yet.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Connects, and tells to where.
pub(super) async fn dial(target: &Target) -> Result<(Box<dyn Stream>, Socket), RedisError> {
    let socket = match &target.place {
        Place::Fixed(socket) => socket.clone(),
        Place::Sentinels(sentinels) => {
            let (host, port) = sentinels.primary().await?;
            Socket::Tcp(host, port)
        }
    };
    let stream = match &socket {
        Socket::Tcp(host, port) => tcp(host, *port, target.tls.as_deref()).await?,
        Socket::Unix(path) => Box::new(UnixStream::connect(path).await?),
    };
    Ok((stream, socket))
}

pub(super) async fn tcp(host: &str, port: u16, tls: Option<&Tls>) -> Result<Box<dyn Stream>, RedisError> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(match tls {
        None => Box::new(stream),
        Some(tls) => Box::new(tls.connect(host, stream).await?),
    })
}
