//! What stands in deploy/prometheus and deploy/grafana: the rules pass their own tests, and over a real Prometheus that scrapes a real
//! decant through a whole migration no query and no rule is empty.

mod prometheus;

use crate::{
    redis_server::RedisServer,
    whole::{Kask, Setup, Whole, redis_set, wait_until},
};
use decant::telemetry::catalogue;
use prometheus::Prometheus;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

/// Keys that are there from the beginning. Prime, so that each is read and written.
const KEYS: usize = 101;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap()
}

#[test]
fn the_rules_pass_promtool() {
    for args in [&["check", "rules", "recording.yaml", "alerts.yaml"][..], &["test", "rules", "alerts.test.yaml"]] {
        let run = Command::new("promtool").args(args).current_dir(deploy("prometheus")).output();
        let run = run.unwrap_or_else(|e| panic!("promtool: {e}; it is needed here: apt-get install prometheus"));
        let told = [run.stdout, run.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(run.status.success(), "promtool {args:?}: {told}");
    }
}

/// Each alert is expected to fire in one case, and not to in another.
#[test]
fn every_alert_is_tested_both_ways() {
    let (rules, tests) = (text("prometheus/alerts.yaml"), text("prometheus/alerts.test.yaml"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 16, "{alerts:?}");
    for alert in alerts {
        let is_of_it = |line: &&str| {
            line.contains(&format!("alertname: {alert},")) || line.ends_with(&format!("alertname: {alert}"))
        };
        let quiet = tests.lines().filter(is_of_it).any(|line| line.contains("exp_alerts: []"));
        let fires = tests.lines().filter(is_of_it).any(|line| !line.contains("exp_alerts"));
        assert!(quiet && fires, "{alert}: quiet {quiet}, fires {fires}");
    }
}

/// One query of the dashboard: where it stands, and what it asks.
struct Query {
    panel: String,
    expr: String,
}

/// Every query of the dashboard, its variables and annotations included, as Grafana would send it.
fn dashboard() -> Vec<Query> {
    let document: Value = serde_json::from_str(&text("grafana/decant.json")).unwrap();
    let mut found = Vec::new();
    let mut take = |panel: &str, expr: &Value| {
        let expr = expr.as_str().unwrap_or_else(|| panic!("{panel} has no expr"));
        let expr = expr.replace("$__rate_interval", "10s").replace("$stash", ".+").replace("$job", ".+");
        assert!(!expr.contains('$'), "{panel}: {expr}");
        found.push(Query { panel: panel.to_owned(), expr });
    };
    for panel in document["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{title} is not described");
        panel["targets"].as_array().unwrap().iter().for_each(|target| take(title, &target["expr"]));
    }
    let moves = document["annotations"]["list"].as_array().unwrap().iter().filter(|list| list["builtIn"] != 1);
    moves.for_each(|list| take("annotations", &list["expr"]));
    for variable in document["templating"]["list"].as_array().unwrap().iter().filter(|v| v["type"] == "query") {
        let query = variable["query"]["query"].as_str().unwrap();
        let selector = query.strip_prefix("label_values(").unwrap().rsplit_once(", ").unwrap().0;
        take("variables", &json!(selector));
    }
    found
}

/// `level:metric:operation`; `5m:` is a subquery's.
fn is_recorded(name: &str) -> bool {
    name.matches(':').count() == 2
}

/// The series that an expression selects, with what they select by: `decant_reads_total{served_by="redis"}`.
fn selectors(expr: &str) -> BTreeSet<&str> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = BTreeSet::new();
    let mut rest = expr;
    while let Some(at) = rest.find(is_of_a_name) {
        rest = &rest[at..];
        let end = rest.find(|c| !is_of_a_name(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        let whole = if rest[end..].starts_with('{') { end + rest[end..].find('}').unwrap() + 1 } else { end };
        if ["decant_", "http_", "process_"].iter().any(|begin| name.starts_with(begin)) || is_recorded(name) {
            found.insert(&rest[..whole]);
        }
        // A string holds nothing that is asked for.
        rest = match rest[end..].strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').map_or("", |(_, behind)| behind),
            None => &rest[whole.max(end)..],
        };
    }
    found
}

#[test]
fn selectors_are_found_with_their_labels() {
    let found = selectors("sum by (decant, le) (rate(decant_a{x=~\"b|c\"}[5m])) > 0.5 and job:x:y or http_b offset 5m");
    assert_eq!(found, BTreeSet::from(["decant_a{x=~\"b|c\"}", "job:x:y", "http_b"]));
}

/// A name that nobody exports makes an alert that never fires.
#[test]
fn every_metric_that_is_asked_for_is_in_the_catalogue() {
    let mut asked: Vec<String> = dashboard().into_iter().map(|query| query.expr).collect();
    let rules = ["prometheus/recording.yaml", "prometheus/alerts.yaml"].map(text);
    asked.extend(
        rules.iter().flat_map(|rules| rules.lines()).filter(|line| !line.trim().starts_with('#')).map(str::to_owned),
    );
    for selector in asked.iter().flat_map(|expr| selectors(expr)) {
        let name = selector.split('{').next().unwrap();
        if is_recorded(name) {
            assert!(rules[0].contains(&format!("- record: {name}\n")), "nothing records {name}");
            continue;
        }
        let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(catalogue::find(base).is_some() || base.starts_with("process_"), "there is no metric {name}");
    }
}

/// What a migration is steered by is to be seen, or is told of by an alert.
#[test]
fn what_is_tried_copied_compared_and_lost_is_shown() {
    let shown: String = dashboard().into_iter().map(|query| query.expr + "\n").collect();
    let steered_by = ["decant_backfill_", "decant_verify_", "decant_phase_ahead"];
    for metric in
        catalogue::METRICS.iter().filter(|metric| steered_by.iter().any(|begin| metric.name.starts_with(begin)))
    {
        assert!(shown.contains(metric.name), "no panel shows {}", metric.name);
    }
    assert!(shown.contains("ahead=\"true\""), "no panel tells keys that are ahead from the others");
    assert!(text("prometheus/alerts.yaml").contains("decant_shard_suspect"), "no alert tells of lost writes");
}

/// Reads and writes until told to stop; keys that are there stay there.
fn load(whole: &Whole, stop: &AtomicBool) {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let key = format!("enwiki%3Akey%3A{}", n * 7 % KEYS);
        if n % 5 == 0 {
            whole.set(&key, &format!("JSON..{n}"));
        } else {
            whole.get(&key);
        }
    }
}

