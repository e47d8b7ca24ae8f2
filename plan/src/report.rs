//! `report(plan, verdicts)`: the document that is shown and saved.

use autonomy_schema::plan_doc::{PlanDoc, Verdict, Verdicts};
use autonomy_schema::reason::{Code, Reason};

use crate::planner::Plan;

/// Where a set came from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'a> {
    /// What a person calls the source. An absolute one names a place on one machine and is left out.
    pub source: Option<&'a str>,
    /// The revision that was read, where the source has revisions.
    pub revision: Option<&'a str>,
}

/// What recorded questions prove about a changed policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProof {
    /// `widened`, `narrowed` or `differs`; `None` when no answer differs.
    pub verdict: Option<&'static str>,
    /// What was compared.
    pub text: String,
}

/// The plan with what platform and policy say, and where the set came from.
pub fn report(plan: &Plan, verdicts: Verdicts, origin: Origin<'_>, proof: Option<PolicyProof>) -> PlanDoc {
    let mut verdicts = verdicts;
    verdicts.precheck.sort();
    verdicts.policy.sort();
    let source = origin.source.filter(|source| !is_absolute(source)).map(str::to_owned);
    let revision = origin.revision.map(str::to_owned);
    let mut doc = PlanDoc { source, revision, verdicts, ..plan.doc().clone() };
    if let Some(PolicyProof { verdict, text }) = proof {
        if let Some(verdict) = verdict {
            verdict.clone_into(&mut doc.forecast.policy);
        }
        doc.forecast.policy_proof = text;
    }
    doc
}

/// `/path`, `oci:/path` and `git+file://…`, but not `oci://HOST/…`.
fn is_absolute(source: &str) -> bool {
    let path = source.strip_prefix("oci:").filter(|rest| !rest.starts_with("//")).unwrap_or(source);
    path.starts_with('/') || source.starts_with("git+file:") || source.starts_with("file:")
}

/// The verdicts that refuse, as reasons, sorted.
pub fn verdict_reasons(verdicts: &Verdicts) -> Vec<Reason> {
    let refused = |list: &[Verdict], otherwise: Code| -> Vec<Reason> {
        list.iter()
            .filter(|verdict| !verdict.ok)
            .map(|verdict| {
                let reason = Reason::new(verdict.code.parse().unwrap_or(otherwise), verdict.message.clone());
                if verdict.remedy.is_empty() { reason } else { reason.with_remedy(verdict.remedy.clone()) }
            })
            .collect()
    };
    let mut reasons = refused(&verdicts.precheck, Code::PreconditionFailed);
    reasons.extend(refused(&verdicts.policy, Code::PolicyError));
    reasons.sort();
    reasons.dedup();
    reasons
}
