//! Each mode of the proxy does what it says.

use super::proxy::{HOLD_MAX, Mode, Proxy};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// Answers everything with the same.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut &stream));
        }
    });
    addr
}

fn stage() -> (Runtime, Proxy) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let proxy = Proxy::before(echo(), &runtime);
    (runtime, proxy)
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// What comes back of a message, until `wanted` bytes or the end.
fn sent(stream: &mut TcpStream, message: &[u8]) -> Vec<u8> {
    let _ = stream.write_all(message);
    received(stream, message.len())
}

fn received(stream: &mut TcpStream, wanted: usize) -> Vec<u8> {
    let mut got = Vec::new();
    let mut buffer = [0; 1024];
    while got.len() < wanted {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => got.extend_from_slice(&buffer[..length]),
        }
    }
    got
}

fn wait_holds(proxy: &Proxy, something: bool) {
    crate::whole::wait_until("the proxy holds something, or nothing", || proxy.holds() == something);
}

const MESSAGE: &[u8] = b"a message of some length";

#[test]
fn it_passes_delays_and_drips() {
    let (_runtime, proxy) = stage();
    let mut stream = connect(&proxy);
    assert_eq!(sent(&mut stream, MESSAGE), MESSAGE);
    proxy.set(Mode::Latency(50), 100, 0);
    let began = Instant::now();
    assert_eq!(sent(&mut stream, MESSAGE), MESSAGE);
    assert!(began.elapsed() >= Duration::from_millis(100), "50 ms each way");
    proxy.set(Mode::Jitter(20), 100, 0);
    assert_eq!(sent(&mut stream, MESSAGE), MESSAGE);
    proxy.set(Mode::Drip, 100, 0);
    assert_eq!(sent(&mut stream, MESSAGE), MESSAGE);
}

#[test]
fn what_it_stalls_arrives_later_or_never() {
    let (_runtime, proxy) = stage();
    let mut stream = connect(&proxy);
    assert_eq!(sent(&mut stream, MESSAGE), MESSAGE);
    wait_holds(&proxy, false);
    proxy.set(Mode::Stall, 100, 0);
    stream.write_all(MESSAGE).unwrap();
    wait_holds(&proxy, true);
    proxy.pass();
    // On a machine so busy that this took longer than anything is held, it is gone; both are what is said.
    let got = received(&mut stream, MESSAGE.len());
    assert!(got == MESSAGE || got.is_empty(), "{got:?}");
    let mut stream = connect(&proxy);
    proxy.set(Mode::Stall, 100, 0);
    let began = Instant::now();
    assert_eq!(sent(&mut stream, MESSAGE), b"", "never released");
    assert!(began.elapsed() >= HOLD_MAX);
    proxy.pass();
    assert_eq!(sent(&mut connect(&proxy), MESSAGE), MESSAGE, "a new connection is not met");
}

#[test]
fn it_cuts_resets_refuses_and_swallows() {
    let (_runtime, proxy) = stage();
    proxy.set(Mode::Cut(5), 100, 0);
    let got = sent(&mut connect(&proxy), MESSAGE);
    assert!(got.len() < 5 && MESSAGE.starts_with(&got), "cut on the way there, and back: {got:?}");
    proxy.set(Mode::Half(5), 100, 0);
    let mut stream = connect(&proxy);
    stream.write_all(MESSAGE).unwrap();
    wait_holds(&proxy, true);
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let ended = std::iter::repeat_with(|| stream.read(&mut [0; 64])).find(|read| !matches!(read, Ok(1..)));
    assert!(ended.is_some_and(|read| read.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)), "it stays open");
    proxy.pass();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(received(&mut stream, MESSAGE.len()).len() < 5, "the rest is lost");
    for mode in [Mode::Reset, Mode::Refuse] {
        proxy.set(mode, 100, 0);
        assert_eq!(sent(&mut connect(&proxy), MESSAGE), b"", "{mode:?}");
    }
    proxy.pass();
    let mut stream = connect(&proxy);
    assert_eq!(sent(&mut stream, MESSAGE), MESSAGE);
    // What came back may be here before the proxy has put it down.
    wait_holds(&proxy, false);
    proxy.set(Mode::BlackHole, 100, 0);
    stream.write_all(MESSAGE).unwrap();
    wait_holds(&proxy, true);
    proxy.pass();
    assert_eq!(received(&mut stream, MESSAGE.len()), b"", "swallowed for good");
    assert_eq!(sent(&mut connect(&proxy), MESSAGE), MESSAGE);
}

#[test]
fn a_share_of_the_connections_is_met() {
    let (_runtime, proxy) = stage();
    proxy.set(Mode::Reset, 50, 7);
    let met = (0..40).filter(|_| sent(&mut connect(&proxy), MESSAGE).is_empty()).count();
    assert!((5..35).contains(&met), "{met} of 40");
}

#[test]
fn it_goes_where_it_is_pointed() {
    let (_runtime, proxy) = stage();
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    proxy.point_at(nowhere);
    assert_eq!(sent(&mut connect(&proxy), MESSAGE), b"");
    proxy.point_at(echo());
    let mut stream = connect(&proxy);
    assert_eq!(sent(&mut stream, MESSAGE), MESSAGE);
    proxy.cut();
    assert_eq!(received(&mut stream, 1), b"");
    assert_eq!(sent(&mut connect(&proxy), MESSAGE), MESSAGE, "a new connection is not met");
}
