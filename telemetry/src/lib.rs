//! What happened, in: records that a power loss cannot take back and that nobody can edit unseen, out.
//!
//! Floor 2: imports `schema` and `stateroot`. Formats: `docs/formats/wal.md`, `docs/formats/audit.md`. Invariants and
//! the tests that guard them (all in `tests/it/`):
//!
//! - an acknowledged record survives a power loss at any verb, in every crash image (`wal_crash`, `audit`);
//! - a torn tail is cut and counted, wherever the file is cut (`wal_cut`);
//! - damage up to the checkpoint stops with a named cause and nothing is touched (`wal_cut`, `wal_flip`);
//! - an edit of the audit trail is found (`audit`).
//!
//! Deliberately absent: export (OTLP), retention, rotation and metrics, which come with their own issue; clocks (every
//! record carries the time that its caller gives); repair of damage, which is a decision of people.
//!
//! Start with [`Wal::open`], then `wal/frames.rs`.

pub mod audit;
mod hold;
mod line;
pub mod record;
pub mod wal;

pub use audit::{Audit, AuditError, Entry};
pub use line::Cause;
pub use record::{Priority, Record};
pub use wal::{Damage, Recovery, Report, Wal, WalError, inspect, roles};
