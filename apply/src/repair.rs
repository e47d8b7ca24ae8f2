//! A damaged generation is staged again, from what is whole, as `<serial>-<fingerprint>-<n>`; then whatever pointed to the
//! damaged one points to it. Nothing else is touched.

use autonomy_schema::journal::{Journal, Operation, Phase};
use autonomy_schema::lock::Lock;
use autonomy_schema::manifest::{Service, ServiceAction};
use autonomy_schema::{Blake3, Name, Reason, StateManifest};
use autonomy_stateroot::{DiskError, SetSource, StatCache};
use autonomy_trust::Verified;

use crate::activate::{Active, activate, promote};
use crate::outbox;
use crate::stage::{self, Staging};
use crate::transaction::{ApplyError, Transaction, new_journal};

/// What is staged again. The caller has verified manifest and lock for recovery.
pub struct Repair<'a> {
    /// The damaged generation.
    pub damaged: &'a Name,
    /// Where its files come from; every byte is hashed as it is copied.
    pub set: &'a dyn SetSource,
    /// Its manifest.
    pub manifest: &'a Verified<StateManifest>,
    /// Its lock.
    pub lock: &'a Verified<Lock>,
    /// The bytes of its policy bundle, whose digest the manifest pins.
    pub policy: &'a [u8],
    /// The plan that made it, where it can still be read.
    pub plan: Option<&'a [u8]>,
    /// What is known of files.
    pub cache: &'a mut StatCache,
}

impl Transaction<'_> {
    /// Stages the generation again and gives its new name. When the damaged one was active, its services run again, as they
    /// ran from files that were wrong. Recovery must have come before.
    pub fn repair(mut self, request: &mut Repair<'_>) -> Result<Name, ApplyError> {
        let current = self.root.current().map_err(ApplyError::Refused)?;
        let lkg = self.root.lkg().map_err(ApplyError::Refused)?;
        let (is_current, is_lkg) = (current.as_ref() == Some(request.damaged), lkg.as_ref() == Some(request.damaged));
        if let Some(staged) = self.root.journal().map_err(ApplyError::Refused)?
            && staged.phase.is_before_switch()
        {
            self.give_up(staged)?;
        }
        let mut journal = self.taking_over(self.planned(request, current)?)?;
        self.begin(&journal)?;
        let mut staging = Staging {
            root: self.root,
            set: request.set,
            manifest: request.manifest,
            lock: request.lock,
            policy: request.policy,
            plan: request.plan,
            cache: request.cache,
        };
        let staged = match stage::stage(&mut staging, &journal.generation, self.observer) {
            Ok(staged) => staged,
            Err(error) => {
                // As in an apply: the first cause is what is told, and recovery does what this could not.
                self.give_up(journal).ok();
                return Err(error.into());
            }
        };
        self.enter(&mut journal, Phase::Staged)?;
        let generation = journal.generation.clone();
        if is_current {
            let active = activate(self.root, staged)?;
            self.enter(&mut journal, Phase::Switched)?;
            outbox::follow(self.root, journal.manifest, request.damaged, &generation)?;
            self.finish(&mut journal, &active)?;
            return Ok(generation);
        }
        if is_lkg {
            promote(self.root, &Active::recovered(generation.clone()))?;
        }
        let manifest = journal.manifest;
        // Closed first: cut off before the entry follows, the damaged one is found and staged again once more.
        self.close_repair(journal)?;
        outbox::follow(self.root, manifest, request.damaged, &generation)?;
        Ok(generation)
    }

    /// Finishes what is active and was never known good, when no journal says any more how far it came: services, health
    /// and confirmation from their beginning.
    pub fn finish_unknown(mut self, manifest: &Verified<StateManifest>, current: &Name) -> Result<(), ApplyError> {
        let lkg = self.root.lkg().map_err(ApplyError::Refused)?;
        let id = Blake3::of(format!("finish {current}").as_bytes());
        let journal = new_journal(Operation::Repair, id, manifest, current.clone(), lkg);
        let mut journal = Journal { phase: Phase::Switched, services: running(manifest.document()), ..journal };
        self.begin(&journal)?;
        self.finish(&mut journal, &Active::recovered(current.clone())).map(|_| ())
    }

    /// Gives up what is active and not proven yet, for a reason that somebody else found.
    pub fn give_back(mut self, reason: Reason) -> Result<(), ApplyError> {
        let journal = self.root.journal().map_err(ApplyError::Refused)?;
        let open = journal.filter(|journal| matches!(journal.phase, Phase::Switched | Phase::Waiting));
        let Some(mut journal) = open else { return Ok(()) };
        Err(self.fail(&mut journal, reason))
    }

    /// Removes what is staged and was not switched to.
    pub fn discard_staged(mut self) -> Result<(), ApplyError> {
        let journal = self.root.journal().map_err(ApplyError::Refused)?;
        match journal.filter(|journal| journal.phase.is_before_switch()) {
            Some(journal) => Ok(self.give_up(journal)?),
            None => Ok(()),
        }
    }

    fn planned(&self, request: &Repair<'_>, current: Option<Name>) -> Result<Journal, ApplyError> {
        let document = request.manifest.document();
        let serial = document.metadata.serial;
        let generation = self.root.next_generation_name(serial, request.manifest.fingerprint())?;
        // No plan stands behind it; the id ties the records of one repair together.
        let id = Blake3::of(format!("repair {generation}").as_bytes());
        let services = running(document);
        let journal = new_journal(Operation::Repair, id, request.manifest, generation, current);
        Ok(Journal { services, ..journal })
    }

    /// Ends a repair that switched nothing.
    pub(crate) fn close_repair(&mut self, mut journal: Journal) -> Result<(), DiskError> {
        match journal.supersedes.take() {
            Some(waits) => self.begin(&waits),
            None => self.enter(&mut journal, Phase::Confirmed),
        }
    }
}

/// The services that something is done to.
fn running(manifest: &StateManifest) -> Vec<Service> {
    manifest.spec.services.iter().filter(|service| service.action != Some(ServiceAction::None)).cloned().collect()
}
