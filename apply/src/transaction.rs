//! An apply up to its switch, journaled: `intent → staged → prechecked → switched`. What follows is in `finish.rs`.
//!
//! Every phase is durable before the next begins. What a power cut leaves is finished or undone by [`crate::recover`].
//! While a generation waits to be confirmed, the journal of what takes over from it carries that wait along, so that it
//! goes on when the newer one does not come to its switch.

use autonomy_policy::AdmittedPlan;
use autonomy_schema::canonical::CanonicalError;
use autonomy_schema::floors::Floors;
use autonomy_schema::journal::{Boots, Journal, Operation, Phase};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Code, Document as _, Name, Reason, Reasons, generation, lock::Lock};
use autonomy_stateroot::trust::RootBytes;
use autonomy_stateroot::{ActivationLock, DiskError, SetSource, StatCache, StateRoot, layout};
use autonomy_trust::Verified;

use crate::activate::activate;
use crate::observe::{Event, Observer, stopped};
use crate::services::ServiceRunner;
use crate::stage::{self, StageError, Staged, Staging};
use crate::{outbox, recover};

/// What a change works with. The lock is proof that no other process changes the state root meanwhile.
pub struct Transaction<'a> {
    /// The state root.
    pub root: &'a StateRoot,
    /// Held for the whole of it.
    pub held: &'a ActivationLock,
    /// Who runs services and the health command.
    pub runner: &'a dyn ServiceRunner,
    /// Who listens.
    pub observer: &'a mut dyn Observer,
}

/// What is applied.
pub struct Request<'a> {
    /// The set, for bytes that the object store lacks.
    pub set: &'a dyn SetSource,
    /// The plan that policy admitted, with its verified manifest.
    pub admitted: AdmittedPlan,
    /// The verified lock.
    pub lock: &'a Verified<Lock>,
    /// The policy bundle's bytes, whose digest the manifest pins.
    pub policy: &'a [u8],
    /// The pinned trust root and newer ones, each the successor of the one before it: the set was verified under the last.
    /// Empty where there is nothing newer.
    pub roots: Vec<RootBytes>,
    /// Stop when the generation is staged.
    pub stage_only: bool,
    /// What is known of files; staging learns the generation's.
    pub cache: &'a mut StatCache,
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The plan had nothing to do.
    Nothing,
    /// The generation is staged and durable; nothing is active of it.
    Staged(Name),
    /// The generation is active and the last known good one.
    Active(Name),
    /// The generation is active, and waits to be confirmed.
    Waiting(Name),
    /// Only the outbox changed.
    Relayed,
    /// Only the trust root changed.
    Rotated,
}

/// An apply did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Nothing was switched; what was staged is removed.
    #[error("staging failed")]
    Stage(#[from] StageError),
    /// Refused before anything was staged.
    #[error("{0}")]
    Refused(Reasons),
    /// The disk failed; the next locking verb recovers.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The switch was undone.
    #[error("{reason}")]
    RolledBack {
        /// Why.
        reason: Reason,
        /// The generation that is active again, if any.
        active: Option<Name>,
    },
}

impl ApplyError {
    /// The error as reasons; their exit codes are those of the verb.
    pub fn into_reasons(self) -> Reasons {
        match self {
            Self::Stage(error) => error.into_reasons(),
            Self::Refused(reasons) => reasons,
            Self::Disk(error) => error.to_reason().into(),
            Self::RolledBack { reason, .. } => reason.into(),
        }
    }
}

impl From<CanonicalError> for ApplyError {
    fn from(error: CanonicalError) -> Self {
        Self::Stage(StageError::Canonical(error))
    }
}

