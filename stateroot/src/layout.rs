//! Where everything lies in a state root. `docs/formats/state-root.md` draws it.

use autonomy_schema::manifest::ArtifactType;
use autonomy_schema::receipt::ReceiptName;
use autonomy_schema::{Blake3, Mode, Name, RelPath, Sha256, set};

macro_rules! places {
    ($($(#[$doc:meta])* $name:ident $path:literal;)*) => {
        $($(#[$doc])* pub fn $name() -> RelPath { RelPath::fixed($path) })*
    };
}

places! {
    /// Who the node is. Its presence makes the folder a state root, so `init` writes it last.
    node_yaml "node.yaml";
    /// Guards activation; holds pid, boot id and command of the holder.
    lock_file "LOCK";
    /// Shared by those who write objects, exclusive for gc.
    store_lock "store.lock";
    /// Pinned keys and floors.
    trust "trust";
    /// The pinned trust root.
    trust_root "trust/root.json";
    /// Its signatures.
    trust_root_signatures "trust/root.json.sigstore.jsonl";
    /// Every root that was pinned here, the pinned one included, from the first rotation on.
    trust_roots "trust/roots";
    /// The floors.
    floors "trust/floors.json";
    /// Public attest keys of peers, `<id>.pub`.
    trust_nodes "trust/nodes";
    /// Keys of the node.
    identity "identity";
    /// The private attest key (PKCS#8 PEM, 0600).
    attest_key "identity/attest.key";
    /// The public attest key (PEM).
    attest_pub "identity/attest.pub";
    /// The node's certificate, then its intermediates (PEM).
    node_certificate "identity/node.crt";
    /// Its private key (PEM, 0600).
    node_key "identity/node.key";
    /// The CAs that the node trusts (PEM).
    ca_certificate "identity/ca.crt";
    /// Their revocation lists (PEM).
    node_crl "identity/crl.pem";
    /// Certificates that are being installed: they count, and are copied from here.
    identity_next "identity/next";
    /// What the node runs on.
    bootstrap "bootstrap";
    /// The record of the operating system.
    os_fingerprint "bootstrap/os_fingerprint.json";
    /// Evidence of operating systems that were replaced.
    epoch "epoch";
    /// Whole artifacts, once.
    objects "objects";
    /// One folder per generation.
    generations "generations";
    /// The link to the active generation.
    current "current";
    /// The link to the last known good generation.
    lkg "lkg";
    /// The folder of the journal.
    journal_dir "journal";
    /// The intent of the apply in progress.
    journal "journal/apply.json";
    /// Verified sets that wait for the reconciler.
    inbox "inbox";
    /// Activated sets that wait for the relay.
    outbox "outbox";
    /// Sets that failed, for people to look at.
    quarantine "quarantine";
    /// One folder of WAL per process role.
    telemetry "telemetry";
    /// The folder of the audit trail.
    audit "audit";
    /// The audit trail.
    audit_log "audit/audit.jsonl";
    /// What can be lost: it is computed again.
    cache "cache";
    /// The stat cache.
    cache_files "cache/files";
    /// Questions that the update policy was asked, the newest of them.
    cache_decisions "cache/decisions";
    /// Manifests that failed here and are not tried again.
    pins "pins.json";
    /// Present while the node is suspended.
    suspended "suspended";
    /// What this node signed for, and what others signed for that was collected here.
    receipts "receipts";
    /// The highest counter of this node's receipts.
    receipt_counter "receipts/counter";
    /// Guards the counter and the node's own receipts; so whoever signs needs no `LOCK`.
    receipts_lock "receipts/LOCK";
    /// Payloads that are being received.
    segments "segments";
    /// What belongs to the relay daemon.
    edge "edge";
    /// Documents of sets that are being received, and sets in transit.
    edge_sets "edge/sets";
    /// The newest revocation list that came by itself.
    revocation "trust/revocation.json";
    /// Its signatures.
    revocation_signatures "trust/revocation.json.sigstore.jsonl";
    /// What the relay daemon still needs; written by `edged`, read by gc.
    edge_pins "edge/pins.json";
    /// The operator's own settings of the relay daemon.
    edge_local "edge/local.toml";
    /// Its ledger, which it alone reads.
    edge_ledger "edge/relay.redb";
    /// What it says of itself, for readers.
    edge_status "edge/status.json";
    /// The policy of a node that no manifest gave one.
    policy "policy";
    /// Its bundles, each in a folder named by its SHA-256.
    policy_bundles "policy/bundles";
    /// The link to the one that decides.
    policy_current "policy/current";
    /// The link to the one before it, which decides when the other cannot be believed.
    policy_lkg "policy/lkg";
    /// Its control socket.
    edge_socket "edge/edged.sock";
    /// Held by the relay daemon that owns the ledger; says who that is.
    edge_lock "edge/edged.lock";
}

/// The folders that `init` makes, parents first.
pub fn folders() -> [RelPath; 12] {
    [
        trust(),
        trust_nodes(),
        identity(),
        objects(),
        generations(),
        journal_dir(),
        inbox(),
        outbox(),
        quarantine(),
        telemetry(),
        audit(),
        cache(),
    ]
}

/// Every name that may stand at the top of a state root, now or by a later version.
pub const TOP_NAMES: [&str; 31] = [
    "LOCK",
    "audit",
    "bootstrap",
    "cache",
    "current",
    "edge",
    "epoch",
    "generations",
    "identity",
    "inbox",
    "journal",
    "lkg",
    "metrics",
    "node.yaml",
    "objects",
    "outbox",
    "pins.json",
    "policy",
    "quarantine",
    "rbac",
    "receipts",
    "segments",
    "store.lock",
    "suspended",
    "telemetry",
    "trust",
    ".current.tmp",
    ".lkg.tmp",
    ".node.yaml.tmp",
    ".pins.json.tmp",
    ".suspended.tmp",
];

/// The folders among them: each that exists must be a real folder on the file system of the root.
pub const TOP_FOLDERS: [&str; 21] = [
    "audit",
    "bootstrap",
    "cache",
    "edge",
    "epoch",
    "generations",
    "identity",
    "inbox",
    "journal",
    "metrics",
    "objects",
    "outbox",
    "policy",
    "quarantine",
    "rbac",
    "receipts",
    "segments",
    "telemetry",
    "trust",
    "trust/nodes",
    "trust/roots",
];

/// A path made of parts that each are safe; it stays below [`autonomy_schema::path::MAX_PATH_BYTES`] plus a prefix.
fn below(folder: &RelPath, name: &Name) -> RelPath {
    // A `Name` is a single safe component, so this parse cannot fail; `folder` alone would be the harmless answer.
    name.as_str().parse().map_or_else(|_never| folder.clone(), |name| folder.join(&name))
}

/// The folder of a generation.
pub fn generation(name: &Name) -> RelPath {
    below(&generations(), name)
}

/// A generation that is being removed.
pub fn doomed_generation(name: &Name) -> RelPath {
    format!("{DOOMED}{name}").parse().map_or_else(|_never| generations(), |name| generations().join(&name))
}

/// How the name of a generation begins that is being removed; it is no [`Name`], so nothing takes it for one.
pub const DOOMED: &str = ".gc-";

/// How the name of a generation begins that is being restored.
pub const RESTORING: &str = ".restore-";

/// Whether a name in `generations/` is what a removal or a restore left that was cut off.
pub fn is_leftover(name: &str) -> bool {
    name.starts_with(DOOMED) || name.starts_with(RESTORING)
}

/// The text of the links `current` and `lkg` to a generation.
pub fn generation_link(name: &Name) -> String {
    format!("generations/{name}")
}

/// A file of a generation; `tail` as in [`autonomy_schema::set`].
pub fn in_generation(name: &Name, tail: &RelPath) -> RelPath {
    generation(name).join(tail)
}

/// The manifest of a generation.
pub fn generation_manifest(name: &Name) -> RelPath {
    in_generation(name, &RelPath::fixed(set::MANIFEST))
}

/// An object.
pub fn object(blake3: Blake3, mode: Mode) -> RelPath {
    object_named(&format!("{}-{mode}", blake3.hex()))
}

/// An object while it is being written.
pub(crate) fn object_tmp(blake3: Blake3, mode: Mode, writer: Writer) -> RelPath {
    let before = match writer {
        Writer::Mission => ".tmp-",
        Writer::Relay => ".tmp-relay-",
    };
    object_named(&format!("{before}{}-{mode}", blake3.hex()))
}

/// Who writes objects and entries of the inbox. The mission layer has one writer at a time (`LOCK`), the relay has its own;
/// both may write the same at once, under names that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// An apply, an import, a restore.
    Mission,
    /// The relay daemon.
    Relay,
}

/// The digest that an object's name says; `None` when it is no object's name.
pub fn object_digest(name: &str) -> Option<Blake3> {
    let (hex, mode) = name.split_once('-')?;
    mode.parse::<Mode>().ok()?;
    format!("blake3:{hex}").parse().ok()
}

fn object_named(name: &str) -> RelPath {
    // Hex digits, a dash and an octal mode are always a safe component.
    name.parse().map_or_else(|_never| objects(), |name| objects().join(&name))
}

/// The text of an entry of the outbox.
pub fn outbox_link(generation: &Name) -> String {
    format!("../{}", generation_link(generation))
}

/// The generation that the text of an entry of the outbox names.
pub fn outbox_target(text: &str) -> Option<Name> {
    text.strip_prefix("../generations/")?.parse().ok()
}

/// The set of a manifest in the outbox.
pub fn outbox_entry(manifest: Blake3) -> RelPath {
    manifest.hex().parse().map_or_else(|_never| outbox(), |name| outbox().join(&name))
}

/// A verified set in the inbox.
pub fn inbox_entry(manifest: Blake3) -> RelPath {
    manifest.hex().parse().map_or_else(|_never| inbox(), |name| inbox().join(&name))
}

/// How the name of what the relay is putting into the inbox begins.
pub const RECEIVING: &str = ".relay-";

/// A set that is being put there.
pub fn inbox_part(manifest: Blake3, writer: Writer) -> RelPath {
    let before = match writer {
        Writer::Mission => ".import-",
        Writer::Relay => RECEIVING,
    };
    format!("{before}{}", manifest.hex()).parse().map_or_else(|_never| inbox(), |name| inbox().join(&name))
}

/// The documents of a set that a peer sent.
pub fn edge_set(manifest: Blake3) -> RelPath {
    manifest.hex().parse().map_or_else(|_never| edge_sets(), |name| edge_sets().join(&name))
}

/// The same while they are written.
pub fn edge_set_part(manifest: Blake3) -> RelPath {
    format!(".new-{}", manifest.hex()).parse().map_or_else(|_never| edge_sets(), |name| edge_sets().join(&name))
}

/// Whether a file of `segments/` is named as a payload is that is being received.
pub fn is_partial(name: &str) -> bool {
    let name = name.strip_suffix(".part").map(|name| name.strip_suffix(".tree").unwrap_or(name));
    let Some((payload, index)) = name.and_then(|name| name.split_once('-')) else { return false };
    let is_hex =
        |text: &str, digits| text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex(payload, 64) && is_hex(index, 12)
}

/// A payload that is being received. Its segment index is part of the name, as two manifests may cut the same bytes in two
/// ways, and so is its kind: a file becomes an object as it is, the payload of a tree is taken apart.
pub fn partial(payload: Blake3, index: Blake3, kind: ArtifactType) -> RelPath {
    let end = match kind {
        ArtifactType::File => "part",
        ArtifactType::Tree => "tree.part",
    };
    let name = format!("{}-{}.{end}", payload.hex(), &index.hex()[..12]);
    name.parse().map_or_else(|_never| segments(), |name| segments().join(&name))
}

/// A receipt.
pub fn receipt(name: &ReceiptName) -> RelPath {
    name.file().parse().map_or_else(|_never| receipts(), |file| receipts().join(&file))
}

/// The signature of a receipt.
pub fn receipt_signature(name: &ReceiptName) -> RelPath {
    name.signature().parse().map_or_else(|_never| receipts(), |file| receipts().join(&file))
}

/// The folder of a policy bundle.
pub fn policy_bundle(bundle: Sha256) -> RelPath {
    bundle.hex().parse().map_or_else(|_never| policy_bundles(), |name| policy_bundles().join(&name))
}

/// How the name of a policy bundle begins that is being written.
pub const NEW_BUNDLE: &str = ".new-";

/// The folder of a policy bundle that is being written.
pub fn new_policy_bundle(bundle: Sha256) -> RelPath {
    let name = format!("{NEW_BUNDLE}{}", bundle.hex());
    name.parse().map_or_else(|_never| policy_bundles(), |name| policy_bundles().join(&name))
}

/// The text of the links `policy/current` and `policy/lkg` to a bundle.
pub fn policy_link(bundle: Sha256) -> String {
    format!("bundles/{}", bundle.hex())
}

/// The bundle that the text of such a link names.
pub fn policy_target(text: &str) -> Option<Sha256> {
    let hex = text.strip_prefix("bundles/")?;
    let digest: Sha256 = format!("sha256:{hex}").parse().ok()?;
    (digest.hex() == hex).then_some(digest)
}

/// The telemetry of a process role.
pub fn telemetry_role(role: &Name) -> RelPath {
    below(&telemetry(), role)
}

/// A root that is kept.
pub fn kept_root(version: u64) -> RelPath {
    format!("{version}{}", set::ROOT_SUFFIX)
        .parse()
        .map_or_else(|_never| trust_roots(), |file| trust_roots().join(&file))
}

/// Its signatures.
pub fn kept_root_signatures(version: u64) -> RelPath {
    let file = format!("{version}{}{}", set::ROOT_SUFFIX, set::SIGNATURES_SUFFIX);
    file.parse().map_or_else(|_never| trust_roots(), |file| trust_roots().join(&file))
}

/// The pinned attest key of a peer.
pub fn trust_node(id: &Name) -> RelPath {
    format!("{id}.pub").parse().map_or_else(|_never| trust_nodes(), |file| trust_nodes().join(&file))
}
