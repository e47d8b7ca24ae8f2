//! The one thread on which everything that waits for the disk runs, the store and the ledger, and beside it the one that syncs.
//! Sockets stay elsewhere.
//!
//! Jobs run in the order in which they were called, one after the other. The channel is bounded: who calls waits, and holds
//! back the peer that it reads from. Syncs of what peers sent run beside it, one at a time, so that the next segments are
//! written meanwhile.

use std::sync::Arc;
use std::thread::JoinHandle;

use autonomy_schema::{Blake3, Time};
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};

use crate::ledger::Ledger;
use crate::store::{Store, StoreError, Synced, Ticket, Unsynced};

/// Jobs that may wait. Each may hold a pack of 8 MiB, so few.
const WAITING: usize = 4;

type Job = Box<dyn FnOnce(&mut Stores) + Send>;
/// What is to be synced, and who waits for it.
type Sync = (Unsynced, oneshot::Sender<Synced>);

/// What the thread works on.
#[derive(Debug)]
pub struct Stores {
    /// What was received.
    pub store: Store,
    /// What was sent.
    pub ledger: Ledger,
}

/// A job cannot be done any more: the thread ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the storage thread ended")]
pub struct StorageGone;

impl From<oneshot::error::RecvError> for StorageGone {
    fn from(_dropped: oneshot::error::RecvError) -> Self {
        Self
    }
}

/// The way to the thread. The thread ends when the last of them is gone.
#[derive(Debug, Clone)]
pub struct Storage {
    jobs: mpsc::Sender<Job>,
    syncs: mpsc::Sender<Sync>,
    /// Held while a sync is under way.
    syncing: Arc<Mutex<()>>,
}

impl Storage {
    /// Starts the thread, and the one that syncs, which ends before it.
    pub fn start(mut stores: Stores) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING);
        let (syncs, mut unsynced) = mpsc::channel::<Sync>(1);
        let syncing = std::thread::Builder::new().name("sync".to_owned()).spawn(move || {
            while let Some((unsynced, answer)) = unsynced.blocking_recv() {
                // Who waited is told, and takes note, also when nobody waits for him any more.
                let _gone = answer.send(unsynced.sync());
            }
        })?;
        let thread = std::thread::Builder::new().name("storage".to_owned()).spawn(move || {
            while let Some(job) = waiting.blocking_recv() {
                job(&mut stores);
            }
            if syncing.join().is_err() {
                tracing::error!(event = "edge.storage.failed", "the thread that syncs ended with a panic");
            }
        })?;
        Ok((Self { jobs, syncs, syncing: Arc::default() }, thread))
    }

    /// Runs a job, and gives what it gave.
    pub async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Stores) -> R + Send + 'static,
    ) -> Result<R, StorageGone> {
        Ok(self.begin(job).await?.await?)
    }

    /// Hands over a job as soon as there is room for it; what it gives is to be waited for.
    pub async fn begin<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Stores) -> R + Send + 'static,
    ) -> Result<oneshot::Receiver<R>, StorageGone> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |stores| {
            // Nobody waits any more when the connection is gone; the job is done nevertheless.
            let _gone = answer.send(job(stores));
        });
        self.jobs.send(job).await.map_err(|_ended| StorageGone)?;
        Ok(answered)
    }

    /// Waits until no sync is under way, and keeps one from beginning: what the store says is here is durable then.
    pub async fn settled(&self) -> MutexGuard<'_, ()> {
        self.syncing.lock().await
    }

    /// Makes durable what was put, and gives the sets that became whole; see [`Store::commit`].
    pub async fn commit(&self, ticket: Ticket, clock: Time) -> Result<Result<Vec<Blake3>, StoreError>, StorageGone> {
        let storage = self.clone();
        // A task of its own: what is taken to be synced is synced and noted, also when nobody waits any more.
        let committed = tokio::spawn(async move {
            let _turn = storage.syncing.lock().await;
            let unsynced = storage.call(|stores| stores.store.unsynced()).await?;
            let (answer, synced) = oneshot::channel();
            storage.syncs.send((unsynced, answer)).await.map_err(|_ended| StorageGone)?;
            let synced = synced.await?;
            storage.call(move |stores| stores.store.commit(synced, ticket, clock)).await
        });
        committed.await.map_err(|_panicked| StorageGone)?
    }
}
