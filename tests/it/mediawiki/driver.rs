//! The PHP process that holds MediaWiki's store classes, and the values it speaks in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value as Json, json};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A command that has no answer by then is a fault: ten times what the slowest (a merge against a store that hangs) takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// What is kept of PHP's standard error, in bytes.
const STDERR_BYTES_MAX: usize = 64 * 1024;

/// Where the PHP files are; the tests run from the crate's root.
pub fn php_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/mediawiki").join(name)
}

pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// A PHP value as PHP's `serialize()` spells it: equal bytes are the same value of the same type.
#[derive(Clone, PartialEq, Eq)]
pub struct Php(pub Vec<u8>);

impl Php {
    /// What `get` answers for a miss: PHP's `false`.
    pub fn miss() -> Php {
        Php::bool(false)
    }

    pub fn bool(value: bool) -> Php {
        Php(format!("b:{};", u8::from(value)).into_bytes())
    }

    pub fn int(value: i64) -> Php {
        Php(format!("i:{value};").into_bytes())
    }

    pub fn string(value: impl AsRef<[u8]>) -> Php {
        let value = value.as_ref();
        let mut bytes = format!("s:{}:\"", value.len()).into_bytes();
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\";");
        Php(bytes)
    }

    /// A list: `[0 => first, 1 => second, ...]`.
    pub fn list(values: &[Php]) -> Php {
        let mut bytes = format!("a:{}:{{", values.len()).into_bytes();
        for (index, value) in values.iter().enumerate() {
            bytes.extend_from_slice(format!("i:{index};").as_bytes());
            bytes.extend_from_slice(&value.0);
        }
        bytes.push(b'}');
        Php(bytes)
    }
}

impl fmt::Debug for Php {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", shown(&self.0))
    }
}

/// Bytes for a person: escaped, and cut where they are long.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 200;
    let head = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let cut = if bytes.len() > head.len() { format!("... ({} bytes)", bytes.len()) } else { String::new() };
    format!("\"{}\"{cut}", head.escape_ascii())
}

/// What a store answered.
#[derive(Debug)]
pub struct Reply {
    pub value: Php,
    /// BagOStuff's `getLastError()`: 0 none, 1 no response, 2 unreachable, 3 unexpected.
    pub error: i64,
    /// What MediaWiki logged, and PHP's own notices.
    pub log: Vec<String>,
}

/// What plain curl got.
#[derive(Debug)]
pub struct Raw {
    /// 0 where there was no HTTP answer at all.
    pub status: u16,
    /// Names in lower case.
    pub headers: Json,
    pub body: Vec<u8>,
}

/// A random key's components and its value.
pub type RandomItem = (Vec<Vec<u8>>, Php);

