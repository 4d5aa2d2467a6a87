//! A real redis-server of one's own, in a directory of its own; gone when dropped.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const READY_WITHIN: Duration = Duration::from_secs(10);
const SOCKET: &str = "redis.sock";
/// Below the ports that the kernel gives to outgoing connections and to port 0: a killed server's port stays free for it.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

pub struct RedisServer {
    child: Child,
    dir: TempDir,
    pub port: u16,
    flags: Vec<String>,
}

impl RedisServer {
    /// Without persistence, on a free port and on a Unix socket.
    pub fn start() -> RedisServer {
        RedisServer::with_flags(&[])
    }

    /// `flags` as on redis-server's command line, for example `["--requirepass", "secret"]`; they win over the defaults.
    pub fn with_flags(flags: &[&str]) -> RedisServer {
        let dir = tempfile::tempdir().unwrap();
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        // Between asking for a free port and using it somebody else may take it: then another one is tried.
        for _ in 0..10 {
            let port = free_port();
            if let Some(child) = spawn(&dir, port, &flags) {
                return RedisServer { child, dir, port, flags };
            }
        }
        panic!("redis-server does not start with {flags:?}: {}", log_of(&dir));
    }

    /// `redis://127.0.0.1:PORT/0`
    pub fn url(&self) -> String {
        self.url_with("", 0)
    }

    /// `login` is empty or ends with `@`.
    pub fn url_with(&self, login: &str, db: u32) -> String {
        format!("redis://{login}127.0.0.1:{}/{db}", self.port)
    }

    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.dir.path().join(SOCKET).display())
    }

    /// A connection beside the one under test.
    pub fn client(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// As `kill -9`; nobody else wants the port before [`RedisServer::restart`].
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Kills it if it runs, and starts it again on the same port and files.
    pub fn restart(&mut self) {
        self.kill();
        let begun = Instant::now();
        while begun.elapsed() < READY_WITHIN {
            if let Some(child) = spawn(&self.dir, self.port, &self.flags) {
                self.child = child;
                return;
            }
        }
        panic!("redis-server does not come back on port {}", self.port);
    }

    /// As [`RedisServer::restart`], with nothing of what it had kept.
    pub fn restart_empty(&mut self) {
        self.kill();
        for kept in ["appendonlydir", "dump.rdb"].map(|name| self.dir.path().join(name)) {
            let _ = if kept.is_dir() { std::fs::remove_dir_all(kept) } else { std::fs::remove_file(kept) };
        }
        self.restart();
    }

    /// It keeps its connections and says nothing more, from when this returns.
    pub fn sigstop(&self) {
        self.signal("-STOP");
        crate::support::wait_stopped(self.child.id());
    }

    pub fn sigcont(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill {signal}: {status}");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None` if it ended before it answered.
fn spawn(dir: &TempDir, port: u16, flags: &[String]) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--unixsocket", SOCKET, "--daemonize", "no", "--logfile", "redis.log"])
        .args(flags)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server: {error}; it is needed here: apt-get install redis-server"));
    let begun = Instant::now();
    while begun.elapsed() < READY_WITHIN {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if answers(dir) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(2)); // between two PINGs, not in place of them
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("redis-server on port {port} did not answer PING within {READY_WITHIN:?}: {}", log_of(dir));
}

fn log_of(dir: &TempDir) -> String {
    std::fs::read_to_string(dir.path().join("redis.log")).unwrap_or_else(|_| "it left no log".into())
}

/// A port that nobody listens on now and that no other server of this process is given. Each test process begins elsewhere.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id() as u16;
    loop {
        let nth = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + nth % (PORTS.end - PORTS.start);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Asked on its socket, which is this server's alone and is there once the port is: another's answer on the port would tell nothing.
fn answers(dir: &TempDir) -> bool {
    let ping = || -> std::io::Result<[u8; 5]> {
        let mut stream = UnixStream::connect(dir.path().join(SOCKET))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    // With a password set it is up as well once it asks for it.
    ping().is_ok_and(|answer| &answer == b"+PONG" || &answer == b"-NOAU")
}
