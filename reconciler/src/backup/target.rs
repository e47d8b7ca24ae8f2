//! The folder that a backup is restored to, as it is found.

use std::collections::BTreeSet;

use autonomy_schema::floors::Floors;
use autonomy_schema::journal::{Journal, Phase};
use autonomy_schema::node::Node;
use autonomy_schema::{Code, Name, Reason, Reasons, RelPath};
use autonomy_stateroot::{DiskError, ReadError, StatCache, StateRoot, durable, layout, learn, read_capped};
use autonomy_trust::{AttestKey, PinnedRoot};

use super::MAX_KEY_BYTES;
use super::archive::{Archive, Links};
use super::check::{self, Generations};
use super::plan::Plan;
use autonomy_sets::roots::{earliest_reset, extend, floors_under, pinned_root};

/// How the attest key pair was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    Whole,
    /// The private key is there, so the public half can be made again: this PEM.
    PublicLost(String),
    Lost,
}

/// What a folder says of itself. Whatever cannot be read counts as absent, save where that would make it younger.
pub(super) struct Target<'a> {
    pub(super) root: &'a StateRoot,
    /// Who it is.
    pub(super) node: Option<Node>,
    pub(super) identity: Identity,
    /// The trust root that judges: its own, or that of the backup where the node has none, or an older one that leads to
    /// it.
    pub(super) trust: PinnedRoot,
    /// Whether that is the backup's, and is to be pinned.
    pub(super) adopts: bool,
    /// Earlier roots of the backup that lead to the node's own, which had lost them.
    pub(super) refills: Vec<u64>,
    /// Its own floors.
    pub(super) floors: Option<Floors>,
    /// What it proves that it has seen: its floors, and every signed manifest that lies in it.
    proven: Floors,
    pub(super) links: Links,
    /// Its journal, or what is wrong with it.
    pub(super) journal: Result<Option<Journal>, Reasons>,
    /// Generations that are there.
    pub(super) present: BTreeSet<Name>,
    /// Those of them that are whole.
    pub(super) whole: Generations,
}

impl<'a> Target<'a> {
    /// Looks the folder over, reading every file of its generations.
    pub(super) fn of(root: &'a StateRoot, archive: &Archive) -> Result<Self, Reasons> {
        let disk_failed = |error: DiskError| Reasons::from(error.to_reason());
        let present: BTreeSet<Name> = root.generations().map_err(disk_failed)?.into_iter().collect();
        let node = if root.is_initialized().map_err(disk_failed)? { root.node().ok() } else { None };
        let floors = root.floors().ok().flatten();
        // Whether it was ever more than a folder that was about to become a state root: then what it has is kept.
        let inhabited = root.is_initialized().map_err(disk_failed)?
            || !present.is_empty()
            || floors.as_ref().is_some_and(|floors| !floors.streams.is_empty())
            || durable::exists(root.disk(), &layout::audit_log()).map_err(disk_failed)?;
        let floors = floors.filter(|_| inhabited);
        let own = if inhabited { pinned_root(root).ok() } else { None };
        is_that_node(root, node.as_ref(), inhabited, archive)?;
        let seen = floors.as_ref().map_or(0, |floors| floors.root_version);
        if own.is_none() && archive.trust().document().version < seen {
            let (version, path) = (archive.trust().document().version, layout::trust_root());
            let message = format!(
                "`{path}` is damaged, this node has seen version {seen}, and the backup has version {version}: whoever signed \
                 under an old root would be trusted again"
            );
            let remedy =
                "run `autonomy fsck --repair`, which takes the root that is kept here, or restore a newer backup";
            return Err(Reason::new(Code::RootGap, message).with_remedy(remedy).into());
        }
        let (mut trust, adopts) = judging(own, archive)?;
        let refilled = extend(&mut trust, |version| archive.root().kept_root(version));
        let refills = refilled.into_iter().map(|(version, _)| version).collect();
        let identity = if inhabited { identity(root).map_err(disk_failed)? } else { Identity::Lost };
        let mut target = Self {
            root,
            node,
            identity,
            trust,
            adopts,
            refills,
            proven: floors.clone().unwrap_or_default(),
            floors,
            links: Links { current: root.current().ok().flatten(), lkg: root.lkg().ok().flatten() },
            journal: root.journal(),
            present,
            whole: Generations::new(),
        };
        // A change that came this far had raised the floors.
        if let Some(journal) =
            target.journal().filter(|journal| !matches!(journal.phase, Phase::Intent | Phase::Staged))
        {
            target.proven = target.proven.proven_by(&journal.stream, journal.serial, journal.manifest);
        }
        target.look_at_generations()?;
        Ok(target)
    }

    fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref().ok().and_then(Option::as_ref)
    }

    /// The journal of what is active and not proven yet.
    pub(super) fn unproven(&self) -> Option<&Journal> {
        let is_open = |journal: &&Journal| matches!(journal.phase, Phase::Switched | Phase::Waiting);
        self.journal().filter(is_open).filter(|journal| journal.failure.is_none())
    }

    fn look_at_generations(&mut self) -> Result<(), Reasons> {
        let trust = &self.trust;
        let reset = earliest_reset(trust);
        for name in &self.present {
            let mut cache = StatCache::default();
            learn(self.root, name, &mut cache).map_err(|error| error.to_reason())?;
            let Ok(manifest) = check::manifest(self.root, name, trust) else { continue };
            // It lies here, so it was admitted here; damage beside the manifest makes that no less true.
            self.proven = self.proven.witnessed_by(manifest.document(), manifest.fingerprint(), reset);
            if self.links.lkg.as_ref() == Some(name) {
                self.proven = self.proven.promoted_by(&manifest.document().metadata.name);
            }
            if let Ok(manifest) = check::whole(self.root, name, trust, &cache) {
                self.whole.insert(name.clone(), manifest);
            }
        }
        Ok(())
    }

    /// Whether an apply was cut off here.
    pub(super) fn is_unfinished(&self) -> bool {
        let journal = self.journal();
        self.node.is_some() && journal.is_some_and(|journal| !journal.phase.is_final())
    }

    /// What a plan leaves as it is, in words.
    pub(super) fn describe_kept(&self, plan: &Plan) -> Vec<String> {
        let mut kept: Vec<String> = self.whole.keys().map(|name| format!("generation {name}")).collect();
        if let Some(current) = self.links.current.as_ref().filter(|_| plan.current.is_none()) {
            kept.push(format!("current -> {current}"));
        }
        if self.floors.is_some() && plan.floors.is_none() {
            kept.push("floors, which are as high as the backup's or higher".to_owned());
        }
        kept
    }

    /// Its floors and the backup's, value by value the higher.
    pub(super) fn floors_with(&self, archive: &Archive) -> Floors {
        let under = |floors: &Floors| floors_under(floors, &self.trust);
        under(&self.proven).merged(&under(archive.floors()))
    }

    /// Whether a generation of the backup may become active, or last known good, again. It must not lie below what the node
    /// itself has seen, unless a link of the node says that it was so: a release that failed has raised the floor, and
    /// the one before it is active still.
    pub(super) fn admits(&self, wanted: &Name, held: &Generations, backed_up: &Floors) -> Result<(), Reasons> {
        let Some(manifest) = held.get(wanted) else {
            return Err(Reason::new(Code::MissingFile, format!("generation `{wanted}` is nowhere whole")).into());
        };
        let metadata = &manifest.document().metadata;
        let serial_in = |floors: &Floors| floors.streams.get(&metadata.name).map_or(0, |floor| floor.serial);
        let seen = serial_in(&self.proven);
        let before = self.unproven().and_then(|journal| journal.previous.as_ref());
        let links = [self.links.current.as_ref(), self.links.lkg.as_ref(), before];
        let own = links.into_iter().flatten().any(|name| name == wanted);
        // Before `node.yaml` is there the node has seen nothing but what this backup, or one before it, brought.
        let unfinished = self.node.is_none() && seen <= serial_in(backed_up);
        if own || unfinished || metadata.serial >= seen {
            return Ok(());
        }
        let message = format!(
            "the backup's generation `{wanted}` has serial {}, below {seen}, which this node has seen of stream `{}`",
            metadata.serial, metadata.name
        );
        let remedy = "restore a newer backup, or apply a set with that serial or a higher one";
        Err(Reason::new(Code::SerialTooLow, message).with_remedy(remedy).into())
    }
}

