//! Admission: the one door from a plan to something that may be applied.

use autonomy_plan::Plan;
use autonomy_schema::StateManifest;
use autonomy_schema::digest::{Blake3, Sha256};
use autonomy_schema::facts::Facts;
use autonomy_schema::plan_doc::{PlanDoc, Verdict, Verdicts};
use autonomy_schema::policy_override::PolicyOverride;
use autonomy_schema::reason::{Code, Reason, Reasons};
use autonomy_trust::Verified;
use serde::Serialize;
use serde_json::Value;

use crate::bundle::Bundle;
use crate::decide::{Budget, EvalError, decide};

/// The package that is asked.
pub(crate) const ENTRY: &str = "autonomy.update";

/// Whose policy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// That of the active generation.
    Active,
    /// That of the manifest itself: first activation.
    Incoming,
}

/// A node without a generation that never had a last known good one is in first activation.
pub fn asked(facts: &Facts) -> Asked {
    let bound = &facts.bound;
    if bound.current.is_none() && !bound.floors.promoted { Asked::Incoming } else { Asked::Active }
}

/// The digest of the bundle that must be asked; `None` when the node has lost it.
fn expected(manifest: &StateManifest, facts: &Facts) -> Option<Sha256> {
    match asked(facts) {
        Asked::Incoming => Some(manifest.spec.policy.digest),
        Asked::Active => facts.bound.current.as_ref().map(|current| current.policy),
    }
}

/// A plan that the node's policy admitted, with the manifest whose bytes were verified. Only [`admit()`] makes one.
#[derive(Debug, Clone)]
pub struct AdmittedPlan {
    plan: Plan,
    manifest: Verified<StateManifest>,
}

impl AdmittedPlan {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The manifest.
    pub fn manifest(&self) -> &Verified<StateManifest> {
        &self.manifest
    }
}

/// What the policy said, with an override: a denial is still told, and refuses no more. An override for another manifest
/// changes nothing.
pub fn overridden(policy: Vec<Verdict>, by: &Verified<PolicyOverride>, manifest: Blake3) -> Vec<Verdict> {
    if by.document().manifest != manifest {
        return policy;
    }
    let pass = |verdict: Verdict| {
        if verdict.ok {
            return verdict;
        }
        let Verdict { code, message, .. } = verdict;
        let (keys, why) = (by.signers().len(), &by.document().reason);
        Verdict::noted("overridden", format!("{code}: {message}; overridden by {keys} root keys: {why}"))
    };
    policy.into_iter().map(pass).collect()
}

/// Admits a plan if it is for this manifest and these facts, nothing of it is blocked, and the policy of the node says
/// yes, or a threshold of the root keys overrides it for this manifest. Every reason against it is told.
pub fn admit(
    plan: Plan,
    manifest: Verified<StateManifest>,
    facts: &Facts,
    bundle: &Bundle,
    by: Option<&Verified<PolicyOverride>>,
) -> Result<AdmittedPlan, Reasons> {
    let mut reasons = plan.blocked();
    let doc = plan.doc();
    if doc.manifest.fingerprint != manifest.fingerprint() {
        reasons.push(Reason::new(
            Code::StalePlan,
            format!("the plan is for manifest {}; this one is {}", doc.manifest.fingerprint, manifest.fingerprint()),
        ));
    }
    match facts.bound.fingerprint() {
        Ok(bound) if bound == doc.facts_fingerprint => {}
        Ok(_) => reasons.push(Reason::new(Code::StalePlan, "the plan was made from other facts of this node")),
        Err(error) => reasons.push(Reason::new(Code::BadValue, error.to_string())),
    }
    // A plan that does not fit is refused without being shown to the policy.
    if reasons.is_empty() {
        let policy = verdicts(bundle, manifest.document(), doc, facts);
        let policy = match by {
            Some(by) => overridden(policy, by, manifest.fingerprint()),
            None => policy,
        };
        reasons = autonomy_plan::verdict_reasons(&Verdicts { precheck: Vec::new(), policy });
    }
    Reasons::check(reasons)?;
    Ok(AdmittedPlan { plan, manifest })
}

/// What rules see.
#[derive(Serialize)]
struct Input<'a> {
    manifest: &'a StateManifest,
    plan: &'a PlanDoc,
    facts: &'a Facts,
}

/// What the policy says to a plan: one verdict that permits it, or one for each reason against it, sorted.
pub fn verdicts(bundle: &Bundle, manifest: &StateManifest, plan: &PlanDoc, facts: &Facts) -> Vec<Verdict> {
    let whose = match asked(facts) {
        Asked::Active => "active",
        Asked::Incoming => "incoming",
    };
    if expected(manifest, facts) != Some(bundle.digest()) {
        let message = format!("the bundle at hand is not the {whose} policy that must be asked");
        return vec![Verdict::refused(Reason::new(Code::PolicyError, message))];
    }
    let decision = question(manifest, plan, facts).and_then(|input| decide(bundle, ENTRY, &input, &Budget::UPDATE));
    let name = format!("`{}` {}", bundle.manifest().name, bundle.manifest().policy_bundle_version);
    match decision {
        Err(error) => vec![Verdict::refused(error.to_reason())],
        Ok(decision) if decision.permits() => {
            let message = format!("{name}, the {whose} policy, allows it");
            vec![Verdict::passed(message)]
        }
        Ok(decision) if decision.deny.is_empty() => {
            let message = format!("{name}, the {whose} policy, has no `allow` for it");
            vec![Verdict::refused(Reason::new(Code::PolicyDenied, message))]
        }
        Ok(decision) => {
            let denied = |message: &String| Verdict::refused(Reason::new(Code::PolicyDenied, message.clone()));
            decision.deny.iter().map(denied).collect()
        }
    }
}

/// What an update policy is asked. Verdicts and source are left out, so that plan and apply ask the same question.
pub fn question(manifest: &StateManifest, plan: &PlanDoc, facts: &Facts) -> Result<Value, EvalError> {
    let bare = PlanDoc { verdicts: Verdicts::default(), source: None, revision: None, ..plan.clone() };
    serde_json::to_value(Input { manifest, plan: &bare, facts }).map_err(EvalError::Input)
}
