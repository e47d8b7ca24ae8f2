//! One transaction: the tables, with the counts of their rows and the list of the open ones kept in step.

use std::collections::BTreeSet;

use autonomy_relay::{Change, RowState};
use autonomy_schema::Blake3;
use redb::{Database, ReadableTable as _, Table, WriteTransaction};

use super::{Counts, DEAD, LedgerError, META, OPEN, ROWS, WITHDRAWN, codec, goes_on, retain};

/// The tables of a transaction that writes.
pub(super) struct Tables<'t> {
    pub(super) rows: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) open: Table<'t, &'static [u8], ()>,
    pub(super) dead: Table<'t, u64, &'static [u8]>,
    pub(super) withdrawn: Table<'t, u64, &'static [u8]>,
    pub(super) meta: Table<'t, &'static str, u64>,
    pub(super) counts: Counts,
}

/// Does a job in one durable transaction. What it did is there as a whole, or, when it or the disk failed, not at all.
pub(super) fn write<R>(
    database: &Database,
    job: impl FnOnce(&mut Tables<'_>) -> Result<R, LedgerError>,
) -> Result<R, LedgerError> {
    let transaction = database.begin_write()?;
    let result = {
        let mut tables = Tables::open(&transaction)?;
        let result = job(&mut tables)?;
        tables.close()?;
        result
    };
    transaction.commit()?;
    Ok(result)
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, LedgerError> {
        let meta = transaction.open_table(META)?;
        Ok(Self {
            rows: transaction.open_table(ROWS)?,
            open: transaction.open_table(OPEN)?,
            dead: transaction.open_table(DEAD)?,
            withdrawn: transaction.open_table(WITHDRAWN)?,
            counts: counts(&meta)?,
            meta,
        })
    }

    pub(super) fn close(mut self) -> Result<(), LedgerError> {
        let Counts { scheduled, inflight, acked, failed, deadletter, purged, dropped } = self.counts;
        let numbers = [scheduled, inflight, acked, failed, deadletter, purged, dropped];
        for (name, number) in COUNTED.into_iter().zip(numbers) {
            self.set(name, number)?;
        }
        Ok(())
    }

    pub(super) fn number(&self, name: &str) -> Result<u64, LedgerError> {
        number(&self.meta, name)
    }

    pub(super) fn set(&mut self, name: &str, number: u64) -> Result<(), LedgerError> {
        self.meta.insert(name, number)?;
        Ok(())
    }

    /// The next of the numbers that grow.
    pub(super) fn next(&mut self, name: &str) -> Result<u64, LedgerError> {
        let next = self.number(name)? + 1;
        self.set(name, next)?;
        Ok(next)
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<codec::Kept>, LedgerError> {
        let Some(bytes) = self.rows.get(key)? else { return Ok(None) };
        codec::read_row(bytes.value()).map(Some).ok_or(LedgerError::Damaged)
    }

    /// One change of the machine, as far as the ledger lets it.
    pub(super) fn change(&mut self, key: &[u8], change: &Change) -> Result<(), LedgerError> {
        let kept = codec::Kept { row: change.row.clone(), purged: false };
        let known = match self.rows.insert(key, codec::row(&kept.row, false).as_slice())? {
            Some(bytes) => Some(codec::read_row(bytes.value()).ok_or(LedgerError::Damaged)?),
            None => None,
        };
        if let Some(known) = &known {
            // What is refused takes the whole transaction with it.
            goes_on(&change.key, known, &change.row)?;
            if known.purged {
                // It stays purged; the machine holds the row as the dead letter that it is.
                self.rows.insert(key, codec::row(&known.row, true).as_slice())?;
                return Ok(());
            }
        }
        self.settle(key, known.as_ref(), &kept)?;
        let was_dead = known.as_ref().is_some_and(|known| known.row.state == RowState::Deadletter);
        if kept.row.state == RowState::Deadletter && !was_dead && self.is_withdrawn(change.key.manifest)? {
            // What was under way when its set was withdrawn.
            retain::note_dead(self, key)?;
        }
        Ok(())
    }

    /// Puts a row in the place of the one that was there.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        known: Option<&codec::Kept>,
        kept: &codec::Kept,
    ) -> Result<(), LedgerError> {
        self.rows.insert(key, codec::row(&kept.row, kept.purged).as_slice())?;
        self.settle(key, known, kept)
    }

    /// Counts a row that took the place of another, and lists it if it is open.
    fn settle(&mut self, key: &[u8], known: Option<&codec::Kept>, kept: &codec::Kept) -> Result<(), LedgerError> {
        if let Some(known) = known {
            take_off(&mut self.counts, known);
        }
        *self.counts.place(kept) += 1;
        let was_open = known.is_some_and(|known| known.row.state != RowState::Acked);
        match (was_open, kept.row.state != RowState::Acked) {
            (true, false) => drop(self.open.remove(key)?),
            (false, true) => drop(self.open.insert(key, ())?),
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    /// Removes a row.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<(), LedgerError> {
        if let Some(kept) = self.get(key)? {
            take_off(&mut self.counts, &kept);
        }
        self.rows.remove(key)?;
        self.open.remove(key)?;
        Ok(())
    }

    /// Removes rows of a set; gives how many.
    pub(super) fn remove_of(
        &mut self,
        manifest: Blake3,
        goes: impl Fn(&codec::Kept) -> bool,
    ) -> Result<u64, LedgerError> {
        let (first, last) = codec::range(Some(manifest));
        let (mut gone, mut closed) = (0, Vec::new());
        let counts = &mut self.counts;
        self.rows.retain_in(first.as_slice()..=last.as_slice(), |key, row| {
            let Some(kept) = codec::read_row(row).filter(&goes) else { return true };
            take_off(counts, &kept);
            gone += 1;
            if kept.row.state != RowState::Acked {
                closed.push(key.to_vec());
            }
            false
        })?;
        for key in closed {
            self.open.remove(key.as_slice())?;
        }
        Ok(gone)
    }

    pub(super) fn is_withdrawn(&self, manifest: Blake3) -> Result<bool, LedgerError> {
        for entry in self.withdrawn.iter()? {
            if entry?.1.value() == manifest.as_bytes() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Counts and lists the rows of a ledger of version 1, which did neither.
    pub(super) fn count_all(&mut self) -> Result<(), LedgerError> {
        for entry in self.rows.iter()? {
            let (key, row) = entry?;
            let kept = codec::read_row(row.value()).ok_or(LedgerError::Damaged)?;
            *self.counts.place(&kept) += 1;
            if kept.row.state != RowState::Acked {
                self.open.insert(key.value(), ())?;
            }
        }
        Ok(())
    }

    /// Manifests of dead letters that may go.
    pub(super) fn dying(&self) -> Result<BTreeSet<Blake3>, LedgerError> {
        let mut found = BTreeSet::new();
        for entry in self.dead.iter()? {
            found.extend(codec::manifest_of(entry?.1.value()));
        }
        Ok(found)
    }
}

fn take_off(counts: &mut Counts, kept: &codec::Kept) {
    let place = counts.place(kept);
    *place = place.saturating_sub(1);
}

/// The names of [`Counts`] in the order of its fields.
const COUNTED: [&str; 7] = ["scheduled", "inflight", "acked", "failed", "deadletter", "purged", "dropped"];

/// How many rows stand how.
pub(super) fn counts(meta: &impl redb::ReadableTable<&'static str, u64>) -> Result<Counts, LedgerError> {
    let [scheduled, inflight, acked, failed, deadletter, purged, dropped] = COUNTED.map(|name| number(meta, name));
    Ok(Counts {
        scheduled: scheduled?,
        inflight: inflight?,
        acked: acked?,
        failed: failed?,
        deadletter: deadletter?,
        purged: purged?,
        dropped: dropped?,
    })
}

pub(super) fn number(meta: &impl redb::ReadableTable<&'static str, u64>, name: &str) -> Result<u64, LedgerError> {
    Ok(meta.get(name)?.map_or(0, |number| number.value()))
}
