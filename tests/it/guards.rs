//! Each guard fails alone once, and says so to whoever asks: over the API, on the command line and in the console.

mod stages;

use crate::{
    console::browser::Browser,
    redis_server::RedisServer,
    support::run_decant,
    whole::{Setup, Whole, wait_until},
};
use serde_json::{Value, json};
use stages::{CASES, Case, Stage, beside_a_reader, beside_another_writer, with_a_kask_that_fails_for_keys};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Stages at a time: most of what they do is wait.
const AT_ONCE: usize = 3;

/// The guards of an answer that hold as told, each with its figure.
fn told_of(told: &Value, ok: bool) -> Vec<(String, String)> {
    let guards = told["guards"].as_array().cloned().unwrap_or_default();
    let text = |guard: &Value, name: &str| guard[name].as_str().unwrap().to_owned();
    guards.iter().filter(|guard| guard["ok"] == ok).map(|guard| (text(guard, "name"), text(guard, "figure"))).collect()
}

fn failing(told: &Value) -> Vec<(String, String)> {
    told_of(told, false)
}

impl Case {
    fn is_alone(&self, told: &Value) -> bool {
        matches!(failing(told).as_slice(), [(name, figure)] if name == self.guard && figure.contains(self.figure))
    }

    /// Every guard that the step has. What a stage brought about may take a moment to be seen.
    fn wait_alone(&self, decant: &Whole) -> Vec<String> {
        let mut last = Value::Null;
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(&format!("{} fails, and nothing else", self.guard), || {
                last = decant.ask_move(self.to, json!({ "dry_run": true })).1;
                self.is_alone(&last)
            });
        }));
        assert!(waited.is_ok(), "{}: {last:#}", self.guard);
        [true, false].into_iter().flat_map(|ok| told_of(&last, ok)).map(|(name, _)| name).collect()
    }

    fn is_refused_over_the_api(&self, decant: &Whole) {
        let (status, told) = decant.ask_move(self.to, json!({}));
        assert!(status == 409 && self.is_alone(&told), "{}: {status} {told:#}", self.guard);
        assert_eq!(told["type"], "urn:decant:problem:guard-failed");
        let guards = told["guards"].as_array().unwrap();
        assert!(guards.iter().all(|guard| !guard["needs"].as_str().unwrap().is_empty()), "{told:#}");
        let why = told["detail"].as_str().unwrap();
        assert!(why.contains(self.guard) && why.contains(self.figure), "{}: {why}", self.guard);
    }

    fn is_refused_on_the_command_line(&self, decant: &Whole) {
        let name = self.guard;
        for more in [&["--dry-run"][..], &["--reason", "r"]] {
            let (code, out, err) = cli(decant, &[&["phase", "set", self.to][..], more].concat());
            let told = out.contains(&format!("FAIL  {name} ")) && out.contains("needs: ") && out.contains(self.figure);
            assert!(code == 1 && told && err.contains("a guard fails"), "{name}: {code} {out}{err}");
            assert_eq!(out.matches("FAIL  ").count(), 1, "{name}: {out}");
        }
    }

    fn is_refused_in_the_console(&self, decant: &Whole, browser: &Browser) {
        let name = self.guard;
        browser.open(&format!("http://{}/", decant.admin));
        let target = format!("#targets input[value={}]", self.to);
        browser.wait("the switch is drawn", |page| page.sees(&target));
        browser.click(&target);
        let failed = format!("[data-guard={name}].fails");
        browser.wait(&format!("{name} fails on the page"), |page| page.sees(&failed));
        assert_eq!(browser.script("return document.querySelectorAll('#guards .fails').length"), 1, "{name}");
        let text = browser.text(&failed);
        assert!(text.contains('✗') && text.contains(self.figure) && text.contains("Needs: "), "{name}: {text}");
        let colour = browser.script(&format!(
            "return getComputedStyle(document.querySelector('{failed} .mark')).color.match(/\\d+/g).map(Number)"
        ));
        let [red, green, blue] = [0, 1, 2].map(|i| colour[i].as_u64().unwrap());
        assert!(red > 2 * green && red > 2 * blue, "{name}: it is not red but {colour}");
        browser.fill("#reason", "in a hurry");
        browser.fill("#by", "Ada");
        browser.click("#move");
        browser.wait_text("#outcome", &format!("Refused, nothing was done. {name}: see above."));
        let complaints = browser.complaints();
        assert!(complaints.iter().all(|line| line.contains("409")), "{name}: {complaints:?}");
    }

    /// It stays in the history, with what it measured then.
    fn is_overridden_by_force(&self, decant: &Whole) {
        let name = self.guard;
        let forced = ["phase", "set", self.to, "--reason", "all the same", "--force", "--no-wait"];
        let (code, out, err) = cli(decant, &forced);
        assert_eq!(code, 0, "{name}: {out}{err}");
        let (_, out, _) = cli(decant, &["phase", "history"]);
        let told = out.contains(&format!("overridden  {name} ")) && out.contains("(forced): all the same");
        assert!(told && out.contains(self.figure), "{name}: {out}");
    }
}

