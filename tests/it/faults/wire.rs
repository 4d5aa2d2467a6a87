//! An HTTP client that takes everything: refused, reset, cut off, silent.

use crate::support::request;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// decant answers within its budget; this is for one that is stopped, or a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
pub struct Reply {
    pub status: u16,
    /// `Decant-Tier`
    pub tier: Option<String>,
    pub body: Vec<u8>,
    closes: bool,
}

/// A connection that is made again as needed.
#[derive(Default)]
pub struct Line(Option<(SocketAddr, BufReader<TcpStream>)>);

impl Line {
    /// Sends once, whatever becomes of it.
    pub fn ask(&mut self, addr: SocketAddr, bytes: &[u8]) -> io::Result<Reply> {
        let mut stream = match self.0.take() {
            Some((to, stream)) if to == addr => stream,
            _ => connect(addr)?,
        };
        stream.get_mut().write_all(bytes)?;
        let reply = read(&mut stream)?;
        if !reply.closes {
            self.0 = Some((addr, stream));
        }
        Ok(reply)
    }
}

/// One request on a connection of its own.
pub fn once(addr: SocketAddr, method: &str, path: &str, body: &[u8]) -> io::Result<Reply> {
    let text = String::from_utf8(request(method, path, body)).unwrap();
    // The admin listener answers to its own name only.
    Line::default().ask(
        addr,
        text.replace("Host: test\r\n", &format!("Host: {addr}\r\nContent-Type: application/json\r\n")).as_bytes(),
    )
}

fn connect(addr: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let first = line(stream)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| odd("no status"))?;
    let mut reply = Reply { status, tier: None, body: Vec::new(), closes: false };
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = line(stream)?;
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(": ") else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse::<usize>().map_err(|_| odd("no length"))?),
            "decant-tier" => reply.tier = Some(value.to_owned()),
            "connection" => reply.closes = value.eq_ignore_ascii_case("close"),
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    match length {
        _ if status == 204 => {}
        None if chunked => reply.body = chunks(stream)?,
        Some(length) => {
            reply.body = vec![0; length];
            stream.read_exact(&mut reply.body)?;
        }
        None => {
            stream.read_to_end(&mut reply.body)?;
            reply.closes = true;
        }
    }
    Ok(reply)
}

fn chunks(stream: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let length = usize::from_str_radix(&line(stream)?, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no length of a chunk"))?;
        let from = body.len();
        body.resize(from + length, 0);
        stream.read_exact(&mut body[from..])?;
        line(stream)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
