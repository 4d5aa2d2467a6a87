//! The record of a stash's phase: where it is kept, who else follows it, and how it changes.
//!
//! With `file` it stands on this decant's own disk ([`FileStore`]), and the fence on the shards tells the others of it. With `etcd` it is
//! shared ([`Shared`]): every decant is a member of the fleet, watches the record, promises a move to write nothing alone under the phase
//! that it ends, and acknowledges the next one. What stands there is told by `view`, what follows from it by `standing`, and how it
//! changes by `steps`: none of them does anything.

mod file;
mod keys;
mod past;
mod session;
mod shared;
mod standing;
mod steps;
mod view;

pub use file::FileStore;
pub use keys::Keys;
pub use session::SessionFault;
pub use shared::{HistoryFault, Known, Reporter, Shared, SharedSettings};
pub use standing::{Duty, Own, Standing, driver};
pub use steps::{MEMBERS_MAX, happening};
pub use view::{Entries, Kept, Member, Promise, Proposal, Registration, Report, View};

use crate::phase::file::{RecordFault, RecordFile};
use std::time::SystemTime;

/// Work on the disk, which the runtime does not wait for.
async fn on_disk<T: Send + 'static>(
    file: &RecordFile,
    work: impl FnOnce(&RecordFile) -> Result<T, RecordFault> + Send + 'static,
) -> Result<T, RecordFault> {
    let (worked, named) = (file.clone(), file);
    let done = tokio::task::spawn_blocking(move || work(&worked)).await;
    done.unwrap_or_else(|ended| Err(named.unwritten(std::io::Error::other(ended))))
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
