use super::*;
use crate::config::KetamaHash;

const MD5: Distribution = Distribution::Ketama { hash: KetamaHash::Md5, tag: None };

fn places(names: &[&str]) -> Vec<ShardPlace> {
    names.iter().map(|name| ShardPlace::named(name)).collect()
}

fn map(distribution: Distribution, names: &[&str], prefix: &str) -> ShardMap {
    ShardMap::new(distribution, places(names), prefix).unwrap()
}

fn key(text: &str) -> Key {
    Key::from_bytes(text.as_bytes().to_vec())
}

#[test]
fn one_shard_has_every_key_under_the_prefix() {
    for distribution in [Distribution::Single, MD5, Distribution::Mediawiki] {
        let map = map(distribution, &["a"], "wiki:");
        let key = Key::from_bytes(&b"enwiki:\xff x"[..]);
        assert_eq!((map.shard_of(&key), map.len()), (0, 1));
        assert_eq!(map.redis_key(&key), b"wiki:enwiki:\xff x");
        assert_eq!(map.prefix(), b"wiki:");
    }
}

#[test]
fn a_list_that_does_not_fit_is_refused() {
    let new = |distribution, shards| ShardMap::new(distribution, shards, "").map(|_| ());
    assert_eq!(new(Distribution::Single, vec![]), Err(ShardMapFault::Empty));
    assert_eq!(new(Distribution::Single, places(&["a", "b"])), Err(ShardMapFault::NotSingle(2)));
    assert_eq!(new(MD5, places(&["a", "a"])), Err(ShardMapFault::SameName("a".into())));
    let same = ["a", "b"].map(|name| ShardPlace { hashed_as: "c".into(), ..ShardPlace::named(name) });
    assert_eq!(new(Distribution::Mediawiki, same.to_vec()), Err(ShardMapFault::SameHash("c".into())));
}

/// nutcracker hashes what its client sends, MediaWiki what its Redis extension is given.
#[test]
fn the_prefix_counts_for_nutcracker_and_not_for_mediawiki() {
    let names = ["a", "b", "c", "d"];
    let same = |distribution| {
        let (plain, prefixed) = (map(distribution, &names, ""), map(distribution, &names, "p:"));
        let by_name = |i: u32| (key(&format!("p:k{i}")), key(&format!("k{i}")));
        let (mut same, mut all) = (0, 0);
        for (name, bare) in (0..200).map(by_name) {
            all += 1;
            let expected = if distribution == Distribution::Mediawiki { &bare } else { &name };
            same += usize::from(plain.shard_of(expected) == prefixed.shard_of(&bare));
        }
        (same, all)
    };
    assert_eq!(same(MD5), (200, 200));
    assert_eq!(same(Distribution::Mediawiki), (200, 200));
}

#[test]
fn the_digest_covers_all_that_places_a_key() {
    let digest = |distribution, shards: &[ShardPlace], prefix: &str| {
        ShardMap::new(distribution, shards.to_vec(), prefix).unwrap().digest().to_owned()
    };
    let (a, b) = (ShardPlace::named("a"), ShardPlace::named("b"));
    let fnv = Distribution::Ketama { hash: KetamaHash::Fnv1a64, tag: None };
    let tagged = Distribution::Ketama { hash: KetamaHash::Md5, tag: Some(*b"{}") };
    let both = [a.clone(), b.clone()];
    let all = [
        digest(Distribution::Single, std::slice::from_ref(&a), ""),
        digest(Distribution::Single, std::slice::from_ref(&b), ""),
        digest(Distribution::Single, std::slice::from_ref(&a), "p"),
        digest(MD5, std::slice::from_ref(&a), ""),
        digest(MD5, &both, ""),
        digest(MD5, &[b.clone(), a.clone()], ""),
        digest(fnv, &both, ""),
        digest(tagged, &both, ""),
        digest(Distribution::Mediawiki, &both, ""),
        digest(MD5, &[ShardPlace { weight: 2, ..a.clone() }, b.clone()], ""),
        digest(MD5, &[ShardPlace { hashed_as: "c".into(), ..a.clone() }, b.clone()], ""),
        digest(MD5, &[ShardPlace { name: "c".into(), ..a }, b], ""),
    ];
    for (i, one) in all.iter().enumerate() {
        assert!(one.len() == 64 && all.iter().skip(i + 1).all(|other| other != one), "{i}: {all:?}");
    }
    // Members of a fleet compare it across versions of decant.
    assert_eq!(all[0], "18848d46576eea4582371316b4cd65460d1caf6dfd21fe600a22223fa71f68f6");
}

/// Where Debian's nutcracker 0.5.0 put these keys, on four servers named shard01 to shard04.
#[test]
fn keys_are_where_nutcracker_puts_them() {
    let keys: [&[u8]; 10] = [
        b"enwiki:echo:seen:alert:time:7",
        b"global:echo:seen:message:time:1234567",
        b"enwiki:MWSession:0123456789abcdef0123456789abcdef",
        "dewiki:\u{43a}\u{43b}\u{44e}\u{447} \u{e9}".as_bytes(),
        b"\xff\xfe\x80\0",
        b"a{b}c",
        b"k1",
        b"k2",
        b"k3",
        b"k4",
    ];
    let fnv = Distribution::Ketama { hash: KetamaHash::Fnv1a64, tag: None };
    let tagged = Distribution::Ketama { hash: KetamaHash::Md5, tag: Some(*b"{}") };
    for (distribution, placed) in [
        (MD5, [3, 0, 1, 3, 2, 2, 0, 0, 2, 3]),
        (fnv, [1, 3, 1, 2, 3, 3, 2, 2, 2, 2]),
        (tagged, [3, 0, 1, 3, 2, 3, 0, 0, 2, 3]),
    ] {
        let map = map(distribution, &["shard01", "shard02", "shard03", "shard04"], "");
        let ours = keys.map(|key| map.shard_of(&Key::from_bytes(key.to_vec())));
        assert_eq!(ours, placed, "{distribution:?}");
        assert_eq!(map.shared_points(), 0);
    }
}
