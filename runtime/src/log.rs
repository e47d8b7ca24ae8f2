//! Decisions on record: one thread, one sync for all that wait, and nobody hears an answer before it is durable.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use autonomy_schema::{Code, Name, Reason, Reasons};
use autonomy_stateroot::StateRoot;
use autonomy_telemetry::{Record, Wal, WalError};

/// The role whose WAL holds the decisions.
pub(crate) const ROLE: &str = "runtime";
/// Records that one sync makes durable at most; more wait for the next.
const MAX_GROUP: usize = 256;
/// Records that wait at most; whoever brings one more waits too.
const MAX_WAITING: usize = 1024;
/// After so many records the log is declared to be beyond doubt up to here.
const CHECKPOINT: u64 = 4096;

/// Told the number of a record once it is durable, or why it is not.
type Done = Box<dyn FnOnce(Result<u64, Reason>) + Send>;

struct Entry {
    record: Record,
    done: Done,
}

/// The log of decisions.
#[derive(Debug)]
pub struct Log {
    sender: Mutex<Option<SyncSender<Entry>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    failing: Arc<AtomicBool>,
}

impl Log {
    /// Opens the log of the state root and starts its thread.
    pub fn open(root: &StateRoot) -> Result<Self, Reasons> {
        let (wal, recovery) = Wal::open(root, &Name::fixed(ROLE)).map_err(|error| error.to_reason())?;
        if recovery.torn_bytes > 0 {
            tracing::warn!(event = "runtime.log.torn", bytes = recovery.torn_bytes, "a torn end of the log was cut");
        }
        let failing = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = mpsc::sync_channel(MAX_WAITING);
        let writer = Writer { wal, failing: Arc::clone(&failing), since_checkpoint: 0 };
        let thread = std::thread::Builder::new().name("decisions".to_owned()).spawn(move || writer.run(&receiver));
        let thread = thread.map_err(|error: io::Error| {
            Reason::new(Code::IoError, format!("cannot start the thread of the decision log: {error}"))
        })?;
        Ok(Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), failing })
    }

    /// Puts a record on the log; `done` hears of it from the log's thread.
    pub(crate) fn write(&self, record: Record, done: impl FnOnce(Result<u64, Reason>) + Send + 'static) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let entry = Entry { record, done: Box::new(done) };
        let refused = match sender {
            Some(sender) => sender.send(entry).map_err(|mpsc::SendError(entry)| entry),
            None => Err(entry),
        };
        if let Err(entry) = refused {
            (entry.done)(Err(failed("it is closed")));
        }
    }

    /// Whether the last records could not be written.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Writes what waits, and ends the thread.
    pub(crate) fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(event = "runtime.log.failed", "the thread of the decision log ended with a panic");
        }
    }
}

fn failed(why: &str) -> Reason {
    Reason::new(Code::DecisionLogFailed, format!("the decision cannot be recorded: {why}"))
}

struct Writer {
    wal: Wal,
    failing: Arc<AtomicBool>,
    since_checkpoint: u64,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Entry>) {
        while let Ok(first) = receiver.recv() {
            let mut group = vec![first];
            group.extend(receiver.try_iter().take(MAX_GROUP - 1));
            self.write(group);
        }
        self.checkpoint();
    }

    fn write(&mut self, group: Vec<Entry>) {
        let count = group.len() as u64;
        let (records, waiting): (Vec<_>, Vec<_>) = group.into_iter().map(|entry| (entry.record, entry.done)).unzip();
        let written = self.wal.append_all(records);
        self.note(written.as_ref().err());
        match written {
            Ok(last) => {
                let first = last.saturating_sub(count).saturating_add(1);
                for (seq, done) in (first..).zip(waiting) {
                    done(Ok(seq));
                }
                self.since_checkpoint += count;
                if self.since_checkpoint >= CHECKPOINT {
                    self.checkpoint();
                }
            }
            Err(error) => {
                let why = failed(&error.to_reason().message);
                for done in waiting {
                    done(Err(why.clone()));
                }
            }
        }
    }

    /// Tells once that the log fails, and once that it works again.
    fn note(&self, error: Option<&WalError>) {
        let was_failing = self.failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_failing => {
                let reason = error.to_reason().message;
                tracing::error!(event = "runtime.log.failed", reason, "every call is denied until it works again");
            }
            None if was_failing => tracing::info!(event = "runtime.log.works", "decisions are recorded again"),
            Some(_) | None => {}
        }
    }

    /// Without it a damaged record may pass for a torn end; nothing else depends on it.
    fn checkpoint(&mut self) {
        self.since_checkpoint = 0;
        if let Err(error) = self.wal.checkpoint() {
            tracing::warn!(event = "runtime.log.checkpoint", reason = error.to_reason().message, "no checkpoint");
        }
    }
}
