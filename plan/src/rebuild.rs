//! What lies outside the state root: the steps of a plan by which reconstruction puts it right after the switch.
//!
//! Apply carries out every step of the manifest, each of which changes nothing where nothing differs; the plan lists those
//! that will change something, as far as facts tell, and the checks.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_schema::facts::{BoundFacts, Drift, DriftKind, DriftPlace, RebuildFact};
use autonomy_schema::manifest::{DESTINATIONS, Effect, ReconstructionStep, Spec, is_allowed};
use autonomy_schema::path::RelPath;
use autonomy_schema::plan_doc::{Action, Rebuilding, Step, StepReason};

use crate::planner::{Change, Desired};
use crate::steps::{Fields, fields};
use crate::why::{self, Why};

/// One step of the manifest, with the address that no other step of the plan has.
struct Listed<'a> {
    address: String,
    step: &'a ReconstructionStep,
    place: Option<RelPath>,
    fact: RebuildFact,
}

/// The steps of a manifest. What a step works on may be worked on again: a program that is copied and then run as a check.
fn listed(spec: &Spec) -> Vec<Listed<'_>> {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let facts = RebuildFact::all_of(spec);
    let list = spec.reconstruction.steps.iter().zip(facts).map(|(step, fact)| {
        let count = seen.entry(fact.at.clone()).or_default();
        *count += 1;
        let number = if *count == 1 { String::new() } else { format!("#{count}") };
        let place = step.place().and_then(Result::ok);
        Listed { address: format!("reconstruction.{}{number}", fact.at), step, place, fact }
    });
    list.collect()
}

impl Listed<'_> {
    fn is_check(&self) -> bool {
        self.step.verify_config.is_some()
    }

    /// Whether the node lets it write where it writes.
    fn is_allowed(&self, bound: &BoundFacts) -> bool {
        self.is_check() || self.place.as_ref().is_some_and(|place| is_allowed(place, &bound.node.destinations))
    }

    /// What differs from what the active manifest's step left: at the place itself, else at a link that enables the unit.
    fn drift<'a>(&self, drift: &[&'a Drift], places: &BTreeSet<&RelPath>) -> Option<&'a Drift> {
        let place = self.place.as_ref()?;
        if let Some(own) = drift.iter().find(|drift| drift.path == *place) {
            return Some(own);
        }
        self.step.systemd_unit.as_ref().filter(|unit| unit.enable)?;
        let link = Effect::Link { target: &format!("/{place}") }.to_string();
        drift.iter().find(|drift| drift.expected == link && !places.contains(&drift.path)).copied()
    }
}

/// The steps whose places the node does not allow: address, and why.
pub(crate) fn refused(spec: &Spec, bound: &BoundFacts) -> Vec<(String, String)> {
    let more = bound.node.destinations.iter().map(String::as_str);
    let folders = DESTINATIONS.into_iter().chain(more).collect::<Vec<_>>().join(", ");
    let refused = listed(spec).into_iter().filter(|listed| !listed.is_allowed(bound));
    refused
        .map(|listed| (listed.address, format!("this node lets reconstruction write only below {folders}")))
        .collect()
}

/// The steps that change something, and the checks, in the order of the manifest.
pub(crate) fn steps(desired: &Desired<'_>, bound: &BoundFacts, change: Change<'_>, steps: &mut Vec<Step>) {
    let list = listed(&desired.manifest.spec);
    let places: BTreeSet<&RelPath> = list.iter().filter_map(|listed| listed.place.as_ref()).collect();
    let current = change.current().map(|current| current.reconstruction.as_slice()).unwrap_or_default();
    let there: BTreeMap<&str, &RebuildFact> =
        current.iter().filter(|fact| fact.step != "verifyConfig").map(|fact| (fact.at.as_str(), fact)).collect();
    // What differs outside the state root is put right whichever generation is gone to.
    let drift: Vec<&Drift> = bound.drift.iter().filter(|drift| drift.place == DriftPlace::Os).collect();
    for listed in list.iter().filter(|listed| listed.is_allowed(bound)) {
        let step = if listed.is_check() {
            Some(check(listed, bound))
        } else {
            let drift = listed.drift(&drift, &places);
            match there.get(listed.fact.at.as_str()) {
                None => Some(creation(listed, change)),
                Some(before) if **before != listed.fact => Some(update(listed, before)),
                Some(_) => drift.map(|drift| repair(listed, drift)),
            }
        };
        steps.extend(step);
    }
}

