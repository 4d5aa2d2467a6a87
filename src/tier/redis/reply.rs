//! What a call's reply says of the server itself.

use super::{RedisFailure, Told};
use redis::Value;

/// What comes back for a call.
pub(super) trait Reply {
    /// The server was a primary, and is none any more: it has been replaced, and another connection may find by whom.
    fn refuses_as_replica(&self) -> bool;
}

impl Reply for Value {
    fn refuses_as_replica(&self) -> bool {
        matches!(self, Value::ServerError(error) if is_a_replicas(error.code(), error.details().unwrap_or_default()))
    }
}

impl Reply for Told {
    fn refuses_as_replica(&self) -> bool {
        self.value.refuses_as_replica()
    }
}

impl<T: Reply> Reply for Vec<T> {
    fn refuses_as_replica(&self) -> bool {
        self.iter().any(Reply::refuses_as_replica)
    }
}

impl<T: Reply> Reply for Result<T, RedisFailure> {
    fn refuses_as_replica(&self) -> bool {
        match self {
            Ok(reply) => reply.refuses_as_replica(),
            Err(RedisFailure::Refused { code, detail }) => is_a_replicas(code, detail),
            Err(_) => false,
        }
    }
}

/// Before Redis 7 a script's error is told inside another.
fn is_a_replicas(code: &str, detail: &str) -> bool {
    code == "READONLY" || detail.contains("-READONLY ")
}
