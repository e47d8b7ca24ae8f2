//! `report(plan, verdicts)`: the document that is shown and saved.

use autonomy_schema::plan_doc::{PlanDoc, Verdict, Verdicts};
use autonomy_schema::reason::{Code, Reason};

use crate::planner::Plan;

/// The plan with what platform and policy say, and where the set came from. An absolute source names a place on one
/// machine and is left out.
pub fn report(plan: &Plan, verdicts: Verdicts, source: Option<&str>) -> PlanDoc {
    let mut verdicts = verdicts;
    verdicts.precheck.sort();
    verdicts.policy.sort();
    let source = source.filter(|source| !is_absolute(source)).map(str::to_owned);
    PlanDoc { source, verdicts, ..plan.doc().clone() }
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
