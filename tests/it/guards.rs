//! Guards over what clients met and over who else writes: each fails alone, and says so over the API and on the command line.

use crate::{
    redis_server::RedisServer,
    support::run_decant,
    whole::{Kask, Setup, Whole, redis_set, wait_until},
};
use serde_json::{Value, json};

struct Stage {
    redis: RedisServer,
    kask: Kask,
    decant: Whole,
    /// What must last as long as the stage.
    held: Vec<redis::Connection>,
}

impl Stage {
    fn new(phase: &'static str, stash: &str) -> Stage {
        let (redis, kask) = (RedisServer::start(), Kask::start());
        let setup = Setup { stash: stash.to_owned(), ..Setup::new(&redis, phase).with_kask(&kask) };
        let decant = Whole::start(&setup);
        Stage { redis, kask, decant, held: Vec::new() }
    }

    /// Until nothing is pending as far as this decant knows.
    fn wait_quiet(&self) {
        self.decant.wait_drained(&self.redis);
        wait_until("nothing is pending", || self.decant.metric("decant_keys_pending", &[]) == 0.0);
    }

    fn wait_metric(&self, name: &str, labels: &[&str]) {
        wait_until(name, || {
            self.decant.get("k");
            self.decant.metric(name, labels) >= 1.0
        });
    }
}

fn failing(told: &Value) -> Vec<(String, String)> {
    let guards = told["guards"].as_array().cloned().unwrap_or_default();
    let text = |guard: &Value, name: &str| guard[name].as_str().unwrap().to_owned();
    guards.iter().filter(|g| g["ok"] == false).map(|g| (text(g, "name"), text(g, "figure"))).collect()
}

/// Kask has another value than Redis, which is the store.
fn differs_in_shadow() -> Stage {
    let stage = Stage::new("dual-write", "shadow_share = 1.0");
    redis_set(&stage.redis, "k", "s:1:\"v\";");
    stage.kask.put("k", "JSON..\"w\"");
    stage.wait_quiet();
    stage.wait_metric("decant_shadow_reads_total", &["result=\"mismatch\""]);
    stage
}

/// The one key is copied, and somebody needed it from Redis within the hour.
fn fell_back_a_moment_ago() -> Stage {
    let stage = Stage::new("kask-first", "guards.soak_s = 3600");
    redis_set(&stage.redis, "k", "s:1:\"v\";");
    stage.wait_quiet();
    stage.wait_metric("decant_fallback_hits_total", &[]);
    stage.decant.copy_and_compare();
    stage
}

fn in_standby_for_a_moment() -> Stage {
    Stage::new("redis-standby", "guards.soak_s = 3600")
}

fn with_a_kask_that_failed() -> Stage {
    let stage = Stage::new("redis-standby", "guards.kask_errors_max = 0.0");
    stage.kask.hang();
    assert_eq!(stage.decant.get("k").status(), 503);
    stage.kask.go_on();
    wait_until("Kask answers again", || stage.decant.get("k").status() == 404);
    stage
}

fn beside_another_writer() -> Stage {
    let mut stage = Stage::new("redis-only", "");
    let mut other = stage.redis.client();
    redis::cmd("SET").arg("k").arg("i:1;").exec(&mut other).unwrap();
    stage.held.push(other);
    stage
}

