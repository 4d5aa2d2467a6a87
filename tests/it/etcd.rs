//! decant's client of etcd beside a real one: the same random changes as the simulation's register, leases and watches, TLS, users, clusters.

use crate::{
    etcd_server::{Certificates, EtcdServer},
    simulation::register::Register,
};
use decant::{
    config::Secret,
    etcd::{Client, ClientSettings, Entry, Event, Fault, Then, Tls, Txn, Watch, When},
};
use std::{collections::BTreeMap, time::Duration};

const CALLS: usize = 1_500;
const KEYS: usize = 4;
/// Nothing takes longer on a slow machine.
const WITHIN: Duration = Duration::from_secs(30);

async fn started(start: impl FnOnce() -> EtcdServer + Send + 'static) -> EtcdServer {
    tokio::task::spawn_blocking(start).await.unwrap()
}

async fn connected(url: &str) -> Client {
    Client::connect(url, &ClientSettings::default()).await.unwrap()
}

/// The next changes; what only says that the watch stands is passed over.
async fn changes(watch: &mut Watch) -> Result<Vec<Event>, Fault> {
    loop {
        let events = watch.next().await?;
        if !events.is_empty() {
            return Ok(events);
        }
    }
}

fn key(random: &mut fastrand::Rng) -> String {
    format!("/t/key{}", random.usize(..KEYS))
}

/// Conditions that hold about as often as not.
fn condition(random: &mut fastrand::Rng, register: &Register) -> When {
    let key = key(random);
    let stands = register.range(&key).into_iter().next();
    let (created, changed) = stands.map_or((0, 0), |entry| (entry.created, entry.changed));
    let off = i64::from(random.u8(..4) == 0);
    match random.u8(..3) {
        0 => When::Absent(key),
        1 => When::Same(key, created + off),
        _ => When::Unchanged(key, changed + off),
    }
}

fn change(random: &mut fastrand::Rng, register: &Register, lease: i64) -> Txn {
    let mut txn = Txn::default();
    for _ in 0..random.usize(..3) {
        txn = txn.when(condition(random, register));
    }
    // etcd refuses a change that names a key twice.
    let mut left: Vec<usize> = (0..KEYS).collect();
    random.shuffle(&mut left);
    for n in left.into_iter().take(random.usize(1..4)) {
        let (key, value) = (format!("/t/key{n}"), format!("v{}", random.u8(..)).into_bytes());
        txn = match random.u8(..4) {
            0 => txn.delete(key),
            1 => txn.put_leased(key, value, lease),
            _ => txn.put(key, value),
        };
    }
    txn
}

/// Revisions of etcd begin elsewhere: only their order is compared.
fn by_order(entries: &[Entry]) -> Vec<(String, Vec<u8>, usize, usize)> {
    let mut revisions: Vec<i64> = entries.iter().flat_map(|entry| [entry.created, entry.changed]).collect();
    revisions.sort_unstable();
    revisions.dedup();
    let order = |revision: i64| revisions.binary_search(&revision).unwrap();
    let told = |entry: &Entry| (entry.key.clone(), entry.value.clone(), order(entry.created), order(entry.changed));
    entries.iter().map(told).collect()
}

