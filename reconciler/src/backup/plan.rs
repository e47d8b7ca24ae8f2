//! What a restore would do to a node: decided by looking alone, so that a refusal has written nothing. What is right
//! stays; what is missing or damaged comes from the backup; floors are the highest that anybody proves.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_schema::floors::Floors;
use autonomy_schema::journal::Phase;
use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, RelPath};
use autonomy_stateroot::{DiskError, FileKind, ObjectStore, Pins, StatCache, StateRoot, durable, layout, read_capped};

use super::MAX_KEY_BYTES;
use super::archive::Archive;
use super::check::Generations;
use super::medium::{Body, Node};
use super::places;
use super::target::{self, Identity, Target};

/// As many files are named one by one.
const MAX_SHOWN: usize = 20;

/// What is to be done. Every list is in the order of execution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Folders that are missing, parents first.
    pub(super) folders: Vec<RelPath>,
    /// Roles whose telemetry is missing as a whole.
    pub(super) roles: Vec<RelPath>,
    /// The attest key pair: written first, as it says whose the folder is until `node.yaml` does.
    pub(super) identity: Vec<RelPath>,
    /// The public key, where only that is lost.
    pub(super) public_key: Option<String>,
    /// The audit trail, before anything is written into it.
    pub(super) audit: Vec<RelPath>,
    /// The trust root with its signatures.
    pub(super) trust: Vec<RelPath>,
    /// Files that are missing.
    pub(super) files: Vec<RelPath>,
    /// Whether the journal comes from the backup.
    pub(super) journal: bool,
    /// What the floors become, where they change.
    pub(super) floors: Option<Floors>,
    /// What the pinned manifests become, where they change.
    pub(super) pinned: Option<BTreeSet<Blake3>>,
    /// Damaged things that are moved to `quarantine/` before they are written anew.
    pub(super) set_aside: Vec<RelPath>,
    /// Objects that are missing or damaged.
    pub(super) objects: Vec<RelPath>,
    /// Generations that are missing, and those that are damaged.
    pub(super) generations: BTreeMap<Name, Found>,
    /// Entries of the outbox.
    pub(super) outbox: Vec<(RelPath, String)>,
    /// Slots of the node's own policy.
    pub(super) slots: Vec<(RelPath, String)>,
    /// Links that are pointed anew.
    pub(super) lkg: Option<Name>,
    /// The same.
    pub(super) current: Option<Name>,
    /// Whether `node.yaml` is written, last of all.
    pub(super) node: bool,
    /// What stays as it is although the backup has something else, and what could not be helped.
    pub(super) notes: Vec<String>,
}

/// How a generation of the backup was found on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Missing,
    Damaged,
}

impl Plan {
    /// Looks at the node and decides.
    pub(super) fn of(target: &Target<'_>, archive: &Archive) -> Result<Self, Reasons> {
        let held = archive.generations(&target.trust)?;
        let mut plan = Self::default();
        plan.generations(target, &held).map_err(|error| error.to_reason())?;
        let floors = target.floors_with(archive);
        plan.links(target, archive, &held)?;
        plan.floors = (target.floors.as_ref() != Some(&floors)).then_some(floors);
        plan.node = target.node.is_none();
        plan.documents(target, archive)?;
        plan.entries(target.root, archive).map_err(|error| error.to_reason())?;
        plan.outbox(target, archive).map_err(|error| error.to_reason())?;
        plan.slots(target.root, archive).map_err(|error| error.to_reason())?;
        Ok(plan)
    }

    /// Whether nothing is to be done.
    pub(super) fn is_empty(&self) -> bool {
        Self { notes: Vec::new(), ..self.clone() } == Self::default()
    }