/// A running driver. It ends with this value.
pub struct MediaWiki {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl MediaWiki {
    /// Starts PHP; the first command tells whether it came up.
    pub fn start() -> Result<MediaWiki, String> {
        let mut child = Command::new("php")
            .arg(php_file("driver.php"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("php did not start: {e}; deploy/test.sh installs it (php-cli)"))?;
        let stdin = child.stdin.take().ok_or("php has no standard input")?;
        let stdout = child.stdout.take().ok_or("php has no standard output")?;
        let mut errors = child.stderr.take().ok_or("php has no standard error")?;

        let (send, answers) = sync_channel(1);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&stderr);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = errors.read(&mut buffer) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let room = STDERR_BYTES_MAX.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..n.min(room)]);
            }
        });
        Ok(MediaWiki { child, stdin, answers, stderr })
    }

    /// One command, one answer. An exception in PHP is an error here.
    pub fn command(&mut self, command: &Json) -> Result<Json, String> {
        let op = command["op"].as_str().unwrap_or("?").to_owned();
        let sent = writeln!(self.stdin, "{command}").and_then(|()| self.stdin.flush());
        let line = match (sent, self.answers.recv_timeout(ANSWER_TIMEOUT)) {
            (Ok(()), Ok(line)) => line,
            (Ok(()), Err(RecvTimeoutError::Timeout)) => {
                return Err(format!("php did not answer '{op}' within {ANSWER_TIMEOUT:?}; it said: {}", self.said()));
            }
            _ => return Err(format!("php ended during '{op}'; it said: {}", self.said())),
        };
        let answer: Json = serde_json::from_str(&line)
            .map_err(|e| format!("php answered '{op}' with {}: {e}", shown(line.as_bytes())))?;
        match answer.get("exception") {
            Some(exception) => Err(format!("php threw in '{op}': {exception}")),
            None => Ok(answer),
        }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// A RedisBagOStuff. `server` is `host:port` or the path of a Unix socket.
    pub fn redis_store(&mut self, server: &str) -> Result<Store, String> {
        self.make("RedisBagOStuff", json!({"servers": [server], "keyspace": "enwiki"}), None)
    }

    /// A RESTBagOStuff configured as for Kask in production. `serialization_type` is `JSON` or `PHP`.
    pub fn rest_store(&mut self, url: &str, serialization: &str, hmac_key: Option<&[u8]>) -> Result<Store, String> {
        let params = json!({
            "url": url, "keyspace": "enwiki", "serialization_type": serialization,
            "httpParams": {"writeMethod": "POST", "writeHeaders": {"content-type": "application/octet-stream"}},
            "extendedErrorBodyFields": ["type", "title", "detail", "instance"],
        });
        self.make("RESTBagOStuff", params, hmac_key)
    }

    /// Any store, with parameters as in `$wgObjectCaches`.
    pub fn make(&mut self, class: &str, params: Json, hmac_key: Option<&[u8]>) -> Result<Store, String> {
        let name = format!("{class} {params} {hmac_key:?}");
        let mut command = json!({"op": "make", "store": name, "class": class, "params": params});
        if let Some(key) = hmac_key {
            command["hmac_key"] = json!(base64(key));
        }
        self.command(&command)?;
        Ok(Store { name })
    }

    /// A plain request with curl; redirects are not followed.
    pub fn curl(&mut self, method: &str, url: &str) -> Result<Raw, String> {
        let answer = self.command(&json!({"op": "curl", "method": method, "url": url}))?;
        let status = answer["status"].as_u64().unwrap_or(0);
        if status == 0 {
            return Err(format!("curl {method} {url}: {}", answer["problem"]));
        }
        let status = u16::try_from(status).map_err(|e| e.to_string())?;
        Ok(Raw { status, headers: answer["headers"].clone(), body: decoded(&answer["body"])? })
    }

    /// Values of every PHP type: (name, value). `plain` are those that JSON carries, `hard` those that it does not, `deep`
    /// those that are nested deeper than JSON goes in PHP.
    pub fn values(&mut self, kind: &str) -> Result<Vec<(String, Php)>, String> {
        let answer = self.command(&json!({"op": "values", "kind": kind}))?;
        let list = answer["items"].as_array().ok_or("no list of values")?;
        list.iter()
            .map(|item| Ok((item["name"].as_str().unwrap_or("?").to_owned(), Php(decoded(&item["value"])?))))
            .collect()
    }

    /// `count` random items, the same for the same seed. `hard` adds objects and invalid UTF-8.
    pub fn random(&mut self, seed: u32, count: usize, hard: bool) -> Result<Vec<RandomItem>, String> {
        let answer = self.command(&json!({"op": "random", "seed": seed, "count": count, "hard": hard}))?;
        let mut items = Vec::new();
        for item in answer["items"].as_array().ok_or("no list of items")? {
            let components = item["components"].as_array().ok_or("no components")?;
            let components = components.iter().map(decoded).collect::<Result<_, _>>()?;
            items.push((components, Php(decoded(&item["value"])?)));
        }
        Ok(items)
    }
}

impl Drop for MediaWiki {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A store inside the driver. Its methods are BagOStuff's.
#[derive(Clone)]
pub struct Store {
    name: String,
}

impl Store {
    pub fn get(&self, mw: &mut MediaWiki, key: &[u8]) -> Result<Reply, String> {
        self.on_key(mw, "get", key, json!({}))
    }

    /// `ttl_s` 0 is for ever; RESTBagOStuff never sends it.
    pub fn set(&self, mw: &mut MediaWiki, key: &[u8], value: &Php, ttl_s: u64) -> Result<Reply, String> {
        self.on_key(mw, "set", key, json!({"value": base64(&value.0), "ttl": ttl_s}))
    }

    pub fn add(&self, mw: &mut MediaWiki, key: &[u8], value: &Php) -> Result<Reply, String> {
        self.on_key(mw, "add", key, json!({"value": base64(&value.0)}))
    }

    pub fn delete(&self, mw: &mut MediaWiki, key: &[u8]) -> Result<Reply, String> {
        self.on_key(mw, "delete", key, json!({}))
    }

    pub fn incr(&self, mw: &mut MediaWiki, key: &[u8], by: i64) -> Result<Reply, String> {
        self.on_key(mw, "incr", key, json!({"by": by}))
    }

    pub fn decr(&self, mw: &mut MediaWiki, key: &[u8], by: i64) -> Result<Reply, String> {
        self.on_key(mw, "decr", key, json!({"by": by}))
    }

