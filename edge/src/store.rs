//! What is received: documents of sets, then the segments that they name, until a set is whole.
//!
//! Blocking, for the one storage thread.

mod account;
mod admit;
mod body;
mod complete;
mod error;
mod evict;
mod front;
mod judge;
mod local;
mod names;
mod payload;
mod progress;
mod quarantine;
mod received;
mod sync;

pub use body::Incoming;
pub use error::StoreError;
pub use progress::{Artifact, MAX_MISSING, MAX_RECEIPTS, Progress, SetState, SignedReceipt};
pub use sync::{Synced, Unsynced};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, RelPath, StateManifest, Time};
use autonomy_stateroot::{StateRoot, durable, layout};

use account::Account;
use names::{Names, Place};
use payload::{Key, Payload};

/// Largest body of a set in bytes.
pub const MAX_SET_BYTES: u64 = 64 << 20;
/// Most sets that are under way, and most bodies that are being written.
pub const MAX_UNDER_WAY: usize = 16;
/// Most bytes of one write: large enough for the disk, small enough for memory.
const MAX_RUN: usize = 1 << 20;
/// Seconds without a segment after which a set under way gives up its place to others that need it.
const ABANDONED: i64 = 600;

/// What the state root may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Over the whole state root; 0 is unlimited (INV-04).
    pub ceiling_bytes: u64,
    /// Share of the ceiling at which eviction begins, 1 to 100.
    pub eviction_percent: u64,
}

/// A segment that came, whose bytes the caller hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// BLAKE3 of the bytes.
    pub id: Blake3,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was written.
    Stored,
    /// It is here already.
    Duplicate,
    /// No accepted manifest names it.
    NotNamed,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// For each segment, in order.
    pub results: Vec<Put>,
    /// To be given to [`Store::commit`]; of several batches that one commit makes durable, the first.
    pub ticket: Ticket,
}

/// How many syncs had failed when something was put. One that fails later takes with it what others put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// A set was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// It was not here before.
    pub first: bool,
}

/// A segment of a set under way, for `edgectl segments list`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Listed {
    /// The manifest that names it.
    pub manifest: Blake3,
    /// The artifact.
    pub artifact: Name,
    /// Which it is.
    pub segment: Blake3,
    /// Its number in the index of the artifact.
    pub number: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Whether it is here.
    pub present: bool,
}

/// What must not be collected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pinned {
    /// Manifests whose sets are under way or in transit.
    pub manifests: BTreeSet<Blake3>,
    /// Objects that they are made of.
    pub objects: BTreeSet<Blake3>,
}

/// A set under way, or in transit.
#[derive(Debug)]
struct Set {
    manifest: StateManifest,
    /// Bytes of its documents.
    documents: u64,
    /// It is whole, and here for others alone.
    is_transit: bool,
    /// Who brought the last of it.
    from: Option<Name>,
    /// The payloads that it is made of.
    keys: BTreeSet<Key>,
    /// When something of it came last; `None` until the next commit or look has a clock.
    touched: Option<Time>,
    /// Nothing of it came for long: it goes when others need its place.
    is_abandoned: bool,
}

/// What is received, on the disk of one node.
#[derive(Debug)]
pub struct Store {
    root: StateRoot,
    limits: Limits,
    account: Account,
    /// The bytes in use when an eviction came to nothing.
    fruitless: Option<u64>,
    sets: BTreeMap<Blake3, Set>,
    payloads: BTreeMap<Key, Payload>,
    /// The payloads by the numbers that the names have of them.
    slots: Vec<Key>,
    names: Names,
    /// Sets that were completed here not long ago: their segments are told to be here, should they come again.
    recent: VecDeque<Blake3>,
    /// Bodies that are being written.
    bodies: Vec<(RelPath, Weak<()>)>,
    next_body: u64,
    /// What was reserved for segments that are not synced yet.
    reserved: u64,
    /// The same, of those whose sync is under way.
    in_flight: u64,
    /// Generations that are not with every peer yet.
    unrelayed: BTreeSet<Blake3>,
    /// Sets in transit that need not be here for anybody any more.
    handed_on: BTreeSet<Blake3>,
    /// Syncs that failed.
    failures: u64,
    /// The names could not be built to their end.
    lacks_names: bool,
    /// Sets that lack nothing and could not be completed; the next look tries again.
    failed: BTreeSet<Blake3>,
    /// What the receipts that were read are for, by the names of their files.
    receipted: BTreeMap<String, Option<Blake3>>,
}

