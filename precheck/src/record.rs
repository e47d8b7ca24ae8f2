//! What a precheck leaves in the logs of the node: the WAL of role `edged`, and the audit trail where something changed.

use autonomy_schema::path::PathError;
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, Time};
use autonomy_stateroot::{ActivationLock, StateRoot};
use autonomy_telemetry::{Audit, Entry, Priority, Record, Wal};
use serde_json::{Value, json};

use crate::report::Fingerprint;

/// What a precheck is called in the audit trail.
pub const VERB: &str = "precheck";
/// The process role whose WAL the daemon writes.
const ROLE: &str = "edged";

/// Who replaced the node's certificate, by which verb, and when.
#[derive(Debug, Clone, Copy)]
pub struct Replaced<'a> {
    /// For the records, such as `uid:0`.
    pub actor: &'a str,
    /// The verb.
    pub verb: &'a str,
    /// The clock.
    pub time: Time,
}

/// Records that the node's certificate was replaced by the one with this serial number. `_held` proves that nobody else
/// writes the logs.
pub fn note_certificate(
    root: &StateRoot,
    _held: &ActivationLock,
    by: Replaced<'_>,
    serial: Option<&str>,
) -> Result<(), Reasons> {
    let mut records = Records::open(root, by.time, by.actor, None)?;
    let detail = json!({ "verb": by.verb, "serial": serial });
    records.log("edge.certificate.replaced", Priority::Lifecycle, detail.clone())?;
    records.note_of(by.verb, "certificate", detail)?;
    records.close()
}

/// The open logs.
pub(crate) struct Records {
    wal: Wal,
    audit: Audit,
    time: Time,
    actor: String,
    correlation: Option<Blake3>,
}

impl Records {
    /// Opens both before anything is changed, so that a state root that cannot be written is refused early.
    pub(crate) fn open(
        root: &StateRoot,
        time: Time,
        actor: &str,
        correlation: Option<Blake3>,
    ) -> Result<Self, Reasons> {
        let bad_name = |error: PathError| Reasons::from(Reason::new(Code::BadName, error.to_string()));
        let role: Name = ROLE.parse().map_err(bad_name)?;
        let (wal, _recovery) = Wal::open(root, &role).map_err(|error| error.to_reason())?;
        let audit = Audit::open(root).map_err(|error| error.to_reason())?;
        Ok(Self { wal, audit, time, actor: actor.to_owned(), correlation })
    }

    fn log(&mut self, kind: &str, priority: Priority, mut body: Value) -> Result<(), Reasons> {
        body["correlation"] = json!(self.correlation);
        let record = Record { kind: kind.to_owned(), priority, time: self.time, body };
        self.wal.append(record).map(drop).map_err(|error| error.to_reason().into())
    }

    fn note(&mut self, outcome: &str, detail: Value) -> Result<(), Reasons> {
        self.note_of(VERB, outcome, detail)
    }

    fn note_of(&mut self, verb: &str, outcome: &str, detail: Value) -> Result<(), Reasons> {
        let entry = Entry {
            time: self.time,
            verb: verb.to_owned(),
            actor: self.actor.clone(),
            correlation: self.correlation,
            outcome: outcome.to_owned(),
            detail,
        };
        self.audit.append(&entry).map_err(|error| error.to_reason().into())
    }

    /// The platform gives less than high durability (INV-05).
    pub(crate) fn reduced(&mut self, why: &str) -> Result<(), Reasons> {
        self.log("edge.assurance.reduced", Priority::Error, json!({ "why": why }))
    }

    /// The operating system was recorded.
    pub(crate) fn recorded(&mut self, epoch: u64, composite: Blake3) -> Result<(), Reasons> {
        let detail = json!({ "bootEpoch": epoch, "composite": composite });
        self.log("edge.os.recorded", Priority::Lifecycle, detail.clone())?;
        self.note("recorded", detail)
    }

    /// A reconstruction begins.
    pub(crate) fn begin(&mut self, found: Option<&Fingerprint>) -> Result<(), Reasons> {
        let detail = json!({ "changed": found.map(|found| &found.changed) });
        self.log("edge.os.replaced", Priority::Lifecycle, detail.clone())?;
        self.note("started", detail)
    }

    /// It came to its end, and the next epoch began.
    pub(crate) fn done(mut self, epoch: u64, changed: &[String]) -> Result<(), Reasons> {
        let detail = json!({ "bootEpoch": epoch, "steps": changed });
        self.log("edge.reconstruction.done", Priority::Lifecycle, detail.clone())?;
        self.note("done", detail)?;
        self.close()
    }

    /// It failed.
    pub(crate) fn failed(mut self, reasons: &Reasons) -> Result<(), Reasons> {
        let detail = json!({ "reasons": reasons.as_slice() });
        self.log("edge.reconstruction.failed", Priority::Error, detail.clone())?;
        self.note("failed", detail)?;
        self.close()
    }

    /// Closes both.
    pub(crate) fn close(mut self) -> Result<(), Reasons> {
        self.wal.checkpoint().map_err(|error| error.to_reason().into())
    }
}
