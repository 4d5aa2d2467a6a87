//! Helpers of all modules: a raw HTTP client that tidies nothing up, and the decant binary as a process.
#![allow(dead_code, reason = "each module uses its part")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// No single step of a test takes longer; one that would hang fails instead.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An answer as it came over the wire, without its `Date`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// `HTTP/1.1 200 OK`
    pub status_line: String,
    /// `Name: value`, sorted.
    pub headers: Vec<String>,
    /// Without the framing of chunks.
    pub body: Vec<u8>,
}

impl Raw {
    pub fn status(&self) -> u16 {
        self.status_line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then_some(value.trim_start())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that sends bytes as given.
pub struct Wire(BufReader<TcpStream>);

impl Wire {
    pub fn connect(addr: SocketAddr) -> Wire {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire(BufReader::new(stream))
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// As `send`, where the server may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    pub fn close_half(&mut self) {
        self.0.get_mut().shutdown(Shutdown::Write).unwrap();
    }

    /// The next answer. `to_head`: it answers a HEAD and has no body.
    pub fn answer(&mut self, to_head: bool) -> Raw {
        let status_line = self.line();
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            if !line.starts_with("Date: ") {
                headers.push(line);
            }
        }
        headers.sort();
        let mut raw = Raw { status_line, headers, body: Vec::new() };
        let bodiless = to_head || matches!(raw.status(), 100..=199 | 204 | 304);
        if !bodiless {
            raw.body = self.body(&raw);
        }
        raw
    }

    fn body(&mut self, raw: &Raw) -> Vec<u8> {
        let mut body = Vec::new();
        if raw.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line(), 16).unwrap();
                let mut chunk = vec![0; size];
                self.0.read_exact(&mut chunk).unwrap();
                assert_eq!(self.line(), "");
                if size == 0 {
                    return body;
                }
                body.extend(chunk);
            }
        }
        if let Some(length) = raw.header("content-length") {
            body = vec![0; length.parse().unwrap()];
            self.0.read_exact(&mut body).unwrap();
        } else {
            self.0.read_to_end(&mut body).unwrap();
        }
        body
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).unwrap();
        let line = line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("the connection ended within {line:?}"));
        String::from_utf8_lossy(line).into_owned()
    }

    /// Waits for the server to close; panics if it sends anything more, or does not close. A reset is a close too.
    pub fn assert_closes(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(rest, b"", "sent before it closed"),
            Err(fault) => assert_eq!(fault.kind(), std::io::ErrorKind::ConnectionReset, "{fault}"),
        }
    }
}

/// Sends `request` on a connection of its own and reads one answer.
pub fn exchange(addr: SocketAddr, request: impl AsRef<[u8]>) -> Raw {
    let request = request.as_ref();
    let mut wire = Wire::connect(addr);
    wire.send(request);
    wire.answer(request.starts_with(b"HEAD "))
}

/// `METHOD path` with a body, on a connection of its own.
pub fn ask(addr: SocketAddr, method: &str, path: &str, body: &[u8]) -> Raw {
    exchange(addr, request(method, path, body))
}

pub fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The decant binary at work. Killed when dropped.
pub struct Decant {
    child: Child,
    /// Its first line on standard output.
    pub ready: serde_json::Value,
    pub addr: SocketAddr,
}

impl Decant {
    /// Starts `decant ARGS` and waits for its ready line, `{"listening":"ADDR", …}`.
    pub fn start<'a>(args: impl IntoIterator<Item = &'a str>) -> Decant {
        let mut command = Command::new(env!("CARGO_BIN_EXE_decant"));
        command.args(args);
        Decant::start_command(command)
    }

    pub fn start_command(mut command: Command) -> Decant {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            panic!("decant ended without a ready line: {}", child.wait().unwrap());
        }
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let addr = ready["listening"].as_str().unwrap().parse().unwrap();
        Decant { child, ready, addr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// SIGSTOP, and nothing is answered any more.
    pub fn stop(&self) {
        self.signal("STOP");
        wait_stopped(self.pid());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "decant does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Processor time it has used.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // User and system time, in hundredths of a second, are the 12th and 13th field behind the name in parentheses.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        Duration::from_millis((fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10)
    }

    /// A line of `/proc/PID/status` that counts KiB, `VmRSS` for one.
    pub fn kib(&self, name: &str) -> u64 {
        kib(self.pid(), name)
    }
}

pub fn kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

impl Drop for Decant {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `decant ARGS`, run to its end: status code, standard output, standard error.
pub fn run_decant<'a>(args: impl IntoIterator<Item = &'a str>) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_decant")).args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

pub fn utf8(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A way to `to` on which the answer to a move gets lost, and the connection with it; its URL.
pub fn swallows_answers_to_moves(to: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(to).unwrap());
            let asked = Arc::new(AtomicBool::new(false));
            let answered = asked.clone();
            let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let notes = move |bytes: &[u8]| {
                asked.fetch_or(bytes.starts_with(b"PUT "), Ordering::SeqCst);
                true
            };
            pass(client, server, notes);
            pass(server_too, client_too, move |_| !answered.load(Ordering::SeqCst));
        }
    });
    url
}

/// Hands bytes on until one side ends, or they are not to go on; then both sides end.
fn pass(mut from: TcpStream, mut to: TcpStream, goes_on: impl Fn(&[u8]) -> bool + Send + 'static) {
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if !goes_on(&buffer[..length]) || to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

/// The signal is sent before the process has stopped: until then it may answer one more request.
pub fn wait_stopped(pid: u32) {
    let until = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ") {
        assert!(Instant::now() < until, "process {pid} does not stop");
        std::thread::yield_now();
    }
}
