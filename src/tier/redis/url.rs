//! Where a Redis is, and how to speak to it.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use std::{fmt, path::PathBuf};

/// The text is no Redis decant can reach. It never repeats the URL, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlFault {
    #[error("this is no Redis URL; write redis://[USER:PASSWORD@]HOST:PORT/DB or unix:///PATH?db=DB&pass=PASSWORD")]
    NotRedis,
    #[error("rediss:// is more than a URL tells: whom to trust belongs to it")]
    Tls,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// A parsed Redis URL. `Debug` and `Display` show no credentials.
#[derive(Clone)]
pub struct RedisUrl {
    pub(super) socket: Socket,
    pub(super) hello: RedisConnectionInfo,
}

impl RedisUrl {
    /// Takes `redis://`, `unix://` and `redis+unix://`. Whatever the URL says, RESP2 is spoken and no library name is sent:
    /// a strict server closes the connection on HELLO and CLIENT.
    pub fn parse(url: &str) -> Result<RedisUrl, RedisUrlFault> {
        if url.starts_with("rediss:") || url.starts_with("valkeys:") {
            return Err(RedisUrlFault::Tls);
        }
        let info: ConnectionInfo = url.into_connection_info().map_err(|_| RedisUrlFault::NotRedis)?;
        let socket = match info.addr() {
            // An IPv6 address stands in brackets in a URL, and without them towards the resolver.
            ConnectionAddr::Tcp(host, port) => Socket::Tcp(host.trim_matches(['[', ']']).to_owned(), *port),
            ConnectionAddr::Unix(path) => Socket::Unix(path.clone()),
            _ => return Err(RedisUrlFault::NotRedis),
        };
        let hello = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        Ok(RedisUrl { socket, hello })
    }

    /// `host:port/db` or `unix:/path/db`: where the data is, without credentials.
    pub fn address(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Socket::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Socket::Tcp(host, port) => write!(f, "{host}:{port}"),
            Socket::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.socket, self.hello.db())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_no_credentials() {
        for (url, address) in [
            ("redis://127.0.0.1:6379", "127.0.0.1:6379/0"),
            ("redis://bob:s3cret@redis.example:7000/3", "redis.example:7000/3"),
            ("redis://:s3cret@[::1]:6379/1", "[::1]:6379/1"),
            ("unix:///run/redis.sock?db=2&pass=s3cret", "unix:/run/redis.sock/2"),
        ] {
            let parsed = RedisUrl::parse(url).unwrap();
            assert_eq!(parsed.address(), address);
            assert!(!format!("{parsed:?}").contains("s3cret"));
            assert!(parsed.hello.skip_set_lib_name());
        }
        let resp3 = RedisUrl::parse("redis://h/0?protocol=resp3").unwrap();
        assert_eq!(resp3.hello.protocol(), ProtocolVersion::RESP2);
    }

    #[test]
    fn what_cannot_be_reached_is_refused_without_repeating_it() {
        for (url, fault) in [
            ("rediss://u:s3cret@h:6379/0", RedisUrlFault::Tls),
            ("http://u:s3cret@h:6379/0", RedisUrlFault::NotRedis),
            ("redis://u:s3cret@h:6379/zero", RedisUrlFault::NotRedis),
            ("", RedisUrlFault::NotRedis),
        ] {
            let got = RedisUrl::parse(url).unwrap_err();
            assert!(!got.to_string().contains("s3cret"));
            assert_eq!(got, fault, "{url}");
        }
    }
}
