//! A real Prometheus of one's own, on a port of its own; gone when dropped.

use crate::{support::exchange, whole::wait_until};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// Between two scrapes and two evaluations: short, so that a phase of seconds has enough samples.
const EVERY: &str = "250ms";

pub struct Prometheus {
    child: Child,
    addr: SocketAddr,
    _dir: TempDir,
}

impl Prometheus {
    /// Scrapes one target as the job `decant`, with these files of rules.
    pub fn start(target: SocketAddr, rules: &[&Path]) -> Prometheus {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<String> = rules.iter().map(|path| format!("{:?}", path.to_str().unwrap())).collect();
        let config = format!(
            "global: {{ scrape_interval: {EVERY}, evaluation_interval: {EVERY} }}\nrule_files: [{}]\n\
             scrape_configs: [{{ job_name: decant, static_configs: [{{ targets: [\"{target}\"] }}] }}]\n",
            files.join(", ")
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let mut child = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"])
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus: {error}; it is needed here: apt-get install prometheus"));
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut told = String::new();
        let addr = log.by_ref().find_map(|line| {
            let addr = line.split_once("msg=\"Listening on\" address=").map(|(_, addr)| addr.trim().parse().unwrap());
            told.push_str(&format!("{line}\n"));
            addr
        });
        let Some(addr) = addr else { panic!("prometheus does not listen:\n{told}") };
        // What it goes on to say is read, so that it never waits for us.
        std::thread::spawn(move || log.for_each(drop));
        let prometheus = Prometheus { child, addr, _dir: dir };
        let is_ready = || exchange(addr, format!("GET /-/ready HTTP/1.1\r\nHost: {addr}\r\n\r\n")).status() == 200;
        wait_until("prometheus is ready", is_ready);
        wait_until("prometheus scrapes decant", || prometheus.value("up{job=\"decant\"}") == Some(1.0));
        prometheus
    }

    /// The `data` of an answer of its API.
    pub fn api(&self, page: &str, form: &[(&str, &str)]) -> Value {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        let body = body.finish();
        let method = if form.is_empty() { "GET" } else { "POST" };
        let head = format!(
            "{method} /api/v1/{page} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        );
        let raw = exchange(self.addr, format!("{head}{body}"));
        let answer: Value = serde_json::from_slice(&raw.body).unwrap_or(Value::Null);
        assert_eq!(answer["status"], "success", "{page} {form:?}: {}", raw.text());
        answer["data"].clone()
    }

    /// The first sample of an instant query; none: it is empty, or not a number.
    pub fn value(&self, query: &str) -> Option<f64> {
        let data = self.api("query", &[("query", query)]);
        let value: f64 = data["result"][0]["value"][1].as_str()?.parse().unwrap();
        Some(value).filter(|value| value.is_finite())
    }

    pub fn wait_for(&self, query: &str, holds: impl Fn(f64) -> bool) {
        wait_until(query, || self.value(query).is_some_and(&holds));
    }

    /// How many samples a query had from `start` on that are numbers.
    pub fn samples_since(&self, start: f64, query: &str) -> usize {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let (start, end) = (start.to_string(), now.to_string());
        let data = self.api("query_range", &[("query", query), ("start", &start), ("end", &end), ("step", "1")]);
        let series = data["result"].as_array().unwrap().iter();
        let finite =
            |sample: &Value| sample[1].as_str().is_some_and(|text| text.parse().is_ok_and(|v: f64| v.is_finite()));
        series.map(|one| one["values"].as_array().unwrap().iter().filter(|sample| finite(sample)).count()).sum()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
