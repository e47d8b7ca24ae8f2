//! What changes whom the node trusts: newer roots and revocation lists that a medium carries, whatever else lies on it.

use std::collections::BTreeSet;

use autonomy_apply::ServiceRunner;
use autonomy_oci::{Pin, Wanted};
use autonomy_schema::revocation::Revocation;
use autonomy_schema::{Blake3, Code, Reason, Reasons, RelPath, Time, document, set};
use autonomy_stateroot::trust::RootBytes;
use autonomy_stateroot::{ActivationLock, SetSource, SourceKind, StateRoot, read_file};
use autonomy_trust::{Context, PinnedRoot, Purpose, Signed, Verified, verify_revocation};
use serde_json::{Value, json};

use crate::record::{Actor, Recorder};
use crate::recovery::{recover_held, told};
use autonomy_sets::roots::{self, Walk};
use autonomy_sets::{Loaded, load};

/// The file of a revocation list beside roots.
pub const REVOCATION: &str = "revocation.json";

/// What a medium has for a node.
#[derive(Debug)]
pub struct Offer {
    /// The newer roots that hold, oldest first, and the one that judges in the end.
    pub roots: Vec<OfferedRoot>,
    /// Number of the newer revocation list, when there is one and it holds.
    pub revocation: Option<u64>,
    /// What does not hold; what comes before it stands.
    pub refusal: Option<Reasons>,
    /// Earlier roots that lead to what is known here, and were lost.
    refills: Vec<(u64, RootBytes)>,
    newest: PinnedRoot,
    list: Option<Verified<Revocation>>,
}

impl Offer {
    /// What the records say of it.
    pub(crate) fn told(&self) -> Value {
        let roots: Vec<u64> = self.roots.iter().map(|step| step.version).collect();
        let of = |list: &Verified<Revocation>| json!({ "reason": list.document().reason, "signers": list.signers() });
        json!({
            "roots": roots, "kept": self.refilled(), "revocation": self.revocation, "list": self.list.as_ref().map(of),
        })
    }

    /// Versions of earlier roots that were lost here, and are on the medium.
    fn refilled(&self) -> Vec<u64> {
        self.refills.iter().rev().map(|(version, _)| *version).collect()
    }
}

/// A newer root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedRoot {
    /// Its version.
    pub version: u64,
    /// BLAKE3 of its bytes.
    pub fingerprint: Blake3,
    /// When it expires.
    pub expires_at: Time,
}

/// What an import did.
#[derive(Debug)]
pub struct Imported {
    /// Versions that were pinned, one after the other.
    pub pinned: Vec<u64>,
    /// Versions of earlier roots that were lost and are kept again.
    pub kept: Vec<u64>,
    /// The version that is pinned now.
    pub version: u64,
    /// Number of the revocation list that came.
    pub revocation: Option<u64>,
    /// Why the rest was refused; what is above stands.
    pub refusal: Option<Reasons>,
    /// A record that could not be written, or what a recovery did first.
    pub warning: Option<String>,
}

/// Looks at the roots and the revocation list of a medium with the eyes of a node. Writes nothing.
pub fn offer(medium: &dyn SetSource, loaded: &Loaded, clock: Time) -> Result<Offer, Reasons> {
    offer_of(medium, loaded, clock, OlderList::IsRefused)
}

/// What an older revocation list than the node's means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OlderList {
    /// Somebody asked for that very list to be taken.
    IsRefused,
    /// A medium was written before the node heard of its own; it says nothing new.
    IsPassedOver,
}

pub(crate) fn offer_of(
    medium: &dyn SetSource,
    loaded: &Loaded,
    clock: Time,
    older: OlderList,
) -> Result<Offer, Reasons> {
    let Found { folder, versions, has_list } = find(medium)?;
    let Walk { mut newest, refusal } = roots::walk(medium, folder, &loaded.root);
    let refills = roots::extend(&mut newest, |version| roots::read(medium, folder, version).ok().flatten());
    let mut against = refusal.map(Reasons::into_vec).unwrap_or_default();
    // A gap beyond a root that does not hold says nothing new.
    let strays =
        versions.into_iter().filter(|version| against.is_empty() || loaded.root.of_version(*version).is_some());
    let strays = roots::strays(medium, folder, strays.collect::<Vec<_>>(), &newest);
    against.extend(strays);
    let has_list = has_list && (older == OlderList::IsRefused || !is_older_list(medium, loaded));
    let list = match if has_list { list(medium, loaded, &newest, clock) } else { Ok(None) } {
        Ok(list) => list,
        Err(reasons) => {
            against.extend(reasons.into_vec());
            None
        }
    };
    let steps = roots::between(&loaded.root, &newest);
    let offered = |root: &&PinnedRoot| OfferedRoot {
        version: root.document().version,
        fingerprint: root.fingerprint(),
        expires_at: root.document().expires_at,
    };
    let roots = steps.iter().map(offered).collect();
    let revocation = list.as_ref().map(|list| list.document().revoked.number);
    Ok(Offer { roots, revocation, refusal: Reasons::new(against), refills, newest, list })
}

