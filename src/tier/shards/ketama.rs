//! twemproxy's (nutcracker's) ketama, bit for bit as its C code on x86-64 has it, oddities included.

use crate::config::KetamaHash;
use md5::{Digest, Md5};

/// Points of a server of average weight.
const POINTS_PER_SERVER: f32 = 160.0;
/// One MD5 gives so many.
const POINTS_PER_HASH: f32 = 4.0;

/// A hash of a key.
pub(super) type Hash = fn(&[u8]) -> u32;

pub(super) fn hash(hash: KetamaHash) -> Hash {
    match hash {
        KetamaHash::Md5 => |key| word(&md5(key), 0),
        KetamaHash::Fnv1a64 => fnv1a_64,
    }
}

fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// The `index`-th 32-bit word of a digest.
fn word(digest: &[u8; 16], index: usize) -> u32 {
    let at = index * 4;
    u32::from_le_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]])
}

/// Not FNV-1a of 64 bits: nutcracker keeps 32 of them all along, and takes a byte over 0x7f for a negative number.
fn fnv1a_64(key: &[u8]) -> u32 {
    const INIT: u32 = 0x8422_2325;
    const PRIME: u32 = 0x1b3;
    key.iter().fold(INIT, |hash, byte| (hash ^ (*byte as i8) as u32).wrapping_mul(PRIME))
}

/// nutcracker's `hash_tag`: where the key has something between the two bytes, that alone is hashed.
pub(super) fn hashed_part(key: &[u8], tag: Option<[u8; 2]>) -> &[u8] {
    let inside = || {
        let [opens, closes] = tag?;
        let rest = &key[key.iter().position(|byte| *byte == opens)? + 1..];
        let end = rest.iter().position(|byte| *byte == closes)?;
        (end > 0).then(|| &rest[..end])
    };
    inside().unwrap_or(key)
}

/// The ring: points by their value, each with the index of its server.
#[derive(Clone, Debug)]
pub(super) struct Continuum(Vec<(u32, usize)>);

impl Continuum {
    /// `servers`: what is hashed for each, and its weight.
    pub(super) fn new(servers: &[(&str, u32)]) -> Continuum {
        let total: u32 = servers.iter().fold(0, |sum, (_, weight)| sum.wrapping_add(*weight));
        let mut points = Vec::new();
        for (server, (name, weight)) in servers.iter().enumerate() {
            for hash in 0..hashes_of(*weight, total, servers.len()) {
                let digest = md5(format!("{name}-{hash}").as_bytes());
                points.extend((0..POINTS_PER_HASH as usize).map(|index| (word(&digest, index), server)));
            }
        }
        // Stable: of two servers at one point the first one has it.
        points.sort_by_key(|(value, _)| *value);
        Continuum(points)
    }

    /// The server of the first point at or after `hash`; the ring closes.
    pub(super) fn server_of(&self, hash: u32) -> usize {
        let at = self.0.partition_point(|(value, _)| *value < hash);
        self.0.get(at).or(self.0.first()).map_or(0, |(_, server)| *server)
    }

    pub(super) fn shared_points(&self) -> usize {
        self.0.windows(2).filter(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1).count()
    }
}

/// How many MD5s a server gets. In C's mix of float and double: rounded otherwise, a server has a point more or less.
fn hashes_of(weight: u32, total: u32, servers: usize) -> u32 {
    let share = weight as f32 / total as f32;
    let hashes = share * POINTS_PER_SERVER / POINTS_PER_HASH * servers as f32;
    ((f64::from(hashes) + 0.000_000_000_1) as f32).floor() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_of_a_key_is_its_first_word() {
        // MD5("") is d41d8cd98f00b204e9800998ecf8427e.
        assert_eq!(hash(KetamaHash::Md5)(b""), 0xd98c_1dd4);
        assert_eq!(word(&md5(b""), 3), 0x7e42_f8ec);
    }

    #[test]
    fn fnv1a_64_is_what_nutcracker_makes_of_it() {
        assert_eq!(fnv1a_64(b""), 0x8422_2325);
        // Of ASCII: the low half of FNV-1a's 64 bits, af63dc4c8601ec8c for "a".
        assert_eq!(fnv1a_64(b"a"), 0x8601_ec8c);
        // Of other bytes it is not: FNV-1a's would be …8601 ^ …
        assert_eq!(fnv1a_64(b"\xff"), (0x8422_2325_u32 ^ 0xffff_ffff).wrapping_mul(0x1b3));
    }

    #[test]
    fn a_hash_tag_is_what_lies_between_the_two_bytes() {
        for (key, part) in [
            ("a{b}c", "b"),
            ("a{}c", "a{}c"),
            ("{b", "{b"),
            ("}b{c}", "c"),
            ("{a{b}}", "a{b"),
            ("ab", "ab"),
            ("{}{b}", "{}{b}"),
        ] {
            assert_eq!(hashed_part(key.as_bytes(), Some(*b"{}")), part.as_bytes(), "{key}");
            assert_eq!(hashed_part(key.as_bytes(), None), key.as_bytes());
        }
        assert_eq!(hashed_part(b"a$b$c", Some(*b"$$")), b"b");
    }

    #[test]
    fn weights_share_the_points() {
        assert_eq!(hashes_of(1, 1, 1), 40);
        // As C rounds: of 25 equal servers each has one MD5 less.
        let odd: Vec<usize> = (1..=128).filter(|n| hashes_of(1, *n as u32, *n) != 40).collect();
        assert_eq!(odd, [25, 47, 50, 55, 61, 71, 94, 100, 107, 109, 110, 115, 122]);
        assert_eq!(hashes_of(1, 25, 25), 39);
        assert_eq!((hashes_of(3, 4, 2), hashes_of(1, 4, 2)), (60, 20));
        assert_eq!((hashes_of(100_000, 100_001, 2), hashes_of(1, 100_001, 2)), (79, 0));
        let ring = Continuum::new(&[("a", 100_000), ("b", 1)]);
        assert!(ring.0.len() == 316 && ring.0.iter().all(|(_, server)| *server == 0));
    }

    #[test]
    fn the_ring_closes_and_the_first_of_two_at_one_point_has_it() {
        let ring = Continuum(vec![(10, 1), (20, 0), (20, 1), (30, 0)]);
        let servers = [0, 10, 11, 20, 21, 30, 31, u32::MAX].map(|hash| ring.server_of(hash));
        assert_eq!(servers, [1, 1, 0, 0, 0, 0, 1, 1]);
        assert_eq!(ring.shared_points(), 1);
        assert_eq!(Continuum(vec![]).server_of(5), 0);
    }
}