    pub fn incr_with_init(&self, mw: &mut MediaWiki, key: &[u8], by: i64, init: i64) -> Result<Reply, String> {
        self.on_key(mw, "incrWithInit", key, json!({"by": by, "init": init}))
    }

    /// Appends `value` to the list at the key by compare-and-set. With `interfere`, that value is stored by another hand
    /// between the read and the write of the first attempt. Also answers what each attempt read.
    pub fn merge(
        &self,
        mw: &mut MediaWiki,
        key: &[u8],
        value: &Php,
        interfere: Option<&Php>,
    ) -> Result<(Reply, Vec<Php>), String> {
        let mut more = json!({"value": base64(&value.0)});
        if let Some(other) = interfere {
            more["interfere"] = json!(base64(&other.0));
        }
        let answer = mw.command(&self.command("merge", key, more))?;
        let seen = answer["seen"].as_array().ok_or("merge told nothing of its attempts")?;
        let seen = seen.iter().map(|value| decoded(value).map(Php)).collect::<Result<_, _>>()?;
        Ok((reply(&answer)?, seen))
    }

    pub fn get_multi(&self, mw: &mut MediaWiki, keys: &[&[u8]]) -> Result<Vec<(Vec<u8>, Php)>, String> {
        let keys: Vec<_> = keys.iter().map(|key| base64(key)).collect();
        let answer = mw.command(&json!({"op": "getMulti", "store": self.name, "keys": keys}))?;
        let pairs = answer["pairs"].as_array().ok_or("getMulti answered no pairs")?;
        pairs.iter().map(|pair| Ok((decoded(&pair[0])?, Php(decoded(&pair[1])?)))).collect()
    }

    pub fn set_multi(&self, mw: &mut MediaWiki, pairs: &[(&[u8], Php)]) -> Result<Reply, String> {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| json!([base64(key), base64(&value.0)])).collect();
        reply(&mw.command(&json!({"op": "setMulti", "store": self.name, "pairs": pairs}))?)
    }

    pub fn delete_multi(&self, mw: &mut MediaWiki, keys: &[&[u8]]) -> Result<Reply, String> {
        let keys: Vec<_> = keys.iter().map(|key| base64(key)).collect();
        reply(&mw.command(&json!({"op": "deleteMulti", "store": self.name, "keys": keys}))?)
    }

    /// The key that MediaWiki makes of these components, in the wiki `enwiki`.
    pub fn make_key(&self, mw: &mut MediaWiki, components: &[&[u8]]) -> Result<Vec<u8>, String> {
        self.key(mw, "makeKey", components)
    }

    pub fn make_global_key(&self, mw: &mut MediaWiki, components: &[&[u8]]) -> Result<Vec<u8>, String> {
        self.key(mw, "makeGlobalKey", components)
    }

    /// The bytes that this class stores for a value.
    pub fn encode(&self, mw: &mut MediaWiki, value: &Php) -> Result<Vec<u8>, String> {
        decoded(&mw.command(&json!({"op": "encode", "store": self.name, "value": base64(&value.0)}))?["bytes"])
    }

    /// The value that this class reads from such bytes.
    pub fn decode(&self, mw: &mut MediaWiki, bytes: &[u8]) -> Result<Php, String> {
        let answer = mw.command(&json!({"op": "decode", "store": self.name, "bytes": base64(bytes)}))?;
        Ok(reply(&answer)?.value)
    }

    fn key(&self, mw: &mut MediaWiki, op: &str, components: &[&[u8]]) -> Result<Vec<u8>, String> {
        let components: Vec<_> = components.iter().map(|part| base64(part)).collect();
        decoded(&mw.command(&json!({"op": op, "store": self.name, "components": components}))?["key"])
    }

    fn on_key(&self, mw: &mut MediaWiki, op: &str, key: &[u8], more: Json) -> Result<Reply, String> {
        reply(&mw.command(&self.command(op, key, more))?)
    }

    fn command(&self, op: &str, key: &[u8], mut more: Json) -> Json {
        more["op"] = json!(op);
        more["store"] = json!(self.name);
        more["key"] = json!(base64(key));
        more
    }
}

fn reply(answer: &Json) -> Result<Reply, String> {
    let log = answer["log"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(Reply {
        value: Php(decoded(&answer["value"])?),
        error: answer["error"].as_i64().ok_or("the driver told no getLastError()")?,
        log: log.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect(),
    })
}

fn decoded(text: &Json) -> Result<Vec<u8>, String> {
    let text = text.as_str().ok_or_else(|| format!("the driver answered {text} where base64 was expected"))?;
    BASE64.decode(text).map_err(|e| format!("the driver answered bad base64: {e}"))
}
