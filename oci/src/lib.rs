//! OCI documents and image layouts in, sets out; and the other way round.
//!
//! Floor 2: imports `schema`, `stateroot` and `volumes`. Invariants, and the tests that guard them through the binary (in
//! `cli/tests/it/export.rs`):
//!
//! - a layout is read without following a link, every document within a cap, and a blob that nothing names is refused
//!   (`what_is_wrong_with_a_medium_is_named_and_changes_nothing`);
//! - what is written is a pure function of the set (`a_set_travels_on_a_medium_and_is_applied_from_there`), and skopeo
//!   copies it to a registry and back byte for byte (`skopeo_carries_a_medium_through_a_registry_and_back`);
//! - what was cut off leaves the old index (`an_export_that_was_cut_off_is_taken_up_again`);
//! - in volumes it is read like a folder, and what is lost is named (`cli/tests/it/volumes.rs`);
//! - packs are capped, a table that lies is refused (`pack/tests.rs`; `cli/tests/it/delta.rs` has the rest).
//!
//! Deliberately absent: deciding whether a set is trusted (`trust`, from the set's own signatures).
//!
//! Start with [`Layout`].

mod blobs;
mod layout;
mod leave;
pub mod pack;
mod set;
pub mod spec;
mod split;
mod volumes;
mod writer;

pub use autonomy_volumes::Written;
pub use blobs::{Blob, Limits, MAX_FAT_FILE, Parts, Pin, SetPlan, Wanted, plan_set, plan_trust};
pub use layout::{Layout, LayoutRef, LayoutSet, Pick};
pub use leave::leave_receipts;
pub use pack::{Cut, Cuts, MAX_PACK_BYTES, PACK_TYPE};
pub use set::{BASES, FILE_TYPE, SET_TYPE, TRUST_TAG, TRUST_TYPE};
pub use split::{MIN_VOLUME_BYTES, Split, write_volumes};
pub use writer::{LayoutWriter, WriteError};
