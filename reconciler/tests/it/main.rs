//! Apply and recovery on the simulated disk, with real signatures, a real policy and a real set on a real file system.

#![expect(clippy::expect_used, clippy::panic, reason = "a fixture that cannot be made fails its test")]

mod apply;
mod backup;
mod crash;
mod fixture;
mod follow;
mod import;
mod media;
mod mend;
mod replaced;
mod returns;
mod swapped;
mod trust;
