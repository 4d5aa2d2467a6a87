//! RedisBagOStuff's choice among its `servers`: the one whose string, with a slash and the key behind it, has the smallest MD5
//! (ArrayUtils::consistentHashSort). Its fail-over to the next one while a server is down is not followed.

use md5::{Digest, Md5};

pub(super) fn server_of(servers: &[String], key: &[u8]) -> usize {
    let digest = |server: &String| -> [u8; 16] {
        Md5::new_with_prefix(server.as_bytes()).chain_update(b"/").chain_update(key).finalize().into()
    };
    let nearest = servers.iter().enumerate().min_by_key(|(_, server)| digest(server));
    nearest.map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_digest_wins() {
        // As ArrayUtils::consistentHashSort of MediaWiki 1.39 answers.
        let servers = ["10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"].map(str::to_owned);
        for (key, server) in [
            (&b"k1"[..], 0),
            (b"k2", 2),
            (b"enwiki:echo:seen:alert:time:7", 2),
            (b"global:echo:seen:message:time:1234567", 0),
            (b"", 0),
            (b"\xff\0", 0),
        ] {
            assert_eq!(server_of(&servers, key), server, "{}", key.escape_ascii());
        }
    }
}
