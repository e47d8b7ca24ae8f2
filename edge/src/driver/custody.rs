//! Who has what was delivered, further on: a peer learns that after it took the set, and is asked again.
//!
//! A peer that has a set passes it on, and gives the receipts that it gets for it with its own. It is asked for them until every
//! peer of the configuration is known to run the set, or the set is sent no more. That is a question and no delivery: it counts
//! nowhere, and waits twice as long each time that it brings nothing new.

use std::collections::BTreeSet;
use std::sync::Arc;

use autonomy_schema::receipt::{Receipt, ReceiptResult};
use autonomy_schema::{Blake3, Name, Reasons, document};
use autonomy_stateroot::StateRoot;

use super::{Driver, News, receipts};
use crate::wire::WireError;

/// Milliseconds from a delivery, or an answer with something new, to the next question.
const SOON: u64 = 1_000;
/// Longest wait in milliseconds.
const LATE: u64 = 60_000;

/// Questions to one peer about one set.
#[derive(Debug)]
pub(super) struct Inquiry {
    /// When it is asked again; nothing while it is being asked, and when everything is known.
    due: Option<u64>,
    wait: u64,
}

/// What a question brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Learnt {
    /// Receipts that were not here.
    Something,
    /// Nothing, or the peer was not reached.
    Nothing,
    /// Every peer runs it, by the receipts here: there is nothing to ask.
    Everybody,
}

impl Inquiry {
    /// For a set that was delivered at this tick.
    pub(super) fn after(now: u64) -> Self {
        Self { due: Some(now.saturating_add(SOON)), wait: SOON }
    }

    fn learnt(&mut self, learnt: Learnt, now: u64) {
        self.wait = match learnt {
            Learnt::Something => SOON,
            Learnt::Nothing => self.wait.saturating_mul(2).min(LATE),
            Learnt::Everybody => return,
        };
        self.due = Some(now.saturating_add(self.wait));
    }
}

impl Driver {
    /// Asks the questions that are due.
    pub(super) fn inquire(&mut self) {
        if self.draining.is_some() {
            return;
        }
        let now = self.now();
        let mut due = Vec::new();
        for (manifest, known) in self.sets.iter_mut().filter(|(_, known)| known.source.is_some()) {
            for (peer, inquiry) in &mut known.delivered {
                let reached = self.peers.get(peer).filter(|peer| peer.paused_until <= now);
                if let Some(reached) = reached.filter(|_| inquiry.due.is_some_and(|due| due <= now)) {
                    inquiry.due = None;
                    let link = reached.link.as_ref().map(|link| Arc::clone(&link.connection));
                    due.push((*manifest, peer.clone(), reached.address.clone(), link));
                }
            }
        }
        for (manifest, peer, address, link) in due {
            let (client, news) = (self.tools.client.clone(), self.news.clone());
            let (root, storage) = (self.tools.root.clone(), self.tools.storage.clone());
            let nodes: BTreeSet<Name> = self.peers.keys().cloned().collect();
            tokio::spawn(async move {
                let keep = receipts::Keep::new(&root, &storage);
                let asked = async {
                    let is_known = storage.call(move |_| everybody_runs(&root, manifest, nodes)).await;
                    if matches!(is_known, Ok(Ok(true))) {
                        return Ok(Learnt::Everybody);
                    }
                    let answer = match link {
                        Some(connection) => connection.ask(manifest).await?,
                        // Where nothing is left to do the machine has hung up: this connection is for the question alone.
                        None => client.connect(&peer, &address).await?.ask(manifest).await?,
                    };
                    let Some(progress) = answer else { return Ok(Learnt::Nothing) };
                    let kept = keep.receipts(&peer, manifest, progress.receipts).await;
                    Ok::<_, WireError>(if kept > 0 { Learnt::Something } else { Learnt::Nothing })
                };
                // Who is out of reach is found again by the machine, or asked later.
                let learnt = asked.await.unwrap_or(Learnt::Nothing);
                // Without the driver nobody is interested.
                news.send(News::Learnt { peer, manifest, learnt }).await.ok();
            });
        }
    }

    /// A question was answered, or not.
    pub(super) fn learnt(&mut self, peer: &Name, manifest: Blake3, learnt: Learnt) {
        let now = self.now();
        let inquiry = self.sets.get_mut(&manifest).and_then(|known| known.delivered.get_mut(peer));
        if let Some(inquiry) = inquiry {
            inquiry.learnt(learnt, now);
        }
    }
}

/// Whether receipts here say that each of these nodes runs a manifest.
fn everybody_runs(root: &StateRoot, manifest: Blake3, mut nodes: BTreeSet<Name>) -> Result<bool, Reasons> {
    for kept in root.kept_receipts("")? {
        let Ok(receipt) = document::parse::<Receipt>(&kept.bytes) else { continue };
        if receipt.manifest == manifest && receipt.result == ReceiptResult::Active {
            nodes.remove(&receipt.node_id);
        }
    }
    Ok(nodes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_brings_nothing_is_asked_ever_less_often_and_never_again_when_all_is_known() {
        let mut inquiry = Inquiry::after(5);
        assert_eq!(inquiry.due, Some(1_005));
        let mut waits = Vec::new();
        for _ in 0..8 {
            inquiry.due = None;
            inquiry.learnt(Learnt::Nothing, 0);
            waits.extend(inquiry.due);
        }
        assert_eq!(waits, [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        inquiry.learnt(Learnt::Something, 0);
        assert_eq!(inquiry.due, Some(1_000));
        inquiry.due = None;
        inquiry.learnt(Learnt::Everybody, 0);
        assert_eq!(inquiry.due, None);
    }
}
