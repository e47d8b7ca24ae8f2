//! Bytes, a pinned trust root, floors and a purpose in; [`Verified`] documents or a sorted list of reasons out.
//!
//! Floor 1: imports `schema` alone. Pure: no file, clock, randomness, environment or network; time is an argument.
//! Invariants and the tests that guard them (`tests/attacks/`, one named test for each attack):
//!
//! - signatures are checked over the raw bytes before these are parsed (`parsing::unsigned_bytes_are_never_parsed`);
//! - a threshold counts distinct public keys, never lines (`signatures::one_key_signing_twice_counts_once`);
//! - a hint is for look-up alone (`signatures::a_wrong_hint_does_not_matter`);
//! - kind and role are arguments, never taken from the document (`parsing::a_lock_signed_as_manifest_is_refused`);
//! - recovery does not fail on the floor that the same change raised (`floors::recovery_passes_its_own_raised_floor`);
//! - what was admitted under an earlier root is made whole and returned to under that root, and nothing else is
//!   (`rotation::an_earlier_root_vouches_for_what_was_admitted_and_for_no_change`);
//! - role `offline` moves nobody's trust (`rotation::role_offline_alone_brings_no_revocations`);
//! - every input has a cap, and so has the work on it (`signatures::endless_lines_end_at_a_cap`);
//! - a signature made elsewhere is checked before it becomes a line (`detached::*`);
//! - a signature of an image holds before its payload is parsed, and for its manifest alone (`image::*`);
//! - a policy bundle by itself is accepted by role `policy` alone (`policy_bundle::*`);
//! - a certificate is accepted only when nothing is wrong with it, and what is has its own code (`tests/identity/`);
//! - arbitrary bytes never panic (`parsing::arbitrary_bytes_are_refused`, `identity/garbage.rs`).
//!
//! Deliberately absent: key generation and any source of randomness (crate `signing`), reading files (callers read with
//! the caps of `schema`), transparency logs, signers' certificates and time stamps (a node without a network cannot judge
//! them), and any way to get a [`Verified`] without verification.
//!
//! Start with [`verify_manifest`], then `threshold` (who signed) and `rules` (what the purpose binds); for certificates
//! with [`judge_identity`]. The formats are drawn in `docs/formats/signatures.md`, `trust-root.md`, `certificates.md`.

mod attest;
pub mod bundle;
mod detached;
mod evidence;
mod identity;
mod image;
mod key;
mod lock;
mod manifest;
mod policy_bundle;
mod policy_override;
mod receipt;
mod revocation;
mod root;
mod rules;
mod threshold;
mod verified;

pub use attest::{AttestError, AttestKey};
pub use detached::{DetachedError, MAX_DETACHED_BYTES};
pub use evidence::verify_evidence;
pub use identity::{
    Card, CrlCard, Demand, Identity, IdentityFiles, IdentityFinding, MAX_CERTIFICATES, MAX_CRL_BYTES, MAX_CRLS,
    MAX_IDENTITY_BYTES, Severity, describe_certificates, describe_crls, issued_by, judge_identity, peer_of_certificate,
    peer_of_uri,
};
pub use image::{
    ImageSignature, verify_bundle, verify_image, verify_image_by, verify_simple_signing, verify_statement_bundle,
};
pub use key::{KeyError, PublicKey, key_id};
pub use lock::{verify_lock, verify_lock_alone};
pub use manifest::verify_manifest;
pub use policy_bundle::verify_policy_bundle;
pub use policy_override::verify_override;
pub use receipt::{Receipted, verify_receipt};
pub use revocation::verify_revocation;
pub use root::PinnedRoot;
pub use rules::{draft_reasons, scope_reasons};
pub use verified::{Context, Purpose, Signed, Verified};
