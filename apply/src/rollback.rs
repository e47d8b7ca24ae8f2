//! A generation that the node had becomes active again, because somebody asked for it.

use autonomy_plan::Plan;
use autonomy_schema::journal::{Journal, Operation, Phase};
use autonomy_schema::{Blake3, Name, StateManifest};
use autonomy_trust::Verified;

use crate::activate::activate;
use crate::stage::Staged;
use crate::transaction::{Applied, ApplyError, Transaction, new_journal};

/// What is returned to. The caller has verified the manifest for that purpose, and the generation's every byte.
pub struct Return<'a> {
    /// The plan that was approved.
    pub plan: &'a Plan,
    /// The manifest of the generation.
    pub manifest: &'a Verified<StateManifest>,
    /// The generation.
    pub to: &'a Name,
    /// The manifest that is left, when it is another one: it is pinned.
    pub leaves: Option<Blake3>,
}

impl Transaction<'_> {
    /// Switches to a generation that is there. Floors stay. Recovery must have come before.
    pub fn roll_back(mut self, request: &Return<'_>) -> Result<Applied, ApplyError> {
        let earlier = self.root.journal().map_err(ApplyError::Refused)?;
        if let Some(journal) = earlier.filter(|journal| journal.phase.is_before_switch()) {
            self.give_up(journal)?;
        }
        let before = self.root.current().map_err(ApplyError::Refused)?;
        let (plan, manifest) = (request.plan, request.manifest);
        let journal = new_journal(Operation::Rollback, plan.id(), manifest, request.to.clone(), before);
        let leaves = request.leaves.filter(|left| *left != manifest.fingerprint());
        let journal = Journal { services: plan.services(), leaves, ..journal };
        let mut journal = self.taking_over(journal)?;
        self.begin(&journal)?;
        let active = activate(self.root, Staged::recovered(request.to.clone()))?;
        self.enter(&mut journal, Phase::Switched)?;
        let finished = self.finish(&mut journal, &active)?;
        Ok(finished.applied(journal.generation))
    }
}
