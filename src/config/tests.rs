use super::*;
use std::{collections::BTreeSet, path::PathBuf};

/// The reference at the repository's root.
const REFERENCE: &str = include_str!("../../proxy.toml");

fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigFaults> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("proxy.toml");
    std::fs::write(&file, text).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    load(Sources { file: Some(file), environment, flags: vec![] })
}

/// A configuration with the required keys alone, and `more` at its end.
fn minimal(more: &str) -> String {
    format!(
        "[stash.a]\nbase_uri = '/a/'\nphase = 'kask-first'\nserialization = 'json'\ndefault_ttl = 60\n\
         kask.url = 'http://kask:1/a/'\nredis.url = 'redis://cache'\n{more}\n"
    )
}

/// (keys at fault, whole report)
fn faults_of(text: &str, environment: &[(&str, &str)]) -> (Vec<String>, String) {
    match load_text(text, environment) {
        Ok(loaded) => panic!("no fault in {:?}", loaded.config),
        Err(faults) => (faults.faults().iter().map(|fault| fault.key.clone()).collect(), faults.to_string()),
    }
}

/// Every `key = value` of the reference, also the ones that are commented out, as (path, line of TOML).
fn keys_of_reference() -> Vec<(String, String)> {
    let mut table = String::new();
    let mut keys = Vec::new();
    for line in REFERENCE.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(header) = line.strip_prefix('[') {
            table = header.split(']').next().unwrap_or_default().to_owned();
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            let path = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
            keys.push((path, line.to_owned()));
        }
    }
    keys
}

fn general(path: &str) -> String {
    path.replace("stash.echoseen", "stash.*").replace("shards.redis01", "shards.*")
}

#[test]
fn the_reference_is_a_configuration_and_warns_of_nothing() {
    let loaded = load_text(REFERENCE, &[]).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.stashes[0].kask.endpoint, KaskEndpoint::Embedded);
}

#[test]
fn the_reference_names_every_key_and_no_other() {
    let named: BTreeSet<String> = keys_of_reference().iter().map(|(path, _)| general(path)).collect();
    for spec in KEYS {
        let leaf = spec.path.rsplit('.').next().unwrap();
        let as_above = spec.path.replace("shards.*.", "");
        let shard_companion = spec.path.contains("shards.*.") && KEYS.iter().any(|other| other.path == as_above);
        let by_variable = spec.kind == Kind::Secret && REFERENCE.contains(&format!("# {leaf}: only as DECANT_"));
        assert!(named.contains(spec.path) || shard_companion || by_variable, "{} is not in proxy.toml", spec.path);
    }
    for path in &named {
        assert!(KEYS.iter().any(|spec| spec.path == path), "{path} of proxy.toml is no key");
    }
}

#[test]
fn every_key_of_the_reference_is_taken_by_itself() {
    for (path, line) in keys_of_reference() {
        let table = path.rsplit_once('.').map(|(table, _)| format!("[{table}]\n")).unwrap_or_default();
        let (faults, report) = match load_text(&format!("{table}{line}\n"), &[]) {
            Ok(_) => continue,
            Err(faults) => (faults.faults().to_vec(), faults.to_string()),
        };
        let alone = |what: &str| {
            ["cannot be read", "for distribution =", "beside sentinels only", "with TLS only"]
                .iter()
                .any(|one| what.contains(one))
        };
        let refused = faults.iter().any(|fault| fault.key == path && !alone(&fault.what));
        // Alone, a shorter timeout or a missing neighbour is a fault of its own; the key itself must be none.
        assert!(!refused, "{path}: {report}");
    }
}

#[test]
fn the_defaults_are_those_of_the_table_and_of_the_reference() {
    let mut written = String::new();
    let required = ["base_uri", "phase", "serialization", "default_ttl"];
    for (path, line) in keys_of_reference() {
        let Some(spec) = KEYS.iter().find(|spec| spec.path == general(&path)) else { continue };
        let value = line.split_once(" = ").unwrap().1.split('#').next().unwrap().trim();
        if let Some(default) = spec.default {
            let shown_otherwise = spec.path.ends_with("embedded");
            assert!(value == default || shown_otherwise, "{path} = {value}, and the default is {default}");
            written.push_str(&format!("{} = {default}\n", spec.path.replace('*', "a")));
        } else {
            assert!(
                !REFERENCE.lines().any(|l| l == line)
                    || required.iter().any(|r| path.ends_with(r))
                    || path.ends_with(".url")
            );
        }
    }
    let top: String = written.lines().filter(|l| !l.starts_with("stash")).map(|l| format!("{l}\n")).collect();
    let own: String = written.lines().filter_map(|l| l.strip_prefix("stash.a.")).map(|l| format!("{l}\n")).collect();
    let (implied, spelled) = (load_text(&minimal(""), &[]), load_text(&format!("{top}{}", minimal(&own)), &[]));
    assert_eq!(implied.unwrap().config, spelled.unwrap().config);
}

