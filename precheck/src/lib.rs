//! The platform in: what is wrong with it, and what was rebuilt on it, out.
//!
//! Floor 3, in the edge wing (INV-10): imports `schema`, `trust`, `stateroot` and `telemetry` alone. Invariants and tests:
//!
//! - only a verified manifest is rebuilt from ([`Reconstruction::new`] takes nothing else);
//! - a power loss at any verb of a reconstruction is made good by the next run, and the boot epoch advances exactly once
//!   (`reconciler::replaced::a_crash_at_every_verb_…`, where there are sets to apply);
//! - a kernel that changed, and nothing else, triggers it (`reconciler::replaced::fingerprint_change_kernel_only_…`);
//! - no epoch is used twice, whatever is deleted (`reconciler::replaced::no_epoch_is_used_twice_…`);
//! - nothing is written outside the allowed destinations, through no link (`reconciler::replaced::what_stands_in_the_way_…`);
//! - INV-05: high durability is refused without cgroup v2 (`reconciler::replaced::fi_assurance_…`).
//!
//! Deliberately absent: making or renewing certificates (crate `signing`, by `edge` and `cli`), recovery of an apply
//! (crate `apply`), the network.
//!
//! Start with [`precheck`], then [`Reconstruction`]. The formats: `docs/formats/precheck.md`.

mod artifacts;
mod checks;
pub mod epoch;
pub mod evidence;
pub mod exec;
mod platform;
mod reconstruct;
mod record;
mod report;
mod run;
mod segments;
pub mod trusted;
mod withdraw;
mod write;

pub use checks::{Assurance, Certificates, assurance, certificates, takes_part};
pub use platform::{Installed, Platform, SystemPlatform};
pub use reconstruct::{Rebuild, Reconstruction, StepDone};
pub use record::{Replaced, VERB, note_certificate};
pub use report::{Area, Fingerprint, Report};
pub use run::{Ask, demands, precheck};
