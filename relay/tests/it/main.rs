//! The state machine: tables, recordings, properties, and a fleet of machines.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a failed helper fails its test")]

mod bucket;
mod evict;
mod exhaustion;
mod fleet;
mod law;
mod machine;
mod pack;
mod properties;
mod replay;
mod world;