fn cli(decant: &Whole, args: &[&str]) -> (i32, String, String) {
    let admin = format!("http://{}", decant.admin);
    run_decant(args.iter().copied().chain(["--admin", &admin]))
}

#[test]
fn each_fails_alone_over_the_api_on_the_command_line_and_in_the_console() {
    let browser = Mutex::new(Browser::start());
    let (next, seen) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
    let one_after_the_other = || {
        while let Some(case) = CASES.get(next.fetch_add(1, Ordering::Relaxed)) {
            let stage = (case.stage)();
            let decant = &stage.decant;
            let before = decant.phase();
            seen.lock().unwrap().extend(case.wait_alone(decant));
            case.is_refused_over_the_api(decant);
            case.is_refused_on_the_command_line(decant);
            case.is_refused_in_the_console(decant, &browser.lock().unwrap());
            assert_eq!(decant.phase(), before, "{}: a refusal changes nothing", case.guard);
            case.is_overridden_by_force(decant);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(one_after_the_other);
        }
    });
    let tested: BTreeSet<String> = CASES.iter().map(|case| case.guard.to_owned()).collect();
    assert_eq!(seen.into_inner().unwrap(), tested, "what the steps ask for is what is tested");
}

/// A guard that is added later is missed here, also where no step above asks for it.
#[test]
fn no_guard_of_the_code_is_without_a_case() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/phase");
    let parts = std::fs::read_dir(root.join("guard")).unwrap().map(|entry| entry.unwrap().path());
    let mut named = BTreeSet::new();
    for path in parts.chain([root.join("guard.rs")]) {
        let text = std::fs::read_to_string(path).unwrap();
        for rest in text.split("name: ").skip(1).filter(|rest| !rest.starts_with("&'static str")) {
            let literal = rest.strip_prefix('"').or_else(|| {
                let constant = format!("const {}: &str = \"", rest.split(',').next()?);
                text.split(&constant).nth(1)
            });
            let literal = literal.unwrap_or_else(|| panic!("this name is not found here: {rest}"));
            named.insert(literal.split('"').next().unwrap().to_owned());
        }
    }
    let tested: BTreeSet<String> = CASES.iter().map(|case| case.guard.to_owned()).collect();
    assert_eq!(tested.len(), CASES.len(), "one case a guard");
    assert_eq!(named, tested);
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

/// An exporter of metrics, an operator and a connection of a pool are no reason to keep Redis.
#[test]
fn who_only_asks_how_redis_fares_does_not_read() {
    let mut stage = beside_a_reader();
    let may = |stage: &Stage| stage.decant.ask_move("kask-only", json!({ "dry_run": true })).0 == 200;
    assert!(!may(&stage));
    let mut exporter = stage.redis.client();
    for command in ["PING", "INFO", "DBSIZE"] {
        let _: redis::Value = redis::cmd(command).query(&mut exporter).unwrap();
    }
    stage.held = vec![exporter, stage.redis.client()];
    wait_until("the reader's connection has ended", || may(&stage));
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

#[test]
fn a_redis_that_does_not_tell_what_it_is_is_not_passed() {
    let stage = Stage::new("redis-only", "");
    let acl = |right: &str| {
        redis::cmd("ACL").arg("SETUSER").arg("default").arg(right).exec(&mut stage.redis.client()).unwrap();
    };
    acl("-info");
    let (status, told) = stage.decant.ask_move("dual-write", json!({}));
    let told_so =
        |(name, figure): &(String, String)| name == "redis_fit" && figure.contains("allow decant's user INFO");
    assert!(status == 409 && failing(&told).iter().any(told_so), "{told:#}");
    acl("+info");
    assert_eq!(stage.decant.ask_move("dual-write", json!({ "dry_run": true })).0, 200);
}

/// Not to have been answered is not to have found nothing.
#[test]
fn a_kask_that_answers_for_no_key_of_redis_is_not_taken_for_empty() {
    let stage = with_a_kask_that_fails_for_keys();
    let (status, told) = stage.decant.ask_move("dual-write", json!({}));
    let told_so = |(name, figure): &(String, String)| {
        name == "kask_not_stale" && figure.contains("of 1 keys, 1 were not answered for: Kask: ")
    };
    assert!(status == 409 && failing(&told).iter().any(told_so), "{told:#}");
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
    let lacks = |figure: &str| figure.contains("it lacks 4 that were acknowledged");
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
