//! TLS to a real Redis: an authority of one's own, certificates on both sides, and what is said where they do not fit.

use crate::{
    redis_server::{RedisServer, free_port},
    support::{run_decant, utf8},
    whole::{Setup, Whole, redis_holds},
};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use std::path::PathBuf;
use tempfile::TempDir;

/// Signs certificates, and writes them to files.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: TempDir,
}

/// OpenSSL takes a certificate for self-signed whose subject has the name of its issuer.
fn named(name: &str, subjects: &[&str]) -> CertificateParams {
    let subjects: Vec<String> = subjects.iter().map(|subject| (*subject).to_owned()).collect();
    let mut params = CertificateParams::new(subjects).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = named("decant test authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { issuer: Issuer::new(params, key), dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `NAME.pem` and `NAME.key`, for these names or addresses.
    fn issue(&self, name: &str, subjects: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let certificate = named(name, subjects).signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// A Redis that speaks TLS on a second port, with the certificate of this name. `clients`: whether they must have one too.
    fn redis(&self, certificate: &str, clients: &str) -> (RedisServer, u16) {
        let port = free_port();
        let file = |name: &str| self.file(name).display().to_string();
        let flags = [
            "--tls-port".to_owned(),
            port.to_string(),
            "--tls-cert-file".to_owned(),
            file(&format!("{certificate}.pem")),
            "--tls-key-file".to_owned(),
            file(&format!("{certificate}.key")),
            "--tls-ca-cert-file".to_owned(),
            file("ca.pem"),
            "--tls-auth-clients".to_owned(),
            clients.to_owned(),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        (RedisServer::with_flags(&flags), port)
    }

    fn ca_line(&self) -> String {
        format!("ca_file = \"{}\"\n", self.file("ca.pem").display())
    }

    fn client_lines(&self) -> String {
        let file = |name: &str| self.file(name).display().to_string();
        format!("client_cert_file = \"{}\"\nclient_key_file = \"{}\"\n", file("client.pem"), file("client.key"))
    }
}

#[test]
fn both_sides_show_their_certificates() {
    let authority = Authority::new();
    authority.issue("redis", &["127.0.0.1"]);
    authority.issue("client", &["decant"]);
    let (redis, port) = authority.redis("redis", "yes");
    let lines = authority.ca_line() + &authority.client_lines();
    let redis_url = format!("rediss://127.0.0.1:{port}/0");
    let decant = Whole::start(&Setup { redis_url, redis: lines, ..Setup::new(&redis, "kask-first") });
    assert_eq!(decant.set("k", "JSON..\"v\"").status(), 201);
    assert_eq!(decant.got("k"), (200, "JSON..\"v\"".into()));
    assert_eq!(redis_holds(&redis, "k").as_deref(), Some("s:1:\"v\";"));
    let told = decant.admin_get("/v1/stashes/echoseen");
    assert_eq!(told["shards"][0]["address"], format!("127.0.0.1:{port}/0 over TLS"));
}

/// `decant check` of one Redis: exit code, and what it says of the connection.
fn check(url: &str, lines: &str) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("proxy.toml");
    let text = format!(
        "state_dir = \"{}\"\n[stash.s]\nbase_uri = \"/s/\"\nphase = \"redis-only\"\nserialization = \"json\"\ndefault_ttl = 60\n\
         kask.embedded = true\n[stash.s.redis]\nurl = \"{url}\"\n{lines}",
        dir.path().join("state").display()
    );
    std::fs::write(&file, text).unwrap();
    let (code, out, err) = run_decant(["check", "--json", "--config", utf8(&file)]);
    let Ok(told) = serde_json::from_str::<serde_json::Value>(&out) else { return (code, err) };
    let findings = told["tiers"].as_array().unwrap();
    let connects = findings.iter().find(|finding| finding["check"] == "connects").unwrap();
    (code, format!("{} -> {}", connects["figure"].as_str().unwrap(), connects["todo"].as_str().unwrap()))
}

#[test]
fn what_does_not_fit_is_told() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.issue("redis", &["127.0.0.1"]);
    authority.issue("other", &["redis.example"]);
    authority.issue("client", &["decant"]);
    stranger.issue("client", &["decant"]);
    let (strict, strict_port) = authority.redis("redis", "yes");
    let (_named, named_port) = authority.redis("other", "no");
    let (strict_url, named_url) =
        (format!("rediss://127.0.0.1:{strict_port}/0"), format!("rediss://127.0.0.1:{named_port}/0"));
    let (ca, client) = (authority.ca_line(), authority.client_lines());
    for (url, lines, says) in [
        (strict_url.as_str(), stranger.ca_line() + &client, "set ca_file to what signed"),
        // The system's authorities have not signed it either.
        (&strict_url, client.clone(), "set ca_file to what signed"),
        (&strict_url, ca.clone(), "client_cert_file"),
        (&strict_url, ca.clone() + &stranger.client_lines(), "client_cert_file"),
        (&named_url, ca.clone(), "set tls_name"),
        (&strict.url().replace("redis:", "rediss:"), ca.clone() + &client, "TLS port"),
        (&format!("redis://127.0.0.1:{strict_port}/0"), String::new(), "rediss://"),
    ] {
        let (code, told) = check(url, &lines);
        assert!(code == 1 && told.contains(says), "{url} {lines}: {code} {told}");
    }
    for (url, lines) in
        [(&strict_url, ca.clone() + &client), (&named_url, ca.clone() + "tls_name = \"redis.example\"\n")]
    {
        let (code, told) = check(url, &lines);
        assert_eq!(code, 0, "{url} {lines}: {told}");
    }
}

/// Found before anything is connected to.
#[test]
fn files_that_hold_no_certificates_are_faults() {
    let authority = Authority::new();
    authority.issue("client", &["decant"]);
    let file = |name: &str| authority.file(name).display().to_string();
    std::fs::write(authority.file("empty"), "").unwrap();
    std::fs::write(authority.file("text"), "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    let (pem, key) = (file("client.pem"), file("client.key"));
    for (lines, says) in [
        (format!("ca_file = \"{}\"", file("absent")), "cannot be read"),
        (format!("ca_file = \"{}\"", file("empty")), "holds no certificates"),
        (format!("ca_file = \"{}\"", file("text")), "holds no certificates"),
        (format!("ca_file = \"{key}\""), "holds no certificates"),
        (format!("client_cert_file = \"{pem}\""), "client_key_file"),
        (format!("client_key_file = \"{key}\""), "client_cert_file"),
        (format!("client_cert_file = \"{pem}\"\nclient_key_file = \"{pem}\""), "holds no private key"),
        ("tls_name = \"no name\"".to_owned(), "no name of a server"),
    ] {
        let (code, told) = check("rediss://127.0.0.1:1/0", &lines);
        assert!(code == 64 && told.contains(says), "{lines}: {code} {told}");
    }
    let (code, told) = check("redis://127.0.0.1:1/0", "ca_file = \"/nowhere\"");
    assert!(code == 64 && told.contains("with TLS only"), "{code} {told}");
}
