//! The raw image: what the layers say, each key for itself sound, nothing filled in.

use super::model::{AfterLoss, KetamaHash, LogFormat, LogLevel, OnTierFailure, Replication, Serialization};
use crate::phase::Phase;
use serde::{Deserialize, Deserializer};
use std::time::Duration;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};
use zeroize::Zeroizing;

/// Text that may hold a secret: wiped when dropped. (figment's own copies are not; they live until loading is done.)
pub(super) type SecretText = Zeroizing<String>;

/// Every struct here has the keys of its table in `schema`, which has already refused all others.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Image {
    pub listen: Option<SocketAddr>,
    pub state_dir: Option<PathBuf>,
    pub admin: AdminImage,
    pub log: LogImage,
    pub limits: LimitsImage,
    pub fleet: FleetImage,
    pub stash: BTreeMap<String, StashImage>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AdminImage {
    pub listen: Option<SocketAddr>,
    pub token_file: Option<PathBuf>,
    #[serde(deserialize_with = "secret_text")]
    pub token: Option<SecretText>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FleetImage {
    pub store: Option<FleetStore>,
    /// None: the table is not written.
    pub etcd: Option<EtcdImage>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FleetStore {
    File,
    Etcd,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EtcdImage {
    pub endpoints: Option<String>,
    pub prefix: Option<String>,
    pub lease_ms: Option<u64>,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    #[serde(deserialize_with = "secret_text")]
    pub password: Option<SecretText>,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogImage {
    pub format: Option<LogFormat>,
    pub level: Option<LogLevel>,
    pub log_keys: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsImage {
    pub header_bytes_max: Option<usize>,
    pub body_bytes_max: Option<usize>,
    pub held_bytes_max: Option<usize>,
    pub key_bytes_max: Option<usize>,
    pub connections_max: Option<usize>,
    pub requests_in_flight_max: Option<usize>,
    pub header_timeout_ms: Option<u64>,
    pub body_timeout_ms: Option<u64>,
    pub idle_timeout_ms: Option<u64>,
    pub drain_timeout_ms: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StashImage {
    pub base_uri: Option<String>,
    pub phase: Option<Phase>,
    pub serialization: Option<Serialization>,
    pub hmac_key_file: Option<PathBuf>,
    #[serde(deserialize_with = "secret_text")]
    pub hmac_key: Option<SecretText>,
    pub default_ttl: Option<u64>,
    pub replication: Option<Replication>,
    pub on_tier_failure: Option<OnTierFailure>,
    pub shadow_share: Option<f64>,
    pub guards: GuardsImage,
    pub kask: KaskImage,
    pub redis: Option<RedisImage>,
    pub outbox: OutboxImage,
    pub backfill: BackfillImage,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GuardsImage {
    pub soak_s: Option<u64>,
    pub shadow_mismatch_max: Option<f64>,
    pub kask_errors_max: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct KaskImage {
    pub embedded: Option<bool>,
    pub url: Option<String>,
    pub timeout_ms: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RedisImage {
    #[serde(deserialize_with = "secret_text")]
    pub url: Option<SecretText>,
    pub url_file: Option<PathBuf>,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    #[serde(deserialize_with = "secret_text")]
    pub password: Option<SecretText>,
    pub sentinels: Option<Vec<String>>,
    pub master: Option<String>,
    pub database: Option<u32>,
    pub sentinel_username: Option<String>,
    pub sentinel_password_file: Option<PathBuf>,
    #[serde(deserialize_with = "secret_text")]
    pub sentinel_password: Option<SecretText>,
    pub tls: Option<bool>,
    pub ca_file: Option<PathBuf>,
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub tls_name: Option<String>,
    pub shards: BTreeMap<String, ShardImage>,
    pub distribution: Option<DistributionImage>,
    pub hash: Option<KetamaHash>,
    pub hash_tag: Option<String>,
    pub prefix: Option<String>,
    pub timeout_ms: Option<u64>,
    pub after_loss: Option<AfterLoss>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ShardImage {
    #[serde(deserialize_with = "secret_text")]
    pub url: Option<SecretText>,
    pub url_file: Option<PathBuf>,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    #[serde(deserialize_with = "secret_text")]
    pub password: Option<SecretText>,
    pub sentinels: Option<Vec<String>>,
    pub master: Option<String>,
    pub database: Option<u32>,
    pub sentinel_username: Option<String>,
    pub sentinel_password_file: Option<PathBuf>,
    #[serde(deserialize_with = "secret_text")]
    pub sentinel_password: Option<SecretText>,
    pub tls: Option<bool>,
    pub ca_file: Option<PathBuf>,
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub tls_name: Option<String>,
    pub hashed_as: Option<String>,
    pub weight: Option<u32>,
}

impl RedisImage {
    /// What says where a Redis is and how to speak to it.
    pub fn take_connection(&mut self) -> ShardImage {
        ShardImage {
            url: self.url.take(),
            url_file: self.url_file.take(),
            username: self.username.take(),
            password_file: self.password_file.take(),
            password: self.password.take(),
            sentinels: self.sentinels.take(),
            master: self.master.take(),
            database: self.database.take(),
            sentinel_username: self.sentinel_username.take(),
            sentinel_password_file: self.sentinel_password_file.take(),
            sentinel_password: self.sentinel_password.take(),
            tls: self.tls.take(),
            ca_file: self.ca_file.take(),
            client_cert_file: self.client_cert_file.take(),
            client_key_file: self.client_key_file.take(),
            tls_name: self.tls_name.take(),
            hashed_as: None,
            weight: None,
        }
    }
}

impl ShardImage {
    /// Whether it says who decant is to this Redis.
    pub fn has_login(&self) -> bool {
        self.username.is_some() || self.password.is_some() || self.password_file.is_some()
    }

    /// What is left out here is as it is there; but not which Redis it is.
    pub fn or(self, all: &ShardImage) -> ShardImage {
        // A user and a password belong together, and so do a certificate and its key.
        let login = if self.has_login() { &self } else { all };
        let sentinel_login = self.sentinel_username.is_none()
            && self.sentinel_password.is_none()
            && self.sentinel_password_file.is_none();
        let sentinel = if sentinel_login { all } else { &self };
        let certificate = self.client_cert_file.is_none() && self.client_key_file.is_none();
        let client = if certificate { all } else { &self };
        // A URL of one's own is no Redis that Sentinels name.
        let named = self.url.is_none() && self.url_file.is_none();
        let sentinels = if named { all.sentinels.clone() } else { None };
        ShardImage {
            username: login.username.clone(),
            password_file: login.password_file.clone(),
            password: login.password.clone(),
            sentinel_username: sentinel.sentinel_username.clone(),
            sentinel_password_file: sentinel.sentinel_password_file.clone(),
            sentinel_password: sentinel.sentinel_password.clone(),
            client_cert_file: client.client_cert_file.clone(),
            client_key_file: client.client_key_file.clone(),
            sentinels: self.sentinels.or(sentinels),
            database: self.database.or(all.database.filter(|_| named)),
            tls: self.tls.or(all.tls.filter(|_| named)),
            ca_file: self.ca_file.or(all.ca_file.clone()),
            tls_name: self.tls_name.or(all.tls_name.clone()),
            url: self.url,
            url_file: self.url_file,
            master: self.master,
            hashed_as: self.hashed_as,
            weight: self.weight,
        }
    }
}

/// The word alone; what belongs to it stands beside it.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DistributionImage {
    Single,
    Ketama,
    Mediawiki,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct OutboxImage {
    pub lease_ms: Option<u64>,
    pub allow_short_lease: Option<bool>,
    pub look_every_ms: Option<u64>,
    pub look_fresh_ms: Option<u64>,
    pub settle_wait_ms: Option<u64>,
    pub pending_keys_max: Option<usize>,
    pub tries_max: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BackfillImage {
    pub keys_per_s: Option<u64>,
    pub bytes_per_s: Option<u64>,
    pub harmless_ms: Option<u64>,
}

fn secret_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretText>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretText::new))
}

/// A length as the file gives it, in milliseconds.
pub(super) fn millis(value: Option<u64>, default: Duration) -> Duration {
    value.map_or(default, Duration::from_millis)
}
