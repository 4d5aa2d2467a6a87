//! The accept loop, its limits and its drain: what both listeners and the embedded Kask stand on.

mod body;
mod limits;
mod pulse;
mod reply;
mod room;
mod serve;

pub use body::{BodyFault, discard, read_body};
pub use limits::Limits;
pub use reply::Reply;
pub use room::{Growing, NoRoom, Room};
pub use serve::{Drained, serve};
