//! The one thread on which everything that waits for the disk runs: the store and the ledger. Sockets stay elsewhere.
//!
//! Jobs run in the order in which they were called, one after the other. The channel is bounded: who calls waits, and holds
//! back the peer that it reads from.

use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::ledger::Ledger;
use crate::store::Store;

/// Jobs that may wait. Each may hold a pack of 8 MiB, so few.
const WAITING: usize = 4;

type Job = Box<dyn FnOnce(&mut Stores) + Send>;

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

/// The way to the thread. The thread ends when the last of them is gone.
#[derive(Debug, Clone)]
pub struct Storage {
    jobs: mpsc::Sender<Job>,
}

impl Storage {
    /// Starts the thread.
    pub fn start(mut stores: Stores) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING);
        let thread = std::thread::Builder::new().name("storage".to_owned()).spawn(move || {
            while let Some(job) = waiting.blocking_recv() {
                job(&mut stores);
            }
        })?;
        Ok((Self { jobs }, thread))
    }

    /// Runs a job, and gives what it gave.
    pub async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Stores) -> R + Send + 'static,
    ) -> Result<R, StorageGone> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |stores| {
            // Nobody waits any more when the connection is gone; the job is done nevertheless.
            let _gone = answer.send(job(stores));
        });
        self.jobs.send(job).await.map_err(|_ended| StorageGone)?;
        answered.await.map_err(|_ended| StorageGone)
    }
}
