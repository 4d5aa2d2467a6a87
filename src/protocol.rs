//! The copy protocol: what to do next, and in which order.
//!
//! Every function here is written against [`World`], which stands for the two tiers and the clock: no socket, no
//! `Instant::now()`, no runtime. The product gives it Redis and Kask; the simulation in `tests/` gives it a model of both, in which
//! it crashes, stalls, delays and moves phases at will, so that what is tested is what runs.
//!
//! # Words
//! - **sequencer**: the tier whose order of writes counts. The other is the **follower**.
//! - **intent**: "the tiers may differ for this key", one for each write or copy under way, kept in Redis under an owner [`Token`].
//! - **record**: what all intents of a key share: direction, generation and kind of the newest write.
//! - **settle**: prove that the tiers agree, and remove the intent.
//! - **fence**: on each shard, the phase in force. What begins something carries what its decant believes, and is refused when
//!   anything differs.

pub mod backfill;
pub mod belief;
pub mod copy;
pub mod heal;
pub mod mirror;
pub mod pending;
pub mod read;
pub mod reap;
pub mod repair;
pub mod rules;
pub mod site;
pub mod world;
pub mod write;

pub use belief::{Belief, Beliefs, Fence};
pub use rules::{Rules, Safeguard};
pub use site::{Settings, Site};
pub use world::World;
