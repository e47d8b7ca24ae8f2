//! What lies on a medium into the inbox: verified, stored, activated by nobody. `reconcile` takes it from there.

use std::path::Path;
use std::sync::Arc;

use autonomy_apply::{ServiceRunner, Silent};
use autonomy_oci::Layout;
use autonomy_schema::{Blake3, Code, Reason, Reasons, StateManifest, document, set};
use autonomy_stateroot::{
    ActivationLock, DirSet, DiskError, FillError, SetSource, StatCache, StateRoot, Unfolded, Writer, durable, layout,
    read_file,
};
use autonomy_trust::{Purpose, scope_reasons};
use serde_json::json;

use crate::delta::complete;
use crate::judge::Options;
use crate::record::{Actor, Recorder};
use crate::recovery::{recover_held, told};
use crate::trust::{Offer, OlderList, offer_of, take_offered};
use autonomy_sets::manifest_of;
use autonomy_sets::{Putting, SetCheck, VerifiedSet, put_in_inbox, verify_set};
use autonomy_sets::{inbox_entries, load};

mod custody;

use custody::sign_for;

/// A set on a medium, with the eyes of this node.
#[derive(Debug, Clone)]
pub struct OnMedium {
    /// How it is named there.
    pub name: String,
    /// Its manifest with its fingerprint, where it can be read. It is what the set says of itself: nothing of it counts
    /// when `standing` is a refusal.
    pub says: Option<(StateManifest, Blake3)>,
    /// What importing it would come to, or came to.
    pub standing: Standing,
}

/// How a set on a medium stands to this node.
#[derive(Debug, Clone)]
pub enum Standing {
    /// It verifies, and is not here yet.
    Takes,
    /// It is in the inbox, or it is what the node runs.
    Here,
    /// It is signed for other nodes, or for this one and older than what it has seen.
    NotForUs(Reasons),
    /// It is not whole, or does not verify.
    Refused(Reasons),
}

/// What an import came to.
#[derive(Debug)]
pub struct Import {
    /// The sets of the medium, by stream and serial.
    pub sets: Vec<OnMedium>,
    /// What it brings of whom nodes trust, newer than what is here.
    pub trust: TrustOnMedium,
    /// What is wrong with the medium although it could be read, a record that could not be written, what a recovery did
    /// first.
    pub warnings: Vec<String>,
}

/// What a medium brings of whom nodes trust.
#[derive(Debug, Clone, Default)]
pub struct TrustOnMedium {
    /// Versions of newer roots that hold, oldest first.
    pub roots: Vec<u64>,
    /// Number of a newer revocation list that holds.
    pub revocation: Option<u64>,
    /// What does not hold.
    pub refused: Vec<Reason>,
}

impl TrustOnMedium {
    /// Looks at what a medium brings, and does with it what `each` does.
    fn look(found: &[Found], each: impl Fn(&dyn SetSource) -> Result<Offer, Reasons>) -> Self {
        let mut trust = Self::default();
        for (_, medium) in found {
            match medium.as_ref().map_err(Clone::clone).and_then(|medium| each(&**medium)) {
                Ok(offer) => {
                    trust.roots.extend(offer.roots.iter().map(|root| root.version));
                    trust.revocation = offer.revocation.or(trust.revocation);
                    trust.refused.extend(offer.refusal.into_iter().flat_map(Reasons::into_vec));
                }
                Err(reasons) => trust.refused.extend(reasons.into_vec()),
            }
        }
        trust
    }
}

impl Import {
    /// Why not everything that should have come did; `None` when it did.
    pub fn refusal(&self) -> Option<Reasons> {
        let (mut refused, mut other, mut here) = (self.trust.refused.clone(), Vec::new(), false);
        for found in &self.sets {
            match &found.standing {
                Standing::Takes | Standing::Here => here = true,
                Standing::Refused(reasons) => refused.extend(reasons.as_slice().iter().cloned()),
                Standing::NotForUs(reasons) => other.extend(reasons.as_slice().iter().cloned()),
            }
        }
        if refused.is_empty() && !here {
            refused = other;
        }
        Reasons::new(refused)
    }
}

/// A set of a medium, or why it cannot be read, and how it is named there.
type Found = (String, Result<Box<dyn SetSource>, Reasons>);

/// A medium: the sets on it, and the layout that they lie in.
struct Medium {
    sets: Vec<Found>,
    trust: Vec<Found>,
    layout: Option<Arc<Layout>>,
}

impl Medium {
    fn warnings(&self) -> Vec<String> {
        self.layout.as_ref().map(|layout| layout.warnings()).unwrap_or_default()
    }
}

