//! The wire: mutual TLS 1.3, HTTP/2, the protocol of `docs/formats/relay.md`; the listening end, the calling end, metrics.
//!
//! Async, and only sockets: everything that touches disk is a job for the storage thread. What is known of a peer before its
//! certificate is judged is an address (INV-09).

mod client;
mod limits;
mod metrics;
mod peers;
mod scrape;
mod server;
mod shed;
mod tls;
mod verify;

pub use client::{Client, Connection, Taken, WireError};
pub use limits::Timeouts;
pub use metrics::Metrics;
pub use scrape::Scrape;
pub use server::{Health, Parts, Quota, Server, Steer};
pub use shed::{Shed, Short};
pub use tls::{Credentials, Tls};
