//! Keys and bytes in, signature lines out: cosign's key files, and the lines of `.sigstore.jsonl`; and
//! cosign's signatures of OCI images; and the certificates of a fleet that has no other PKI.
//!
//! Floor 1: imports `schema` alone (`trust` only in tests, as the judge of what is written here). Touches no file:
//! PEM and bytes are handed in and out. The one crate below the binaries that draws randomness. Invariants and tests:
//!
//! - stock `openssl` alone verifies what is signed (`tests/signing.rs`, `openssl_alone_verifies…`);
//! - key files have the label that stock cosign reads, and sigstore's own label is read as well
//!   (`both_key_file_labels_load`);
//! - a wrong password is named as such (`a_wrong_password_is_named`);
//! - the signature file does not depend on the order of signing (`the_order_of_signing_does_not_matter`);
//! - what others published is read as ours is: key files, raw signatures, bundles (`tests/published.rs`);
//! - signatures of images are what cosign writes, byte for byte (`tests/signing/image.rs`);
//! - a certificate is what `trust` demands of a node's, and stock openssl verifies it (`tests/certificates.rs`);
//! - a damaged key file never panics (`damaged_key_files_are_refused`).
//!
//! Deliberately absent: verification of signatures and certificates (crate `trust`), reading passwords (the binary
//! asks), and the closure of `apply`, which must never hold this crate.
//!
//! Start with [`generate`] and [`Signer`], then [`add_line`]; for certificates with [`create_ca`]. The formats:
//! `docs/formats/signatures.md`, `docs/formats/certificates.md`.

mod certificates;
mod image;
mod keys;
mod lines;
mod signer;

pub use certificates::{
    Ca, CaPair, CertificateError, DEFAULT_CA_VALIDITY, DEFAULT_CRL_VALIDITY, DEFAULT_NODE_VALIDITY, Issued, Revoked,
    create_ca, peer_uri,
};
pub use image::{dsse_bundle, sign_payload, simple_signing_payload};
pub use keys::{Algorithm, AttestPair, KeyError, KeyPair, generate, generate_attest, generate_with, public_key_id};
pub use lines::add_line;
pub use signer::{SignError, Signer};
