//! A real etcd of one's own, alone or a cluster of three, in directories of their own; gone when dropped.

use crate::redis_server::free_port;
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// One etcd, or one of a cluster.
pub struct EtcdServer {
    child: Option<Child>,
    dir: TempDir,
    name: String,
    pub port: u16,
    peer: u16,
    cluster: String,
    tls: Option<Certificates>,
}

/// PEM files.
#[derive(Clone, Debug)]
pub struct Certificates {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl EtcdServer {
    pub fn start() -> EtcdServer {
        EtcdServer::alone(None)
    }

    /// It takes clients with a certificate of that CA only.
    pub fn with_tls(tls: Certificates) -> EtcdServer {
        EtcdServer::alone(Some(tls))
    }

    fn alone(tls: Option<Certificates>) -> EtcdServer {
        // Between asking for a free port and using it somebody else may take it: then another one is tried.
        for _ in 0..10 {
            let (port, peer) = (free_port(), free_port());
            let cluster = format!("only=http://127.0.0.1:{peer}");
            let mut server = EtcdServer::new("only", port, peer, cluster, tls.clone());
            if server.try_start() && server.is_up() {
                return server;
            }
        }
        panic!("etcd does not start");
    }

    /// Three that know each other.
    pub fn cluster() -> Vec<EtcdServer> {
        for _ in 0..10 {
            let peers: Vec<u16> = (0..3).map(|_| free_port()).collect();
            let named = peers.iter().enumerate().map(|(n, peer)| format!("n{n}=http://127.0.0.1:{peer}"));
            let cluster = named.collect::<Vec<_>>().join(",");
            let mut servers: Vec<EtcdServer> = peers
                .iter()
                .enumerate()
                .map(|(n, peer)| EtcdServer::new(&format!("n{n}"), free_port(), *peer, cluster.clone(), None))
                .collect();
            if servers.iter_mut().all(EtcdServer::try_start) && servers.iter_mut().all(EtcdServer::is_up) {
                return servers;
            }
        }
        panic!("no cluster of etcd starts");
    }

    fn new(name: &str, port: u16, peer: u16, cluster: String, tls: Option<Certificates>) -> EtcdServer {
        let dir = tempfile::tempdir().unwrap();
        EtcdServer { child: None, dir, name: name.to_owned(), port, peer, cluster, tls }
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// On the same ports, with the same data.
    pub fn restart(&mut self) {
        self.kill();
        let begun = Instant::now();
        // As long as it was away another may have had its port.
        while !(self.try_start() && self.is_up()) {
            assert!(begun.elapsed() < READY_WITHIN, "etcd does not come back on port {}: {}", self.port, self.log());
        }
    }

    /// `etcdctl`, as its operator would; what it printed.
    pub fn ctl(&self, args: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url(), "--command-timeout", "20s"]);
        if let Some(tls) = &self.tls {
            command.arg("--cacert").arg(&tls.ca).arg("--cert").arg(&tls.cert).arg("--key").arg(&tls.key);
        }
        let output = command.args(args).output().unwrap();
        assert!(output.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `false` if it ended before it listened.
    fn try_start(&mut self) -> bool {
        let (dir, peer_url) = (self.dir.path(), format!("http://127.0.0.1:{}", self.peer));
        let log = std::fs::File::options().create(true).append(true).open(dir.join("etcd.log")).unwrap();
        let mut command = Command::new("etcd");
        command
            .args(["--name", &self.name, "--data-dir"])
            .arg(dir.join("data"))
            .args(["--listen-client-urls", &self.url(), "--advertise-client-urls", &self.url()])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &self.cluster, "--initial-cluster-state", "new"])
            // On a busy machine a leader must not lose its place for being slow.
            .args(["--heartbeat-interval", "200", "--election-timeout", "2000", "--log-level", "error"])
            .args(["--logger", "zap"]);
        if let Some(tls) = &self.tls {
            command.arg("--trusted-ca-file").arg(&tls.ca).arg("--cert-file").arg(&tls.cert);
            command.arg("--key-file").arg(&tls.key).arg("--client-cert-auth");
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap_or_else(|error| {
                panic!("etcd: {error}; it is needed here: apt-get install etcd-server etcd-client")
            });
        let begun = Instant::now();
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                self.child = Some(child);
                return true;
            }
            assert!(begun.elapsed() < READY_WITHIN, "etcd does not listen on port {}: {}", self.port, self.log());
            std::thread::sleep(Duration::from_millis(10)); // between two tries, not in place of them
        }
    }

    /// Waits until it has a leader and answers; `false` if it ended before.
    fn is_up(&mut self) -> bool {
        if self.tls.is_some() {
            self.ctl(&["endpoint", "health"]);
            return true;
        }
        let begun = Instant::now();
        while !self.is_healthy() {
            if self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
                return false;
            }
            assert!(begun.elapsed() < READY_WITHIN, "etcd on port {} has no leader: {}", self.port, self.log());
            std::thread::sleep(Duration::from_millis(20)); // between two questions
        }
        true
    }

    fn is_healthy(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.contains("\"health\":\"true\""))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("etcd.log")).unwrap_or_else(|_| "it left no log".into())
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
    }
}