/// Opens a medium: a layout, or a set by itself. What its sets leave out comes from the state root, or from each other.
fn medium(root: &StateRoot, path: &Path) -> Result<Medium, Reasons> {
    let folder = DirSet::open(path).map_err(|error| Reasons::from(error.to_reason()))?;
    if read_file(&folder, set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64)?.is_some() {
        // What was pulled has its trees as they lie in a registry.
        let (name, set) = (folder.describe(), Unfolded::new(Box::new(folder)));
        return Ok(Medium { sets: vec![(name, Ok(Box::new(set)))], trust: Vec::new(), layout: None });
    }
    let layout = Arc::new(Layout::open(path)?);
    layout.check()?;
    let whole = |set| complete(set, Some(root));
    let sets: Vec<Found> = layout.sets().into_iter().map(|(name, set)| (name, set.map(whole))).collect();
    if sets.is_empty() {
        return Err(Reason::new(Code::MissingFile, format!("`{}` holds no set", path.display())).into());
    }
    let boxed = |set| Box::new(set) as Box<dyn SetSource>;
    let trust = layout.trust().into_iter().map(|(name, trust)| (name, trust.map(boxed))).collect();
    Ok(Medium { sets, trust, layout: Some(layout) })
}

/// A set that verified.
type Judged = (Box<dyn SetSource>, VerifiedSet);

/// What was found on a medium, and what is taken of it.
struct Seen {
    told: OnMedium,
    takes: Option<Judged>,
}

/// Looks at every set, in order of stream and signed serial: later ones may build on earlier ones.
fn look(root: &StateRoot, sets: Vec<Found>, options: &Options<'_>) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (name, set) in sets {
        let mut told = OnMedium { name, says: None, standing: Standing::Here };
        let takes = match set.and_then(|set| judge(root, set, &mut told.says, options)) {
            Ok(takes) => takes,
            Err(reasons) => {
                told.standing = standing_of(reasons);
                None
            }
        };
        if takes.is_some() {
            told.standing = Standing::Takes;
        }
        seen.push(Seen { told, takes });
    }
    let key = |seen: &Seen| {
        seen.told.says.as_ref().map(|(manifest, _)| (manifest.metadata.name.clone(), manifest.metadata.serial))
    };
    seen.sort_by_key(key);
    seen
}

/// Verifies a set; `None` when it is here already.
fn judge(
    root: &StateRoot,
    set: Box<dyn SetSource>,
    says: &mut Option<(StateManifest, Blake3)>,
    options: &Options<'_>,
) -> Result<Option<Judged>, Reasons> {
    let bytes = read_file(&*set, set::MANIFEST, document::MAX_DOCUMENT_BYTES as u64)?;
    let bytes = bytes.ok_or_else(|| Reason::new(Code::MissingFile, format!("the set lacks `{}`", set::MANIFEST)))?;
    let fingerprint = document::fingerprint(&bytes);
    *says = Some((document::parse(&bytes)?, fingerprint));
    if is_here(root, fingerprint)? {
        return Ok(None);
    }
    let verified = verify(root, &*set, options)?;
    if verified.manifest.fingerprint() == fingerprint {
        return Ok(Some((set, verified)));
    }
    Err(Reason::new(Code::IoError, "the medium changed while it was read").into())
}

/// A medium that serves several nodes holds what is not for this one.
fn standing_of(reasons: Reasons) -> Standing {
    let others = [Code::ScopeMismatch, Code::WrongStream, Code::SerialTooLow];
    if reasons.as_slice().iter().all(|reason| others.contains(&reason.code)) {
        Standing::NotForUs(reasons)
    } else {
        Standing::Refused(reasons)
    }
}

fn verify(root: &StateRoot, set: &dyn SetSource, options: &Options<'_>) -> Result<VerifiedSet, Reasons> {
    let mut loaded = load(root)?;
    loaded.adopt_from(set)?;
    let context = loaded.context(options.clock, Purpose::Change);
    // What lies on a medium is read for certain.
    let cache = StatCache::default();
    let verified = verify_set(&SetCheck { set, context: &context, cache: &cache, progress: options.progress })?;
    loaded.check_offline(&verified.manifest)?;
    Ok(verified)
}

fn is_here(root: &StateRoot, fingerprint: Blake3) -> Result<bool, Reasons> {
    if durable::exists(root.disk(), &layout::inbox_entry(fingerprint)).map_err(failed)? {
        return Ok(true);
    }
    Ok(active(root)?.is_some_and(|(_, active)| active == fingerprint))
}

/// The active manifest.
fn active(root: &StateRoot) -> Result<Option<(StateManifest, Blake3)>, Reasons> {
    Ok(root.current()?.and_then(|generation| manifest_of(root, &generation)))
}

/// Tells what is on a medium, and whether it is trusted. Writes nothing.
pub fn preview(root: &StateRoot, path: &Path, options: &Options<'_>) -> Result<Import, Reasons> {
    let mut medium = medium(root, path)?;
    let trust = TrustOnMedium::look(&medium.trust, |medium| {
        offer_of(medium, &load(root)?, options.clock, OlderList::IsPassedOver)
    });
    let sets = look(root, std::mem::take(&mut medium.sets), options).into_iter().map(|seen| seen.told).collect();
    Ok(Import { sets, trust, warnings: medium.warnings() })
}

