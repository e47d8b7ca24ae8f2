//! The verbs, through the binary, as scripts meet them.
#![expect(clippy::expect_used, clippy::panic, reason = "a failed helper fails its test")]

mod authoring;
mod backup;
mod disks;
mod drift;
mod git;
mod golden;
mod hostile;
mod kill;
mod life;
mod node;
mod reconcile;
mod refusals;
mod saved;
mod world;
