//! The plan as it is shown, saved and bound (Plan JSON). Field names are snake case, as scripts know them.
//!
//! Only crate `plan` makes one that can be applied; this is its form.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Blake3;
use crate::document::{Document, MAX_DERIVED_BYTES};
use crate::facts::{Drift, DriftKind, DriftPlace};
use crate::manifest::{Durability, is_default};
use crate::path::{Name, RelPath};
use crate::reason::{Code, Reason};
use crate::time::Time;
use crate::version::{ApiVersion, Kind};

/// The version of this form: readers refuse another major.
pub const FORMAT_VERSION: &str = "1.0";

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanDoc {
    /// `autonomy/v1`.
    #[serde(rename = "apiVersion")]
    pub api_version: ApiVersion,
    /// `Plan`.
    pub kind: Kind,
    /// [`FORMAT_VERSION`].
    pub format_version: String,
    /// The tool that made it.
    pub tool_version: String,
    /// BLAKE3 over the canonical JSON of `tool_version`, `manifest`, `facts_fingerprint`, `drift` and `steps`.
    pub plan_id: Blake3,
    /// Where the set came from, when that is no absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The revision of the source that was planned, as `commit:<40 hex digits>` or `oci:sha256:<64 hex digits>`, where it has revisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The manifest.
    pub manifest: PlannedManifest,
    /// The facts that it is bound to, by name.
    pub bound_facts: BTreeMap<String, String>,
    /// Fingerprint of the bound facts.
    pub facts_fingerprint: Blake3,
    /// What differs from the active manifest.
    pub drift: Vec<PlannedDrift>,
    /// What would be done, in the order of execution.
    pub steps: Vec<Step>,
    /// What policy and platform say now.
    #[serde(default)]
    pub verdicts: Verdicts,
    /// What it will cost.
    pub forecast: Forecast,
    /// Counts per action.
    pub summary: Summary,
}

/// The manifest of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedManifest {
    /// BLAKE3 of the signed bytes.
    pub fingerprint: Blake3,
    /// Serial.
    pub serial: u64,
    /// Channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Name>,
    /// Stream.
    pub name: Name,
    /// Release version.
    pub release: String,
    /// Whether role `offline` alone signed it: it was made in the field.
    #[serde(default, skip_serializing_if = "is_default")]
    pub offline: bool,
}

/// A difference that was found, and what it means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedDrift {
    /// Where it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub place: DriftPlace,
    /// Path below the generation, or a name of the node's.
    pub path: RelPath,
    /// How it differs.
    pub kind: DriftKind,
    /// What the manifest says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expected: String,
    /// What is there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub actual: String,
    /// Why it matters, and what ends it.
    pub reason: StepReason,
}

impl PlannedDrift {
    /// A difference with its reason.
    pub fn new(drift: Drift, reason: StepReason) -> Self {
        let Drift { place, path, kind, expected, actual } = drift;
        Self { place, path, kind, expected, actual, reason }
    }
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// `+`
    Create,
    /// `~`
    Update,
    /// `-/+`
    Replace,
    /// `-`
    Remove,
    /// `!`
    Blocked,
    /// `>`
    Relay,
}

impl Action {
    /// The mark in text.
    pub const fn mark(self) -> &'static str {
        match self {
            Action::Create => "+",
            Action::Update => "~",
            Action::Replace => "-/+",
            Action::Remove => "-",
            Action::Blocked => "!",
            Action::Relay => ">",
        }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// What it does it to: `artifact.bin/agent`, `policy`, `lock`, `edge.toml`, `generation`,
    /// `reconstruction./usr/local/bin/agent`, `service.agent.service`, `health`, `relay.node-b` …
    pub address: String,
    /// Why.
    pub reason: StepReason,
    /// What is there, by field.
    #[serde(default, skip_serializing_if = "is_default")]
    pub before: BTreeMap<String, String>,
    /// What will be there, by field.
    #[serde(default, skip_serializing_if = "is_default")]
    pub after: BTreeMap<String, String>,
}

