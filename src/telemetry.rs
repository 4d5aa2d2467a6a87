//! What decant tells about itself: log lines and metrics. Neither ever carries a key, user id or session id, except
//! trace-level events where `log.log_keys` allows it.

pub mod catalogue;
pub mod logs;
pub mod metrics;
mod process;
pub mod seldom;
