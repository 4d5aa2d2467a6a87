//! A real redis-server of one's own, in a directory of its own; gone when dropped.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const READY_WITHIN: Duration = Duration::from_secs(10);

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
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
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
        format!("unix://{}", self.dir.path().join("redis.sock").display())
    }

    /// A connection beside the one under test.
    pub fn client(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// As `kill -9`; the port stays reserved for [`RedisServer::restart`] by nobody else wanting it.
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

    /// It keeps its connections and says nothing more, from when this returns.
    pub fn sigstop(&self) {
        self.signal("-STOP");
        let stopped = || std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap().contains(") T ");
        let begun = Instant::now();
        while !stopped() {
            assert!(begun.elapsed() < READY_WITHIN, "redis-server does not stop");
        }
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
        .args(["--unixsocket", "redis.sock", "--daemonize", "no", "--logfile", "redis.log"])
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
        if answers(port) {
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

fn answers(port: u16) -> bool {
    let ping = || -> std::io::Result<[u8; 5]> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    // With a password set it is up as well once it asks for it.
    ping().is_ok_and(|answer| &answer == b"+PONG" || &answer == b"-NOAU")
}
