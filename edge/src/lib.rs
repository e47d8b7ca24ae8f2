//! Signed sets and segments from peers, in; whole verified sets in the inbox, and what peers lack, out.
//!
//! Floor 4, behind the wall (INV-10): imports `schema`, `trust`, `stateroot`, `signing` and `authority` (for
//! `--rotate-certs`), `telemetry`, `sets`, `relay` and `precheck`, and nothing of the mission layer.
//!
//! Deliberately absent: applying, planning, policy; what to send next, which `relay` decides.

pub mod config;
pub mod control;
pub mod daemon;
pub mod driver;
pub mod ledger;
pub mod status;
pub mod storage;
pub mod store;
pub mod wire;
