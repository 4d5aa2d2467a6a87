//! Kask: a read of a key that nobody has.

use super::{Finding, Findings};
use crate::{
    codec::key::Key,
    config::{KaskEndpoint, StashConfig},
    tier::{
        Forward,
        kask::{KaskRead, KaskTier},
    },
};
use tokio::time::Instant;

pub(super) async fn probe(stash: &StashConfig) -> Vec<Finding> {
    let mut findings = Findings::of(&stash.name, "kask".to_owned());
    let url = match &stash.kask.endpoint {
        KaskEndpoint::Embedded => {
            findings.ok("answers", "embedded: it runs inside decant, there is nothing to ask");
            return findings.list;
        }
        KaskEndpoint::Url(url) => url,
    };
    let tier = match KaskTier::new(url, stash.kask.timeout, &stash.name) {
        Ok(tier) => tier,
        Err(fault) => {
            findings.fail("answers", fault.to_string(), "correct kask.url");
            return findings.list;
        }
    };
    let key = Key::from_bytes(format!("decant-probe-{:016x}", fastrand::u64(..)));
    let begun = Instant::now();
    match tier.get(&key, begun + stash.kask.timeout, &Forward::default()).await {
        KaskRead::Miss => {
            findings.ok("answers", format!("{url} answers a read in {} ms", begun.elapsed().as_millis()));
        }
        KaskRead::Hit(_) => findings.fail(
            "answers",
            format!("{url} has a value for a key that was just made up"),
            "kask.url leads to something that is not Kask: correct it",
        ),
        KaskRead::Error(error) => findings.fail("answers", format!("{url}: {error}"), todo(error.kind)),
    }
    findings.list
}

fn todo(kind: &str) -> &'static str {
    match kind {
        "connect" | "timeout" | "deadline" => "start Kask, or correct the host and port of kask.url",
        "not_kask" | "redirect" | "garbage" => "correct the path of kask.url: it ends with Kask's base_uri",
        "status_5xx" => "Kask fails: look at its log and at Cassandra",
        _ => "look at Kask's log, and at what stands between it and decant",
    }
}