impl Transaction<'_> {
    /// Carries out the plan. An unfinished journal must have been recovered before.
    pub fn run(mut self, request: &mut Request<'_>) -> Result<Applied, ApplyError> {
        let plan = request.admitted.plan();
        let (switches, relays, rotates) = (plan.switches(), plan.relays(), plan.rotates());
        let manifest = request.admitted.manifest().fingerprint();
        let before = self.root.current().map_err(ApplyError::Refused)?;
        if !switches {
            if !request.stage_only {
                self.pin_roots(request)?;
            }
            return match (relays, before) {
                (true, Some(current)) if !request.stage_only => {
                    outbox::put(self.root, manifest, &current)?;
                    Ok(Applied::Relayed)
                }
                _ if rotates && !request.stage_only => Ok(Applied::Rotated),
                _ => Ok(Applied::Nothing),
            };
        }
        let (mut journal, staged) = self.stage(request, before)?;
        if request.stage_only {
            return Ok(Applied::Staged(journal.generation));
        }
        // The last safe step: from here on it is finished, not stopped.
        if let Err(reasons) = stopped(self.observer) {
            self.give_up(journal)?;
            return Err(ApplyError::Refused(reasons));
        }
        self.pin_roots(request)?;
        self.raise_floors(request, &mut journal)?;
        let active = activate(self.root, staged)?;
        self.enter(&mut journal, Phase::Switched)?;
        let finished = self.finish(&mut journal, &active)?;
        Ok(finished.applied(journal.generation))
    }

    /// Phases `intent` and `staged`, or what an earlier run of the same plan left staged.
    fn stage(&mut self, request: &mut Request<'_>, before: Option<Name>) -> Result<(Journal, Staged), ApplyError> {
        let earlier = self.root.journal().map_err(ApplyError::Refused)?;
        if let Some(journal) = earlier.clone().filter(|journal| journal.phase.is_before_switch()) {
            // The id is taken over the facts, and so over what is active.
            let same = journal.plan_id == request.admitted.plan().id();
            if same && journal.operation == Operation::Apply && journal.phase != Phase::Intent {
                let staged = Staged::recovered(journal.generation.clone());
                return Ok((journal, staged));
            }
            self.give_up(journal)?;
        }
        let mut journal = self.intent(request, before)?;
        self.begin(&journal)?;
        let plan = request.admitted.plan().doc().to_canonical()?;
        let mut staging = Staging {
            root: self.root,
            set: request.set,
            manifest: request.admitted.manifest(),
            lock: request.lock,
            policy: request.policy,
            plan: Some(&plan),
            cache: request.cache,
        };
        match stage::stage(&mut staging, &journal.generation, self.observer) {
            Ok(staged) => {
                self.enter(&mut journal, Phase::Staged)?;
                Ok((journal, staged))
            }
            Err(error) => {
                // On a broken disk this fails as well; then recovery does it. The first cause is what is told.
                self.give_up(journal).and_then(|()| self.forget(earlier.as_ref(), &error)).ok();
                Err(error.into())
            }
        }
    }

    fn intent(&self, request: &Request<'_>, before: Option<Name>) -> Result<Journal, ApplyError> {
        let (plan, manifest) = (request.admitted.plan(), request.admitted.manifest());
        let serial = manifest.document().metadata.serial;
        let generation = self.root.next_generation_name(serial, manifest.fingerprint())?;
        let journal = new_journal(Operation::Apply, plan.id(), manifest, generation, before);
        let journal = Journal { services: plan.services(), relay: plan.relays(), ..journal };
        self.taking_over(journal)
    }

    /// The journal with the wait that it takes over from, if there is one. A repair of what waits is that very change
    /// still: it gains no time, and goes back to where that one would.
    pub(crate) fn taking_over(&self, journal: Journal) -> Result<Journal, ApplyError> {
        let earlier = self.root.journal().map_err(ApplyError::Refused)?;
        let Some(waits) = earlier.filter(|earlier| earlier.phase == Phase::Waiting) else { return Ok(journal) };
        let supersedes = Some(Box::new(Journal { supersedes: None, ..waits.clone() }));
        if waits.manifest == journal.manifest {
            let Journal { waiting, previous, relay, created, .. } = waits;
            return Ok(Journal { waiting, previous, relay, created, supersedes, ..journal });
        }
        Ok(Journal { supersedes, ..journal })
    }

    pub(crate) fn begin(&mut self, journal: &Journal) -> Result<(), DiskError> {
        self.root.write_journal(journal)?;
        self.observer.event(&Event::Phase(journal.phase));
        Ok(())
    }

    /// Removes what was staged and closes its journal, or goes on with the wait that it was about to take over from.
    pub(crate) fn give_up(&mut self, mut journal: Journal) -> Result<(), DiskError> {
        recover::sweep(self.root)?;
        // A rollback goes to a generation that was there before it.
        if journal.operation != Operation::Rollback {
            stage::discard(self.root, &journal.generation)?;
        }
        match journal.supersedes.take() {
            Some(waits) => self.begin(&waits),
            None => self.enter(&mut journal, Phase::RolledBack),
        }
    }

    /// What turned out not to be what was verified is refused, and a refusal leaves the journal as it found it (DESIGN
    /// §12). One that was unfinished is closed for good.
    fn forget(&self, earlier: Option<&Journal>, error: &StageError) -> Result<(), DiskError> {
        match (error, earlier) {
            (StageError::Refused(_), None) => self.root.remove_journal(),
            (StageError::Refused(_), Some(earlier)) if earlier.phase.is_final() => self.root.write_journal(earlier),
            (StageError::Refused(_) | StageError::Disk(_) | StageError::Canonical(_), _) => Ok(()),
        }
    }

    /// The set was verified under the last of these roots.
    fn pin_roots(&self, request: &Request<'_>) -> Result<(), ApplyError> {
        let mut pairs = request.roots.iter().zip(request.roots.iter().skip(1));
        pairs.try_for_each(|(pinned, next)| self.root.pin_root(self.held, pinned, next)).map_err(ApplyError::Refused)
    }

    /// Floors rise durably before activation, and are never lowered.
    fn raise_floors(&mut self, request: &Request<'_>, journal: &mut Journal) -> Result<(), ApplyError> {
        let floors = floors(self.root)?;
        let manifest = request.admitted.manifest();
        let (document, fingerprint) = (manifest.document(), manifest.fingerprint());
        let active = self.root.current().map_err(ApplyError::Refused)?;
        let repairs = active.is_some_and(|name| generation::is_of(&name, document.metadata.serial, fingerprint));
        let raised = if repairs {
            // It was admitted before, and a root may have brought down the mark that it had lifted.
            floors.witnessed_by(document, fingerprint, self.root.earliest_reset().map_err(ApplyError::Refused)?)
        } else {
            floors.raised_by(document, fingerprint)
        };
        if raised != floors {
            self.root.write_floors(&raised)?;
        }
        self.enter(journal, Phase::Prechecked)?;
        Ok(())
    }

    pub(crate) fn enter(&mut self, journal: &mut Journal, phase: Phase) -> Result<(), DiskError> {
        journal.phase = phase;
        if phase == Phase::Switched {
            journal.boots = Some(Boots { boot_id: self.runner.moment().boot_id, reboots: 0 });
        }
        self.root.write_journal(journal)?;
        self.observer.event(&Event::Phase(phase));
        Ok(())
    }
}

