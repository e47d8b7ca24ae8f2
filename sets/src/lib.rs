//! A set, and whom a node trusts, in; a set whose every byte was checked, out. And the sets that a state root keeps.
//!
//! Floor 2 (ADR 14): imports `schema`, `trust` and `stateroot`. Both wings stand on it: `reconciler` verifies what it plans,
//! `edge` what a peer sent, by the same body. Invariants and the tests that guard them: signatures come before anything else
//! is believed, the list of files is closed, and every byte is hashed (`reconciler/tests/it/hostile.rs`).
//!
//! Deliberately absent: pinning newer roots and raising floors (the mission layer does both), network, clocks.
//!
//! Start with [`load`] (whom the node trusts), then [`verify_set`].

mod inbox;
mod kept;
mod loaded;
mod receipts;
pub mod roots;
mod verify;

pub use inbox::{Documents, Putting, put_in_inbox, write_documents};
pub use kept::{
    Kept, KeptSet, active_set, generation_set, inbox_entries, kept, kept_manifests, manifest_of, root_files,
};
pub use loaded::{Loaded, load};
pub use receipts::{Became, ReceiptSigner, sign_receipts};
pub use verify::{
    Draft, Extent, Files, Learned, SetCheck, VerifiedDocuments, VerifiedSet, compare, learn, read_draft,
    verify_documents, verify_set,
};
