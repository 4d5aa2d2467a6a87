//! What the scenarios are checked against before they judge decant: a real Redis, and the stand-in written in PHP.

use super::driver::php_file;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that does not accept by then did not start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a free port is tried: another process may take it between the look and the bind.
const PORT_TRIES: usize = 5;

/// A redis-server of its own on a Unix socket, without persistence. It ends with this value.
pub struct Redis {
    child: Child,
    pub socket: PathBuf,
    _dir: tempfile::TempDir,
}

impl Redis {
    pub fn start() -> Result<Redis, String> {
        let dir = tempfile::tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
        let socket = dir.path().join("redis.sock");
        let mut child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| format!("redis-server did not start: {e}; deploy/test.sh installs it"))?;
        let ready = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
        wait_until(&mut child, "redis-server", ready)?;
        Ok(Redis { child, socket, _dir: dir })
    }

    pub fn address(&self) -> String {
        self.socket.display().to_string()
    }
}

/// The stand-in for decant under PHP's own web server. It ends with this value.
pub struct Standin {
    child: Child,
    origin: String,
}

impl Standin {
    /// `fault` is a name that standin.php knows, or empty.
    pub fn start(redis: &Redis, serialization: &str, hmac_key: &str, fault: &str) -> Result<Standin, String> {
        let mut failure = String::new();
        for _ in 0..PORT_TRIES {
            let address = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .map_err(|e| format!("no free port: {e}"))?;
            let mut child = Command::new("php")
                .args(["-S", &address.to_string()])
                .arg(php_file("standin.php"))
                .env("REDIS_SOCKET", &redis.socket)
                .env("SERIALIZATION", serialization)
                .env("HMAC_KEY", hmac_key)
                .env("FAULT", fault)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|e| format!("php did not start: {e}; deploy/test.sh installs it"))?;
            match wait_until(&mut child, "php -S", || TcpStream::connect(address).is_ok()) {
                Ok(()) => return Ok(Standin { child, origin: format!("http://{address}") }),
                Err(e) => failure = e,
            }
        }
        Err(failure)
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }
}

fn wait_until(child: &mut Child, name: &str, ready: impl Fn() -> bool) -> Result<(), String> {
    let end = Instant::now() + START_TIMEOUT;
    while !ready() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("{name} ended while starting: {status}"));
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{name} did not accept a connection within {START_TIMEOUT:?}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
