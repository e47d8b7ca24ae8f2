//! `plan(desired, facts) -> Plan`.

use autonomy_schema::canonical::{self, CanonicalError};
use autonomy_schema::digest::Blake3;
use autonomy_schema::facts::{BoundFacts, Facts, GenerationFacts};
use autonomy_schema::manifest::{Service, StateManifest};
use autonomy_schema::path::{Name, RelPath};
use autonomy_schema::plan_doc::{
    Action, FORMAT_VERSION, Forecast, PlanDoc, PlannedDrift, PlannedManifest, Step, Summary, Verdicts,
};
use autonomy_schema::reason::Reason;
use autonomy_schema::root::Rotation;
use autonomy_schema::version::{ApiVersion, Kind, TOOL_VERSION};
use serde::Serialize;

use crate::{blocked, forecast, rebuild, steps, why};

/// What the node shall have.
#[derive(Debug, Clone, Copy)]
pub struct Desired<'a> {
    /// The manifest. A draft can be planned; only a verified one can be admitted.
    pub manifest: &'a StateManifest,
    /// BLAKE3 of its bytes.
    pub fingerprint: Blake3,
    /// Version of its policy bundle, as the lock says it.
    pub policy_semver: Option<&'a str>,
    /// The generation that is returned to; `None` when the manifest comes with a set.
    pub returns_to: Option<&'a Name>,
    /// Whether role `offline` alone signed it.
    pub offline: bool,
    /// The newer trust root that the set brings, and under which it was verified.
    pub rotates_to: Option<Rotation>,
}

impl<'a> Desired<'a> {
    /// A manifest with nothing beside it.
    pub fn new(manifest: &'a StateManifest, fingerprint: Blake3) -> Self {
        Self { manifest, fingerprint, policy_semver: None, returns_to: None, offline: false, rotates_to: None }
    }
}

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A fact or a step cannot be written as canonical JSON.
    #[error("the plan cannot be fingerprinted")]
    Canonical(#[from] CanonicalError),
    /// The manifest did not come through the parser, which demands the pins of every file.
    #[error("artifact `{0}` lacks pins")]
    Unpinned(RelPath),
}

/// A plan. Only [`plan()`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    doc: PlanDoc,
    services: Vec<Service>,
    rebuilds: u64,
    blocked: Vec<Reason>,
}

impl Plan {
    /// The plan as it is shown and saved, without verdicts and source.
    pub fn doc(&self) -> &PlanDoc {
        &self.doc
    }

    /// BLAKE3 over what the plan decides.
    pub fn id(&self) -> Blake3 {
        self.doc.plan_id
    }

    /// Whether anything would be done, or is blocked.
    pub fn has_changes(&self) -> bool {
        !self.doc.steps.is_empty()
    }

    /// Why the plan cannot be carried out, sorted; empty when it can.
    pub fn blocked(&self) -> Vec<Reason> {
        self.blocked.clone()
    }

    /// What runs after the switch, in order; empty when nothing is switched.
    pub fn services(&self) -> Vec<Service> {
        self.services.clone()
    }

    /// How many reconstruction steps are carried out after the switch: all of the manifest's, those that change nothing
    /// included; 0 when nothing is switched.
    pub fn rebuilds(&self) -> u64 {
        self.rebuilds
    }

    /// Whether a generation is staged and activated.
    pub fn switches(&self) -> bool {
        self.doc.steps.iter().any(|step| step.address == steps::GENERATION)
    }

    /// Whether it goes to a generation that is there.
    pub fn returns(&self) -> bool {
        self.doc.steps.iter().any(|step| step.reason.code == why::Why::RollbackAsked.as_str())
    }

    /// Whether a newer trust root is pinned.
    pub fn rotates(&self) -> bool {
        self.doc.steps.iter().any(|step| step.address == steps::TRUST_ROOT)
    }

    /// Whether the manifest goes on to peers.
    pub fn relays(&self) -> bool {
        self.doc.steps.iter().any(|step| step.action == Action::Relay)
    }
}

