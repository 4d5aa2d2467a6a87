//! What the scenarios stand on: where decant is, MediaWiki's two stores in front of it, and a look past it into the tiers.

use super::driver::{MediaWiki, Php, Raw, Reply, Store, shown};
use redis::Commands;
use std::time::{Duration, Instant};

/// Where decant serves, and how its stash is configured.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The base URL of the stash, with its trailing slash: `http://127.0.0.1:8081/echoseen/v1/`.
    pub rest_url: String,
    /// The stash's Redis: `host:port`, or the path of a Unix socket.
    pub redis_addr: String,
    /// `JSON` or `PHP`, as MediaWiki spells `serialization_type`.
    pub serialization: &'static str,
    pub hmac_key: Option<Vec<u8>>,
    /// The stash's Kask, past decant. Give it only in `kask-first`: then the scenarios also check what Kask itself holds,
    /// that reads are repaired, and that either tier alone gives the same bytes.
    pub kask_url: Option<String>,
    /// Where decant's metrics are, if they are to be checked.
    pub metrics_url: Option<String>,
    /// What decant does behind an answer (a repair, a mirror) is seen by then, or is a fault. 10 s is generous.
    pub patience: Duration,
}

impl Stage {
    pub fn is_json(&self) -> bool {
        self.serialization == "JSON"
    }
}

/// One scenario under way: the stores are made, and its keys are its own.
pub struct Scene {
    pub mw: MediaWiki,
    pub stage: Stage,
    /// RESTBagOStuff, through decant.
    pub rest: Store,
    /// RedisBagOStuff, past decant.
    pub redis: Store,
    raw_redis: redis::Connection,
    group: String,
}

impl Scene {
    pub fn set(stage: &Stage) -> Result<Scene, String> {
        let mut mw = MediaWiki::start()?;
        let rest = mw.rest_store(&stage.rest_url, stage.serialization, stage.hmac_key.as_deref())?;
        let redis = mw.redis_store(&stage.redis_addr)?;
        let url = match stage.redis_addr.strip_prefix('/') {
            Some(path) => format!("redis+unix:///{path}"),
            None => format!("redis://{}/", stage.redis_addr),
        };
        let raw_redis = redis::Client::open(url)
            .and_then(|client| client.get_connection())
            .map_err(|e| format!("redis at {}: {e}", stage.redis_addr))?;
        // Scenarios may run again on tiers that hold the keys of earlier runs.
        let group = format!("decant{:016x}", fastrand::u64(..));
        Ok(Scene { mw, stage: stage.clone(), rest, redis, raw_redis, group })
    }

    /// A key of this scene, made by MediaWiki from these components.
    pub fn key(&mut self, components: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut all = vec![self.group.as_bytes()];
        all.extend_from_slice(components);
        let rest_key = self.rest.make_key(&mut self.mw, &all)?;
        let redis_key = self.redis.make_key(&mut self.mw, &all)?;
        if rest_key != redis_key {
            return Err(format!("MediaWiki's stores make two keys: {} and {}", shown(&rest_key), shown(&redis_key)));
        }
        Ok(rest_key)
    }

    /// The values that this stash can carry: (name, value).
    pub fn carried_values(&mut self) -> Result<Vec<(String, Php)>, String> {
        let mut values = self.mw.values("plain")?;
        if !self.stage.is_json() {
            values.extend(self.mw.values("hard")?);
        }
        Ok(values)
    }

    /// The body that RESTBagOStuff writes for the value, and the value that it reads from it (JSON makes 1.0 an int).
    pub fn envelope(&mut self, value: &Php) -> Result<(Vec<u8>, Php), String> {
        let body = self.rest.encode(&mut self.mw, value)?;
        let read = self.rest.decode(&mut self.mw, &body)?;
        Ok((body, read))
    }

    /// `get` through decant: the value, which must come without an error or a line in MediaWiki's log.
    pub fn read(&mut self, key: &[u8]) -> Result<Php, String> {
        clean(self.rest.get(&mut self.mw, key)?, "get through decant", key)
    }

    /// `get` through decant must give this value.
    pub fn expect_read(&mut self, key: &[u8], expected: &Php, what: &str) -> Result<(), String> {
        same(&self.read(key)?, expected, &format!("{what}: get through decant"), key)
    }

    /// `set` through decant must succeed.
    pub fn write(&mut self, key: &[u8], value: &Php) -> Result<(), String> {
        let done = clean(self.rest.set(&mut self.mw, key, value, 0)?, "set through decant", key)?;
        same(&done, &Php::bool(true), "set through decant", key)
    }

    /// `delete` through decant must succeed.
    pub fn remove(&mut self, key: &[u8]) -> Result<(), String> {
        let done = clean(self.rest.delete(&mut self.mw, key)?, "delete through decant", key)?;
        same(&done, &Php::bool(true), "delete through decant", key)
    }

