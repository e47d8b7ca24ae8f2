//! Receipts that a medium brought back: whose they are, and whether two of them contradict each other.

use std::collections::BTreeMap;
use std::path::Path;

use autonomy_apply::{ServiceRunner, Silent};
use autonomy_schema::receipt::{MAX_RECEIPT_BYTES, Receipt, ReceiptName, SUFFIX};
use autonomy_schema::set::{MAX_SIGNATURES_BYTES, SIGNATURES_SUFFIX};
use autonomy_schema::{Code, Name, Reason, Reasons, Time, document};
use autonomy_stateroot::{DirSet, KeptReceipt, SetSource, SourceFile, SourceKind, StateRoot, layout, read_file};
use autonomy_trust::{PublicKey, Receipted, Signed, verify_receipt};
use serde_json::json;

use crate::backup::MAX_KEY_BYTES;
use crate::record::{Actor, Recorder};
use crate::recovery::{recover_held, told};

/// Most receipts of one medium.
const MAX_RECEIPTS: usize = 10_000;
/// Seconds within which a verb that signs has ended.
const VERB_SECONDS: i64 = 600;
/// Where they lie on a medium.
const FOLDER: &str = "receipts/";
/// How the file of a node's public key ends.
const KEY_SUFFIX: &str = ".pub";

/// How a receipt stands to who reads it.
#[derive(Debug, Clone)]
pub enum Custody {
    /// Its node signed it, and it was not here before.
    New,
    /// The same, and it is here already.
    Known,
    /// No key of the node that it names is known.
    Unverified,
    /// It is not what it should be, or contradicts another one.
    Bad(Reasons),
}

/// A receipt on a medium.
#[derive(Debug, Clone)]
pub struct FoundReceipt {
    /// The name of its file.
    pub file: String,
    /// What it says, where it can be read. It counts when its node is known to have signed it.
    pub says: Option<Receipt>,
    /// How it stands.
    pub custody: Custody,
    /// What is kept of it, where its node signed it.
    pub(crate) signed: Option<(ReceiptName, KeptReceipt)>,
}

/// The receipts of a medium.
#[derive(Debug, Default)]
pub struct Collection {
    /// By node, then counter.
    pub receipts: Vec<FoundReceipt>,
    /// What is strange, and no reason to refuse.
    pub warnings: Vec<String>,
}

impl Collection {
    /// What is wrong with those that are bad; `None` when none is.
    pub fn refusal(&self) -> Option<Reasons> {
        let reasons = self.receipts.iter().filter_map(|receipt| match &receipt.custody {
            Custody::Bad(reasons) => Some(reasons.as_slice()),
            Custody::New | Custody::Known | Custody::Unverified => None,
        });
        Reasons::new(reasons.flatten().cloned().collect())
    }
}

/// The attest keys of nodes: what lies in `trust/nodes/` of a state root, with its own, and the files `<node id>.pub` of a
/// folder. One key a node; the folder speaks last.
pub fn known_nodes(root: Option<&StateRoot>, folder: Option<&Path>) -> Result<BTreeMap<Name, PublicKey>, Reasons> {
    let mut nodes = BTreeMap::new();
    if let Some(root) = root {
        let own = autonomy_stateroot::read_capped(root.disk(), &layout::attest_pub(), MAX_KEY_BYTES);
        if let Some(bytes) = own.map_err(|error| error.to_reason())? {
            nodes.insert(root.node()?.node_id, key(layout::attest_pub().as_str(), &bytes)?);
        }
        let entries = root.disk().list(Some(&layout::trust_nodes())).or_else(|error| {
            if error.is_not_found() { Ok(Vec::new()) } else { Err(Reasons::from(error.to_reason())) }
        })?;
        for node in entries.iter().filter_map(|entry| entry.name.strip_suffix(KEY_SUFFIX)?.parse::<Name>().ok()) {
            let path = layout::trust_node(&node);
            let bytes = autonomy_stateroot::read_capped(root.disk(), &path, MAX_KEY_BYTES);
            let bytes = bytes.map_err(|error| error.to_reason())?.unwrap_or_default();
            nodes.insert(node, key(path.as_str(), &bytes)?);
        }
    }
    if let Some(folder) = folder {
        let folder = DirSet::open(folder).map_err(|error| error.to_reason())?;
        for file in folder.list().map_err(|error| error.to_reason())? {
            let Some(node) = file.path.strip_suffix(KEY_SUFFIX).and_then(|name| name.parse::<Name>().ok()) else {
                continue;
            };
            let bytes = read_file(&folder, &file.path, MAX_KEY_BYTES)?.unwrap_or_default();
            nodes.insert(node, key(&file.path, &bytes)?);
        }
    }
    Ok(nodes)
}

