//! What can be wrong, by the names of the table.

use crate::faults::{
    proxy::Mode,
    stage::{DECANTS, Stage, Tier},
};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    Slow(Tier),
    Down(Tier),
    Hangs(Tier),
    Lies(Tier),
    BreaksOff(Tier),
    Wiped(Tier),
    RedisFull,
    KaskErrors,
    DecantKilled,
    CutOff(Tier),
}

/// That a connection has ended, on a busy machine.
const NOTICED_WITHIN: Duration = Duration::from_millis(300);
/// Each way. A step takes twice as long, and is within its time-out.
const SLOW_MS: u64 = 40;

impl Fault {
    pub const ALL: [Fault; 18] = [
        Fault::Nothing,
        Fault::Slow(Tier::Redis),
        Fault::Down(Tier::Redis),
        Fault::Hangs(Tier::Redis),
        Fault::RedisFull,
        Fault::Lies(Tier::Redis),
        Fault::BreaksOff(Tier::Redis),
        Fault::Wiped(Tier::Redis),
        Fault::CutOff(Tier::Redis),
        Fault::Slow(Tier::Kask),
        Fault::Down(Tier::Kask),
        Fault::Hangs(Tier::Kask),
        Fault::KaskErrors,
        Fault::Lies(Tier::Kask),
        Fault::BreaksOff(Tier::Kask),
        Fault::Wiped(Tier::Kask),
        Fault::CutOff(Tier::Kask),
        Fault::DecantKilled,
    ];

    /// Whose fault it is, and what it does: those of one tier stand one after the other where nothing tells them apart.
    pub fn name(self) -> (&'static str, String) {
        let of = |tier: Tier, what: &str| (tier.name(), what.to_owned());
        match self {
            Fault::Nothing => ("nothing", "is wrong".into()),
            Fault::Slow(tier) => of(tier, "is slow"),
            Fault::Down(tier) => of(tier, "is down"),
            Fault::Hangs(tier) => of(tier, "hangs"),
            Fault::Lies(tier) => of(tier, "talks nonsense"),
            Fault::BreaksOff(tier) => of(tier, "breaks off its answers"),
            Fault::Wiped(tier) => of(tier, "was wiped"),
            Fault::RedisFull => of(Tier::Redis, "is full"),
            Fault::KaskErrors => of(Tier::Kask, "answers 500"),
            Fault::DecantKilled => ("one decant", "is killed".into()),
            Fault::CutOff(tier) => ("one decant", format!("cannot reach {}", tier.name())),
        }
    }

    /// Through which decant clients ask. The first is the one that moves.
    pub fn asked(self) -> usize {
        usize::from(matches!(self, Fault::CutOff(_)))
    }

    /// From when this returns. It lasts as long as what is returned.
    pub fn begin(self, stage: &Stage) -> Lasting<'_> {
        let all = |tier, mode| (0..DECANTS).for_each(|decant| stage.proxy(decant, tier).set(mode, 100, 0));
        let mut liar = None;
        match self {
            Fault::Nothing | Fault::DecantKilled => {}
            Fault::Slow(tier) => all(tier, Mode::Latency(SLOW_MS)),
            Fault::Hangs(tier) => all(tier, Mode::BlackHole),
            Fault::Down(tier) => {
                all(tier, Mode::Refuse);
                (0..DECANTS).for_each(|decant| stage.proxy(decant, tier).cut());
                // Nobody takes a connection for alive that is not.
                std::thread::sleep(NOTICED_WITHIN);
            }
            Fault::CutOff(tier) => stage.proxy(1, tier).set(Mode::BlackHole, 100, 0),
            Fault::Wiped(Tier::Redis) => stage.redis().restart_empty(),
            Fault::Wiped(Tier::Kask) => assert!(stage.wipe_kask(Duration::ZERO)),
            Fault::RedisFull => stage.redis_config("maxmemory", "1"),
            // What listens there now is something else.
            Fault::Lies(tier @ Tier::Redis) => {
                liar = Some((tier, Liar::new(b"HTTP/1.1 400 Bad Request\r\n\r\n", false)))
            }
            Fault::Lies(tier @ Tier::Kask) => liar = Some((tier, Liar::new(b"SSH-2.0-OpenSSH_9.2p1\r\n", false))),
            Fault::BreaksOff(tier @ Tier::Redis) => liar = Some((tier, Liar::new(b"$1000\r\nhalf", true))),
            Fault::BreaksOff(tier @ Tier::Kask) => {
                liar = Some((tier, Liar::new(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nJSON..", true)));
            }
            Fault::KaskErrors => {
                let says = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
                liar = Some((Tier::Kask, Liar::new(says, false)));
            }
        }
        if let Some((tier, liar)) = &liar {
            stage.redirect(*tier, Some(liar.addr));
        }
        Lasting { fault: self, stage, liar }
    }
}

/// A fault while it lasts.
pub struct Lasting<'a> {
    fault: Fault,
    stage: &'a Stage,
    liar: Option<(Tier, Liar)>,
}

impl Drop for Lasting<'_> {
    fn drop(&mut self) {
        if self.fault == Fault::RedisFull {
            self.stage.redis_config("maxmemory", "0");
        }
        if let Some((tier, _)) = self.liar {
            self.stage.redirect(tier, None);
        }
        for decant in 0..DECANTS {
            [Tier::Redis, Tier::Kask].into_iter().for_each(|tier| self.stage.proxy(decant, tier).pass());
        }
    }
}

/// Says the same to whatever it is sent.
struct Liar {
    addr: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Liar {
    fn new(says: &'static [u8], then_closes: bool) -> Liar {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, over) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let ends = over.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok).take_while(|_| !ends.load(Ordering::Relaxed)) {
                std::thread::spawn(move || lie(stream, says, then_closes));
            }
        });
        Liar { addr, over }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
    }
}

fn lie(mut stream: TcpStream, says: &[u8], then_closes: bool) {
    let mut buffer = [0; 16 * 1024];
    while matches!(stream.read(&mut buffer), Ok(1..)) {
        if stream.write_all(says).is_err() || then_closes {
            return;
        }
    }
}
