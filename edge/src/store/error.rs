//! Why something was not stored.

use autonomy_schema::{Reason, Reasons};
use autonomy_stateroot::DiskError;

/// Why something was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The set does not verify (422).
    #[error("{0}")]
    Refused(Reasons),
    /// The ceiling would be passed (507, INV-04).
    #[error("{0}")]
    Ceiling(Reason),
    /// The disk is full (507).
    #[error("{0}")]
    NoSpace(Reason),
    /// More than the body may hold (413).
    #[error("{0}")]
    TooLarge(Reason),
    /// As many sets are under way as may be (503).
    #[error("{0}")]
    Busy(Reason),
    /// The disk, or what lies on it, is broken (500).
    #[error("{0}")]
    Disk(Reason),
}

impl StoreError {
    /// The error as reasons.
    pub fn into_reasons(self) -> Reasons {
        match self {
            Self::Refused(reasons) => reasons,
            Self::Ceiling(reason)
            | Self::NoSpace(reason)
            | Self::TooLarge(reason)
            | Self::Busy(reason)
            | Self::Disk(reason) => reason.into(),
        }
    }
}

impl From<DiskError> for StoreError {
    fn from(error: DiskError) -> Self {
        if error.is_no_space() { Self::NoSpace(error.to_reason()) } else { Self::Disk(error.to_reason()) }
    }
}
