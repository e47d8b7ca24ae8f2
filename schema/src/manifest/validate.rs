//! Rules that bind the values of a manifest together.

use std::collections::{BTreeMap, BTreeSet};

use super::{Artifact, ArtifactType, Precondition, ReconstructionStep, Service, StateManifest};
use crate::path::RelPath;
use crate::reason::{Code, Reason};
use crate::segments::ENTRY_BYTES;
use crate::tree::MAX_INDEX_BYTES;

/// Most artifacts in one manifest; the document cap is reached first when entries are long.
pub const MAX_ARTIFACTS: usize = 20_000;
/// Most entries of any other list.
pub const MAX_LIST: usize = 1_000;
/// Most bytes of one argument vector.
pub const MAX_COMMAND_BYTES: usize = 16_384;

pub(super) fn validate(manifest: &StateManifest) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut bad = |message: String| reasons.push(Reason::new(Code::BadValue, message));
    let (metadata, spec) = (&manifest.metadata, &manifest.spec);
    if metadata.serial == 0 {
        bad("`metadata.serial` is 0; serials start at 1".to_owned());
    }
    if metadata.expires_at <= metadata.issued_at {
        bad(format!(
            "`metadata.expiresAt` {} is not later than `issuedAt` {}",
            metadata.expires_at, metadata.issued_at
        ));
    }
    if spec.lock.path.as_str() != "autonomy.lock.json" {
        bad(format!("`spec.lock.path` is `{}`; expected `autonomy.lock.json`", spec.lock.path));
    }
    if spec.lock.fingerprint != spec.release.target_lock_fingerprint {
        bad("`spec.lock.fingerprint` differs from `spec.release.targetLockFingerprint`".to_owned());
    }
    if spec.policy.path.as_str() != "policy.tar.gz" {
        bad(format!("`spec.policy.path` is `{}`; expected `policy.tar.gz`", spec.policy.path));
    }
    let lists = [
        ("metadata.critical", metadata.critical.len(), MAX_LIST),
        ("spec.artifacts", spec.artifacts.len(), MAX_ARTIFACTS),
        ("spec.services", spec.services.len(), MAX_LIST),
        ("spec.preconditions", spec.preconditions.len(), MAX_LIST),
        ("spec.scope.nodes", spec.scope.nodes.len(), MAX_ARTIFACTS),
        ("spec.scope.hardware", spec.scope.hardware.len(), MAX_LIST),
        ("spec.scope.matchLabels", spec.scope.match_labels.len(), MAX_LIST),
        ("spec.reconstruction.steps", spec.reconstruction.steps.len(), MAX_LIST),
        ("spec.relay.peers", spec.relay.peers.len(), MAX_LIST),
        ("spec.revoked.manifests", spec.revoked.manifests.len(), MAX_ARTIFACTS),
        ("spec.revoked.keys", spec.revoked.keys.len(), MAX_ARTIFACTS),
    ];
    for (name, len, most) in lists {
        if len > most {
            reasons.push(Reason::new(Code::LimitExceeded, format!("`{name}` has {len} entries; at most {most}")));
        }
    }
    if let Some(window) = &spec.window {
        reasons.extend(window.validate());
    }
    for (at, service) in spec.services.iter().enumerate() {
        check_service(at, service, &mut reasons);
    }
    for (at, condition) in spec.preconditions.iter().enumerate() {
        check_precondition(at, condition, &mut reasons);
    }
    check_reconstruction(&spec.reconstruction.steps, &spec.artifacts, &mut reasons);
    if let Some(health) = &spec.health {
        check_command("spec.health.command", &health.command, &mut reasons);
    }
    check_artifacts(&spec.artifacts, &mut reasons);
    reasons.extend(spec.relay.validate());
    reasons
}

fn check_service(at: usize, service: &Service, reasons: &mut Vec<Reason>) {
    let place = format!("spec.services.{at}");
    match (&service.unit, service.action, service.command.is_empty()) {
        (Some(_), Some(_), true) => {}
        (None, None, false) => check_command(&format!("{place}.command"), &service.command, reasons),
        _ => reasons
            .push(Reason::new(Code::BadValue, format!("`{place}` must have either `unit` and `action`, or `command`"))),
    }
}

