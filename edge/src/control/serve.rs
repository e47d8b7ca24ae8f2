//! The answering end.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use autonomy_relay::RowState;
use autonomy_schema::{Code, Reason, Reasons};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Answer, MAX_QUESTION, Question, Which, short_path};
use crate::driver::Command;
use crate::ledger::{Filter, MAX_ROWS};
use crate::status::RowStatus;
use crate::storage::Storage;

/// Questions at once.
const MAX_ASKERS: usize = 8;
/// How long a question may take to come, and its answer to be read.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most segments in an answer.
const MAX_SEGMENTS: usize = 50_000;

/// The socket.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    storage: Storage,
    commands: mpsc::Sender<Command>,
}

impl Control {
    /// Takes the place in the state root. What an earlier daemon left there is removed: the ledger has one owner, so none runs.
    pub fn bind(state_root: &Path, storage: Storage, commands: mpsc::Sender<Command>) -> io::Result<Self> {
        let (_folder, path) = short_path(state_root)?;
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        // Nobody else may enter the folder (0700), so there is no moment in which others could connect.
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, storage, commands })
    }

    /// Answers until it is dropped.
    pub async fn run(self) {
        let slots = Arc::new(Semaphore::new(MAX_ASKERS));
        loop {
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            let (storage, commands) = (self.storage.clone(), self.commands.clone());
            tokio::spawn(async move {
                // Whoever asks and does not listen learns nothing.
                serve(stream, &storage, &commands).await.ok();
                drop(slot);
            });
        }
    }
}

async fn serve(mut stream: UnixStream, storage: &Storage, commands: &mpsc::Sender<Command>) -> io::Result<()> {
    let asker = stream.peer_cred()?.uid();
    if asker != 0 && asker != rustix::process::geteuid().as_raw() {
        tracing::warn!(event = "edge.control.refused", uid = asker, "somebody else asked");
        return Ok(());
    }
    let (read, mut write) = stream.split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(read.take(MAX_QUESTION as u64));
    tokio::time::timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    let answer = match serde_json::from_slice::<Question>(&line) {
        Ok(question) => answer(question, storage, commands).await,
        Err(error) => Err(Reason::new(Code::BadRequest, format!("the question is none: {error}")).into()),
    };
    let answer = match answer {
        Ok(ok) => Answer::Done { ok },
        Err(reasons) => Answer::Refused { reasons: reasons.into_vec() },
    };
    let mut line = serde_json::to_vec(&answer).map_err(io::Error::other)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, write.write_all(&line)).await??;
    Ok(())
}

async fn answer(
    question: Question,
    storage: &Storage,
    commands: &mpsc::Sender<Command>,
) -> Result<serde_json::Value, Reasons> {
    let ends = || Reasons::from(Reason::new(Code::EdgedDown, "`edged` is ending"));
    match question {
        Question::Status => {
            let (answer, told) = oneshot::channel();
            commands.send(Command::Status(answer)).await.map_err(|_ended| ends())?;
            let status = told.await.map_err(|_ended| ends())??;
            serde_json::to_value(status).map_err(|error| Reason::new(Code::IoError, error.to_string()).into())
        }
        Question::Reload => {
            let (answer, told) = oneshot::channel();
            commands.send(Command::Reload(answer)).await.map_err(|_ended| ends())?;
            told.await.map_err(|_ended| ends())??;
            Ok(json!({ "reloaded": true }))
        }
        Question::Drain => {
            commands.send(Command::Drain).await.map_err(|_ended| ends())?;
            Ok(json!({ "draining": true }))
        }
        Question::DeadLetters(which) => {
            let filter = filter(&which)?;
            let found =
                storage.call(move |stores| stores.ledger.rows(&filter, MAX_ROWS)).await.map_err(|_ended| ends())?;
            let found = found.map_err(|error| Reasons::from(error.to_reason()))?;
            let rows: Vec<RowStatus> = found.rows.into_iter().map(RowStatus::from).collect();
            Ok(json!({ "rows": rows, "truncated": found.truncated }))
        }
        Question::Purge(which) => {
            let filter = filter(&which)?;
            let purged = storage.call(move |stores| stores.ledger.purge(&filter)).await.map_err(|_ended| ends())?;
            let purged = purged.map_err(|error| Reasons::from(error.to_reason()))?;
            tracing::info!(event = "edge.deadletter.purged", purged, "taken off the list; the counts stand");
            Ok(json!({ "purged": purged }))
        }
        Question::Segments => {
            let found = storage.call(|stores| stores.store.segments(MAX_SEGMENTS)).await.map_err(|_ended| ends())?;
            let (segments, truncated) = found.map_err(crate::store::StoreError::into_reasons)?;
            Ok(json!({ "segments": segments, "truncated": truncated }))
        }
    }
}

fn filter(which: &Which) -> Result<Filter, Reasons> {
    let part = which.segment.as_deref().map(crate::ledger::part).transpose()?;
    Ok(Filter { manifest: which.manifest, peer: which.peer.clone(), part, states: vec![RowState::Deadletter] })
}
