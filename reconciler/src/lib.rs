//! A source and a state root become a plan, and an approved plan becomes the active generation: sources → verify → plan
//! → admission → prechecks → apply → outbox, one shot.
//!
//! Floor 5: orchestrates the floors below and decides nothing itself. Invariants and the tests that guard them:
//!
//! - what was approved is what runs: under the lock everything is judged again, and a moved fact is `stale_plan`
//!   (`tests/it/apply.rs`);
//! - a crash at every counted verb of an apply, and of the recovery after it, leaves the old or the new generation
//!   whole (`tests/it/crash.rs`);
//! - an import cut off at every counted verb leaves nothing half, and is taken up again (`tests/it/import.rs`);
//! - a restore cut off at every counted verb comes to the same end, and never lowers floors (`tests/it/backup.rs`);
//! - a set that leaves artifacts out is verified like any other: it is completed as a source (`cli/tests/it/delta.rs`);
//! - planning writes nothing (`cli/tests/it/plan.rs` compares the whole state root).
//!
//! Deliberately absent: everything that speaks to people.
//!
//! Start with [`prepare`], then [`apply`].

mod backup;
mod decisions;
mod delta;
mod execute;
mod export;
pub mod follow;
mod foresee;
pub mod fsck;
mod gc;
mod generation;
mod generations;
mod handed_on;
mod history;
mod hold;
mod import;
mod judge;
mod parts;
mod platform;
mod policy;
mod pull;
mod push;
mod quarantine;
mod receipts;
mod record;
mod recovery;
mod relay;
mod rollback;
mod saved;
mod segments;
mod source;
mod status;
mod trace;
mod trust;

pub use autonomy_oci::{MIN_VOLUME_BYTES, Split};
pub use autonomy_sets::{KeptSet, Loaded, SetCheck, VerifiedSet, active_set, kept_manifests, load, verify_set};
pub use backup::{Archive, Keeper, Made, Restored, backup, restore};
pub use execute::{ApplyFailure, Approval, Outcome, apply, note_refused_plan, note_refused_set};
pub use export::{Audience, Exported, Shipment, export};
pub use foresee::{Foreseen, Foresight, Trust, floors_of, foresee, node_of};
pub use gc::{Collected, collect_garbage, find_garbage};
pub use generations::{Listed, generations};
pub use handed_on::node_trust;
pub use history::{Act, history};
pub use hold::{Noted, resume, suspend, unpin};
pub use import::{Import, OnMedium, Standing, TrustOnMedium, import, preview};
pub use judge::{Asked, Options, Prepared, look, prepare, prepare_as};
pub use parts::Receiver;
pub use policy::{PolicyChange, load_policy, roll_back_policy};
pub use pull::pull;
pub use push::{Pushed, push};
pub use receipts::{Collection, Custody, FoundReceipt, collect as collect_receipts, known_nodes, look_at_receipts};
pub use record::Actor;
pub use recovery::{Awaiting, awaiting, confirm, expire, recover_unfinished};
pub use relay::Relaying;
pub use rollback::{PreparedReturn, prepare_return, roll_back};
pub use saved::parse_saved;
pub use segments::{SegmentStat, segment_stat};
pub use source::{Reach, Source};
pub use status::{Intent, Next, Running, Status, status};
pub use trace::{Chain, Hop, Stop, Told, Traced, Witness, trace};
pub use trust::{Imported, Offer, OfferedRoot, REVOCATION, import_trust, judge_trust, offer};
