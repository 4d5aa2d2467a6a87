//! The commands against a running admin listener, and `check` against tiers.

use super::stage::{Decant, Options, Request as _, Stage};
use crate::{
    redis_server::RedisServer,
    support::swallows_answers_to_moves,
    whole::{Setup, Whole},
};
use assert_cmd::Command;
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
};

/// (exit code, standard output, standard error)
fn decant(url: &str, environment: &[(&str, &str)], args: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("decant").unwrap();
    command.env_remove("DECANT_ADMIN_TOKEN").env("DECANT_ADMIN", url).env("USER", "tester").env_remove("SUDO_USER");
    let output = command.envs(environment.iter().copied()).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn run(decant_at: &Decant, args: &[&str]) -> (i32, String, String) {
    let (url, args) = (decant_at.url.clone(), args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>());
    tokio::task::spawn_blocking(move || decant(&url, &[], &args.iter().map(String::as_str).collect::<Vec<_>>()))
        .await
        .unwrap()
}

fn one_document(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_moves_and_inspects() {
    let stage = Stage::start().await;
    let at = stage.decant(Options::default()).await;
    at.settled().await;
    let (code, out, err) = run(&at, &["status"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let line = "stash echoseen\n  redis-only > dual-write > [kask-first] > redis-standby > kask-only\n";
    assert!(out.contains(line) && out.contains("\n  phase  kask-first (settled, version 1)\n"), "{out}");
    assert!(out.contains("\n  nothing needs attention\n") && out.contains("next step: redis-standby, "), "{out}");
    assert!(!out.contains('\x1b'), "no colour but on a terminal");
    let document = one_document(&run(&at, &["status", "--json"]).await.1);
    let stash = &document["stashes"][0];
    assert_eq!(
        (&stash["phase"], &stash["next"]["to"]),
        (&json!("kask-first"), &json!("redis-standby")),
        "{document:#}"
    );
    let (code, out, err) = run(&at, &["status", "--watch", "--json"]).await;
    assert!(code == 64 && out.is_empty() && err.contains("--watch draws for a person"), "{out}{err}");

    stage.redis.client().req("SET", &["wiki:only", "42"]);
    let (code, out, err) = run(&at, &["phase", "set", "redis-standby", "--reason", "r"]).await;
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        out.contains("FAIL  verified            no run of verify")
            && out.contains("needs: a `decant verify` over every key"),
        "{out}"
    );
    assert_eq!(err, "decant: the move was refused: a guard fails; nothing was done\n");
    let (code, out, err) = run(&at, &["--json", "phase", "set", "redis-standby", "--reason", "r"]).await;
    assert_eq!((code, err.as_str(), &one_document(&out)["status"]), (1, "", &json!(409)));
    let (code, _, err) = run(&at, &["phase", "set", "kask-only", "--reason", "r"]).await;
    assert_eq!(code, 1);
    assert!(err.contains("kask-first does not lead to kask-only in one step"), "{err}");

    let (code, out, _) = run(&at, &["inspect", "wiki:only"]).await;
    assert!(code == 0 && out.contains("tiers    only in Redis\n") && out.contains("  decoded  42\n"), "{out}");
    let forced = ["phase", "set", "redis-standby", "--reason", "r", "--force"];
    let (code, out, _) = run(&at, &[&forced[..], &["--dry-run"]].concat()).await;
    assert!(
        code == 0 && out.ends_with("kask-first -> redis-standby would begin, with --force; nothing was done\n"),
        "{out}"
    );
    let (code, out, err) = run(&at, &forced).await;
    assert!(code == 0 && out.contains("kask-first -> redis-standby has settled after "), "{out}{err}");
    let (code, out, _) = run(&at, &["phase", "show"]).await;
    assert!(
        code == 0 && out.contains("phase    redis-standby (forced)\n") && out.contains("by       tester\n"),
        "{out}"
    );
    let back = ["--json", "phase", "set", "kask-first", "--reason", "r", "--by", "me", "--from", "redis-standby"];
    let (code, out, _) = run(&at, &back).await;
    assert_eq!((code, &one_document(&out)["record"]["state"]), (0, &json!("settled")), "{out}");
    let (code, out, _) = run(&at, &["phase", "history", "--short"]).await;
    assert_eq!((code, out.lines().count()), (0, 3), "{out}");
    assert!(out.lines().last().unwrap().ends_with("   3  kask-first     me: r"), "{out}");
    let (code, out, _) = run(&at, &["phase", "history"]).await;
    let overridden = "      overridden  verified            no run of verify over every key has ended\n";
    assert!(code == 0 && out.contains(overridden) && out.contains("      ok          kask_answers "), "{out}");
}

/// On no terminal one picture follows the other, as plain text, until nobody reads or it is interrupted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_is_watched_until_it_is_interrupted() {
    let stage = Stage::start().await;
    let at = stage.decant(Options::default()).await;
    at.settled().await;
    let url = at.url.clone();
    tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_decant"));
        command.env("DECANT_ADMIN", url).args(["status", "--watch"]).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let pictures = lines.by_ref().inspect(|line| assert!(!line.contains('\x1b'), "{line}"));
        assert_eq!(pictures.filter(|line| line == "stash echoseen").take(2).count(), 2);
        let pid = child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
        lines.for_each(drop);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_does_not_settle_in_time_goes_on_and_is_told() {
    let stage = Stage::start().await;
    let at = stage.decant(Options::default()).await;
    at.settled().await;
    // A mirror's intent that nobody will ever finish.
    let stuck = format!("{:032x}wiki:stuck", 7);
    stage.redis.client().req("ZADD", &["decant|echoseen|to-redis", "+inf", &stuck]);
    let (code, out, err) = run(&at, &["phase", "set", "dual-write", "--reason", "r", "--wait-timeout", "300ms"]).await;
    assert_eq!(code, 2, "{out}");
    assert!(err.contains("has begun and is recorded, but has not settled within 300ms; it goes on"), "{err}");
    let (code, _, err) = run(&at, &["phase", "set", "redis-only", "--reason", "r"]).await;
    assert!(
        code == 1 && err.contains("the move to dual-write by tester at 20") && err.contains("has not settled yet"),
        "{err}"
    );
    stage.redis.client().req("ZREM", &["decant|echoseen|to-redis", &stuck]);
    assert_eq!(at.settled().await["phase"], "dual-write");
    let (code, out, _) = run(&at, &["phase", "set", "kask-first", "--reason", "r", "--no-wait"]).await;
    assert!(code == 0 && out.ends_with("dual-write -> kask-first has begun\n"), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_network_and_token_have_their_codes() {
    let stage = Stage::start().await;
    let at = stage.decant(Options { token: Some("correct-horse-battery"), ..Options::default() }).await;
    let url = at.url.clone();
    tokio::task::spawn_blocking(move || {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "correct-horse-battery\n").unwrap();
        let named = ["--token-file", file.path().to_str().unwrap(), "status"];
        assert_eq!(decant(&url, &[], &named).0, 0);
        assert_eq!(decant(&url, &[("DECANT_ADMIN_TOKEN", "correct-horse-battery")], &["status"]).0, 0);
        let (code, out, err) = decant(&url, &[("DECANT_ADMIN_TOKEN", "wrong")], &["status", "--json"]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains("wants a token: set DECANT_ADMIN_TOKEN or --token-file"), "{err}");
        for args in [
            &["phase", "set", "dual-write"][..],
            &["phase", "set", "nonsense", "--reason", "r"],
            &["phase", "show", "--stash", "other"],
            &["--token-file", "/nonexistent", "status"],
            &["--admin", "https://127.0.0.1:1", "status"],
            &["inspect", ".."],
            &["inspect", ""],
        ] {
            let (code, out, err) = decant(&url, &[("DECANT_ADMIN_TOKEN", "correct-horse-battery")], args);
            assert_eq!((code, out.as_str()), (64, ""), "{args:?}: {err}");
        }
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (code, _, err) = decant(&format!("http://{nobody}"), &[], &["status"]);
        assert_eq!(code, 2);
        let begin = format!("decant: cannot reach decant's admin listener at http://{nobody}: ");
        assert!(err.starts_with(&begin) && err.ends_with("is decant running? Set --admin or DECANT_ADMIN\n"), "{err}");
    })
    .await
    .unwrap();
}

/// `decant check --json` of a config with this Redis and Kask; what was found of each tier, by check.
fn check(redis: &str, kask: &str) -> (i32, Vec<(String, String, String)>) {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[stash.echoseen]\nbase_uri = \"/echoseen/v1/\"\nphase = \"kask-first\"\nserialization = \"json\"\n\
         default_ttl = 31536000\n{kask}\nredis.url = \"{redis}\"\n"
    );
    fs::write(dir.path().join("proxy.toml"), text).unwrap();
    let (code, out, err) = check_in(dir.path(), &["--json", "check"]);
    let document = one_document(&out);
    assert_eq!(document["ok"], code == 0, "{err}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = document["tiers"].as_array().unwrap().iter();
    (code, found.map(|f| (text(&f["check"]), text(&f["level"]), text(&f["figure"]))).collect())
}

fn check_in(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("decant").unwrap();
    let output = command.current_dir(dir).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

const EMBEDDED: &str = "kask.embedded = true";

fn failed(found: &[(String, String, String)]) -> Vec<&str> {
    found.iter().filter(|(_, level, _)| level == "fail").map(|(check, _, _)| check.as_str()).collect()
}

#[test]
fn check_tries_redis() {
    let redis = RedisServer::with_flags(&["--appendonly", "yes", "--maxmemory-policy", "volatile-lru"]);
    let (code, found) = check(&redis.url(), EMBEDDED);
    assert!(code == 0 && found.iter().all(|(_, level, _)| level == "ok"), "{found:?}");
    let checks: Vec<&str> = found.iter().map(|(check, _, _)| check.as_str()).collect();
    assert_eq!(
        checks,
        ["answers", "connects", "version", "role", "eviction", "memory", "persistence", "scripts", "fence", "placing"]
    );

    let evicts = RedisServer::with_flags(&["--maxmemory-policy", "allkeys-lru", "--rename-command", "CONFIG", ""]);
    let (code, found) = check(&evicts.url(), EMBEDDED);
    assert_eq!((code, failed(&found)), (1, vec!["eviction"]), "CONFIG is forbidden, INFO tells: {found:?}");

    let replica = RedisServer::with_flags(&["--replicaof", "127.0.0.1", &redis.port.to_string()]);
    let (code, found) = check(&replica.url(), EMBEDDED);
    assert_eq!((code, failed(&found)), (1, vec!["role"]), "{found:?}");

    redis.client().req("SET", &["decant|echoseen|fence", "decant-fence/1 7 dual-write echoseen other other-member"]);
    let (code, found) = check(&redis.url(), EMBEDDED);
    assert_eq!((code, failed(&found)), (1, vec!["fence"]), "{found:?}");
    let fence = found.iter().find(|(check, _, _)| check == "fence").unwrap();
    assert!(fence.2.starts_with("dual-write, version 7, raised by other-member, with another list"), "{fence:?}");

    let locked = RedisServer::with_flags(&["--requirepass", "secret"]);
    let (code, found) = check(&locked.url(), EMBEDDED);
    assert_eq!((code, failed(&found)), (1, vec!["connects"]), "{found:?}");
}

/// As nutcracker: it answers PING and closes the connection on what it does not know.
#[test]
fn check_knows_a_proxy_when_it_sees_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}/0", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(length) = stream.read(&mut buffer) {
                    if length == 0 || !buffer[..length].windows(4).any(|word| word == b"PING") {
                        return;
                    }
                    stream.write_all(b"+PONG\r\n").unwrap();
                }
            });
        }
    });
    let (code, found) = check(&url, EMBEDDED);
    assert_eq!((code, failed(&found)), (1, vec!["is_redis"]), "{found:?}");
    assert!(found.last().unwrap().2.contains("closes the connection on INFO: it is a proxy"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tries_kask() {
    let stage = Stage::start().await;
    let (redis, kask) = (stage.redis.url(), stage.kask_url.clone());
    tokio::task::spawn_blocking(move || {
        let (code, found) = check(&redis, &format!("kask.url = \"{kask}\""));
        assert!(code == 0 && found[0].1 == "ok" && found[0].2.contains("answers a read"), "{found:?}");
        let elsewhere = kask.replace("/echoseen/", "/sessions/");
        let (code, found) = check(&redis, &format!("kask.url = \"{elsewhere}\""));
        assert_eq!((code, failed(&found)), (1, vec!["answers"]), "{found:?}");
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (code, found) = check(&redis, &format!("kask.url = \"http://{nobody}/echoseen/v1/\""));
        assert_eq!((code, failed(&found)), (1, vec!["answers"]), "{found:?}");
        let (code, found) = check(&format!("redis://{nobody}/0"), EMBEDDED);
        assert_eq!((code, failed(&found)), (1, vec!["connects"]), "{found:?}");
    })
    .await
    .unwrap();
}

#[test]
fn a_move_whose_answer_is_lost_is_not_told_as_one_that_was_not_made() {
    let redis = RedisServer::start();
    let whole = Whole::start(&Setup::new(&redis, "redis-only"));
    let url = swallows_answers_to_moves(whole.admin);
    let (code, _, err) = decant(&url, &[], &["phase", "set", "dual-write", "--reason", "r"]);
    assert!(code == 2 && err.contains("it is not known whether this was done"), "{err}");
    whole.wait_settled("dual-write");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, _, err) = decant(&format!("http://{nobody}"), &[], &["phase", "show"]);
    assert!(code == 2 && err.contains("cannot reach") && !err.contains("not known"), "{err}");
}
