//! What a purpose binds, once the signatures hold:
//!
//! | rule | Change | Repair | Relay | Rollback | Recover |
//! | --- | --- | --- | --- | --- | --- |
//! | expiry of manifest and root, `issuedAt` | x | x | x | | |
//! | serial too low, serial conflict | x | | x | | |
//! | serial step | x | | | | |
//! | revocation number | x | | x | | |
//! | root version; revoked manifest, revoked keys; fleet | x | x | x | x | |
//! | stream, nodes, hardware, labels, `minTool` | x | x | | x | |
//!
//! A repair binds no serial: a newer release that failed has raised the floor, and the node runs the older one still.
//!
//! Recovery binds none of them: the node admitted these bytes before it raised the floors, and an interrupted change
//! that could be neither finished nor undone would leave the node with nothing.

use std::collections::BTreeSet;

use autonomy_schema::floors::Floors;
use autonomy_schema::manifest::{Revoked, semver_text::Version};
use autonomy_schema::node::Node;
use autonomy_schema::root::Role;
use autonomy_schema::version::TOOL_VERSION;
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, Sha256, StateManifest, Time};

use crate::root::PinnedRoot;
use crate::verified::{Context, Purpose};

/// Every reason against `manifest`.
pub(crate) fn judge(manifest: &StateManifest, fingerprint: Blake3, context: &Context<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let (fresh, forward, acted_on) = match context.purpose {
        Purpose::Recover => return reasons,
        Purpose::Change => (true, true, true),
        Purpose::Repair => (true, false, true),
        Purpose::Relay => (true, true, false),
        Purpose::Rollback => (false, false, true),
    };
    if fresh {
        reasons.extend(expiry(manifest, context));
        reasons.extend(issued_in_future("the manifest", manifest.metadata.issued_at, context));
    }
    if forward {
        reasons.extend(serial(manifest, fingerprint, context));
        reasons.extend(revocation_number(manifest, context));
    }
    if acted_on {
        reasons.extend(stream(manifest, context.floors));
        reasons.extend(min_tool(manifest));
    }
    reasons.extend(root_version(manifest, context));
    reasons.extend(revoked_manifest(manifest, fingerprint, context));
    if let Some(node) = context.node {
        reasons.extend(scope(manifest, node, acted_on));
    }
    reasons
}

/// What can be told of a manifest that nobody signed yet, before it is: everything above that needs neither signatures
/// nor the trust root. It lets a plan be shown; it never makes a [`crate::Verified`].
pub fn draft_reasons(
    manifest: &StateManifest,
    fingerprint: Blake3,
    floors: &Floors,
    node: &Node,
    clock: Time,
) -> Vec<Reason> {
    let now = latest(floors.time_mark, clock);
    let mut reasons: Vec<Reason> = past("the manifest", manifest.metadata.expires_at, now).into_iter().collect();
    reasons.extend(floor(manifest, fingerprint, floors));
    reasons.extend(stream(manifest, floors));
    reasons.extend(min_tool(manifest));
    reasons.extend(scope(manifest, node, true));
    reasons
}

/// Why the manifest is not for this node, by fleet, node names, hardware and labels; empty when it is.
pub fn scope_reasons(manifest: &StateManifest, node: &Node) -> Vec<Reason> {
    scope(manifest, node, true)
}

/// Judges under the pinned root; where the node admitted the bytes before, also under the roots that were pinned then,
/// newest first. What the pinned root says is what is told, save that a signer is revoked: that is the graver cause.
pub(crate) fn under_any_root<T>(
    context: &Context<'_>,
    judge: impl Fn(&PinnedRoot) -> Result<T, Reasons>,
) -> Result<T, Reasons> {
    let mut refusal = match (judge(context.root), context.purpose) {
        (Ok(judged), _) => return Ok(judged),
        (Err(refusal), Purpose::Change | Purpose::Relay) => return Err(refusal),
        (Err(refusal), Purpose::Repair | Purpose::Rollback | Purpose::Recover) => refusal,
    };
    for root in context.root.earlier() {
        match judge(root) {
            Ok(judged) => return Ok(judged),
            Err(earlier) if earlier.has(Code::Revoked) && !refusal.has(Code::Revoked) => refusal = earlier,
            Err(_below_as_well) => {}
        }
    }
    // The root under which it was admitted may be lost here.
    let remedy = "if an earlier root admitted it, bring that one: `autonomy trust import` of a medium with every root";
    let with = |reason: Reason| {
        if reason.code == Code::BelowThreshold { reason.with_remedy(remedy) } else { reason }
    };
    let told = refusal.clone().into_vec().into_iter().map(with).collect();
    Err(Reasons::new(told).unwrap_or(refusal))
}

