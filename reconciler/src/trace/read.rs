//! Where receipts are found, and which manifest is meant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autonomy_schema::{Blake3, Code, Name, Reason, Reasons, StateManifest};
use autonomy_sets::{inbox_entries, manifest_of};
use autonomy_stateroot::{KeptReceipt, StateRoot};
use autonomy_trust::PublicKey;

use super::{Chain, Told, Witness};
use crate::import::newest;
use crate::receipts::{Custody, look_at_receipts};

/// Fewest hex digits of a fingerprint that are taken for it.
const MIN_DIGITS: usize = 8;

/// A chain, and what was wrong on the way to it.
#[derive(Debug)]
pub struct Traced {
    /// The chain, of the receipts that may be what they say.
    pub chain: Chain,
    /// What is strange, and no reason to refuse.
    pub warnings: Vec<String>,
    /// Why receipts were left out that say they are of this chain, or say nothing.
    pub refused: Vec<Reason>,
}

/// The receipts of some folders, each once.
#[derive(Default)]
struct Found {
    witnesses: Vec<Witness>,
    kept: Vec<KeptReceipt>,
    warnings: Vec<String>,
    refused: Vec<(Option<Blake3>, Reason)>,
}

impl Found {
    fn look(&mut self, folder: &Path, nodes: &BTreeMap<Name, PublicKey>) -> Result<(), Reasons> {
        let collection = look_at_receipts(folder, nodes, &self.kept)?;
        // A clock that went back is seen again with every folder.
        let new = collection.warnings.into_iter().filter(|warning| !self.warnings.contains(warning));
        self.warnings.extend(new.collect::<Vec<_>>());
        for receipt in collection.receipts {
            let (signed, says) = (receipt.signed, receipt.says);
            match (receipt.custody, says) {
                (Custody::Bad(reasons), says) => {
                    let about = says.map(|says| says.manifest);
                    self.refused.extend(reasons.into_vec().into_iter().map(|reason| (about, reason)));
                }
                (Custody::New, Some(says)) => {
                    let key = nodes.get(&says.node_id).map(PublicKey::id);
                    self.kept.extend(signed.map(|(_, kept)| kept));
                    self.witnesses.push(Witness { receipt: says, key });
                }
                (Custody::Unverified, Some(says)) => {
                    let witness = Witness { receipt: says, key: None };
                    if !self.witnesses.contains(&witness) {
                        self.witnesses.push(witness);
                    }
                }
                (Custody::Known, _) | (Custody::New | Custody::Unverified, None) => {}
            }
        }
        Ok(())
    }
}

/// Puts the chain of a manifest together: of what lies in the state root, and of what lies in `folders`, which are media or
/// folders with receipts. `wanted` is a fingerprint, the beginning of one, or `latest`. Writes nothing.
pub fn trace(
    root: Option<(&StateRoot, &Path)>,
    folders: &[PathBuf],
    nodes: &BTreeMap<Name, PublicKey>,
    wanted: &str,
) -> Result<Traced, Reasons> {
    let mut found = Found::default();
    if let Some((_, path)) = root {
        let own = path.join(autonomy_stateroot::layout::receipts().as_str());
        if own.is_dir() {
            found.look(&own, nodes)?;
        }
    }
    for folder in folders {
        found.look(folder, nodes)?;
    }
    let here = root.map(|(root, _)| manifests(root)).transpose()?.unwrap_or_default();
    let manifest = choose(root.map(|(root, _)| root), wanted, &here, &found.witnesses)?;
    let told = here.get(&manifest).map(|manifest| {
        let mut peers: Vec<Name> = manifest.spec.relay.peers.iter().map(|peer| peer.id.clone()).collect();
        peers.sort();
        Told {
            stream: manifest.metadata.name.clone(),
            serial: manifest.metadata.serial,
            release: manifest.spec.release.version.to_string(),
            peers,
        }
    });
    let refused = found.refused.into_iter().filter(|(about, _)| about.is_none_or(|about| about == manifest));
    let refused = refused.map(|(_, reason)| reason).collect();
    Ok(Traced { chain: Chain::of(manifest, told, found.witnesses), warnings: found.warnings, refused })
}

/// The manifests that lie on the node, in generations and in the inbox.
fn manifests(root: &StateRoot) -> Result<BTreeMap<Blake3, StateManifest>, Reasons> {
    let names = root.generations().map_err(|error| Reasons::from(error.to_reason()))?;
    let generations = names.iter().filter_map(|name| manifest_of(root, name));
    let mut here: BTreeMap<Blake3, StateManifest> = generations.map(|(manifest, of)| (of, manifest)).collect();
    here.extend(inbox_entries(root)?);
    Ok(here)
}

fn choose(
    root: Option<&StateRoot>,
    wanted: &str,
    here: &BTreeMap<Blake3, StateManifest>,
    witnesses: &[Witness],
) -> Result<Blake3, Reasons> {
    let missing =
        |message: String, remedy: &str| Reasons::from(Reason::new(Code::SourceNotFound, message).with_remedy(remedy));
    if wanted == "latest" {
        let root = root.ok_or_else(|| {
            missing(
                "`latest` is a node's, and no state root was given".to_owned(),
                "name the fingerprint, or give --state-root DIR",
            )
        })?;
        let active = root.current()?.and_then(|generation| manifest_of(root, &generation)).map(|(_, of)| of);
        let latest = active.map_or_else(|| newest(root), |active| Ok(Some(active)))?;
        return latest.ok_or_else(|| missing("the node has no set yet".to_owned(), "name the fingerprint"));
    }
    let digits = wanted.strip_prefix("blake3:").unwrap_or(wanted);
    if let Ok(whole) = format!("blake3:{digits}").parse::<Blake3>() {
        return Ok(whole);
    }
    let hex = digits.len() >= MIN_DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !hex {
        let message = format!("`{}` is no fingerprint, no beginning of one, and not `latest`", wanted.escape_debug());
        let remedy = "give `blake3:` and 64 hex digits, or the first of them, at least 8";
        return Err(Reason::new(Code::BadDigest, message).with_remedy(remedy).into());
    }
    let known = here.keys().copied().chain(witnesses.iter().map(|witness| witness.receipt.manifest));
    let fitting: std::collections::BTreeSet<Blake3> = known.filter(|known| known.hex().starts_with(digits)).collect();
    let mut fitting = fitting.into_iter();
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(missing(
            format!("no receipt and no set here begins with {digits}"),
            "give the whole fingerprint, or --receipts DIR",
        )),
        (Some(one), Some(other)) => {
            let message = format!("{digits} is the beginning of {one} and of {other}");
            Err(Reason::new(Code::BadDigest, message).with_remedy("give more digits").into())
        }
    }
}
