//! A set, and whom a node trusts, in; a set whose every byte was checked, out. And the sets that a state root keeps.
//!
//! Floor 2 (ADR 14): imports `schema`, `trust` and `stateroot`. Both wings stand on it: `reconciler` verifies what it plans,
//! `edge` what a peer sent, by the same body. Invariants and the tests that guard them: signatures come before anything else
//! is believed, the list of files is closed, and every byte is hashed (`reconciler/tests/it/hostile.rs`).
//!
//! Deliberately absent: pinning newer roots and raising floors (the mission layer does both), network, clocks.
//!
//! Start with [`load`] (whom the node trusts), then [`verify_set`].

mod kept;
mod loaded;
pub mod roots;
mod verify;

pub use kept::{
    Kept, KeptSet, active_set, generation_set, inbox_entries, kept, kept_manifests, manifest_of, root_files,
};
pub use loaded::{Loaded, load};
pub use verify::{Draft, Files, Learned, SetCheck, VerifiedSet, compare, learn, read_draft, verify_set};
