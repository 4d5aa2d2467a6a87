//! A Redis with values as RedisBagOStuff writes them, a Kask, and a decant between them.

use crate::{
    redis_server::RedisServer,
    support::{Raw, exchange, run_decant},
    whole::{Kask, Setup, Whole},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

pub const PATH: &str = "/v1/stashes/echoseen/backfill";

pub struct Stage {
    pub redis: RedisServer,
    pub kask: Kask,
    pub decant: Whole,
}

impl Stage {
    pub fn new(phase: &'static str) -> Stage {
        Stage::with(RedisServer::start(), |setup| Setup { phase, ..setup })
    }

    pub fn with(redis: RedisServer, how: impl FnOnce(Setup) -> Setup) -> Stage {
        let kask = Kask::start();
        let decant = Whole::start(&how(Setup::new(&redis, "kask-first").with_kask(&kask)));
        Stage { redis, kask, decant }
    }

    pub fn view(&self) -> Value {
        self.decant.admin_get(PATH)
    }

    /// Begins a run, which must be taken.
    pub fn start(&self, body: Value) {
        let raw = send(&self.decant, "POST", &body);
        assert_eq!(raw.status(), 201, "{}", raw.text());
    }

    /// To its end.
    pub fn run(&self, body: Value) -> Value {
        self.start(body);
        self.ended("finished")
    }

    pub fn ended(&self, state: &str) -> Value {
        wait_for(&self.decant, state)
    }

    pub fn cli(&self, args: &[&str]) -> (i32, String, String) {
        let admin = format!("http://{}", self.decant.admin);
        run_decant(["--admin", &admin, "backfill"].into_iter().chain(args.iter().copied()))
    }

    /// How many requests Kask had, by operation.
    pub fn asked_of_kask(&self, op: &str) -> f64 {
        let op = format!("op=\"{op}\"");
        self.decant.metric("decant_tier_requests_total", &["tier=\"kask\"", &op])
    }

    /// Every key that Redis holds as a string, and that Kask must hold, it holds.
    pub fn assert_all_in_kask(&self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            let redis = crate::whole::redis_holds(&self.redis, &key);
            let kask = self.kask.holds(&key.replace(' ', "%20"));
            assert_eq!(kask, redis.as_deref().map(as_kask), "{key}");
        }
    }
}

/// What Kask is to hold for a PHP string or an integer.
pub fn as_kask(redis: &str) -> String {
    match redis.split_once('"') {
        None => format!("JSON..{redis}"),
        Some((_, rest)) => format!("JSON..\"{}\"", rest.trim_end_matches("\";")),
    }
}

/// Far longer than a few thousand keys take, on any machine.
const PATIENCE: Duration = Duration::from_secs(180);

pub fn wait_for(decant: &Whole, state: &str) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let view = decant.admin_get(PATH);
        let now = view["state"].as_str().unwrap_or_default();
        if now == state {
            return view;
        }
        assert!(now == "running" || now == "paused", "{view:#}");
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain until it is {state}: {view:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn send(decant: &Whole, method: &str, body: &Value) -> Raw {
    let body = body.to_string();
    exchange(
        decant.admin,
        format!(
            "{method} {PATH} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            decant.admin,
            body.len()
        ),
    )
}

/// `wiki:key 0` and so on, each a PHP string.
pub fn seed(redis: &RedisServer, count: usize) -> Vec<String> {
    let mut pipe = redis::pipe();
    for i in 0..count {
        pipe.set(format!("wiki:key {i}"), php(&format!("value {i}"))).ignore();
    }
    pipe.exec(&mut redis.client()).unwrap();
    (0..count).map(|i| format!("wiki:key {i}")).collect()
}

pub fn php(text: &str) -> String {
    format!("s:{}:\"{text}\";", text.len())
}

/// The outcomes that were counted at all.
pub fn keys(view: &Value) -> BTreeMap<String, u64> {
    let all = view["keys"].as_object().unwrap_or_else(|| panic!("{view:#}"));
    all.iter().map(|(name, keys)| (name.clone(), keys.as_u64().unwrap())).filter(|(_, keys)| *keys > 0).collect()
}

pub fn counted<const N: usize>(keys: [(&str, u64); N]) -> BTreeMap<String, u64> {
    keys.into_iter().map(|(name, keys)| (name.to_owned(), keys)).collect()
}
