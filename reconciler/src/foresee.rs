//! Planning for a node that cannot be reached: from a file of its facts, and a set that need not be signed yet. What
//! comes out is shown; only the node itself can admit and apply it.

use std::collections::BTreeMap;

use autonomy_plan::{Desired, Origin, Plan};
use autonomy_policy::Bundle;
use autonomy_schema::facts::Facts;
use autonomy_schema::floors::Floors;
use autonomy_schema::manifest::Revoked;
use autonomy_schema::node::Node;
use autonomy_schema::plan_doc::{PlanDoc, Verdict, Verdicts};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Code, Reason, Reasons, Sha256, StateManifest, Time};
use autonomy_stateroot::{SetSource, StatCache};
use autonomy_trust::{PinnedRoot, Purpose, draft_reasons};

use autonomy_sets::Loaded;
use autonomy_sets::{SetCheck, learn, read_draft, verify_set};

/// What is at hand beside the set.
pub struct Foresight<'a> {
    /// Verifies the set. Without it the set is taken as a draft, and the plan says so.
    pub trust: Option<Trust<'a>>,
    /// Policy bundles by digest, for nodes whose active policy is not the incoming one.
    pub policies: &'a BTreeMap<Sha256, Bundle>,
    /// The clock; that of the facts when absent.
    pub clock: Option<Time>,
}

/// What a set is verified with.
pub struct Trust<'a> {
    /// The trust root.
    pub root: &'a PinnedRoot,
    /// What was hashed for one node need not be hashed for the next.
    pub hashed: StatCache,
}

/// The floors, as far as facts tell of them.
pub fn floors_of(facts: &Facts) -> Floors {
    let floors = &facts.bound.floors;
    Floors {
        promoted: floors.promoted,
        stream: floors.stream.clone(),
        streams: floors.streams.clone(),
        revoked: Revoked { number: floors.revocation_number, ..Revoked::default() },
        time_mark: facts.observed.time_mark,
        root_version: facts.bound.trust.root_version,
        ..Floors::default()
    }
}

/// Who the node is.
pub fn node_of(facts: &Facts) -> Node {
    let node = &facts.bound.node;
    Node {
        api_version: ApiVersion::default(),
        kind: Kind::Node,
        node_id: node.id.clone(),
        fleet: node.fleet.clone(),
        hardware: node.hardware.clone(),
        labels: node.labels.clone(),
        destinations: node.destinations.clone(),
    }
}

/// A plan for a node that is elsewhere.
#[derive(Debug)]
pub struct Foreseen {
    /// The plan as it is shown.
    pub doc: PlanDoc,
    /// Why that node would refuse it; empty when it would not.
    pub reasons: Vec<Reason>,
}

/// Plans `source` for the node that `facts` tell of. A refusal is one that leaves nothing to show.
pub fn foresee(source: &dyn SetSource, mut facts: Facts, how: &mut Foresight<'_>) -> Result<Foreseen, Reasons> {
    facts.observed.clock = how.clock.unwrap_or(facts.observed.clock);
    let (floors, node, clock) = (floors_of(&facts), node_of(&facts), facts.observed.clock);
    let draft = read_draft(source)?;
    let repairs = facts.bound.current.as_ref().is_some_and(|current| current.manifest == draft.fingerprint);
    let mut notes = Vec::new();
    let (mut offline, mut rotates_to) = (false, None);
    if let Some(Trust { root, hashed }) = &mut how.trust {
        let purpose = if repairs { Purpose::Repair } else { Purpose::Change };
        let mut loaded = Loaded::away(root.clone()).of_node(node.clone(), floors.clone());
        loaded.adopt_from(source)?;
        rotates_to = loaded.rotates;
        let context = loaded.context(clock, purpose);
        let check = SetCheck { set: source, context: &context, cache: &*hashed, progress: &|_, _| {} };
        let set = verify_set(&check)?;
        loaded.check_offline(&set.manifest)?;
        offline = set.manifest.is_offline();
        learn(hashed, &set.learned);
        if set.manifest.fingerprint() != draft.fingerprint {
            return Err(Reason::new(Code::StalePlan, "the set changed while it was read").into());
        }
    } else {
        if !repairs {
            let reasons = draft_reasons(&draft.manifest, draft.fingerprint, &floors, &node, clock);
            notes.extend(reasons.into_iter().map(Verdict::refused));
        }
        let message = "signatures were not checked here, as no trust root was given; the node checks them itself";
        notes.push(Verdict::noted("not_verified", message));
    }
    let desired = Desired { offline, rotates_to, ..Desired::new(&draft.manifest, draft.fingerprint) };
    let (doc, plan) = judge(source, &draft.policy, desired, &facts, how, notes)?;
    let mut reasons = plan.blocked();
    reasons.extend(autonomy_plan::verdict_reasons(&doc.verdicts));
    reasons.sort();
    reasons.dedup();
    Ok(Foreseen { doc, reasons })
}

fn judge(
    source: &dyn SetSource,
    policy: &[u8],
    desired: Desired<'_>,
    facts: &Facts,
    how: &Foresight<'_>,
    notes: Vec<Verdict>,
) -> Result<(PlanDoc, Plan), Reasons> {
    let manifest = desired.manifest;
    let incoming = Bundle::load(policy).map_err(|error| Reason::new(Code::PolicyError, error.to_string()))?;
    let version = incoming.manifest().policy_bundle_version.to_string();
    let desired = Desired { policy_semver: Some(&version), ..desired };
    let plan = autonomy_plan::plan(&desired, facts).map_err(|error| Reason::new(Code::BadValue, error.to_string()))?;
    let mut precheck = autonomy_plan::prechecks(manifest, &plan, facts);
    precheck.extend(notes);
    let policy = if plan.has_changes() { ask(&incoming, manifest, &plan, facts, how) } else { Vec::new() };
    let (name, revision) = (source.describe(), source.revision());
    let origin = Origin { source: Some(&name), revision: revision.as_deref() };
    Ok((autonomy_plan::report(&plan, Verdicts { precheck, policy }, origin, None), plan))
}

/// Asks the policy that the node would ask, if it is at hand.
fn ask(incoming: &Bundle, manifest: &StateManifest, plan: &Plan, facts: &Facts, how: &Foresight<'_>) -> Vec<Verdict> {
    let active = facts.bound.current.as_ref().map(|current| current.policy);
    let bundle = match active {
        Some(digest) if digest != incoming.digest() => how.policies.get(&digest),
        _ => Some(incoming),
    };
    match (bundle, active) {
        (Some(bundle), _) => autonomy_policy::verdicts(bundle, manifest, plan.doc(), facts),
        (None, Some(digest)) => {
            let message =
                format!("the active policy, {digest}, is not at hand here (`--policy FILE`); the node asks it");
            vec![Verdict::noted("not_asked", message)]
        }
        (None, None) => Vec::new(),
    }
}
