//! The ledger: how far every part of every set is with every peer, in `edge/relay.redb` (`docs/formats/ledger.md`).
//!
//! One call of [`Ledger::record`] is one durable transaction: what it was given is on the disk when it returns, all of it or
//! nothing. Attempts never go down (INV-12). One process at a time owns the file.

mod backend;
mod codec;
mod open;
mod retain;

use autonomy_relay::{Change, Part, Row, RowKey, RowState};
use autonomy_schema::{Blake3, Code, Name, Reason};
use autonomy_stateroot::{DiskError, LockGuard};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

pub use open::{LEDGER, OpenError};

/// Rows by key (`codec`).
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// Numbers by name.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Dead letters in the order in which they died: a number that grows, and the row.
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
            Self::Disk(_) => Reason::new(Code::IoError, self.to_string()),
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
    database: Database,
    _owner: Box<dyn LockGuard>,
}

impl Ledger {
    /// Makes changes durable, in one transaction, and with them what the sends after them count.
    pub fn record(&mut self, changes: &[Change], sent: Option<Sent>) -> Result<(), LedgerError> {
        let transaction = self.database.begin_write()?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            let mut meta = transaction.open_table(META)?;
            let mut dead = transaction.open_table(DEAD)?;
            for change in changes {
                let key = codec::key(&change.key);
                let known = match rows.get(key.as_slice())? {
                    Some(bytes) => Some(codec::read_row(bytes.value()).ok_or(LedgerError::Damaged)?),
                    None => None,
                };
                if let Some(known) = &known {
                    goes_on(&change.key, known, &change.row)?;
                }
                if known.as_ref().is_some_and(|known| known.purged) {
                    // It stays purged; the machine holds the row as the dead letter that it is.
                    continue;
                }
                let was_dead = known.is_some_and(|known| known.row.state == RowState::Deadletter);
                if change.row.state == RowState::Deadletter && !was_dead {
                    retain::note_dead(&mut dead, &mut meta, &key)?;
                }
                rows.insert(key.as_slice(), codec::row(&change.row, false).as_slice())?;
            }
            retain::bound_dead(&mut rows, &mut dead, &mut meta)?;
            if let Some(sent) = sent {
                let counted = if number(&meta, "day")? == sent.day { number(&meta, "day_bytes")? } else { 0 };
                meta.insert("day", sent.day)?;
                meta.insert("day_bytes", counted.saturating_add(sent.bytes))?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// What was sent on the last day on which anything was.
    pub fn sent(&self) -> Result<Sent, LedgerError> {
        let meta = self.database.begin_read()?.open_table(META)?;
        Ok(Sent { day: number(&meta, "day")?, bytes: number(&meta, "day_bytes")? })
    }

    /// Rows by key, at most `limit` of them and never more than [`MAX_ROWS`].
    pub fn rows(&self, filter: &Filter, limit: usize) -> Result<Rows, LedgerError> {
        let limit = limit.min(MAX_ROWS);
        let mut found = Rows::default();
        self.each(filter.manifest, |key, kept| {
            if kept.purged || !filter.takes(&key, &kept.row) {
                return;
            }
            if found.rows.len() < limit {
                found.rows.push((key, kept.row));
            } else {
                found.truncated += 1;
            }
        })?;
        Ok(found)
    }

    /// Every row of a set, for the machine that goes on with it. A purged row is the dead letter that it was.
    pub fn restore(&self, manifest: Blake3) -> Result<Vec<(RowKey, Row)>, LedgerError> {
        let mut found = Vec::new();
        self.each(Some(manifest), |key, kept| found.push((key, kept.row)))?;
        Ok(found)
    }

    /// Rows of these segments of a set for a peer, as far as there are any.
    pub fn known(&self, manifest: Blake3, peer: &Name, ids: &[Blake3]) -> Result<Vec<(RowKey, Row)>, LedgerError> {
        let rows = self.database.begin_read()?.open_table(ROWS)?;
        let mut found = Vec::new();
        for id in ids {
            let key = RowKey { manifest, part: Part::Segment(*id), peer: peer.clone() };
            if let Some(row) = rows.get(codec::key(&key).as_slice())? {
                found.push((key, codec::read_row(row.value()).ok_or(LedgerError::Damaged)?.row));
            }
        }
        Ok(found)
    }

    /// How everything stands: rows that are not with their peer, then those that are, `limit` in all; and how many there are.
    pub fn overview(&self, limit: usize) -> Result<Overview, LedgerError> {
        let (mut open, mut acked, mut counts) = (Vec::new(), Vec::new(), Counts::default());
        self.each(None, |key, kept| {
            counts.add(&kept);
            let list = if kept.row.state == RowState::Acked { &mut acked } else { &mut open };
            if !kept.purged && list.len() < limit {
                list.push((key, kept.row));
            }
        })?;
        open.extend(acked);
        open.truncate(limit);
        let meta = self.database.begin_read()?.open_table(META)?;
        counts.dropped = number(&meta, "dropped")?;
        let all = counts.scheduled + counts.inflight + counts.acked + counts.failed + counts.deadletter;
        let truncated = all.saturating_sub(open.len() as u64);
        Ok(Overview { rows: open, truncated, counts })
    }

    fn each(&self, manifest: Option<Blake3>, mut take: impl FnMut(RowKey, codec::Kept)) -> Result<(), LedgerError> {
        let rows = self.database.begin_read()?.open_table(ROWS)?;
        let (first, last) = codec::range(manifest);
        for entry in rows.range(first.as_slice()..=last.as_slice())? {
            let (key, row) = entry?;
            let key = codec::read_key(key.value()).ok_or(LedgerError::Damaged)?;
            take(key, codec::read_row(row.value()).ok_or(LedgerError::Damaged)?);
        }
        Ok(())
    }
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
    fn add(&mut self, kept: &codec::Kept) {
        let place = match kept.row.state {
            _ if kept.purged => &mut self.purged,
            RowState::Scheduled => &mut self.scheduled,
            RowState::Inflight => &mut self.inflight,
            RowState::Acked => &mut self.acked,
            RowState::Failed => &mut self.failed,
            RowState::Deadletter => &mut self.deadletter,
        };
        *place += 1;
    }
}

fn number(meta: &impl redb::ReadableTable<&'static str, u64>, name: &str) -> Result<u64, LedgerError> {
    Ok(meta.get(name)?.map_or(0, |number| number.value()))
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
