//! decant's integration tests.
mod liar;
mod redis_server;
mod tier_kask;
mod tier_redis;
