//! Files in, numbered data and parity volumes out; and back again, with as many volumes lost or damaged as there are
//! parity volumes.
//!
//! Floor 1: imports `schema` alone. Invariants and the tests that guard them (all in `tests/it/`):
//!
//! - what is read is what was written, or an error that names the volumes (`losses`, `property`);
//! - volumes get their names when all of them are whole and synced; an error before that leaves none (`writing`);
//! - the same files and options give the same bytes, in every release (`writing`: the digests are pinned);
//! - no link is followed, and a hostile header costs no memory (`hostile`).
//!
//! Memory: one block of 64 KiB for each volume, and the index of at most 16 MiB.
//!
//! Deliberately absent: signatures (checksums here find decay, not attackers: who reads verifies what comes out),
//! encryption, clocks, randomness, mounting of media, volumes of one set in more than one folder.
//!
//! Start with [`shape`], then [`write`](write()), then [`VolumeSet`]. Every byte is drawn in `docs/formats/volumes.md`.

mod block;
mod folder;
mod header;
mod index;
mod read;
mod set;
pub mod shape;
mod write;

pub use header::HEADER_BYTES;
pub use index::{Entry, IndexError, MAX_INDEX_BYTES, MAX_MEMBERS};
pub use read::{Incomplete, MemberReader};
pub use set::{OpenError, VolumeReport, VolumeSet, VolumeState};
pub use write::{Member, VolumeOptions, WriteError, Written, write};
