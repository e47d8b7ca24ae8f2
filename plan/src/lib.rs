//! Desired state and facts in, an immutable plan out; a plan and verdicts in, a report out, as text, Markdown or JSON.
//!
//! Floor 2: imports `schema` alone, touches nothing. Invariants and the tests that guard them:
//!
//! - same inputs, same bytes (`tests/it/laws.rs`, `planning_twice_gives_the_same_bytes`);
//! - a plan against the facts that its own success would leave is empty (`tests/it/laws.rs`,
//!   `success_leaves_nothing_to_do`);
//! - where reconstruction may not write is a blocked step, never passed over (`tests/it/rebuild.rs`,
//!   `a_place_that_the_node_does_not_allow_blocks`);
//! - no shown value reaches the terminal with control characters in it (`render::escape::tests`);
//! - no clock, environment, disk, network or process (`clippy.toml` of this crate).
//!
//! Deliberately absent: verification (crate `trust`), policy (crate `policy`), a way to make a [`Plan`] from a saved
//! file: a saved plan is compared with ([`check_binding`]), then planned anew.
//!
//! Start with [`plan()`], then `steps`.

mod binding;
mod blocked;
mod forecast;
mod planner;
mod precheck;
mod rebuild;
pub mod render;
mod report;
mod steps;
mod why;

pub use binding::check_binding;
pub use planner::{Desired, Plan, PlanError, is_its_own, plan, refresh};
pub use precheck::prechecks;
pub use report::{Origin, PolicyProof, report, verdict_reasons};
pub use why::Why;