#[test]
fn every_key_can_be_set_from_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "redis://cache\n").unwrap();
    for spec in KEYS {
        let value = match spec.kind {
            Kind::Text | Kind::Secret => "/b/".to_owned(),
            Kind::List => "b:1, c".to_owned(),
            Kind::SecretUrl => "redis://:pw@other".to_owned(),
            Kind::Path => secret.display().to_string(),
            Kind::Address => "127.0.0.1:0".to_owned(),
            Kind::Bool => "true".to_owned(),
            Kind::Whole { max, .. } => max.to_string(),
            Kind::Share => "0.5".to_owned(),
            Kind::Word(words) => words[0].to_owned(),
        };
        let name = format!("DECANT_{}", spec.path.replace('*', "a").replace('.', "__").to_uppercase());
        if let Err(faults) = load_text(&minimal(""), &[(&name, &value)]) {
            // Alone it may contradict another key, but it is understood: the place is the variable's.
            for fault in faults.faults() {
                assert!(!fault.what.contains("no key") && !fault.todo.starts_with("set it to"), "{name}: {faults}");
            }
        }
    }
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.toml");
    std::fs::write(&file, format!("log.format = 'json'\nlisten = '127.0.0.1:1'\n{}", minimal(""))).unwrap();
    let environment = [
        ("DECANT_LISTEN", "127.0.0.1:2"),
        ("DECANT_LOG__FORMAT", "json"),
        ("DECANT_STASH__A__REDIS__URL", "redis://:hunter2@cache:7/3"),
        ("DECANT_STASH__A__SHADOW_SHARE", "1"),
    ];
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let flags = vec![FlagValue { key: "log.format", flag: "--log-format", value: "text".to_owned() }];
    let config = load(Sources { file: Some(file), environment, flags }).unwrap().config;
    assert_eq!(config.listen.port(), 2);
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.stashes[0].shadow_share, 1.0);
    let RedisPlace::Url(url) = &config.stashes[0].redis.as_ref().unwrap().shards[0].at else { panic!("no URL") };
    assert_eq!((url.to_string().as_str(), url.expose()), ("redis://cache:7/3", "redis://:hunter2@cache:7/3"));
}

#[test]
fn a_flag_at_fault_is_named_by_its_flag() {
    let flags = vec![FlagValue { key: "log.format", flag: "--log-format", value: "xml".to_owned() }];
    let faults = load(Sources { file: Some(PathBuf::from("proxy.toml")), environment: vec![], flags }).unwrap_err();
    assert_eq!(faults.faults()[0].place, Place::Flag("--log-format".to_owned()));
}