    /// What will be written, in words.
    pub(super) fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut say = |said: bool, line: &str| {
            if said {
                lines.push(line.to_owned());
            }
        };
        say(!self.identity.is_empty(), "the attest key");
        say(self.public_key.is_some(), "the public attest key, from the private one");
        say(!self.audit.is_empty(), "the audit trail");
        say(!self.trust.is_empty(), "the trust root");
        say(self.floors.is_some(), "floors, merged by maximum");
        say(self.pinned.is_some(), "the list of pinned manifests");
        say(self.journal, "the journal");
        say(self.node, "node.yaml");
        lines.extend(self.roles.iter().map(|role| format!("the logs in {role}")));
        lines.extend(self.set_aside.iter().map(|path| format!("{path}, damaged: moved to quarantine/")));
        lines.extend(self.generations.iter().map(|(name, found)| match found {
            Found::Missing => format!("generation {name}"),
            Found::Damaged => format!("generation {name}; the damaged one is in quarantine/"),
        }));
        for (count, what) in [
            (self.folders.len(), "folders"),
            (self.objects.len(), "objects"),
            (self.outbox.len(), "entries of the outbox"),
            (self.slots.len(), "slots of the policy"),
            (self.files.len().saturating_sub(MAX_SHOWN), "more files"),
        ] {
            lines.extend((count > 0).then(|| format!("{what}: {count}")));
        }
        lines.extend(self.files.iter().take(MAX_SHOWN).map(ToString::to_string));
        lines.extend(self.lkg.iter().map(|name| format!("lkg -> {name}")));
        lines.extend(self.current.iter().map(|name| format!("current -> {name}")));
        lines
    }

    fn generations(&mut self, target: &Target<'_>, held: &Generations) -> Result<(), DiskError> {
        for name in held.keys() {
            if target.whole.contains_key(name) {
                continue;
            }
            let there = durable::exists(target.root.disk(), &layout::generation(name))?;
            self.generations.insert(name.clone(), if there { Found::Damaged } else { Found::Missing });
        }
        for name in target.present.iter().filter(|name| !target.whole.contains_key(*name) && !held.contains_key(*name))
        {
            self.notes.push(format!("generation `{name}` is damaged, and the backup lacks it"));
        }
        Ok(())
    }

    /// A link that points to something whole stays, now or once the generation is written. Another one comes from the
    /// backup, if that makes the node no older.
    fn links(&mut self, target: &Target<'_>, archive: &Archive, held: &Generations) -> Result<(), Reasons> {
        let will_be_whole = |name: &Name| target.whole.contains_key(name) || held.contains_key(name);
        let (current, lkg) = (target.links.current.as_ref(), target.links.lkg.as_ref());
        let links = archive.links();
        // What the node's own journal says is active, and not proven yet, is active: its wait goes on.
        let unproven = target.unproven().map(|journal| &journal.generation);
        if current.is_none_or(|name| !will_be_whole(name))
            && let Some(wanted) = unproven.filter(|name| will_be_whole(name))
        {
            self.current = Some(wanted.clone());
        } else if current.is_none_or(|name| !will_be_whole(name))
            && let Some(wanted) = &links.current
        {
            target.admits(wanted, held, archive.floors())?;
            self.current = Some(wanted.clone());
        } else if let Some(name) = current.filter(|name| !will_be_whole(name)) {
            let message =
                format!("`current` points to `{name}`, which is not whole, and the backup has none to put there");
            return Err(Reason::new(Code::CorruptState, message).into());
        }
        let active = self.current.as_ref().or(current);
        if let Some(lost) = unproven.filter(|name| Some(*name) != active) {
            self.set_aside.push(layout::journal());
            self.notes.push(format!("the journal is of `{lost}`, which is nowhere whole"));
        }
        if lkg.is_some_and(will_be_whole) {
            return Ok(());
        }
        // The journal says it where the link does not.
        let confirmed = target
            .journal
            .as_ref()
            .ok()
            .and_then(Option::as_ref)
            .filter(|journal| journal.phase == Phase::Confirmed && Some(&journal.generation) == active);
        let wanted = match (confirmed, &links.lkg) {
            (Some(journal), _) => Some(journal.generation.clone()),
            (None, Some(wanted)) => match target.admits(wanted, held, archive.floors()) {
                Ok(()) => Some(wanted.clone()),
                Err(reasons) => {
                    self.notes.push(format!("`lkg` is left without a generation: {reasons}"));
                    None
                }
            },
            (None, None) => None,
        };
        self.lkg = wanted;
        Ok(())
    }

    /// Documents that are judged by what they say: identity, trust root, pins, journal.
    fn documents(&mut self, target: &Target<'_>, archive: &Archive) -> Result<(), Reasons> {
        let root = target.root;
        match &target.identity {
            Identity::Whole => {}
            Identity::PublicLost(pem) => self.public_key = Some(pem.clone()),
            Identity::Lost => match target::identity(archive.root()).map_err(|error| error.to_reason())? {
                Identity::Whole => self.identity.extend([layout::attest_key(), layout::attest_pub()]),
                Identity::PublicLost(_) | Identity::Lost => {
                    self.notes.push("neither the node nor the backup has a whole attest key".to_owned());
                }
            },
        }
        for version in &target.refills {
            self.trust.extend([layout::kept_root_signatures(*version), layout::kept_root(*version)]);
        }
        if target.adopts {
            // As when a root is pinned: the ones that are kept first, `trust/root.json` last.
            for root in archive.trust().earlier().iter().rev().chain([archive.trust()]) {
                let version = root.document().version;
                let kept = [layout::kept_root_signatures(version), layout::kept_root(version)];
                self.trust.extend(kept.into_iter().filter(|path| archive.medium().node(path).is_some()));
            }
            self.trust.extend([layout::trust_root_signatures(), layout::trust_root()]);
        }
        for link in [layout::current(), layout::lkg()] {
            let stat = target.root.disk().stat(&link).map_err(|error| error.to_reason())?;
            if stat.is_some_and(|stat| stat.kind != FileKind::Symlink) {
                self.set_aside.push(link);
            }
        }
        match root.pinned() {
            Ok(pinned) => {
                let all: BTreeSet<Blake3> = pinned.union(archive.pinned()).copied().collect();
                self.pinned = (all != pinned).then_some(all);
            }
            Err(_damaged) => {
                self.set_aside.push(layout::pins());
                self.pinned = Some(archive.pinned().clone());
            }
        }
        self.journal(target, archive);
        Ok(())
    }

    /// A journal tells of what `current` points to; that of the backup tells nothing of another generation.
    fn journal(&mut self, target: &Target<'_>, archive: &Archive) {
        let active = self.current.as_ref().or(target.links.current.as_ref());
        let fits = archive.journal().is_some() && active == archive.links().current.as_ref();
        match &target.journal {
            Ok(Some(_)) if !self.set_aside.contains(&layout::journal()) => return,
            Ok(_) => {}
            Err(_damaged) => {
                self.set_aside.push(layout::journal());
                if !fits {
                    self.notes.push("the journal is damaged; that of the backup is of another generation".to_owned());
                }
            }
        }
        self.journal = fits;
    }

    /// Everything else, by path.
    fn entries(&mut self, root: &StateRoot, archive: &Archive) -> Result<(), DiskError> {
        let disk = root.disk();
        let judged = [
            layout::node_yaml(),
            layout::floors(),
            layout::trust_root(),
            layout::trust_root_signatures(),
            layout::attest_key(),
            layout::attest_pub(),
            layout::pins(),
            layout::journal(),
        ];
        for folder in layout::folders() {
            if disk.stat(&folder)?.is_none() {
                self.folders.push(folder);
            }
        }
        // Evidence of another node's past, or of a later one of this node, does not follow from what is here; and what
        // another key signed is believed by nobody here.
        let key = |root: &StateRoot| read_capped(root.disk(), &layout::attest_pub(), MAX_KEY_BYTES).ok().flatten();
        let has_other_key = !self.identity.contains(&layout::attest_pub()) && key(root) != key(archive.root());
        let has_evidence = disk.stat(&layout::epoch())?.is_some() || has_other_key;
        for (path, node) in archive.medium().nodes() {
            let top = path.components().next().unwrap_or_default();
            if top == "epoch" && has_evidence {
                continue;
            }
            if top == "generations" || judged.contains(path) || self.trust.contains(path) || places::is_link(path) {
                continue;
            }
            if let Some(role) = role_of(path) {
                // The files of a log belong together, so a role's come as one or not at all.
                if *path == role && durable_entries(root, &role)?.is_empty() {
                    self.roles.push(role);
                }
                continue;
            }
            match node {
                Node::File(body) if top == "objects" => self.object(root, path, body)?,
                Node::File(_) if disk.stat(path)?.is_some() => {}
                Node::File(_) if top == "audit" => self.audit.push(path.clone()),
                Node::File(_) => self.files.push(path.clone()),
                Node::Folder(_) if disk.stat(path)?.is_none() && !self.folders.contains(path) => {
                    self.folders.push(path.clone());
                }
                Node::Folder(_) | Node::Symlink(_) => {}
            }
        }
        Ok(())
    }

    fn object(&mut self, root: &StateRoot, path: &RelPath, body: &Body) -> Result<(), DiskError> {
        let pins = pins(body);
        // A name that is not that of the content is nobody's object.
        let sound = layout::object(pins.blake3, pins.mode) == *path;
        if sound && !ObjectStore::new(root).holds(&pins, &StatCache::default())? {
            self.objects.push(path.clone());
        }
        Ok(())
    }

    /// Entries of the outbox that are missing, save those of releases that failed here.
    fn outbox(&mut self, target: &Target<'_>, archive: &Archive) -> Result<(), DiskError> {
        let mut failed = archive.pinned().clone();
        failed.extend(target.root.pinned().unwrap_or_default());
        for (path, node) in archive.medium().nodes() {
            let Node::Symlink(text) = node else { continue };
            let Some(manifest) = path.as_str().strip_prefix("outbox/") else { continue };
            let manifest = format!("blake3:{manifest}").parse::<Blake3>();
            if !durable::exists(target.root.disk(), path)? && manifest.is_ok_and(|name| !failed.contains(&name)) {
                self.outbox.push((path.clone(), text.clone()));
            }
        }
        Ok(())
    }
}

