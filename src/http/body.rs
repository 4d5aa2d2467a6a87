//! A request's body, read whole: bounded in bytes, in time, and in what all bodies together hold.

use super::Limits;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room is taken in steps of this many bytes. The first step is free: connections are bounded too.
const STEP: usize = 64 * 1024;
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

/// The room that all bodies of one listener share.
#[derive(Clone)]
pub struct BodyRoom(Arc<Semaphore>);

impl BodyRoom {
    pub fn new(limits: &Limits) -> BodyRoom {
        // Never less than one whole body, or none of that size could ever be read.
        let bytes = limits.bodies_bytes_max.max(limits.body_bytes_max);
        BodyRoom(Arc::new(Semaphore::new(bytes.div_ceil(STEP).min(Semaphore::MAX_PERMITS))))
    }
}

/// A body and the room it takes; the room is given back when this is dropped.
#[derive(Debug, Default)]
pub struct HeldBody {
    pub bytes: Bytes,
    room: Vec<OwnedSemaphorePermit>,
}

/// Reads `body` to its end. On a fault the caller answers with `Connection: close`; see [`discard`].
pub async fn read_body(body: &mut Incoming, limits: &Limits, room: &BodyRoom) -> Result<HeldBody, BodyFault> {
    if body.size_hint().lower() > limits.body_bytes_max as u64 {
        return Err(BodyFault::TooLarge);
    }
    match tokio::time::timeout(limits.body_timeout, collect(body, limits.body_bytes_max, room)).await {
        Ok(read) => read,
        Err(_) => Err(BodyFault::TooSlow),
    }
}

async fn collect(body: &mut Incoming, bytes_max: usize, room: &BodyRoom) -> Result<HeldBody, BodyFault> {
    let mut held = HeldBody::default();
    let mut many = BytesMut::new();
    let mut free = STEP;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyFault::Broken)?.into_data() else { continue };
        let so_far = held.bytes.len() + many.len();
        if data.len() > bytes_max - so_far {
            return Err(BodyFault::TooLarge);
        }
        while so_far + data.len() > free {
            held.room.push(room.0.clone().try_acquire_owned().map_err(|_| BodyFault::NoRoom)?);
            free += STEP;
        }
        if so_far == 0 {
            held.bytes = data; // most bodies are one frame: not copied
            continue;
        }
        if many.is_empty() {
            many.extend_from_slice(&std::mem::take(&mut held.bytes));
        }
        many.extend_from_slice(&data);
    }
    if !many.is_empty() {
        held.bytes = many.freeze();
    }
    Ok(held)
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
