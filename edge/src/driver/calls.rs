//! Calls to peers: each in a task of its own, which comes back with what the machine must know.

use std::future::Future;
use std::io::{self, Write};
use std::sync::Arc;

use autonomy_relay::{Input, PeerQuota};
use autonomy_schema::{Blake3, Name};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use super::source::{Source, Wants};
use super::{Driver, News, receipts};
use crate::store::{Progress, SetState};
use crate::wire::{Connection, WireError};

/// Bytes that one write hands over.
const CHUNK: usize = 128 << 10;
/// Chunks that wait to be sent.
const CHUNKS: usize = 2;

/// What a call needs.
struct Call {
    link: u64,
    peer: Name,
    manifest: Blake3,
    connection: Arc<Connection>,
    source: Arc<Source>,
    news: mpsc::Sender<News>,
    keep: receipts::Keep,
    _under_way: Arc<()>,
}

impl Driver {
    pub(super) fn dial(&mut self, peer: Name) {
        let Some(known) = self.peers.get(&peer).filter(|_| self.draining.is_none()) else { return };
        let (client, address, news) = (self.tools.client.clone(), known.address.clone(), self.news.clone());
        tokio::spawn(async move {
            let reached = async {
                let connection = client.connect(&peer, &address).await?;
                let health = connection.health().await?;
                Ok::<_, WireError>((connection, health))
            };
            let told = match reached.await {
                Ok((connection, health)) => {
                    let quota = PeerQuota {
                        bytes_per_second: health.quota.bytes_per_second,
                        available_bytes: health.quota.available_bytes,
                    };
                    News::Connected { peer, connection: Arc::new(connection), quota }
                }
                Err(error) => News::Input { link: None, input: Input::Unreachable { peer, error: error.to_string() } },
            };
            // Without the driver nobody is interested; so it is with everything below.
            news.send(told).await.ok();
        });
    }

    fn call(&self, peer: &Name, manifest: Blake3) -> Option<Call> {
        let link = self.link(peer)?;
        let source = self.sets.get(&manifest)?.source.clone()?;
        Some(Call {
            link: link.number,
            peer: peer.clone(),
            manifest,
            connection: Arc::clone(&link.connection),
            source,
            news: self.news.clone(),
            keep: receipts::Keep::new(&self.tools.root, &self.tools.storage),
            _under_way: Arc::clone(&self.calls),
        })
    }

    pub(super) fn ask(&mut self, peer: Name, manifest: Blake3) {
        let Some(call) = self.call(&peer, manifest) else {
            self.fail(Input::AskFailed { peer, manifest, error: GONE.to_owned(), unknown: false });
            return;
        };
        tokio::spawn(async move {
            let of = |error, unknown| Input::AskFailed { peer: call.peer.clone(), manifest, error, unknown };
            let failed = |error| of(error, false);
            match call.connection.ask(manifest).await {
                Ok(Some(progress)) => call.answered(progress, &failed).await,
                Ok(None) => call.tell(of("the peer does not know the set".to_owned(), true)).await,
                Err(error) => call.failed(&error, failed(error.to_string())).await,
            }
        });
    }

    pub(super) fn offer(&mut self, peer: Name, manifest: Blake3) {
        let Some(call) = self.call(&peer, manifest) else {
            self.fail(Input::OfferFailed { peer, manifest, error: GONE.to_owned() });
            return;
        };
        let bodies = Arc::clone(&self.bodies);
        tokio::spawn(async move {
            let failed = |error| Input::OfferFailed { peer: call.peer.clone(), manifest, error };
            let source = Arc::clone(&call.source);
            let (chunks, read) = body(&bodies, move |to| source.documents(to)).await;
            let sent = call.connection.offer(manifest, call.source.delivery.documents, chunks).await;
            match (sent, read.await) {
                (Ok(progress), _) => call.answered(progress, &failed).await,
                // What the disk did is why the peer got too little.
                (Err(_), Some(error)) => call.tell(failed(error)).await,
                (Err(error), None) => call.failed(&error, failed(error.to_string())).await,
            }
        });
    }

