//! Backfills and runs of verify beside everything else: begun on either decant, slowed down, paused and cancelled, until told to stop.

use super::stage::{DECANTS, Stage};
use serde_json::{Value as Json, json};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

const BACKFILL: &str = "/v1/stashes/echoseen/backfill";
const VERIFY: &str = "/v1/stashes/echoseen/verify";
/// Far longer than a cancelled run goes on.
const END_WITHIN: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bulk {
    pub begun: u64,
    /// To their end, with every key met.
    pub finished: u64,
    pub copied: u64,
    pub verified: u64,
}

impl Bulk {
    pub fn add(&mut self, more: Bulk) {
        self.begun += more.begun;
        self.finished += more.finished;
        self.copied += more.copied;
        self.verified += more.verified;
    }
}

/// Until told to stop; then nothing is left running.
pub fn work(stage: &Stage, seed: u64, stop: &AtomicBool) -> Bulk {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut bulk, mut counted) = (Bulk::default(), [None; DECANTS]);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(random.u64(..80)));
        let decant = random.usize(..DECANTS);
        if random.u8(..4) == 0 {
            // One that heals goes the way of any copy; what it finds is judged by the bench, which knows what must be there.
            let asked = json!({ "fix": random.bool() });
            bulk.verified += u64::from(tell(stage, decant, "POST", VERIFY, &asked) == Some(202));
        } else if let Some((200, view)) = stage.admin(decant, "GET", BACKFILL, "") {
            step(stage, decant, &view, &mut random, &mut bulk);
            if view["state"] == "finished" && view["begun_unix_ms"].as_u64() != counted[decant] {
                counted[decant] = view["begun_unix_ms"].as_u64();
                bulk.finished += 1;
                bulk.copied += view["keys"]["copied"].as_u64().unwrap_or(0);
            }
        }
    }
    let until = Instant::now() + END_WITHIN;
    for decant in 0..DECANTS {
        while !is_idle(stage, decant) {
            assert!(Instant::now() < until, "a run of decant {decant} does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    bulk
}

fn step(stage: &Stage, decant: usize, view: &Json, random: &mut fastrand::Rng, bulk: &mut Bulk) {
    // A few keys: fast, or so slow that a run lasts through faults and moves.
    let pace = if random.bool() { 0 } else { random.u64(5..60) };
    let (method, asked) = match (view["state"].as_str(), random.u8(..8)) {
        (Some("running"), 0) => ("DELETE", json!({})),
        (Some("running"), 1..3) => ("PATCH", json!({ "state": "paused" })),
        (Some("running"), 3..5) => ("PATCH", json!({ "keys_per_s": pace })),
        (Some("running"), _) => return,
        (Some("paused"), _) => ("PATCH", json!({ "state": "running", "keys_per_s": pace })),
        _ => ("POST", json!({ "keys_per_s": pace })),
    };
    let answer = tell(stage, decant, method, BACKFILL, &asked);
    bulk.begun += u64::from(method == "POST" && answer == Some(201));
}

/// Where it is refused the phase, or the run, was another by then.
fn tell(stage: &Stage, decant: usize, method: &str, path: &str, asked: &Json) -> Option<u16> {
    stage.admin(decant, method, path, &asked.to_string()).map(|(status, _)| status)
}

fn is_idle(stage: &Stage, decant: usize) -> bool {
    let answered = |path| {
        let status = tell(stage, decant, "DELETE", path, &json!({}));
        // Nothing was there to be ended.
        matches!(status, Some(404 | 409))
    };
    answered(BACKFILL) && answered(VERIFY)
}
