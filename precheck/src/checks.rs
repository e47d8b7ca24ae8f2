//! What is looked at, each in a file of its own. Nothing here writes.

mod assurance;
mod clock;
mod config;
mod identity;
mod keys;
mod place;
mod space;

pub use assurance::{Assurance, assurance};
pub(crate) use clock::clock;
pub(crate) use config::config;
pub use config::takes_part;
pub use identity::{Certificates, certificates};
pub(crate) use keys::keys;
pub(crate) use place::place;
pub(crate) use space::space;
