//! Making a state root. `node.yaml` is written last: until then the folder is none, and `init` can be run again.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use autonomy_schema::document;
use autonomy_schema::floors::Floors;
use autonomy_schema::node::Node;
use autonomy_schema::root::TrustRoot;
use autonomy_schema::{Code, Mode, Reason, Reasons};

use crate::disk::{DiskError, LockMode, StateDisk, SyncTarget};
use crate::root::StateRoot;
use crate::{durable, layout, place};

/// The attest key pair of the node.
#[derive(Clone, Copy)]
pub struct AttestFiles<'a> {
    /// Private key, PKCS#8 PEM.
    pub key_pem: &'a str,
    /// Public key, PEM.
    pub pub_pem: &'a str,
}

/// Makes the folder at `path` (and those above it) and a state root in it. The trust root must have been verified.
/// Refuses a folder that holds anything of somebody else's, and one that is a state root already.
pub fn init(
    path: &Path,
    node: &Node,
    root_bytes: &[u8],
    root_signatures: &[u8],
    attest: &AttestFiles<'_>,
) -> Result<StateRoot, Reasons> {
    let disk = make_place(path)?;
    init_on(Arc::new(disk), node, root_bytes, root_signatures, attest)
}

/// Makes the folder at `path` (and those above it) and checks that it may hold a state root, whether or not it is one.
/// One that holds nothing of anybody's is closed to others.
pub fn make_place(path: &Path) -> Result<crate::real::RealDisk, Reasons> {
    let failed = |error| Reasons::from(DiskError::new("make folder", path.display(), error).to_reason());
    make_folders(path).map_err(failed)?;
    let disk = place::check(path, None)?;
    let shared = path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
    let foreign = foreign(&disk).map_err(|error| Reasons::from(error.to_reason()))?;
    let initialized = durable::exists(&disk, &layout::node_yaml());
    if shared && foreign.is_empty() && !initialized.map_err(|error| Reasons::from(error.to_reason()))? {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(disk)
}

/// Makes the folder at `path` and those above it, mode 0700, durably. This is outside the state root, so outside the
/// seam.
fn make_folders(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|at| at.symlink_metadata().is_err()).collect();
    for folder in missing.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().mode(0o700).create(folder)?;
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// The same on any disk whose root folder exists.
pub fn init_on(
    disk: Arc<dyn StateDisk>,
    node: &Node,
    root_bytes: &[u8],
    root_signatures: &[u8],
    attest: &AttestFiles<'_>,
) -> Result<StateRoot, Reasons> {
    let trust_root: TrustRoot = document::parse(root_bytes)?;
    let failed = |error: DiskError| Reasons::from(error.to_reason());
    let foreign = foreign(&*disk).map_err(failed)?;
    if !foreign.is_empty() {
        let message = format!("the folder is not empty and no state root: it holds {}", foreign.join(", "));
        return Err(Reason::new(Code::StateRootUnsafe, message).with_remedy("choose an empty folder").into());
    }
    let root = StateRoot::on(disk);
    let guard = root.disk().try_lock(&layout::lock_file(), LockMode::Exclusive).map_err(failed)?;
    if guard.is_none() {
        return Err(Reason::new(Code::Locked, "another process holds the lock of the state root").into());
    }
    if root.is_initialized().map_err(failed)? {
        let id = root.node().map_or_else(|_| "a node".to_owned(), |node| format!("node `{}`", node.node_id));
        let remedy = "use it as it is, or choose another folder; a node's identity and floors are never overwritten";
        let message = format!("the folder is the state root of {id} already");
        return Err(Reason::new(Code::IoError, message).with_remedy(remedy).into());
    }
    let floors = Floors { root_version: trust_root.version, ..Floors::default() };
    fill(&root, node, root_bytes, root_signatures, attest, &floors).map_err(failed)?;
    Ok(root)
}

fn fill(
    root: &StateRoot,
    node: &Node,
    root_bytes: &[u8],
    root_signatures: &[u8],
    attest: &AttestFiles<'_>,
    floors: &Floors,
) -> Result<(), DiskError> {
    let disk = root.disk();
    for folder in layout::folders() {
        durable::make_dirs(disk, &folder)?;
    }
    disk.set_len(&layout::store_lock(), 0)?;
    durable::replace(disk, &layout::attest_key(), attest.key_pem.as_bytes(), Mode::PRIVATE)?;
    durable::replace(disk, &layout::attest_pub(), attest.pub_pem.as_bytes(), Mode::FILE)?;
    durable::replace(disk, &layout::trust_root_signatures(), root_signatures, Mode::PRIVATE)?;
    durable::replace(disk, &layout::trust_root(), root_bytes, Mode::PRIVATE)?;
    root.write_floors(floors)?;
    // The folders themselves, of this run or of one that was cut off; those that got a file are synced already.
    disk.sync(SyncTarget::Dir(Some(&layout::trust())))?;
    disk.sync(SyncTarget::Dir(None))?;
    durable::replace(disk, &layout::node_yaml(), node_yaml(node).as_bytes(), Mode::PRIVATE)
}

/// Names at the top of the folder that no state root has, the first few of them, quoted.
pub fn foreign(disk: &(impl crate::disk::Query + ?Sized)) -> Result<Vec<String>, DiskError> {
    let entries = disk.list(None)?;
    let foreign = entries.into_iter().filter(|entry| {
        // A new file system has this one at its top.
        !layout::TOP_NAMES.contains(&entry.name.as_str()) && entry.name != "lost+found"
    });
    // The first few tell enough.
    Ok(foreign.take(5).map(|entry| format!("`{}`", entry.name.escape_default())).collect())
}

/// `node.yaml` as text for people. A JSON string is a YAML double-quoted scalar.
fn node_yaml(node: &Node) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = format!(
        "# Who this node is. Labels may be edited; plans made before are then stale.\n\
         apiVersion: {}\nkind: {}\nnodeId: {}\nfleet: {}\nhardware: {}\n",
        node.api_version,
        node.kind,
        quoted(node.node_id.as_str()),
        quoted(node.fleet.as_str()),
        quoted(node.hardware.as_str()),
    );
    if !node.labels.is_empty() {
        text.push_str("labels:\n");
        for (key, value) in &node.labels {
            // Writing to a String cannot fail.
            let _written = writeln!(text, "  {}: {}", quoted(key), quoted(value));
        }
    }
    text
}