/// An argument vector: a program and bounded arguments without NUL.
fn check_command(place: &str, command: &[String], reasons: &mut Vec<Reason>) {
    let bytes: usize = command.iter().map(|argument| argument.len() + 1).sum();
    let problem = if command.first().is_none_or(String::is_empty) {
        "names no program"
    } else if bytes > MAX_COMMAND_BYTES {
        "is longer than 16384 bytes"
    } else if command.iter().any(|argument| argument.contains('\0')) {
        "holds a NUL character"
    } else if !command[0].starts_with('/') && command[0].parse::<crate::path::RelPath>().is_err() {
        "starts a program by an unsafe path; expected an absolute one or a path below `artifacts/`"
    } else {
        return;
    };
    reasons.push(Reason::new(Code::BadValue, format!("`{place}` {problem}")));
}

/// Longest text of a symbolic link in bytes (`PATH_MAX`).
const MAX_LINK_BYTES: usize = 4096;

/// Each step has one kind, a safe place of its own, and an artifact that the manifest pins. Whether the place is an allowed
/// one is the node's to say.
fn check_reconstruction(steps: &[ReconstructionStep], artifacts: &[Artifact], reasons: &mut Vec<Reason>) {
    let mut places = BTreeSet::new();
    for (at, step) in steps.iter().enumerate() {
        let name = format!("spec.reconstruction.steps.{at}");
        let mut bad = |what: String| reasons.push(Reason::new(Code::BadValue, format!("`{name}` {what}")));
        let kinds = step.kinds();
        if kinds.len() != 1 {
            bad(format!("sets {} step kinds; exactly one is right", kinds.len()));
            continue;
        }
        if let Some(wanted) = step.artifact()
            && !artifacts.iter().any(|artifact| artifact.name == *wanted && artifact.kind == ArtifactType::File)
        {
            bad(format!("needs the artifact `{wanted}`, and no artifact of type `file` has that name"));
        }
        if let Some(link) = &step.symlink
            && (link.target.is_empty()
                || link.target.len() > MAX_LINK_BYTES
                || link.target.chars().any(char::is_control))
        {
            bad("has a `target` that is empty, longer than 4096 bytes, or holds control characters".to_owned());
        }
        match step.place() {
            Some(Ok(place)) if !places.insert(place.clone()) => {
                bad(format!("writes `/{place}`, and so does a step before it"));
            }
            Some(Err(reason)) => reasons.push(Reason { message: format!("`{name}`: {}", reason.message), ..reason }),
            Some(Ok(_)) | None => {}
        }
        if let Some(check) = &step.verify_config {
            check_command(&format!("{name}.verifyConfig.command"), &check.command, reasons);
        }
    }
    check_places(steps, &places, reasons);
}

/// Places that cannot all hold: below a file or a link of another step, or where another file is while it is being written.
fn check_places(steps: &[ReconstructionStep], places: &BTreeSet<RelPath>, reasons: &mut Vec<Reason>) {
    for (at, step) in steps.iter().enumerate().filter(|(_, step)| step.directory.is_none()) {
        let Some(Ok(place)) = step.place() else { continue };
        let (below, beside) = (format!("{place}/"), format!(".{}.tmp", place.file_name()));
        let other = places.iter().find(|other| {
            let is_sibling = other.parent() == place.parent() && other.file_name() == beside;
            other.as_str().starts_with(&below) || is_sibling
        });
        if let Some(other) = other {
            let message =
                format!("`spec.reconstruction.steps.{at}` writes `/{place}`, so no step can write `/{other}`");
            reasons.push(Reason::new(Code::BadValue, message));
        }
    }
}

fn check_precondition(at: usize, condition: &Precondition, reasons: &mut Vec<Reason>) {
    let set = [&condition.equals, &condition.at_least, &condition.at_most]
        .into_iter()
        .filter(|bound| bound.is_some())
        .count();
    if set != 1 {
        let message =
            format!("`spec.preconditions.{at}` sets {set} of `equals`, `atLeast`, `atMost`; exactly one is right");
        reasons.push(Reason::new(Code::BadValue, message));
    }
}

