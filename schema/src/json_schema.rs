//! The JSON Schema (draft 2020-12) of each kind, for editors and `golden/`.

use schemars::Schema;

use crate::backup::Backup;
use crate::evidence::Evidence;
use crate::facts::Facts;
use crate::floors::Floors;
use crate::journal::Journal;
use crate::lock::Lock;
use crate::manifest::StateManifest;
use crate::node::Node;
use crate::os::OsFingerprint;
use crate::plan_doc::PlanDoc;
use crate::policy_override::PolicyOverride;
use crate::receipt::Receipt;
use crate::revocation::Revocation;
use crate::root::TrustRoot;
use crate::version::Kind;

/// The schema of a kind, the same on every machine.
pub fn json_schema(kind: Kind) -> Schema {
    match kind {
        Kind::StateManifest => schemars::schema_for!(StateManifest),
        Kind::Lock => schemars::schema_for!(Lock),
        Kind::TrustRoot => schemars::schema_for!(TrustRoot),
        Kind::Facts => schemars::schema_for!(Facts),
        Kind::Plan => schemars::schema_for!(PlanDoc),
        Kind::Journal => schemars::schema_for!(Journal),
        Kind::Floors => schemars::schema_for!(Floors),
        Kind::Node => schemars::schema_for!(Node),
        Kind::Backup => schemars::schema_for!(Backup),
        Kind::Receipt => schemars::schema_for!(Receipt),
        Kind::Revocation => schemars::schema_for!(Revocation),
        Kind::OsFingerprint => schemars::schema_for!(OsFingerprint),
        Kind::Evidence => schemars::schema_for!(Evidence),
        Kind::PolicyOverride => schemars::schema_for!(PolicyOverride),
    }
}