/// What kind of change it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    /// No generation is active.
    First,
    /// Another manifest is active.
    Update(&'a GenerationFacts),
    /// Another generation is active, and this one is there.
    Rollback(&'a GenerationFacts),
    /// This manifest is active, and the generation differs from it.
    Repair(&'a GenerationFacts),
    /// This manifest is active.
    Same,
}

impl<'a> Change<'a> {
    fn of(desired: &Desired<'_>, bound: &'a BoundFacts) -> Self {
        match &bound.current {
            Some(current) if desired.returns_to.is_some_and(|to| *to != current.generation) => {
                Change::Rollback(current)
            }
            Some(_) if desired.returns_to.is_some() => Change::Same,
            None => Change::First,
            Some(current) if current.manifest != desired.fingerprint => Change::Update(current),
            Some(_) if !bound.drift.iter().any(|drift| drift.kind.is_repairable()) => Change::Same,
            Some(current) => Change::Repair(current),
        }
    }

    /// The generation that is replaced.
    pub(crate) fn current(self) -> Option<&'a GenerationFacts> {
        match self {
            Change::Update(current) | Change::Repair(current) | Change::Rollback(current) => Some(current),
            Change::First | Change::Same => None,
        }
    }
}

/// Decides what is to be done. The manifest is expected to be parsed by `schema`, which has checked its limits.
pub fn plan(desired: &Desired<'_>, facts: &Facts) -> Result<Plan, PlanError> {
    let bound = &facts.bound;
    let change = Change::of(desired, bound);
    let manifest = desired.manifest;
    let switches = !matches!(change, Change::Same);
    // What differs in the generation that is left is of no matter to the one that is returned to.
    let mut drift = if matches!(change, Change::Rollback(_)) { Vec::new() } else { bound.drift.clone() };
    drift.sort();

    let mut work = Vec::new();
    steps::trust(desired, bound, &mut work);
    if switches {
        steps::artifacts(manifest, change, &drift, &mut work)?;
        steps::parts(desired, change, &drift, &mut work);
        work.push(steps::generation(desired, change));
        rebuild::steps(desired, bound, change, &mut work);
        steps::services(manifest, change, &drift, &mut work);
        steps::proof(desired, bound, &mut work);
    }
    steps::relay(desired, bound, &mut work);

    // A node that has nothing to do is not bothered with what could not be done.
    let mut all = if work.is_empty() { Vec::new() } else { blocked::steps(desired, bound, switches) };
    let blocked = blocked::reasons(&all);
    all.append(&mut work);

    let doc = document(planned_manifest(desired), bound, all, forecast::of(desired, facts, change))?;
    let services = if switches { steps::running(manifest).cloned().collect() } else { Vec::new() };
    let rebuilds = if switches { manifest.spec.reconstruction.steps.len() as u64 } else { 0 };
    Ok(Plan { doc, services, rebuilds, blocked })
}

/// What differs from the active manifest, as a plan without steps; `None` when nothing is active.
pub fn refresh(facts: &Facts) -> Result<Option<PlanDoc>, PlanError> {
    let bound = &facts.bound;
    let Some(current) = &bound.current else { return Ok(None) };
    let manifest = PlannedManifest {
        fingerprint: current.manifest,
        serial: current.serial,
        channel: None,
        name: current.stream.clone(),
        release: current.release.clone(),
        offline: false,
    };
    let forecast = Forecast { policy: "unchanged".to_owned(), ..Forecast::default() };
    document(manifest, bound, Vec::new(), forecast).map(Some)
}

/// The plan as it is shown, without verdicts and origin.
fn document(
    manifest: PlannedManifest,
    bound: &BoundFacts,
    steps: Vec<Step>,
    forecast: Forecast,
) -> Result<PlanDoc, PlanError> {
    let doc = PlanDoc {
        api_version: ApiVersion::default(),
        kind: Kind::Plan,
        format_version: FORMAT_VERSION.to_owned(),
        tool_version: TOOL_VERSION.to_owned(),
        plan_id: Blake3::from_bytes([0; 32]),
        source: None,
        revision: None,
        manifest,
        bound_facts: bound.named()?,
        facts_fingerprint: bound.fingerprint()?,
        drift: planned_drift(bound),
        summary: Summary::of(&steps),
        steps,
        verdicts: Verdicts::default(),
        forecast,
    };
    Ok(PlanDoc { plan_id: plan_id(&doc)?, ..doc })
}

/// The differences, sorted, each with its reason.
fn planned_drift(bound: &BoundFacts) -> Vec<PlannedDrift> {
    let mut drift = bound.drift.clone();
    drift.sort();
    drift
        .into_iter()
        .map(|drift| {
            let reason = why::of_drift(&drift);
            PlannedDrift::new(drift, reason)
        })
        .collect()
}

fn planned_manifest(desired: &Desired<'_>) -> PlannedManifest {
    let (metadata, spec) = (&desired.manifest.metadata, &desired.manifest.spec);
    PlannedManifest {
        fingerprint: desired.fingerprint,
        serial: metadata.serial,
        channel: metadata.channel.clone(),
        name: metadata.name.clone(),
        release: spec.release.version.to_string(),
        offline: desired.offline,
    }
}

/// What [`PlanDoc::plan_id`] is taken over.
#[derive(Serialize)]
struct Identity<'a> {
    tool_version: &'a str,
    manifest: &'a PlannedManifest,
    facts_fingerprint: Blake3,
    drift: &'a [PlannedDrift],
    steps: &'a [Step],
}

/// Whether a plan's `plan_id` is that of its content.
pub fn is_its_own(doc: &PlanDoc) -> bool {
    plan_id(doc).is_ok_and(|id| id == doc.plan_id)
}

/// The id that the fields of a plan give.
pub(crate) fn plan_id(doc: &PlanDoc) -> Result<Blake3, CanonicalError> {
    canonical::fingerprint(&Identity {
        tool_version: &doc.tool_version,
        manifest: &doc.manifest,
        facts_fingerprint: doc.facts_fingerprint,
        drift: &doc.drift,
        steps: &doc.steps,
    })
}
