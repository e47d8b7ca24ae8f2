//! A folder in, a state root out: documents, links, generations and objects on disk, written so that a power loss at
//! any instruction leaves the old state or the new one.
//!
//! Floor 1: imports `schema` alone. The only crate that knows where things lie on disk. Invariants and the tests that
//! guard them (all in `tests/it/`):
//!
//! - nothing is half: `durable::replace`, `durable::point`, `init` and the object store stopped at every verb, under
//!   four orders in which a disk may keep things (`crash`, `objects`);
//! - no path leaves the state root or a set, and no link is followed (`real`, `source`);
//! - the simulated disk does what the real one does, errors included (`equivalence`);
//! - INV-01: refused file systems, owners, modes, links (`place`);
//! - an object is what its name says, or is not stored; a damaged one is not linked again (`objects`);
//! - facts name every kind of drift, write nothing, and read no content that the stat cache knows (`facts`);
//! - a node's certificates are replaced as one (`certificates`);
//! - floors that are missing or damaged never make a node fresh again (`root`).
//!
//! Deliberately absent: verifying signatures (crate `trust`), deciding anything (`plan`), the order of an apply
//! (`apply`), clocks: the time is an argument. Segments and the ceiling come with the edge wing.
//!
//! Start with [`disk`], then [`durable`], then [`StateRoot`].

mod at;
pub mod cache;
mod certificates;
mod contents;
pub mod disk;
pub mod durable;
mod epoch;
pub mod facts;
mod fill;
mod fold;
pub mod gc;
mod hash;
pub mod hold;
pub mod init;
pub mod layout;
mod lists;
pub mod lock;
pub mod objects;
pub mod place;
mod quarantine;
pub mod real;
mod receipts;
pub mod root;
#[cfg(feature = "sim")]
pub mod sim;
pub mod source;
pub mod trust;

pub use cache::StatCache;
pub use certificates::{Certificates, NewCertificates};
pub use contents::{Content, Indices, Known, Stored, contents, known_contents, pinned_contents};
pub use disk::{
    Disk, DiskError, Entry, FileKind, Identity, Link, LockGuard, LockMode, Query, ReadError, Space, Stat, StateDisk,
    SyncTarget, read_capped,
};
pub use epoch::{EvidenceBytes, EvidenceSlot};
pub use facts::{FactOptions, UnitProbe, collect, drift_of, learn, os_difference, os_facts, used_bytes};
pub use fill::{FillError, Filling, fill};
pub use fold::{Folded, Unfolded};
pub use hash::{Front, digests};
pub use init::{AttestFiles, foreign, init, init_on, make_place};
pub use layout::Writer;
pub use lock::{ActivationLock, Holder, LockError, ReceiptsLock};
pub use objects::{Durability, InsertError, ObjectStore, Pins, Placed};
pub use quarantine::set_aside;
pub use real::RealDisk;
pub use receipts::KeptReceipt;
pub use root::StateRoot;
#[cfg(feature = "sim")]
pub use sim::{Image, SimDisk};
pub use source::{
    DirSet, SetSource, SourceError, SourceFile, SourceKind, read_failed, read_file, read_refused, regular_files,
    unverified,
};
