//! The configuration as an operator meets it: `decant check --offline` on good and bad files, with exact texts.

use assert_cmd::Command;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use tempfile::TempDir;

/// A directory with a `proxy.toml`; decant runs there, so that reports name files as the golden texts do.
fn directory(text: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("proxy.toml"), text).unwrap();
    dir
}

fn decant(dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> std::process::Output {
    let mut command = Command::cargo_bin("decant").unwrap();
    command.current_dir(dir).args(args).envs(environment.iter().copied()).env_remove("RUST_BACKTRACE");
    command.output().unwrap()
}

fn check(dir: &Path, environment: &[(&str, &str)]) -> (i32, String, String) {
    let output = decant(dir, &["check", "--offline"], environment);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The report on standard error; standard output must be empty and the exit code 64.
fn report(dir: &Path, environment: &[(&str, &str)]) -> String {
    let (code, out, err) = check(dir, environment);
    assert_eq!((code, out.as_str()), (64, ""), "{err}");
    err
}

const STASH: &str = "\
[stash.echoseen]
base_uri = \"/echoseen/v1/\"
phase = \"kask-first\"
serialization = \"json\"
default_ttl = 31536000
kask.embedded = true
redis.url = \"redis://127.0.0.1:6379/0\"
";

#[test]
fn five_faults_are_reported_at_once() {
    let dir = directory(
        r#"listen = "localhost:8081"

[admin]
listen = "0.0.0.0:9081"

[stash.echoseen]
base_uri = "/echoseen/v1/"
phase = "kask-frist"
serialization = "json"
default_ttl = "a year"

[stash.echoseen.kask]
embedded = true
url = "http://kask.example:8081/echoseen/v1/"

[stash.echoseen.redis]
url = "redis://127.0.0.1:6379/0"
"#,
    );
    insta::assert_snapshot!(report(dir.path(), &[]));
}

#[test]
fn unknown_keys_are_faults_with_the_nearest_known_key() {
    let text =
        format!("lisen = \"127.0.0.1:1\"\ncolour = 3\n\n{STASH}timeout_ms = 1\n\n[stashes.x]\nbase_uri = \"/x/\"\n");
    let dir = directory(&text);
    insta::assert_snapshot!(report(dir.path(), &[("DECANT_STASH__ECHOSEEN__REDIS__URI", "redis://:hunter2@cache")]));
}

#[test]
fn wrong_types_are_faults_each_by_itself() {
    let text = format!(
        "listen = 8081\nlog = \"json\"\nlimits.connections_max = -1\nlimits.body_bytes_max = 1.5\n{STASH}\
         outbox.tries_max = \"5\"\nshadow_share = 1.5\nreplication = [\"sync\"]\n"
    );
    let dir = directory(&text);
    insta::assert_snapshot!(report(dir.path(), &[("DECANT_STASH__ECHOSEEN__KASK__TIMEOUT_MS", "1.2s")]));
}

#[test]
fn secret_files_that_cannot_be_used_are_faults() {
    let text = format!(
        "admin.token_file = \"absent.token\"\n{STASH}hmac_key_file = \"empty.key\"\nredis.password_file = \"a_directory\"\n"
    );
    let dir = directory(&text);
    fs::write(dir.path().join("empty.key"), "\n").unwrap();
    fs::create_dir(dir.path().join("a_directory")).unwrap();
    insta::assert_snapshot!(report(dir.path(), &[]));
}

#[test]
fn a_secret_in_the_file_is_a_fault() {
    let text = format!("admin.token = \"hunter2\"\n{STASH}").replace("redis://127", "redis://:hunter2@127");
    let dir = directory(&text);
    let report = report(dir.path(), &[]);
    assert!(!report.contains("hunter2"), "{report}");
    insta::assert_snapshot!(report);
}

#[test]
fn bad_syntax_is_told_with_its_line() {
    let dir = directory("listen = \"127.0.0.1:8081\nstate_dir = \"data\"\n");
    let report = report(dir.path(), &[]);
    assert!(report.contains("\nproxy.toml:1\n    is not TOML: "), "{report}");
}

#[test]
fn a_directory_without_a_file_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(report(dir.path(), &[]));
}

#[test]
fn the_environment_wins_over_the_file() {
    let dir = directory(STASH);
    let (code, out, err) =
        check(dir.path(), &[("DECANT_STASH__ECHOSEEN__DEFAULT_TTL", "86400"), ("DECANT_LISTEN", "127.0.0.1:0")]);
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out);
}

