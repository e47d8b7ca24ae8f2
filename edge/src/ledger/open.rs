//! Opening the ledger: who owns it, which version wrote it, whether it is sound.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use autonomy_schema::{Code, Reason, RelPath, canonical};
use autonomy_stateroot::lock::{Holder, boot_id};
use autonomy_stateroot::{DiskError, LockGuard, LockMode, StateRoot, SyncTarget, durable, read_capped};
use redb::{Builder, Database, DatabaseError, ReadableDatabase as _, StorageError};

use super::backend::Backend;
use super::tables::{number, write};
use super::{Ledger, LedgerError, META};

/// Where the ledger lies in a state root.
pub const LEDGER: &str = "edge/relay.redb";
/// Held by the process that owns it.
const OWNER: &str = "edge/edged.lock";
/// Largest content of it that is read.
const MAX_OWNER_BYTES: u64 = 4 << 10;
/// Pages that are kept in memory. A busy ledger of a hundred thousand rows has some ten MiB.
const CACHE_BYTES: usize = 2 << 20;
/// What this version writes.
const VERSION: u64 = 2;

/// The ledger cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns it.
    #[error("{0}")]
    Owned(Reason),
    /// It is damaged, or a newer version wrote it. Nothing of it was touched.
    #[error("{0}")]
    Damaged(Reason),
    /// The disk refused.
    #[error("{0}")]
    Disk(Reason),
}

impl OpenError {
    /// The error as a reason.
    pub fn to_reason(&self) -> Reason {
        match self {
            Self::Owned(reason) | Self::Damaged(reason) | Self::Disk(reason) => reason.clone(),
        }
    }
}

impl From<DiskError> for OpenError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error.to_reason())
    }
}

impl Ledger {
    /// Opens the ledger of a state root, and makes it when there is none.
    pub fn open(root: &StateRoot) -> Result<Self, OpenError> {
        let path = RelPath::fixed(LEDGER);
        durable::ensure_dir(root.disk(), &RelPath::fixed("edge"))?;
        let owner = own(root)?;
        if !durable::exists(root.disk(), &path)? {
            make(root, &path)?;
        }
        let lost = Arc::default();
        let database = open(root, &path, &lost)?;
        Ok(Self { root: root.clone(), database: Some(database), lost, _owner: owner })
    }
}

/// Opens it again after an error of the disk, for the owner.
pub(super) fn reopen(root: &StateRoot, lost: &Arc<AtomicBool>) -> Result<Database, OpenError> {
    open(root, &RelPath::fixed(LEDGER), lost)
}

/// Takes ownership, and writes down who has it.
fn own(root: &StateRoot) -> Result<Box<dyn LockGuard>, OpenError> {
    let path = RelPath::fixed(OWNER);
    let Some(guard) = root.disk().try_lock(&path, LockMode::Exclusive)? else {
        let bytes = read_capped(root.disk(), &path, MAX_OWNER_BYTES).ok().flatten();
        let holder = bytes.and_then(|bytes| serde_json::from_slice::<Holder>(&bytes).ok());
        let message = match holder {
            Some(Holder { pid, .. }) => format!("`edged` (pid {pid}) runs on this state root"),
            None => "another `edged` runs on this state root; it has not said yet which".to_owned(),
        };
        return Err(OpenError::Owned(
            Reason::new(Code::Locked, message).with_remedy("stop it first; one daemon serves one state root"),
        ));
    };
    let holder = Holder { boot_id: boot_id(), command: "edged run".to_owned(), pid: std::process::id() };
    let text = canonical::to_bytes(&holder).unwrap_or_default();
    // Not synced: after a power loss there is no owner.
    root.disk().set_len(&path, 0)?;
    root.disk().write_at(&path, 0, &text)?;
    Ok(guard)
}

/// A new ledger, made beside its place: at its place is a whole one or none.
fn make(root: &StateRoot, path: &RelPath) -> Result<(), OpenError> {
    let tmp = durable::beside(path)?;
    durable::remove_tree(root.disk(), &tmp)?;
    let backend = Backend::new(root, &tmp, &Arc::default())?;
    backend.trust()?;
    let database = builder().create_with_backend(backend).map_err(|error| not_made(&error))?;
    migrate(&database).map_err(|error| OpenError::Disk(error.to_reason()))?;
    drop(database);
    root.disk().sync(SyncTarget::File(&tmp))?;
    root.disk().rename(&tmp, path)?;
    root.disk().sync(SyncTarget::Dir(path.parent().as_ref()))?;
    Ok(())
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn not_made(error: &DatabaseError) -> OpenError {
    OpenError::Disk(Reason::new(Code::IoError, format!("cannot make `{LEDGER}`: {error}")))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other error of redb is about what the file holds")]
fn open(root: &StateRoot, path: &RelPath, lost: &Arc<AtomicBool>) -> Result<Database, OpenError> {
    let backend = Backend::new(root, path, lost)?;
    let database = builder().create_with_backend(backend.clone()).map_err(|error| match error {
        DatabaseError::Storage(StorageError::Io(error)) if !says_damaged(&error) => {
            OpenError::Disk(Reason::new(Code::IoError, format!("cannot open `{LEDGER}`: {error}")))
        }
        damaged => damaged_because(&damaged.to_string()),
    })?;
    let version = version(&database).map_err(|error| damaged_because(&error.to_string()))?;
    if version == 0 {
        return Err(damaged_because("it does not say which version wrote it"));
    }
    if version > VERSION {
        let message = format!("`{LEDGER}` has version {version}; this program knows {VERSION} and older ones");
        let reason = Reason::new(Code::UnknownVersion, message);
        return Err(OpenError::Damaged(reason.with_remedy("run the program that wrote it, or a newer one")));
    }
    backend.trust()?;
    if version < VERSION {
        migrate(&database).map_err(|error| OpenError::Disk(error.to_reason()))?;
    }
    Ok(database)
}

/// A file that is none of redb's, or that ends too soon.
fn says_damaged(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}

fn damaged_because(why: &str) -> OpenError {
    let reason = Reason::new(Code::CorruptState, format!("`{LEDGER}` is damaged: {why}. Nothing of it was touched"));
    OpenError::Damaged(reason.with_remedy(
        "look for the cause in the disk; then move the file away and start again: what peers have is asked of them anew, and \
         only counts of attempts are lost",
    ))
}

/// The version that is written there; 0 where none is.
fn version(database: &Database) -> Result<u64, LedgerError> {
    let transaction = database.begin_read()?;
    match transaction.open_table(META) {
        Ok(meta) => number(&meta, "version"),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// From any older version, or from nothing, to this one, in one transaction.
fn migrate(database: &Database) -> Result<(), LedgerError> {
    let from = version(database)?;
    write(database, |tables| {
        if from == 1 {
            tables.count_all()?;
        }
        tables.set("version", VERSION)
    })
}
