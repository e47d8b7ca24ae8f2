//! What is demanded of a set from a peer: the same as of any other, and that its artifacts are not there yet.

use autonomy_schema::{Blake3, Code, Reason, Reasons, StateManifest, Time};
use autonomy_sets::{SetCheck, VerifiedDocuments, inbox_entries, load, manifest_of, roots, verify_documents};
use autonomy_stateroot::{SetSource, StatCache, StateRoot, durable, layout};
use autonomy_trust::{Purpose, scope_reasons};

use super::{Store, StoreError};

/// A set that verified.
pub(super) struct Judged {
    pub(super) documents: VerifiedDocuments,
    /// It is for this node, not only for others of the fleet.
    pub(super) is_ours: bool,
}

/// The state root is broken; nothing is said of the set.
pub(super) fn broken(reasons: Reasons) -> StoreError {
    StoreError::Disk(reasons.into_vec().swap_remove(0))
}

/// A refusal, unless it was the disk that failed.
pub(super) fn refused(reasons: impl Into<Reasons>) -> StoreError {
    let reasons = reasons.into();
    if reasons.as_slice().iter().all(|reason| reason.code == Code::IoError) {
        broken(reasons)
    } else {
        StoreError::Refused(reasons)
    }
}

/// Verifies a set that lies without its artifacts.
pub(super) fn judge(root: &StateRoot, set: &dyn SetSource, clock: Time) -> Result<Judged, StoreError> {
    let mut loaded = load(root).map_err(broken)?;
    if let Some((active, fingerprint)) = active(root)? {
        let metadata = &active.metadata;
        loaded.floors = loaded.floors.proven_by(&metadata.name, metadata.serial, fingerprint);
    }
    let pinned = loaded.root.clone();
    loaded.adopt_from(set).map_err(refused)?;
    Reasons::check(roots::forks(root, &pinned, &loaded.root)).map_err(refused)?;
    let context = loaded.context(clock, Purpose::Relay);
    let check = SetCheck { set, context: &context, cache: &StatCache::default(), progress: &|_, _| {} };
    let documents = verify_documents(&check).map_err(refused)?;
    loaded.check_offline(&documents.manifest).map_err(refused)?;
    let manifest = documents.manifest.document();
    let follows = loaded.floors.stream.as_ref().is_none_or(|stream| *stream == manifest.metadata.name);
    let is_ours = follows && loaded.node.as_ref().is_some_and(|node| scope_reasons(manifest, node).is_empty());
    Ok(Judged { documents, is_ours })
}

fn active(root: &StateRoot) -> Result<Option<(StateManifest, Blake3)>, StoreError> {
    Ok(root.current().map_err(broken)?.and_then(|generation| manifest_of(root, &generation)))
}

/// Whether the node keeps the whole set of a manifest: in the inbox, or as a generation.
pub(super) fn is_kept(root: &StateRoot, fingerprint: Blake3) -> Result<bool, StoreError> {
    if durable::exists(root.disk(), &layout::inbox_entry(fingerprint))? {
        return Ok(true);
    }
    // The name of a generation has the first digits of the fingerprint.
    let short = format!("-{}-", &fingerprint.hex()[..12]);
    let generations = root.generations()?;
    let mut named = generations.iter().filter(|name| name.as_str().contains(&short));
    Ok(named.any(|name| manifest_of(root, name).is_some_and(|(_, found)| found == fingerprint)))
}

impl Store {
    /// Against the sets that wait here already: what is older than one of its stream is too late, and the same serial with
    /// other bytes is an alarm.
    pub(super) fn check_rank(&self, manifest: &StateManifest, fingerprint: Blake3) -> Result<(), StoreError> {
        let metadata = &manifest.metadata;
        let under_way = self.sets.iter().map(|(fingerprint, set)| (*fingerprint, set.manifest.clone()));
        let waiting = inbox_entries(&self.root).map_err(broken)?.into_iter().chain(under_way);
        for (other, waits) in waiting.filter(|(_, waits)| waits.metadata.name == metadata.name) {
            let (serial, there) = (metadata.serial, waits.metadata.serial);
            if serial < there {
                let message =
                    format!("serial {serial} of stream `{}` is below {there}, which waits on this node", metadata.name);
                return Err(refused(Reason::new(Code::SerialTooLow, message)));
            }
            if serial == there && other != fingerprint {
                let name = &metadata.name;
                let message = format!(
                    "serial {serial} of stream `{name}` waits on this node as {other}; these bytes are {fingerprint}"
                );
                return Err(refused(Reason::new(Code::SerialConflict, message)));
            }
        }
        Ok(())
    }
}
