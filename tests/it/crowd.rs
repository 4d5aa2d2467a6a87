//! Clients that mean no good, or know no better, and the others, who must not notice: decant's memory stays under what it is said to need.

use crate::{
    faults::wire::Line,
    redis_server::RedisServer,
    support::request,
    whole::{BASE, Kask, Setup, Whole},
};
use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const MIB: usize = 1024 * 1024;
const OVERSIZED: usize = 50 * MIB;
/// What may be kept, so that it is: a stalled sender of it takes room.
const LARGE: usize = 14 * MIB;
const HEADERS: usize = MIB;
/// `limits.held_bytes_max` as it is by default.
const HELD: usize = 256 * MIB;
/// What ARCHITECTURE.md says: twice what may be held, so much for each connection, and so much for the rest.
const EACH_CONNECTION: usize = 32 * 1024;
const THE_REST: usize = 128 * MIB;
/// Where every connection is taken, a new one waits until one of them has lain still for `limits.header_timeout_ms`, as it is by default.
const LIES_STILL: Duration = Duration::from_secs(5);
const BUDGET: Duration = Duration::from_millis(2_500);
/// Longer than anything here waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

struct Crowd {
    addr: SocketAddr,
    stop: AtomicBool,
    /// What was answered, by what was sent.
    seen: Mutex<BTreeMap<(&'static str, String), u64>>,
    /// Stalled connections that are held.
    stalled: AtomicUsize,
}

/// What an ordinary client was told.
#[derive(Default)]
struct Served {
    times: Vec<Duration>,
    failures: Vec<String>,
}

impl Crowd {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.addr, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(stream)
    }

    /// The status of what comes, if anything does.
    fn take_answer(&self, sent: &'static str, mut stream: &TcpStream) {
        let mut first = [0; 12];
        let answer = match stream.read_exact(&mut first) {
            Ok(()) => String::from_utf8_lossy(&first[9..]).into_owned(),
            Err(_) => "cut".into(),
        };
        *self.seen.lock().unwrap().entry((sent, answer)).or_default() += 1;
    }

