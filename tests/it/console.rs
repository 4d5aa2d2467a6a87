//! The operator's console in a real Chromium, over a running decant with a real Redis. Screenshots go to target/console/.

pub mod browser;
mod doubt;

use crate::{
    backfill::stage::seed,
    etcd_server::EtcdServer,
    fleet::tables,
    redis_server::RedisServer,
    whole::{Kask, Setup, Whole, redis_set, wait_until},
};
use browser::{Browser, DOWN, ENTER, SPACE};
use serde_json::json;

fn console(whole: &Whole) -> String {
    format!("http://{}/", whole.admin)
}

/// The page, once it has drawn the stash with its guards.
fn open(browser: &Browser, whole: &Whole) {
    browser.open(&console(whole));
    browser.wait("the page is drawn", |page| page.sees("#phases .now") && page.sees("#guards [data-guard]"));
}

/// A decant in a phase, its Redis, and its page.
fn page(phase: &'static str) -> (RedisServer, Whole, Browser) {
    let redis = RedisServer::start();
    let whole = Whole::start(&Setup::new(&redis, phase));
    let browser = Browser::start();
    open(&browser, &whole);
    (redis, whole, browser)
}

fn assert_well(browser: &Browser, what: &str) {
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{what}: the browser complains: {}", complaints.join("\n"));
    let inaccessible = browser.inaccessible();
    assert!(inaccessible.is_empty(), "{what}: axe finds\n{}", inaccessible.join("\n"));
}

/// One picture each for a large screen in light and dark, and for a telephone; each without a serious fault of accessibility.
fn pictures(browser: &Browser, name: &str) {
    for (scheme, phone) in [("light", false), ("dark", false), ("light", true), ("dark", true)] {
        browser.colours(scheme);
        if phone {
            browser.telephone()
        } else {
            browser.window(1440, 900)
        }
        browser.wait("the chart has the width of the page", |page| {
            page.script("const s = document.querySelector('#chart svg'); return !s || Math.abs(s.width.baseVal.value - document.querySelector('#chart').clientWidth) < 2") == true
        });
        let wide = browser.script("return document.documentElement.scrollWidth > innerWidth");
        assert!(wide == false, "{name}: the page is wider than its window");
        assert_well(browser, &format!("{name} {scheme} {phone}"));
        let device = if phone { "telephone" } else { "screen" };
        browser.screenshot(&format!("{name}-{device}-{scheme}"));
    }
    browser.colours("light");
    browser.window(1440, 900);
}

/// Reads and writes for a while, so that there is something to see.
fn traffic(whole: &Whole) {
    for n in 0..60 {
        whole.set(&format!("enwiki%3Akey%3A{n}"), &format!("JSON..{n}"));
        whole.get(&format!("enwiki%3Akey%3A{}", n / 2));
        whole.get(&format!("enwiki%3Aold%3A{}", n % 20));
        whole.get("enwiki%3Anever");
    }
}

fn phase_on_page(browser: &Browser) -> String {
    browser.text("#phases .now .phase-name")
}

