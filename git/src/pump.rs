//! Reading from the network with a limit on silence and an ear for cancellation: a thread does the blocking reads.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::error::GitError;
use crate::exchange::Exchange;

/// Bytes of one read: a few side-band packets.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that may wait, so that the network and the indexer do not wait for each other at every packet.
const CHUNKS: usize = 8;
/// How often cancellation is looked for.
const SLICE: Duration = Duration::from_millis(200);

enum Message {
    Bytes(Vec<u8>),
    Failed(GitError),
}

/// The receiving end.
pub(crate) struct Incoming {
    exchange: Arc<Exchange>,
    messages: Receiver<Message>,
    chunk: Vec<u8>,
    at: usize,
}

impl Incoming {
    /// Opens with `open` and reads to the end, on a thread of its own. The thread ends when this is dropped, at the
    /// latest when its own read does: `open` must see to it that no read lasts for ever.
    pub(crate) fn start(
        exchange: &Arc<Exchange>,
        open: impl FnOnce() -> Result<Box<dyn Read + Send>, GitError> + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, messages) = sync_channel(CHUNKS);
        let url = exchange.url.to_string();
        std::thread::Builder::new().name("git-receive".to_owned()).spawn(move || {
            let error = match open() {
                Ok(reader) => pump(reader, &sender, url),
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                // Nobody listens any more when this fails.
                let _unheard = sender.send(Message::Failed(error));
            }
        })?;
        Ok(Self { exchange: Arc::clone(exchange), messages, chunk: Vec::new(), at: 0 })
    }

    fn next(&self) -> io::Result<Option<Vec<u8>>> {
        let silent_since = Instant::now();
        loop {
            self.exchange.check()?;
            match self.messages.recv_timeout(SLICE) {
                Ok(Message::Bytes(bytes)) => {
                    self.exchange.count(bytes.len())?;
                    return Ok(Some(bytes));
                }
                Ok(Message::Failed(error)) => return Err(self.exchange.fail(error)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if silent_since.elapsed() >= self.exchange.silence => {
                    let seconds = self.exchange.silence.as_secs();
                    return Err(self.exchange.fail(GitError::Silent { url: self.exchange.url.to_string(), seconds }));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

fn pump(mut reader: Box<dyn Read + Send>, sender: &SyncSender<Message>, url: String) -> Option<GitError> {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        match reader.read(&mut chunk) {
            Ok(0) => return None,
            Ok(count) => {
                chunk.truncate(count);
                if sender.send(Message::Bytes(chunk)).is_err() {
                    return None;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Some(GitError::Unreachable { url, detail: format!("the connection broke: {error}") });
            }
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            let Some(chunk) = self.next()? else { return Ok(0) };
            (self.chunk, self.at) = (chunk, 0);
        }
        let count = into.len().min(self.chunk.len() - self.at);
        into[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
