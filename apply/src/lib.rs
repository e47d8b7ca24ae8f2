//! An admitted plan and a set become the active generation: staged, activated by one rename, its services run,
//! promoted, or rolled back; and whatever a power cut left of that is finished or undone.
//!
//! Floor 4: imports `schema`, `trust`, `stateroot`, `plan`, `policy`; nothing in its closure opens a socket (INV-06,
//! `ci/scan-dependencies`). Invariants and the tests that guard them (`reconciler/tests/it/crash.rs` runs all of them at
//! every counted verb):
//!
//! - after any crash and recovery the old or the new generation is active, whole, and floors are never lower;
//! - floors are durable before the rename ([`mod@transaction`]);
//! - `current` changes in `activate.rs` alone, by one rename;
//! - nothing is active that was not hashed on the handle that it was copied from (`stage.rs`).
//!
//! Deliberately absent: choices about meaning (crate `plan`), verification (crate `trust`), admission (crate `policy`),
//! clocks, the network, and environment variables.
//!
//! Start with [`Transaction::run`], then `finish.rs`, then [`recover`].

mod activate;
mod confirm;
mod exec;
mod finish;
mod observe;
mod outbox;
mod rebuild;
mod recover;
mod reinstate;
mod repair;
mod rollback;
mod services;
mod stage;
pub mod transaction;

pub use exec::{SERVICE_TIMEOUT, SystemRunner, unit_state};
pub use observe::{Event, Observer, Silent};
pub use recover::{Recovery, recover};
pub use reinstate::{reinstate_current, reinstate_lkg};
pub use repair::Repair;
pub use rollback::Return;
pub use services::ServiceRunner;
pub use stage::StageError;
pub use transaction::{Applied, ApplyError, Transaction};