fn key(name: &str, bytes: &[u8]) -> Result<PublicKey, Reason> {
    let refuse = |why: String| Reason::new(Code::WrongKey, format!("`{name}`: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|error| refuse(error.to_string()))?;
    PublicKey::parse_pem(text).map_err(|error| refuse(error.to_string()))
}

/// Looks at the receipts of a medium, or of a folder with receipts. `kept` are those that were collected before.
pub fn look_at_receipts(
    medium: &Path,
    nodes: &BTreeMap<Name, PublicKey>,
    kept: &[KeptReceipt],
) -> Result<Collection, Reasons> {
    let folder = DirSet::open(medium).map_err(|error| error.to_reason())?;
    let files = folder.list().map_err(|error| error.to_reason())?;
    let within = files.iter().any(|file| file.path.starts_with(FOLDER));
    let of_ours = |file: &&SourceFile| {
        let name = file.path.strip_prefix(if within { FOLDER } else { "" });
        // Among receipts everything is one; elsewhere, what is called like one.
        name.is_some_and(|name| name.ends_with(SUFFIX) && !name.contains('/') && (within || ReceiptName::is_like(name)))
    };
    let documents: Vec<&SourceFile> = files.iter().filter(of_ours).collect();
    if documents.len() > MAX_RECEIPTS {
        let message = format!("`{}` holds more than {MAX_RECEIPTS} receipts", folder.describe());
        return Err(Reason::new(Code::LimitExceeded, message).into());
    }
    let mut receipts: Vec<FoundReceipt> = documents.into_iter().map(|file| read(&folder, file, nodes)).collect();
    receipts.sort_by_cached_key(|receipt| {
        let key = receipt.says.as_ref().map(|says| (says.node_id.clone(), says.boot_epoch, says.counter));
        (key, receipt.file.clone())
    });
    let warnings = contradictions(&mut receipts, kept);
    Ok(Collection { receipts, warnings })
}

fn read(folder: &DirSet, file: &SourceFile, nodes: &BTreeMap<Name, PublicKey>) -> FoundReceipt {
    let name = file.path.rsplit('/').next().unwrap_or_default().to_owned();
    let bad = |reasons: Reasons, says| {
        let named = |reason: &Reason| Reason { message: format!("`{name}`: {}", reason.message), ..reason.clone() };
        let reasons = Reasons::new(reasons.as_slice().iter().map(named).collect()).unwrap_or(reasons);
        FoundReceipt { file: name.clone(), says, custody: Custody::Bad(reasons), signed: None }
    };
    if file.kind != SourceKind::File {
        let reason = Reason::new(Code::SymlinkRefused, "it is a symbolic link or special file");
        return bad(reason.into(), None);
    }
    let beside = format!("{}{SIGNATURES_SUFFIX}", file.path);
    let read = read_file(folder, &file.path, MAX_RECEIPT_BYTES as u64).and_then(|bytes| {
        Ok((bytes.unwrap_or_default(), read_file(folder, &beside, MAX_SIGNATURES_BYTES)?.unwrap_or_default()))
    });
    let (bytes, signatures) = match read {
        Ok(read) => read,
        Err(reason) => return bad(reason.into(), None),
    };
    match verify_receipt(Signed { bytes: &bytes, signatures: &signatures }, nodes) {
        Ok(Receipted::Verified(receipt)) => {
            let key = nodes.get(&receipt.node_id).map(PublicKey::id);
            let signed = key.map(|key| {
                let name = ReceiptName::of(&receipt.node_id, key, receipt.counter);
                let file = name.file();
                (name, KeptReceipt { file, bytes, signatures })
            });
            FoundReceipt { file: name, says: Some(receipt), custody: Custody::New, signed }
        }
        Ok(Receipted::Unverified(receipt)) => {
            FoundReceipt { file: name, says: Some(receipt), custody: Custody::Unverified, signed: None }
        }
        Err(reasons) => bad(reasons, document::parse(&bytes).ok()),
    }
}

/// Marks what is known already, and what has a counter that another receipt of its node has. Gives a warning for every node
/// whose clock runs against its counter.
fn contradictions(receipts: &mut [FoundReceipt], kept: &[KeptReceipt]) -> Vec<String> {
    let mut seen: BTreeMap<String, Vec<u8>> = kept.iter().map(|kept| (kept.file.clone(), kept.bytes.clone())).collect();
    let mut history: BTreeMap<(Name, u64, u64), Receipt> = BTreeMap::new();
    let mut remember = |receipt: &Receipt| {
        history.insert((receipt.node_id.clone(), receipt.boot_epoch, receipt.counter), receipt.clone());
    };
    kept.iter().filter_map(|kept| document::parse(&kept.bytes).ok()).for_each(|receipt| remember(&receipt));
    for receipt in receipts {
        let (Some((_, signed)), Some(says)) = (&receipt.signed, &receipt.says) else { continue };
        remember(says);
        match seen.get(&signed.file) {
            None => {
                seen.insert(signed.file.clone(), signed.bytes.clone());
            }
            Some(bytes) if *bytes == signed.bytes => receipt.custody = Custody::Known,
            Some(_) => {
                let (node, counter) = (&says.node_id, says.counter);
                let message =
                    format!("`{}`: node `{node}` signed another receipt with counter {counter}", receipt.file);
                receipt.custody = Custody::Bad(Reason::new(Code::ReceiptReplayed, message).into());
                receipt.signed = None;
            }
        }
    }
    let mut warnings = Vec::new();
    let mut before: Option<&Receipt> = None;
    for receipt in history.values() {
        if let Some(earlier) =
            before.filter(|earlier| earlier.node_id == receipt.node_id && is_behind(receipt.time, earlier.time))
        {
            warnings.push(format!(
                "node `{}` signed receipt {} at {} and receipt {} at {}: its clock or its state went back",
                receipt.node_id, earlier.counter, earlier.time, receipt.counter, receipt.time
            ));
        }
        before = Some(receipt);
    }
    warnings
}

/// Whether a time lies further behind another than a verb takes: each process of a node signs by the clock as it was when the
/// verb began.
fn is_behind(time: Time, other: Time) -> bool {
    other.unix().saturating_sub(time.unix()) > VERB_SECONDS
}

/// Looks at the receipts of a medium, and keeps those in the state root that their nodes signed.
pub fn collect(
    root: &StateRoot,
    medium: &Path,
    nodes: &BTreeMap<Name, PublicKey>,
    actor: &Actor,
    runner: &dyn ServiceRunner,
) -> Result<Collection, Reasons> {
    let held = root.lock(&actor.verb).map_err(|error| Reasons::from(error.to_reason()))?;
    let mut silent = Silent;
    let mut recorder = Recorder::open(root, actor, None, &mut silent)?;
    let recovery = recover_held(root, &held, runner, &mut recorder)?;
    let mut collection = look_at_receipts(medium, nodes, &root.kept_receipts("")?)?;
    recorder.begin(json!({ "from": medium.display().to_string() }))?;
    let mut kept = Vec::new();
    let signing = root.lock_receipts().map_err(|error| Reasons::from(error.to_reason()))?;
    let result =
        collection.receipts.iter().filter(|receipt| matches!(receipt.custody, Custody::New)).try_for_each(|receipt| {
            let Some((name, signed)) = &receipt.signed else { return Ok(()) };
            kept.push(signed.file.clone());
            root.keep_receipt(&signing, name, &signed.bytes, &signed.signatures)
                .map_err(|error| Reasons::from(error.to_reason()))
        });
    if let Err(reasons) = result {
        // The refusal is what is told.
        recorder.end("failed", json!({ "receipts": kept, "reasons": reasons.as_slice() }));
        return Err(reasons);
    }
    let refusal = collection.refusal();
    let word = match (&refusal, kept.is_empty()) {
        (None, true) => "nothing",
        (None, false) => "collected",
        (Some(_), true) => "refused",
        (Some(_), false) => "partly",
    };
    let reasons = refusal.as_ref().map(Reasons::as_slice);
    let lost = recorder.end(word, json!({ "receipts": kept, "reasons": reasons }));
    collection.warnings.extend(told(&recovery).into_iter().chain(lost));
    Ok(collection)
}
