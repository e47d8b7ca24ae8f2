//! What to send to which peer next: ticks, news of peers, manifests and the configuration in, actions and ledger rows out.
//!
//! Floor 2, edge wing: imports `schema`. A state machine ([`Machine`]): the same inputs give the same output bytes on every
//! machine and in every run (INV-11).
//!
//! - INV-08: a second answer changes nothing (`machine::answers_that_come_twice_or_unasked_change_nothing`);
//! - INV-11: recorded inputs give the recorded output (`replay`);
//! - INV-12: attempts are recorded first, bounded, terminal (`exhaustion`, and `law.rs` after every step of every test);
//! - INV-13: a bucket gives no more than its limits over any span (`bucket::over_any_span_…`).
//!
//! Deliberately absent: clocks (a tick is an input), randomness (peers are spread by their rank), sockets, disks, `HashMap`,
//! and the ledger itself, which `edge` keeps: what must be durable before an action comes out before that action.
//!
//! Start with [`Input`] and [`Output`] in `words.rs`, then `machine.rs`.

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
