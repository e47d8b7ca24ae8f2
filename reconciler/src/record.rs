//! What a changing verb leaves behind: the audit trail (who, what, outcome) and the WAL (every phase), both with the
//! manifest's fingerprint as correlation id.

use autonomy_apply::{Event, Observer};
use autonomy_schema::StateManifest;
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::{Blake3, Name, Reasons, Time};
use autonomy_stateroot::{ActivationLock, StateRoot};
use autonomy_telemetry::{Audit, Entry, Priority, Record, Wal};
use autonomy_trust::Verified;
use serde_json::{Map, Value, json};

/// The process role whose WAL the command line writes.
const ROLE: &str = "autonomy";

/// Who runs the verb, and when it began.
#[derive(Debug, Clone)]
pub struct Actor {
    /// `uid:0`.
    pub who: String,
    /// `apply`, `apply --stage-only` …
    pub verb: String,
    /// The clock.
    pub clock: Time,
}

/// Most changed addresses that one record names; the summary counts them all.
const MAX_ADDRESSES: usize = 20;

/// What a record says of a plan: enough for `autonomy history` to tell who signed what, and what changed, when the
/// generation itself is long gone.
pub(crate) fn told(plan: &PlanDoc, manifest: &Verified<StateManifest>) -> Map<String, Value> {
    let changes: Vec<String> = plan
        .steps
        .iter()
        .filter(|step| step.address != "generation")
        .take(MAX_ADDRESSES)
        .map(|step| format!("{} {}", step.action.mark(), step.address))
        .collect();
    let metadata = &manifest.document().metadata;
    let detail = json!({
        "plan": plan.plan_id, "signers": manifest.signers(), "stream": metadata.name, "serial": metadata.serial,
        "release": plan.manifest.release, "summary": plan.summary, "changes": changes,
        "why": plan.steps.iter().find(|step| step.address == "generation").map(|step| &step.reason),
    });
    match detail {
        Value::Object(detail) => detail,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

/// Listens to an apply for the records, and passes everything on.
pub(crate) struct Recorder<'a> {
    wal: Wal,
    audit: Audit,
    actor: &'a Actor,
    correlation: Option<Blake3>,
    inner: &'a mut dyn Observer,
    /// The first record that could not be written; the apply goes on, as half an apply is worse than a gap.
    lost: Option<String>,
}

impl<'a> Recorder<'a> {
    /// Opens both. Before anything is changed, so that a state root that cannot be written is refused early.
    pub(crate) fn open(
        root: &StateRoot,
        actor: &'a Actor,
        correlation: Option<Blake3>,
        inner: &'a mut dyn Observer,
    ) -> Result<Self, Reasons> {
        let role: Name = ROLE.parse().map_err(|error: autonomy_schema::path::PathError| {
            Reasons::from(autonomy_schema::Reason::new(autonomy_schema::Code::BadName, error.to_string()))
        })?;
        let (wal, _recovery) = Wal::open(root, &role).map_err(|error| error.to_reason())?;
        let audit = Audit::open(root).map_err(|error| error.to_reason())?;
        Ok(Self { wal, audit, actor, correlation, inner, lost: None })
    }

    /// The verb began; nothing is changed unless this is on disk.
    pub(crate) fn begin(&mut self, detail: Value) -> Result<(), Reasons> {
        self.append("started", detail).map_err(|error| error.to_reason().into())
    }

    /// The verb ended. Gives a warning when a record was lost.
    pub(crate) fn end(&mut self, outcome: &str, detail: Value) -> Option<String> {
        let ended = self.append(outcome, detail);
        let checkpoint = self.wal.checkpoint();
        let error = ended.err().map(|error| error.to_reason()).or(checkpoint.err().map(|error| error.to_reason()));
        self.lost.take().or(error.map(|reason| reason.to_string()))
    }

    /// When the verb began.
    pub(crate) fn clock(&self) -> Time {
        self.actor.clock
    }

    /// What is recorded from here on is about this manifest; gives what it was about before.
    pub(crate) fn about(&mut self, manifest: Option<Blake3>) -> Option<Blake3> {
        std::mem::replace(&mut self.correlation, manifest)
    }

    fn append(&mut self, outcome: &str, detail: Value) -> Result<(), autonomy_telemetry::AuditError> {
        self.audit.append(&Entry {
            time: self.actor.clock,
            verb: self.actor.verb.clone(),
            actor: self.actor.who.clone(),
            correlation: self.correlation,
            outcome: outcome.to_owned(),
            detail,
        })
    }

    /// Adds a record to the WAL.
    pub(crate) fn log(&mut self, kind: &str, priority: Priority, mut body: Value) {
        if let Some(fields) = body.as_object_mut() {
            fields.insert("correlation".to_owned(), json!(self.correlation));
        }
        let record = Record { kind: kind.to_owned(), priority, time: self.actor.clock, body };
        if let Err(error) = self.wal.append(record) {
            self.lost.get_or_insert_with(|| error.to_reason().to_string());
        }
    }
}

impl Observer for Recorder<'_> {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Phase(phase) => self.log("apply.phase", Priority::Lifecycle, json!({ "phase": phase })),
            Event::RebuildDone(step) => self.log("rebuild.done", Priority::Lifecycle, json!({ "step": step })),
            Event::RebuildFailed(step, reason) => {
                self.log("rebuild.failed", Priority::Error, json!({ "step": step, "reason": reason }));
            }
            Event::ServiceDone(service) => {
                self.log("service.done", Priority::Lifecycle, json!({ "service": service }));
            }
            Event::ServiceFailed(service, reason) => {
                self.log("service.failed", Priority::Error, json!({ "service": service, "reason": reason }));
            }
            Event::HealthDone(command) => {
                self.log("health.passed", Priority::Lifecycle, json!({ "command": command }));
            }
            Event::HealthFailed(command, reason) => {
                self.log("health.failed", Priority::Error, json!({ "command": command, "reason": reason }));
            }
            Event::RollingBack(reason) => self.log("apply.rolling_back", Priority::Error, json!({ "reason": reason })),
            Event::Staged { .. } | Event::RebuildStarted(_) | Event::ServiceStarted(_) | Event::HealthStarted(_) => {}
        }
        self.inner.event(event);
    }

    fn stop(&self) -> Option<String> {
        self.inner.stop()
    }
}

/// Records that a changing verb was refused. Gives a warning when that was not possible; the refusal stands anyway.
pub(crate) fn note_refusal(
    root: &StateRoot,
    _held: &ActivationLock,
    actor: &Actor,
    correlation: Option<Blake3>,
    reasons: &Reasons,
) -> Option<String> {
    let mut silent = autonomy_apply::Silent;
    match Recorder::open(root, actor, correlation, &mut silent) {
        Ok(mut recorder) => {
            recorder.log("apply.refused", Priority::Decision, json!({ "reasons": reasons.as_slice() }));
            recorder.end("refused", json!({ "reasons": reasons.as_slice() }))
        }
        Err(failure) => Some(failure.to_string()),
    }
}
