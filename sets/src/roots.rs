//! Whom a node trusts: the root that is pinned, and from it to the newest one that a medium carries, one version at a time.

use autonomy_schema::floors::Floors;
use autonomy_schema::{Code, Reason, Reasons, Time, document, set};
use autonomy_stateroot::trust::RootBytes;
use autonomy_stateroot::{ActivationLock, SetSource, StateRoot, read_file};
use autonomy_trust::{PinnedRoot, Signed};

/// Most roots that one medium may bring: a rotation a month for twenty years.
const MAX_STEPS: usize = 256;

/// A walk over the roots of a medium.
pub struct Walk {
    /// The newest root that was reached; the pinned one when the medium has no newer.
    pub newest: PinnedRoot,
    /// Why the walk ended before the medium did.
    pub refusal: Option<Reasons>,
}

/// The pinned trust root, with the earlier ones that are kept as far as they vouch for each other.
pub fn pinned_root(root: &StateRoot) -> Result<PinnedRoot, Reasons> {
    let mut refusal = None;
    let mut pinned = None;
    for copy in root.trust_root_bytes()? {
        match PinnedRoot::pinned(signed(&copy)) {
            Ok(found) => {
                pinned = Some(found);
                break;
            }
            Err(reasons) => refusal = refusal.or(Some(reasons)),
        }
    }
    let missing = || Reasons::from(Reason::new(Code::CorruptState, "the trust root is missing"));
    let mut pinned = pinned.ok_or_else(|| refusal.unwrap_or_else(missing))?;
    // A kept root that is damaged vouches for nothing; what was admitted under it is then below its threshold.
    extend(&mut pinned, |version| root.kept_root(version));
    Ok(pinned)
}

/// Adds roots before the oldest known one, as long as there are some and they lead to it; gives those that it added, with
/// their versions.
pub fn extend(root: &mut PinnedRoot, find: impl Fn(u64) -> Option<RootBytes>) -> Vec<(u64, RootBytes)> {
    let mut added = Vec::new();
    let mut oldest = root.earlier().last().unwrap_or(root).document().version;
    while let Some(found) = oldest.checked_sub(1).and_then(&find) {
        if root.preceded_by(signed(&found)).is_err() {
            break;
        }
        oldest -= 1;
        added.push((oldest, found));
    }
    added
}

/// A root as it is verified.
pub fn signed(root: &RootBytes) -> Signed<'_> {
    Signed { bytes: &root.bytes, signatures: &root.signatures }
}

/// Brings what lies on the disk to what is pinned, after a power cut or damage. What cannot be verified stays as it is:
/// whoever reads it says so.
pub fn settle(root: &StateRoot, held: &ActivationLock) -> Result<(), Reasons> {
    let (Ok(pinned), Ok(Some(floors))) = (pinned_root(root), root.floors()) else { return Ok(()) };
    root.settle_trust(held, &bytes(&pinned), &floors_under(&floors, &pinned))
}

/// A root as it is written.
pub fn bytes(root: &PinnedRoot) -> RootBytes {
    RootBytes { bytes: root.bytes().to_vec(), signatures: root.signatures().to_vec() }
}

/// Walks from `pinned` over the roots in `folder` of a medium, until one is not there or does not hold.
pub fn walk(medium: &dyn SetSource, folder: &str, pinned: &PinnedRoot) -> Walk {
    let mut newest = pinned.clone();
    for _ in 0..MAX_STEPS {
        let next = newest.document().version.saturating_add(1);
        match read(medium, folder, next) {
            Ok(None) => return Walk { newest, refusal: None },
            Ok(Some(found)) => match newest.successor(signed(&found)) {
                Ok(successor) if successor.document().version == next => newest = successor,
                // The root before it again, under another name.
                Ok(again) => {
                    let message = format!("root {next}: the file holds version {}", again.document().version);
                    return Walk { newest, refusal: Some(Reason::new(Code::RootGap, message).into()) };
                }
                Err(reasons) => return Walk { newest, refusal: Some(named(next, &reasons)) },
            },
            Err(reasons) => return Walk { newest, refusal: Some(reasons) },
        }
    }
    let message = format!("the medium brings more than {MAX_STEPS} newer trust roots");
    Walk { newest, refusal: Some(Reason::new(Code::LimitExceeded, message).into()) }
}

/// The newest root that the set brings, or why one of its roots does not hold.
pub fn newest(set: &dyn SetSource, pinned: &PinnedRoot) -> Result<PinnedRoot, Reasons> {
    let Walk { newest, refusal } = walk(set, set::ROOTS, pinned);
    refusal.map_or(Ok(newest), Err)
}

/// The roots between `pinned`, which is left out, and `newest`, oldest first.
pub fn between<'a>(pinned: &PinnedRoot, newest: &'a PinnedRoot) -> Vec<&'a PinnedRoot> {
    let from = pinned.document().version;
    let all = std::iter::once(newest).chain(newest.earlier());
    let mut roots: Vec<&PinnedRoot> = all.filter(|root| root.document().version > from).collect();
    roots.reverse();
    roots
}

