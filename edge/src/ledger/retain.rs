//! What goes, so that the ledger stays bounded: rows of sets that are not sent any more, save dead letters; and of those of
//! such sets the oldest of too many. What goes is counted. A set that is sent loses no row: its counts stand (INV-12).

use std::collections::BTreeSet;

use autonomy_relay::{MAX_WANTED, Part, RowKey, RowState};
use autonomy_schema::Blake3;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _};

use super::tables::{Tables, write};
use super::{Filter, Ledger, LedgerError, OPEN, ROWS, WITHDRAWN, codec, each_open, opened};

/// Most dead letters of withdrawn sets that are kept, purged ones included: what two peers can leave of one set.
pub(super) const MAX_DEAD: u64 = 2 * MAX_WANTED as u64;
/// Most withdrawn sets whose failed attempts are remembered.
const MAX_WITHDRAWN: u64 = 64;

/// A dead letter of a withdrawn set may go, after all that were noted before.
pub(super) fn note_dead(tables: &mut Tables<'_>, key: &[u8]) -> Result<(), LedgerError> {
    let next = tables.next("deaths")?;
    tables.dead.insert(next, key)?;
    Ok(())
}

/// Lets the oldest dead letters go when there are too many.
fn bound_dead(tables: &mut Tables<'_>) -> Result<(), LedgerError> {
    while tables.dead.len()? > MAX_DEAD {
        let Some(oldest) = tables.dead.pop_first()?.map(|(_, key)| key.value().to_vec()) else { break };
        tables.remove(&oldest)?;
        tables.counts.dropped += 1;
    }
    Ok(())
}

impl Ledger {
    /// A set is sent from now on: whatever is known of it stays until it is withdrawn.
    pub fn begin(&mut self, manifest: Blake3) -> Result<(), LedgerError> {
        self.with(|database| {
            if is_known(database, manifest)? {
                write(database, |tables| forget(tables, manifest))?;
            }
            Ok(())
        })
    }

    /// A set is not sent any more: what arrived of it and what was never tried goes. Failed attempts and dead letters stay
    /// counted, the former for the newest of withdrawn sets.
    pub fn withdraw(&mut self, manifest: Blake3) -> Result<(), LedgerError> {
        self.with(|database| write(database, |tables| withdraw(tables, manifest)))
    }

    /// Withdraws every set but these: what was sent when the process ended may not be there any more when it starts again.
    pub fn withdraw_others(&mut self, sent: &BTreeSet<Blake3>) -> Result<(), LedgerError> {
        self.with(|database| {
            let mut others = manifests(database)?;
            others.retain(|manifest| !sent.contains(manifest));
            if others.is_empty() {
                return Ok(());
            }
            write(database, |tables| {
                let dying = tables.dying()?;
                for manifest in others {
                    if !dying.contains(&manifest) && !tables.is_withdrawn(manifest)? {
                        withdraw(tables, manifest)?;
                    }
                }
                Ok(())
            })
        })
    }

    /// Purges dead letters: they are shown no more, and their counts stand. Gives how many.
    pub fn purge(&mut self, filter: &Filter) -> Result<u64, LedgerError> {
        self.with(|database| {
            let mut found: Vec<RowKey> = Vec::new();
            each_open(database, filter.manifest, &mut |key, kept| {
                if !kept.purged && kept.row.state == RowState::Deadletter && filter.takes(&key, &kept.row) {
                    found.push(key);
                }
            })?;
            write(database, |tables| {
                for key in &found {
                    let key = codec::key(key);
                    let known = tables.get(&key)?.ok_or(LedgerError::Damaged)?;
                    tables.put(&key, Some(&known), &codec::Kept { row: known.row.clone(), purged: true })?;
                }
                Ok(())
            })?;
            Ok(found.len() as u64)
        })
    }
}

fn withdraw(tables: &mut Tables<'_>, manifest: Blake3) -> Result<(), LedgerError> {
    tables.remove_of(manifest, |kept| kept.row.state == RowState::Acked || kept.row.attempts == 0)?;
    forget(tables, manifest)?;
    // The set itself last: as long as its row stands, it is not sent, whatever went of its segments.
    let mut dead = Vec::new();
    let (first, last) = codec::range(Some(manifest));
    for entry in tables.open.range(first.as_slice()..=last.as_slice())? {
        let (key, kept) = opened(&tables.rows, entry?.0.value())?;
        if kept.row.state == RowState::Deadletter {
            dead.push(key);
        }
    }
    dead.sort_by_key(|key| key.part == Part::Manifest);
    for key in dead {
        note_dead(tables, &codec::key(&key))?;
    }
    let next = tables.next("withdrawals")?;
    tables.withdrawn.insert(next, manifest.as_bytes().as_slice())?;
    while tables.withdrawn.len()? > MAX_WITHDRAWN {
        let Some(oldest) = tables.withdrawn.pop_first()?.and_then(|(_, id)| id.value().try_into().ok()) else { break };
        let gone = tables.remove_of(Blake3::from_bytes(oldest), |kept| kept.row.state != RowState::Deadletter)?;
        tables.counts.dropped += gone;
    }
    bound_dead(tables)
}

/// Whether anything is written down of a set that begins.
fn is_known(database: &Database, manifest: Blake3) -> Result<bool, LedgerError> {
    let transaction = database.begin_read()?;
    for entry in transaction.open_table(WITHDRAWN)?.iter()? {
        if entry?.1.value() == manifest.as_bytes() {
            return Ok(true);
        }
    }
    let (first, last) = codec::range(Some(manifest));
    Ok(transaction.open_table(OPEN)?.range(first.as_slice()..=last.as_slice())?.next().is_some())
}

fn forget(tables: &mut Tables<'_>, manifest: Blake3) -> Result<(), LedgerError> {
    tables.withdrawn.retain(|_, id| id != manifest.as_bytes())?;
    tables.dead.retain(|_, key| codec::manifest_of(key) != Some(manifest))?;
    Ok(())
}

/// The sets that there are rows of.
fn manifests(database: &Database) -> Result<Vec<Blake3>, LedgerError> {
    let rows = database.begin_read()?.open_table(ROWS)?;
    let (mut from, end) = codec::range(None);
    let mut found = Vec::new();
    while let Some(entry) = rows.range(from.as_slice()..=end.as_slice())?.next() {
        let manifest = codec::manifest_of(entry?.0.value()).ok_or(LedgerError::Damaged)?;
        found.push(manifest);
        from = codec::range(Some(manifest)).1;
    }
    Ok(found)
}