    /// So many connections that say nothing, or begin and do not go on; made anew where they are closed.
    fn stall(&self, many: usize) {
        let mut held: Vec<Option<TcpStream>> = (0..many).map(|_| None).collect();
        while self.goes_on() {
            for (nth, slot) in held.iter_mut().enumerate() {
                if !self.goes_on() {
                    return;
                }
                if !slot.as_ref().is_some_and(is_open) {
                    let stream = TcpStream::connect_timeout(&self.addr, Duration::from_millis(500)).ok();
                    *slot = stream.filter(|stream| begin(stream, nth));
                }
            }
            self.stalled.store(held.iter().flatten().filter(|stream| is_open(stream)).count(), Ordering::Relaxed);
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Sends a header a byte at a time, on many connections.
    fn slowloris(&self, many: usize) {
        let mut held: Vec<Option<TcpStream>> = (0..many).map(|_| None).collect();
        while self.goes_on() {
            for slot in &mut held {
                let open = slot.as_ref().is_some_and(|mut stream| is_open(stream) && stream.write_all(b"x").is_ok());
                if !open {
                    *slot =
                        TcpStream::connect_timeout(&self.addr, Duration::from_millis(500)).ok().filter(|mut stream| {
                            let head = format!("GET {BASE}k HTTP/1.1\r\nHost: h\r\nX-Slow: ");
                            stream.set_nonblocking(true).is_ok() && stream.write_all(head.as_bytes()).is_ok()
                        });
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Bodies that are far too large; `length`: it is told.
    fn oversized(&self, length: bool) {
        let (sent, framing) = match length {
            true => ("50 MB body", format!("Content-Length: {OVERSIZED}")),
            false => ("50 MB in chunks", "Transfer-Encoding: chunked".to_owned()),
        };
        let piece = vec![b'x'; 64 * 1024];
        while self.goes_on() {
            let Some(mut stream) = self.connect() else { continue };
            let head = format!("POST {BASE}oversized HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n");
            let mut go_on = stream.write_all(head.as_bytes()).is_ok();
            let mut left = OVERSIZED;
            while go_on && left > 0 && self.goes_on() {
                let chunk = if length { piece.clone() } else { [b"10000\r\n", &piece[..], b"\r\n"].concat() };
                go_on = stream.write_all(&chunk).is_ok();
                left -= piece.len();
            }
            if go_on && left > 0 {
                // The time is over, and a shorter body would be taken.
                break;
            }
            if !length && go_on {
                let _ = stream.write_all(b"0\r\n\r\n");
            }
            self.take_answer(sent, &stream);
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Bodies of a size that may be, all but their end.
    fn large_and_stalled(&self) {
        while self.goes_on() {
            let Some(mut stream) = self.connect() else { continue };
            let head = format!("POST {BASE}large HTTP/1.1\r\nHost: h\r\nContent-Length: {LARGE}\r\n\r\n");
            if stream.write_all(head.as_bytes()).is_ok() {
                let _ = stream.write_all(&vec![b'x'; LARGE - MIB]);
            }
            self.take_answer("14 MB body, stalled", &stream);
        }
    }

    fn long_headers(&self) {
        let head = format!("GET {BASE}k HTTP/1.1\r\nHost: h\r\nX-Long: {}\r\n\r\n", "x".repeat(HEADERS));
        while self.goes_on() {
            let Some(mut stream) = self.connect() else { continue };
            let _ = stream.write_all(head.as_bytes());
            self.take_answer("1 MB header", &stream);
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Writes and reads its own key, again and again; `anew`: on a connection of its own each time.
    fn ordinary(&self, name: usize, anew: bool) -> Served {
        let (mut line, mut served) = (Line::default(), Served::default());
        let path = format!("{BASE}ordinary-{name}");
        for round in 0.. {
            if !self.goes_on() {
                break;
            }
            let body = format!("JSON..{round}");
            for (method, wanted) in [("POST", 201), ("GET", 200)] {
                if anew {
                    line = Line::default();
                }
                let sent = if method == "POST" { body.as_bytes() } else { b"" };
                let began = Instant::now();
                let reply = line.ask(self.addr, &request(method, &path, sent));
                served.times.push(began.elapsed());
                match reply {
                    Ok(reply) if reply.status == wanted && (method == "POST" || reply.body == body.as_bytes()) => {}
                    Ok(reply) => served.failures.push(format!("{method}: {} {:?}", reply.status, reply.body)),
                    Err(fault) => served.failures.push(format!("{method}: {fault} after {:?}", began.elapsed())),
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        served
    }
}

fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.peek(&mut [0]), Err(fault) if fault.kind() == ErrorKind::WouldBlock)
}

fn begin(mut stream: &TcpStream, nth: usize) -> bool {
    let sent = match nth % 4 {
        0 | 1 => String::new(),
        2 => format!("GET {BASE}k HT"),
        _ => format!("POST {BASE}k HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nJSON.."),
    };
    stream.write_all(sent.as_bytes()).is_ok() && stream.set_nonblocking(true).is_ok()
}

fn of_per_mille(times: &mut [Duration], per_mille: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * per_mille / 1000).min(times.len() - 1)]
}

/// As many stalled connections as decant takes at all, and on top of them all the others. `DECANT_OUTAGES=full`: see deploy/outages.sh.
#[test]
fn stalled_and_oversized_clients_do_not_fill_the_memory_and_others_are_served() {
    let full = std::env::var("DECANT_OUTAGES").is_ok_and(|what| what == "full");
    let (stalled, length) = if full { (10_000, 45) } else { (800, 12) };
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let limits = format!("connections_max = {stalled}\n");
    let decant = Whole::start(&Setup { limits, ..Setup::new(&redis, "kask-first").with_kask(&kask) });
    let crowd =
        Crowd { addr: decant.data, stop: AtomicBool::new(false), seen: Mutex::default(), stalled: AtomicUsize::new(0) };
    let at_first = decant.kib("VmRSS");
    let (mut kept, mut anew) = thread::scope(|scope| {
        let crowd = &crowd;
        let kept: Vec<_> = (0..4).map(|name| scope.spawn(move || crowd.ordinary(name, false))).collect();
        scope.spawn(move || crowd.stall(stalled));
        let until = Instant::now() + PATIENCE * 4;
        while crowd.stalled.load(Ordering::Relaxed) < stalled * 9 / 10 && Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
        }
        let anew: Vec<_> = (4..8).map(|name| scope.spawn(move || crowd.ordinary(name, true))).collect();
        scope.spawn(move || crowd.slowloris(if full { 200 } else { 50 }));
        for nth in 0..if full { 40 } else { 24 } {
            scope.spawn(move || crowd.large_and_stalled());
            if nth % 4 == 0 {
                scope.spawn(move || crowd.oversized(nth % 8 == 0));
                scope.spawn(move || crowd.long_headers());
            }
        }
        thread::sleep(Duration::from_secs(length));
        crowd.stop.store(true, Ordering::Relaxed);
        let all = |threads: Vec<thread::ScopedJoinHandle<'_, Served>>| {
            threads.into_iter().map(|thread| thread.join().unwrap()).fold(Served::default(), |mut all, one| {
                all.times.extend(one.times);
                all.failures.extend(one.failures);
                all
            })
        };
        (all(kept), all(anew))
    });
    let (most, bound) = (decant.kib("VmHWM") as usize * 1024, 2 * HELD + stalled * EACH_CONNECTION + THE_REST);
    println!(
        "{stalled} stalled connections, 50 MB bodies, 1 MB headers, a slowloris, for {length} s: at most {} MiB (at first {}; bound {})",
        most / MIB,
        at_first / 1024,
        bound / MIB
    );
    for (who, served) in [("kept connections", &mut kept), ("new connections", &mut anew)] {
        let [half, late, longest] = [500, 990, 1000].map(|of| of_per_mille(&mut served.times, of).as_millis());
        let (asked, failed) = (served.times.len(), served.failures.len());
        println!("others on {who}: {asked} asked, {failed} failed; p50 {half} ms, p99 {late} ms, longest {longest} ms");
    }
    let seen = crowd.seen.into_inner().unwrap();
    println!("the crowd was answered: {seen:?}");
    let was = |sent: &str, status: &str| seen.iter().any(|((what, how), _)| *what == sent && how == status);
    assert!(was("50 MB body", "413") && was("50 MB in chunks", "413") && was("1 MB header", "431"), "{seen:?}");
    assert!(was("14 MB body, stalled", "408") && was("14 MB body, stalled", "503"), "{seen:?}");
    assert!(
        kept.failures.is_empty() && anew.failures.is_empty(),
        "{:?} {:?}",
        kept.failures.first(),
        anew.failures.first()
    );
    assert!(most < bound, "{} MiB, and the bound is {} MiB", most / MIB, bound / MIB);
    let late = of_per_mille(&mut anew.times, 990);
    assert!(late <= LIES_STILL + BUDGET, "p99 {late:?} of new connections: they wait for more than one to lie still");
    let late = of_per_mille(&mut kept.times, 990);
    assert!(!full || late <= BUDGET, "p99 {late:?} is over the budget, {BUDGET:?}");
}
