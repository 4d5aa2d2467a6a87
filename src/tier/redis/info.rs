//! Redis's INFO and some of its settings, and what they say for and against decant.

use super::{
    RedisFailure, Shard,
    value::{as_array, as_bytes, element},
};
use serde::Serialize;
use std::collections::HashMap;
use tokio::time::Instant;

/// The oldest Redis whose scripts replicate by effect, which decant's need for TIME.
const VERSION_MIN: u32 = 5;
/// Of maxmemory, in percent, from which on an operator should know.
const MEMORY_HIGH_PERCENT: u64 = 90;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// decant works, but an operator should know.
    Warn,
    /// decant would not work, or would lose what it must keep.
    Fail,
}

/// One thing that a Redis tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub check: &'static str,
    pub level: Level,
    /// What was found.
    pub figure: String,
    /// What to do about it; empty where nothing is to be done.
    pub todo: String,
}

#[derive(Debug, Default)]
struct Verdicts(Vec<Verdict>);

impl Verdicts {
    fn add(&mut self, check: &'static str, level: Level, figure: impl Into<String>, todo: impl Into<String>) {
        self.0.push(Verdict { check, level, figure: figure.into(), todo: todo.into() });
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

/// What the shard's INFO, which is `text`, and the settings that CONFIG may tell say of it.
pub async fn judge(shard: &Shard, text: &str, until: Instant) -> Vec<Verdict> {
    let info = Info::parse(text);
    let (policy, save) = (setting(shard, "maxmemory-policy", until).await, setting(shard, "save", until).await);
    let fsync = setting(shard, "appendfsync", until).await;
    let min_replicas = setting(shard, "min-replicas-to-write", until).await;
    let mut verdicts = Verdicts::default();
    version(&info, &mut verdicts);
    role(&info, &mut verdicts);
    memory(&info, policy.as_deref(), &mut verdicts);
    persistence(&info, save.as_deref(), fsync.as_deref(), &mut verdicts);
    replicas(&info, min_replicas.as_deref(), &mut verdicts);
    verdicts.0
}

/// Whether the user may not ask this: then nothing is known, which is not the same as something wrong.
pub fn is_forbidden(failure: &RedisFailure) -> bool {
    matches!(failure, RedisFailure::Refused { code, .. } if code == "NOPERM")
}

/// None where CONFIG is forbidden or renamed.
async fn setting(shard: &Shard, name: &str, until: Instant) -> Option<String> {
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg(name);
    let reply = shard.command(get, until).await.ok()?;
    let value = as_bytes(element(as_array(&reply).ok()?, 1).ok()?).ok()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// INFO's lines.
struct Info(HashMap<String, String>);

impl Info {
    fn parse(text: &str) -> Info {
        let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Info(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or(0)
    }
}

fn version(info: &Info, findings: &mut Verdicts) {
    let version = info.get("redis_version");
    let major: Option<u32> = version.split('.').next().and_then(|major| major.parse().ok());
    match major {
        Some(major) if major >= VERSION_MIN => findings.ok("version", format!("Redis {version}")),
        Some(_) => findings.fail(
            "version",
            format!("Redis {version}"),
            format!("decant's scripts need Redis {VERSION_MIN}.0 or newer: upgrade it"),
        ),
        None => findings.warn("version", "INFO tells no version", "see that this is Redis 5.0 or newer"),
    }
}

fn role(info: &Info, findings: &mut Verdicts) {
    match info.get("role") {
        "master" => findings.ok("role", "primary"),
        "" => findings.warn("role", "INFO tells no role", "see that this is no replica"),
        role => findings.fail(
            "role",
            format!("{} of {}:{}", role.replace("slave", "replica"), info.get("master_host"), info.get("master_port")),
            "a replica takes no writes and may be promoted behind decant's back: name the primary",
        ),
    }
    if info.get("cluster_enabled") == "1" {
        findings.fail(
            "cluster",
            "this Redis is a node of a cluster",
            "decant's scripts use several names at once, which a cluster keeps on several nodes: use a Redis of its own",
        );
    }
}

/// `policy`: what CONFIG said, where it may be asked.
fn memory(info: &Info, policy: Option<&str>, findings: &mut Verdicts) {
    let policy = policy.unwrap_or_else(|| info.get("maxmemory_policy"));
    let (used, most) = (info.number("used_memory"), info.number("maxmemory"));
    match policy {
        "" => findings.warn(
            "eviction",
            "neither INFO nor CONFIG tells maxmemory-policy",
            "see that it does not begin with allkeys-: such a policy evicts decant's own records",
        ),
        policy if policy.starts_with("allkeys-") => findings.fail(
            "eviction",
            format!("maxmemory-policy is {policy}"),
            "it evicts decant's own records, and writes are then lost unseen: CONFIG SET maxmemory-policy volatile-lru \
             (or noeviction), and in redis.conf",
        ),
        policy if policy.starts_with("volatile-") && most > 0 => findings.warn(
            "eviction",
            format!("maxmemory-policy is {policy}, and there is a maxmemory: values are evicted"),
            "what is evicted before Kask has it is lost, as it always was, and a miss while Kask is away: give Redis room for all values \
             until they are copied",
        ),
        policy => findings.ok("eviction", format!("maxmemory-policy is {policy}: names without a TTL stay")),
    }
    let figure = match most {
        0 => format!("{} used, no maxmemory", size(used)),
        most => format!("{} of {} used", size(used), size(most)),
    };
    if most > 0 && used.saturating_mul(100) / most >= MEMORY_HIGH_PERCENT {
        findings.warn("memory", figure, "a full Redis refuses writes: make room or raise maxmemory");
    } else {
        findings.ok("memory", figure);
    }
}

/// A replica that is promoted lacks what had not reached it. `min_replicas`: min-replicas-to-write, where CONFIG may be asked.
fn replicas(info: &Info, min_replicas: Option<&str>, findings: &mut Verdicts) {
    let connected = info.number("connected_slaves");
    if connected == 0 {
        return;
    }
    let figure = format!("{connected} connected, min-replicas-to-write is {}", min_replicas.unwrap_or("unknown"));
    match min_replicas {
        Some("0") | None => findings.warn(
            "replicas",
            figure,
            "a replica that is promoted lacks the latest writes, the more of them the longer the primary went on without it: decant notices, \
             and cannot bring them back. min-replicas-to-write 1 and min-replicas-max-lag bound how many",
        ),
        Some(_) => findings.ok("replicas", figure),
    }
}

/// `save`: the save points, `fsync`: appendfsync, where CONFIG may be asked.
fn persistence(info: &Info, save: Option<&str>, fsync: Option<&str>, findings: &mut Verdicts) {
    let aof = info.get("aof_enabled") == "1";
    let snapshots = match save {
        Some("") => "no snapshots".to_owned(),
        Some(save) => format!("snapshots ({save})"),
        None => "snapshots unknown".to_owned(),
    };
    let todo = "a Redis that restarts comes back without its latest writes, and with none of decant's records of them: \
                appendonly yes keeps all but the last second";
    match (aof, fsync) {
        (true, Some("no")) => findings.warn(
            "persistence",
            format!("append-only file with appendfsync no, {snapshots}"),
            "a machine that stops loses what its kernel had not written, up to half a minute: set appendfsync everysec, or always",
        ),
        (true, _) => findings.ok("persistence", format!("append-only file, {snapshots}")),
        (false, _) => findings.warn("persistence", format!("no append-only file, {snapshots}"), todo),
    }
    for (name, what) in [("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "append to the file")] {
        if info.get(name) == "err" {
            findings.fail(
                "persistence",
                format!("the last {what} failed"),
                "Redis then refuses writes (MISCONF): look at its log and its disk",
            );
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nmaxmemory_policy:volatile-lru\r\n\
                        used_memory:1048576\r\nmaxmemory:0\r\naof_enabled:1\r\nrdb_last_bgsave_status:ok\r\n";

    fn levels(text: &str, policy: Option<&str>, save: Option<&str>) -> Vec<(&'static str, Level)> {
        let (info, mut findings) = (Info::parse(text), Verdicts::default());
        version(&info, &mut findings);
        role(&info, &mut findings);
        memory(&info, policy, &mut findings);
        persistence(&info, save, None, &mut findings);
        replicas(&info, None, &mut findings);
        findings.0.iter().filter(|f| f.level != Level::Ok).map(|f| (f.check, f.level)).collect()
    }

    #[test]
    fn a_good_redis_has_nothing_against_it() {
        assert_eq!(levels(GOOD, None, Some("3600 1")), []);
    }

    #[test]
    fn each_fault_is_found_alone() {
        for (from, to, expected) in [
            ("7.0.15", "4.0.14", ("version", Level::Fail)),
            ("redis_version", "x", ("version", Level::Warn)),
            ("role:master", "role:slave\r\nmaster_host:h\r\nmaster_port:1", ("role", Level::Fail)),
            ("role:master", "role:master\r\ncluster_enabled:1", ("cluster", Level::Fail)),
            ("volatile-lru", "allkeys-lru", ("eviction", Level::Fail)),
            ("maxmemory_policy", "x", ("eviction", Level::Warn)),
            ("maxmemory:0", "maxmemory:1100000\r\nmaxmemory_policy:noeviction", ("memory", Level::Warn)),
            ("maxmemory:0", "maxmemory:9000000", ("eviction", Level::Warn)),
            ("aof_enabled:1", "aof_enabled:0", ("persistence", Level::Warn)),
            ("role:master", "role:master\r\nconnected_slaves:1", ("replicas", Level::Warn)),
            ("status:ok", "status:err", ("persistence", Level::Fail)),
        ] {
            assert_eq!(levels(&GOOD.replace(from, to), None, None), [expected], "{to}");
        }
        assert_eq!(levels(GOOD, Some("allkeys-lfu"), None), [("eviction", Level::Fail)], "CONFIG is asked first");
        let mut findings = Verdicts::default();
        let text = GOOD.replace("role:master", "role:master\r\nconnected_slaves:1");
        replicas(&Info::parse(&text), Some("1"), &mut findings);
        persistence(&Info::parse(&text), None, Some("no"), &mut findings);
        let levels_of: Vec<Level> = findings.0.iter().map(|found| found.level).collect();
        assert_eq!(levels_of, [Level::Ok, Level::Warn], "a bounded lag is well, a file that is not synced is not");
        assert_eq!(levels("", None, None).len(), 4, "an empty INFO breaks nothing");
    }
}
