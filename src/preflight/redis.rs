//! One shard of Redis: whether decant's scripts can run there, and what they write would stay.

use super::{Finding, Findings};
use crate::{
    config::{RedisConfig, ShardConfig, StashConfig},
    outbox::Names,
    protocol::Fence,
    scan::{Counts, draw_from},
    tier::{
        redis::{
            RedisFailure, Shard, Target, info,
            value::{as_bytes, into_bytes},
        },
        shards::ShardMap,
    },
};
use redis::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Names that are drawn to see whether they stand where decant looks for them.
const NAMES_DRAWN: usize = 200;
/// With more than one name in so many elsewhere, the config is not what placed them.
const MISPLACED_ONE_IN: u64 = 10;
/// For the connection, and for each question.
const TIMEOUT: Duration = Duration::from_secs(2);

const PROXY: &str = "decant runs scripts over several names, which proxies such as nutcracker (twemproxy) cannot pass on, and \
                     their retries would run them twice: name each Redis behind the proxy itself";

pub(super) async fn probe(stash: &StashConfig, config: &ShardConfig) -> Vec<Finding> {
    let mut findings = Findings::of(&stash.name, format!("redis {}", config.name));
    match Target::of(config) {
        Ok(target) => {
            let shard = Shard::new(&config.name, target, &stash.name);
            ask(stash, &shard, &mut findings).await;
            shard.close();
        }
        Err(fault) => findings.fail("connects", fault.to_string(), "correct the redis settings of this shard"),
    }
    findings.list
}

async fn ask(stash: &StashConfig, shard: &Shard, findings: &mut Findings) {
    let address = shard.address();
    let begun = Instant::now();
    shard.open();
    if !shard.wait_up(begun + TIMEOUT).await {
        let why = shard.why_down().unwrap_or_else(|| "it answered, and the connection ended".into());
        findings.fail("connects", format!("{address}: {why}"), todo(&why));
        return;
    }
    let begun = Instant::now();
    match send(shard, redis::cmd("PING")).await {
        Ok(_) => findings.ok("connects", format!("{address} answers PING in {} ms", begun.elapsed().as_millis())),
        Err(failure) => return findings.fail("connects", format!("{address}: {failure}"), "look at Redis's log"),
    }
    let text = match send(shard, redis::cmd("INFO")).await.map(into_bytes) {
        Ok(Ok(text)) => String::from_utf8_lossy(&text).into_owned(),
        Ok(Err(odd)) => return findings.fail("is_redis", odd.to_string(), PROXY),
        Err(failure) if info::is_forbidden(&failure) => {
            findings.warn("is_redis", format!("INFO: {failure}"), "let this user run INFO");
            String::new()
        }
        Err(failure @ (RedisFailure::Lost { .. } | RedisFailure::Away { .. })) => {
            let figure = format!("{address} answers PING and closes the connection on INFO: it is a proxy ({failure})");
            return findings.fail("is_redis", figure, PROXY);
        }
        Err(failure) => return findings.fail("is_redis", format!("INFO: {failure}"), PROXY),
    };
    for verdict in info::judge(shard, &text, Instant::now() + TIMEOUT).await {
        findings.add(verdict.check, verdict.level, verdict.figure, verdict.todo);
    }
    scripts(shard, findings).await;
    if let Some(redis) = &stash.redis {
        let map = ShardMap::of(redis).ok();
        fence(stash, redis, map.as_ref(), shard, findings).await;
        if let Some(map) = &map {
            placing(map, shard, findings).await;
        }
    }
}

/// Whether the names that stand there are those that decant would look for there.
async fn placing(map: &ShardMap, shard: &Shard, findings: &mut Findings) {
    let Some(place) = map.shards().iter().position(|listed| listed.name == shard.name) else { return };
    let counts = match draw_from(shard, map, place, None, NAMES_DRAWN).await {
        Ok(page) => page.counts,
        Err(fault) => return findings.warn("placing", format!("RANDOMKEY: {fault}"), "let this user run RANDOMKEY"),
    };
    let Counts { names, foreign, misplaced, .. } = counts;
    let figure =
        format!("of {names} names drawn at random {misplaced} belong to another shard, {foreign} lack the prefix");
    match () {
        () if misplaced * MISPLACED_ONE_IN > names => findings.fail(
            "placing",
            figure,
            "make distribution, hash, hash_tag and the shards' hashed_as and weight those by which the keys were placed: decant finds none \
             that stands elsewhere",
        ),
        () if misplaced > 0 => findings.warn(
            "placing",
            figure,
            "a few are usual where nutcracker or MediaWiki wrote to another shard while one was down; no client finds them there",
        ),
        () if names > 0 && foreign == names => findings.warn(
            "placing",
            figure,
            "make prefix what the keys were written with, unless this Redis is only others' yet",
        ),
        () => findings.ok("placing", figure),
    }
}