#[test]
fn an_operator_sees_is_refused_moves_and_forces() {
    let redis = RedisServer::start();
    (0..20).for_each(|n| redis_set(&redis, &format!("enwiki:old:{n}"), n.to_string()));
    let whole = Whole::start(&Setup::new(&redis, "dual-write"));
    traffic(&whole);
    let browser = Browser::start();
    open(&browser, &whole);
    assert_eq!(phase_on_page(&browser), "dual-write");
    assert_eq!(browser.script("return document.querySelectorAll('#phases li').length"), 5);
    assert_eq!(browser.script("return document.querySelectorAll('#phases [aria-current=step]').length"), 1);
    browser.wait_text("#link", "live");
    assert!(!browser.sees("#history-note"));

    // A move, with a reason that would be a script if it were ever markup.
    let evil = "<img src=x onerror=\"window.hurt=1\"><script>window.hurt=1</script>";
    browser.click("#targets input[value=kask-first]");
    browser.wait("its guards are told", |page| page.sees("#guards [data-guard]"));
    browser.fill("#reason", evil);
    browser.fill("#by", "Ada <b>L</b>");
    browser.click("#move");
    browser.wait_text("#outcome", "The move to kask-first has settled.");
    assert_eq!(phase_on_page(&browser), "kask-first");
    browser.wait_text("#history li:first-child", evil);
    browser.wait_text("#record", evil);
    assert!(browser.text("#history li:first-child").contains("Ada <b>L</b>"));
    assert_eq!(
        browser.script("return window.hurt ?? document.querySelectorAll('#stash img, #stash script').length"),
        0
    );
    let recorded = whole.phase();
    assert_eq!((&recorded["reason"], &recorded["by"]), (&json!(evil), &json!("Ada <b>L</b>")));

    // A guard that fails, in red, with its reason: nobody has compared the tiers.
    redis_set(&redis, "enwiki:only", "42");
    traffic(&whole);
    browser.reload();
    browser.wait("the guard fails", |page| page.sees("[data-guard=verified].fails"));
    let guard = browser.text("[data-guard=verified]");
    assert!(guard.contains("no run of verify") && guard.contains("Needs: a decant verify over every key"), "{guard}");
    assert_eq!(browser.text("[data-guard=verified] code"), "decant verify", "what can be typed is set apart");
    assert!(guard.contains('✗') && guard.contains("fails"), "told without its colour: {guard}");
    pictures(&browser, "failing-guard");
    browser.fill("#reason", "in a hurry");
    browser.fill("#by", "Ada");
    browser.click("#move");
    browser.wait_text("#outcome", "Refused, nothing was done. ");
    assert!(browser.text("#outcome").contains("verified"), "{}", browser.text("#outcome"));
    assert_eq!(whole.phase()["phase"], "kask-first");
    // 409 is what was wanted; the browser notes each.
    let refusals = browser.complaints();
    assert!(refusals.iter().all(|line| line.contains("409")), "{refusals:?}");

    // The forced way: hidden behind the plain one, and not without the name.
    assert!(!browser.sees("#force-move"));
    browser.click("#force summary");
    browser.wait_text("#force-guards", "verified");
    browser.click("#force-move");
    browser.wait_text("#force-error", "Type redis-standby, to the letter");
    browser.fill("#force-name", "redis-standb");
    browser.click("#force-move");
    browser.wait_text("#force-error", "Type redis-standby, to the letter");
    assert_eq!(whole.phase()["phase"], "kask-first");
    pictures(&browser, "forcing");
    browser.fill("#force-name", "redis-standby");
    browser.click("#force-move");
    browser.wait_text("#outcome", "The move to redis-standby has settled.");
    browser.wait_text("#history li:first-child", "forced");
    assert_eq!((&whole.phase()["phase"], &whole.phase()["forced"]), (&json!("redis-standby"), &json!(true)));
    assert_well(&browser, "after a forced move");
}

/// Begins a run; answers its path.
fn begin(whole: &Whole, what: &str, asked: &serde_json::Value) -> String {
    let path = format!("/v1/stashes/echoseen/{what}");
    let begun = whole.admin_send("POST", &path, &asked.to_string());
    assert!(matches!(begun.status(), 201 | 202), "{}", begun.text());
    path
}

fn cancel(whole: &Whole, path: &str) {
    let told = whole.admin_send("DELETE", path, "{}");
    assert_eq!(told.status(), 200, "{}", told.text());
    wait_until("it has ended", || {
        let view = whole.admin_get(path);
        view["state"] == "cancelled" || view.get("running").is_some_and(serde_json::Value::is_null)
    });
}

