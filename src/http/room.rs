//! The room that large bodies take: those of requests, while they are read and worked on, and those of answers, from when they are read
//! from a tier until the client has them. What finds no room is turned away before memory grows.

use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The first bytes of every body are free: connections and requests are bounded too, and most values are smaller.
const FREE_BYTES: usize = 8 * 1024;
/// Room is taken in steps of this many bytes.
const STEP: usize = 4 * 1024;

/// There is no room at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many large values are being held (limits.held_bytes_max)")]
pub struct NoRoom;

/// Shared by all who hold bodies. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

/// A body that comes piece by piece, and what it takes of the room.
#[derive(Debug)]
pub struct Growing {
    room: Room,
    permit: Option<OwnedSemaphorePermit>,
    steps: usize,
    /// The length that was announced; 0: none.
    told: usize,
    first: Bytes,
    many: BytesMut,
}

impl Room {
    /// For bodies of `bytes` in all, of which one may have `largest`: there is always room for one.
    pub fn new(bytes: usize, largest: usize) -> Room {
        Room(Arc::new(Semaphore::new(bytes.max(largest).div_ceil(STEP).min(Semaphore::MAX_PERMITS))))
    }

    /// For a body that is about to come. `told`: its length, if it was announced.
    pub fn begin(&self, told: Option<u64>) -> Growing {
        let told = told.and_then(|told| usize::try_from(told).ok()).unwrap_or(0);
        Growing { room: self.clone(), permit: None, steps: 0, told, first: Bytes::new(), many: BytesMut::new() }
    }

    /// For one that is there.
    ///
    /// # Errors
    /// It must be let go of.
    pub fn hold(&self, body: Bytes) -> Result<Bytes, NoRoom> {
        let mut growing = self.begin(None);
        growing.push(body)?;
        Ok(growing.finish())
    }
}

impl Growing {
    pub fn length(&self) -> usize {
        self.first.len() + self.many.len()
    }

    /// The next piece.
    ///
    /// # Errors
    /// All of it must be let go of.
    pub fn push(&mut self, piece: Bytes) -> Result<(), NoRoom> {
        let so_far = self.length();
        self.take(so_far + piece.len())?;
        if so_far == 0 {
            self.first = piece; // most bodies are one piece: not copied
            return Ok(());
        }
        if self.many.is_empty() {
            // All at once, where the length was told: doubling would take twice as much, and what is not written yet takes no memory.
            self.many.reserve(self.told.max(so_far + piece.len()));
            self.many.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.many.extend_from_slice(&piece);
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let steps = bytes.saturating_sub(FREE_BYTES).div_ceil(STEP);
        let Some(more) = steps.checked_sub(self.steps).filter(|more| *more > 0) else { return Ok(()) };
        let more = u32::try_from(more).map_err(|_| NoRoom)?;
        let more = self.room.0.clone().try_acquire_many_owned(more).map_err(|_| NoRoom)?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        self.steps = steps;
        Ok(())
    }

    /// The body: its room is free again when the last copy of it is gone.
    pub fn finish(self) -> Bytes {
        let bytes = if self.many.is_empty() { self.first } else { self.many.freeze() };
        match self.permit {
            Some(permit) => Bytes::from_owner(Held { bytes, _permit: permit }),
            None => bytes,
        }
    }
}

struct Held {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_as_a_body_grows_and_free_when_its_last_copy_is_gone() {
        let room = Room::new(10 * STEP, 0);
        let piece = |length| Bytes::from(vec![b'x'; length]);
        let mut growing = room.begin(Some(3));
        growing.push(piece(FREE_BYTES)).unwrap();
        assert_eq!(room.0.available_permits(), 10, "the first bytes are free");
        growing.push(piece(1)).unwrap();
        growing.push(piece(7 * STEP - 1)).unwrap();
        assert_eq!((growing.length(), room.0.available_permits()), (FREE_BYTES + 7 * STEP, 3));
        assert_eq!(room.hold(piece(FREE_BYTES + 4 * STEP)), Err(NoRoom));
        assert_eq!(growing.push(piece(4 * STEP)), Err(NoRoom));
        let body = growing.finish();
        let copy = body.slice(1..3);
        assert_eq!(body.len(), FREE_BYTES + 7 * STEP);
        drop(body);
        assert_eq!((&copy[..], room.0.available_permits()), (&b"xx"[..], 3));
        drop(copy);
        assert_eq!(room.0.available_permits(), 10);
    }

    #[test]
    fn there_is_always_room_for_one() {
        assert!(Room::new(1, 100 * STEP).hold(Bytes::from(vec![0; 100 * STEP])).is_ok());
    }

    #[test]
    fn pieces_come_out_as_they_went_in() {
        let mut growing = Room::new(0, 0).begin(Some(u64::MAX / 2));
        growing.told = 0;
        ["one", "", "two", "three"].into_iter().for_each(|piece| growing.push(Bytes::from(piece)).unwrap());
        assert_eq!(growing.finish(), "onetwothree");
    }
}
