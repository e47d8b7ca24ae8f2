//! OCI documents and image layouts in, sets out; and the other way round.
//!
//! Floor 2: imports `schema` and `stateroot`. Invariants and the tests that guard them (in `tests/it/`):
//!
//! - a layout is read without following a link, every document within a cap (`layout`);
//! - a blob that nothing names is refused, one that is named and absent is told by name (`layout`);
//! - what a layout of ours holds is a pure function of the set, and skopeo copies it to a registry and back
//!   byte for byte (`skopeo`).
//!
//! Deliberately absent: deciding whether a set is trusted (`trust`, from the set's own signatures).
//!
//! Start with [`spec`].

pub mod reference;
pub mod registry;
mod set;
pub mod spec;

pub use reference::{Reference, ReferenceError};
pub use registry::{Registry, RegistryError, RegistryOptions};
pub use set::{FILE_TYPE, SET_TYPE};
