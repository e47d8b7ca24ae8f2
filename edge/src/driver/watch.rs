//! What is looked at once a second: outbox and transit, the active generation, the day; and what follows for pins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use autonomy_relay::Input;
use autonomy_schema::{Blake3, Mode, Name, Reasons, Time, canonical};
use autonomy_stateroot::gc::RelayPins;
use autonomy_stateroot::{DiskError, StateRoot, SyncTarget, durable, layout};

use super::source::{At, Source};
use super::{Driver, DriverError, Known, complain};
use crate::store::Pinned;

/// Looks after which an idle daemon looks closely.
const IDLE_LOOKS: u32 = 5;
const DAY: i64 = 24 * 60 * 60;

/// What one look found.
struct Look {
    sets: BTreeMap<Blake3, At>,
    active: Option<Name>,
    pinned: Pinned,
    used_bytes: u64,
}

pub(super) fn clock() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

impl Driver {
    pub(super) async fn look(&mut self) -> Result<(), DriverError> {
        // Two questions of microseconds. The storage thread is woken when the answers are others, and now and then, since sets
        // in transit come and go without them: an idle daemon hardly wakes up.
        let glance = (self.tools.root.current().ok().flatten(), self.tools.root.outbox().ok());
        self.looks = self.looks.wrapping_add(1);
        if !self.go_on().await? {
            self.sample();
            return Ok(());
        }
        if self.glance.as_ref() == Some(&glance) && !self.has_changed && !self.looks.is_multiple_of(IDLE_LOOKS) {
            self.sample();
            return Ok(());
        }
        self.glance = Some(glance);
        let root = self.tools.root.clone();
        let found = self.tools.storage.call(move |stores| {
            if let Err(error) = stores.store.look(clock()) {
                complain("what is under way cannot be looked after", error);
            }
            let transit: Vec<Blake3> = stores.store.transit().map(|(manifest, _)| manifest).collect();
            let (pinned, used_bytes) = (stores.store.pins(), stores.store.used_bytes());
            Ok::<_, Reasons>(Look { sets: sets(&root, transit)?, active: root.current()?, pinned, used_bytes })
        });
        let look = match found.await? {
            Ok(look) => look,
            Err(reasons) => {
                tracing::error!(
                    event = "edge.look.failed",
                    reasons = reasons.one_line(),
                    "outbox or generation cannot be read"
                );
                return Ok(());
            }
        };
        self.tools.metrics.used_bytes.set(i64::try_from(look.used_bytes).unwrap_or(i64::MAX));
        if look.active != self.looked_at {
            self.looked_at = look.active;
            // What is refused is told by the reload; it is not read again until there is another one.
            drop(self.reload().await?);
        }
        self.turn_day().await?;
        self.update(look.sets).await?;
        self.pin(look.pinned).await?;
        self.sample();
        if self.has_changed && self.publish_from <= Instant::now() {
            self.publish().await?;
        }
        Ok(())
    }

    /// A new day begins with a quota of its own.
    async fn turn_day(&mut self) -> Result<(), DriverError> {
        let day = u64::try_from(clock().unix() / DAY).unwrap_or_default();
        // A clock that was set back does not give the quota a second time.
        if day <= self.day {
            return Ok(());
        }
        let sent = match self.tools.storage.call(|stores| stores.ledger.sent()).await? {
            Ok(sent) => sent,
            // It is asked again at the next look.
            Err(error) => return self.stall(error, Default::default()),
        };
        self.day = day.max(sent.day);
        let counted = if sent.day == self.day { sent.bytes } else { 0 };
        self.take(vec![Input::SentToday(counted)]).await
    }

