//! The circuit breakers: a tier that is away is not waited for, one that fails for some keys is not taken for away, and one that is
//! back is used again.

use crate::{
    liar::{Act, Liar},
    redis_server::RedisServer,
    support::{Raw, ask},
    whole::{BASE, Kask, Setup, Whole, intents, redis_holds, wait_until},
};
use std::time::{Duration, Instant};

/// Of [`Setup::new`].
const LEASE: Duration = Duration::from_millis(1_500);

struct Stage {
    redis: RedisServer,
    kask: Kask,
    decant: Whole,
}

fn stage(phase: &'static str) -> Stage {
    let (redis, kask) = (RedisServer::start(), Kask::start());
    let decant = Whole::start(&Setup::new(&redis, phase).with_kask(&kask));
    Stage { redis, kask, decant }
}

/// As many keys as it takes, all at once.
fn many<'a>(decant: &Whole, method: &str, keys: impl IntoIterator<Item = &'a str>) -> Vec<Raw> {
    let body: &[u8] = if method == "POST" { b"JSON..1" } else { b"" };
    let data = decant.data;
    std::thread::scope(|threads| {
        let each = |key| threads.spawn(move || ask(data, method, &format!("{BASE}{key}"), body));
        let asked: Vec<_> = keys.into_iter().map(each).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

const KEYS: [&str; 15] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o"];

fn statuses(answers: &[Raw]) -> Vec<u16> {
    let mut statuses: Vec<u16> = answers.iter().map(Raw::status).collect();
    statuses.dedup();
    statuses
}

impl Stage {
    fn breaker(&self, tier: &str) -> &'static str {
        let tier = format!("tier=\"{tier}\"");
        let stands = |state: &str| self.decant.metric("decant_breaker", &[&tier, &format!("state=\"{state}\"")]) == 1.0;
        ["closed", "open", "half-open"].into_iter().find(|state| stands(state)).unwrap_or("unknown")
    }

    fn not_asked(&self, tier: &str) -> f64 {
        self.decant.metric("decant_tier_requests_total", &[&format!("tier=\"{tier}\""), "outcome=\"away\""])
    }

    /// Kask says nothing, and decant has found out.
    fn without_kask(&self) {
        self.kask.hang();
        wait_until("Kask counts as away", || {
            many(&self.decant, "GET", KEYS);
            self.breaker("kask") != "closed"
        });
    }

    fn log_lines(&self, text: &str) -> usize {
        self.decant.log.lock().unwrap().iter().filter(|line| line.contains(text)).count()
    }
}

#[test]
fn in_kask_first_a_kask_that_hangs_costs_no_write_and_no_read_that_redis_can_answer() {
    let stage = stage("kask-first");
    assert_eq!(statuses(&many(&stage.decant, "POST", KEYS)), [201]);
    assert_eq!(stage.decant.set("deleted", "JSON..1").status(), 201);
    stage.without_kask();
    assert_eq!(stage.decant.admin_get("/v1/stashes/echoseen")["kask_breaker"], "open");
    // Probes take a place each, and everybody else is not sent.
    let (kask_asked, before) = (stage.not_asked("kask"), intents(&stage.redis));
    assert_eq!(statuses(&many(&stage.decant, "POST", KEYS)), [201]);
    assert_eq!(statuses(&many(&stage.decant, "GET", KEYS)), [200]);
    assert!(stage.not_asked("kask") > kask_asked);
    assert!(intents(&stage.redis) >= before + KEYS.len() as u64, "each write left its intent");
    assert_eq!(stage.decant.delete("deleted").status(), 204);
    assert_eq!(stage.decant.got("deleted").0, 404, "Redis remembers it as deleted");
    let nobody = stage.decant.get("nobody");
    assert_eq!((nobody.status(), nobody.header("retry-after")), (503, Some("1")), "an error is not a miss");
    stage.kask.go_on();
    stage.decant.wait_drained(&stage.redis);
    assert_eq!(stage.breaker("kask"), "closed");
    assert!(KEYS.iter().all(|key| stage.kask.holds(key).as_deref() == Some("JSON..1")));
    assert_eq!((stage.kask.holds("deleted"), stage.decant.got("deleted").0), (None, 404));
    assert_eq!(stage.decant.got("nobody").0, 404);
    assert_eq!((stage.log_lines("Kask does not answer"), stage.log_lines("Kask answers again")), (1, 1));
    assert_eq!(stage.decant.metric("decant_breaker_opened_total", &["tier=\"kask\""]), 1.0);
}

/// A claim makes an intent young again: what was left alone is due as soon as Kask is back, and not a lease later.
#[test]
fn the_reaper_leaves_alone_what_it_could_not_copy() {
    let stage = stage("kask-first");
    stage.without_kask();
    assert_eq!(statuses(&many(&stage.decant, "POST", KEYS)), [201]);
    // Reads go on all the time, and are the probes.
    let claims = || stage.decant.metric("decant_tier_requests_total", &["tier=\"redis\"", "op=\"claim\""]);
    let (before, began) = (claims(), Instant::now());
    while began.elapsed() < 3 * LEASE {
        assert_eq!(statuses(&many(&stage.decant, "GET", KEYS)), [200]);
    }
    let claimed = claims() - before;
    assert!(claimed < KEYS.len() as f64, "{claimed} claims of {} intents", KEYS.len());
    stage.kask.go_on();
    stage.decant.wait_drained(&stage.redis);
    assert!(KEYS.iter().all(|key| stage.kask.holds(key).as_deref() == Some("JSON..1")));
}

/// Where Kask decides nothing can be done without it: it is said at once, and nothing is left behind for what was not sent.
#[test]
fn where_kask_decides_its_absence_is_told_at_once_and_leaves_no_intents() {
    for phase in ["redis-standby", "kask-only"] {
        let stage = stage(phase);
        assert_eq!(statuses(&many(&stage.decant, "POST", KEYS)), [201]);
        stage.decant.wait_drained(&stage.redis);
        stage.without_kask();
        let unavailable = |method: &str| {
            let answers = many(&stage.decant, method, KEYS);
            assert_eq!(statuses(&answers), [503], "{phase} {method}");
            assert!(answers.iter().all(|answer| answer.header("retry-after") == Some("1")));
        };
        unavailable("GET");
        unavailable("POST");
        unavailable("DELETE");
        // Of the probes, whose outcome is unknown, and nobody else's.
        assert!(intents(&stage.redis) <= 2, "{phase}: {} intents", intents(&stage.redis));
        stage.kask.go_on();
        wait_until("it is used again", || statuses(&many(&stage.decant, "POST", KEYS)) == [201]);
        assert_eq!(statuses(&many(&stage.decant, "GET", KEYS)), [200]);
        stage.decant.wait_drained(&stage.redis);
    }
}

/// Kask can fail for a part of its keys while its `/healthz` is green: the others are still asked of it.
#[test]
fn a_kask_that_fails_for_some_keys_goes_on_answering_the_others() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let liar = runtime.block_on(Liar::start_by(|_, request| match &request.head {
        head if head.contains("/slow") => Act::Silence,
        head if head.contains("/bad") => Act::Say(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec()),
        _ => Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nJSON..1".to_vec()),
    }));
    let redis = RedisServer::start();
    let url = format!("http://{}{BASE}", liar.address);
    let decant = Whole::start(&Setup { kask_url: Some(url), ..Setup::new(&redis, "kask-only") });
    let of = |kind: &str| -> Vec<String> { KEYS[..6].iter().map(|key| format!("{kind}{key}")).collect() };
    let (good, bad, slow) = (of("good"), of("bad"), of("slow"));
    for _ in 0..4 {
        std::thread::scope(|threads| {
            let failing = bad.iter().chain(&slow).map(String::as_str);
            let failing = threads.spawn(|| many(&decant, "GET", failing));
            while !failing.is_finished() {
                assert_eq!(statuses(&many(&decant, "GET", good.iter().map(String::as_str))), [200]);
            }
            assert_eq!(statuses(&failing.join().unwrap()), [503]);
        });
        // One key alone, again and again.
        (0..20).for_each(|_| assert_eq!(decant.get("bada").status(), 503));
        assert_eq!(statuses(&many(&decant, "GET", ["slowa"; 20])), [503]);
    }
    assert_eq!(decant.metric("decant_breaker_opened_total", &["tier=\"kask\""]), 0.0);
}

#[test]
fn in_kask_first_a_redis_that_hangs_costs_no_read_that_kask_can_answer_and_writes_are_refused() {
    let stage = stage("kask-first");
    assert_eq!(statuses(&many(&stage.decant, "POST", KEYS)), [201]);
    stage.decant.wait_drained(&stage.redis);
    wait_until("nothing is known as pending", || stage.decant.metric("decant_keys_pending", &[]) == 0.0);
    stage.redis.sigstop();
    wait_until("Redis counts as away", || stage.breaker("redis") != "closed");
    assert_eq!(statuses(&many(&stage.decant, "GET", KEYS)), [200]);
    for (method, key) in [("POST", "a"), ("DELETE", "b"), ("GET", "nobody")] {
        let refused = ask(stage.decant.data, method, &format!("{BASE}{key}"), b"JSON..2");
        assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")), "{method}: {}", refused.text());
    }
    stage.redis.sigcont();
    wait_until("it is used again", || stage.decant.set("a", "JSON..3").status() == 201);
    stage.decant.wait_drained(&stage.redis);
    assert_eq!(
        (stage.kask.holds("a").as_deref(), redis_holds(&stage.redis, "a").as_deref()),
        (Some("JSON..3"), Some("3"))
    );
    assert_eq!(stage.decant.got("b"), (200, "JSON..1".into()), "what was refused was not done");
    assert_eq!(stage.breaker("redis"), "closed");
    assert!(stage.log_lines("Redis shard main does not answer") >= 1);
}
