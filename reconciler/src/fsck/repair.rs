//! The repair, in the order in which one thing rests on another: modes, leftovers, links that are none, the journal,
//! objects, generations, links, floors. It may be cut off anywhere and run again.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use autonomy_apply::{ApplyError, ServiceRunner, Transaction, reinstate_current, reinstate_lkg};
use autonomy_schema::journal::Phase;
use autonomy_schema::{Blake3, Name, Reason, Reasons, RelPath, generation};
use autonomy_stateroot::{
    ActivationLock, DiskError, Link, SetSource, StateRoot, SyncTarget, digests, durable, layout, set_aside,
};
use autonomy_trust::Purpose;
use serde_json::{Value, json};

use super::salvage::{MAX_PLACES, Sources, elsewhere, restage};
use super::{Mend, Report, Severity, check, look};
use crate::generation::documents;
use crate::history::history;
use crate::judge::Options;
use crate::record::{Actor, Recorder};
use crate::recovery::{recover_held, told};

/// What a repair did.
#[derive(Debug)]
pub struct Repaired {
    /// What it did, one sentence each.
    pub done: Vec<String>,
    /// What it tried and could not do.
    pub failed: Vec<Reason>,
    /// What is there now.
    pub report: Report,
    /// A record that could not be written.
    pub warning: Option<String>,
}

/// Mends what can be mended. `from` is a set whose bytes may be used; they are verified like all others.
pub fn repair(
    root: &StateRoot,
    from: Option<&dyn SetSource>,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    options: &Options<'_>,
) -> Result<Repaired, Reasons> {
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let before = look(root, options)?;
    let mut silent = autonomy_apply::Silent;
    let mut recorder = Recorder::open(root, actor, None, &mut silent)?;
    let damage = before.findings.iter().filter(|finding| finding.severity == Severity::Damage).count();
    recorder.begin(json!({ "damage": damage, "from": from.map(SetSource::describe) }))?;
    let mut hands = Hands {
        root,
        held: &held,
        runner,
        options,
        from,
        done: Vec::new(),
        failed: Vec::new(),
        holders: OnceCell::new(),
    };
    let mends: BTreeSet<Mend> = before.findings.into_iter().map(|finding| finding.mend).collect();
    hands.all(&mends, &mut recorder)?;
    let Hands { done, failed, .. } = hands;
    let report = look(root, options)?;
    let outcome = if report.reasons().is_ok() { "repaired" } else { "damaged" };
    let told: Vec<&Reason> = failed.iter().collect();
    let warning = recorder.end(outcome, json!({ "done": done, "failed": told }));
    Ok(Repaired { done, failed, report, warning })
}

struct Hands<'a> {
    root: &'a StateRoot,
    held: &'a ActivationLock,
    runner: &'a dyn ServiceRunner,
    options: &'a Options<'a>,
    from: Option<&'a dyn SetSource>,
    done: Vec<String>,
    failed: Vec<Reason>,
    /// The files of generations by content, gathered when the first object is looked for.
    holders: OnceCell<BTreeMap<Blake3, Vec<RelPath>>>,
}

fn reasons_of(error: &DiskError) -> Reasons {
    error.to_reason().into()
}

