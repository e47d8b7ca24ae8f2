//! Making room: what nobody needs goes, in the order of `relay::evict`, until the state root is below the line.

use autonomy_relay::evict::{Evictable, Protection, Standing, order};
use autonomy_schema::{Blake3, Name, RelPath};
use autonomy_sets::manifest_of;
use autonomy_stateroot::gc::{self, Garbage};
use autonomy_stateroot::{LockMode, durable, layout};

use super::{Store, StoreError, quarantine};

/// Something that may go.
enum Thing {
    Body(RelPath),
    Set(Blake3),
    Generation(Name),
}

impl Store {
    /// Sees to it that `need` more bytes fit: evicts when the line is passed, and refuses when the ceiling would be.
    pub(super) fn make_room(&mut self, need: u64) -> Result<(), StoreError> {
        self.account.refresh(&self.root, &self.limits, need)?;
        if self.account.is_high(&self.limits, need) {
            self.evict(need)?;
        }
        self.account.check(&self.root, &self.limits, need)
    }

    /// Room that is taken now, and measured later.
    pub(super) fn reserve(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.make_room(bytes)?;
        self.account.reserve(bytes);
        Ok(())
    }

    /// Evicts until there is room, or nothing is left that may go. What an eviction that came to nothing found is not asked
    /// for again before the state root has changed, or would be too large.
    fn evict(&mut self, need: u64) -> Result<(), StoreError> {
        let is_new = self.fruitless.is_none_or(|at| self.account.used().abs_diff(at) > self.limits.ceiling_bytes / 64);
        if !is_new && !self.account.is_over(&self.limits, need) {
            return Ok(());
        }
        self.sweep_bodies()?;
        // Others may have made room.
        self.account.walk(&self.root)?;
        for (_, thing) in self.candidates()? {
            if !self.account.is_high(&self.limits, need) {
                self.fruitless = None;
                return Ok(());
            }
            let done = match &thing {
                Thing::Body(path) => self.root.disk().remove(path).map_err(StoreError::from),
                Thing::Set(fingerprint) => self.forget(*fingerprint),
                Thing::Generation(name) => self.collect(name),
            };
            // What cannot go now is passed over: whether there is room is judged by what is there.
            if let Err(error) = done {
                tracing::warn!(event = "edge.eviction.failed", reason = %error, "something could not be evicted");
            }
            self.account.walk(&self.root)?;
        }
        self.fruitless = self.account.is_high(&self.limits, need).then(|| self.account.used());
        Ok(())
    }

