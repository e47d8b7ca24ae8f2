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
//! and of registries (in `cli/tests/it/registry_*.rs`, and in `tests/it/` against servers that misbehave):
//!
//! - nothing is contacted that the reference does not name (`nothing_is_contacted_that_the_reference_does_not_name`,
//!   `another_host_is_never_contacted`);
//! - what came stays, in part too, and nothing is used before it hashes to its digest
//!   (`a_pull_that_breaks_off_goes_on_where_it_ended`, `bytes_that_are_not_those_that_were_asked_for_are_refused`);
//! - memory is bounded for blobs of any size (`a_gibibyte_takes_less_than_64_mib_of_memory`).
//!
//! Deliberately absent: deciding whether a set is trusted (`trust`, from the set's own signatures).
//!
//! Start with [`Layout`], or with [`Registry`] and ADR 9.

mod blobs;
mod copy;
mod cosign;
mod layout;
mod layout_ref;
mod leave;
pub mod pack;
mod publish;
pub mod reference;
pub mod registry;
mod remote;
mod set;
pub mod spec;
mod split;
mod volumes;
mod writer;

pub use autonomy_volumes::Written;
pub use blobs::{Blob, Limits, MAX_FAT_FILE, Parts, Pin, SetPlan, Wanted, plan_set, plan_trust};
pub use copy::{Copied, CopyFrom, CopyTo, copy};
pub use cosign::{SimpleSignature, signature_tag};
pub use layout::{Layout, LayoutSet};
pub use layout_ref::{LayoutRef, Pick};
pub use leave::leave_receipts;
pub use pack::{Cut, Cuts, MAX_PACK_BYTES, PACK_TYPE};
pub use publish::{Attached, LOCK_TYPE, SIGNATURES_TYPE, single_file};
pub use reference::{Reference, ReferenceError};
pub use registry::{Registry, RegistryError, RegistryOptions, trusted_certificates};
pub use remote::{PulledSet, RemoteSet, Strays};
pub use set::{BASES, FILE_TYPE, SET_TYPE, TRUST_TAG, TRUST_TYPE};
pub use split::{MIN_VOLUME_BYTES, Split, write_volumes};
pub use writer::{LayoutWriter, WriteError};
