//! Rego files in, a reproducible bundle out; a bundle and a question in, a decision or a refusal out; a plan and a
//! verified manifest in, an [`AdmittedPlan`] out if the node's policy says yes.
//!
//! Floor 3: imports `schema`, `trust`, `stateroot`, `sets` and `plan`. Invariants and the tests that guard them:
//!
//! - an unanswered question is a no: missing rule, error, wrong type, exceeded budget (`tests/it/evaluation.rs`);
//! - the same files give the same bundle bytes (`tests/it/building.rs`);
//! - nothing in a bundle can escape, repeat or grow beyond its cap (`tests/it/hostile.rs`);
//! - a blocked plan, a plan of another manifest or facts, or the wrong bundle is never admitted
//!   (`tests/it/admission.rs`);
//! - a bundle that is not signed, whole and tested never decides, and a power cut leaves the old one or the new one
//!   (`tests/it/slots.rs`);
//! - rules see no clock, randomness, environment or network: the plan's clock is `input.facts.observed.clock`
//!   (`engine::REFUSED`).
//!
//! Deliberately absent: files beside the slots (callers hand bytes in), who calls for a change of the slots and what is
//! recorded of it (crate `reconciler`).
//!
//! Start with [`admit()`], then [`decide`] and [`slots`]. The format is drawn in `docs/formats/policy-bundle.md`.

mod admit;
mod archive;
mod build;
mod bundle;
mod compare;
mod decide;
mod engine;
mod explain;
mod nesting;
mod opa;
mod outline;
mod prepared;
mod recursion;
pub mod slots;
mod testing;

pub use admit::{AdmittedPlan, Asked, admit, asked, overridden, question, verdicts};
pub use build::{BuildError, BuildOptions, build};
pub use bundle::{Bundle, BundleError, PolicyManifest};
pub use compare::{Comparison, compare};
pub use decide::{Budget, Decision, EvalError, STACK_BYTES, decide, resident_bytes};
pub use explain::{Evaluated, Outcome, Ruled, evaluate};
pub use opa::{Opa, OpaSignature};
pub use outline::{Outlined, outline};
pub use prepared::Prepared;
pub use slots::{Active, Origin, Slots};
pub use testing::{FileCoverage, TestReport, Tested, Verdict as TestVerdict, test};
