//! A call of a tool in, decided by the signed policy; the decision on record before the tool runs; its result out.
//!
//! Floor 5. Invariants and the tests that guard them (`tests/it/` here, `cli/tests/it/runtime*.rs` through the binary):
//!
//! - a deny cannot be overridden, and what is not a clean allow is a deny (`interceptor_deny_cannot_be_overridden`,
//!   `interceptor_fail_closed`);
//! - only a recorded allow makes a [`Permit`], and a tool runs by a permit alone: the call that runs is the call that was
//!   judged;
//! - every decision is wholly of one bundle (`a_swap_under_load_drops_and_mixes_no_decision`);
//! - nothing is read without a cap, and no path, host or address is trusted (`cli::runtime_hostile`).
//!
//! Deliberately absent: making a policy or a state root (the state root is read, its WAL of role `runtime` written);
//! flags that allow what the policy denies; shells.
//!
//! Start with [`Interceptor`], then [`start`]. What is on the wire is drawn in `docs/formats/runtime.md`.

mod active;
mod call;
mod interceptor;
mod log;
mod metrics;
mod redact;
mod server;
mod start;
pub mod tools;

pub use active::{Demand, LockFile};
pub use call::{Call, Permit, PolicyRef, Ruling};
pub use interceptor::{Interceptor, Kinds, Parts, Policy, Standing};
pub use log::Log;
pub use metrics::Metrics;
pub use redact::Redact;
pub use server::{Listen, TlsFiles, Token};
pub use start::{Start, start};
