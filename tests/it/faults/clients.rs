//! Clients, and the one who watches the decants.

use super::{
    history::{Action, Op, Sample, Told, Value},
    stage::{FLEET, Stage},
    values,
    wire::{Line, Reply},
};
use crate::support::request;
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// Gives every write of a stage a value of its own.
#[derive(Default)]
pub struct Numbers(AtomicU64);

impl Numbers {
    pub fn next(&self) -> Value {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// One connection to each decant that there may be, and a name in the history.
pub struct Client<'a> {
    stage: &'a Stage,
    name: usize,
    lines: [Line; FLEET],
}

impl<'a> Client<'a> {
    pub fn new(stage: &'a Stage, name: usize) -> Client<'a> {
        Client { stage, name, lines: Default::default() }
    }

    /// Asks once, and what tier answered.
    pub fn ask(&mut self, decant: usize, key: usize, action: Action) -> (Op, Option<String>) {
        let path = values::path(key);
        let bytes = match action {
            Action::Get => request("GET", &path, b""),
            Action::Set(value) => request("POST", &path, values::body(value).as_bytes()),
            Action::Add(value) => only_if_absent(&request("POST", &path, values::body(value).as_bytes())),
            Action::Delete => request("DELETE", &path, b""),
        };
        let began = self.stage.now();
        let reply = self.lines[decant].ask(self.stage.data(decant), &bytes);
        let ended = self.stage.now();
        let told = reply.as_ref().map_or(Told::Unknown(0), |reply| told(action, reply));
        let tier = reply.ok().and_then(|reply| reply.tier);
        (Op { client: self.name, decant, key, action, began, ended, told }, tier)
    }
}

fn only_if_absent(request: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(request.to_vec()).unwrap();
    text.replacen("\r\n", "\r\nIf-None-Match: *\r\n", 1).into_bytes()
}

fn told(action: Action, reply: &Reply) -> Told {
    match (action, reply.status) {
        (Action::Get, 200) => values::of_body(&reply.body).map_or(Told::Corrupt, Told::Hit),
        (Action::Get, 404) => Told::Missing,
        (Action::Set(_) | Action::Add(_), 201) | (Action::Delete, 204) => Told::Done,
        (Action::Add(_), 412) => Told::Exists,
        (_, status) => Told::Unknown(status),
    }
}

/// What clients are to do.
#[derive(Default)]
pub struct Orders {
    /// Only writes, and only of a few keys: what is left of each was raced for.
    pub race: AtomicBool,
    /// Only reads.
    pub reads: AtomicBool,
    pub stop: AtomicBool,
}

/// Works until told to stop; what it did.
pub fn work(stage: &Stage, name: usize, seed: u64, numbers: &Numbers, orders: &Orders) -> Vec<Op> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = Client::new(stage, name);
    let mut ops = Vec::new();
    let mut decant = random.usize(..stage.decants());
    while !orders.stop.load(Ordering::Relaxed) {
        let race = orders.race.load(Ordering::Relaxed);
        // On one key clients always meet, on a few often.
        let of = [1, values::KEYS / 4, values::KEYS][random.usize(..if race { 2 } else { 3 })];
        let key = random.usize(..of);
        let action = match random.u8(if race { 52 } else { 0 }..100) {
            _ if orders.reads.load(Ordering::Relaxed) => Action::Get,
            0..52 => Action::Get,
            52..80 => Action::Set(numbers.next()),
            80..90 => Action::Delete,
            _ => Action::Add(numbers.next()),
        };
        let (op, _) = client.ask(decant, key, action);
        if op.told == Told::Unknown(0) {
            // Nobody is there: on to the other, and not in a loop as fast as the machine can.
            decant = (decant + 1) % stage.decants();
            std::thread::sleep(Duration::from_millis(10));
        } else {
            decant = random.usize(..stage.decants());
        }
        ops.push(op);
        std::thread::sleep(Duration::from_micros(random.u64(..4_000)));
    }
    ops
}

/// Asks one decant again and again what it knows of itself, until told to stop.
pub fn watch(stage: &Stage, decant: usize, stop: &AtomicBool) -> Vec<Sample> {
    const EVERY: Duration = Duration::from_millis(150);
    let mut samples = Vec::new();
    loop {
        let last = stop.load(Ordering::Relaxed);
        samples.extend(sample(stage, decant));
        if last {
            return samples;
        }
        std::thread::sleep(EVERY);
    }
}

fn sample(stage: &Stage, decant: usize) -> Option<Sample> {
    let (life, asked) = (stage.life(decant), stage.now());
    let redis_failures = stage.redis_failures(decant)?;
    let view = stage.view(decant)?;
    let (version, settled) = (view["version"].as_u64()?, decant == 0 && view["state"] == "settled");
    // Killed meanwhile: nobody knows which of its lives has answered what.
    (stage.life(decant) == life).then(|| Sample {
        asked,
        answered: stage.now(),
        life,
        redis_failures,
        version,
        settled,
    })
}
