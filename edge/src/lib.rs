//! The relay daemon.

pub mod ledger;
pub mod storage;
