//! The `[fleet]` table checked: where the record is kept, and how etcd is reached.

use super::image::{EtcdImage, FleetImage, FleetStore, millis};
use super::model::EtcdConfig;
use super::review::Review;
use super::secret_file;
use http::Uri;
use std::{fs, path::Path, time::Duration};

const LEASE: Duration = Duration::from_secs(10);
const PREFIX: &str = "/decant";
const PREFIX_BYTES_MAX: usize = 200;
/// Of one cluster; etcd itself advises against more than seven.
const ENDPOINTS_MAX: usize = 9;
/// The largest certificate file, in bytes.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// `Some(None)`: the record stays on this decant's own disk. `None`: there are faults.
pub(super) fn etcd(image: FleetImage, review: &mut Review) -> Option<Option<EtcdConfig>> {
    match (image.store.unwrap_or(FleetStore::File), image.etcd) {
        (FleetStore::File, None) => Some(None),
        (FleetStore::File, Some(_)) => {
            if !review.is_faulty("fleet.store") {
                review.warn("fleet.etcd", "is not used: fleet.store is \"file\"");
            }
            Some(None)
        }
        (FleetStore::Etcd, etcd) => shared(etcd.unwrap_or_default(), review).map(Some),
    }
}

fn shared(image: EtcdImage, review: &mut Review) -> Option<EtcdConfig> {
    let todo = "set it to the client URLs of one etcd cluster, with commas between them: \"http://10.0.0.1:2379,http://10.0.0.2:2379\"";
    let text = review.required("fleet.etcd.endpoints", image.endpoints, todo);
    let endpoints = text.and_then(|text| endpoints(&text, review));
    let prefix = prefix(image.prefix.as_deref().unwrap_or(PREFIX), review);
    let password = secret_file::either("fleet.etcd.password", image.password, image.password_file.as_deref(), review);
    let refused = review.is_faulty("fleet.etcd.password") || review.is_faulty("fleet.etcd.password_file");
    let login = match (image.username, password) {
        (Some(user), Some(password)) => Some((user, password)),
        (Some(_), None) if !refused => {
            review.fault("fleet.etcd.username", "has no password", "set fleet.etcd.password_file as well");
            None
        }
        (None, Some(_)) => {
            review.fault("fleet.etcd.password_file", "belongs to no user", "set fleet.etcd.username as well");
            None
        }
        _ => None,
    };
    let key = secret_file::either("fleet.etcd.key", None, image.key_file.as_deref(), review);
    let ca = pem("fleet.etcd.ca_file", image.ca_file.as_deref(), review);
    let certificate = pem("fleet.etcd.cert_file", image.cert_file.as_deref(), review);
    for (has, key, lacks) in [
        (image.cert_file.is_some() && image.key_file.is_none(), "fleet.etcd.cert_file", "fleet.etcd.key_file"),
        (image.key_file.is_some() && image.cert_file.is_none(), "fleet.etcd.key_file", "fleet.etcd.cert_file"),
    ] {
        if has {
            review.fault(
                key,
                "stands alone",
                format!("set {lacks} as well: a client shows a certificate and proves it"),
            );
        }
    }
    let endpoints = endpoints?;
    let plain = endpoints.iter().any(|endpoint| endpoint.starts_with("http://"));
    if plain && (ca.is_some() || certificate.is_some()) {
        review.fault("fleet.etcd.endpoints", "holds an http:// URL, though there are certificates", "write https://");
    } else if plain && login.is_some() {
        review.warn("fleet.etcd.endpoints", "sends the password of fleet.etcd.username in the clear: use https://");
    }
    let lease = millis(image.lease_ms, LEASE);
    Some(EtcdConfig {
        endpoints,
        prefix: prefix?,
        lease: Duration::from_secs(lease.as_millis().div_ceil(1_000) as u64),
        login,
        ca,
        identity: certificate.zip(key),
    })
}

fn endpoints(text: &str, review: &mut Review) -> Option<Vec<String>> {
    let key = "fleet.etcd.endpoints";
    let mut list = Vec::new();
    for url in text.split(',').map(str::trim) {
        if !is_endpoint(url) {
            let what = "holds what is no URL of an etcd: http:// or https://, a host, and a port if it is not the scheme's, nothing else";
            review.fault(key, what, "write each as http://10.0.0.1:2379; user and password have keys of their own");
            return None;
        }
        list.push(url.trim_end_matches('/').to_owned());
    }
    if list.len() > ENDPOINTS_MAX {
        review.fault(
            key,
            format!("holds {} URLs", list.len()),
            format!("name at most {ENDPOINTS_MAX}, of one cluster"),
        );
        return None;
    }
    Some(list)
}

fn is_endpoint(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host =
        uri.authority().is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
    matches!(uri.scheme_str(), Some("http" | "https"))
        && host
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none()
}

fn prefix(text: &str, review: &mut Review) -> Option<String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.'));
    if text.len() < 2 || text.len() > PREFIX_BYTES_MAX || !text.starts_with('/') || text.ends_with('/') || !plain {
        let what = format!("is not a path of at most {PREFIX_BYTES_MAX} plain characters");
        review.fault("fleet.etcd.prefix", what, "write it as \"/decant\": a slash first, and none at the end");
        return None;
    }
    Some(text.to_owned())
}

/// A file of certificates.
fn pem(key: &str, path: Option<&Path>, review: &mut Review) -> Option<Vec<u8>> {
    let path = path?;
    let read = match fs::metadata(path) {
        Ok(about) if about.len() > PEM_BYTES_MAX => Err("it is larger than any certificate".to_owned()),
        _ => fs::read(path).map_err(|error| error.to_string()),
    };
    let read = read.and_then(|bytes| {
        let marked = bytes.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----");
        if marked { Ok(bytes) } else { Err("it holds no certificate in PEM".to_owned()) }
    });
    read.map_err(|why| {
        let what = format!("names {}, which cannot be used: {why}", path.display());
        review.fault(key, what, "name a file of PEM certificates that decant may read");
    })
    .ok()
}
