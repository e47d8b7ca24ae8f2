//! The whole of an apply, journaled: `intent → staged → prechecked → switched → confirmed | rolled back`.
//!
//! Every phase is durable before the next begins, and each step after `switched` may run twice without harm. What a
//! power cut leaves is finished or undone by [`crate::recover`], which shares the second half of this file.

use autonomy_policy::AdmittedPlan;
use autonomy_schema::canonical::CanonicalError;
use autonomy_schema::floors::Floors;
use autonomy_schema::journal::{Journal, Phase};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, lock::Lock};
use autonomy_stateroot::{ActivationLock, DiskError, SetSource, StatCache, StateRoot, layout};
use autonomy_trust::Verified;

use crate::activate::{Active, activate, promote, revert};
use crate::observe::{Event, Observer, stopped};
use crate::services::{self, ServiceRunner};
use crate::stage::{self, StageError, Staged, Staging};
use crate::{outbox, recover};

/// What an apply works with. The lock is proof that no other process changes the state root meanwhile.
pub struct Transaction<'a> {
    /// The state root.
    pub root: &'a StateRoot,
    /// Held for the whole of it.
    pub held: &'a ActivationLock,
    /// Who runs services.
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
    /// Only the outbox changed.
    Relayed,
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
        let (switches, relays) = (request.admitted.plan().switches(), request.admitted.plan().relays());
        let manifest = request.admitted.manifest().fingerprint();
        let before = self.root.current().map_err(ApplyError::Refused)?;
        if !switches {
            return match (relays, before) {
                (true, Some(current)) if !request.stage_only => {
                    outbox::put(self.root, manifest, &current)?;
                    Ok(Applied::Relayed)
                }
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
        self.raise_floors(request, &mut journal)?;
        let active = activate(self.root, staged)?;
        self.enter(&mut journal, Phase::Switched)?;
        self.finish(&mut journal, &active)?;
        Ok(Applied::Active(journal.generation))
    }

    /// Phases `intent` and `staged`, or what an earlier run of the same plan left staged.
    fn stage(&mut self, request: &mut Request<'_>, before: Option<Name>) -> Result<(Journal, Staged), ApplyError> {
        let earlier = self.root.journal().map_err(ApplyError::Refused)?.filter(|journal| !journal.phase.is_final());
        if let Some(journal) = earlier {
            let same = journal.plan_id == request.admitted.plan().id() && journal.previous == before;
            if same && journal.phase != Phase::Intent {
                let staged = Staged::recovered(journal.generation.clone());
                return Ok((journal, staged));
            }
            self.give_up(journal)?;
        }
        let mut journal = self.intent(request, before)?;
        self.root.write_journal(&journal)?;
        self.observer.event(&Event::Phase(Phase::Intent));
        let mut staging = Staging {
            root: self.root,
            set: request.set,
            admitted: &request.admitted,
            lock: request.lock,
            policy: request.policy,
            cache: request.cache,
        };
        match stage::stage(&mut staging, &journal.generation, self.observer) {
            Ok(staged) => {
                self.enter(&mut journal, Phase::Staged)?;
                Ok((journal, staged))
            }
            Err(error) => {
                // On a broken disk this fails as well; then recovery does it. The first cause is what is told.
                self.give_up(journal).ok();
                Err(error.into())
            }
        }
    }

    fn intent(&self, request: &Request<'_>, before: Option<Name>) -> Result<Journal, ApplyError> {
        let manifest = request.admitted.manifest();
        let metadata = &manifest.document().metadata;
        let generation = self.root.next_generation_name(metadata.serial, manifest.fingerprint())?;
        Ok(Journal {
            api_version: ApiVersion::default(),
            kind: Kind::Journal,
            phase: Phase::Intent,
            plan_id: request.admitted.plan().id(),
            manifest: manifest.fingerprint(),
            stream: metadata.name.clone(),
            serial: metadata.serial,
            generation,
            previous: before,
            services: request.admitted.plan().services(),
            services_done: 0,
            relay: request.admitted.plan().relays(),
            failure: None,
        })
    }

    /// Removes what an apply staged and closes its journal.
    fn give_up(&mut self, mut journal: Journal) -> Result<(), DiskError> {
        recover::sweep(self.root)?;
        stage::discard(self.root, &journal.generation)?;
        self.enter(&mut journal, Phase::RolledBack)
    }

    /// Floors rise durably before activation, and are never lowered.
    fn raise_floors(&mut self, request: &Request<'_>, journal: &mut Journal) -> Result<(), ApplyError> {
        let floors = floors(self.root)?;
        let manifest = request.admitted.manifest();
        let raised = floors.raised_by(manifest.document(), manifest.fingerprint());
        if raised != floors {
            self.root.write_floors(&raised)?;
        }
        self.enter(journal, Phase::Prechecked)?;
        Ok(())
    }

    pub(crate) fn enter(&mut self, journal: &mut Journal, phase: Phase) -> Result<(), DiskError> {
        journal.phase = phase;
        self.root.write_journal(journal)?;
        self.observer.event(&Event::Phase(phase));
        Ok(())
    }

    /// Everything after the switch: services, promotion, outbox; or the way back.
    pub(crate) fn finish(&mut self, journal: &mut Journal, active: &Active) -> Result<(), ApplyError> {
        if journal.failure.is_none() {
            journal.failure = services::run_listed(self.root, journal, self.runner, self.observer)?;
            if journal.failure.is_some() {
                self.root.write_journal(journal)?;
            }
        }
        if let Some(reason) = journal.failure.clone() {
            let active = self.go_back(journal, &reason)?;
            return Err(ApplyError::RolledBack { reason, active });
        }
        promote(self.root, active)?;
        let floors = floors(self.root)?;
        let promoted = floors.promoted_by(&journal.stream);
        if promoted != floors {
            self.root.write_floors(&promoted)?;
        }
        if journal.relay {
            outbox::put(self.root, journal.manifest, active.generation())?;
        }
        self.enter(journal, Phase::Confirmed)?;
        Ok(())
    }

    /// Back to the last known good generation; the manifest is pinned so that it is not tried again.
    fn go_back(&mut self, journal: &mut Journal, reason: &Reason) -> Result<Option<Name>, ApplyError> {
        self.observer.event(&Event::RollingBack(reason));
        let lkg = self.root.lkg().map_err(ApplyError::Refused)?;
        let target = lkg.or_else(|| journal.previous.clone());
        pin(self.root, journal.manifest)?;
        outbox::take(self.root, journal.manifest)?;
        revert(self.root, target.as_ref())?;
        if let Some(generation) = &target {
            services::rerun(self.root, generation, self.runner, self.observer);
        }
        self.enter(journal, Phase::RolledBack)?;
        Ok(target)
    }
}

/// The floors of an initialized state root.
fn floors(root: &StateRoot) -> Result<Floors, ApplyError> {
    Ok(root.floors().map_err(ApplyError::Refused)?.unwrap_or_default())
}

fn pin(root: &StateRoot, manifest: Blake3) -> Result<(), ApplyError> {
    let mut pinned = root.pinned().map_err(ApplyError::Refused)?;
    if pinned.insert(manifest) {
        root.write_pinned(&pinned)?;
    }
    Ok(())
}

/// Whether a generation's folder is there.
pub(crate) fn exists(root: &StateRoot, generation: &Name) -> Result<bool, DiskError> {
    Ok(root.disk().stat(&layout::generation(generation))?.is_some())
}

/// A state that only damage explains.
pub(crate) fn corrupt(message: String) -> ApplyError {
    ApplyError::Refused(Reason::new(Code::CorruptState, message).into())
}