#[test]
fn no_secret_appears_in_any_output() {
    let secrets = ["tok-3f9a2c7b51d8", "hmac-91be44d0", "pw-70cc15aa"];
    let dir = directory(&format!("admin.token_file = \"token\"\nhmac = 1\n{STASH}hmac_key_file = \"hmac\"\n"));
    fs::write(dir.path().join("token"), secrets[0]).unwrap();
    fs::write(dir.path().join("hmac"), secrets[1]).unwrap();
    let url = format!("redis://user:{}@127.0.0.1:6379/0", secrets[2]);
    let bad_url = format!("redis://user:{}@127.0.0.1:notaport/0", secrets[2]);
    let good = [("DECANT_STASH__ECHOSEEN__REDIS__URL", url.as_str()), ("DECANT_ADMIN__TOKEN", secrets[0])];
    let bad = [
        ("DECANT_STASH__ECHOSEEN__REDIS__URL", bad_url.as_str()),
        ("DECANT_STASH__ECHOSEEN__HMACKEY", secrets[1]),
        ("DECANT_ADMIN__TOKEN", secrets[0]),
    ];
    let clean = fs::read_to_string(dir.path().join("proxy.toml")).unwrap().replace("hmac = 1\n", "");
    let mut seen = Vec::new();
    for (text, environment) in [(None, &bad[..]), (Some(&clean), &good[..]), (Some(&clean), &bad[..])] {
        if let Some(text) = text {
            fs::write(dir.path().join("proxy.toml"), text).unwrap();
        }
        for args in [&["check", "--offline"][..], &["check", "--offline", "--json"], &["check", "--help"], &["--admin"]]
        {
            let output = decant(dir.path(), args, environment);
            let all = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            for secret in secrets {
                assert!(!all.contains(secret), "{args:?} shows {secret}:\n{all}");
            }
            seen.push(output.status.code().unwrap());
        }
    }
    assert_eq!(seen, [64, 64, 0, 64, 0, 0, 0, 64, 64, 64, 0, 64], "the runs were not the ones meant");
}

#[test]
fn a_secret_file_that_everybody_can_read_is_a_warning() {
    let dir = directory(&format!("admin.token_file = \"token\"\n{STASH}"));
    let token = dir.path().join("token");
    fs::write(&token, "0123456789abcdef\r\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = check(dir.path(), &[]);
    let expected = "warning: proxy.toml:1: admin.token_file: the secret file token can be read by every user of this machine: chmod 600 it\n";
    assert_eq!((code, err.as_str()), (0, expected));
    fs::set_permissions(&token, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(check(dir.path(), &[]).2, "");
}

#[test]
fn the_reference_works_as_it_stands() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (code, out, err) = check(root, &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out);
}

#[test]
fn json_is_one_document() {
    let dir = directory(STASH);
    let output = decant(dir.path(), &["--json", "check", "--offline"], &[]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &document["stashes"][0]["base URI"]), (Some(0), &"/echoseen/v1/".into()));
}

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    let dir = tempfile::tempdir().unwrap();
    for (args, code) in [
        (&[][..], 64),
        (&["pour"], 64),
        (&["check", "--offline", "--log-format", "xml"], 64),
        (&["check", "--offline", "--config", "absent.toml"], 64),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        assert_eq!(decant(dir.path(), args, &[]).status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn a_broken_pipe_is_no_error() {
    let dir = directory(STASH);
    for (args, code) in [(&["check", "--offline"][..], 0), (&["--help"], 0), (&["--version"], 0), (&["pour"], 64)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("decant"));
        command.current_dir(dir.path()).args(args).stdout(writer.try_clone().unwrap()).stderr(writer);
        assert_eq!(command.status().unwrap().code(), Some(code), "{args:?}");
    }
}
