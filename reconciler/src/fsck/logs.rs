//! The logs: their chains, their checkpoints, their torn tails.

use autonomy_stateroot::{StateRoot, layout};
use autonomy_telemetry::{Audit, inspect, roles};

use super::{Finding, Mend, Report};

const LOGS: &str = "keep a copy and find out who changed it; then move it away, and a new one begins";

pub(super) fn check(root: &StateRoot, report: &mut Report) {
    let damage = |path: &dyn ToString, message: String| Finding::damage(path.to_string(), message, LOGS, Mend::Nothing);
    if let Err(error) = Audit::verify(root) {
        report.findings.push(damage(&layout::audit_log(), error.to_reason().message));
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