impl Store {
    /// Opens what was received before, and finds out what of it is whole.
    pub fn open(root: StateRoot, limits: Limits) -> Result<Self, Reasons> {
        let failed = |error: StoreError| error.into_reasons();
        let account = Account::open(&root).map_err(|error| Reasons::from(error.to_reason()))?;
        let mut store = Self {
            root,
            limits,
            account,
            fruitless: None,
            sets: BTreeMap::new(),
            payloads: BTreeMap::new(),
            slots: Vec::new(),
            names: Names::default(),
            recent: VecDeque::new(),
            bodies: Vec::new(),
            next_body: 0,
            reserved: 0,
            in_flight: 0,
            unrelayed: BTreeSet::new(),
            handed_on: BTreeSet::new(),
            failures: 0,
            lacks_names: false,
            failed: BTreeSet::new(),
            receipted: BTreeMap::new(),
        };
        store.load().map_err(failed)?;
        Ok(store)
    }

    /// Other limits from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.fruitless = None;
    }

    /// What of the generations the relay has not handed on yet: eviction leaves it alone.
    pub fn set_unrelayed(&mut self, manifests: BTreeSet<Blake3>) {
        self.unrelayed = manifests;
        self.fruitless = None;
    }

    /// The sets in transit that whoever shall have them has, or that cannot be handed on. Eviction leaves all others alone,
    /// also those that the relay does not know yet.
    pub fn set_handed_on(&mut self, manifests: BTreeSet<Blake3>) {
        if self.handed_on != manifests {
            self.handed_on = manifests;
            self.fruitless = None;
        }
    }

    /// What is done now and then: what could not be completed is tried again, and sets under way that nobody brings on, or
    /// whose time is over by a clock that may be wrong, may be evicted.
    pub fn look(&mut self, clock: Time) -> Result<(), StoreError> {
        self.failed.clear();
        for set in self.sets.values_mut().filter(|set| !set.is_transit) {
            let touched = set.touched.get_or_insert(clock);
            set.is_abandoned =
                clock.unix().saturating_sub(touched.unix()) > ABANDONED || set.manifest.metadata.expires_at <= clock;
        }
        if self.lacks_names {
            self.name_all()?;
        }
        self.sync_dirty()?;
        self.complete_all(None, clock).map(drop)
    }

    /// Room for bytes that others are about to write below this state root: refuses what would pass the ceiling (INV-04).
    pub fn reserve_bytes(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.make_room(bytes)?;
        self.account.spend(bytes);
        Ok(())
    }

    /// Begins the body of a set.
    pub fn begin_set(&mut self) -> Result<Incoming, StoreError> {
        self.sweep_bodies()?;
        if self.bodies.len() >= MAX_UNDER_WAY {
            return Err(busy("as many sets are being sent as may be"));
        }
        self.reserve(account::BLOCK)?;
        durable::ensure_dir(self.root.disk(), &layout::edge_sets())?;
        let path = body::place(self.next_body)?;
        self.next_body += 1;
        let alive = Arc::new(());
        self.bodies.push((path.clone(), Arc::downgrade(&alive)));
        self.root.disk().set_len(&path, 0)?;
        Ok(Incoming { path, size: 0, reserved: account::BLOCK, _alive: alive })
    }

    /// Takes the next bytes of the body.
    pub fn write_set(&mut self, incoming: &mut Incoming, bytes: &[u8]) -> Result<(), StoreError> {
        if incoming.size + bytes.len() as u64 > MAX_SET_BYTES {
            let message = format!("the body of a set may have {MAX_SET_BYTES} bytes");
            return Err(StoreError::TooLarge(Reason::new(Code::SourceTooLarge, message)));
        }
        let need = account::blocks(incoming.size, bytes.len() as u64);
        self.reserve(need)?;
        incoming.reserved += need;
        self.root.disk().write_at(&incoming.path, incoming.size, bytes)?;
        incoming.size += bytes.len() as u64;
        Ok(())
    }

    /// Verifies the set. What does not verify goes into quarantine. What its segments name and this node has is copied.
    pub fn accept_set(
        &mut self,
        incoming: Incoming,
        fingerprint: Blake3,
        from: &Name,
        clock: Time,
    ) -> Result<Accepted, StoreError> {
        if self.is_known(fingerprint)? {
            self.account.release(incoming.reserved);
            drop(incoming);
            self.sweep_bodies()?;
            return Ok(Accepted { first: false });
        }
        let accepted = self.admit(&incoming, fingerprint, from, clock);
        if let Err(StoreError::Refused(reasons)) = &accepted
            && !is_late(reasons)
        {
            quarantine::keep(&self.root, &incoming.path, fingerprint)?;
        }
        // The body goes, or lies in quarantine: it is measured with the rest.
        self.account.release(incoming.reserved);
        drop(incoming);
        // What is left to do changes nothing of what was said of the set.
        if let Err(error) = self.tidy_up(fingerprint, clock) {
            tracing::warn!(event = "edge.store.failed", manifest = %fingerprint, reason = %error, "the next call or look goes on");
        }
        accepted.map(|()| Accepted { first: true })
    }

    /// What follows a body, whatever became of it.
    fn tidy_up(&mut self, fingerprint: Blake3, clock: Time) -> Result<(), StoreError> {
        self.sweep_bodies()?;
        if self.sets.contains_key(&fingerprint) {
            self.drop_older(fingerprint)?;
            self.account.walk(&self.root)?;
            self.complete_all(None, clock)?;
        }
        Ok(())
    }

    /// How far a set is; `None` for one that is not known.
    pub fn progress(&mut self, fingerprint: Blake3, clock: Time) -> Result<Option<Progress>, StoreError> {
        if self.sets.contains_key(&fingerprint) {
            self.sync_dirty()?;
            self.complete_all(Some(fingerprint), clock)?;
        }
        match self.sets.get(&fingerprint) {
            Some(set) if !set.is_transit => Ok(Some(self.receiving(fingerprint, &set.manifest))),
            Some(_) => Ok(Some(self.stored(fingerprint, clock)?)),
            None if judge::is_kept(&self.root, fingerprint)? => Ok(Some(self.stored(fingerprint, clock)?)),
            None => Ok(None),
        }
    }

    /// Writes segments, whose hashes the caller checked and which `from` brought; durable with the next [`Store::commit`].
    pub fn put(&mut self, batch: Vec<Segment>, from: &Name) -> Result<Written, StoreError> {
        self.write(batch, Some(from))
    }

    #[expect(clippy::needless_pass_by_value, reason = "the bytes are given up, and go with the call")]
    fn write(&mut self, batch: Vec<Segment>, from: Option<&Name>) -> Result<Written, StoreError> {
        let mut results = Vec::with_capacity(batch.len());
        let mut writes: BTreeMap<(u16, u64), (u32, usize)> = BTreeMap::new();
        for (at, segment) in batch.iter().enumerate() {
            let places = self.names.find(&segment.id);
            let empty: Vec<&Place> = places
                .iter()
                .filter(|place| place.length() == segment.bytes.len() as u64 && self.is_empty(place))
                .filter(|place| !writes.contains_key(&(place.payload, place.offset)))
                .collect();
            results.push(match (places.is_empty(), empty.is_empty()) {
                (true, _) => Put::NotNamed,
                (false, true) => Put::Duplicate,
                (false, false) => Put::Stored,
            });
            writes.extend(empty.into_iter().map(|place| ((place.payload, place.offset), (place.number, at))));
        }
        let bytes = |at: usize| batch[at].bytes.as_slice();
        let need = writes.iter().map(|((_, offset), (_, at))| account::blocks(*offset, bytes(*at).len() as u64)).sum();
        self.reserve(need)?;
        self.reserved += need;
        let slots: BTreeSet<u16> = writes.keys().map(|(slot, _)| *slot).collect();
        let mut writes = writes.into_iter().peekable();
        let mut run = Vec::new();
        while let Some(((slot, offset), (number, at))) = writes.next() {
            // What lies side by side is written at once.
            run.clear();
            run.extend_from_slice(bytes(at));
            let mut numbers = vec![number];
            while let Some((_, (number, at))) = writes.next_if(|((next, begin), _)| {
                *next == slot && *begin == offset + run.len() as u64 && run.len() < MAX_RUN
            }) {
                run.extend_from_slice(bytes(at));
                numbers.push(number);
            }
            let Some(payload) = self.slots.get(usize::from(slot)).and_then(|key| self.payloads.get_mut(key)) else {
                continue;
            };
            payload.write(&self.root, offset, &run)?;
            for number in numbers {
                payload.mark(number);
            }
        }
        if let Some(from) = from {
            self.note_from(&slots, from);
        }
        Ok(Written { results, ticket: Ticket(self.failures) })
    }

    /// Remembers who brought something of the sets that these payloads belong to.
    fn note_from(&mut self, slots: &BTreeSet<u16>, from: &Name) {
        let keys: Vec<Key> = slots.iter().filter_map(|slot| self.slots.get(usize::from(*slot)).copied()).collect();
        for set in self.sets.values_mut().filter(|set| !set.is_transit) {
            if keys.iter().any(|key| set.keys.contains(key)) {
                set.from = Some(from.clone());
                (set.touched, set.is_abandoned) = (None, false);
            }
        }
    }

    /// Forgets a set in transit that has expired, or is not the newest of its stream any more.
    pub fn withdraw(&mut self, fingerprint: Blake3) -> Result<(), StoreError> {
        if self.sets.get(&fingerprint).is_some_and(|set| set.is_transit) {
            self.forget(fingerprint)?;
            self.account.walk(&self.root)?;
        }
        Ok(())
    }

    /// Bytes that the state root takes.
    pub fn used_bytes(&self) -> u64 {
        self.account.used()
    }

    /// What must not be collected.
    pub fn pins(&self) -> Pinned {
        let artifacts = self.sets.values().flat_map(|set| &set.manifest.spec.artifacts);
        Pinned {
            manifests: self.sets.keys().copied().collect(),
            objects: artifacts.filter_map(|artifact| artifact.file().map(|file| file.blake3)).collect(),
        }
    }

    /// Sets in transit, which are for other nodes, with their manifests.
    pub fn transit(&self) -> impl Iterator<Item = (Blake3, &StateManifest)> {
        self.sets.iter().filter(|(_, set)| set.is_transit).map(|(fingerprint, set)| (*fingerprint, &set.manifest))
    }

    /// The segments of sets under way, at most `limit` of them; and how many more there are.
    pub fn segments(&self, limit: usize) -> Result<(Vec<Listed>, u64), StoreError> {
        self.listed(limit)
    }
}

/// An older serial from an honest peer that has not heard of the newer one: no evidence of anything.
pub fn is_late(reasons: &Reasons) -> bool {
    reasons.as_slice().iter().all(|reason| reason.code == Code::SerialTooLow)
}

fn busy(message: &str) -> StoreError {
    StoreError::Busy(Reason::new(Code::LimitExceeded, message))
}
