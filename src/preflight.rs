//! Tries every tier of a configuration once, before decant is to live with it. Nothing is bound and nothing is written.

mod etcd;
mod kask;
mod redis;

pub use crate::tier::redis::info::Level;
use crate::{config::Config, etcd::ClientSettings};
use serde::Serialize;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub stash: String,
    /// `kask`, `redis` and the shard's name, or `etcd` and its URL.
    pub tier: String,
    pub check: &'static str,
    pub level: Level,
    /// What was found. Holds no credentials.
    pub figure: String,
    /// What to do about it; empty where nothing is to be done.
    pub todo: String,
}

/// Collects the findings of one tier.
struct Findings {
    stash: String,
    tier: String,
    list: Vec<Finding>,
}

impl Findings {
    fn of(stash: &str, tier: String) -> Findings {
        Findings { stash: stash.to_owned(), tier, list: Vec::new() }
    }

    fn add(&mut self, check: &'static str, level: Level, figure: impl Into<String>, todo: impl Into<String>) {
        let (stash, tier) = (self.stash.clone(), self.tier.clone());
        self.list.push(Finding { stash, tier, check, level, figure: figure.into(), todo: todo.into() });
    }

    fn ok(&mut self, check: &'static str, figure: impl Into<String>) {
        self.add(check, Level::Ok, figure, "");
    }

    fn warn(&mut self, check: &'static str, figure: impl Into<String>, todo: impl Into<String>) {
        self.add(check, Level::Warn, figure, todo);
    }

    fn fail(&mut self, check: &'static str, figure: impl Into<String>, todo: impl Into<String>) {
        self.add(check, Level::Fail, figure, todo);
    }
}

/// Asks every tier of every stash, one after the other. Each is given up on after a few seconds.
pub async fn probe(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for stash in &config.stashes {
        findings.extend(kask::probe(stash).await);
        if let Some(config) = &config.etcd {
            findings.extend(etcd::probe(config, &ClientSettings::from(config), &stash.name).await);
        }
        for shard in stash.redis.iter().flat_map(|redis| &redis.shards) {
            findings.extend(redis::probe(stash, shard).await);
        }
    }
    findings
}
