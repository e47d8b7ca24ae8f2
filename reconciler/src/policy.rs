//! The policy of a node that no manifest gave one: loaded, and taken back, under the lock, with records.

use autonomy_apply::ServiceRunner;
use autonomy_policy::slots::{Held, Promoted, Slots, judge};
use autonomy_schema::{Code, Name, Reason, Reasons, Sha256};
use autonomy_stateroot::{ActivationLock, StateRoot};
use autonomy_telemetry::Priority;
use autonomy_trust::{Purpose, Signed};
use serde_json::json;

use crate::hold::Noted;
use crate::record::{Actor, Recorder};
use crate::recovery::{recover_held, told};

/// What a change of the policy came to.
#[derive(Debug)]
pub struct PolicyChange {
    /// The bundle that decides now.
    pub bundle: Held,
    /// How many tests of its own it passed; not counted when it was there before.
    pub tests: Option<usize>,
    /// The slots.
    pub slots: Promoted,
}

/// Loads a bundle that comes by itself. Whatever is wrong with it leaves the old one deciding, and the records say why.
pub fn load_policy(
    root: &StateRoot,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    signed: Signed<'_>,
) -> Result<Noted<PolicyChange>, Reasons> {
    changed(root, actor, runner, Some(Sha256::of(signed.bytes)), |slots, held| {
        let loaded = autonomy_sets::load(root)?;
        let new = judge(signed, &loaded.context(actor.clock, Purpose::Change))?;
        let promoted = slots.promote(held, &new)?;
        let bundle = Held { bundle: new.bundle().clone(), signers: new.signers().to_vec() };
        Ok(PolicyChange { bundle, tests: Some(new.tests()), slots: promoted })
    })
}

/// Goes back to the last known good bundle.
pub fn roll_back_policy(
    root: &StateRoot,
    actor: &Actor,
    runner: &dyn ServiceRunner,
) -> Result<Noted<PolicyChange>, Reasons> {
    changed(root, actor, runner, None, |slots, held| {
        let (bundle, promoted) = slots.roll_back(held)?;
        Ok(PolicyChange { bundle, tests: None, slots: promoted })
    })
}

fn changed(
    root: &StateRoot,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    asked: Option<Sha256>,
    change: impl FnOnce(&Slots, &ActivationLock) -> Result<PolicyChange, Reasons>,
) -> Result<Noted<PolicyChange>, Reasons> {
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let mut silent = autonomy_apply::Silent;
    let mut recorder = Recorder::open(root, actor, None, &mut silent)?;
    let recovery = recover_held(root, &held, runner, &mut recorder)?;
    recorder.begin(json!({ "bundle": asked }))?;
    match own_business(root).and_then(|()| change(&Slots::new(root), &held)) {
        Ok(done) => {
            let manifest = done.bundle.bundle.manifest();
            let detail = json!({
                "name": manifest.name, "version": manifest.policy_bundle_version, "signers": done.bundle.signers,
                "current": done.slots.current, "lkg": done.slots.lkg, "changed": done.slots.changed,
            });
            if done.slots.changed {
                recorder.log("policy.bundle.promoted", Priority::Lifecycle, detail.clone());
            }
            Ok(Noted { result: done, warning: told(&recovery).or(recorder.end("done", detail)) })
        }
        Err(reasons) => {
            let detail = json!({ "bundle": asked, "reasons": reasons.as_slice() });
            recorder.log("policy.bundle.rejected", Priority::Decision, detail.clone());
            if let Some(lost) = recorder.end("refused", detail) {
                tracing::warn!(lost, "a record was lost");
            }
            Err(reasons)
        }
    }
}

/// On a managed node the policy is its generation's; on a suspended one nothing changes.
fn own_business(root: &StateRoot) -> Result<(), Reasons> {
    let mut reasons = Vec::new();
    if let Some(generation) = root.current()? {
        reasons.push(managed(&generation));
    }
    if root.is_suspended().map_err(|error| Reasons::from(error.to_reason()))? {
        reasons.push(Reason::new(Code::Suspended, "changes are held on this node"));
    }
    Reasons::check(reasons)
}

fn managed(generation: &Name) -> Reason {
    let message = format!("generation `{generation}` is active, and the policy is the one that its manifest pins");
    Reason::new(Code::PolicyManaged, message)
}
