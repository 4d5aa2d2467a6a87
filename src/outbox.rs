//! The transactional outbox: intents, their records and the fence, kept on the shards of Redis beside the values they tell of.
//!
//! # On the shard
//! All names begin with the stash's key prefix and `decant|<stash>|`; keys that clients may use never begin so.
//!
//! | name | type | holds |
//! |---|---|---|
//! | `fence` | string | the phase in force: [`crate::protocol::Fence`] as text |
//! | `generation` | integer | counts every write |
//! | `record\|<key>` | hash | what the intents of `<key>` share, and one field an intent; lives as long as the key has one |
//! | `to-kask`, `to-redis` | sorted set | `<token><key>` by the intent's age; a damaged one at `+inf` |
//! | `damaged` | hash | intents given up on, by token, with the reason |
//! | `life` | hash | which process of Redis was accepted, which came before it, and whether writes are lost: see [`Witness`] |
//! | `members` | hash | the decants at work, by name: when each last said so, and what it believes |
//!
//! None of them has a TTL, so no `volatile-*` policy evicts them. Each step is one script: all its checks come before its first write,
//! and the first write is the one that a full Redis refuses.

mod calls;
mod damaged;
mod many;
mod members;
mod names;
mod open;
mod peek;
mod reply;
mod scripts;
mod shard_state;
mod witness;

pub use calls::{Outbox, OutboxSettings};
pub use damaged::Verdict;
pub use many::{Life, Weight};
pub use members::{Announced, Announcement};
pub use names::Names;
pub use peek::{Peek, PeekIntent, PeekRecord};
pub use reply::{REDIS_TYPE, UNREAD};
pub use shard_state::{Accepted, Damaged, Raised, ShardFault, ShardLook};
pub use witness::{Known, Suspect, Witness};
