//! A client of etcd's v3 protocol, as much of it as a shared record needs: ranges, transactions, leases, watches, user and password.
//!
//! It is small and decant's own because the crates there are generate their code from etcd's protocol files while they are built, which
//! needs `protoc` on every machine that builds decant. The messages stand in `messages`, by their numbers.
//!
//! One [`Client`] speaks to one endpoint. Who has several asks another one when this one fails: a fault ends what was built on it.

mod client;
mod messages;
mod txn;

pub use client::{Client, ClientSettings, Fault, Snapshot, Tls, Watch};
pub use txn::{Entry, Event, Then, Txn, When};
