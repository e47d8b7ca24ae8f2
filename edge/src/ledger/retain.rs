//! What goes, so that the ledger stays bounded: arrived parts of sets that are not sent any more, and the oldest of too many
//! dead letters. What goes is counted.

use autonomy_relay::{RowKey, RowState};
use autonomy_schema::Blake3;
use redb::{ReadableTable as _, ReadableTableMetadata as _, Table};

use super::{DEAD, Filter, Ledger, LedgerError, META, ROWS, WITHDRAWN, codec, number};

/// Most dead letters that are kept, purged ones included.
const MAX_DEAD: u64 = 10_000;
/// Most withdrawn sets whose failed attempts are remembered.
const MAX_WITHDRAWN: u64 = 64;

/// Remembers that a row died, after all others.
pub(super) fn note_dead(
    dead: &mut Table<'_, u64, &[u8]>,
    meta: &mut Table<'_, &str, u64>,
    key: &[u8],
) -> Result<(), LedgerError> {
    let next = number(&*meta, "deaths")? + 1;
    meta.insert("deaths", next)?;
    dead.insert(next, key)?;
    Ok(())
}

/// Lets the oldest dead letters go when there are too many.
pub(super) fn bound_dead(
    rows: &mut Table<'_, &[u8], &[u8]>,
    dead: &mut Table<'_, u64, &[u8]>,
    meta: &mut Table<'_, &str, u64>,
) -> Result<(), LedgerError> {
    while dead.len()? > MAX_DEAD {
        let Some(oldest) = dead.pop_first()?.map(|(_, key)| key.value().to_vec()) else { break };
        rows.remove(oldest.as_slice())?;
        let dropped = number(&*meta, "dropped")? + 1;
        meta.insert("dropped", dropped)?;
    }
    Ok(())
}

impl Ledger {
    /// A set is not sent any more: what arrived of it and what was never tried goes. Failed attempts and dead letters stay
    /// counted, the former for the newest of withdrawn sets.
    pub fn withdraw(&mut self, manifest: Blake3) -> Result<(), LedgerError> {
        let transaction = self.database.begin_write()?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            let mut withdrawn = transaction.open_table(WITHDRAWN)?;
            let mut meta = transaction.open_table(META)?;
            let settled = |kept: &codec::Kept| kept.row.state == RowState::Acked || kept.row.attempts == 0;
            remove(&mut rows, manifest, settled)?;
            forget(&mut withdrawn, manifest)?;
            let next = number(&meta, "withdrawals")? + 1;
            meta.insert("withdrawals", next)?;
            withdrawn.insert(next, manifest.as_bytes().as_slice())?;
            while withdrawn.len()? > MAX_WITHDRAWN {
                let Some(oldest) = withdrawn.pop_first()?.and_then(|(_, id)| id.value().try_into().ok()) else { break };
                let gone =
                    remove(&mut rows, Blake3::from_bytes(oldest), |kept| kept.row.state != RowState::Deadletter)?;
                let dropped = number(&meta, "dropped")? + gone;
                meta.insert("dropped", dropped)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Purges dead letters: they are shown no more, and their counts stand. Gives how many.
    pub fn purge(&mut self, filter: &Filter) -> Result<u64, LedgerError> {
        let mut found: Vec<RowKey> = Vec::new();
        self.each(filter.manifest, |key, kept| {
            if !kept.purged && kept.row.state == RowState::Deadletter && filter.takes(&key, &kept.row) {
                found.push(key);
            }
        })?;
        let transaction = self.database.begin_write()?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            for key in &found {
                let key = codec::key(key);
                let kept = rows.get(key.as_slice())?.and_then(|bytes| codec::read_row(bytes.value()));
                let kept = kept.ok_or(LedgerError::Damaged)?;
                rows.insert(key.as_slice(), codec::row(&kept.row, true).as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(found.len() as u64)
    }
}

/// Removes rows of a set; gives how many.
fn remove(
    rows: &mut Table<'_, &[u8], &[u8]>,
    manifest: Blake3,
    goes: impl Fn(&codec::Kept) -> bool,
) -> Result<u64, LedgerError> {
    let (first, last) = codec::range(Some(manifest));
    let before = rows.len()?;
    rows.retain_in(first.as_slice()..=last.as_slice(), |_, row| codec::read_row(row).is_none_or(|kept| !goes(&kept)))?;
    Ok(before - rows.len()?)
}

fn forget(withdrawn: &mut Table<'_, u64, &[u8]>, manifest: Blake3) -> Result<(), LedgerError> {
    withdrawn.retain(|_, id| id != manifest.as_bytes())?;
    Ok(())
}

/// The order of dead letters that a ledger of version 1 did not keep: by key.
pub(super) fn order_dead(transaction: &redb::WriteTransaction) -> Result<(), LedgerError> {
    let rows = transaction.open_table(ROWS)?;
    let mut dead = transaction.open_table(DEAD)?;
    let mut meta = transaction.open_table(META)?;
    for entry in rows.iter()? {
        let (key, row) = entry?;
        let kept = codec::read_row(row.value()).ok_or(LedgerError::Damaged)?;
        if kept.row.state == RowState::Deadletter {
            note_dead(&mut dead, &mut meta, key.value())?;
        }
    }
    Ok(())
}