struct Found {
    folder: &'static str,
    versions: BTreeSet<u64>,
    has_list: bool,
}

/// Where the roots lie: in `roots/`, as on every medium of ours, or in the folder itself.
fn find(medium: &dyn SetSource) -> Result<Found, Reasons> {
    let files = medium.list().map_err(|error| Reasons::from(error.to_reason()))?;
    let (mut within, mut beside, mut has_list) = (BTreeSet::new(), BTreeSet::new(), false);
    for file in files.iter().filter(|file| file.kind != SourceKind::BadName) {
        let path = file.path.as_str();
        within.extend(path.strip_prefix("roots/").and_then(set::root_version));
        beside.extend(set::root_version(path));
        has_list |= path == REVOCATION;
    }
    let (folder, versions) = if within.is_empty() { ("", beside) } else { (set::ROOTS, within) };
    if versions.is_empty() && !has_list {
        let message = format!(
            "`{}` holds neither a trust root (`roots/<N>.root.json` or `<N>.root.json`) nor `{REVOCATION}`",
            medium.describe()
        );
        return Err(Reason::new(Code::MissingFile, message).into());
    }
    Ok(Found { folder, versions, has_list })
}

/// The revocation list of the medium, when it is newer than the one that the node has.
fn list(
    medium: &dyn SetSource,
    loaded: &Loaded,
    newest: &PinnedRoot,
    clock: Time,
) -> Result<Option<Verified<Revocation>>, Reasons> {
    let cap = document::MAX_DOCUMENT_BYTES as u64;
    let bytes = read_file(medium, REVOCATION, cap)?.unwrap_or_default();
    let beside = format!("{REVOCATION}{}", set::SIGNATURES_SUFFIX);
    let signatures = read_file(medium, &beside, set::MAX_SIGNATURES_BYTES)?.unwrap_or_default();
    let context = Context { root: newest, ..loaded.context(clock, Purpose::Change) };
    let list = verify_revocation(Signed { bytes: &bytes, signatures: &signatures }, &context)?;
    let is_newer = list.document().revoked.number > loaded.floors.revoked.number;
    Ok(is_newer.then_some(list))
}

/// Whether the list of a medium says of itself that it is older than the one that the node has.
fn is_older_list(medium: &dyn SetSource, loaded: &Loaded) -> bool {
    let bytes = read_file(medium, REVOCATION, document::MAX_DOCUMENT_BYTES as u64).ok().flatten();
    let list = bytes.and_then(|bytes| document::parse::<Revocation>(&bytes).ok());
    list.is_some_and(|list| list.revoked.number < loaded.floors.revoked.number)
}

/// Takes what a medium offers. Each root is pinned durably before the next is looked at by anybody; what does not hold ends
/// the walk, and what came before it stays.
pub fn import_trust(
    root: &StateRoot,
    medium: &dyn SetSource,
    actor: &Actor,
    runner: &dyn ServiceRunner,
) -> Result<Imported, Reasons> {
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let mut silent = autonomy_apply::Silent;
    let mut recorder = Recorder::open(root, actor, None, &mut silent)?;
    let recovery = recover_held(root, &held, runner, &mut recorder)?;
    let loaded = load(root)?;
    let offer = offer(medium, &loaded, actor.clock)?;
    Reasons::check(roots::forks(root, &loaded.root, &offer.newest))?;
    let pinned: Vec<u64> = offer.roots.iter().map(|step| step.version).collect();
    let mut detail = offer.told();
    detail["from"] = json!(medium.describe());
    recorder.begin(detail.clone())?;
    if let Err(reasons) = take(root, &held, &loaded, &offer) {
        // What was pinned before the disk failed stays, and is told.
        let version = load(root).map_or(loaded.root.document().version, |now| now.root.document().version);
        let pinned: Vec<u64> = pinned.into_iter().filter(|step| *step <= version).collect();
        let warning = recorder.end("failed", json!({ "roots": pinned, "reasons": reasons.as_slice() }));
        return Ok(Imported { pinned, kept: Vec::new(), version, revocation: None, refusal: Some(reasons), warning });
    }
    let kept: Vec<u64> = offer.refilled();
    let is_empty = pinned.is_empty() && kept.is_empty() && offer.revocation.is_none();
    let warning = match &offer.refusal {
        Some(reasons) => {
            let word = if is_empty { "refused" } else { "partly" };
            recorder.end(word, json!({ "roots": pinned, "reasons": reasons.as_slice() }))
        }
        None => recorder.end(if is_empty { "nothing" } else { "imported" }, detail),
    };
    let version = offer.newest.document().version;
    let warning = told(&recovery).or(warning);
    Ok(Imported { pinned, kept, version, revocation: offer.revocation, refusal: offer.refusal, warning })
}

