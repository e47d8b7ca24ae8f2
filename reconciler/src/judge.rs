//! From a source to a plan with its verdicts. Nothing is written.

use std::io::Read as _;
use std::path::Path;

use autonomy_plan::render::{TextPair, Texts};
use autonomy_plan::{Desired, Origin, Plan};
use autonomy_policy::Bundle;
use autonomy_schema::facts::{Facts, RevokedFact, RevokedWhat};
use autonomy_schema::manifest::StateManifest;
use autonomy_schema::plan_doc::{PlanDoc, Verdicts};
use autonomy_schema::policy_override::PolicyOverride;
use autonomy_schema::root::Rotation;
use autonomy_schema::version::released_at;
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, RelPath, Sha256, Time, document, set};
use autonomy_stateroot::{FactOptions, SetSource, StatCache, StateRoot, UnitProbe, collect, layout, read_capped};
use autonomy_trust::{PinnedRoot, Purpose, Signed, Verified, verify_lock, verify_manifest, verify_override};

use crate::{decisions, platform, saved};
use autonomy_sets::{Loaded, load};
use autonomy_sets::{SetCheck, VerifiedSet, verify_set};

/// How a plan is made.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// The clock.
    pub clock: Time,
    /// Read every byte, whatever the stat cache says.
    pub verify_content: bool,
    /// Where the platform is looked at; `/` on a node.
    pub os_root: &'a Path,
    /// Told while files are hashed: bytes done, bytes in all.
    pub progress: &'a dyn Fn(u64, u64),
    /// Asked how the units of the active manifest are.
    pub units: UnitProbe<'a>,
}

/// A plan with all that led to it.
pub struct Prepared {
    /// The verified set.
    pub set: VerifiedSet,
    /// The facts.
    pub facts: Facts,
    /// The plan.
    pub plan: Plan,
    /// The plan as it is shown.
    pub doc: PlanDoc,
    /// Texts for diffs, which are shown and never stored.
    pub texts: Texts,
    /// The trust root by which the set was verified: the pinned one, or a newer one that it brings.
    pub(crate) trust: PinnedRoot,
    /// What lets it pass although the policy says no.
    pub(crate) by: Option<Verified<PolicyOverride>>,
}

impl Prepared {
    /// Why the plan must not be applied; empty when it may.
    pub fn reasons(&self) -> Vec<Reason> {
        against(&self.plan, &self.doc.verdicts)
    }

    /// The same without suspension and window, which `--now-anyway` overrides.
    pub fn reasons_anyway(&self) -> Vec<Reason> {
        self.reasons().into_iter().filter(|reason| !is_held(reason.code)).collect()
    }
}

/// Verifies the set, plans it against the node's state, and asks policy and platform.
pub fn prepare(root: &StateRoot, source: &dyn SetSource, options: &Options<'_>) -> Result<Prepared, Reasons> {
    prepare_as(root, source, &Asked::default(), options)
}

/// What an operator brings beside the set.
#[derive(Clone, Copy, Default)]
pub struct Asked<'a> {
    /// The plan that was saved and approved: first of all it must still hold.
    pub saved: Option<&'a PlanDoc>,
    /// A policy override.
    pub policy_override: Option<Signed<'a>>,
}

/// The same with a saved plan, or with a policy override.
pub fn prepare_as(
    root: &StateRoot,
    source: &dyn SetSource,
    asked: &Asked<'_>,
    options: &Options<'_>,
) -> Result<Prepared, Reasons> {
    let mut loaded = load(root)?;
    let cache = known(root, options);
    // Who is not trusted is told nothing of the node: what is wrong with its own state comes after the signatures.
    let facts = facts(root, &cache, options);
    if let Ok(facts) = &facts {
        loaded.prove(facts);
    }
    let peeked = peek(source, set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64);
    if let Some(saved) = asked.saved {
        saved::check(root, saved, &peeked, facts.as_ref().map_err(Clone::clone)?)?;
    }
    loaded.adopt_from(source)?;
    let context = loaded.context(options.clock, purpose(root, &peeked)?);
    let check = SetCheck { set: source, context: &context, cache: &cache, progress: options.progress };
    let set = verify_set(&check)?;
    // The purpose was chosen by bytes that were read before those that were verified.
    if purpose(root, set.manifest.bytes())? != context.purpose {
        return Err(Reason::new(Code::StalePlan, "the set or the active generation changed meanwhile").into());
    }
    loaded.check_offline(&set.manifest)?;
    let by = asked.policy_override.map(|signed| verify_override(signed, set.manifest.fingerprint(), &context));
    let by = by.transpose()?;
    let Loaded { root: trust, rotates, .. } = loaded;
    Ok(judge(root, set, facts?, rotates, by)?.shown(root, source, trust))
}

/// What is known of files, unless every byte shall be read.
pub(crate) fn known(root: &StateRoot, options: &Options<'_>) -> StatCache {
    if options.verify_content { StatCache::default() } else { StatCache::load(root) }
}

