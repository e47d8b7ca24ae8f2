//! `fsck`: the whole state root looked at, and what can be mended from what is whole.
//!
//! The check writes nothing. The repair touches nothing that is right: what is damaged is staged again beside it, links
//! are pointed to what is whole, and what was damaged is kept in `quarantine/`. Signatures decide what is whole.

use autonomy_schema::{Code, Name, Reason, Reasons, RelPath};
use autonomy_stateroot::{LockGuard, LockMode, StatCache, StateRoot, layout};
use serde::Serialize;

use crate::judge::Options;

mod check;
mod edge;
mod logs;
mod policy;
mod repair;
mod salvage;

pub use repair::{Repaired, repair};

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is not what it must be.
    Damage,
    /// Something that does no harm: an orphan, a half line that the next writer cuts.
    Notice,
}

/// What a repair would do about a finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mend {
    /// Nothing: people must.
    Nothing,
    /// Pins the root again that is kept.
    TrustRoot,
    /// Permission bits.
    Mode(RelPath, autonomy_schema::Mode),
    /// Makes a folder.
    Folder(RelPath),
    /// Removes what nothing refers to.
    Remove(RelPath),
    /// Moves it into `quarantine/`.
    Aside(RelPath),
    /// Sets the journal aside.
    Journal,
    /// Stages the generation again.
    Generation(Name),
    /// Writes an object again from a generation that holds its bytes, or removes it when none is made of it.
    Object(String),
    /// Points `current` again.
    Current,
    /// Points `lkg` again.
    Lkg,
    /// Raises the floors to what the generation proves.
    Floors(Name),
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How grave it is.
    pub severity: Severity,
    /// Where, relative to the state root.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What mends it.
    pub remedy: String,
    #[serde(skip)]
    pub(crate) mend: Mend,
}

const REPAIR: &str = "run `autonomy fsck --repair`, with `--from SET` where the right bytes are nowhere on the node";

#[expect(clippy::needless_pass_by_value, reason = "a path comes as a name, a text or a path, owned or not")]
impl Finding {
    pub(crate) fn damage(path: impl ToString, message: impl Into<String>, remedy: &str, mend: Mend) -> Self {
        let remedy = remedy.to_owned();
        Self { severity: Severity::Damage, path: path.to_string(), message: message.into(), remedy, mend }
    }

    /// Damage that a repair can end.
    pub(crate) fn repairable(path: impl ToString, message: impl Into<String>, mend: Mend) -> Self {
        Self::damage(path, message, REPAIR, mend)
    }

    pub(crate) fn notice(path: impl ToString, message: impl Into<String>, remedy: &str, mend: Mend) -> Self {
        Self { severity: Severity::Notice, ..Self::damage(path, message, remedy, mend) }
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Sorted: damage first, then by path.
    pub findings: Vec<Finding>,
    /// Generations that were looked at.
    pub generations: u64,
    /// Objects that were hashed.
    pub objects: u64,
    /// Bytes that were hashed.
    pub bytes: u64,
}

impl Report {
    /// The damage, as reasons; exit 11.
    pub fn reasons(&self) -> Result<(), Reasons> {
        let damage = self.findings.iter().filter(|finding| finding.severity == Severity::Damage);
        let reason = |finding: &Finding| {
            let message = format!("`{}`: {}", finding.path, finding.message);
            Reason::new(Code::CorruptState, message).with_remedy(finding.remedy.clone())
        };
        Reasons::check(damage.map(reason).collect())
    }
}

/// Keeps changing verbs away while a check looks, without writing anything.
fn keep_still(root: &StateRoot) -> Result<Option<Box<dyn LockGuard>>, Reasons> {
    let failed = |error: autonomy_stateroot::DiskError| Reasons::from(error.to_reason());
    let path = layout::lock_file();
    if root.disk().stat(&path).map_err(failed)?.is_none() {
        return Ok(None);
    }
    if let Some(guard) = root.disk().try_lock(&path, LockMode::Shared).map_err(failed)? {
        return Ok(Some(guard));
    }
    let holder = root.lock_holder().map_err(failed)?;
    let who = holder
        .map_or_else(|| "another process".to_owned(), |holder| format!("`{}` (pid {})", holder.command, holder.pid));
    Err(Reason::new(Code::Locked, format!("{who} holds the lock of the state root")).into())
}

/// Looks at everything. Writes nothing.
pub fn check(root: &StateRoot, options: &Options<'_>) -> Result<Report, Reasons> {
    let _still = keep_still(root)?;
    look(root, options)
}

/// The same for a caller that holds the lock.
fn look(root: &StateRoot, options: &Options<'_>) -> Result<Report, Reasons> {
    let mut report = Report::default();
    let mut cache = StatCache::default();
    check::documents(root, &mut report).map_err(|error| Reasons::from(error.to_reason()))?;
    check::objects(root, options, &mut report, &mut cache).map_err(|error| Reasons::from(error.to_reason()))?;
    check::generations(root, options, &cache, &mut report)?;
    check::links(root, &mut report)?;
    edge::check(root, &mut report).map_err(|error| Reasons::from(error.to_reason()))?;
    policy::check(root, &mut report).map_err(|error| Reasons::from(error.to_reason()))?;
    logs::check(root, &mut report);
    report.findings.sort();
    report.findings.dedup();
    Ok(report)
}
