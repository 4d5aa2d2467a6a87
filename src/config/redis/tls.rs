//! What TLS needs, read and looked through.

use super::shard::Tables;
use crate::config::image::ShardImage;
use crate::config::model::TlsConfig;
use crate::config::review::Review;
use crate::config::secret_file;
use std::{fs, io::Read as _, path::Path};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};

/// The largest file of certificates that is read, in bytes: a whole system's fits several times.
const CERTIFICATES_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Keys that count with TLS only.
const KEYS: [&str; 4] = ["ca_file", "client_cert_file", "client_key_file", "tls_name"];

/// None: a fault, which is in `review`.
pub(super) fn tls(tables: &Tables, image: &ShardImage, review: &mut Review) -> Option<TlsConfig> {
    let mut read = |name: &str, path: Option<&Path>| match path {
        None => Some(None),
        Some(path) => certificates(&tables.key(name, review), path, review).map(Some),
    };
    let ca = read("ca_file", image.ca_file.as_deref());
    let certificate = read("client_cert_file", image.client_cert_file.as_deref());
    let key = match image.client_key_file.as_deref() {
        None => Some(None),
        Some(path) => private_key(&tables.key("client_key_file", review), path, review).map(Some),
    };
    if let Some(name) = &image.tls_name
        && ServerName::try_from(name.as_str()).is_err()
    {
        let todo = "write the host name or the IP address that stands in Redis's certificate";
        review.fault(&tables.key("tls_name", review), format!("{name:?} is no name of a server"), todo);
        return None;
    }
    let client = match (certificate?, key?) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (given, _) => {
            let (has, lacks) = match given {
                Some(_) => ("client_cert_file", "client_key_file"),
                None => ("client_key_file", "client_cert_file"),
            };
            let todo = format!("set {lacks} too: a certificate is of no use without its key");
            review.fault(&tables.key(has, review), "is set, and its other half is not", todo);
            return None;
        }
    };
    Some(TlsConfig { ca: ca?, client, name: image.tls_name.clone() })
}

/// Faults of keys that stand in `table`, where no TLS is spoken.
pub(super) fn unused(table: &str, review: &mut Review) {
    for key in KEYS.map(|name| format!("{table}.{name}")) {
        if review.place_known(&key) {
            let todo = "remove it, or speak TLS: a rediss:// URL, or tls = true beside sentinels";
            review.fault(&key, "means something with TLS only, and there is none", todo);
        }
    }
}

fn certificates(key: &str, path: &Path, review: &mut Review) -> Option<Vec<u8>> {
    let (shown, mut bytes) = (path.display(), Vec::new());
    let read = fs::File::open(path).and_then(|file| file.take(CERTIFICATES_BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        let todo = "name a file of certificates in PEM that decant's user can read";
        review.fault(key, format!("the file {shown} cannot be read: {error}"), todo);
        return None;
    }
    let good = bytes.len() as u64 <= CERTIFICATES_BYTES_MAX
        && CertificateDer::pem_slice_iter(&bytes)
            .try_fold(0_usize, |count, one| one.map(|_| count + 1))
            .is_ok_and(|n| n > 0);
    if !good {
        let todo = "name a file of certificates in PEM: each begins with -----BEGIN CERTIFICATE-----";
        review.fault(key, format!("the file {shown} holds no certificates, or something else as well"), todo);
        return None;
    }
    Some(bytes)
}

fn private_key(key: &str, path: &Path, review: &mut Review) -> Option<crate::config::Secret> {
    let secret = secret_file::either(key.trim_end_matches("_file"), None, Some(path), review)?;
    if PrivateKeyDer::from_pem_slice(secret.expose()).is_err() {
        let todo = "name a file with one private key in PEM, without a passphrase";
        review.fault(key, format!("the file {} holds no private key", path.display()), todo);
        return None;
    }
    Some(secret)
}