/// Role `offline` alone moves a node forward in the field; whom the node trusts is not its business, else whoever holds
/// those keys could lock out the ones that are not in the field.
pub(crate) fn offline(manifest: &StateManifest, roles: &BTreeSet<Role>, context: &Context<'_>) -> Option<Reason> {
    let alone = roles.contains(&Role::Offline) && !roles.contains(&Role::Manifest);
    (alone && brings_revocations(context, manifest)).then(|| {
        let (found, seen) = (manifest.spec.revoked.number, context.floors.revoked.number);
        let message = format!(
            "role `offline` alone signed the manifest, and may not bring a newer revocation list ({found}; this node has \
             seen {seen})"
        );
        Reason::new(Code::RoleMismatch, message).with_remedy("leave `spec.revoked` as it was, or sign with role `manifest`")
    })
}

/// Whether the manifest replaces the node's revocation list.
pub(crate) fn brings_revocations(context: &Context<'_>, manifest: &StateManifest) -> bool {
    matches!(context.purpose, Purpose::Change | Purpose::Relay)
        && manifest.spec.revoked.number > context.floors.revoked.number
}

/// The newest list that binds: the floors', or the manifest's own when it is newer.
fn revocations<'a>(context: &Context<'a>, manifest: Option<&'a StateManifest>) -> Option<&'a Revoked> {
    match (context.purpose, manifest) {
        (Purpose::Recover, _) => None,
        (_, Some(manifest)) if brings_revocations(context, manifest) => Some(&manifest.spec.revoked),
        _ => Some(&context.floors.revoked),
    }
}

/// The keys that count for nothing.
pub(crate) fn revoked_keys(context: &Context<'_>, manifest: Option<&StateManifest>) -> BTreeSet<Sha256> {
    revocations(context, manifest).map(|list| list.keys.iter().copied().collect()).unwrap_or_default()
}

fn expiry(manifest: &StateManifest, context: &Context<'_>) -> Vec<Reason> {
    let root = context.root.document();
    let documents = [
        ("the manifest".to_owned(), manifest.metadata.expires_at),
        (format!("trust root version {}", root.version), root.expires_at),
    ];
    documents.into_iter().filter_map(|(what, expires)| expired(&what, expires, context)).collect()
}

/// A clock that was set back does not bring an expired document to life: the mark stays.
pub(crate) fn expired(what: &str, expires: Time, context: &Context<'_>) -> Option<Reason> {
    past(what, expires, latest(context.floors.time_mark, context.clock))
}

fn past(what: &str, expires: Time, now: Time) -> Option<Reason> {
    (expires <= now).then(|| Reason::new(Code::Expired, format!("{what} expired at {expires}; it is {now} or later")))
}

/// Far ahead of everything that is known of the time.
pub(crate) fn issued_in_future(what: &str, issued: Time, context: &Context<'_>) -> Option<Reason> {
    let known = latest(context.floors.time_mark, context.clock.max(context.released));
    let step = context.root.document().max_time_step;
    (issued > known.plus(step)).then(|| {
        let message = format!("{what} was issued at {issued}, more than {step} after {known}");
        Reason::new(Code::IssuedInFuture, message)
    })
}

fn latest(mark: Option<Time>, other: Time) -> Time {
    mark.map_or(other, |mark| mark.max(other))
}

fn serial(manifest: &StateManifest, fingerprint: Blake3, context: &Context<'_>) -> Option<Reason> {
    if let Some(reason) = floor(manifest, fingerprint, context.floors) {
        return Some(reason);
    }
    let name = &manifest.metadata.name;
    let serial = manifest.metadata.serial;
    let floor = context.floors.streams.get(name)?;
    // What is only passed on raises no floor, so a far serial does no harm here.
    let step = context.root.document().max_serial_step;
    (context.purpose == Purpose::Change && serial - floor.serial > step).then(|| {
        let message =
            format!("serial {serial} of stream `{name}` is more than {step} above {}, the highest seen", floor.serial);
        Reason::new(Code::SerialStep, message)
    })
}

/// A serial below the floor, or on it with other bytes.
fn floor(manifest: &StateManifest, fingerprint: Blake3, floors: &Floors) -> Option<Reason> {
    let name = &manifest.metadata.name;
    let serial = manifest.metadata.serial;
    let floor = floors.streams.get(name)?;
    if serial < floor.serial {
        let message = format!("serial {serial} of stream `{name}` is below {}, which this node has seen", floor.serial);
        return Some(Reason::new(Code::SerialTooLow, message));
    }
    (serial == floor.serial && fingerprint != floor.manifest).then(|| {
        let message =
            format!("serial {serial} of stream `{name}` was seen as {}; these bytes are {fingerprint}", floor.manifest);
        Reason::new(Code::SerialConflict, message)
    })
}