/// The same as they are pinned, one after the other, the pinned one first; empty when there is nothing newer.
pub fn steps(pinned: &PinnedRoot, newest: &PinnedRoot) -> Vec<RootBytes> {
    let newer = between(pinned, newest);
    if newer.is_empty() {
        return Vec::new();
    }
    std::iter::once(pinned).chain(newer).map(bytes).collect()
}

/// Newer roots that are other ones than those which are kept here under their versions, as a cut import, or a root that was
/// brought back, leaves them: somebody plays two games.
pub fn forks(root: &StateRoot, pinned: &PinnedRoot, newest: &PinnedRoot) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut before = pinned;
    for step in between(pinned, newest) {
        let version = step.document().version;
        if let Some(kept) = root.kept_root(version).filter(|kept| kept.bytes != step.bytes())
            && let Ok(kept) = before.successor(signed(&kept))
        {
            let (kept, found) = (kept.fingerprint(), step.fingerprint());
            let message = format!("trust root version {version} is kept here as {kept} and was found as {found}");
            reasons.push(Reason::new(Code::RootForked, message));
        }
        before = step;
    }
    reasons
}

/// The newest root that is kept here whole, of the version that the floors say: what `trust/root.json` was.
pub fn lost_pin(root: &StateRoot) -> Option<RootBytes> {
    let version = root.floors().ok()??.root_version;
    root.kept_root(version)
        .filter(|kept| PinnedRoot::pinned(signed(kept)).is_ok_and(|found| found.document().version == version))
}

/// The set brings every root between the one that a node has and the one that judges.
pub fn bridge(set: &dyn SetSource, known: u64, judge: u64) -> Result<(), Reasons> {
    for version in known.saturating_add(1)..=judge {
        if read(set, set::ROOTS, version)?.is_none() {
            let message =
                format!("the node has trust root version {known}, and the set does not bring version {version}");
            return Err(Reason::new(Code::RootGap, message).into());
        }
    }
    Ok(())
}

/// Floors under every root that is known, so that the reset of a time mark by one of them holds.
pub fn floors_under(floors: &Floors, newest: &PinnedRoot) -> Floors {
    let oldest_first = newest.earlier().iter().rev().chain([newest]);
    oldest_first.fold(floors.clone(), |floors, root| floors.under(root.document()))
}

/// The earliest time to which one of these roots brought the time mark down, if one did.
pub fn earliest_reset(newest: &PinnedRoot) -> Option<Time> {
    newest.earlier().iter().chain([newest]).filter_map(|root| root.document().reset_time_mark).min()
}

/// What is wrong with the roots of a medium beside the ones that the walk passed: one beyond a gap, and another root under
/// the version of one that is known here. `versions` are those that the medium holds.
pub fn strays(
    medium: &dyn SetSource,
    folder: &str,
    versions: impl IntoIterator<Item = u64>,
    newest: &PinnedRoot,
) -> Vec<Reason> {
    let reached = newest.document().version;
    let mut reasons = Vec::new();
    for version in versions {
        if version > reached {
            let message = format!(
                "the medium holds trust root version {version}, and not version {}, which comes after {reached}, the newest that is known here",
                reached.saturating_add(1)
            );
            reasons.push(
                Reason::new(Code::RootGap, message).with_remedy("a medium carries every root; add the missing ones"),
            );
        } else if let Some(known) = newest.of_version(version) {
            match read(medium, folder, version) {
                Ok(Some(found)) => {
                    let other = known.successor(signed(&found)).err();
                    reasons.extend(other.into_iter().flat_map(|reasons| named(version, &reasons).into_vec()));
                }
                Ok(None) => {}
                Err(refusal) => reasons.extend(refusal.into_vec()),
            }
        }
    }
    reasons
}

/// A root of a medium; `None` when it is not there. One without a signature file is signed by nobody.
pub fn read(medium: &dyn SetSource, folder: &str, version: u64) -> Result<Option<RootBytes>, Reasons> {
    let (file, signatures) = set::root_files(version);
    let within = |name: String| if folder.is_empty() { name } else { format!("{folder}/{name}") };
    let bytes = read_file(medium, &within(file), document::MAX_DOCUMENT_BYTES as u64)?;
    let Some(bytes) = bytes else { return Ok(None) };
    let signatures = read_file(medium, &within(signatures), set::MAX_SIGNATURES_BYTES)?.unwrap_or_default();
    Ok(Some(RootBytes { bytes, signatures }))
}

/// The reasons, saying which root they are about.
fn named(version: u64, reasons: &Reasons) -> Reasons {
    let of = |reason: &Reason| Reason { message: format!("root {version}: {}", reason.message), ..reason.clone() };
    Reasons::new(reasons.as_slice().iter().map(of).collect()).unwrap_or_else(|| reasons.clone())
}
