//! The ledger: how far every part of every set is with every peer, in `edge/relay.redb` (`docs/formats/ledger.md`).
//!
//! One call of [`Ledger::record`] is one durable transaction: what it was given is on the disk when it returns, all of it or
//! nothing. Attempts never go down (INV-12). One process at a time owns the file.

mod backend;
mod codec;
mod open;
mod retain;
mod tables;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use autonomy_relay::{Change, Part, Row, RowKey, RowState};
use autonomy_schema::{Blake3, Code, Name, Reason};
use autonomy_stateroot::{DiskError, LockGuard, StateRoot};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

pub use open::{LEDGER, OpenError};
use tables::{counts, number, write};

/// Rows by key (`codec`).
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// Numbers by name.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Keys of the rows that are not acked, so that nobody goes through those that are to find them.
const OPEN: TableDefinition<'_, &[u8], ()> = TableDefinition::new("open");
/// Dead letters of withdrawn sets, in the order of their withdrawal: a number that grows, and the row.
const DEAD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("dead");
/// Manifests that were withdrawn, in that order.
const WITHDRAWN: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("withdrawn");

/// Most rows in one answer.
pub const MAX_ROWS: usize = 10_000;

/// A transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk refused, or is full. Nothing of the transaction is there.
    #[error("cannot write the ledger: {0}")]
    Disk(String),
    /// A sync failed, so what this process knows of the file is not trusted any more; another process reads it anew.
    #[error("the ledger may not be durable: {0}")]
    Unsynced(String),
    /// A change would take attempts back, or bring a dead letter to life.
    #[error(
        "the row of {part} of {manifest} for `{peer}` has {known} attempts and is {state:?}; it cannot become {wanted}"
    )]
    TakesBack {
        /// The set.
        manifest: Blake3,
        /// Which part.
        part: String,
        /// The peer.
        peer: Name,
        /// What was counted.
        known: u64,
        /// How it stands.
        state: RowState,
        /// What was asked for.
        wanted: String,
    },
    /// A row does not read.
    #[error("the ledger holds a row that does not read")]
    Damaged,
}

impl LedgerError {
    /// The error as a reason.
    pub fn to_reason(&self) -> Reason {
        match self {
            Self::Disk(_) | Self::Unsynced(_) => Reason::new(Code::IoError, self.to_string()),
            Self::TakesBack { .. } | Self::Damaged => Reason::new(Code::CorruptState, self.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($error:ident)*) => {
        $(impl From<redb::$error> for LedgerError {
            fn from(error: redb::$error) -> Self {
                Self::Disk(error.to_string())
            }
        })*
    };
}
from_redb!(TransactionError TableError StorageError CommitError SetDurabilityError);

impl From<DiskError> for LedgerError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error.to_reason().message)
    }
}

/// Which rows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of this set.
    pub manifest: Option<Blake3>,
    /// Those for this peer.
    pub peer: Option<Name>,
    /// The set itself, or this segment.
    pub part: Option<Part>,
    /// Those that stand so; none named is all of them.
    pub states: Vec<RowState>,
}

impl Filter {
    fn takes(&self, key: &RowKey, row: &Row) -> bool {
        self.manifest.is_none_or(|manifest| manifest == key.manifest)
            && self.peer.as_ref().is_none_or(|peer| *peer == key.peer)
            && self.part.is_none_or(|part| part == key.part)
            && (self.states.is_empty() || self.states.contains(&row.state))
    }
}

/// The part of a set that is called so: `manifest`, or the name of a segment.
pub fn part(text: &str) -> Result<Part, Reason> {
    if text == Part::Manifest.to_string() {
        return Ok(Part::Manifest);
    }
    let id = text.parse().map(Part::Segment);
    id.map_err(|_neither| Reason::new(Code::BadDigest, "a segment is `manifest`, or `blake3:` and 64 digits"))
}

/// Rows, and how many more there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// By key.
    pub rows: Vec<(RowKey, Row)>,
    /// Rows that the limit left out.
    pub truncated: u64,
}

/// What was sent on a day, counted from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// The day.
    pub day: u64,
    /// Bytes of packs.
    pub bytes: u64,
}

/// The ledger. It is closed, and free for another process, when it is dropped.
#[derive(Debug)]
pub struct Ledger {
    root: StateRoot,
    /// `None` when the disk failed: what redb holds then is not trusted, and it is opened again before it is used.
    database: Option<Database>,
    /// A sync of the file failed.
    lost: Arc<AtomicBool>,
    _owner: Box<dyn LockGuard>,
}