fn revocation_number(manifest: &StateManifest, context: &Context<'_>) -> Option<Reason> {
    let (found, seen) = (manifest.spec.revoked.number, context.floors.revoked.number);
    if found < seen {
        let message = format!("`spec.revoked.number` is {found}; this node has seen {seen}");
        return Some(Reason::new(Code::RevocationNumberLowered, message));
    }
    // What is only passed on raises no floor.
    if context.purpose == Purpose::Change { revocation_step(found, context) } else { None }
}

/// A number so high that no later list could follow it. A node that has seen nothing yet takes what its fleet has come to.
pub(crate) fn revocation_step(found: u64, context: &Context<'_>) -> Option<Reason> {
    let (seen, step) = (context.floors.revoked.number, context.root.document().max_serial_step);
    let is_new = seen == 0 && context.floors.streams.is_empty();
    (!is_new && found.saturating_sub(seen) > step).then(|| {
        let message = format!("revocation list {found} is more than {step} above {seen}, the highest seen");
        Reason::new(Code::SerialStep, message)
    })
}

fn stream(manifest: &StateManifest, floors: &Floors) -> Option<Reason> {
    let followed = floors.stream.as_ref()?;
    let name = &manifest.metadata.name;
    (name != followed).then(|| {
        Reason::new(Code::WrongStream, format!("the manifest is of stream `{name}`; this node follows `{followed}`"))
    })
}

fn min_tool(manifest: &StateManifest) -> Option<Reason> {
    let least = manifest.metadata.min_tool.as_ref()?;
    let enough = TOOL_VERSION.parse::<Version>().is_ok_and(|tool| tool >= *least);
    (!enough).then(|| {
        Reason::new(Code::ToolTooOld, format!("the manifest demands autonomy {least}; this is {TOOL_VERSION}"))
    })
}

fn root_version(manifest: &StateManifest, context: &Context<'_>) -> Vec<Reason> {
    let pinned = context.root.document().version;
    let needed = [
        ("the manifest was signed under", manifest.metadata.root_version.unwrap_or(0)),
        ("this node has seen", context.floors.root_version),
    ];
    needed
        .into_iter()
        .filter(|(_, version)| *version > pinned)
        .map(|(who, version)| {
            Reason::new(Code::RootGap, format!("{who} trust root version {version}; version {pinned} is pinned"))
        })
        .collect()
}

fn revoked_manifest(manifest: &StateManifest, fingerprint: Blake3, context: &Context<'_>) -> Option<Reason> {
    let list = revocations(context, Some(manifest))?;
    list.manifests
        .contains(&fingerprint)
        .then(|| Reason::new(Code::Revoked, format!("manifest {fingerprint} is on revocation list {}", list.number)))
}

/// `acted_on`: a node that passes a manifest on need not be the one that it is for, but of the same fleet.
fn scope(manifest: &StateManifest, node: &Node, acted_on: bool) -> Vec<Reason> {
    let scope = &manifest.spec.scope;
    let mut reasons = Vec::new();
    let mut mismatch = |message: String| reasons.push(Reason::new(Code::ScopeMismatch, message));
    if scope.fleet != node.fleet {
        mismatch(format!("the manifest is for fleet `{}`; this node is of fleet `{}`", scope.fleet, node.fleet));
    }
    if !acted_on {
        return reasons;
    }
    if !scope.nodes.is_empty() && !scope.nodes.contains(&node.node_id) {
        mismatch(format!("the manifest names {} nodes; this node, `{}`, is not one", scope.nodes.len(), node.node_id));
    }
    if !scope.hardware.is_empty() && !scope.hardware.contains(&node.hardware) {
        let wanted: Vec<&str> = scope.hardware.iter().map(Name::as_str).collect();
        mismatch(format!("the manifest is for hardware {}; this node is `{}`", wanted.join(", "), node.hardware));
    }
    for (key, wanted) in &scope.match_labels {
        let (key_shown, wanted_shown) = (key.escape_default(), wanted.escape_default());
        match node.labels.get(key) {
            Some(value) if value == wanted => {}
            Some(value) => mismatch(format!(
                "the manifest is for `{key_shown}={wanted_shown}`; this node has `{key_shown}={}`",
                value.escape_default()
            )),
            None => mismatch(format!(
                "the manifest is for `{key_shown}={wanted_shown}`; this node has no label `{key_shown}`"
            )),
        }
    }
    reasons
}
