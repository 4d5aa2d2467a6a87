//! The table of every key: what it may hold, and what it holds when it is left out.

/// What a key may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// The path of a file or directory.
    Path,
    /// `address:port`.
    Address,
    Bool,
    /// A whole number of `unit`, both bounds included.
    Whole {
        min: u64,
        max: u64,
        unit: &'static str,
    },
    /// A number from 0 to 1.
    Share,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A secret itself: only from the environment.
    Secret,
    /// A URL that may hold a password: never shown as it stands.
    SecretUrl,
    /// Several texts: an array, or one text with commas between them.
    List,
}

/// One key. `*` in the path stands for a name that the operator chooses.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub path: &'static str,
    pub kind: Kind,
    /// As TOML; `None` where there is no default: the key is required, or its absence means something.
    pub default: Option<&'static str>,
}

const fn key(path: &'static str, kind: Kind, default: &'static str) -> KeySpec {
    KeySpec { path, kind, default: Some(default) }
}

const fn bare(path: &'static str, kind: Kind) -> KeySpec {
    KeySpec { path, kind, default: None }
}

const fn ms(min: u64, max: u64) -> Kind {
    Kind::Whole { min, max, unit: "milliseconds" }
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Whole { min, max, unit: "bytes" }
}

const fn count(min: u64, max: u64, unit: &'static str) -> Kind {
    Kind::Whole { min, max, unit }
}

/// Cassandra's longest TTL: 20 years.
const TTL_S_MAX: u64 = 20 * 365 * 24 * 3600;
/// Cassandra refuses larger values (measured: 16 MiB, all of the mutation counted).
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;

const FORMATS: Kind = Kind::Word(&["json", "text"]);
const LEVELS: Kind = Kind::Word(&["error", "warn", "info", "debug", "trace"]);
const PHASES: Kind = Kind::Word(&["redis-only", "dual-write", "kask-first", "redis-standby", "kask-only"]);