impl Hands<'_> {
    fn all(&mut self, mends: &BTreeSet<Mend>, recorder: &mut Recorder<'_>) -> Result<(), Reasons> {
        for mend in mends {
            match mend {
                // The first of all: whatever follows is judged by it.
                Mend::TrustRoot => {
                    let pinned = self.trust_root();
                    self.note(pinned);
                }
                Mend::Mode(path, mode) => {
                    let set = self.root.disk().set_meta(path, *mode);
                    self.note(set.map(|()| format!("{path} has mode {mode}")).map_err(|error| reasons_of(&error)));
                }
                Mend::Folder(path) => {
                    let made = durable::ensure_dir(self.root.disk(), path);
                    self.note(made.map(|()| format!("{path} is there")).map_err(|error| reasons_of(&error)));
                }
                Mend::Remove(path) => {
                    let removed = self.remove(path);
                    self.note(removed.map(|()| format!("{path} is removed")).map_err(|error| reasons_of(&error)));
                }
                Mend::Aside(path) => {
                    let aside = set_aside(self.root.disk(), path);
                    let told = aside.map(|place| format!("{path} is set aside as {place}"));
                    self.note(told.map_err(|error| reasons_of(&error)));
                }
                // A link that is no link hides what follows.
                Mend::Current => self.set_aside_link(&layout::current(), self.root.current().is_err()),
                Mend::Lkg => self.set_aside_link(&layout::lkg(), self.root.lkg().is_err()),
                Mend::Journal | Mend::Object(_) | Mend::Generation(_) | Mend::Floors(_) | Mend::Nothing => {}
            }
        }
        let pointed = self.point_as_journaled();
        self.note(pointed);
        if mends.contains(&Mend::Journal) {
            let rebuilt = self.journal(mends, recorder);
            self.note(rebuilt);
        }
        let recovered = self.recover(mends, recorder);
        self.note(recovered);
        for mend in mends {
            if let Mend::Object(name) = mend {
                let mended = self.object(name);
                self.note(mended);
            }
        }
        for lost in self.lost() {
            let mended = self.generation(&lost, recorder);
            self.note(mended);
        }
        for mend in mends {
            if let Mend::Generation(name) = mend {
                let mended = self.generation(name, recorder);
                self.note(mended);
            }
        }
        self.links()?;
        for mend in mends {
            if let Mend::Floors(name) = mend {
                let raised = self.floors(name);
                self.note(raised);
            }
        }
        Ok(())
    }

    /// What cannot be mended is told; the rest goes on.
    fn note(&mut self, result: Result<String, Reasons>) {
        match result {
            Ok(done) if done.is_empty() => {}
            Ok(done) => self.done.push(done),
            Err(reasons) => self.failed.extend(reasons.into_vec()),
        }
    }

    fn trust_root(&self) -> Result<String, Reasons> {
        let Some(kept) = autonomy_sets::roots::lost_pin(self.root) else { return Ok(String::new()) };
        let aside = set_aside(self.root.disk(), &layout::trust_root()).map_err(|error| reasons_of(&error))?;
        self.root.repin_root(self.held, &kept)?;
        Ok(format!("the trust root that is kept is pinned again; what stood there is in {aside}"))
    }

    fn remove(&self, path: &RelPath) -> Result<(), DiskError> {
        durable::remove_tree(self.root.disk(), path)?;
        self.root.disk().sync(SyncTarget::Dir(path.parent().as_ref()))
    }

    fn set_aside_link(&mut self, link: &RelPath, is_none: bool) {
        if is_none {
            let aside = set_aside(self.root.disk(), link).map_err(|error| reasons_of(&error));
            self.note(aside.map(|to| format!("what stood in the place of `{link}` is in {to}")));
        }
    }

    /// While the journal says that a generation is active and not proven yet, `current` points there or nowhere right.
    fn point_as_journaled(&self) -> Result<String, Reasons> {
        let Ok(Some(journal)) = self.root.journal() else { return Ok(String::new()) };
        let is_open = journal.failure.is_none() && matches!(journal.phase, Phase::Switched | Phase::Waiting);
        let there = |name: &Name| durable::exists(self.root.disk(), &layout::generation(name)).unwrap_or(false);
        let points = self.root.current()?;
        if !is_open || points.is_some_and(|name| there(&name)) || !there(&journal.generation) {
            return Ok(String::new());
        }
        reinstate_current(self.root, self.held, &journal.generation).map_err(|error| reasons_of(&error))?;
        Ok(format!("`current` points to {}, as the journal says", journal.generation))
    }

    /// What was cut off is finished, as any locking verb does it; but nothing proves itself with bytes that are damaged.
    fn recover(&self, mends: &BTreeSet<Mend>, recorder: &mut Recorder<'_>) -> Result<String, Reasons> {
        let switched =
            self.root.journal()?.filter(|journal| journal.phase == Phase::Switched && journal.failure.is_none());
        if let Some(journal) = switched.filter(|journal| mends.contains(&Mend::Generation(journal.generation.clone())))
        {
            let message = format!("{} is damaged, and was not proven yet", journal.generation);
            let reason = Reason::new(autonomy_schema::Code::CorruptState, message);
            return match self.transaction(recorder).give_back(reason) {
                Ok(()) => Ok(String::new()),
                Err(ApplyError::RolledBack { reason, active }) => Ok(returned(&reason, active.as_ref())),
                Err(error) => Err(error.into_reasons()),
            };
        }
        let recovery = recover_held(self.root, self.held, self.runner, recorder)?;
        Ok(told(&recovery).unwrap_or_default())
    }

    /// Without a journal the links decide. What is active and was never known good proves itself again, unless it is
    /// damaged: then what is known good is active again.
    fn journal(&self, mends: &BTreeSet<Mend>, recorder: &mut Recorder<'_>) -> Result<String, Reasons> {
        let mut done = String::new();
        if durable::exists(self.root.disk(), &layout::journal()).map_err(|error| reasons_of(&error))? {
            let to = set_aside(self.root.disk(), &layout::journal()).map_err(|error| reasons_of(&error))?;
            done = format!("the journal is in {to}");
        }
        let (current, lkg) = (self.root.current()?, self.root.lkg()?);
        let Some(current) = current.filter(|current| Some(current) != lkg.as_ref()) else { return Ok(done) };
        if mends.contains(&Mend::Generation(current.clone())) {
            let Some(lkg) = lkg else { return Ok(done) };
            reinstate_current(self.root, self.held, &lkg).map_err(|error| reasons_of(&error))?;
            return Ok(format!("{done}; {current} is damaged and was never known good, so {lkg} is active again"));
        }
        let loaded = check::loaded(self.root).ok_or_else(|| untrusted(&current))?;
        let manifest = documents(self.root, &loaded, &current, Purpose::Recover, self.options)?.manifest;
        match self.transaction(recorder).finish_unknown(&manifest, &current) {
            Ok(()) => Ok(format!("{done}; {current}, which was never known good, ran its services and checks again")),
            Err(ApplyError::RolledBack { reason, active }) => {
                Ok(format!("{done}; {}", returned(&reason, active.as_ref())))
            }
            Err(error) => Err(error.into_reasons()),
        }
    }

    fn transaction<'t>(&'t self, recorder: &'t mut Recorder<'_>) -> Transaction<'t> {
        Transaction { root: self.root, held: self.held, runner: self.runner, observer: recorder }
    }

    /// An object whose bytes are right gets its mode; another one is removed, and made again from a generation that holds
    /// its bytes in a file of its own. Where none does, the repair of its generations writes it.
    fn object(&self, name: &str) -> Result<String, Reasons> {
        self.mend_object(name).map_err(|error| reasons_of(&error))
    }

    fn mend_object(&self, name: &str) -> Result<String, DiskError> {
        let disk = self.root.disk();
        let path = durable::child(&layout::objects(), name)?;
        let Some(digest) = layout::object_digest(name) else { return Ok(String::new()) };
        let mode = name.rsplit_once('-').and_then(|(_, mode)| mode.parse().ok());
        let stat = disk.stat(&path)?;
        let sound =
            |path: &RelPath, size: u64| -> Result<bool, DiskError> { Ok(digests(disk, path, size)?.0 == digest) };
        let stat = stat.filter(|stat| stat.kind == autonomy_stateroot::FileKind::File);
        if let (Some(stat), Some(mode)) = (stat, mode)
            && sound(&path, stat.size)?
        {
            disk.set_meta(&path, mode)?;
            disk.sync(SyncTarget::File(&path))?;
            return Ok(format!("{path} has mode {mode}"));
        }
        self.remove(&path)?;
        let holders = self.holders.get_or_init(|| elsewhere(self.root));
        for from in holders.get(&digest).into_iter().flatten().take(MAX_PLACES) {
            if let Some(stat) = disk.stat(from)?
                && Some(stat.mode) == mode
                && sound(from, stat.size)?
            {
                disk.link(Link::Hard { from, to: &path })?;
                disk.sync(SyncTarget::Dir(Some(&layout::objects())))?;
                return Ok(format!("{path} is made again from {from}"));
            }
        }
        Ok(format!("{path} is removed"))
    }

    /// Generations that a link names and that are gone: the set that was handed in may be theirs.
    fn lost(&self) -> BTreeSet<Name> {
        let named = [self.root.current(), self.root.lkg()].into_iter().filter_map(|link| link.ok().flatten());
        let gone = |name: &Name| durable::exists(self.root.disk(), &layout::generation(name)).is_ok_and(|there| !there);
        named.filter(|_| self.from.is_some()).filter(gone).collect()
    }

    fn generation(&self, damaged: &Name, recorder: &mut Recorder<'_>) -> Result<String, Reasons> {
        let path = layout::generation(damaged);
        let there = durable::exists(self.root.disk(), &path).map_err(|error| reasons_of(&error))?;
        if !there && self.from.is_none() {
            return Ok(String::new());
        }
        let staged = self.root.journal()?.filter(|journal| journal.phase.is_before_switch());
        if staged.is_some_and(|journal| journal.generation == *damaged) {
            self.transaction(recorder).discard_staged().map_err(ApplyError::into_reasons)?;
            return Ok(format!("{damaged}, which was staged and damaged, is removed; apply its set again"));
        }
        let loaded = check::loaded(self.root).ok_or_else(|| untrusted(damaged))?;
        let sources = Sources { root: self.root, loaded: &loaded, from: self.from, options: self.options };
        let fresh = restage(&sources, damaged, self.transaction(recorder));
        let (fresh, note) = match fresh {
            Ok(fresh) => (fresh, String::new()),
            Err(ApplyError::RolledBack { reason, active: Some(active) }) => (active, format!(" ({reason})")),
            Err(error) => {
                let reasons = error.into_reasons().into_vec();
                let told = |reason: Reason| {
                    let message = format!("{damaged} cannot be staged again: {}", reason.message);
                    Reason::new(reason.code, message).with_remedy("give its set with `--from SET`")
                };
                return Err(Reasons::new(reasons.into_iter().map(told).collect()).unwrap_or_else(|| untrusted(damaged)));
            }
        };
        if !there {
            return Ok(format!("{damaged}, which was gone, is staged again as {fresh}{note}"));
        }
        let aside = set_aside(self.root.disk(), &path).map_err(|error| reasons_of(&error))?;
        Ok(format!("{damaged} is staged again as {fresh}{note}; the damaged one is in {aside}"))
    }

    /// Points `current` and `lkg` to generations that are there and whole.
    fn links(&mut self) -> Result<(), Reasons> {
        let mut links = Report::default();
        check::links(self.root, &mut links)?;
        let wants = |mend: &Mend| links.findings.iter().any(|finding| finding.mend == *mend);
        if !wants(&Mend::Current) && !wants(&Mend::Lkg) {
            return Ok(());
        }
        // What is whole now, after the repairs, takes a look at every byte.
        let report = look(self.root, self.options)?;
        let damaged: BTreeSet<&Name> = report
            .findings
            .iter()
            .filter_map(|finding| if let Mend::Generation(name) = &finding.mend { Some(name) } else { None })
            .collect();
        let names = self.root.generations().map_err(|error| reasons_of(&error))?;
        let whole = |name: &Name| names.contains(name) && !damaged.contains(name);
        if wants(&Mend::Current) {
            let lkg = self.root.lkg()?.filter(|lkg| whole(lkg));
            let result = match &lkg {
                Some(lkg) => reinstate_current(self.root, self.held, lkg)
                    .map(|()| format!("`current` points to {lkg}, the last known good generation"))
                    .map_err(|error| reasons_of(&error)),
                None => Err(nothing_for(&layout::current())),
            };
            self.note(result);
        }
        if wants(&Mend::Lkg) {
            let result = match self.good(&whole)? {
                Some(good) => reinstate_lkg(self.root, self.held, &good)
                    .map(|()| format!("`lkg` points to {good}"))
                    .map_err(|error| reasons_of(&error)),
                None => Err(nothing_for(&layout::lkg())),
            };
            self.note(result);
        }
        Ok(())
    }

    /// What was known good: by the journal, when it says that it came to its end; else by the records, newest first. A
    /// generation that was staged again since has another number.
    fn good(&self, whole: &dyn Fn(&Name) -> bool) -> Result<Option<Name>, Reasons> {
        let journal = self.root.journal()?.filter(|journal| journal.phase == Phase::Confirmed);
        let acts = history(self.root)?;
        let ended =
            acts.iter().rev().filter(|act| matches!(act.outcome.as_str(), "applied" | "confirmed" | "returned"));
        let recorded = ended.filter_map(|act| act.made_active()?.parse::<Name>().ok());
        let pinned = self.root.pinned()?;
        let names = self.root.generations().map_err(|error| reasons_of(&error))?;
        for good in journal.map(|journal| journal.generation).into_iter().chain(recorded) {
            let same = |name: &&Name| generation::are_same_manifest(name, &good);
            let found = names.iter().rev().filter(same).find(|name| {
                let manifest = autonomy_sets::manifest_of(self.root, name).map(|(_, fingerprint)| fingerprint);
                whole(name) && manifest.is_some_and(|manifest| !pinned.contains(&manifest))
            });
            if let Some(found) = found {
                return Ok(Some(found.clone()));
            }
        }
        Ok(None)
    }

    fn floors(&self, proof: &Name) -> Result<String, Reasons> {
        let loaded = check::loaded(self.root).ok_or_else(|| untrusted(proof))?;
        // The generation may have another name since it was staged again.
        let found = documents(self.root, &loaded, proof, Purpose::Recover, self.options);
        let Ok(found) = found else { return Ok(String::new()) };
        let floors = self.root.floors()?.unwrap_or_default();
        let raised = check::witnessed(&floors, &found.manifest, &loaded.root);
        if raised == floors {
            return Ok(String::new());
        }
        self.root.write_floors(&raised).map_err(|error| reasons_of(&error))?;
        Ok(format!("the floors are at serial {} again", found.manifest.document().metadata.serial))
    }
}

fn returned(reason: &Reason, active: Option<&Name>) -> String {
    let active = active.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    format!("{reason}, so {active} is active")
}

fn untrusted(generation: &Name) -> Reasons {
    let message = format!("{generation} cannot be judged while node.yaml or the trust root is damaged");
    Reason::new(autonomy_schema::Code::CorruptState, message).into()
}

fn nothing_for(link: &RelPath) -> Reasons {
    let message = format!("no whole generation is known for `{link}`");
    let remedy = "name one with `autonomy rollback`, or restore a backup";
    Reason::new(autonomy_schema::Code::CorruptState, message).with_remedy(remedy).into()
}

/// What a finished repair is in JSON.
impl Repaired {
    /// For scripts.
    pub fn to_json(&self) -> Value {
        json!({ "repaired": self.done, "failed": self.failed, "report": self.report })
    }
}
