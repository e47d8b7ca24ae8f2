//! `autonomy cert renew`: a new certificate for a node that has one.

use std::path::PathBuf;

use autonomy_schema::{Code, Duration};
use autonomy_trust::{describe_certificates, peer_of_uri};
use zeroize::Zeroizing;

use crate::Global;
use crate::commands::cert::files::Target;
use crate::commands::cert::issue;
use crate::failure::Failure;
use crate::node::Output;

/// `autonomy cert renew`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The CA's folder.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// The folder with `node.crt` and `node.key`, whose files are replaced; without it, the state root.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Make a new key too.
    #[arg(long)]
    new_key: bool,
    /// How long it is valid; never longer than the CA.
    #[arg(long, value_name = "DURATION", default_value_t = autonomy_signing::DEFAULT_NODE_VALIDITY)]
    valid_for: Duration,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    pub(super) fn json(&self) -> bool {
        self.output == Output::Json
    }
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let target = Target::new(args.dir.as_deref(), global)?;
    let existing = target.read()?;
    let id = match &target {
        Target::Node(root) => root.node()?.node_id,
        Target::Folder(_) => {
            let pem = existing.certificate.as_deref().ok_or_else(|| {
                Failure::because(Code::CertificateMissing, format!("{} has no `node.crt`", target.shown()))
            })?;
            let cards = describe_certificates(pem).map_err(refused)?;
            let peers = cards.iter().take(1).flat_map(|card| &card.uris).filter_map(|uri| peer_of_uri(uri));
            peers.map(|(_, id)| id).next().ok_or_else(|| {
                Failure::because(Code::CertificateWrongName, format!("`node.crt` in {} names no node", target.shown()))
            })?
        }
    };
    let key = if args.new_key {
        None
    } else {
        let key = existing.key.map(Zeroizing::new).ok_or_else(|| {
            Failure::because(Code::KeyMissing, format!("{} has no `node.key`; --new-key makes one", target.shown()))
        })?;
        let text = String::from_utf8(key.to_vec()).map(Zeroizing::new);
        Some(text.map_err(|_binary| Failure::because(Code::KeyUnreadable, "`node.key` is not PEM"))?)
    };
    issue::make(&args.ca, &id, key.as_ref().map(|key| key.as_str()), args.valid_for, &target, args.output)
}

/// Reasons of a library as a refusal.
pub(super) fn refused(reasons: Vec<autonomy_schema::Reason>) -> Failure {
    match autonomy_schema::Reasons::new(reasons) {
        Some(reasons) => reasons.into(),
        None => Failure::because(Code::CertificateUnreadable, "the file cannot be read"),
    }
}