#[test]
fn each_fails_alone_over_the_api_and_the_command_line() {
    let cases: [(fn() -> Stage, _, _, _); 5] = [
        (differs_in_shadow, "kask-first", "shadow_agrees", "Kask had another value for "),
        (fell_back_a_moment_ago, "redis-standby", "rehearsal", " reads of the last hour would have been misses"),
        (in_standby_for_a_moment, "kask-only", "soaked", "redis-standby has held for "),
        (with_a_kask_that_failed, "kask-only", "kask_errors", " requests to Kask failed in the last hour ("),
        (beside_another_writer, "dual-write", "nobody_else_writes", " (set, "),
    ];
    for (stage, to, name, figure) in cases {
        let stage = stage();
        let (status, told) = stage.decant.ask_move(to, json!({}));
        let failed = failing(&told);
        assert_eq!(status, 409, "{name}: {told:#}");
        assert!(failed.len() == 1 && failed[0].0 == name && failed[0].1.contains(figure), "{name}: {failed:?}");

        let admin = format!("http://{}", stage.decant.admin);
        let run = |args: &[&str]| run_decant(args.iter().chain(&["--admin", &admin]).copied());
        for more in [&["--dry-run"][..], &["--reason", "r"]] {
            let (code, out, err) = run(&[&["phase", "set", to][..], more].concat());
            let told = out.contains(&format!("FAIL  {name} ")) && out.contains("needs: ") && out.contains(figure);
            assert!(code == 1 && told && err.contains("a guard fails"), "{name}: {code} {out}{err}");
        }
        let (_, out, _) = run(&["status"]);
        assert!(out.contains(&format!("FAIL  {name} ")), "{out}");

        let (code, out, err) = run(&["phase", "set", to, "--reason", "all the same", "--force", "--no-wait"]);
        assert_eq!(code, 0, "{name}: {out}{err}");
        let (_, out, _) = run(&["phase", "history"]);
        assert!(out.contains(&format!("overridden  {name} ")) && out.contains("(forced): all the same"), "{out}");
    }
}

/// Whoever has gone is not held against anybody, and a reader never was.
#[test]
fn a_writer_that_has_gone_and_a_reader_do_not_count() {
    let mut stage = beside_another_writer();
    let reader = &mut stage.redis.client();
    let _: String = redis::cmd("GET").arg("k").query(reader).unwrap();
    stage.held.clear();
    wait_until("the writer's connection has ended", || {
        stage.decant.ask_move("dual-write", json!({ "dry_run": true })).0 == 200
    });
}

/// Not to be allowed to look is not to have seen that nobody writes.
#[test]
fn a_redis_that_does_not_tell_its_clients_is_not_passed() {
    let redis = RedisServer::with_flags(&["--user", "default", "on", "nopass", "~*", "+@all", "-client"]);
    let decant = Whole::start(&Setup::new(&redis, "redis-only"));
    let (status, told) = decant.ask_move("dual-write", json!({}));
    let failed = failing(&told);
    let fits = failed.len() == 1 && failed[0].0 == "nobody_else_writes" && failed[0].1.contains("NOPERM");
    assert!(status == 409 && fits, "{told:#}");
}

/// Going back from kask-only says for how long, and how much.
#[test]
fn the_way_back_from_kask_only_tells_what_redis_lacks() {
    let stage = Stage::new("kask-only", "");
    for i in 0..3 {
        assert_eq!(stage.decant.set(&format!("k{i}"), "JSON..1").status(), 201);
    }
    assert_eq!(stage.decant.delete("k0").status(), 204);
    let (_, told) = stage.decant.ask_move("redis-standby", json!({}));
    let failed = failing(&told);
    let lacks = |figure: &str| figure.contains("it lacks 4 that this decant has acknowledged");
    assert!(failed.iter().any(|(name, figure)| name == "redis_missed_nothing" && lacks(figure)), "{told:#}");
}

#[test]
fn of_two_operators_one_moves_and_the_other_is_told_who_and_when() {
    let stage = Stage::new("dual-write", "");
    let ask = |to: &'static str, by: &'static str| {
        let decant = &stage.decant;
        move || (by, decant.ask_move(to, json!({ "from": "dual-write", "by": by })))
    };
    let answers = std::thread::scope(|scope| {
        let both = [scope.spawn(ask("redis-only", "Ada")), scope.spawn(ask("kask-first", "Bob"))];
        both.map(|one| one.join().unwrap())
    });
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|(_, (status, _))| *status == 200);
    assert!(won.len() == 1 && lost.len() == 1, "{answers:?}");
    let (status, told) = &lost[0].1;
    let detail = told["detail"].as_str().unwrap();
    assert!(*status == 409 && detail.contains(&format!("by {} at 20", won[0].0)), "{told:#}");
    assert_eq!(told["record"]["by"], won[0].0);
}