/// Takes what is offered, under roots that do not fork from what is kept here.
pub(crate) fn take_offered(
    root: &StateRoot,
    held: &ActivationLock,
    loaded: &Loaded,
    offer: &Offer,
) -> Result<(), Reasons> {
    Reasons::check(roots::forks(root, &loaded.root, &offer.newest))?;
    take(root, held, loaded, offer)
}

fn take(root: &StateRoot, held: &ActivationLock, loaded: &Loaded, offer: &Offer) -> Result<(), Reasons> {
    for (_, older) in &offer.refills {
        root.keep_root(held, older)?;
    }
    let steps = roots::steps(&loaded.root, &offer.newest);
    for (pinned, next) in steps.iter().zip(steps.iter().skip(1)) {
        root.pin_root(held, pinned, next)?;
    }
    if let Some(list) = &offer.list {
        // Kept first: the floors say that it came.
        root.keep_revocation(held, list.bytes(), list.signatures()).map_err(|error| error.to_reason())?;
        let floors = root.floors()?.unwrap_or_default().revoking(&list.document().revoked);
        root.write_floors(&floors).map_err(|error| Reasons::from(error.to_reason()))?;
    }
    Ok(())
}

/// The files of a medium that change whom nodes trust, as they go onto another one.
pub(crate) fn files(medium: &dyn SetSource) -> Result<Vec<Wanted>, Reasons> {
    let Found { folder, versions, has_list } = find(medium)?;
    let mut names: Vec<String> = Vec::new();
    for (file, signatures) in versions.into_iter().map(set::root_files) {
        let within = |name: String| if folder.is_empty() { name } else { format!("{folder}/{name}") };
        names.extend([within(file), within(signatures)]);
    }
    if has_list {
        names.extend([REVOCATION.to_owned(), format!("{REVOCATION}{}", set::SIGNATURES_SUFFIX)]);
    }
    names.sort();
    let listed = medium.list().map_err(|error| error.to_reason())?;
    let mut wanted = Vec::new();
    for name in names {
        let Some(file) = listed.iter().find(|file| file.path == name) else {
            let reason = Reason::new(Code::MissingFile, format!("`{}` lacks `{name}`", medium.describe()));
            return Err(reason.with_remedy("sign it first: `autonomy sign`").into());
        };
        let path = name.parse::<RelPath>().map_err(|error| error.to_reason())?;
        wanted.push(Wanted { path, size: file.size, pin: Pin::None });
    }
    Ok(wanted)
}

/// What an operator brings, judged from its oldest root on, so that no medium carries what every node would refuse.
pub fn judge_trust(medium: &dyn SetSource, clock: Time) -> Result<(), Reasons> {
    let Found { folder, versions, .. } = find(medium)?;
    let oldest = versions.first().copied().map(|version| roots::read(medium, folder, version)).transpose()?.flatten();
    let Some(oldest) = oldest else {
        let message = format!("`{}` holds no trust root that could judge its `{REVOCATION}`", medium.describe());
        return Err(Reason::new(Code::MissingFile, message).with_remedy("put every root beside it").into());
    };
    let first = PinnedRoot::pinned(Signed { bytes: &oldest.bytes, signatures: &oldest.signatures })?;
    let offer = offer(medium, &Loaded::away(first), clock)?;
    offer.refusal.map_or(Ok(()), Err)
}
