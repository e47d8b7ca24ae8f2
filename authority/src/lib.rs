//! A folder in, a CA out: `ca.crt`, `ca.key`, `ca.json` (what it issued and revoked), `crl.pem` (its newest list).
//!
//! Floor 2: imports `schema`, `stateroot` (for the `Disk` seam: the folder of a CA is a disk of its own) and `signing`. Used by
//! `cert …` and by `edged precheck --rotate-certs`, and never in the closure of `apply`. Invariants and tests:
//!
//! - `ca.json` is replaced durably before what it tells of leaves the folder: a certificate that is out there is listed, and
//!   no number of a revocation list is used twice (`cli::cert::the_numbers_of_revocation_lists_rise`);
//! - a damaged folder says what to do, and is never written over (`cli::cert::a_damaged_ca_says_what_to_do`).
//!
//! Deliberately absent: X.509 itself (`signing` makes it, `trust` judges it), clocks. Drawn in `docs/formats/certificates.md`.
//!
//! Start with [`Authority`].

mod ca;
mod folder;

pub use ca::{Authority, create};

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const RECORD: &str = "ca.json";
const LIST: &str = "crl.pem";
const LOCK: &str = "ca.lock";

/// The names of a CA's files.
pub const NAMES: [&str; 4] = [CERTIFICATE, KEY, RECORD, LIST];