/// Runs under way, what holds them back, and what they came to.
#[test]
fn backfill_and_verify_are_followed() {
    let redis = RedisServer::start();
    seed(&redis, 4_000);
    let whole = Whole::start(&Setup::new(&redis, "kask-first"));
    let browser = Browser::start();
    open(&browser, &whole);
    browser.wait_text("#copies", "has not run");

    // So far, and then hardly on: however long the browser takes, it is under way. It is told page by page of SCAN, of which there are eight,
    // three of them under way at once.
    let backfill = begin(&whole, "backfill", &json!({ "keys_per_s": 400 }));
    wait_until("a third is copied", || whole.admin_get(&backfill)["share"].as_f64() >= Some(0.3));
    let slow = json!({ "keys_per_s": 1 }).to_string();
    assert_eq!(whole.admin_send("PATCH", &backfill, &slow).status(), 200);
    browser.wait("the bar is a third full", |page| {
        page.script("return document.querySelector('#copies progress')?.value >= 30") == true
    });
    browser.wait_text("#copies", "held back by limit");
    pictures(&browser, "mid-backfill");
    cancel(&whole, &backfill);

    // Minutes, at this rate.
    let verify = begin(&whole, "verify", &json!({ "rate": 6 }));
    browser.wait_text("#copies", "held back by rate limit");
    assert!(browser.sees("#copies progress[aria-label=Verify]"), "a bar for verify");
    cancel(&whole, &verify);

    browser.wait_text("#copies", "the run is not complete");
    whole.copy_and_compare();
    browser.wait_text("#copies", "everything arrived: 4000 keys, equal in both tiers");
    let told = browser.text("#copies");
    assert!(told.contains("finished") && told.contains(" copied") && !told.contains("[object"), "{told}");
    assert_well(&browser, "with reports");
}

/// No mouse: from the top of the page to a move, by Tab, arrows, space and Enter alone.
#[test]
fn the_keyboard_is_enough() {
    let (_redis, whole, browser) = page("kask-first");
    browser.tab_to("Skip to the stash");
    browser.keys(ENTER);
    assert_eq!(browser.focus(), "main");
    browser.tab_to("redis-standby");
    browser.keys(DOWN);
    browser.wait("the way back is chosen", |page| {
        page.text("#move") == "Move to dual-write" && page.sees("#guards [data-guard]")
    });
    // Without a reason nothing is sent, and the field that lacks it has the focus.
    browser.tab_to("move");
    browser.keys(SPACE);
    browser.wait_text("#reason-error", "Say why");
    assert_eq!(browser.focus(), "reason");
    browser.keys("Kask is slow");
    browser.keys(ENTER);
    browser.wait_text("#by-error", "Say who you are");
    assert_eq!(browser.focus(), "by");
    browser.keys("Grace");
    browser.keys(ENTER);
    browser.wait_text("#outcome", "The move to dual-write has settled.");
    let recorded = whole.phase();
    assert_eq!(
        (&recorded["phase"], &recorded["reason"], &recorded["by"]),
        (&json!("dual-write"), &json!("Kask is slow"), &json!("Grace"))
    );
    assert_well(&browser, "by keyboard");
}

