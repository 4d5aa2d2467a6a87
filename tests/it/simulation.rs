//! A deterministic simulation of the copy protocol: the code that ships, in a world that fails in every way the design speaks of.
//!
//! Several decants share one shard and one Kask. A seed decides the order in which tasks are polled, when requests land, what fails,
//! and when the phase moves. What is checked stands in [`checker`]; how moves behave, in [`mover`].
//! `DECANT_SIM_SEED` (the first seed) and `DECANT_SIM_SCHEDULES` (how many) choose other schedules.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

pub mod checker;
pub mod fleet;
pub mod forget;
pub mod harm;
pub mod kask;
pub mod life;
pub mod mover;
pub mod register;
pub mod scenarios;
pub mod scheduler;
pub mod shard;
pub mod world;

/// Seeded, and the only source of chance.
pub type Rng = fastrand::Rng;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A decant ends between any two steps.
    Crash,
    /// A Kask request is given up on, and applied later or never.
    Late,
    /// Kask answers 4xx.
    Refuse,
    /// Kask cannot be reached.
    NotSent,
    /// Kask answers 5xx, and has applied the request, or not.
    Error,
    /// Kask does not answer a read.
    KaskGet,
    /// Kask counts as away, rightly or not.
    KaskAway,
    /// A task or a decant sleeps, up to several leases.
    Stall,
    /// Redis evicts a value.
    Evict,
    /// A decant cannot reach the shard.
    Cut,
    /// A script is done, and its answer lost.
    LostReply,
    /// A script is given up on, and done later or never.
    LateScript,
    /// The shard takes no new values.
    Full,
    /// Redis comes back without its last writes.
    Lose,
    /// A member cannot reach etcd, and half the time not the shard either.
    EtcdCut,
    /// A member's lease runs out although it is at work.
    LeaseOver,
    /// A change in etcd is given up on, and made later or never.
    LateTxn,
    /// A change in etcd is made, and its answer lost.
    UnheardTxn,
}
