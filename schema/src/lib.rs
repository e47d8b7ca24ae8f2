//! The words of Autonomy: authored YAML and signed JSON in, typed documents or every reason against them out.
//!
//! Floor 0: imports nothing of ours, touches no disk, clock or network. Invariants and the tests that guard them:
//!
//! - one digest per meaning: bytes that are not canonical are refused (`tests/it/documents.rs`);
//! - a path from outside cannot escape ([`path::RelPath`], `path::tests`);
//! - the cut points of segments never move (`segments::tests::the_cut_points_are_pinned`);
//! - bad documents are refused with the very reasons (`tests/invalid/<what-is-wrong>/`, `tests/it/invalid.rs`).
//!
//! Deliberately absent: reading files (callers hand bytes in), verification (crate `trust`), defaults that depend on
//! the machine.
//!
//! Start with [`manifest::StateManifest`], then [`document::parse`] and [`author`].

pub mod author;
pub mod backup;
pub mod bundle;
pub mod canonical;
pub mod digest;
pub mod document;
pub mod evidence;
pub mod facts;
pub mod finding;
pub mod floors;
pub mod generation;
pub mod image;
pub mod journal;
pub mod json_schema;
pub mod lock;
pub mod manifest;
pub mod node;
pub mod oci;
pub mod os;
pub mod path;
pub mod plan_doc;
pub mod policy_override;
pub mod reason;
pub mod receipt;
pub mod relay;
pub mod revocation;
pub mod root;
pub mod segments;
pub mod set;
pub mod time;
pub mod tree;
pub mod version;

pub use digest::{Blake3, Sha256};
pub use document::Document;
pub use manifest::StateManifest;
pub use path::{Mode, Name, RelPath};
pub use reason::{Code, Reason, Reasons};
pub use time::{Duration, Time};
