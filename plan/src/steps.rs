//! The steps of a plan, in the order of execution: artifacts, lock, policy, `edge.toml`, other repaired files, the
//! generation (the switch), reconstruction (`rebuild.rs`), services, health and confirmation, relay.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_schema::digest::Blake3;
use autonomy_schema::facts::{ArtifactFact, BoundFacts, Drift, DriftKind, DriftPlace};
use autonomy_schema::manifest::{Artifact, Service, ServiceAction, StateManifest};
use autonomy_schema::plan_doc::{Action, Step, StepReason};
use autonomy_schema::{generation, relay, set};

use crate::planner::{Change, Desired, PlanError};
use crate::why::{self, Why};

/// Address of the switch.
pub(crate) const GENERATION: &str = "generation";
/// Address of the trust root.
pub(crate) const TRUST_ROOT: &str = "trust.root";
/// Address prefix of artifacts.
pub(crate) const ARTIFACT: &str = "artifact.";

/// File name of the edge configuration below a generation.
pub(crate) const EDGE: &str = "edge.toml";

pub(crate) type Fields = BTreeMap<String, String>;

pub(crate) fn fields<const N: usize>(pairs: [(&str, String); N]) -> Fields {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The step that ends one difference.
fn repair(address: String, drift: &Drift) -> Step {
    let action = match drift.kind {
        DriftKind::Missing => Action::Create,
        DriftKind::Extra => Action::Remove,
        DriftKind::Type => Action::Replace,
        DriftKind::Content
        | DriftKind::Mode
        | DriftKind::Override
        | DriftKind::Invalid
        | DriftKind::Lowered
        | DriftKind::Stopped
        | DriftKind::Failed => Action::Update,
    };
    let field = match drift.kind {
        DriftKind::Mode => "mode",
        DriftKind::Type | DriftKind::Extra => "type",
        DriftKind::Lowered => "floors",
        DriftKind::Content
        | DriftKind::Missing
        | DriftKind::Override
        | DriftKind::Invalid
        | DriftKind::Stopped
        | DriftKind::Failed => "digest",
    };
    let shown = |value: &str| if value.is_empty() { Fields::new() } else { fields([(field, value.to_owned())]) };
    let reason = StepReason { remedy: None, ..why::of_drift(drift) };
    Step { action, address, reason, before: shown(&drift.actual), after: shown(&drift.expected) }
}

/// The newer trust root that comes with the set: told first, as the rest was verified under it.
pub(crate) fn trust(desired: &Desired<'_>, bound: &BoundFacts, steps: &mut Vec<Step>) {
    let Some(rotation) = desired.rotates_to else { return };
    let shown = |version: u64, root: Blake3| fields([("root", root.to_string()), ("version", version.to_string())]);
    let text = "a threshold of the pinned root's keys signed a newer one, and so on to this one";
    steps.push(Step {
        action: Action::Update,
        address: TRUST_ROOT.to_owned(),
        reason: Why::RootRotated.because(text, "trust.rootVersion"),
        before: shown(bound.trust.root_version, bound.trust.root),
        after: shown(rotation.version, rotation.root),
    });
}

/// What one artifact is, as fields.
fn artifact_fields(fact: &ArtifactFact) -> Fields {
    let mut known = fields([("blake3", fact.blake3.to_string()), ("size", fact.size.to_string())]);
    known.extend(fact.mode.map(|mode| ("mode".to_owned(), mode.to_string())));
    known.extend(fact.index.map(|index| ("index".to_owned(), index.to_string())));
    known
}

/// Artifacts by path: what comes, changes, goes, or is repaired. A tree is one step, however many files it has; what differs
/// in it is told file by file.
pub(crate) fn artifacts(
    manifest: &StateManifest,
    change: Change<'_>,
    drift: &[Drift],
    steps: &mut Vec<Step>,
) -> Result<(), PlanError> {
    let there: BTreeMap<&str, &ArtifactFact> = change
        .current()
        .map(|current| current.artifacts.iter().map(|fact| (fact.path.as_str(), fact)).collect())
        .unwrap_or_default();
    let wanted: BTreeMap<&str, &Artifact> =
        manifest.spec.artifacts.iter().map(|artifact| (artifact.path.as_str(), artifact)).collect();
    let drifted = drifted_artifacts(drift);
    let paths: BTreeSet<&str> = there.keys().chain(wanted.keys()).chain(drifted.keys()).copied().collect();
    for path in paths {
        let step = match (there.get(path), wanted.get(path)) {
            (before, Some(artifact)) => artifact_step(artifact, before.copied(), change)?
                .or_else(|| drifted.get(path).map(|drift| repair(format!("{ARTIFACT}{path}"), drift))),
            (Some(fact), None) => Some(removal(fact)),
            (None, None) => drifted.get(path).map(|drift| repair(format!("{ARTIFACT}{path}"), drift)),
        };
        steps.extend(step);
    }
    Ok(())
}

/// Differences below `artifacts/`, by path below it.
pub(crate) fn drifted_artifacts(drift: &[Drift]) -> BTreeMap<&str, &Drift> {
    drift.iter().filter_map(|drift| Some((artifact_path(drift)?, drift))).collect()
}

fn artifact_path(drift: &Drift) -> Option<&str> {
    if drift.place != DriftPlace::Generation {
        return None;
    }
    drift.path.as_str().strip_prefix(set::ARTIFACTS)?.strip_prefix('/')
}

fn removal(fact: &ArtifactFact) -> Step {
    Step {
        action: Action::Remove,
        address: format!("{ARTIFACT}{}", fact.path),
        reason: Why::Removed.because("the manifest no longer lists it", "current.artifacts"),
        before: artifact_fields(fact),
        after: Fields::new(),
    }
}

/// The step of an artifact that the manifest and the active generation see differently.
fn artifact_step(
    artifact: &Artifact,
    before: Option<&ArtifactFact>,
    change: Change<'_>,
) -> Result<Option<Step>, PlanError> {
    let pinned = ArtifactFact::of(artifact).ok_or_else(|| PlanError::Unpinned(artifact.path.clone()))?;
    let after = artifact_fields(&pinned);
    let address = format!("{ARTIFACT}{}", artifact.path);
    let Some(fact) = before else {
        let (text, fact) = match change {
            Change::First => ("no generation is active yet", "current.generation"),
            Change::Update(_) | Change::Repair(_) | Change::Rollback(_) | Change::Same => {
                ("the active generation does not have it", "current.artifacts")
            }
        };
        let reason = Why::Added.because(text, fact);
        return Ok(Some(Step { action: Action::Create, address, reason, before: Fields::new(), after }));
    };
    let (why, text) = if fact.blake3 != pinned.blake3 || fact.size != pinned.size {
        (Why::ContentChanged, "the manifest pins other bytes")
    } else if fact.index != pinned.index {
        (Why::ContentChanged, "the manifest pins other names or modes of its files")
    } else if fact.mode != pinned.mode {
        (Why::ModeChanged, "the manifest pins another mode")
    } else {
        return Ok(None);
    };
    let reason = why.because(text, "current.artifacts");
    Ok(Some(Step { action: Action::Update, address, reason, before: artifact_fields(fact), after }))
}

/// Lock, policy and `edge.toml`, then the other files of a generation that is repaired.
pub(crate) fn parts(desired: &Desired<'_>, change: Change<'_>, drift: &[Drift], steps: &mut Vec<Step>) {
    let spec = &desired.manifest.spec;
    let own = drift.iter().filter(|drift| drift.place == DriftPlace::Generation);
    let by_path: BTreeMap<&str, &Drift> = own.clone().map(|drift| (drift.path.as_str(), drift)).collect();
    let current = change.current();
    let mut policy = fields([("digest", spec.policy.digest.to_string())]);
    if let Some(version) = desired.policy_semver {
        policy.insert("version".to_owned(), version.to_owned());
    }
    let parts = [
        Part {
            address: "lock",
            path: set::LOCK,
            why: Why::LockChanged,
            text: "what the agent is made of changed",
            fact: "current.lock",
            before: current.map(|current| ("fingerprint", current.lock.to_string())),
            after: fields([("fingerprint", spec.lock.fingerprint.to_string())]),
        },
        Part {
            address: "policy",
            path: set::POLICY,
            why: Why::PolicyChanged,
            text: "the manifest pins another policy bundle",
            fact: "current.policy",
            before: current.map(|current| ("digest", current.policy.to_string())),
            after: policy,
        },
        Part {
            address: EDGE,
            path: EDGE,
            why: Why::RelayChanged,
            text: "`spec.relay` changed",
            fact: "current.edge",
            before: current.map(|current| ("blake3", current.edge.to_string())),
            after: fields([("blake3", edge_digest(&spec.relay).to_string())]),
        },
    ];
    for part in parts {
        let drifted = by_path.get(part.path).copied();
        steps.extend(part.step(drifted));
    }
    // A new manifest brings these files anew; only a repair puts them right one by one.
    if matches!(change, Change::Repair(_)) {
        let others = own.filter(|drift| {
            artifact_path(drift).is_none() && ![set::LOCK, set::POLICY, EDGE].contains(&drift.path.as_str())
        });
        steps.extend(others.map(|drift| repair(format!("file.{}", drift.path), drift)));
        let lowered = drift.iter().filter(|drift| drift.kind == DriftKind::Lowered);
        steps.extend(lowered.map(|drift| repair("floors".to_owned(), drift)));
    }
}

fn edge_digest(relay: &relay::Relay) -> Blake3 {
    Blake3::of(relay.edge_toml().as_bytes())
}

/// A file of the generation beside the artifacts.
struct Part {
    address: &'static str,
    path: &'static str,
    why: Why,
    text: &'static str,
    fact: &'static str,
    before: Option<(&'static str, String)>,
    after: Fields,
}

impl Part {
    fn step(self, drifted: Option<&Drift>) -> Option<Step> {
        let address = self.address.to_owned();
        let Some((field, before)) = self.before else {
            let reason = Why::Added.because("no generation is active yet", "current.generation");
            return Some(Step { action: Action::Create, address, reason, before: Fields::new(), after: self.after });
        };
        if self.after.get(field) == Some(&before) {
            return drifted.map(|drift| repair(address, drift));
        }
        let reason = self.why.because(self.text, self.fact);
        let before = fields([(field, before)]);
        Some(Step { action: Action::Update, address, reason, before, after: self.after })
    }
}

/// The switch: the one step that makes the others count.
pub(crate) fn generation(desired: &Desired<'_>, change: Change<'_>) -> Step {
    let (metadata, spec) = (&desired.manifest.metadata, &desired.manifest.spec);
    let before = change.current().map_or_else(Fields::new, |current| {
        fields([
            ("generation", current.generation.to_string()),
            ("manifest", current.manifest.to_string()),
            ("release", current.release.clone()),
            ("serial", current.serial.to_string()),
        ])
    });
    let name = match desired.returns_to {
        Some(generation) => generation.to_string(),
        None => format!("{}<n>", generation::prefix(metadata.serial, desired.fingerprint)),
    };
    let after = fields([
        ("generation", name),
        ("manifest", desired.fingerprint.to_string()),
        ("release", spec.release.version.to_string()),
        ("serial", metadata.serial.to_string()),
    ]);
    let (action, why, mut text) = match change {
        Change::First => (Action::Create, Why::FirstActivation, "no generation is active yet".to_owned()),
        Change::Repair(_) | Change::Same => {
            (Action::Replace, Why::Repair, "a fresh generation of the same manifest takes its place".to_owned())
        }
        Change::Update(_) => (Action::Update, Why::ManifestChanged, "another manifest is active".to_owned()),
        Change::Rollback(_) => (
            Action::Update,
            Why::RollbackAsked,
            "the node returns to a generation that it had; what it leaves is pinned".to_owned(),
        ),
    };
    if let Some(target) = metadata.rollback_of {
        text = format!("{text}; it steps back to {} on purpose", target.short());
    }
    if let (Some(parent), Change::Update(current)) = (metadata.parent, change)
        && parent != current.manifest
    {
        text = format!("{text}; its parent {} is not the active one", parent.short());
    }
    let fact = if matches!(change, Change::First) { "current.generation" } else { "current.manifest" };
    let reason = why.because(text, fact);
    Step { action, address: GENERATION.to_owned(), reason, before, after }
}

/// The services that something is done to.
pub(crate) fn running(manifest: &StateManifest) -> impl Iterator<Item = &Service> {
    manifest.spec.services.iter().filter(|service| service.action != Some(ServiceAction::None))
}

/// Services, in the order of the manifest. One that is named twice has its number in the address.
pub(crate) fn services(manifest: &StateManifest, change: Change<'_>, drift: &[Drift], steps: &mut Vec<Step>) {
    let down = |label: &str| {
        let path = format!("services/{label}");
        drift.iter().find(|drift| drift.place == DriftPlace::Node && drift.path.as_str() == path)
    };
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for service in running(manifest) {
        let count = seen.entry(service.label()).or_default();
        *count += 1;
        let number = if *count == 1 { String::new() } else { format!("#{count}") };
        let verb = match service.action {
            Some(ServiceAction::Reload) => "reload",
            Some(ServiceAction::Restart | ServiceAction::None) => "restart",
            None => "run",
        };
        let mut after = fields([("action", verb.to_owned())]);
        if !service.command.is_empty() {
            // JSON would quote twice; a list is enough to read.
            after.insert("command".to_owned(), service.command.join(" "));
        }
        let fact = if matches!(change, Change::First) { "current.generation" } else { "current.manifest" };
        steps.push(Step {
            action: Action::Update,
            address: format!("service.{}{number}", service.label()),
            reason: match down(service.label()) {
                Some(drift) => StepReason { remedy: None, ..why::of_drift(drift) },
                None => Why::AfterSwitch.because("it takes up the new generation", fact),
            },
            before: Fields::new(),
            after,
        });
    }
}

/// Address of the health command.
pub(crate) const HEALTH: &str = "health";
/// Address of the wait for a confirmation.
pub(crate) const CONFIRM: &str = "confirm";

/// What the new generation must prove after its services: health, and a confirmation in time.
pub(crate) fn proof(desired: &Desired<'_>, bound: &BoundFacts, steps: &mut Vec<Step>) {
    let spec = &desired.manifest.spec;
    let back = bound.lkg.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let fact = if bound.lkg.is_some() { "lkg.generation" } else { "current.generation" };
    let mut push = |address: &str, reason: StepReason, after: Fields| {
        let before = Fields::new();
        steps.push(Step { action: Action::Update, address: address.to_owned(), reason, before, after });
    };
    if let Some(health) = &spec.health {
        let text = format!("it must exit 0 within {}, else {back} is active again", health.timeout);
        let after = fields([("command", health.command.join(" ")), ("timeout", health.timeout.to_string())]);
        push(HEALTH, Why::HealthCheck.because(text, fact), after);
    }
    // What was confirmed once is not asked about again.
    let serial = desired.manifest.metadata.serial;
    let is_confirmed = bound.lkg.as_ref().is_some_and(|lkg| generation::is_of(lkg, serial, desired.fingerprint));
    if let Some(confirm) = spec.confirm.as_ref().filter(|_| !is_confirmed) {
        let text = format!("`autonomy confirm` must come within {}, else {back} is active again", confirm.within);
        push(CONFIRM, Why::AfterHealth.because(text, fact), fields([("within", confirm.within.to_string())]));
    }
}

/// Peers, in the order of the manifest, unless the manifest waits for the relay already, or waits to be confirmed. A node
/// that finds itself among the peers skips itself, so that one list serves a whole fleet.
pub(crate) fn relay(desired: &Desired<'_>, bound: &BoundFacts, steps: &mut Vec<Step>) {
    let waits = bound.awaiting.is_some()
        && bound.current.as_ref().is_some_and(|current| current.manifest == desired.fingerprint);
    // What is returned to is older than what the peers may have.
    if waits || desired.returns_to.is_some() || bound.outbox.contains(&desired.fingerprint) {
        return;
    }
    let fact = format!("outbox.{}", desired.fingerprint.short());
    let peers = desired.manifest.spec.relay.peers.iter().filter(|peer| peer.id != bound.node.id);
    steps.extend(peers.map(|peer| Step {
        action: Action::Relay,
        address: format!("relay.{}", peer.id),
        reason: Why::NotInOutbox.because("the signed set goes on to this peer", fact.clone()),
        before: Fields::new(),
        after: fields([("address", peer.address.clone())]),
    }));
}