    /// Takes up sets that came, and lets go of those that went, ended, or are not the newest of their stream.
    async fn update(&mut self, found: BTreeMap<Blake3, At>) -> Result<(), DriverError> {
        let mut gone: Vec<Blake3> = Vec::new();
        self.sets.retain(|manifest, known| {
            let stays = found.get(manifest) == Some(&known.at);
            if !stays && known.source.is_some() {
                gone.push(*manifest);
            }
            stays
        });
        self.unreadable.retain(|manifest, at| found.get(manifest) == Some(at));
        for (manifest, at) in found {
            if !self.sets.contains_key(&manifest) && !self.unreadable.contains_key(&manifest) {
                self.learn(manifest, at).await?;
            }
        }
        let now = clock();
        let mut newest: BTreeMap<Name, (u64, Blake3)> = BTreeMap::new();
        for (manifest, known) in &self.sets {
            let best = newest.entry(known.stream.clone()).or_insert((known.serial, *manifest));
            *best = (*best).max((known.serial, *manifest));
        }
        let sent: BTreeSet<Blake3> = newest.into_values().map(|(_, manifest)| manifest).collect();
        let mut begins = Vec::new();
        let mut ended = Vec::new();
        for (manifest, known) in &mut self.sets {
            let is_sent = sent.contains(manifest) && known.expires > now;
            if !is_sent && known.source.take().is_some() {
                gone.push(*manifest);
            }
            // One that has expired stays until the ceiling wants its room: a clock that jumped ahead comes back.
            if !sent.contains(manifest) {
                ended.push((*manifest, known.at.clone()));
            }
            if is_sent && known.source.is_none() {
                begins.push((*manifest, known.at.clone()));
            }
        }
        for manifest in gone {
            self.withdraw(manifest).await?;
        }
        for (manifest, at) in ended {
            self.forget(manifest, &at).await?;
        }
        for (manifest, at) in begins {
            self.begin(manifest, at).await?;
        }
        if !self.is_tidy && self.stall.is_none() {
            self.is_tidy = self.tidy().await?;
        }
        let open = self.open_sets().count();
        self.tools.metrics.queue_depth.set(i64::try_from(open).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Reads what a set is.
    async fn learn(&mut self, manifest: Blake3, at: At) -> Result<(), DriverError> {
        match self.open(manifest, &at).await? {
            Ok(source) => {
                let known = Known {
                    at,
                    stream: source.delivery.stream.clone(),
                    serial: source.delivery.serial,
                    expires: source.expires,
                    source: None,
                    delivered: BTreeMap::new(),
                };
                self.sets.insert(manifest, known);
            }
            Err(reasons) => {
                tracing::error!(event = "edge.set.unreadable", %manifest, reasons = reasons.one_line(), "it is not sent");
                self.unreadable.insert(manifest, at);
            }
        }
        Ok(())
    }

    async fn open(&self, manifest: Blake3, at: &At) -> Result<Result<Source, Reasons>, DriverError> {
        let (root, at) = (self.tools.root.clone(), at.clone());
        Ok(self.tools.storage.call(move |_| Source::open(&root, manifest, &at)).await?)
    }

    /// Sends a set from now on.
    async fn begin(&mut self, manifest: Blake3, at: At) -> Result<(), DriverError> {
        let source = match self.open(manifest, &at).await? {
            Ok(source) => source,
            Err(reasons) => {
                tracing::error!(event = "edge.set.unreadable", %manifest, reasons = reasons.one_line(), "it is not sent");
                self.sets.remove(&manifest);
                self.unreadable.insert(manifest, at);
                return Ok(());
            }
        };
        let rows = self.tools.storage.call(move |stores| {
            stores.ledger.begin(manifest)?;
            stores.ledger.restore(manifest)
        });
        let rows = match rows.await? {
            Ok(rows) => rows,
            // It begins at a later look.
            Err(error) => return self.stall(error, Default::default()),
        };
        let delivery = source.delivery.clone();
        tracing::info!(event = "edge.set.begun", %manifest, stream = %delivery.stream, serial = delivery.serial, "it is sent on");
        if let Some(known) = self.sets.get_mut(&manifest) {
            known.source = Some(Arc::new(source));
        }
        self.take(vec![Input::Restore(rows), Input::Deliver(delivery)]).await
    }

    /// Sends a set no more.
    async fn withdraw(&mut self, manifest: Blake3) -> Result<(), DriverError> {
        tracing::info!(event = "edge.set.withdrawn", %manifest, "it is sent no more");
        self.places.retain(|(of, _), _| *of != manifest);
        self.take(vec![Input::Withdraw(manifest)]).await?;
        self.has_changed = true;
        match self.tools.storage.call(move |stores| stores.ledger.withdraw(manifest)).await? {
            Ok(()) => Ok(()),
            Err(error) => {
                // Looked for again once the ledger can be written.
                self.is_tidy = false;
                self.stall(error, Default::default())
            }
        }
    }

    /// Withdraws rows of sets that went while nobody could write that down; tells whether that is done.
    async fn tidy(&mut self) -> Result<bool, DriverError> {
        let sent: BTreeSet<Blake3> =
            self.sets.iter().filter(|(_, known)| known.source.is_some()).map(|(manifest, _)| *manifest).collect();
        match self.tools.storage.call(move |stores| stores.ledger.withdraw_others(&sent)).await? {
            Ok(()) => Ok(true),
            Err(error) => self.stall(error, Default::default()).map(|()| false),
        }
    }

    /// Sets that not as many peers have as shall.
    fn open_sets(&self) -> impl Iterator<Item = Blake3> {
        let open = |(manifest, known): &(&Blake3, &Known)| known.source.is_some() && !self.machine.is_done(**manifest);
        self.sets.iter().filter(open).map(|(manifest, _)| *manifest)
    }

    /// A set of whose stream a newer one is sent has ended here: nothing keeps it for the relay any more.
    async fn forget(&mut self, manifest: Blake3, at: &At) -> Result<(), DriverError> {
        self.sets.remove(&manifest);
        let (root, is_transit) = (self.tools.root.clone(), *at == At::Transit);
        let ended = self.tools.storage.call(move |stores| {
            if is_transit { stores.store.withdraw(manifest) } else { Ok(leave_outbox(&root, manifest)?) }
        });
        if let Err(error) = ended.await? {
            complain("a set that is sent no more cannot be let go of", error);
        }
        Ok(())
    }

    /// Says what must not be collected or evicted.
    async fn pin(&mut self, pinned: Pinned) -> Result<(), DriverError> {
        let unrelayed: BTreeSet<Blake3> = self.open_sets().collect();
        if unrelayed != self.unrelayed {
            self.unrelayed.clone_from(&unrelayed);
            let told = unrelayed.clone();
            self.tools.storage.call(move |stores| stores.store.set_unrelayed(told)).await?;
        }
        // What is not sent, as its time is over, is kept only as long as there is room.
        let over = |(id, known): &(&Blake3, &Known)| {
            known.at == At::Transit && (known.source.is_none() || self.machine.is_done(**id))
        };
        let done = self.sets.iter().filter(over).map(|(id, _)| *id);
        let unreadable = self.unreadable.iter().filter(|(_, at)| **at == At::Transit).map(|(id, _)| *id);
        let handed_on: BTreeSet<Blake3> = done.chain(unreadable).collect();
        self.tools.storage.call(move |stores| stores.store.set_handed_on(handed_on)).await?;
        let Some(generation) = self.settings.generation.clone() else { return Ok(()) };
        let manifests = unrelayed.into_iter().chain(pinned.manifests).collect();
        let pins = RelayPins { generation, manifests, objects: pinned.objects };
        if self.pins.as_ref() == Some(&pins) {
            return Ok(());
        }
        let (root, written) = (self.tools.root.clone(), pins.clone());
        match self.tools.storage.call(move |_| write_pins(&root, &written)).await? {
            Ok(()) => self.pins = Some(pins),
            Err(error) => {
                tracing::error!(
                    event = "edge.pins.failed",
                    error = error.to_reason().message,
                    "gc will collect nothing"
                );
            }
        }
        Ok(())
    }
}

/// Takes a set out of the outbox, so that gc may collect its generation.
fn leave_outbox(root: &StateRoot, manifest: Blake3) -> Result<(), DiskError> {
    match root.disk().remove(&layout::outbox_entry(manifest)) {
        // Apply took it out itself.
        Err(error) if error.is_not_found() => Ok(()),
        removed => {
            removed?;
            root.disk().sync(SyncTarget::Dir(Some(&layout::outbox())))
        }
    }
}

fn write_pins(root: &StateRoot, pins: &RelayPins) -> Result<(), DiskError> {
    let path = layout::edge_pins();
    let bytes =
        canonical::to_bytes(pins).map_err(|error| DiskError::new("encode", &path, std::io::Error::other(error)))?;
    durable::replace(root.disk(), &path, &bytes, Mode::PRIVATE)
}

/// Everything that may be sent: what the outbox names, and what is in transit.
fn sets(root: &StateRoot, transit: Vec<Blake3>) -> Result<BTreeMap<Blake3, At>, Reasons> {
    let failed = |error: DiskError| Reasons::from(error.to_reason());
    let mut found: BTreeMap<Blake3, At> = transit.into_iter().map(|manifest| (manifest, At::Transit)).collect();
    for manifest in root.outbox().map_err(failed)? {
        let text = root.disk().read_link(&layout::outbox_entry(manifest)).map_err(failed)?.unwrap_or_default();
        if let Some(generation) = layout::outbox_target(&text) {
            found.insert(manifest, At::Generation(generation));
        }
    }
    Ok(found)
}
