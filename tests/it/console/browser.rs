//! A real Chromium without a window, driven over WebDriver; gone when dropped.

use crate::{
    support::{PATIENCE, exchange},
    whole::wait_until,
};
use base64::Engine as _;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// Kept in step with `deploy/lib.sh`, which fetches it.
const AXE: &str = "target/axe-core-4.14.1/axe.min.js";
/// The name that WebDriver gives to what stands for an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub const ENTER: &str = "\u{e007}";
pub const TAB: &str = "\u{e004}";
pub const SPACE: &str = " ";
pub const DOWN: &str = "\u{e015}";

pub struct Browser {
    driver: Child,
    addr: SocketAddr,
    session: String,
    _profile: TempDir,
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The driver and its port; none: it ended before it had one.
fn start_driver() -> Option<(Child, u16)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("chromedriver: {error}; it is needed here: apt-get install chromium-driver"));
    let mut told = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
    let port = told.find_map(|line| line.split_once("successfully on port ").map(|(_, port)| port.to_owned()));
    let Some(port) = port else {
        driver.wait().unwrap();
        return None;
    };
    std::thread::spawn(move || told.for_each(drop));
    Some((driver, port.trim_end_matches('.').parse().unwrap()))
}

impl Browser {
    pub fn start() -> Browser {
        // It takes a free port of IPv4, and ends where the same of IPv6 is not free: then another one is tried.
        let (driver, port) = (0..10).find_map(|_| start_driver()).expect("chromedriver starts and tells its port");
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let profile = tempfile::tempdir().unwrap();
        // root has no sandbox, and a container no large /dev/shm.
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--hide-scrollbars",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:loggingPrefs": { "browser": "ALL" }, "goog:chromeOptions": { "args": args }
        } } });
        let mut browser = Browser { driver, addr, session: String::new(), _profile: profile };
        let made = browser.ask("POST", "/session", &wanted);
        browser.session = format!("/session/{}", made["sessionId"].as_str().unwrap());
        browser.window(1440, 900);
        browser
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.addr,
            body.len()
        );
        let raw = exchange(self.addr, request);
        let mut answer: Value = serde_json::from_slice(&raw.body).unwrap();
        let value = answer["value"].take();
        assert_eq!(raw.status(), 200, "{method} {path}: {value:#}");
        value
    }

    fn post(&self, rest: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}{rest}", self.session), body)
    }

    /// Chromium's own protocol, for what WebDriver lacks.
    fn devtools(&self, command: &str, params: Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": params }))
    }

    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    pub fn reload(&self) {
        self.post("/refresh", &json!({}));
    }

    pub fn window(&self, width: u32, height: u32) {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", params);
    }

    pub fn telephone(&self) {
        let params = json!({ "width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true });
        self.devtools("Emulation.setDeviceMetricsOverride", params);
    }

    pub fn colours(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features);
    }

    /// The whole page, also what is below the window, to `target/console/NAME.png`.
    pub fn screenshot(&self, name: &str) {
        let shot = self
            .devtools("Page.captureScreenshot", json!({ "captureBeyondViewport": true, "clip": self.whole_page() }));
        let png = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
        std::fs::create_dir_all(root("target/console")).unwrap();
        std::fs::write(root(&format!("target/console/{name}.png")), png).unwrap();
    }

    fn whole_page(&self) -> Value {
        let size = &self.devtools("Page.getLayoutMetrics", json!({}))["cssContentSize"];
        json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 })
    }

    /// The body of a function, and what it returns.
    pub fn script(&self, body: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// The text of what a selector finds first, as a person sees it; empty where it finds nothing.
    pub fn text(&self, selector: &str) -> String {
        let found = self.script(&format!("return document.querySelector({selector:?})?.innerText ?? ''"));
        found.as_str().unwrap().to_owned()
    }

    /// Whether something that a selector finds is there to be seen.
    pub fn sees(&self, selector: &str) -> bool {
        self.script(&format!("return [...document.querySelectorAll({selector:?})].some((e) => e.checkVisibility())"))
            == true
    }

    pub fn wait(&self, what: &str, holds: impl Fn(&Browser) -> bool) {
        wait_until(what, || holds(self));
    }

    pub fn wait_text(&self, selector: &str, holds: &str) {
        wait_until(&format!("{selector} has {holds:?}"), || self.text(selector).contains(holds));
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    /// As a person would: it is scrolled to, and must not be covered.
    pub fn click(&self, selector: &str) {
        self.post(&format!("/element/{}/click", self.element(selector)), &json!({}));
    }

    /// Types over what is in a field.
    pub fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("/element/{element}/clear"), &json!({}));
        self.post(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Keys, to whatever has the focus.
    pub fn keys(&self, text: &str) {
        let strokes: Vec<Value> = text
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })))
            .collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": strokes }] }));
    }

    /// What has the focus: its id, or else its text.
    pub fn focus(&self) -> String {
        let focus = self.script("const e = document.activeElement; return e.id || e.value || e.textContent.trim()");
        focus.as_str().unwrap().to_owned()
    }

    /// Presses Tab until `wanted` has the focus, which must be to be seen each time.
    pub fn tab_to(&self, wanted: &str) {
        let mut passed = Vec::new();
        for _ in 0..60 {
            self.keys(TAB);
            let outlined = "const e = document.activeElement; return e === document.body || getComputedStyle(e).outlineStyle !== 'none'";
            let focus = self.focus();
            assert!(self.script(outlined) == true, "the focus on {focus:?} is not to be seen");
            if focus == wanted {
                return;
            }
            passed.push(focus);
        }
        panic!("Tab does not lead to {wanted:?}, only to {passed:?}");
    }

    /// Everything that the console said since the last time: errors, and what the Content-Security-Policy refused.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// What axe finds serious or critical, each with where it is.
    pub fn inaccessible(&self) -> Vec<String> {
        let axe = std::fs::read_to_string(root(AXE))
            .unwrap_or_else(|error| panic!("{AXE}: {error}; it is needed here: deploy/test.sh fetches it"));
        // Chromium runs it past the page's own policy, as an extension's script.
        self.script(&format!("{axe}\n; window.axe = axe;"));
        let body = "const done = arguments[arguments.length - 1]; \
            axe.run(document, { resultTypes: ['violations'] }).then((found) => done(found.violations), (fault) => done([{ id: String(fault), impact: 'critical', nodes: [] }]))";
        let found = self.post("/execute/async", &json!({ "script": body, "args": [] }));
        let severe =
            found.as_array().unwrap().iter().filter(|one| one["impact"] == "serious" || one["impact"] == "critical");
        severe
            .map(|one| {
                let at: Vec<String> = one["nodes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|node| format!("{}: {}", node["html"], node["failureSummary"]))
                    .collect();
                format!("{} ({}): {}", one["id"], one["impact"], at.join("\n    "))
            })
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends with its session, not with its driver. Nothing here may panic: a test that failed is being left.
        let end = || -> std::io::Result<usize> {
            let mut driver = TcpStream::connect(self.addr)?;
            driver.set_read_timeout(Some(PATIENCE))?;
            driver.write_all(format!("DELETE {} HTTP/1.1\r\nHost: {}\r\n\r\n", self.session, self.addr).as_bytes())?;
            driver.read(&mut [0; 16])
        };
        let _ = end();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
