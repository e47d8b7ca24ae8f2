//! What to send to which peer next: ticks, news of peers, manifests and the configuration in, actions and ledger rows out.
//!
//! Floor 2, edge wing: imports `schema`. A state machine ([`Machine`]): the same inputs give the same output bytes on every
//! machine and in every run (INV-11).
//!
//! Deliberately absent: clocks (a tick is an input), randomness (peers are spread by their rank), sockets, disks, `HashMap`,
//! and the ledger itself, which `edge` keeps: what must be durable before an action comes out before that action.
//!
//! Start with [`Input`] and [`Output`] in `words.rs`.

mod book;
pub mod bucket;
mod delivery;
pub mod evict;
pub mod machine;
pub mod pack;
mod peer;
pub mod row;
mod schedule;
pub mod words;

pub use autonomy_schema::relay::SuccessCondition;
pub use bucket::Bucket;
pub use machine::Machine;
pub use row::{Change, Part, Row, RowKey, RowState};
pub use words::{Config, Delivery, Input, MAX_PACKS, MAX_WANTED, Output, PeerQuota, Wanted};
