//! The logs: their chains, their checkpoints, their torn tails.

use autonomy_schema::RelPath;
use autonomy_stateroot::{FileKind, StateRoot, layout};
use autonomy_telemetry::{Audit, inspect, roles};

use super::{Finding, Mend, Report};

const LOGS: &str = "keep a copy and find out who changed it; then move it away, and a new one begins";

pub(super) fn check(root: &StateRoot, report: &mut Report) {
    let damage = |path: &dyn ToString, message: String| Finding::damage(path.to_string(), message, LOGS, Mend::Nothing);
    let was_used = root.floors().ok().flatten().is_some_and(|floors| floors.promoted);
    let kind = |path: &RelPath| root.disk().stat(path).ok().flatten().map(|stat| stat.kind);
    match (Audit::verify(root), kind(&layout::audit_log())) {
        (Err(error), _) => report.findings.push(damage(&layout::audit_log(), error.to_reason().message)),
        (Ok(_), Some(kind)) if kind != FileKind::File => {
            report.findings.push(damage(&layout::audit_log(), "it is no regular file".to_owned()));
        }
        // Every generation that was made active here left its acts.
        (Ok(0), _) if was_used => {
            let message = "it holds no act, although a generation was known good here";
            let remedy = "restore it from a backup with `autonomy restore`, or go on: the next verb begins a new one";
            report.findings.push(Finding::damage(layout::audit_log(), message, remedy, Mend::Nothing));
        }
        (Ok(_), _) => {}
    }
    let roles = match roles(root) {
        Ok(roles) => roles,
        Err(error) => {
            report.findings.push(damage(&layout::telemetry(), error.to_reason().message));
            return;
        }
    };
    for role in roles {
        let path = layout::telemetry_role(&role);
        let finding = match inspect(root, &role) {
            Err(error) => damage(&path, error.to_reason().message),
            Ok(log) => match (log.cause, log.torn_bytes) {
                (Some(cause), _) => damage(&path, cause),
                (None, 0) => continue,
                (None, torn) => {
                    let message = format!("{torn} bytes at its end are half a record, as a power loss leaves them");
                    Finding::notice(path, message, "nothing: the next writer cuts them", Mend::Nothing)
                }
            },
        };
        report.findings.push(finding);
    }
}