/// Nothing of another node's is mixed in.
fn is_that_node(root: &StateRoot, node: Option<&Node>, inhabited: bool, archive: &Archive) -> Result<(), Reasons> {
    let wanted = archive.node();
    let refused = |message: String| {
        let remedy = "restore it on its own node, or into an empty folder";
        Err(Reason::new(Code::ScopeMismatch, message).with_remedy(remedy).into())
    };
    let of = format!("the backup is of node `{}` of fleet `{}`", wanted.node_id, wanted.fleet);
    match node {
        Some(node) if (&node.node_id, &node.fleet) == (&wanted.node_id, &wanted.fleet) => Ok(()),
        Some(node) => refused(format!("{of}; this is node `{}` of fleet `{}`", node.node_id, node.fleet)),
        None if !inhabited => Ok(()),
        None => {
            // Without a readable `node.yaml` the attest key says whose the folder is.
            let public =
                |root: &StateRoot| read_capped(root.disk(), &layout::attest_pub(), MAX_KEY_BYTES).ok().flatten();
            let (here, there) = (public(root), public(archive.root()));
            if here.is_some() && here == there {
                return Ok(());
            }
            refused(format!(
                "{of}; this folder has no `node.yaml` that can be read, and its attest key is not that node's"
            ))
        }
    }
}

/// Which root judges, the node's own or the backup's, and whether it is the backup's. The one must lead to the other.
fn judging(own: Option<PinnedRoot>, archive: &Archive) -> Result<(PinnedRoot, bool), Reasons> {
    let theirs = archive.trust();
    let Some(own) = own else { return Ok((theirs.clone(), true)) };
    let (here, there) = (own.document().version, theirs.document().version);
    let (newer, older) = if there > here { (theirs, &own) } else { (&own, theirs) };
    if newer.continues(older) {
        return Ok(if there > here { (theirs.clone(), true) } else { (own, false) });
    }
    let (code, why) = match newer.of_version(older.document().version) {
        Some(_) => (Code::RootForked, "another one of that version is known"),
        // A backup from before the roots that are kept here says nothing against them.
        None if there < here => return Ok((own, false)),
        None => (Code::RootGap, "the roots between them are not in the backup"),
    };
    let message = format!("the backup is of trust root version {there}, and version {here} is pinned here: {why}");
    Err(Reason::new(code, message).into())
}

/// Whether the attest key of a state root can be read, and its public half is its own.
pub(crate) fn identity(root: &StateRoot) -> Result<Identity, DiskError> {
    let read = |path: &RelPath| match read_capped(root.disk(), path, MAX_KEY_BYTES) {
        Ok(bytes) => Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok())),
        Err(ReadError::TooLarge { .. }) => Ok(None),
        Err(ReadError::Disk(error)) => Err(error),
    };
    let Some(key) = read(&layout::attest_key())?.and_then(|pem| AttestKey::from_pem(&pem).ok()) else {
        return Ok(Identity::Lost);
    };
    let whole = read(&layout::attest_pub())?.is_some_and(|public| public.trim() == key.public_pem().trim());
    Ok(if whole { Identity::Whole } else { Identity::PublicLost(key.public_pem().to_owned()) })
}