/// The model speaks of its own revisions: what a condition compares is put into etcd's.
fn translated(txn: &Txn, model: &[Entry], real: &[Entry]) -> Txn {
    let of = |key: &String| {
        let at = |entries: &[Entry]| {
            entries.iter().find(|entry| entry.key == *key).map_or((0, 0), |e| (e.created, e.changed))
        };
        (at(model), at(real))
    };
    let when = txn.when.iter().map(|when| match when {
        When::Absent(key) => When::Absent(key.clone()),
        When::Same(key, created) => {
            let ((model, _), (real, _)) = of(key);
            When::Same(key.clone(), real + (created - model))
        }
        When::Unchanged(key, changed) => {
            let ((_, model), (_, real)) = of(key);
            When::Unchanged(key.clone(), real + (changed - model))
        }
    });
    Txn { when: when.collect(), then: txn.then.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_etcd_answers_as_the_simulations_register() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let server = started(EtcdServer::start).await;
    let client = connected(&server.url()).await;
    let (mut register, mut lease) = (Register::default(), client.grant(3_600).await.unwrap());
    let mut model_lease = register.grant();
    let mut watch = client.watch("/t/", 1).await.unwrap();
    let (mut done, mut watched): (usize, BTreeMap<String, Entry>) = (0, BTreeMap::new());
    for call in 0..CALLS {
        if random.u8(..40) == 0 {
            client.revoke(lease).await.unwrap();
            register.expire(model_lease);
            (lease, model_lease) = (client.grant(3_600).await.unwrap(), register.grant());
            continue;
        }
        let txn = change(&mut random, &register, model_lease);
        let real = client.range("/t/").await.unwrap().entries;
        let mut asked = translated(&txn, &register.range("/t/"), &real);
        for then in &mut asked.then {
            if let Then::Put { lease: Some(of), .. } = then {
                *of = lease;
            }
        }
        let held = client.commit(&asked).await.unwrap();
        assert_eq!(held, register.commit(&txn), "seed {seed}, call {call}: {txn:?}");
        done += usize::from(held);
        let (model, real) = (register.range("/t/"), client.range("/t/").await.unwrap());
        assert_eq!(by_order(&model), by_order(&real.entries), "seed {seed}, call {call}: {txn:?}");
        // The watch comes to the same.
        let complete = async {
            while watched.values().map(|entry| entry.changed).max().unwrap_or(0)
                < real.entries.iter().map(|entry| entry.changed).max().unwrap_or(0)
                || watched.values().cloned().collect::<Vec<_>>() != real.entries
            {
                for event in watch.next().await.unwrap() {
                    match event {
                        Event::Put(entry) => drop(watched.insert(entry.key.clone(), entry)),
                        Event::Gone(key) => drop(watched.remove(&key)),
                    }
                }
            }
        };
        tokio::time::timeout(WITHIN, complete)
            .await
            .unwrap_or_else(|_| panic!("seed {seed}, call {call}: the watch lags"));
    }
    assert!(
        done > CALLS / 4 && done < CALLS * 9 / 10,
        "{done} of {CALLS} conditions held: too few, or too many, to tell"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_and_the_newest_first() {
    let server = started(EtcdServer::start).await;
    let client = connected(&server.url()).await;
    for n in 0..450 {
        assert!(client.commit(&Txn::default().put(format!("/h/{n:05}"), b"x".to_vec())).await.unwrap());
    }
    // Beside the prefix, and not under it.
    client.commit(&Txn::default().put("/h0", Vec::new()).put("/h", Vec::new())).await.unwrap();
    let all = client.range("/h/").await.unwrap().entries;
    assert_eq!((all.len(), all[0].key.as_str(), all[449].key.as_str()), (450, "/h/00000", "/h/00449"));
    for (most, expected) in [(1, 1), (250, 250), (1_000, 450)] {
        let last = client.last("/h/", most).await.unwrap();
        assert_eq!((last.len(), last[0].key.as_str()), (expected, "/h/00449"), "{most}");
        assert!(last.windows(2).all(|pair| pair[0].key > pair[1].key));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_lives_as_long_as_it_is_kept() {
    let server = started(EtcdServer::start).await;
    let client = connected(&server.url()).await;
    let lease = client.grant(2).await.unwrap();
    client.commit(&Txn::default().put_leased("/l/k", Vec::new(), lease)).await.unwrap();
    let mut watch = client.watch("/l/", 1).await.unwrap();
    assert_eq!(changes(&mut watch).await.unwrap().len(), 1);
    for _ in 0..8 {
        assert!(client.keep_alive(lease).await.unwrap());
        tokio::time::sleep(Duration::from_millis(500)).await; // longer, in all, than the lease
    }
    assert_eq!(client.range("/l/").await.unwrap().entries.len(), 1);
    let gone = tokio::time::timeout(WITHIN, changes(&mut watch)).await.expect("the lease never ends").unwrap();
    assert_eq!(gone, [Event::Gone("/l/k".into())]);
    assert!(!client.keep_alive(lease).await.unwrap(), "it is gone");
}

/// A CA, and a certificate of it for 127.0.0.1 and for a client.
fn certificates(dir: &std::path::Path, name: &str) -> Certificates {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_cert = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let mut leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    leaf.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf_cert = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let write = |what: &str, text: String| {
        let path = dir.join(format!("{name}.{what}"));
        std::fs::write(&path, text).unwrap();
        path
    };
    Certificates {
        ca: write("ca", authority_cert.pem()),
        cert: write("cert", leaf_cert.pem()),
        key: write("key", leaf_key.serialize_pem()),
    }
}

fn over_tls(ca: &Certificates, own: Option<&Certificates>) -> ClientSettings {
    let read = |path: &std::path::Path| std::fs::read(path).unwrap();
    let identity = own.map(|own| (read(&own.cert), Secret::new(read(&own.key))));
    ClientSettings { tls: Tls { ca: Some(read(&ca.ca)), identity }, login: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_both_sides_are_known_or_nothing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (known, other) = (certificates(dir.path(), "known"), certificates(dir.path(), "other"));
    let tls = known.clone();
    let server = started(move || EtcdServer::with_tls(tls)).await;
    let client = Client::connect(&server.url(), &over_tls(&known, Some(&known))).await.unwrap();
    assert!(client.commit(&Txn::default().put("/k", b"v".to_vec())).await.unwrap());
    for (settings, why) in [
        (over_tls(&other, Some(&known)), "a server of another CA"),
        (over_tls(&known, None), "a client without a certificate"),
        (over_tls(&known, Some(&other)), "a client of another CA"),
    ] {
        let refused = match Client::connect(&server.url(), &settings).await {
            Ok(client) => client.range("/k").await.map(|_| ()),
            Err(fault) => Err(fault),
        };
        let fault = refused.expect_err(why);
        println!("{why}: {fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_a_password_is_let_in_and_nobody_else() {
    let server = started(EtcdServer::start).await;
    let server = tokio::task::spawn_blocking(move || {
        server.ctl(&["user", "add", "root:secret"]);
        server.ctl(&["user", "grant-role", "root", "root"]);
        server.ctl(&["auth", "enable"]);
        server
    })
    .await
    .unwrap();
    let login = |user: &str, password: &str| ClientSettings {
        login: Some((user.to_owned(), Secret::new(password))),
        ..ClientSettings::default()
    };
    let client = Client::connect(&server.url(), &login("root", "secret")).await.unwrap();
    assert!(client.commit(&Txn::default().put("/k", b"v".to_vec())).await.unwrap());
    let lease = client.grant(60).await.unwrap();
    assert!(client.keep_alive(lease).await.unwrap());
    let mut watch = client.watch("/", 1).await.unwrap();
    assert_eq!(changes(&mut watch).await.unwrap().len(), 1);
    let wrong = Client::connect(&server.url(), &login("root", "wrong")).await.unwrap_err();
    assert!(matches!(&wrong, Fault::Refused(why) if why.contains("authentication failed")), "{wrong:?}");
    let nobody = connected(&server.url()).await.range("/k").await.unwrap_err();
    assert!(matches!(&nobody, Fault::Refused(_)), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_away_is_a_fault_and_no_wait() {
    let server = started(EtcdServer::start).await;
    let client = connected(&server.url()).await;
    let mut watch = client.watch("/", 1).await.unwrap();
    let url = server.url();
    drop(server);
    for fault in [
        client.range("/k").await.map(drop).unwrap_err(),
        client.commit(&Txn::default().put("/k", Vec::new())).await.map(drop).unwrap_err(),
        changes(&mut watch).await.map(drop).unwrap_err(),
        Client::connect(&url, &ClientSettings::default()).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(fault, Fault::Unanswered(_)), "{fault:?}");
    }
}

/// TCP is taken by the kernel; TLS never begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_the_connection_and_says_nothing_is_a_fault_and_no_wait() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://{}", silent.local_addr().unwrap());
        let asked = async { Client::connect(&url, &ClientSettings::default()).await?.range("/k").await };
        let fault = tokio::time::timeout(WITHIN, asked).await.unwrap_or_else(|_| panic!("{url} is waited for"));
        assert!(matches!(fault, Err(Fault::Unanswered(_))), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_on_without_one_and_says_nothing_without_two() {
    let mut servers = tokio::task::spawn_blocking(EtcdServer::cluster).await.unwrap();
    let clients = [connected(&servers[0].url()).await, connected(&servers[1].url()).await];
    let lease = clients[0].grant(600).await.unwrap();
    assert!(clients[0].commit(&Txn::default().put_leased("/c/k", b"1".to_vec(), lease)).await.unwrap());
    let seen = clients[1].range("/c/").await.unwrap();
    assert_eq!(seen.entries.len(), 1, "the majority's, whoever is asked");
    servers[0].kill();
    // A leader is chosen anew: until then nothing is answered.
    let changed = seen.entries[0].changed;
    let txn = Txn::default().when(When::Unchanged("/c/k".into(), changed)).put("/c/k", b"2".to_vec());
    let until = tokio::time::Instant::now() + WITHIN;
    while clients[1].range("/c/").await.is_err() {
        assert!(tokio::time::Instant::now() < until, "two of three do not go on");
    }
    assert!(clients[1].commit(&txn).await.unwrap() && clients[1].keep_alive(lease).await.unwrap());
    servers[2].kill();
    while clients[1].range("/c/").await.is_ok() {
        assert!(tokio::time::Instant::now() < until + WITHIN, "one of three answers");
    }
    let mut servers = tokio::task::spawn_blocking(move || {
        servers[0].restart();
        servers
    })
    .await
    .unwrap();
    let back = connected(&servers[0].url()).await.range("/c/").await.unwrap();
    assert_eq!(back.entries[0].value, b"2");
    servers.clear();
}