fn shown(fact: &RebuildFact) -> Fields {
    fields([("state", fact.expected.clone()), ("step", fact.step.clone())])
}

fn step(listed: &Listed<'_>, action: Action, reason: StepReason, before: Fields, after: Fields) -> Step {
    Step { action, address: listed.address.clone(), reason, before, after }
}

fn creation(listed: &Listed<'_>, change: Change<'_>) -> Step {
    let (text, fact) = match change {
        Change::First => ("no generation is active yet", "current.generation"),
        Change::Update(_) | Change::Repair(_) | Change::Rollback(_) | Change::Same => {
            ("the active manifest puts nothing there", "current.reconstruction")
        }
    };
    step(listed, Action::Create, Why::RebuildAdded.because(text, fact), Fields::new(), shown(&listed.fact))
}

fn update(listed: &Listed<'_>, before: &RebuildFact) -> Step {
    let reason = Why::RebuildChanged.because("the manifest puts something else there", "current.reconstruction");
    step(listed, Action::Update, reason, shown(before), shown(&listed.fact))
}

/// The step that ends a difference. Of an enabled unit it may be one of its links that differs.
fn repair(listed: &Listed<'_>, drift: &Drift) -> Step {
    let is_own = listed.place.as_ref() == Some(&drift.path);
    let action = match drift.kind {
        DriftKind::Missing if is_own => Action::Create,
        DriftKind::Type if is_own => Action::Replace,
        DriftKind::Missing
        | DriftKind::Type
        | DriftKind::Content
        | DriftKind::Mode
        | DriftKind::Extra
        | DriftKind::Override
        | DriftKind::Invalid
        | DriftKind::Lowered
        | DriftKind::Stopped
        | DriftKind::Failed => Action::Update,
    };
    let name = if is_own { "state".to_owned() } else { format!("/{}", drift.path) };
    let side = |text: &str| {
        if text.is_empty() { Fields::new() } else { Fields::from([(name.clone(), text.to_owned())]) }
    };
    let reason = StepReason { remedy: None, ..why::of_drift(drift) };
    step(listed, action, reason, side(&drift.actual), side(&drift.expected))
}

fn check(listed: &Listed<'_>, bound: &BoundFacts) -> Step {
    let back = bound.lkg.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let fact = if bound.lkg.is_some() { "lkg.generation" } else { "current.generation" };
    let text = format!("it must exit 0 once the steps before it are done, else {back} is active again");
    let command = listed.step.verify_config.as_ref().map(|check| check.command.join(" "));
    let after = fields([("command", command.unwrap_or_default())]);
    step(listed, Action::Update, Why::RebuildCheck.because(text, fact), Fields::new(), after)
}

/// What reconstruction does, and where it leaves what the active manifest's steps put.
pub(crate) fn forecast(spec: &Spec, change: Change<'_>) -> Rebuilding {
    let mut forecast = Rebuilding::default();
    for step in &spec.reconstruction.steps {
        let counter = match step {
            ReconstructionStep { directory: Some(_), .. } => &mut forecast.directories,
            ReconstructionStep { symlink: Some(_), .. } => &mut forecast.links,
            ReconstructionStep { systemd_unit: Some(_), .. } => &mut forecast.units,
            ReconstructionStep { verify_config: Some(_), .. } => &mut forecast.checks,
            ReconstructionStep { .. } => &mut forecast.files,
        };
        *counter += 1;
    }
    let kept: BTreeSet<String> = spec
        .reconstruction
        .steps
        .iter()
        .filter(|step| step.verify_config.is_none())
        .map(ReconstructionStep::label)
        .collect();
    let current = change.current().map(|current| current.reconstruction.as_slice()).unwrap_or_default();
    let gone = current.iter().filter(|fact| fact.step != "verifyConfig" && !kept.contains(&fact.at));
    forecast.left = gone.map(|fact| fact.at.clone()).collect();
    forecast.left.sort();
    forecast
}