/// Some keys first, by pattern and by share: chosen by keyboard, tried, moved, followed by the others, forced, and taken back.
#[test]
fn some_keys_go_ahead_and_come_back() {
    let redis = RedisServer::start();
    let whole = Whole::start(&Setup::new(&redis, "dual-write"));
    traffic(&whole);
    let browser = Browser::start();
    open(&browser, &whole);

    browser.tab_to("all");
    browser.keys(DOWN);
    browser.wait("a pattern is asked for", |page| page.sees("#rule") && page.text("#rule-label") == "Pattern");
    browser.wait_text("#guards", "Say which keys");
    browser.tab_to("move");
    browser.keys(SPACE);
    browser.wait_text("#rule-error", "Say which keys");
    assert_eq!(browser.focus(), "rule");
    browser.keys("enwiki:*");
    // Enter here is no order: the guards are told.
    browser.keys(ENTER);
    browser.wait("the guards of these keys are told", |page| page.sees("#guards [data-guard=shadow_agrees]"));
    assert_eq!(browser.text("#move"), "Move keys like enwiki:* to kask-first");
    assert_eq!(whole.phase()["version"], 1, "nothing has moved yet");
    pictures(&browser, "some-keys");
    browser.fill("#reason", "try kask-first");
    browser.fill("#by", "Grace");
    browser.tab_to("move");
    browser.keys(ENTER);
    browser.wait_text("#outcome", "The move of keys like enwiki:* to kask-first has settled.");
    let record = whole.phase();
    assert_eq!((&record["phase"], &record["ahead"]["match"]), (&json!("dual-write"), &json!("enwiki:*")));
    assert_eq!((&record["reason"], &record["by"]), (&json!("try kask-first"), &json!("Grace")));
    browser.wait_text("#phases", "in force for keys like enwiki:*");

    // What decant does not do it says: another pattern is no step from there.
    browser.click("#scope input[value=match]");
    browser.fill("#rule", "dewiki:*");
    browser.wait_text("#guards", "another rule could only cover more than that");
    browser.click("#scope input[value=all]");
    browser.wait("the guards are told again", |page| page.sees("#guards [data-guard]"));
    browser.fill("#reason", "it works");
    browser.click("#move");
    browser.wait_text("#outcome", "The move to kask-first has settled.");

    // A share, past a guard that fails.
    browser.click("#scope input[value=share]");
    browser.fill("#rule", "1.5 %");
    browser.wait("a guard fails", |page| page.sees("[data-guard=verified].fails"));
    assert_eq!(browser.text("#move"), "Move 1.5 % of all keys to redis-standby");
    browser.fill("#reason", "in a hurry");
    browser.click("#force summary");
    browser.fill("#force-name", "redis-standby");
    pictures(&browser, "forcing-some-keys");
    browser.click("#force-move");
    browser.wait_text("#outcome", "The move of 1.5 % of all keys to redis-standby has settled.");
    let record = whole.phase();
    assert_eq!((&record["ahead"]["share"], &record["forced"]), (&json!(0.015), &json!(true)));

    browser.click("#targets input[value=kask-first]");
    browser.wait("the guards of the way back are told", |page| page.sees("#guards [data-guard]"));
    assert!(!browser.sees("#scope"), "all that are ahead come back");
    assert_eq!(browser.text("#move"), "Take 1.5 % of all keys back to kask-first");
    browser.fill("#reason", "enough");
    browser.click("#move");
    browser.wait_text("#outcome", "The move of 1.5 % of all keys back to kask-first has settled.");
    let record = whole.phase();
    assert_eq!((&record["phase"], &record["ahead"]), (&json!("kask-first"), &json!(null)));
    assert_well(&browser, "after keys came back");
}

/// What is wrong is said at the top, also that decant does not answer; and a hidden page asks for nothing.
#[test]
fn troubles_are_told() {
    let mut redis = RedisServer::start();
    let mut kask = Kask::start();
    let mut whole = Whole::start(&Setup::new(&redis, "kask-first").with_kask(&kask));
    traffic(&whole);
    let browser = Browser::start();
    open(&browser, &whole);
    browser.wait_text("#attention", "Nothing: all is as it should be.");
    pictures(&browser, "healthy");
    kask.kill_9();
    (0..10).for_each(|n| drop(whole.get(&format!("enwiki%3Akey%3A{n}"))));
    redis.kill();
    browser.wait_text("#attention", "Kask does not answer");
    browser.wait_text("#attention", "Redis main");
    browser.wait_text("#said", "What needs you: ");
    browser.wait("the guards are measured again", |page| page.sees("[data-guard=redis_answers].fails"));
    pictures(&browser, "troubles");
    whole.kill_9();
    browser.wait_text("#lost", "decant does not answer: what is shown here is old.");
    browser.wait_text("#link", "no answer");
}

