//! One round: inputs into the machine, its rows into the ledger, then everything else that it says.

use autonomy_relay::{Change, Input, Output, RowState};

use super::{Driver, DriverError, News, custody, tell};
use crate::ledger::{LedgerError, Sent};

/// Bytes that count against the limits.
fn bytes_of(act: &Output) -> u64 {
    if let Output::Send { bytes, .. } | Output::Offer { bytes, .. } = act { *bytes } else { 0 }
}

/// Stops the process between the durable attempt and its first byte, for a test that kills there.
#[cfg(debug_assertions)]
const FAILPOINT: &str = "AUTONOMY_EDGE_STOP_BEFORE_SEND";

impl Driver {
    /// Runs inputs through the machine, and does what it says.
    #[expect(clippy::wildcard_enum_match_arm, reason = "everything but rows is done in its turn")]
    pub(super) async fn take(&mut self, inputs: Vec<Input>) -> Result<(), DriverError> {
        let Some(inputs) = self.hold_back(inputs) else { return Ok(()) };
        let now = self.now();
        let mut changes: Vec<Change> = Vec::new();
        let mut acts = Vec::new();
        for input in inputs {
            self.has_changed |= !matches!(input, Input::Tick);
            for output in self.machine.step(now, input) {
                match output {
                    Output::Record(rows) => changes.extend(rows),
                    act => acts.push(act),
                }
            }
        }
        let bytes: u64 = acts.iter().map(bytes_of).sum();
        if !changes.is_empty() || bytes > 0 {
            let sent = (bytes > 0).then_some(Sent { day: self.day, bytes });
            let (changes, recorded) = self.record(changes, sent).await?;
            if let Err(error) = recorded {
                return self.stall(error, (changes, sent, acts));
            }
        }
        for act in acts {
            self.act(act);
        }
        Ok(())
    }

    /// The rows are durable when this returns without an error. They are given back.
    async fn record(
        &mut self,
        changes: Vec<Change>,
        sent: Option<Sent>,
    ) -> Result<(Vec<Change>, Result<(), LedgerError>), DriverError> {
        self.has_changed = true;
        for change in &changes {
            if change.row.state == RowState::Inflight {
                self.tools.metrics.attempted();
            }
        }
        let recorded = self.tools.storage.call(move |stores| {
            let recorded = stores.ledger.record(&changes, sent);
            (changes, recorded)
        });
        Ok(recorded.await?)
    }

    pub(super) fn act(&mut self, act: Output) {
        self.has_changed = true;
        let now = self.now();
        match act {
            // The rows were taken out before.
            Output::Record(_) => {}
            Output::Dial { peer } => self.dial(peer),
            Output::Ask { peer, manifest } => self.ask(peer, manifest),
            Output::Offer { peer, manifest, .. } => {
                stop_here();
                self.offer(peer, manifest);
            }
            Output::Send { peer, manifest, ids, bytes } => {
                stop_here();
                self.send(peer, manifest, ids, bytes);
            }
            Output::DeadLetter(key) => {
                self.tools.metrics.dead_lettered();
                tell::dead_letter(&key);
            }
            Output::Delivered { peer, manifest } => {
                tracing::info!(event = "edge.set.delivered", %peer, %manifest, "the peer has the whole set");
                self.places.remove(&(manifest, peer.clone()));
                if let Some(known) = self.sets.get_mut(&manifest) {
                    known.delivered.insert(peer, custody::Inquiry::after(now));
                }
            }
            Output::Done { manifest } => {
                tracing::info!(event = "edge.set.done", %manifest, "as many peers have it as the manifest demands");
            }
            Output::Hangup { peer } => {
                self.places.retain(|(_, of), _| *of != peer);
                if let Some(known) = self.peers.get_mut(&peer) {
                    known.link = None;
                }
            }
        }
    }

    /// What cannot be begun has failed, like what was begun.
    pub(super) fn fail(&self, input: Input) {
        let news = self.news.clone();
        // The channel may be full, and it is this task that empties it.
        tokio::spawn(async move { news.send(News::Input { link: None, input }).await.ok() });
    }
}

#[cfg(debug_assertions)]
fn stop_here() {
    if std::env::var_os(FAILPOINT).is_some() {
        tracing::warn!(event = "edge.failpoint", "stopped between the durable attempt and the first byte");
        loop {
            std::thread::park();
        }
    }
}

#[cfg(not(debug_assertions))]
fn stop_here() {}
