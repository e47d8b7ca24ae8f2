//! The verbs, through the binary, as scripts meet them.
#![expect(clippy::expect_used, clippy::panic, reason = "a failed helper fails its test")]

mod authoring;
mod backup;
mod concurrent;
mod confirm;
mod delta;
mod disks;
mod drift;
mod elsewhere;
mod export;
mod floors;
mod fsck;
mod git;
mod golden;
mod hostile;
mod import;
mod kill;
mod life;
mod media;
mod node;
mod receipts;
mod reconcile;
mod refusals;
mod revocation;
mod rollback;
mod saved;
mod selftest;
mod sigstore_js;
mod sockets;
mod status;
mod trees;
mod trust;
mod volumes;
mod world;