impl Ledger {
    /// Makes changes durable, in one transaction, and with them what the sends after them count. After an error of the disk
    /// it may be asked for the same again: nothing is counted twice but bytes of the day.
    pub fn record(&mut self, changes: &[Change], sent: Option<Sent>) -> Result<(), LedgerError> {
        self.with(|database| {
            write(database, |tables| {
                // By key, so that neighbours share pages; of one key in their order.
                let mut keyed: Vec<_> = changes.iter().map(|change| (codec::key(&change.key), change)).collect();
                keyed.sort_by(|one, other| one.0.cmp(&other.0));
                for (key, change) in keyed {
                    tables.change(&key, change)?;
                }
                if let Some(sent) = sent {
                    let counted = if tables.number("day")? == sent.day { tables.number("day_bytes")? } else { 0 };
                    tables.set("day", sent.day)?;
                    tables.set("day_bytes", counted.saturating_add(sent.bytes))?;
                }
                Ok(())
            })
        })
    }

    /// What was sent on the last day on which anything was.
    pub fn sent(&mut self) -> Result<Sent, LedgerError> {
        self.with(|database| {
            let meta = database.begin_read()?.open_table(META)?;
            Ok(Sent { day: number(&meta, "day")?, bytes: number(&meta, "day_bytes")? })
        })
    }

    /// Rows by key, at most `limit` of them and never more than [`MAX_ROWS`].
    pub fn rows(&mut self, filter: &Filter, limit: usize) -> Result<Rows, LedgerError> {
        let limit = limit.min(MAX_ROWS);
        let mut found = Rows::default();
        let mut take = |key: RowKey, kept: codec::Kept| {
            if kept.purged || !filter.takes(&key, &kept.row) {
                return;
            }
            if found.rows.len() < limit {
                found.rows.push((key, kept.row));
            } else {
                found.truncated += 1;
            }
        };
        if filter.states.is_empty() || filter.states.contains(&RowState::Acked) {
            self.with(|database| each(database, filter.manifest, &mut take))?;
        } else {
            self.with(|database| each_open(database, filter.manifest, &mut take))?;
        }
        Ok(found)
    }

    /// What the machine needs of a set that it goes on with: the rows of the set itself, and of segments those that are not
    /// acked. A purged row is the dead letter that it was.
    pub fn restore(&mut self, manifest: Blake3) -> Result<Vec<(RowKey, Row)>, LedgerError> {
        self.with(|database| {
            let mut found = Vec::new();
            each_open(database, Some(manifest), &mut |key, kept| found.push((key, kept.row)))?;
            let rows = database.begin_read()?.open_table(ROWS)?;
            let (first, last) = codec::range_of_manifest(manifest);
            for entry in rows.range(first.as_slice()..=last.as_slice())? {
                let (key, row) = read(&entry?)?;
                if row.row.state == RowState::Acked {
                    found.push((key, row.row));
                }
            }
            Ok(found)
        })
    }

    /// Rows of these segments of a set for a peer, as far as there are any.
    pub fn known(&mut self, manifest: Blake3, peer: &Name, ids: &[Blake3]) -> Result<Vec<(RowKey, Row)>, LedgerError> {
        self.with(|database| {
            let rows = database.begin_read()?.open_table(ROWS)?;
            let mut found = Vec::new();
            for id in ids {
                let key = RowKey { manifest, part: Part::Segment(*id), peer: peer.clone() };
                if let Some(row) = rows.get(codec::key(&key).as_slice())? {
                    found.push((key, codec::read_row(row.value()).ok_or(LedgerError::Damaged)?.row));
                }
            }
            Ok(found)
        })
    }

    /// How everything stands: rows that are not with their peer, then those that are, `limit` in all; and how many there are.
    /// What it reads grows with the limit, and with dead letters, and not with what arrived.
    pub fn overview(&mut self, limit: usize) -> Result<Overview, LedgerError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let (rows, open) = (transaction.open_table(ROWS)?, transaction.open_table(OPEN)?);
            let counts = counts(&transaction.open_table(META)?)?;
            let mut listed = Vec::new();
            for entry in open.iter()? {
                if listed.len() >= limit {
                    break;
                }
                let (key, kept) = opened(&rows, entry?.0.value())?;
                if !kept.purged {
                    listed.push((key, kept.row));
                }
            }
            for entry in rows.iter()? {
                if listed.len() >= limit {
                    break;
                }
                let (key, kept) = read(&entry?)?;
                if kept.row.state == RowState::Acked {
                    listed.push((key, kept.row));
                }
            }
            let all = counts.scheduled + counts.inflight + counts.acked + counts.failed + counts.deadletter;
            let truncated = all.saturating_sub(listed.len() as u64);
            Ok(Overview { rows: listed, truncated, counts })
        })
    }

    /// Works with the database. After an error of the disk it is closed, and opened and checked again by whoever comes next;
    /// after a failed sync that is for another process to do.
    fn with<R>(&mut self, job: impl FnOnce(&Database) -> Result<R, LedgerError>) -> Result<R, LedgerError> {
        let opened = match self.database.take() {
            Some(database) => Ok(database),
            None => open::reopen(&self.root, &self.lost).map_err(|error| LedgerError::Disk(error.to_reason().message)),
        };
        let result = opened.and_then(|database| {
            let result = job(&database);
            if !matches!(result, Err(LedgerError::Disk(_))) {
                self.database = Some(database);
            }
            result
        });
        match result {
            Err(LedgerError::Disk(message)) if self.lost.load(Ordering::Relaxed) => Err(LedgerError::Unsynced(message)),
            result => result,
        }
    }
}

