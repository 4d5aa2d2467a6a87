//! From the raw image to a [`Config`]: what keys mean to each other. Each check adds its fault and goes on.

use super::BaseUri;
use super::image::{AdminImage, Image, LimitsImage, LogImage, millis};
use super::model::{AdminConfig, Config, LimitsConfig, LogConfig, StashConfig};
use super::review::Review;
use super::{fleet, secret_file, stash};
use std::{net::SocketAddr, path::PathBuf};

/// Shorter admin tokens can be guessed.
const TOKEN_BYTES_WISE: usize = 16;

/// `None`: there are faults, all of them in `review`. Also `Some` may come with faults; the caller looks.
pub(super) fn config(image: Image, review: &mut Review) -> Option<Config> {
    let listen = image.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8081)));
    let state_dir = image.state_dir.unwrap_or_else(|| PathBuf::from("data"));
    if state_dir.exists() && !state_dir.is_dir() {
        let what = format!("{} is not a directory", state_dir.display());
        review.fault("state_dir", what, "name a directory; it is created where it does not exist");
    }
    let admin = admin(image.admin, review);
    if clash(listen, admin.listen) {
        let what = format!("{} is already the address of the data listener ({listen})", admin.listen);
        review.fault("admin.listen", what, "give each listener a port of its own");
    }
    if image.stash.is_empty() && !review.is_faulty("stash") {
        let todo = "add a [stash.NAME] table, as in the proxy.toml of the distribution";
        review.fault("stash", "no stash is configured, so there is nothing to serve", todo);
    }
    let etcd = fleet::etcd(image.fleet, review);
    let own = [("listen", listen), ("admin.listen", admin.listen)];
    let mut stashes = Vec::new();
    let mut bases = Vec::new();
    for (name, image) in image.stash {
        // The base URIs are compared whatever else is wrong with a stash.
        let base_uri = stash::base_uri(&name, image.base_uri.as_deref(), review);
        bases.extend(base_uri.clone().map(|uri| (name.clone(), uri)));
        stashes.push(stash::stash(&name, image, base_uri, &own, review));
    }
    overlapping(&bases, review);
    let stashes: Vec<StashConfig> = stashes.into_iter().collect::<Option<_>>()?;
    shared_kask(&stashes, review);
    let etcd = etcd?;
    Some(Config { listen, state_dir, admin, limits: limits(&image.limits), log: log(&image.log), etcd, stashes })
}

fn admin(image: AdminImage, review: &mut Review) -> AdminConfig {
    let listen = image.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9081)));
    let named = image.token.is_some() || image.token_file.is_some();
    let token = secret_file::either("admin.token", image.token, image.token_file.as_deref(), review);
    let key = if review.place_known("admin.token") { "admin.token" } else { "admin.token_file" };
    if let Some(token) = &token {
        if !token.expose().iter().all(u8::is_ascii_graphic) {
            let todo = "use letters, digits and punctuation, such as the output of: openssl rand -hex 32";
            review.fault(key, "holds a character that no HTTP header can carry", todo);
        } else if token.expose().len() < TOKEN_BYTES_WISE {
            review.warn(key, format!("is shorter than {TOKEN_BYTES_WISE} characters and can be guessed"));
        }
    }
    let refused = review.is_faulty("admin.token") || review.is_faulty("admin.token_file");
    if !listen.ip().to_canonical().is_loopback() && !named && !refused {
        let what = format!("{listen} can be reached from other machines, and there is no token");
        let todo = "set admin.token_file (or DECANT_ADMIN__TOKEN), or listen on 127.0.0.1";
        review.fault("admin.listen", what, todo);
    }
    AdminConfig { listen, token }
}

/// Whether binding one would make binding the other fail (or, worse, succeed and hide it).
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (any || a.ip().to_canonical() == b.ip().to_canonical())
}

fn overlapping(bases: &[(String, BaseUri)], review: &mut Review) {
    for (i, (name, uri)) in bases.iter().enumerate() {
        for (other, other_uri) in bases.iter().take(i) {
            if uri.overlaps(other_uri) {
                let what = format!("\"{uri}\" overlaps \"{other_uri}\" of stash.{other}");
                let todo = "give every stash a path that is not under another's";
                review.fault(&format!("stash.{name}.base_uri"), what, todo);
            }
        }
    }
}

/// Two stashes on one Kask share its keys, but neither knows of the other's writes.
fn shared_kask(stashes: &[StashConfig], review: &mut Review) {
    use super::model::KaskEndpoint::Url;
    for (i, stash) in stashes.iter().enumerate() {
        for other in stashes.iter().take(i) {
            if matches!((&stash.kask.endpoint, &other.kask.endpoint), (Url(a), Url(b)) if a == b) {
                let what = format!("is the Kask of stash.{} too: their keys must not meet there", other.name);
                review.warn(&format!("stash.{}.kask.url", stash.name), what);
            }
        }
    }
}

fn limits(image: &LimitsImage) -> LimitsConfig {
    let default = LimitsConfig::default();
    LimitsConfig {
        header_bytes_max: image.header_bytes_max.unwrap_or(default.header_bytes_max),
        body_bytes_max: image.body_bytes_max.unwrap_or(default.body_bytes_max),
        held_bytes_max: image.held_bytes_max.unwrap_or(default.held_bytes_max),
        key_bytes_max: image.key_bytes_max.unwrap_or(default.key_bytes_max),
        connections_max: image.connections_max.unwrap_or(default.connections_max),
        requests_in_flight_max: image.requests_in_flight_max.unwrap_or(default.requests_in_flight_max),
        header_timeout: millis(image.header_timeout_ms, default.header_timeout),
        body_timeout: millis(image.body_timeout_ms, default.body_timeout),
        idle_timeout: millis(image.idle_timeout_ms, default.idle_timeout),
        drain_timeout: millis(image.drain_timeout_ms, default.drain_timeout),
    }
}

fn log(image: &LogImage) -> LogConfig {
    let default = LogConfig::default();
    LogConfig {
        format: image.format.unwrap_or(default.format),
        level: image.level.unwrap_or(default.level),
        log_keys: image.log_keys.unwrap_or(default.log_keys),
    }
}