    /// What may go, first to last.
    fn candidates(&self) -> Result<Vec<(Evictable, Thing)>, StoreError> {
        let mut found: Vec<(Evictable, Thing)> = Vec::new();
        let mut add = |id, bytes, standing, serial, protected, thing| {
            found.push((Evictable { id, bytes, standing, serial, protected }, thing));
        };
        for (path, stat) in quarantine::bodies(&self.root)? {
            // The name of a body is not its hash; what orders it is the name.
            let id = Blake3::of(path.as_str().as_bytes());
            add(id, stat.allocated, Standing::Orphaned, 0, None, Thing::Body(path));
        }
        for (fingerprint, set) in self.sets.iter().filter(|(_, set)| set.is_transit) {
            let metadata = &set.manifest.metadata;
            let newer = self.sets.values().map(|other| &other.manifest.metadata);
            let newer = newer.filter(|other| other.name == metadata.name).any(|other| other.serial > metadata.serial);
            let standing = if newer { Standing::Superseded } else { Standing::Relayed };
            let protected = (!self.handed_on.contains(fingerprint)).then_some(Protection::Unrelayed);
            let bytes = set.manifest.spec.artifacts.iter().filter_map(|artifact| artifact.size).sum();
            add(*fingerprint, bytes, standing, metadata.serial, protected, Thing::Set(*fingerprint));
        }
        for (fingerprint, set) in self.sets.iter().filter(|(_, set)| !set.is_transit && set.is_abandoned) {
            let partials = self.payloads.values().filter(|payload| set.keys.contains(&payload.key));
            let bytes = partials.map(|payload| payload.allocated).sum();
            let serial = set.manifest.metadata.serial;
            add(*fingerprint, bytes, Standing::Receiving, serial, None, Thing::Set(*fingerprint));
        }
        // Where it is not known what is needed, no generation goes.
        let known = gc::find(&self.root, 0).unwrap_or_default();
        let free = known.generations.into_iter().map(|name| (name, None));
        let kept = known.kept.into_iter().map(|(name, why)| (name, why.first().map(|why| protection(why))));
        for (name, protected) in free.chain(kept) {
            let Some((manifest, fingerprint)) = manifest_of(&self.root, &name) else { continue };
            let is_waited_for = self.unrelayed.contains(&fingerprint);
            let protected = protected.or(is_waited_for.then_some(Protection::Unrelayed));
            let serial = manifest.metadata.serial;
            add(fingerprint, 0, Standing::Superseded, serial, protected, Thing::Generation(name));
        }
        let ordered = order(found.iter().map(|(evictable, _)| evictable.clone()).collect());
        let mut sorted = Vec::new();
        for evictable in ordered {
            // Two generations may be of one manifest: each is taken once.
            if let Some(at) = found.iter().position(|(other, _)| *other == evictable) {
                sorted.push(found.swap_remove(at));
            }
        }
        Ok(sorted)
    }

    /// Removes one generation, with the objects that nothing else is made of. Whoever else is at work keeps it.
    fn collect(&self, name: &Name) -> Result<(), StoreError> {
        let held = self.root.lock("edged: eviction").map_err(|error| StoreError::Disk(error.to_reason()))?;
        let Some(store) = self.root.store_lock(LockMode::Exclusive)? else { return Ok(()) };
        let broken = |reasons: autonomy_schema::Reasons| StoreError::Disk(reasons.into_vec().swap_remove(0));
        // Judged anew under the locks: with all the others kept, this one and what is only its own is what goes.
        let all = gc::find(&self.root, 0).map_err(broken)?;
        if !all.generations.contains(name) {
            return Ok(());
        }
        let mut needed = std::collections::BTreeSet::new();
        let kept = all.kept.keys().chain(all.generations.iter().filter(|other| *other != name));
        for other in kept {
            let Some((manifest, _)) = manifest_of(&self.root, other) else { continue };
            needed.extend(gc::objects_of(&self.root, other, &manifest).map_err(broken)?);
        }
        let held_back = self.pins().objects;
        let objects = all.objects.into_iter().filter(|object| {
            let is_pinned = layout::object_digest(object).is_some_and(|digest| held_back.contains(&digest));
            !needed.contains(object) && !is_pinned
        });
        let garbage = Garbage { generations: vec![name.clone()], objects: objects.collect(), ..Garbage::default() };
        Ok(gc::sweep(&self.root, &held, &*store, &garbage, &|_| {})?)
    }

    /// Bodies that nobody writes any more.
    pub(super) fn sweep_bodies(&mut self) -> Result<(), StoreError> {
        let (gone, alive): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.bodies).into_iter().partition(|(_, alive)| alive.strong_count() == 0);
        self.bodies = alive;
        let is_any = !gone.is_empty();
        for (path, _) in gone {
            durable::remove_tree(self.root.disk(), &path)?;
        }
        if is_any {
            self.account.walk(&self.root)?;
        }
        Ok(())
    }
}

/// Why a generation stays, from the words of the collection.
fn protection(why: &str) -> Protection {
    match why {
        "active" => Protection::Active,
        "last known good" => Protection::LastKnownGood,
        "in the outbox" | "the relay needs it" => Protection::Unrelayed,
        _ => Protection::Pinned,
    }
}