impl Plan {
    /// Slots that are missing. What they name is verified whenever it is asked.
    fn slots(&mut self, root: &StateRoot, archive: &Archive) -> Result<(), DiskError> {
        for (path, node) in archive.medium().nodes() {
            let Node::Symlink(text) = node else { continue };
            if places::is_policy_slot(path) && root.disk().read_link(path).ok().flatten().is_none() {
                self.slots.push((path.clone(), text.clone()));
            }
        }
        Ok(())
    }
}

/// What the bytes of the archive must be when they are read again.
pub(super) fn pins(body: &Body) -> Pins {
    Pins { size: body.size, sha256: Some(body.digests.1), blake3: body.digests.0, mode: body.mode }
}

/// The folder of the role whose telemetry a path is, if it is.
pub(super) fn role_of(path: &RelPath) -> Option<RelPath> {
    let mut parts = path.components();
    let (top, role) = (parts.next()?, parts.next()?);
    (top == "telemetry").then(|| format!("{top}/{role}").parse().ok()).flatten()
}

/// What lies in a folder, locks aside; nothing when there is none.
fn durable_entries(root: &StateRoot, folder: &RelPath) -> Result<Vec<String>, DiskError> {
    let entries = match root.disk().list(Some(folder)) {
        Ok(entries) => entries,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let kept = entries.into_iter().filter(|entry| entry.kind != FileKind::File || !places::is_lock(&entry.name));
    Ok(kept.map(|entry| entry.name).collect())
}