async fn send(shard: &Shard, cmd: redis::Cmd) -> Result<Value, RedisFailure> {
    shard.command(cmd, Instant::now() + TIMEOUT).await
}

/// A script that reads the clock and writes nothing.
async fn scripts(shard: &Shard, findings: &mut Findings) {
    let mut eval = redis::cmd("EVAL");
    eval.arg("return redis.call('TIME')[1]").arg(0);
    match send(shard, eval).await {
        Ok(_) => findings.ok("scripts", "a script runs"),
        Err(failure) => findings.fail(
            "scripts",
            failure.to_string(),
            "decant works by scripts: allow EVAL, EVALSHA and SCRIPT LOAD to its user, and do not rename them",
        ),
    }
}

async fn fence(
    stash: &StashConfig,
    config: &RedisConfig,
    map: Option<&ShardMap>,
    shard: &Shard,
    findings: &mut Findings,
) {
    let names = Names::new(config.prefix.as_bytes(), &stash.name);
    let mut get = redis::cmd("GET");
    get.arg(names.fence.as_slice());
    let text = match send(shard, get).await {
        Ok(Value::Nil) => return findings.ok("fence", "none yet: no decant has used this Redis for this stash"),
        Ok(value) => as_bytes(&value).map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default(),
        Err(failure) => return findings.fail("fence", failure.to_string(), "look at Redis's log"),
    };
    let Ok(fence) = Fence::parse(&text) else {
        let todo = "was it written by a newer decant? Use that one";
        return findings.fail("fence", "the fence cannot be read", todo);
    };
    let figure = format!("{}, version {}, raised by {}", fence.phase, fence.version, fence.member);
    match map {
        Some(map) if map.digest() != fence.shards => findings.fail(
            "fence",
            format!("{figure}, with another list of shards"),
            "decants of one stash must name the same shards in the same way: make redis.url or redis.shards the same",
        ),
        _ => findings.ok("fence", figure),
    }
}

fn todo(why: &str) -> &'static str {
    match why {
        _ if why.contains("NOAUTH") => "this Redis wants a password: set redis.password_file",
        // It tells what each Sentinel answered, which can be any of those below.
        _ if why.contains("no Sentinel names") => {
            "see that the Sentinels run and watch this name, and correct sentinels, master or sentinel_password_file"
        }
        _ if why.contains("WRONGPASS") || why.contains("authentication") => {
            "user or password are wrong: correct the URL's user and redis.password_file"
        }
        _ if why.contains("wrong number of arguments for 'auth'") => {
            "this Redis is older than 6 and has no users: leave username out"
        }
        _ if why.contains("NotValidForName") || why.contains("not valid for name") => {
            "the certificate names another host: set tls_name to the name in it, or connect to that name"
        }
        _ if why.contains("invalid peer certificate") => "set ca_file to what signed Redis's certificate",
        _ if why.contains("received fatal alert") => {
            "Redis refuses decant's certificate, or wants one: set client_cert_file and client_key_file to what it takes"
        }
        _ if why.contains("corrupt message") => "this port speaks no TLS: use redis://, or name the TLS port",
        _ if why.contains("it is a replica") => {
            "see which primary the Sentinels name: SENTINEL GET-MASTER-ADDR-BY-NAME"
        }
        // A Redis without TLS waits for the end of the line that it takes the greeting for.
        _ if why.contains("no answer within") => {
            "see that Redis answers at this host and port and, where TLS is spoken, that it is Redis's TLS port"
        }
        _ if why.contains("LOADING") => "Redis is loading its data: try again when it has",
        _ if why.contains("reset") || why.contains("closed") => {
            "something closes the connection at once: is it Redis and no proxy, does the port want TLS (rediss://), and may \
             this host use it (bind, protected-mode)?"
        }
        _ => "start Redis, or correct the host and port of redis.url",
    }
}