/// Every key there is.
pub const KEYS: &[KeySpec] = &[
    key("listen", Kind::Address, r#""127.0.0.1:8081""#),
    key("state_dir", Kind::Path, r#""data""#),
    key("admin.listen", Kind::Address, r#""127.0.0.1:9081""#),
    bare("admin.token_file", Kind::Path),
    bare("admin.token", Kind::Secret),
    key("log.format", FORMATS, r#""json""#),
    key("log.level", LEVELS, r#""info""#),
    key("log.log_keys", Kind::Bool, "false"),
    // hyper needs 8 KiB to read a head at all.
    key("limits.header_bytes_max", bytes(8192, 1024 * 1024), "16384"),
    key("limits.body_bytes_max", bytes(1, BODY_BYTES_MAX), "15728640"),
    key("limits.held_bytes_max", bytes(1024 * 1024, 1024 * 1024 * 1024 * 1024), "268435456"),
    key("limits.key_bytes_max", bytes(1, crate::codec::key::KEY_BYTES_MAX as u64), "65535"),
    key("limits.connections_max", count(1, 1_000_000, "connections"), "10000"),
    key("limits.requests_in_flight_max", count(1, 1_000_000, "requests"), "1024"),
    key("limits.header_timeout_ms", ms(100, 60_000), "5000"),
    key("limits.body_timeout_ms", ms(100, 300_000), "10000"),
    // More than Envoy's 4.5 s: who closes a kept-alive connection first must be the one that sends on it.
    key("limits.idle_timeout_ms", ms(5_000, 3_600_000), "65000"),
    key("limits.drain_timeout_ms", ms(0, 300_000), "10000"),
    key("fleet.store", Kind::Word(&["file", "etcd"]), r#""file""#),
    bare("fleet.etcd.endpoints", Kind::Text),
    key("fleet.etcd.prefix", Kind::Text, r#""/decant""#),
    key("fleet.etcd.lease_ms", ms(2_000, 600_000), "10000"),
    bare("fleet.etcd.username", Kind::Text),
    bare("fleet.etcd.password_file", Kind::Path),
    bare("fleet.etcd.password", Kind::Secret),
    bare("fleet.etcd.ca_file", Kind::Path),
    bare("fleet.etcd.cert_file", Kind::Path),
    bare("fleet.etcd.key_file", Kind::Path),
    bare("stash.*.base_uri", Kind::Text),
    bare("stash.*.phase", PHASES),
    bare("stash.*.serialization", Kind::Word(&["json", "php"])),
    bare("stash.*.hmac_key_file", Kind::Path),
    bare("stash.*.hmac_key", Kind::Secret),
    bare("stash.*.default_ttl", count(0, TTL_S_MAX, "seconds")),
    key("stash.*.replication", Kind::Word(&["sync", "async"]), r#""sync""#),
    key("stash.*.on_tier_failure", Kind::Word(&["heal", "fail"]), r#""heal""#),
    key("stash.*.shadow_share", Kind::Share, "0.01"),
    bare("stash.*.guards.soak_s", count(0, 365 * 24 * 3600, "seconds")),
    key("stash.*.guards.shadow_mismatch_max", Kind::Share, "0.001"),
    key("stash.*.guards.kask_errors_max", Kind::Share, "0.01"),
    key("stash.*.kask.embedded", Kind::Bool, "false"),
    bare("stash.*.kask.url", Kind::Text),
    key("stash.*.kask.timeout_ms", ms(10, 2_400), "1200"),
    bare("stash.*.redis.url", Kind::SecretUrl),
    bare("stash.*.redis.url_file", Kind::Path),
    bare("stash.*.redis.username", Kind::Text),
    bare("stash.*.redis.password_file", Kind::Path),
    bare("stash.*.redis.password", Kind::Secret),
    bare("stash.*.redis.sentinels", Kind::List),
    bare("stash.*.redis.master", Kind::Text),
    bare("stash.*.redis.database", count(0, 65_535, "databases")),
    bare("stash.*.redis.sentinel_username", Kind::Text),
    bare("stash.*.redis.sentinel_password_file", Kind::Path),
    bare("stash.*.redis.sentinel_password", Kind::Secret),
    bare("stash.*.redis.tls", Kind::Bool),
    bare("stash.*.redis.ca_file", Kind::Path),
    bare("stash.*.redis.client_cert_file", Kind::Path),
    bare("stash.*.redis.client_key_file", Kind::Path),
    bare("stash.*.redis.tls_name", Kind::Text),
    bare("stash.*.redis.shards.*.url", Kind::SecretUrl),
    bare("stash.*.redis.shards.*.url_file", Kind::Path),
    bare("stash.*.redis.shards.*.username", Kind::Text),
    bare("stash.*.redis.shards.*.password_file", Kind::Path),
    bare("stash.*.redis.shards.*.password", Kind::Secret),
    bare("stash.*.redis.shards.*.sentinels", Kind::List),
    bare("stash.*.redis.shards.*.master", Kind::Text),
    bare("stash.*.redis.shards.*.database", count(0, 65_535, "databases")),
    bare("stash.*.redis.shards.*.sentinel_username", Kind::Text),
    bare("stash.*.redis.shards.*.sentinel_password_file", Kind::Path),
    bare("stash.*.redis.shards.*.sentinel_password", Kind::Secret),
    bare("stash.*.redis.shards.*.tls", Kind::Bool),
    bare("stash.*.redis.shards.*.ca_file", Kind::Path),
    bare("stash.*.redis.shards.*.client_cert_file", Kind::Path),
    bare("stash.*.redis.shards.*.client_key_file", Kind::Path),
    bare("stash.*.redis.shards.*.tls_name", Kind::Text),
    bare("stash.*.redis.shards.*.hashed_as", Kind::Text),
    bare("stash.*.redis.shards.*.weight", count(1, 1_000_000, "parts")),
    key("stash.*.redis.distribution", Kind::Word(&["single", "ketama", "mediawiki"]), r#""single""#),
    bare("stash.*.redis.hash", Kind::Word(&["md5", "fnv1a_64"])),
    bare("stash.*.redis.hash_tag", Kind::Text),
    key("stash.*.redis.prefix", Kind::Text, r#""""#),
    key("stash.*.redis.timeout_ms", ms(10, 1_200), "400"),
    key("stash.*.redis.after_loss", Kind::Word(&["serve", "hold"]), r#""serve""#),
    key("stash.*.outbox.lease_ms", ms(1_000, 600_000), "15000"),
    key("stash.*.outbox.allow_short_lease", Kind::Bool, "false"),
    key("stash.*.outbox.look_every_ms", ms(10, 10_000), "100"),
    key("stash.*.outbox.look_fresh_ms", ms(20, 20_000), "200"),
    key("stash.*.outbox.settle_wait_ms", ms(30, 2_000), "250"),
    key("stash.*.outbox.pending_keys_max", count(1, 1_000_000, "keys"), "10000"),
    key("stash.*.outbox.tries_max", count(1, 1_000, "tries"), "5"),
    key("stash.*.backfill.keys_per_s", count(0, 1_000_000_000, "keys"), "0"),
    key("stash.*.backfill.bytes_per_s", bytes(0, 1_000_000_000_000), "0"),
    key("stash.*.backfill.harmless_ms", ms(1, 10_000), "20"),
];

/// What stands at a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    Key(&'static KeySpec),
    Table,
    Unknown,
}

pub(super) fn node_at(path: &[String]) -> Node {
    for spec in KEYS {
        let segments: Vec<&str> = spec.path.split('.').collect();
        let fits = path.iter().zip(&segments).all(|(have, want)| *want == "*" || have == want);
        if fits && path.len() == segments.len() {
            return Node::Key(spec);
        }
        if fits && path.len() < segments.len() {
            return Node::Table;
        }
    }
    Node::Unknown
}

/// The names that may stand in the table at `path`, in the order of [`KEYS`]; `*` where the operator chooses.
pub(super) fn names_in(path: &[String]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for spec in KEYS {
        let segments: Vec<&'static str> = spec.path.split('.').collect();
        let fits = path.iter().zip(&segments).all(|(have, want)| *want == "*" || have == want);
        if let Some(name) = segments.get(path.len()).filter(|_| fits)
            && !names.contains(name)
        {
            names.push(name);
        }
    }
    names
}

/// Other places where a key of this name stands, as full paths with the `*` of `path` filled in where it has them.
pub(super) fn elsewhere(path: &[String]) -> Vec<String> {
    let Some(name) = path.last() else { return Vec::new() };
    let filled = |spec: &KeySpec| {
        let segments = spec.path.split('.').enumerate();
        let fill = |(i, segment): (usize, &str)| match path.get(i) {
            Some(own) if segment == "*" && i + 1 < path.len() => own.clone(),
            _ if segment == "*" => "NAME".to_owned(),
            _ => segment.to_owned(),
        };
        segments.map(fill).collect::<Vec<_>>().join(".")
    };
    KEYS.iter().filter(|spec| spec.path.rsplit('.').next() == Some(name.as_str())).map(filled).collect()
}

/// The nearest of `candidates`, if it is near enough to be what was meant.
pub(super) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = 1 + text.chars().count() / 3;
    let near = candidates.into_iter().map(|candidate| (distance(text, candidate), candidate)).min();
    near.filter(|(distance, _)| *distance <= far).map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements between two texts. Bounded: names longer than 64 are near nothing.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().max(b.len()) > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, y) in b.iter().enumerate() {
            let best = (row[j + 1] + 1).min(row[j] + 1).min(diagonal + usize::from(x != y));
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("abc", "abc", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        assert_eq!(nearest("timeout", ["timeout_ms", "url"]), Some("timeout_ms"));
        assert_eq!(nearest("colour", ["timeout_ms", "url"]), None);
    }

    #[test]
    fn no_key_is_also_a_table() {
        for spec in KEYS {
            for other in KEYS {
                assert!(!other.path.starts_with(&format!("{}.", spec.path)), "{} and {}", spec.path, other.path);
            }
        }
    }
}