/// Puts what verifies into the inbox. What was cut off is taken up again: objects that are here whole stay.
pub fn import(
    root: &StateRoot,
    path: &Path,
    actor: &Actor,
    runner: &dyn ServiceRunner,
    options: &Options<'_>,
) -> Result<Import, Reasons> {
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let mut silent = Silent;
    let mut recorder = Recorder::open(root, actor, None, &mut silent)?;
    let recovery = recover_held(root, &held, runner, &mut recorder)?;
    recorder.begin(json!({ "from": path.display().to_string() }))?;
    let (mut manifests, mut pinned) = (Vec::new(), (Vec::new(), None));
    let result = medium(root, path).and_then(|mut medium| {
        let mut sets = Vec::new();
        let is_layout = medium.layout.is_some();
        // First of all: a key that is revoked from now on signs no set of the same medium.
        let trust = TrustOnMedium::look(&medium.trust, |medium| {
            let loaded = load(root)?;
            let offer = offer_of(medium, &loaded, options.clock, OlderList::IsPassedOver)?;
            take_offered(root, &held, &loaded, &offer)?;
            Ok(offer)
        });
        pinned = (trust.roots.clone(), trust.revocation);
        for Seen { told, takes } in look(root, std::mem::take(&mut medium.sets), options) {
            if let Some((set, verified)) = takes {
                put(root, &*set, &verified, options)?;
                manifests.push(verified.manifest.fingerprint());
            }
            sets.push(told);
        }
        clear(root, &held)?;
        let mut warnings = medium.warnings();
        warnings.extend(sign_for(root, &sets, is_layout.then_some(path), actor.clock));
        Ok((sets, trust, warnings))
    });
    let (sets, trust, warnings) = result.inspect_err(|reasons| {
        // The refusal is what is told; what came before it is here, and on record.
        let (roots, revocation) = &pinned;
        let reasons = reasons.as_slice();
        let detail = json!({ "manifests": manifests, "roots": roots, "revocation": revocation, "reasons": reasons });
        recorder.end("failed", detail);
    })?;
    let mut import = Import { sets, trust, warnings };
    let refusal = import.refusal();
    let nothing = manifests.is_empty() && import.trust.roots.is_empty() && import.trust.revocation.is_none();
    let word = match (&refusal, nothing) {
        (None, true) => "nothing",
        (None, false) => "imported",
        (Some(_), true) => "refused",
        (Some(_), false) => "partly",
    };
    let reasons = refusal.as_ref().map(Reasons::as_slice);
    let (roots, revocation) = (&import.trust.roots, import.trust.revocation);
    let detail = json!({ "manifests": manifests, "roots": roots, "revocation": revocation, "reasons": reasons });
    let lost = recorder.end(word, detail);
    import.warnings.extend(told(&recovery).into_iter().chain(lost));
    Ok(import)
}

/// Stores the set and makes it durable; its entry appears in one rename.
fn put(root: &StateRoot, set: &dyn SetSource, verified: &VerifiedSet, options: &Options<'_>) -> Result<(), Reasons> {
    let store = root.share_store().map_err(|error| Reasons::from(error.to_reason()))?;
    let mut cache = StatCache::load(root);
    let mut putting =
        Putting { writer: Writer::Mission, store: &*store, cache: &mut cache, progress: options.progress };
    put_in_inbox(root, set, verified.into(), &mut putting).map_err(FillError::into_reasons)
}

/// Removes from the inbox what the node has left behind: sets of its stream that are not newer than what it runs.
pub(crate) fn clear(root: &StateRoot, _held: &ActivationLock) -> Result<(), Reasons> {
    let Some((active, _)) = active(root)? else { return Ok(()) };
    for (fingerprint, manifest) in inbox_entries(root)? {
        let metadata = &manifest.metadata;
        if metadata.name == active.metadata.name && metadata.serial <= active.metadata.serial {
            durable::remove_tree(root.disk(), &layout::inbox_entry(fingerprint)).map_err(failed)?;
        }
    }
    Ok(())
}

/// The set in the inbox that is for this node and has the highest serial; its signatures decide when it is used.
pub(crate) fn newest(root: &StateRoot) -> Result<Option<Blake3>, Reasons> {
    let node = root.node()?;
    let followed = root.floors()?.and_then(|floors| floors.stream);
    let mine = |manifest: &StateManifest| {
        scope_reasons(manifest, &node).is_empty()
            && followed.as_ref().is_none_or(|followed| *followed == manifest.metadata.name)
    };
    let entries = inbox_entries(root)?.into_iter().filter(|(_, manifest)| mine(manifest));
    let newest = entries.max_by_key(|(fingerprint, manifest)| (manifest.metadata.serial, *fingerprint));
    Ok(newest.map(|(fingerprint, _)| fingerprint))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` wants")]
fn failed(error: DiskError) -> Reasons {
    error.to_reason().into()
}
