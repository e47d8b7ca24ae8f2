//! `autonomy init`: makes a folder a state root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autonomy_schema::document::MAX_DOCUMENT_BYTES;
use autonomy_schema::node::Node;
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Code, Document as _, Name, Reasons, set};
use autonomy_stateroot::AttestFiles;
use autonomy_trust::{PinnedRoot, Signed};

use crate::Global;
use crate::commands::sign::signatures_of;
use crate::failure::{Failure, exit};
use crate::{files, node, ui};

/// Make a folder a state root: who the node is, and whom it trusts.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Id of the node.
    #[arg(long)]
    node_id: Name,
    /// Fleet of the node.
    #[arg(long)]
    fleet: Name,
    /// A label, `key=value`; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Hardware class.
    #[arg(long, default_value_t = machine(), hide_default_value = true)]
    hardware: Name,
    /// The trust root to pin; its signatures lie beside it.
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn machine() -> Name {
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    machine.parse().unwrap_or_else(|_| Name::fixed("unknown"))
}

/// Reads a trust root and the signatures beside it, and checks them.
pub(crate) fn trust_root(path: &Path) -> Result<(PinnedRoot, Vec<u8>, Vec<u8>), Failure> {
    let bytes = files::read(path, MAX_DOCUMENT_BYTES as u64)?;
    let signatures = files::read(&signatures_of(path), set::MAX_SIGNATURES_BYTES)?;
    let root = PinnedRoot::first(Signed { bytes: &bytes, signatures: &signatures })?;
    Ok((root, bytes, signatures))
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let path = node::state_root_path(global)?;
    let (pinned, bytes, signatures) = trust_root(&args.trust_root)?;
    let labels: BTreeMap<String, String> = args.labels.iter().cloned().collect();
    if labels.len() != args.labels.len() {
        return Err(Failure::Usage("a label is given twice".to_owned()));
    }
    let node = Node {
        api_version: ApiVersion::default(),
        kind: Kind::Node,
        node_id: args.node_id.clone(),
        fleet: args.fleet.clone(),
        hardware: args.hardware.clone(),
        labels,
        destinations: Vec::new(),
    };
    Reasons::check(node.validate())?;
    let pair = autonomy_signing::generate_attest()
        .map_err(|error| Failure::because(Code::WrongKey, format!("cannot make the attest key: {error}")))?;
    let attest = AttestFiles { key_pem: &pair.private_pem, pub_pem: &pair.public_pem };
    autonomy_stateroot::init(path, &node, &bytes, &signatures, &attest)?;
    ui::out(&format!(
        "Initialized {} as node `{}` of fleet `{}`, pinned to trust root {} ({}).\n",
        ui::printable(&path.display().to_string()),
        node.node_id,
        node.fleet,
        pinned.document().version,
        pinned.fingerprint().short(),
    ));
    Ok(exit::DONE)
}
