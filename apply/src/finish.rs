//! Everything after the switch: reconstruction, services, health, the wait for a confirmation, promotion; or the way back.
//!
//! Each step may run twice without harm, as recovery runs them again from the journal.

use autonomy_schema::journal::{Journal, Phase, Waiting};
use autonomy_schema::{Blake3, Name, Reason, generation};
use autonomy_stateroot::{DiskError, StateRoot};

use crate::activate::{Active, promote, revert};
use crate::observe::Event;
use crate::transaction::{Applied, ApplyError, Transaction, exists, floors};
use crate::{outbox, rebuild, services};

/// How a change that went well ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finished {
    /// The generation is the last known good one.
    Promoted,
    /// It waits to be confirmed.
    Waiting,
}

impl Finished {
    /// The same, told of the generation that it was about.
    pub(crate) fn applied(self, generation: Name) -> Applied {
        match self {
            Finished::Promoted => Applied::Active(generation),
            Finished::Waiting => Applied::Waiting(generation),
        }
    }
}

impl Transaction<'_> {
    /// Brings what `current` points to now to its end.
    pub(crate) fn finish(&mut self, journal: &mut Journal, active: &Active) -> Result<Finished, ApplyError> {
        if journal.failure.is_none() {
            journal.failure = self.prove(journal)?;
            if journal.failure.is_some() {
                // The return is decided here; recovery carries it out from now on.
                self.root.write_journal(journal)?;
            }
        }
        if let Some(reason) = journal.failure.clone() {
            return Err(self.go_back(journal, active, reason)?);
        }
        if let Some(left) = journal.leaves {
            pin(self.root, left)?;
            outbox::take(self.root, left)?;
        }
        if self.must_wait(journal)? {
            self.wait(journal)?;
            return Ok(Finished::Waiting);
        }
        self.promoted(journal, active)?;
        Ok(Finished::Promoted)
    }

    /// Gives up what is active: decided durably, then carried out. It never succeeds.
    pub(crate) fn fail(&mut self, journal: &mut Journal, reason: Reason) -> ApplyError {
        match self.decide_return(journal, reason) {
            Ok(error) | Err(error) => error,
        }
    }

    fn decide_return(&mut self, journal: &mut Journal, reason: Reason) -> Result<ApplyError, ApplyError> {
        journal.phase = Phase::Switched;
        journal.failure = Some(reason.clone());
        self.root.write_journal(journal)?;
        self.go_back(journal, &Active::recovered(journal.generation.clone()), reason)
    }

    /// Reconstruction, services, health. Gives the reason of the first failure.
    fn prove(&mut self, journal: &mut Journal) -> Result<Option<Reason>, ApplyError> {
        let failure = rebuild::run_listed(self.root, journal, self.runner, self.observer)?;
        if failure.is_some() {
            return Ok(failure);
        }
        let failure = services::run_listed(self.root, journal, self.runner, self.observer)?;
        if failure.is_some() {
            return Ok(failure);
        }
        let Some(health) = journal.health.clone() else { return Ok(None) };
        let failure = services::check(&health, self.runner, self.observer);
        if failure.is_none() {
            journal.health = None;
            self.root.write_journal(journal)?;
        }
        Ok(failure)
    }

    /// What is the last known good manifest is not asked about again when it is repaired or returned to.
    fn must_wait(&self, journal: &Journal) -> Result<bool, ApplyError> {
        if journal.confirm.is_none() {
            return Ok(false);
        }
        let lkg = self.root.lkg().map_err(ApplyError::Refused)?;
        Ok(!lkg.is_some_and(|lkg| journal.is_of_same_manifest(&lkg)))
    }

    fn wait(&mut self, journal: &mut Journal) -> Result<(), DiskError> {
        if let (None, Some(confirm)) = (&journal.waiting, &journal.confirm) {
            journal.waiting = Some(Waiting::new(confirm.within, self.runner.moment()));
        }
        self.enter(journal, Phase::Waiting)
    }

    /// The generation is the last known good one from now on, and goes on to peers.
    fn promoted(&mut self, journal: &mut Journal, active: &Active) -> Result<(), ApplyError> {
        promote(self.root, active)?;
        let floors = floors(self.root)?;
        let promoted = floors.promoted_by(&journal.stream);
        if promoted != floors {
            self.root.write_floors(&promoted)?;
        }
        if journal.relay {
            outbox::put(self.root, journal.manifest, active.generation())?;
        }
        journal.waiting = None;
        journal.supersedes = None;
        self.enter(journal, Phase::Confirmed)?;
        Ok(())
    }

    /// Back to the last known good generation; the manifest is pinned so that it is not tried again. Where the same
    /// manifest is the last known good one, there is nothing further back, and the generation stays.
    fn go_back(&mut self, journal: &mut Journal, active: &Active, reason: Reason) -> Result<ApplyError, ApplyError> {
        let lkg = self.root.lkg().map_err(ApplyError::Refused)?;
        if lkg.as_ref().is_some_and(|lkg| journal.is_of_same_manifest(lkg)) {
            journal.relay = false;
            self.promoted(journal, active)?;
            return Ok(ApplyError::RolledBack { reason, active: Some(active.generation().clone()) });
        }
        self.observer.event(&Event::RollingBack(&reason));
        let target = self.way_back(journal, lkg)?;
        pin(self.root, journal.manifest)?;
        outbox::take(self.root, journal.manifest)?;
        // What a rollback left is no longer given up when the node returns to it.
        let returned = |left: &Blake3| target.as_ref().is_some_and(|target| generation::has_short(target, *left));
        if let Some(left) = journal.leaves.take_if(|left| returned(left)) {
            unpin(self.root, left)?;
        }
        revert(self.root, target.as_ref())?;
        rebuild::withdraw(self.root, journal, target.as_ref(), self.runner, self.observer);
        if let Some(waits) = journal.supersedes.as_deref().filter(|waits| Some(&waits.generation) != target.as_ref()) {
            rebuild::withdraw(self.root, waits, target.as_ref(), self.runner, self.observer);
        }
        if let Some(generation) = &target {
            rebuild::rerun(self.root, generation, self.runner, self.observer);
            services::rerun(self.root, generation, self.runner, self.observer);
        }
        match journal.supersedes.take() {
            // Nothing was ever known good, and what is active again was still waiting: so it does again.
            Some(waits) if Some(&waits.generation) == target.as_ref() => self.begin(&waits)?,
            Some(_) | None => self.enter(journal, Phase::RolledBack)?,
        }
        Ok(ApplyError::RolledBack { reason, active: target })
    }

    /// Where the way back leads: to the last known good generation; where that was lost, to what was active before. On a
    /// node that never had one, what was active before was itself unproven, and counts only while it waits on.
    fn way_back(&self, journal: &Journal, lkg: Option<Name>) -> Result<Option<Name>, ApplyError> {
        if let Some(lkg) = lkg
            && exists(self.root, &lkg)?
        {
            return Ok(Some(lkg));
        }
        let Some(previous) = journal.previous.clone() else { return Ok(None) };
        let promoted = floors(self.root)?.promoted;
        let waits = journal.supersedes.as_ref().is_some_and(|waits| waits.generation == previous);
        let counts = (promoted || waits) && !journal.is_of_same_manifest(&previous) && exists(self.root, &previous)?;
        Ok(counts.then_some(previous))
    }
}

fn unpin(root: &StateRoot, manifest: Blake3) -> Result<(), ApplyError> {
    let mut pinned = root.pinned().map_err(ApplyError::Refused)?;
    if pinned.remove(&manifest) {
        root.write_pinned(&pinned)?;
    }
    Ok(())
}

fn pin(root: &StateRoot, manifest: Blake3) -> Result<(), ApplyError> {
    let mut pinned = root.pinned().map_err(ApplyError::Refused)?;
    if pinned.insert(manifest) {
        root.write_pinned(&pinned)?;
    }
    Ok(())
}