/// Why a step is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepReason {
    /// Stable code; that of the registry for a blocked step.
    pub code: String,
    /// The sentence.
    pub text: String,
    /// The fact behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<String>,
    /// What would unblock it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Findings of platform and policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Verdicts {
    /// The platform's.
    pub precheck: Vec<Verdict>,
    /// The policy's.
    pub policy: Vec<Verdict>,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// What was asked: a reason code, or `ok`.
    pub code: String,
    /// Whether it lets the plan pass.
    pub ok: bool,
    /// The sentence.
    pub message: String,
    /// What would mend it; empty when nothing must be.
    #[serde(default, skip_serializing_if = "is_default")]
    pub remedy: String,
}

impl Verdict {
    /// It lets the plan pass.
    pub fn passed(message: impl Into<String>) -> Self {
        Self { code: "ok".to_owned(), ok: true, message: message.into(), remedy: String::new() }
    }

    /// It refuses the plan.
    pub fn refused(reason: Reason) -> Self {
        Self { code: reason.code.as_str().to_owned(), ok: false, message: reason.message, remedy: reason.remedy }
    }

    /// It is neither a yes nor a no, such as a question that could not be asked here.
    pub fn noted(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), ..Self::passed(message) }
    }
}

/// What the plan will cost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Forecast {
    /// Bytes that staging writes anew.
    pub disk_new_bytes: u64,
    /// Bytes that are hard-linked from what is there.
    pub disk_reused_bytes: u64,
    /// Services that restart or reload.
    pub restarts: u64,
    /// `new`, `changed` or `unchanged`; `widened`, `narrowed` or `differs` where both bundles were asked about
    /// recorded decisions and their answers prove it.
    pub policy: String,
    /// What was compared to say so.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy_proof: String,
    /// What reconstruction does outside the state root after the switch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reconstruction: Rebuilding,
    /// When the node's certificate ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Due>,
    /// When the next revocation list of certificates is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl: Option<Due>,
    /// What durability the platform gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

/// What reconstruction does outside the state root: counts of the manifest's steps, all of which are carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Rebuilding {
    /// Files, units aside.
    #[serde(skip_serializing_if = "is_default")]
    pub files: u64,
    /// Directories.
    #[serde(skip_serializing_if = "is_default")]
    pub directories: u64,
    /// Symbolic links, those that enable units aside.
    #[serde(skip_serializing_if = "is_default")]
    pub links: u64,
    /// systemd units.
    #[serde(skip_serializing_if = "is_default")]
    pub units: u64,
    /// Commands that must exit 0.
    #[serde(skip_serializing_if = "is_default")]
    pub checks: u64,
    /// Where the active manifest has a step and this one has none, sorted: what lies there stays.
    #[serde(skip_serializing_if = "is_default")]
    pub left: Vec<String>,
}

/// When something ends, seen from the clock of the facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Due {
    /// When.
    pub at: Time,
    /// Whole days until then, rounded down: 0 within a day, negative when it is past.
    pub days: i64,
    /// Whether that is within `spec.precheck.certExpiryWindow`; of a certificate alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub soon: bool,
}

/// Counts of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Summary {
    /// `+`
    pub add: u64,
    /// `~`
    pub change: u64,
    /// `-`
    pub remove: u64,
    /// `-/+`
    pub replace: u64,
    /// `!`
    pub blocked: u64,
    /// `>`
    pub relay: u64,
}

impl Summary {
    /// Counts the steps.
    pub fn of(steps: &[Step]) -> Self {
        let mut summary = Self::default();
        for step in steps {
            let counter = match step.action {
                Action::Create => &mut summary.add,
                Action::Update => &mut summary.change,
                Action::Remove => &mut summary.remove,
                Action::Replace => &mut summary.replace,
                Action::Blocked => &mut summary.blocked,
                Action::Relay => &mut summary.relay,
            };
            *counter += 1;
        }
        summary
    }
}

impl Document for PlanDoc {
    const KIND: Kind = Kind::Plan;
    const MAX_BYTES: usize = MAX_DERIVED_BYTES;

    fn validate(&self) -> Vec<Reason> {
        let major = FORMAT_VERSION.split('.').next();
        if self.format_version.split('.').next() == major {
            return Vec::new();
        }
        let found = self.format_version.escape_default();
        vec![Reason::new(
            Code::UnknownVersion,
            format!("`format_version` is {found}; this tool reads {FORMAT_VERSION}"),
        )]
    }
}