#[test]
fn what_keys_mean_to_each_other_is_checked() {
    for (more, environment, expected) in [
        ("kask.timeout_ms = 1800", &[][..], &["stash.a.kask.timeout_ms"][..]),
        ("outbox.lease_ms = 13200", &[], &["stash.a.outbox.lease_ms"]),
        ("outbox.lease_ms = 2400\noutbox.allow_short_lease = true", &[], &["stash.a.outbox.lease_ms"]),
        ("outbox.look_every_ms = 200", &[], &["stash.a.outbox.look_fresh_ms"]),
        ("outbox.settle_wait_ms = 200", &[], &["stash.a.outbox.settle_wait_ms"]),
        ("kask.embedded = true", &[], &["stash.a.kask.url"]),
        ("redis.shards.x.url = 'redis://b'", &[], &["stash.a.redis"]),
        ("redis.hash = 'md5'\nredis.hash_tag = '{}'", &[], &["stash.a.redis.hash", "stash.a.redis.hash_tag"]),
        ("redis.distribution = 'ketama'\nredis.hash_tag = '{'", &[], &["stash.a.redis.hash_tag"]),
        (
            "[stash.b]",
            &[],
            &[
                "stash.b.base_uri",
                "stash.b.default_ttl",
                "stash.b.kask",
                "stash.b.phase",
                "stash.b.redis",
                "stash.b.serialization",
            ],
        ),
        ("", &[("DECANT_LISTEN", "0.0.0.0:9081")], &["admin.listen"]),
        ("", &[("DECANT_ADMIN__LISTEN", "[::]:9081")], &["admin.listen"]),
        ("", &[("DECANT_ADMIN__TOKEN", "with space in it, long enough")], &["admin.token"]),
        ("", &[("DECANT_STASH__A__KASK__URL", "http://127.0.0.1:8081/a/")], &["stash.a.kask.url"]),
        ("", &[("DECANT_STATE_DIR", "/dev/null")], &["state_dir"]),
        ("", &[("DECANT_STASH", "x")], &["stash"]),
    ] {
        let (keys, report) = faults_of(&minimal(more), environment);
        let keys: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
        assert!(keys.iter().copied().eq(expected.iter().copied()), "{more} {environment:?}: {report}");
    }
}

/// `more`: keys of the redis table; then each shard's.
fn sharded(more: &str, shards: &[&str]) -> String {
    let shards: String = shards
        .iter()
        .enumerate()
        .map(|(i, lines)| format!("[stash.a.redis.shards.s{i}]\nurl = 'redis://r{i}'\n{lines}\n"))
        .collect();
    format!("{}[stash.a.redis]\n{more}\n{shards}", minimal("").replace("redis.url = 'redis://cache'\n", ""))
}

#[test]
fn shards_must_fit_their_distribution_and_be_told_apart() {
    let long = format!("hashed_as = '{}'", "x".repeat(256));
    for (more, shards, expected, says) in [
        ("", &["", ""][..], "distribution", "2 shards are named"),
        ("distribution = 'ketama'", &["hashed_as = 'same'", "hashed_as = 'same'"], "shards.s1.hashed_as", "shard s0"),
        ("distribution = 'ketama'", &["", "hashed_as = 's0'"], "shards.s1.hashed_as", "shard s0"),
        ("distribution = 'ketama'", &["", "hashed_as = '10.0.0.1:6379:1'"], "shards.s1.hashed_as", "hashes no weight"),
        ("distribution = 'ketama'", &["", "hashed_as = '10.0.0.1:11211'"], "shards.s1.hashed_as", "11211"),
        ("distribution = 'ketama'", &["", "hashed_as = '1.1.1.1:1:1 shard'"], "shards.s1.hashed_as", "space"),
        ("distribution = 'ketama'", &["", "hashed_as = ''"], "shards.s1.hashed_as", "0 bytes"),
        ("distribution = 'ketama'", &["", &long], "shards.s1.hashed_as", "256 bytes"),
        ("distribution = 'ketama'", &["", "weight = 0"], "shards.s1.weight", "is 0"),
        ("distribution = 'mediawiki'", &["", "weight = 2"], "shards.s1.weight", "ketama"),
        ("distribution = 'mediawiki'", &["", "hashed_as = '12'"], "shards.s1.hashed_as", "PHP"),
        ("distribution = 'mediawiki'\nhash = 'md5'", &["", ""], "hash", "ketama"),
        ("distribution = 'modula'", &[""], "distribution", "\"ketama\""),
        ("distribution = 'ketama'\nhash = 'md4'", &[""], "hash", "md5"),
    ] {
        let (keys, report) = faults_of(&sharded(more, shards), &[]);
        assert_eq!(keys, [format!("stash.a.redis.{expected}")], "{more} {shards:?}: {report}");
        assert!(report.contains(says), "{report}");
    }
    let twice = sharded("distribution = 'ketama'", &["", ""]).replace("redis://r1", "redis://:pw@r0:6379/0");
    let (keys, report) = faults_of(&twice, &[("DECANT_STASH__A__REDIS__SHARDS__S1__URL", "redis://:pw@r0:6379/0")]);
    assert_eq!(keys, ["stash.a.redis.shards.s1.url"], "{report}");
    let many = vec![""; 257];
    assert_eq!(faults_of(&sharded("distribution = 'ketama'", &many), &[]).0, ["stash.a.redis.shards"]);
}

