//! Which Redis a shard is, and how to speak to it.

use super::{
    sentinel::Sentinels,
    tls::{Tls, TlsFault},
    url::{RedisUrl, RedisUrlFault, Socket},
};
use crate::config::{Login, RedisPlace, SentinelConfig, ShardConfig};
use redis::{ProtocolVersion, RedisConnectionInfo};
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// The config names no Redis that decant can reach.
#[derive(Debug, thiserror::Error)]
pub enum TargetFault {
    #[error(transparent)]
    Url(#[from] RedisUrlFault),
    #[error(transparent)]
    Tls(#[from] TlsFault),
}

/// Where the Redis is to be found.
#[derive(Clone)]
pub(super) enum Place {
    Fixed(Socket),
    Sentinels(Arc<Sentinels>),
}

/// One Redis, or whichever the Sentinels name. `Debug` and `Display` show no credentials.
#[derive(Clone)]
pub struct Target {
    pub(super) place: Place,
    pub(super) hello: RedisConnectionInfo,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Target {
    /// As the config has it.
    ///
    /// # Errors
    /// What decant was configured with cannot be used after all.
    pub fn of(config: &ShardConfig) -> Result<Target, TargetFault> {
        let tls = config.tls.as_ref().map(Tls::new).transpose()?.map(Arc::new);
        match &config.at {
            RedisPlace::Url(url) => {
                // That TLS is spoken is known; the rest of the URL is as without it.
                let plain = Zeroizing::new(url.expose().replacen("rediss:", "redis:", 1));
                Ok(Target { tls, ..Target::from(RedisUrl::parse(&plain)?) })
            }
            RedisPlace::Sentinels(told) => Ok(Target::by_sentinels(told, tls)),
        }
    }

    fn by_sentinels(told: &SentinelConfig, tls: Option<Arc<Tls>>) -> Target {
        let hello = self::hello(&told.login).set_db(i64::from(told.database));
        let sentinels =
            Sentinels::new(told.sentinels.clone(), told.master.clone(), self::hello(&told.sentinel_login), tls.clone());
        Target { place: Place::Sentinels(Arc::new(sentinels)), hello, tls }
    }

    pub(super) fn is_by_sentinels(&self) -> bool {
        matches!(self.place, Place::Sentinels(_))
    }

    /// Where the data is, without credentials: `host:port/db`, `unix:/path/db`, or the name that the Sentinels know it by.
    pub fn address(&self) -> String {
        self.to_string()
    }
}

impl From<RedisUrl> for Target {
    fn from(url: RedisUrl) -> Target {
        Target { place: Place::Fixed(url.socket), hello: url.hello, tls: None }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let db = self.hello.db();
        match &self.place {
            Place::Fixed(socket) => write!(f, "{socket}/{db}")?,
            Place::Sentinels(sentinels) => write!(f, "{}/{db} by Sentinel", sentinels.master)?,
        }
        if self.tls.is_some() { f.write_str(" over TLS") } else { Ok(()) }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// RESP2 and no library name: a strict server closes the connection on HELLO and CLIENT.
fn hello(login: &Login) -> RedisConnectionInfo {
    let hello = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
    let hello = match &login.username {
        Some(username) => hello.set_username(username),
        None => hello,
    };
    match &login.password {
        Some(password) => hello.set_password(String::from_utf8_lossy(password.expose())),
        None => hello,
    }
}