/// As an operator who has looked: the guards are not what is shown here.
fn move_to(whole: &Whole, phase: &str) {
    whole.begin_move(phase, json!({ "force": true }));
    whole.wait_settled(phase);
}

const VISIBLE: &str = "sum(increase(http_request_duration_seconds_count{code=~\"5..\"}[5m])) or vector(0)";
const HIDDEN: &str = "job_stash_tier:decant_tier_errors:ratio_rate5m{tier=\"kask\"}";

#[test]
fn no_query_and_no_rule_is_empty_over_a_whole_migration() {
    let redis = RedisServer::start();
    (0..KEYS).for_each(|n| redis_set(&redis, &format!("enwiki:key:{n}"), n.to_string()));
    redis_set(&redis, "enwiki:object", "O:8:\"stdClass\":0:{}");
    let mut kask = Kask::start();
    let setup = Setup { stash: "shadow_share = 1.0".into(), ..Setup::new(&redis, "redis-only").with_kask(&kask) };
    let whole = Whole::start(&setup);
    let began = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let rules = [deploy("prometheus/recording.yaml"), deploy("prometheus/alerts.yaml")];
    let prometheus = Prometheus::start(whole.admin, &[&rules[0], &rules[1]]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also where an assertion below fails.
        let _stops = Stops(&stop);
        scope.spawn(|| load(&whole, &stop));
        migrate(&prometheus, &whole, &mut kask, &redis);
    });
    let mut empty = Vec::new();
    for Query { panel, expr } in dashboard() {
        if prometheus.samples_since(began, &expr) == 0 {
            empty.push(format!("\"{panel}\": {expr}"));
        }
    }
    let groups = prometheus.api("rules", &[]);
    for rule in groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let (name, query) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
        assert_eq!((&rule["health"], &rule["lastError"]), (&json!("ok"), &Value::Null), "{name}");
        // An alert is rightly empty in health; what it looks at is not.
        let looked_at = if rule["type"] == "recording" { BTreeSet::from([name]) } else { selectors(query) };
        assert!(!looked_at.is_empty(), "{name} looks at nothing");
        let missing = looked_at.into_iter().filter(|selector| prometheus.samples_since(began, selector) == 0);
        empty.extend(missing.map(|selector| format!("{name}: {selector}")));
    }
    assert!(empty.is_empty(), "without a sample:\n{}", empty.join("\n"));
}

struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// From redis-only to kask-only, with an outage of Kask in between.
fn migrate(prometheus: &Prometheus, whole: &Whole, kask: &mut Kask, redis: &RedisServer) {
    let reads = |by: &str| format!("sum(rate(decant_reads_total{{served_by=\"{by}\"}}[10s]))");
    let scraped_in = |phase: &str| {
        prometheus.wait_for(&format!("sum_over_time(decant_phase{{phase=\"{phase}\"}}[10m])"), |times| times >= 8.0);
    };
    whole.get("enwiki%3Anever");
    prometheus.wait_for(&reads("redis"), |rate| rate > 0.0);
    scraped_in("redis-only");
    move_to(whole, "dual-write");
    whole.get("enwiki%3Aobject");
    prometheus.wait_for("sum(rate(decant_shadow_reads_total{result=\"match\"}[10s]))", |rate| rate > 0.0);
    scraped_in("dual-write");
    move_to(whole, "kask-first");
    prometheus.wait_for(&reads("kask"), |rate| rate > 0.0);
    // Never copied, so that something is left for Redis to answer.
    wait_until("reads fall back", || {
        (0..8).for_each(|n| redis_set(redis, &format!("enwiki:late:{n}"), "1"));
        (0..8).for_each(|n| drop(whole.get(&format!("enwiki%3Alate%3A{n}"))));
        prometheus.value("job_stash:decant_fallback_hits:ratio_rate5m").is_some_and(|share| share > 0.0)
    });
    scraped_in("kask-first");

    // What a fallback hides from MediaWiki is hidden from Kask's alert as well, and not from decant's own.
    assert_eq!(prometheus.value(VISIBLE), Some(0.0));
    kask.kill_9();
    prometheus.wait_for(HIDDEN, |share| share > 0.02);
    prometheus.wait_for("ALERTS{alertname=\"DecantKaskErrorsHidden\",alertstate=\"pending\"}", |active| active == 1.0);
    assert_eq!(prometheus.value(VISIBLE), Some(0.0), "MediaWiki saw none of them");
    // Nobody can say that this key is nowhere. Twice, as what begins with 1 has not increased.
    wait_until("Kask's own alert counts what MediaWiki sees", || {
        assert_eq!(whole.get("enwiki%3Anowhere").status(), 503);
        prometheus.value(VISIBLE).is_some_and(|count| count > 0.0)
    });
    kask.restart();
    whole.wait_drained(redis);
    // Every key, as these are few; and half of them try the next step first.
    whole.copy_and_compare();
    let ahead = json!({ "share": 0.5, "reason": "a test", "force": true }).to_string();
    let begun = whole.admin_send("PUT", "/v1/stashes/echoseen/phase/ahead", &ahead);
    assert_eq!(begun.status(), 200, "{}", begun.text());
    prometheus.wait_for("max(decant_phase_ahead{phase=\"redis-standby\"})", |there| there == 1.0);
    prometheus.wait_for("sum(rate(decant_reads_total{ahead=\"true\"}[10s]))", |rate| rate > 0.0);
    whole.wait_settled("kask-first");

    move_to(whole, "redis-standby");
    scraped_in("redis-standby");
    move_to(whole, "kask-only");
    scraped_in("kask-only");
}