/// The facts of the node as it is now. Writes nothing.
pub fn look(root: &StateRoot, options: &Options<'_>) -> Result<Facts, Reasons> {
    facts(root, &known(root, options), options)
}

/// A file of the set as it lies there, to be verified later; empty when it cannot be read.
pub(crate) fn peek(source: &dyn SetSource, name: &'static str, cap: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    match source.open(&RelPath::fixed(name)).map(|file| file.take(cap).read_to_end(&mut bytes)) {
        Ok(Ok(_)) => bytes,
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// The very manifest that the node runs is repaired; everything else is a change. A failed release leaves its serial
/// in the floors, and the release that is active again must not be refused for that.
pub(crate) fn purpose(root: &StateRoot, manifest: &[u8]) -> Result<Purpose, Reasons> {
    let Some(active) = root.current()? else { return Ok(Purpose::Change) };
    let path = layout::generation_manifest(&active);
    let active = read_capped(root.disk(), &path, document::MAX_DOCUMENT_BYTES as u64);
    let active = active.map_err(|error| error.to_reason())?;
    Ok(if active.as_deref() == Some(manifest) { Purpose::Repair } else { Purpose::Change })
}

/// The facts of the node, with what only a verifier can tell: whether what runs is revoked.
pub(crate) fn facts(root: &StateRoot, cache: &StatCache, options: &Options<'_>) -> Result<Facts, Reasons> {
    let how = FactOptions {
        clock: options.clock,
        verify_content: options.verify_content,
        os_root: options.os_root,
        cache,
        units: options.units,
    };
    let mut facts = collect(root, &how)?;
    platform::look(root, &mut facts, options);
    if let Some(current) = &mut facts.bound.current {
        current.revoked = revoked(root, &current.generation, current.manifest);
    }
    Ok(facts)
}

/// Whether the active manifest, or keys that its threshold or its lock's needs, are on the node's revocation list. A node
/// whose trust root or floors cannot be read says so elsewhere.
pub(crate) fn revoked(root: &StateRoot, generation: &Name, manifest: Blake3) -> Option<RevokedFact> {
    // Most nodes have no list, and then nothing is verified for it.
    let list = root.floors().ok()??.revoked;
    let number = list.number;
    if number == 0 {
        return None;
    }
    if list.manifests.contains(&manifest) {
        return Some(RevokedFact { number, what: RevokedWhat::Manifest });
    }
    let bytes = generation_file(root, generation, set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64).ok()?;
    let signatures = generation_file(root, generation, set::MANIFEST_SIGNATURES, set::MAX_SIGNATURES_BYTES).ok()?;
    let loaded = load(root).ok()?;
    let context = loaded.context(released_at(), Purpose::Rollback);
    let manifest = verify_manifest(Signed { bytes: &bytes, signatures: &signatures }, &context);
    let lock = generation_file(root, generation, set::LOCK, document::MAX_DOCUMENT_BYTES as u64).ok()?;
    let signatures = generation_file(root, generation, set::LOCK_SIGNATURES, set::MAX_SIGNATURES_BYTES).ok()?;
    let verified = manifest.and_then(|manifest| {
        verify_lock(Signed { bytes: &lock, signatures: &signatures }, &manifest, &context).map(drop)
    });
    verified.err()?.has(Code::Revoked).then_some(RevokedFact { number, what: RevokedWhat::Keys })
}

/// A verified set, judged: what apply needs, without what only people read.
pub(crate) struct Judged {
    pub(crate) set: VerifiedSet,
    pub(crate) facts: Facts,
    pub(crate) plan: Plan,
    /// The policy that was asked.
    pub(crate) bundle: Bundle,
    /// The policy of the set, where another is active and was asked.
    incoming: Option<Bundle>,
    pub(crate) verdicts: Verdicts,
    /// What lets it pass although the policy says no.
    pub(crate) by: Option<Verified<PolicyOverride>>,
}

/// Plans a verified set against facts, and asks policy and platform.
pub(crate) fn judge(
    root: &StateRoot,
    set: VerifiedSet,
    facts: Facts,
    rotates_to: Option<Rotation>,
    by: Option<Verified<PolicyOverride>>,
) -> Result<Judged, Reasons> {
    let manifest = set.manifest.document();
    let incoming = Bundle::load(&set.policy).map_err(|error| Reason::new(Code::PolicyError, error.to_string()))?;
    let (built, locked) = (&incoming.manifest().policy_bundle_version, &set.lock.document().policy_bundle.semver);
    if *built != *locked {
        let message = format!("the lock binds policy version {locked}, the bundle says {built}");
        return Err(Reason::new(Code::DigestMismatch, message).into());
    }
    let version = built.to_string();
    let desired = Desired {
        policy_semver: Some(&version),
        offline: set.manifest.is_offline(),
        rotates_to,
        ..Desired::new(manifest, set.manifest.fingerprint())
    };
    let plan = autonomy_plan::plan(&desired, &facts).map_err(|error| Reason::new(Code::BadValue, error.to_string()))?;
    let (bundle, incoming) = match active_policy(root, &facts, manifest)? {
        Some(active) => (active, Some(incoming)),
        None => (incoming, None),
    };
    let mut verdicts = Verdicts { precheck: autonomy_plan::prechecks(manifest, &plan, &facts), policy: Vec::new() };
    if plan.has_changes() {
        verdicts.policy = autonomy_policy::verdicts(&bundle, manifest, plan.doc(), &facts);
    }
    if let Some(by) = &by {
        verdicts.policy = autonomy_policy::overridden(verdicts.policy, by, set.manifest.fingerprint());
    }
    Ok(Judged { set, facts, plan, bundle, incoming, verdicts, by })
}

/// Whether a reason only holds a change for a time, and so may be overridden by somebody who answers for it.
pub(crate) fn is_held(code: Code) -> bool {
    matches!(code, Code::Suspended | Code::OutsideWindow)
}

/// Why a plan must not be applied.
pub(crate) fn against(plan: &Plan, verdicts: &Verdicts) -> Vec<Reason> {
    let mut reasons = plan.blocked();
    reasons.extend(autonomy_plan::verdict_reasons(verdicts));
    reasons
}

impl Judged {
    /// Why the plan must not be applied; empty when it may.
    pub(crate) fn reasons(&self) -> Vec<Reason> {
        against(&self.plan, &self.verdicts)
    }

    /// With what people read: differences of texts, and what is proved about a changed policy.
    fn shown(self, root: &StateRoot, source: &dyn SetSource, trust: PinnedRoot) -> Prepared {
        let Self { set, facts, plan, bundle, incoming, verdicts, by } = self;
        let texts = texts(root, set.manifest.document(), &facts, &bundle, incoming.as_ref());
        let proof = incoming.as_ref().and_then(|incoming| decisions::proof(root, &bundle, incoming));
        let (name, revision) = (source.describe(), source.revision());
        let origin = Origin { source: Some(&name), revision: revision.as_deref() };
        let doc = autonomy_plan::report(&plan, verdicts, origin, proof);
        Prepared { set, facts, plan, doc, texts, trust, by }
    }
}

/// The bundle that is asked: the active generation's. `None` in first activation, where the incoming one is asked,
/// and when both are the same bytes, so that a damaged copy can be repaired.
fn active_policy(root: &StateRoot, facts: &Facts, incoming: &StateManifest) -> Result<Option<Bundle>, Reasons> {
    let Some(current) = &facts.bound.current else {
        if facts.bound.floors.promoted {
            let message = "the node had a last known good generation, but nothing is active now";
            return Err(Reason::new(Code::CorruptState, message).into());
        }
        return Ok(None);
    };
    if current.policy == incoming.spec.policy.digest {
        return Ok(None);
    }
    let bytes = generation_file(root, &current.generation, set::POLICY, set::MAX_POLICY_BYTES)?;
    if Sha256::of(&bytes) != current.policy {
        let message = "the active policy bundle is damaged, so nobody can be asked; apply the active set again first";
        return Err(Reason::new(Code::PolicyError, message).into());
    }
    Bundle::load(&bytes).map(Some).map_err(|error| Reason::new(Code::PolicyError, error.to_string()).into())
}

fn generation_file(root: &StateRoot, generation: &Name, name: &'static str, cap: u64) -> Result<Vec<u8>, Reasons> {
    let path = layout::generation(generation).join(&RelPath::fixed(name));
    let bytes = read_capped(root.disk(), &path, cap).map_err(|error| error.to_reason())?;
    bytes.ok_or_else(|| Reason::new(Code::CorruptState, format!("`{path}` is missing")).into())
}

/// Texts that changed: `edge.toml` and Rego. What cannot be read has no diff; the plan still names the change.
fn texts(
    root: &StateRoot,
    manifest: &StateManifest,
    facts: &Facts,
    active: &Bundle,
    incoming: Option<&Bundle>,
) -> Texts {
    let mut pairs = Vec::new();
    if let Some(current) = &facts.bound.current {
        let after = manifest.spec.relay.edge_toml();
        if current.edge != Blake3::of(after.as_bytes())
            && let Ok(before) = generation_file(root, &current.generation, "edge.toml", 1 << 20)
        {
            pairs.push(TextPair {
                address: "edge.toml".to_owned(),
                before: String::from_utf8_lossy(&before).into_owned(),
                after,
            });
        }
    }
    if let Some(incoming) = incoming {
        let names = active.modules().keys().chain(incoming.modules().keys());
        let names: std::collections::BTreeSet<&String> = names.collect();
        for name in names {
            let (before, after) = (active.modules().get(name), incoming.modules().get(name));
            if before != after {
                pairs.push(TextPair {
                    address: format!("policy/{name}"),
                    before: before.cloned().unwrap_or_default(),
                    after: after.cloned().unwrap_or_default(),
                });
            }
        }
    }
    Texts(pairs)
}
