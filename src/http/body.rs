//! A request's body, read whole: bounded in bytes, in time, and in what all bodies together hold.

use super::{Limits, NoRoom, Room};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::time::Duration;

/// How much of a body that is refused is still read, so that its sender reads the answer instead of a reset.
const DISCARD_BYTES_MAX: usize = 64 * 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body broke off or is no HTTP")]
    Broken,
    #[error("no room for the body: too many are being held")]
    NoRoom,
}

/// Reads `body` to its end. On a fault the caller answers with `Connection: close`; see [`discard`].
pub async fn read_body(body: &mut Incoming, limits: &Limits, room: &Room) -> Result<Bytes, BodyFault> {
    if body.size_hint().lower() > limits.body_bytes_max as u64 {
        return Err(BodyFault::TooLarge);
    }
    match tokio::time::timeout(limits.body_timeout, collect(body, limits.body_bytes_max, room)).await {
        Ok(read) => read,
        Err(_) => Err(BodyFault::TooSlow),
    }
}

async fn collect(body: &mut Incoming, bytes_max: usize, room: &Room) -> Result<Bytes, BodyFault> {
    let mut growing = room.begin(body.size_hint().exact());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyFault::Broken)?.into_data() else { continue };
        if data.len() > bytes_max - growing.length() {
            return Err(BodyFault::TooLarge);
        }
        growing.push(data).map_err(|NoRoom| BodyFault::NoRoom)?;
    }
    Ok(growing.finish())
}

/// Reads and drops what is left of a refused body, within limits of its own. Nothing is held.
pub async fn discard(body: &mut Incoming) {
    let mut left = DISCARD_BYTES_MAX;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, reading).await;
}