fn check_artifacts(artifacts: &[Artifact], reasons: &mut Vec<Reason>) {
    let folded = |text: &str| text.to_lowercase();
    // Index files are named after artifacts, so names collide as paths do.
    let names: Vec<String> = artifacts.iter().map(|artifact| folded(artifact.name.as_str())).collect();
    let paths: Vec<String> = artifacts.iter().map(|artifact| folded(artifact.path.as_str())).collect();
    check_collisions("name", &names, |at| artifacts[at].name.as_str(), reasons);
    check_collisions("path", &paths, |at| artifacts[at].path.as_str(), reasons);
    // Slices of `paths`: a copy of every prefix of every path would be a bomb.
    check_trees(artifacts, reasons);
    let folders: BTreeSet<&str> = paths.iter().flat_map(|path| ancestors(path)).collect();
    for (at, artifact) in artifacts.iter().enumerate() {
        check_pins(at, artifact, reasons);
        if folders.contains(paths[at].as_str()) {
            let message = format!(
                "`spec.artifacts.{at}.path` is `{}`, which is also a folder of another artifact",
                artifact.path
            );
            reasons.push(Reason::new(Code::UnsafePath, message));
        }
    }
}

fn check_collisions<'a>(field: &str, folded: &[String], text: impl Fn(usize) -> &'a str, reasons: &mut Vec<Reason>) {
    let mut seen = BTreeMap::new();
    for (at, key) in folded.iter().enumerate() {
        if let Some(first) = seen.insert(key, at) {
            let (code, how) = if text(first) == text(at) {
                (Code::BadValue, "is also")
            } else {
                (Code::CaseCollision, "differs only in case from")
            };
            let message = format!(
                "`spec.artifacts.{at}.{field}` is `{}`, which {how} artifact {first}, `{}`",
                text(at),
                text(first)
            );
            reasons.push(Reason::new(code, message));
        }
    }
}

/// The folders above a path.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn check_pins(at: usize, artifact: &Artifact, reasons: &mut Vec<Reason>) {
    let name = format!("`spec.artifacts.{at}` ({})", artifact.name);
    let (whole, lacking, strange) = match artifact.kind {
        ArtifactType::File => {
            let strange = artifact.index.is_some().then_some("is a file and has an `index`");
            (artifact.file().is_some(), "`mode`, `size`, `digest`, `blake3`, `segments`", strange)
        }
        ArtifactType::Tree => {
            let strange =
                artifact.mode.is_some().then_some("is a tree, whose files have modes of their own, and has a `mode`");
            (artifact.tree().is_some(), "`index`, `size`, `digest`, `blake3`, `segments`", strange)
        }
    };
    if !whole {
        reasons.push(Reason::new(Code::MissingField, format!("{name} lacks one of {lacking}")));
    }
    if let Some(strange) = strange {
        reasons.push(Reason::new(Code::BadValue, format!("{name} {strange}")));
    }
    if let Some(segments) = artifact.segments
        && segments.count.checked_mul(ENTRY_BYTES) != Some(segments.size)
    {
        let (count, size) = (segments.count, segments.size);
        let message = format!("{name}: {count} segments need an index of {ENTRY_BYTES} bytes each, not {size}");
        reasons.push(Reason::new(Code::BadValue, message));
    }
}

/// Whoever reads a set holds the indices of its trees.
fn check_trees(artifacts: &[Artifact], reasons: &mut Vec<Reason>) {
    let sizes = artifacts.iter().filter_map(|artifact| artifact.index).map(|index| index.size);
    let bytes = sizes.fold(0, u64::saturating_add);
    if bytes > MAX_INDEX_BYTES {
        let message =
            format!("the indices of all trees have {bytes} bytes together; at most {MAX_INDEX_BYTES} are allowed");
        reasons.push(Reason::new(Code::LimitExceeded, message));
    }
}