/// A journal at its beginning.
pub(crate) fn new_journal(
    operation: Operation,
    plan_id: Blake3,
    manifest: &Verified<autonomy_schema::StateManifest>,
    generation: Name,
    previous: Option<Name>,
) -> Journal {
    let document = manifest.document();
    Journal {
        api_version: ApiVersion::default(),
        kind: Kind::Journal,
        operation,
        phase: Phase::Intent,
        plan_id,
        manifest: manifest.fingerprint(),
        stream: document.metadata.name.clone(),
        serial: document.metadata.serial,
        generation,
        previous,
        rebuild: document.spec.reconstruction.steps.len() as u64,
        rebuilt: 0,
        created: Vec::new(),
        services: Vec::new(),
        services_done: 0,
        health: document.spec.health.clone(),
        confirm: document.spec.confirm.clone(),
        waiting: None,
        supersedes: None,
        leaves: None,
        boots: None,
        relay: false,
        failure: None,
    }
}

/// The floors of an initialized state root.
pub(crate) fn floors(root: &StateRoot) -> Result<Floors, ApplyError> {
    Ok(root.floors().map_err(ApplyError::Refused)?.unwrap_or_default())
}

/// Whether a generation's folder is there.
pub(crate) fn exists(root: &StateRoot, generation: &Name) -> Result<bool, DiskError> {
    Ok(root.disk().stat(&layout::generation(generation))?.is_some())
}

/// A state that only damage explains.
pub(crate) fn corrupt(message: String) -> ApplyError {
    ApplyError::Refused(Reason::new(Code::CorruptState, message).into())
}