/// Of a fleet every decant is there, with its standing; a silent one is named, and so is an etcd that is away.
#[test]
fn a_fleet_is_shown_decant_by_decant() {
    let (mut etcd, redis, kask) = (EtcdServer::start(), RedisServer::start(), Kask::start());
    let setup = Setup { tables: tables(&etcd.url()), ..Setup::new(&redis, "dual-write").with_kask(&kask) };
    let (whole, mut other) = (Whole::start(&setup), Whole::start(&setup));
    let name = other.admin_get("/v1/stashes/echoseen/fleet")["member"].as_str().unwrap().to_owned();
    let browser = Browser::start();
    open(&browser, &whole);
    browser.wait_text("#members", &name);
    browser.wait_text("#members li:nth-child(2)", "follows");
    // Who has only just come may not have its Redis yet.
    browser.wait("both are well", |page| {
        page.script("return document.querySelectorAll('#members li .mark.ok').length") == 2
    });
    other.kill_9();
    browser.wait_text("#members", "silent since");
    browser.wait_text("#attention", &format!("decant fleet forget {name}"));
    assert_eq!(browser.script("return document.querySelectorAll('#members li .mark.bad').length"), 1);
    pictures(&browser, "silent-member");
    let path = format!("/v1/stashes/echoseen/fleet/{name}");
    let gone = json!({ "reason": "its machine burnt down", "by": "root" });
    assert_eq!(whole.admin_send("DELETE", &path, &gone.to_string()).status(), 200);
    browser.wait_text("#history li:first-child", &format!("{name} was forgotten"));
    browser.wait_text("#history li:first-child", "root: its machine burnt down");
    etcd.kill();
    browser.wait_text("#members li:first-child", "not reached");
    browser.wait_text("#attention", "serves in the phase it has");
    assert_well(&browser, "without etcd");
    // Who opens the page only now sees what decant knows, and that the history is in etcd.
    browser.reload();
    browser.wait("the page is drawn", |page| page.sees("#phases .now"));
    assert_eq!(phase_on_page(&browser), "dual-write");
    browser.wait_text("#history-note", "The history cannot be read now");
    browser.wait_text("#link", "live");
    browser.wait_text("#members li:first-child", "not reached");
    // 503 is what was wanted; the browser notes each.
    let away = browser.complaints();
    assert!(!away.is_empty() && away.iter().all(|line| line.contains("/phase/") && line.contains("503")), "{away:?}");
    assert!(browser.inaccessible().is_empty(), "{:?}", browser.inaccessible());
    browser.screenshot("without-etcd-screen-light");
}

/// With a token the page is there for everybody, and shows nothing to who has none.
#[test]
fn the_token_is_asked_for_once_and_kept_in_this_tab_alone() {
    let redis = RedisServer::start();
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "correct-horse-battery").unwrap();
    let admin = format!("token_file = {:?}", token.path());
    let whole = Whole::start_unserved(&Setup { admin, ..Setup::new(&redis, "kask-first") });
    let browser = Browser::start();
    browser.open(&console(&whole));
    browser.wait("the token is asked for", |page| page.sees("#token"));
    assert_eq!(browser.focus(), "token");
    assert!(
        !browser.sees("#stash") && !browser.script("return document.body.innerText").to_string().contains("echoseen")
    );
    // 401 is what was wanted; the browser notes each.
    let locked = browser.complaints();
    assert!(locked.iter().all(|line| line.contains("401")), "{locked:?}");
    assert_well(&browser, "locked");
    browser.screenshot("locked-screen-light");
    browser.keys("wrong");
    browser.keys(ENTER);
    browser.wait_text("#login-error", "This token is not the one.");
    browser.keys("correct-horse-battery");
    browser.keys(ENTER);
    browser.wait("it is unlocked", |page| page.sees("#phases .now"));
    browser.reload();
    browser.wait("it is kept over a reload", |page| page.sees("#phases .now"));
    let kept = browser.script("return [sessionStorage.getItem('decant.token'), localStorage.length, document.cookie]");
    assert_eq!(kept, json!(["correct-horse-battery", 0, ""]));
    browser.wait("the guards are told", |page| page.sees("#guards [data-guard]"));
    browser.fill("#reason", "r");
    browser.fill("#by", "Ada");
    browser.click("#targets input[value=dual-write]");
    browser.click("#move");
    browser.wait_text("#outcome", "The move to dual-write has settled.");
    assert_eq!(phase_on_page(&browser), "dual-write");
}
