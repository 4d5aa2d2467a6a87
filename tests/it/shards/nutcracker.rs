//! Debian's nutcracker (twemproxy), and Redis's protocol as much of it as it takes.

use crate::redis_server::RedisServer;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const READY_WITHIN: Duration = Duration::from_secs(20);

/// One pool, on a Unix socket. It ends with this value.
pub struct Nutcracker {
    child: Child,
    dir: TempDir,
}

impl Nutcracker {
    /// `servers`: each with its weight and its name, none where it is empty. `more`: further lines of the pool.
    pub fn start(servers: &[(&RedisServer, u32, &str)], more: &[&str]) -> Nutcracker {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("pool.sock");
        let mut config = format!("pool:\n  listen: {}\n  redis: true\n", socket.display());
        more.iter().for_each(|line| config.push_str(&format!("  {line}\n")));
        config.push_str("  servers:\n");
        for (server, weight, name) in servers {
            config.push_str(format!("   - 127.0.0.1:{}:{weight} {name}", server.port).trim_end());
            config.push('\n');
        }
        std::fs::write(dir.path().join("nutcracker.yml"), config).unwrap();
        for _ in 0..10 {
            // Its figures need a port, and somebody else may take it first.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = Command::new("nutcracker")
                .args(["-c", "nutcracker.yml", "-a", "127.0.0.1", "-s", &port.to_string(), "-o", "nutcracker.log"])
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("nutcracker: {error}; it is needed here: apt-get install nutcracker"));
            let begun = Instant::now();
            while child.try_wait().unwrap().is_none() {
                if UnixStream::connect(&socket).is_ok() {
                    return Nutcracker { child, dir };
                }
                assert!(begun.elapsed() < READY_WITHIN, "nutcracker does not listen");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let log = std::fs::read_to_string(dir.path().join("nutcracker.log")).unwrap_or_default();
        panic!("nutcracker does not start: {log}");
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("pool.sock")
    }

    pub fn connect(&self) -> Client {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(READY_WITHIN)).unwrap();
        Client(BufReader::new(stream))
    }
}

impl Drop for Nutcracker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that sends no greeting: nutcracker would close it.
pub struct Client(BufReader<UnixStream>);

impl Client {
    pub fn set(&mut self, key: &[u8], value: &str) {
        self.send(&[b"SET", key, value.as_bytes()]);
        assert_eq!(self.line(), "+OK", "{}", key.escape_ascii());
    }

    pub fn get(&mut self, key: &[u8]) -> Option<String> {
        self.send(&[b"GET", key]);
        let length: i64 = self.line().strip_prefix('$').unwrap().parse().unwrap();
        let mut value = vec![0; usize::try_from(length).ok()? + 2];
        self.0.read_exact(&mut value).unwrap();
        value.truncate(value.len() - 2);
        Some(String::from_utf8(value).unwrap())
    }

    fn send(&mut self, words: &[&[u8]]) {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&request).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}
