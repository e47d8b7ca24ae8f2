//! What a precheck says: findings, sorted, each with the part of the node that it is about; and the exit code.

use autonomy_schema::finding::{Finding, Severity};
use autonomy_schema::os::Changed;
use autonomy_schema::{Blake3, Code, Reason, Reasons};
use serde::Serialize;

/// What a finding is about; with [`Area::exit`] it decides the exit code (DESIGN §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// Configuration, clock, space (INV-04), assurance (INV-05).
    Config,
    /// The state root.
    StateRoot,
    /// Certificates and revocation lists.
    Certificates,
    /// Reconstruction.
    Reconstruction,
}

impl Area {
    /// The exit code of `edged precheck`.
    pub const fn exit(self) -> u8 {
        match self {
            Self::Config => 1,
            Self::StateRoot => 2,
            Self::Certificates => 3,
            Self::Reconstruction => 5,
        }
    }
}

/// The operating system, as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// Composite of its components.
    pub composite: Blake3,
    /// The components by name.
    pub components: std::collections::BTreeMap<String, String>,
    /// What changed since it was recorded.
    pub changed: Vec<Changed>,
}

/// The report of a precheck.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Sorted by code.
    pub findings: Vec<Finding>,
    /// The operating system; absent when the state root could not be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// The boot epoch after this run; absent where none is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_epoch: Option<u64>,
    /// What reconstruction changed, or would change.
    pub reconstructed: Vec<String>,
    /// Serial number of the certificate that took the place of the node's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotated: Option<String>,
    /// Whether nothing was written, because that was asked for.
    pub dry_run: bool,
    /// The exit code: the lowest among the findings' own.
    pub exit: u8,
}

impl Report {
    /// Puts a finding in its place.
    pub fn add(&mut self, area: Area, severity: Severity, reason: Reason) {
        // What ends soon is a warning, and yet somebody must be called.
        let calls = matches!(reason.code, Code::CertificateExpiring | Code::CaExpiring | Code::CrlExpiring);
        if severity == Severity::Error || calls {
            self.exit = if self.exit == 0 { area.exit() } else { self.exit.min(area.exit()) };
        }
        self.findings.push(Finding::new(severity, reason));
        self.findings.sort();
        self.findings.dedup();
    }

    /// What was found is mended in the same run.
    pub(crate) fn mended(&mut self, code: Code, remedy: &str) {
        for finding in self.findings.iter_mut().filter(|finding| finding.code == code) {
            remedy.clone_into(&mut finding.remedy);
        }
    }

    /// Every reason of a refusal as an error.
    pub fn refuse(&mut self, area: Area, reasons: &Reasons) {
        for reason in reasons.as_slice() {
            self.add(area, Severity::Error, reason.clone());
        }
    }
}