type Entry<'t> = (redb::AccessGuard<'t, &'static [u8]>, redb::AccessGuard<'t, &'static [u8]>);

fn read((key, row): &Entry<'_>) -> Result<(RowKey, codec::Kept), LedgerError> {
    let key = codec::read_key(key.value()).ok_or(LedgerError::Damaged)?;
    Ok((key, codec::read_row(row.value()).ok_or(LedgerError::Damaged)?))
}

/// The row of a key that is open.
fn opened(
    rows: &impl redb::ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<(RowKey, codec::Kept), LedgerError> {
    let row = rows.get(key)?.and_then(|row| codec::read_row(row.value())).ok_or(LedgerError::Damaged)?;
    Ok((codec::read_key(key).ok_or(LedgerError::Damaged)?, row))
}

fn each(
    database: &Database,
    manifest: Option<Blake3>,
    take: &mut impl FnMut(RowKey, codec::Kept),
) -> Result<(), LedgerError> {
    let rows = database.begin_read()?.open_table(ROWS)?;
    let (first, last) = codec::range(manifest);
    for entry in rows.range(first.as_slice()..=last.as_slice())? {
        let (key, row) = read(&entry?)?;
        take(key, row);
    }
    Ok(())
}

/// As [`each`], and only those that are not acked.
fn each_open(
    database: &Database,
    manifest: Option<Blake3>,
    take: &mut impl FnMut(RowKey, codec::Kept),
) -> Result<(), LedgerError> {
    let transaction = database.begin_read()?;
    let (rows, open) = (transaction.open_table(ROWS)?, transaction.open_table(OPEN)?);
    let (first, last) = codec::range(manifest);
    for entry in open.range(first.as_slice()..=last.as_slice())? {
        let (key, row) = opened(&rows, entry?.0.value())?;
        take(key, row);
    }
    Ok(())
}

/// How everything stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overview {
    /// Rows that are not with their peer, then those that are.
    pub rows: Vec<(RowKey, Row)>,
    /// Rows that the limit left out.
    pub truncated: u64,
    /// How many there are of each kind.
    pub counts: Counts,
}

/// How many rows stand how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Wait for their turn.
    pub scheduled: u64,
    /// Are under way.
    pub inflight: u64,
    /// Arrived.
    pub acked: u64,
    /// Failed, and will be tried again.
    pub failed: u64,
    /// Used up.
    pub deadletter: u64,
    /// Dead letters that somebody purged; their counts stand.
    pub purged: u64,
    /// Rows of withdrawn sets, and dead letters, that were the oldest of too many.
    pub dropped: u64,
}

impl Counts {
    fn place(&mut self, kept: &codec::Kept) -> &mut u64 {
        match kept.row.state {
            _ if kept.purged => &mut self.purged,
            RowState::Scheduled => &mut self.scheduled,
            RowState::Inflight => &mut self.inflight,
            RowState::Acked => &mut self.acked,
            RowState::Failed => &mut self.failed,
            RowState::Deadletter => &mut self.deadletter,
        }
    }
}

/// INV-12: attempts never go down, and what is terminal stays.
fn goes_on(key: &RowKey, known: &codec::Kept, wanted: &Row) -> Result<(), LedgerError> {
    let revived = known.row.state == RowState::Deadletter && wanted.state != RowState::Deadletter;
    if wanted.attempts >= known.row.attempts && !revived {
        return Ok(());
    }
    Err(LedgerError::TakesBack {
        manifest: key.manifest,
        part: key.part.to_string(),
        peer: key.peer.clone(),
        known: known.row.attempts,
        state: known.row.state,
        wanted: format!("{:?} with {}", wanted.state, wanted.attempts),
    })
}

#[cfg(test)]
mod tests;