#[test]
fn shards_are_taken_with_all_that_places_their_keys() {
    let shards = ["hashed_as = '10.0.0.1:6379'\nweight = 7", ""];
    let text = sharded("distribution = 'ketama'\nhash = 'md5'\nhash_tag = '{}'", &shards);
    let redis = load_text(&text, &[]).unwrap().config.stashes.remove(0).redis.unwrap();
    assert_eq!(redis.distribution, Distribution::Ketama { hash: KetamaHash::Md5, tag: Some(*b"{}") });
    let shards: Vec<_> = redis.shards.iter().map(|s| (s.name.as_str(), s.hashed_as.as_str(), s.weight)).collect();
    assert_eq!(shards, [("s0", "10.0.0.1:6379", 7), ("s1", "s1", 1)]);
    let ours = load_text(&sharded("distribution = 'ketama'", &[""]), &[]).unwrap().config.stashes.remove(0);
    let default = Distribution::Ketama { hash: KetamaHash::Fnv1a64, tag: None };
    assert_eq!(ours.redis.unwrap().distribution, default, "nutcracker's own default");
}

#[test]
fn what_is_unusual_but_right_is_taken() {
    for (more, environment) in [
        ("outbox.lease_ms = 13201", &[][..]),
        ("outbox.lease_ms = 2401\noutbox.allow_short_lease = true", &[]),
        ("", &[("DECANT_LISTEN", "127.0.0.1:0"), ("DECANT_ADMIN__LISTEN", "127.0.0.1:0")]),
        ("", &[("DECANT_ADMIN__LISTEN", "0.0.0.0:1"), ("DECANT_ADMIN__TOKEN", "0123456789abcdef")]),
        ("", &[("DECANT_STASH__A__REDIS__URL", "unix:///run/redis.sock")]),
    ] {
        load_text(&minimal(more), environment).unwrap_or_else(|faults| panic!("{more} {environment:?}: {faults}"));
    }
    let embedded = minimal("outbox.lease_ms = 1000\nkask.timeout_ms = 300")
        .replace("kask.url = 'http://kask:1/a/'", "kask.embedded = true");
    assert_eq!(load_text(&embedded, &[]).unwrap().warnings, []);
    let retired = minimal("").replace("kask-first", "kask-only").replace("redis.url = 'redis://cache'", "");
    assert_eq!(load_text(&retired, &[]).unwrap().config.stashes[0].redis, None);
}

#[test]
fn base_uris_must_not_overlap() {
    let second = minimal("").replace("[stash.a]", "[stash.b]").replace("'/a/'", "'/a/b'");
    let (keys, _) = faults_of(&format!("{}{second}", minimal("")), &[]);
    assert_eq!(keys, ["stash.b.base_uri"]);
}

#[test]
fn all_syntax_errors_are_told_with_their_lines() {
    let (_, report) = faults_of("a = \nb = 1\nc = 'x\n", &[]);
    assert!(report.contains("proxy.toml:1\n") && report.contains("proxy.toml:3\n"), "{report}");
}

#[test]
fn hostile_files_are_faults_not_panics() {
    let deep = format!("a = {}", "[".repeat(100_000));
    let dotted = format!("a{} = 1", ".a".repeat(100_000));
    let header = format!("[a{}]", ".a".repeat(100_000));
    let inline = format!("a = {}1{}", "{ a = ".repeat(20_000), " }".repeat(20_000));
    for text in [
        "\u{feff}",
        "\0",
        "stash = 1",
        "[[stash.a]]",
        "a = 1979-05-27",
        "listen = 99999999999999999999999999999999999999999",
        &deep,
        &dotted,
        &header,
        &inline,
    ] {
        faults_of(text, &[]);
    }
}

#[test]
fn a_variable_that_descends_for_ever_is_a_fault() {
    let name = format!("DECANT_A{}", "__A".repeat(40_000));
    let (_, report) = faults_of(&minimal(""), &[(&name, "1")]);
    assert!(report.contains("descends") && report.len() < 1_000, "{} bytes", report.len());
}

#[test]
fn a_missing_default_file_is_a_fault_only_if_nothing_else_configures() {
    let report = load(Sources { file: Some(PathBuf::from("/nonexistent/proxy.toml")), ..Sources::default() });
    assert!(report.unwrap_err().to_string().contains("/nonexistent/proxy.toml"));
}