    /// `set` by RedisBagOStuff, past decant, with a TTL of an hour.
    pub fn write_redis(&mut self, key: &[u8], value: &Php) -> Result<(), String> {
        let done = clean(self.redis.set(&mut self.mw, key, value, 3600)?, "set in Redis", key)?;
        same(&done, &Php::bool(true), "set in Redis", key)
    }

    /// `get` by RedisBagOStuff, past decant.
    pub fn read_redis(&mut self, key: &[u8]) -> Result<Php, String> {
        clean(self.redis.get(&mut self.mw, key)?, "get from Redis", key)
    }

    /// What Redis holds, to the byte.
    pub fn redis_bytes(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.raw_redis.get(key).map_err(|e| format!("GET {} from Redis: {e}", shown(key)))
    }

    /// What a GET through decant answers, to the byte.
    pub fn raw(&mut self, key: &[u8]) -> Result<Raw, String> {
        let url = format!("{}{}", self.stage.rest_url, rawurlencode(key));
        self.mw.curl("GET", &url)
    }

    /// A GET through decant must answer 200 and this body; tells which tier served it, where decant says so.
    pub fn expect_raw(&mut self, key: &[u8], body: &[u8], what: &str) -> Result<Option<String>, String> {
        let raw = self.raw(key)?;
        if raw.status != 200 || raw.body != body {
            let got = format!("{} with {}", raw.status, shown(&raw.body));
            return Err(format!("{what}: GET {}: {got}; expected 200 with {}", shown(key), shown(body)));
        }
        Ok(raw.headers["decant-tier"].as_str().map(str::to_owned))
    }

    /// A plus may stand in a URL as it is (MediaWiki spells it %2B): both are the same key.
    pub fn expect_literal_plus(&mut self, key: &[u8], body: &[u8]) -> Result<(), String> {
        let url = format!("{}{}", self.stage.rest_url, rawurlencode(key).replace("%2B", "+"));
        let raw = self.mw.curl("GET", &url)?;
        if raw.status == 200 && raw.body == body {
            return Ok(());
        }
        Err(format!("GET {url} with a bare plus: {} with {}; expected {}", raw.status, shown(&raw.body), shown(body)))
    }

    /// What Kask itself holds; `None` too where the stage has no look at it.
    pub fn kask_bytes(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let Some(kask) = &self.stage.kask_url else { return Ok(None) };
        let url = format!("{kask}{}", rawurlencode(key));
        let raw = self.mw.curl("GET", &url)?;
        match raw.status {
            200 => Ok(Some(raw.body)),
            404 => Ok(None),
            status => Err(format!("Kask answered GET {} with {status}: {}", shown(key), shown(&raw.body))),
        }
    }

    /// Deletes in Kask, past decant, as if Kask had never had the key.
    pub fn forget_in_kask(&mut self, key: &[u8]) -> Result<(), String> {
        let kask = self.stage.kask_url.clone().ok_or("this stage has no look at Kask")?;
        let raw = self.mw.curl("DELETE", &format!("{kask}{}", rawurlencode(key)))?;
        if raw.status == 204 { Ok(()) } else { Err(format!("Kask answered DELETE with {}", raw.status)) }
    }

    /// The sum of `decant_untranscodable_total`; `None` where the metrics are not to be checked.
    pub fn untranscodable(&mut self) -> Result<Option<f64>, String> {
        let Some(url) = self.stage.metrics_url.clone() else { return Ok(None) };
        let raw = self.mw.curl("GET", &url)?;
        let text = String::from_utf8_lossy(&raw.body).into_owned();
        let lines = text.lines().filter(|line| line.starts_with("decant_untranscodable_total"));
        Ok(Some(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()))
    }

    /// Looks until it is so; the last look's error is the answer if that never comes.
    pub fn eventually(&mut self, mut look: impl FnMut(&mut Scene) -> Result<(), String>) -> Result<(), String> {
        let patience = self.stage.patience;
        let end = Instant::now() + patience;
        loop {
            match look(self) {
                Ok(()) => return Ok(()),
                Err(e) if Instant::now() > end => return Err(format!("{e} (still so after {patience:?})")),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// The value of a reply that must have come without an error or a line in MediaWiki's log.
pub fn clean(reply: Reply, what: &str, key: &[u8]) -> Result<Php, String> {
    if reply.error != 0 || !reply.log.is_empty() {
        let (error, log) = (reply.error, reply.log);
        return Err(format!("{what} of {}: getLastError() is {error}, MediaWiki logged {log:?}", shown(key)));
    }
    Ok(reply.value)
}

pub fn same(got: &Php, expected: &Php, what: &str, key: &[u8]) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what} of {}: {got:?}; expected {expected:?}", shown(key))) }
}

/// PHP's rawurlencode: RFC 3986's unreserved characters as they are, every other byte as %XX.
pub fn rawurlencode(key: &[u8]) -> String {
    let spell = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    key.iter().map(spell).collect()
}
