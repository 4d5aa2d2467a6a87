//! What became of one key. Pure.

use crate::{
    codec::{key::KeyFault, transcode},
    outbox::UNREAD,
    tier::kask::URL_TOO_LONG,
};
use std::sync::LazyLock;

/// From what tells least of the transfer to what tells most: of a key that was looked at twice the greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A tier could not be asked.
    Unknown,
    /// It had an open intent whenever it was looked at, and nothing shows that it is in step.
    Pending,
    /// MediaWiki reads the same value from both tiers.
    Equal,
    /// It was missing or different, was brought to the follower by the protocol, and is equal since.
    Fixed,
    /// Redis holds what Kask's side cannot carry; to clients it is a miss.
    Untranscodable(&'static str),
    /// Kask cannot have such a key.
    Unstorable(&'static str),
    /// The record remembers its delete, yet Kask holds a value.
    Tombstone,
    /// Kask holds another value.
    Different,
    /// Kask has no value.
    Missing,
}

/// Over `limits.key_bytes_max`.
pub(super) const OVER_LIMIT: &str = "over_limit";

/// Every class there is, each reason by itself, in order; a place in it is the byte that stands for the class.
static ALL: LazyLock<Vec<Class>> = LazyLock::new(|| {
    let faults = [KeyFault::Empty, KeyFault::TooLong, KeyFault::Slash, KeyFault::Dots, KeyFault::NotUtf8];
    let unstorable = faults.map(KeyFault::name).into_iter().chain([OVER_LIMIT, URL_TOO_LONG]);
    let untranscodable = transcode::REASONS.into_iter().chain(UNREAD);
    let mut all = vec![Class::Unknown, Class::Pending, Class::Equal, Class::Fixed];
    all.extend(untranscodable.map(Class::Untranscodable));
    all.extend(unstorable.map(Class::Unstorable));
    all.extend([Class::Tombstone, Class::Different, Class::Missing]);
    all.sort_unstable();
    all
});

impl Class {
    /// A metric label, and the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Class::Unknown => "unknown",
            Class::Pending => "pending",
            Class::Equal => "equal",
            Class::Fixed => "fixed",
            Class::Untranscodable(_) => "untranscodable",
            Class::Unstorable(_) => "unstorable",
            Class::Tombstone => "tombstone",
            Class::Different => "different",
            Class::Missing => "missing",
        }
    }

    pub fn reason(self) -> Option<&'static str> {
        match self {
            Class::Untranscodable(reason) | Class::Unstorable(reason) => Some(reason),
            _ => None,
        }
    }

    /// The tiers differ, and the protocol can bring them in step.
    pub fn is_to_be_fixed(self) -> bool {
        matches!(self, Class::Missing | Class::Different)
    }

    /// Greater for a greater class.
    pub(super) fn code(self) -> u8 {
        let place = ALL.binary_search(&self);
        debug_assert!(place.is_ok(), "{self:?} is a class without a byte: it would count as unknown");
        u8::try_from(place.unwrap_or(0)).unwrap_or(0)
    }

    pub(super) fn of(code: u8) -> Class {
        ALL.get(usize::from(code)).copied().unwrap_or(Class::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_byte_that_keeps_the_order() {
        assert!(ALL.len() < 256 && ALL.is_sorted());
        for (place, class) in ALL.iter().enumerate() {
            assert_eq!((usize::from(class.code()), Class::of(class.code())), (place, *class));
        }
        let of_a_reason = ALL.iter().filter(|class| class.reason().is_some()).count();
        assert_eq!(of_a_reason, transcode::REASONS.len() + UNREAD.len() + 7);
    }

    #[test]
    fn what_tells_more_counts_more() {
        assert!(Class::Missing > Class::Different && Class::Different > Class::Tombstone);
        assert!(Class::Fixed > Class::Equal && Class::Equal > Class::Pending && Class::Pending > Class::Unknown);
        assert!(
            Class::Tombstone > Class::Unstorable("slash")
                && Class::Unstorable("dots") > Class::Untranscodable("object")
        );
    }
}