    pub(super) fn send(&mut self, peer: Name, manifest: Blake3, ids: Vec<Blake3>, bytes: u64) {
        let places = self.places.get(&(manifest, peer.clone())).cloned();
        let located = places
            .and_then(|places| ids.iter().map(|id| Some((*id, places.get(id)?.clone()))).collect::<Option<Vec<_>>>());
        let (Some(call), Some(located)) = (self.call(&peer, manifest), located) else {
            self.fail(Input::PackFailed { peer, manifest, ids, error: GONE.to_owned() });
            return;
        };
        let bodies = Arc::clone(&self.bodies);
        tokio::spawn(async move {
            let source = Arc::clone(&call.source);
            let (chunks, read) = body(&bodies, move |to| source.pack(&located, to)).await;
            let sent = call.connection.send_pack(&ids, bytes, chunks).await;
            let error = match (sent, read.await) {
                (Ok(results), _) => {
                    let peer = call.peer.clone();
                    return call.tell(Input::PackDone { peer, manifest, results }).await;
                }
                (Err(_), Some(error)) => return call.tell(call.pack_failed(ids, error)).await,
                (Err(error), None) => error,
            };
            call.failed(&error, call.pack_failed(ids, error.to_string())).await;
        });
    }
}

/// A call came for a connection or a set that went meanwhile.
const GONE: &str = "the connection or the set is gone";

impl Call {
    async fn tell(&self, input: Input) {
        self.news.send(News::Input { link: Some(self.link), input }).await.ok();
    }

    /// What failed; and before it, when the peer takes nothing for a while, that: nothing is sent to it in between.
    async fn failed(&self, error: &WireError, input: Input) {
        for input in failure(&self.peer, error, input) {
            self.tell(input).await;
        }
    }

    fn pack_failed(&self, ids: Vec<Blake3>, error: String) -> Input {
        Input::PackFailed { peer: self.peer.clone(), manifest: self.manifest, ids, error }
    }

    /// The peer told what it has. Its receipts are kept before anything counts as delivered.
    async fn answered(&self, progress: Progress, failed: &impl Fn(String) -> Input) {
        let (stored, more) = (progress.state == SetState::Stored, progress.more);
        self.keep.receipts(&self.peer, self.manifest, progress.receipts).await;
        let source = Arc::clone(&self.source);
        let found = tokio::task::spawn_blocking(move || source.wants(&progress.missing)).await;
        let wants: Wants = match found {
            Ok(Ok(wants)) => wants,
            Ok(Err(reason)) => return self.tell(failed(reason.to_string())).await,
            Err(error) => return self.tell(failed(error.to_string())).await,
        };
        let (link, peer, manifest) = (self.link, self.peer.clone(), self.manifest);
        self.news.send(News::Answered { link, peer, manifest, wants, more, stored }).await.ok();
    }
}

fn failure(peer: &Name, error: &WireError, input: Input) -> impl Iterator<Item = Input> {
    let pause = if let WireError::Throttled { seconds, .. } = error {
        Some(Input::Throttled { peer: peer.clone(), ticks: seconds.saturating_mul(1000) })
    } else {
        None
    };
    pause.into_iter().chain([input])
}

/// A body that a blocking thread writes, as soon as there is one for it; and what went wrong there, once it has ended.
async fn body(
    bodies: &Arc<Semaphore>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> (mpsc::Receiver<Bytes>, impl Future<Output = Option<String>>) {
    // The semaphore is never closed.
    let turn = Arc::clone(bodies).acquire_owned().await.ok();
    let (chunks, body) = mpsc::channel(CHUNKS);
    let writer = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut to = Chunks { buffer: Vec::with_capacity(CHUNK), chunks };
        write(&mut to).and_then(|()| to.flush())
    });
    let ended = async {
        match writer.await {
            Ok(Ok(())) => None,
            // Nobody reads any more: the connection says why.
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        }
    };
    (body, ended)
}

/// Hands what is written to a connection, in chunks, and waits where it is slow.
struct Chunks {
    buffer: Vec<u8>,
    chunks: mpsc::Sender<Bytes>,
}

impl Write for Chunks {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.chunks.blocking_send(full.into()).map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_wants_a_pause_has_it_before_the_machine_goes_on() {
        let peer: Name = "node-b".parse().expect("name");
        let manifest = Blake3::of(b"m");
        let failed = Input::PackFailed { peer: peer.clone(), manifest, ids: Vec::new(), error: "429".to_owned() };
        let error = WireError::Throttled { seconds: 2, status: 429 };
        let told: Vec<Input> = failure(&peer, &error, failed.clone()).collect();
        assert_eq!(told, [Input::Throttled { peer: peer.clone(), ticks: 2000 }, failed.clone()]);
        let lost = WireError::Lost("gone".to_owned());
        assert_eq!(failure(&peer, &lost, failed.clone()).collect::<Vec<_>>(), [failed]);
    }
}
