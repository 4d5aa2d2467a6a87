//! Faults, drawn from the seed: on the network in one lane, of processes in another. When told to stop, everything is put right again.

use super::{
    history::Nanos,
    proxy::Mode,
    stage::{DECANTS, STOP_MAX, Stage, Tier},
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// One fault that was.
#[derive(Clone, Debug)]
pub struct Fault {
    pub from: Nanos,
    pub to: Nanos,
    /// Its kind: counted in the report.
    pub kind: String,
    /// To whom.
    pub whom: String,
}

/// Sleeps, but not on when told to stop.
fn pause(length: Duration, stop: &AtomicBool) {
    let until = Instant::now() + length;
    while !stop.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}

fn millis(random: &mut fastrand::Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.u64(range))
}

/// Faults of the network, until told to stop.
pub fn network(stage: &Stage, seed: u64, stop: &AtomicBool) -> Vec<Fault> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut faults = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        pause(millis(&mut random, 50..500), stop);
        let tier = if random.bool() { Tier::Redis } else { Tier::Kask };
        let mode = mode(&mut random);
        // One decant is cut off, or all of them are.
        let whom: Vec<usize> = if random.u8(..3) == 0 { (0..DECANTS).collect() } else { vec![random.usize(..DECANTS)] };
        let percent = if random.bool() { 100 } else { random.u64(20..100) };
        let (salt, length) = (random.u64(..), millis(&mut random, 50..1_300));
        let from = stage.now();
        whom.iter().for_each(|decant| stage.proxy(*decant, tier).set(mode, percent, salt));
        pause(length, stop);
        whom.iter().for_each(|decant| stage.proxy(*decant, tier).pass());
        let kind = format!("{} before {tier:?}", mode.name());
        faults.push(Fault { from, to: stage.now(), kind, whom: format!("decants {whom:?}, {percent}%, {mode:?}") });
    }
    faults
}

fn mode(random: &mut fastrand::Rng) -> Mode {
    match random.u8(..11) {
        8.. => Mode::Jitter(random.u64(2..100)),
        0 => Mode::Latency(random.u64(5..400)),
        1 => Mode::Stall,
        2 => Mode::Reset,
        3 => Mode::Cut(random.usize(..300)),
        4 => Mode::Half(random.usize(..300)),
        5 => Mode::BlackHole,
        6 => Mode::Drip,
        _ => Mode::Refuse,
    }
}

/// Processes killed and stopped, one at a time, until told to stop.
pub fn processes(stage: &Stage, seed: u64, stop: &AtomicBool) -> Vec<Fault> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut faults = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        pause(millis(&mut random, 200..1_200), stop);
        if stop.load(Ordering::Relaxed) {
            return faults;
        }
        let from = stage.now();
        let decant = random.usize(..DECANTS);
        let down = millis(&mut random, 0..500);
        let stopped_for = millis(&mut random, 50..STOP_MAX.as_millis() as u64);
        let since = Instant::now();
        let (kind, whom) = match random.u8(..12) {
            0..2 => {
                stage.kill_decant(decant, down);
                ("kill decant", format!("decant {decant}"))
            }
            2 => {
                stage.kill_kask(down);
                ("kill Kask", String::new())
            }
            3 if stage.wipe_kask(down) => ("wipe Kask", String::new()),
            3 => continue,
            4..6 => {
                stage.signal(decant, "STOP");
                std::thread::sleep(stopped_for);
                stage.cont_decant(decant, since);
                ("stop decant", format!("decant {decant}"))
            }
            6..8 => {
                stage.signal_kask("STOP");
                std::thread::sleep(stopped_for);
                stage.cont_kask(since);
                ("stop Kask", String::new())
            }
            8..10 => {
                stage.kill_redis(down);
                ("kill Redis", String::new())
            }
            _ => {
                stage.redis().sigstop();
                // No lease depends on this: what it does late, it does in its own order, fence and tokens checked.
                std::thread::sleep(stopped_for * 2);
                stage.redis().sigcont();
                ("stop Redis", String::new())
            }
        };
        faults.push(Fault { from, to: stage.now(), kind: kind.to_owned(), whom });
    }
    faults
}
