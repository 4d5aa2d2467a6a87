//! The safeguards by name, so that each can be shown to be needed.

/// A rule without which an interleaving exists that loses a write, brings a deleted value back, or answers with an older one.
/// The simulation removes each in turn and must then fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safeguard {
    /// Writes leave an intent.
    Intent,
    /// Copies of old values leave an intent.
    RepairIntent,
    /// SETTLE compares the generation.
    Validate,
    /// The record remembers deletes.
    Tombstone,
    /// An evicted value counts in Kask only by its digest.
    Digest,
    /// The reaper claims nothing that may still be under way.
    Lease,
    /// SETTLE removes an intent only for its owner.
    Token,
    /// A request whose outcome is unknown is not sent again by its sender.
    NoResend,
    /// While Redis is the sequencer, it is written first.
    RedisFirst,
    /// Scripts that begin something compare the fence.
    Fence,
    /// A key with an open intent of the other direction takes no new write.
    Transit,
    /// `redis-standby` leaves an intent before it writes Kask.
    Mark,
    /// A mirrored value is checked against Kask again.
    Check,
    /// Nobody writes alone under a phase that is not settled or not the newest.
    Members,
    /// Lone writes make the mirror unclean before they happen.
    Unclean,
    /// A write that found other intents on its key waits like one whose copy failed.
    WaitOthers,
    /// A pending read asks Redis with fence and record in one step.
    CheckedRead,
    /// A pending value that Redis evicted is Kask's to answer only by its digest.
    EvictDigest,
    /// A server that comes back is compared with what was seen of the one before.
    Compare,
    /// Records of before a loss are not believed: neither read by, nor carried out.
    Disbelief,
    /// What only a server that lost writes has is not copied.
    Doubt,
    /// For a lease after a server came back nothing is copied from what it held before, and nothing settles.
    Quiet,
    /// In the middle of a move, where a server came back, Kask is not written before what it forgot must have arrived there.
    Arrival,
}

impl Safeguard {
    pub const ALL: [Safeguard; 23] = [
        Safeguard::Intent,
        Safeguard::RepairIntent,
        Safeguard::Validate,
        Safeguard::Tombstone,
        Safeguard::Digest,
        Safeguard::Lease,
        Safeguard::Token,
        Safeguard::NoResend,
        Safeguard::RedisFirst,
        Safeguard::Fence,
        Safeguard::Transit,
        Safeguard::Mark,
        Safeguard::Check,
        Safeguard::Members,
        Safeguard::Unclean,
        Safeguard::WaitOthers,
        Safeguard::CheckedRead,
        Safeguard::EvictDigest,
        Safeguard::Compare,
        Safeguard::Disbelief,
        Safeguard::Doubt,
        Safeguard::Quiet,
        Safeguard::Arrival,
    ];
}

/// Which safeguards hold. The product runs with [`Rules::ALL`], always.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    removed: Option<Safeguard>,
}

impl Rules {
    pub const ALL: Rules = Rules { removed: None };

    /// For the simulation: everything but one.
    pub fn without(removed: Safeguard) -> Rules {
        Rules { removed: Some(removed) }
    }

    pub fn holds(self, safeguard: Safeguard) -> bool {
        self.removed != Some(safeguard)
    }
}
