//! An HTTP server that does as it is told, byte by byte: lies, silence and half answers no library would send.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What to do with one request.
#[derive(Clone)]
pub enum Act {
    /// Send these bytes and wait for the next request on the connection.
    Say(Vec<u8>),
    /// Send these bytes and close.
    SayAndClose(Vec<u8>),
    /// Send these bytes one by one, for ever if there are that many.
    Drip(Vec<u8>, Duration),
    /// Send the first bytes, then the second ones again and again until the client has enough.
    Flood(Vec<u8>, Vec<u8>),
    /// Keep the connection open and say nothing.
    Silence,
}

/// One request as it stood on the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The number of its connection, from 0.
    pub connection: usize,
    /// Request line and headers, verbatim.
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

pub struct Liar {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// The number of each connection whose client closed it after we had.
    pub hung_up: mpsc::UnboundedReceiver<usize>,
}

type Script = Arc<dyn Fn(usize, &Seen) -> Act + Send + Sync>;

impl Liar {
    /// `script` takes the number of the request, from 0, over all connections.
    pub async fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Liar {
        Liar::start_by(move |number, _| script(number)).await
    }

    /// As [`Liar::start`], with the request as it came.
    pub async fn start_by(script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (on_hang_up, hung_up) = mpsc::unbounded_channel();
        let (script, log): (Script, _) = (Arc::new(script), seen.clone());
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, log, on_hang_up) = (script.clone(), log.clone(), on_hang_up.clone());
                tokio::spawn(async move {
                    let mut stream = stream;
                    let _ = serve(connection, &mut stream, script, log).await;
                    // Half-closed: the client's own close is then an event to wait for.
                    let _ = stream.shutdown().await;
                    while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
                    let _ = on_hang_up.send(connection);
                });
            }
        });
        Liar { address, seen, hung_up }
    }

    pub fn url(&self) -> String {
        format!("http://{}/kv/v1/", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    connection: usize,
    stream: &mut TcpStream,
    script: Script,
    log: Arc<Mutex<Vec<Seen>>>,
) -> std::io::Result<()> {
    while let Some(request) = read_request(connection, stream).await? {
        let act = {
            let mut log = log.lock().unwrap();
            let act = script(log.len(), &request);
            log.push(request);
            act
        };
        match act {
            Act::Say(bytes) => stream.write_all(&bytes).await?,
            Act::SayAndClose(bytes) => return stream.write_all(&bytes).await,
            Act::Drip(bytes, pause) => {
                for byte in bytes {
                    stream.write_all(&[byte]).await?;
                    tokio::time::sleep(pause).await;
                }
            }
            Act::Flood(first, again) => {
                stream.write_all(&first).await?;
                loop {
                    stream.write_all(&again).await?;
                }
            }
            Act::Silence => {
                while stream.read(&mut [0; 1024]).await? > 0 {}
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn read_request(connection: usize, stream: &mut TcpStream) -> std::io::Result<Option<Seen>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let mut seen = Seen { connection, head: String::from_utf8(head).unwrap(), body: Vec::new() };
    let length = seen.header("content-length").map_or(0, |n| n.parse().unwrap());
    seen.body.resize(length, 0);
    stream.read_exact(&mut seen.body).await?;
    Ok(Some(seen))
}
