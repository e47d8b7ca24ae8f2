//! `autonomy cert issue`: a certificate with a new key for a node.

use std::path::PathBuf;

use autonomy_authority::Authority;
use autonomy_schema::{Duration, Name};
use autonomy_signing::Issued;
use autonomy_stateroot::Certificates;
use serde_json::json;

use crate::Global;
use crate::commands::cert::files::{self, Target};
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// `autonomy cert issue`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The CA's folder.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Id of the node; that of the state root when it goes there.
    #[arg(long)]
    id: Option<Name>,
    /// Where `node.crt`, `node.key`, `ca.crt` and `crl.pem` are written; without it, the state root.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
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
    let target = Target::new(args.out.as_deref(), global)?;
    let existing = target.read()?;
    if existing.certificate.is_some() || existing.key.is_some() {
        let place = target.shown();
        return Err(Failure::Usage(format!(
            "{place} has a certificate or a key already; `autonomy cert renew` replaces it"
        )));
    }
    let id = match (&target, &args.id) {
        (Target::Folder(_), Some(id)) => id.clone(),
        (Target::Folder(_), None) => return Err(Failure::Usage("say for which node: --id ID".to_owned())),
        (Target::Node(root), given) => own_id(root.node()?.node_id, given.as_ref())?,
    };
    make(args.ca.as_path(), &id, None, args.valid_for, &target, args.output)
}

/// A state root takes certificates for its own node alone.
pub(super) fn own_id(own: Name, given: Option<&Name>) -> Result<Name, Failure> {
    match given.filter(|given| **given != own) {
        Some(given) => Err(Failure::Usage(format!("the state root is that of node `{own}`, not of `{given}`"))),
        None => Ok(own),
    }
}

/// Issues, judges what was made as a peer would, and writes it.
pub(super) fn make(
    ca: &std::path::Path,
    id: &Name,
    key: Option<&str>,
    valid_for: Duration,
    target: &Target,
    output: Output,
) -> Result<u8, Failure> {
    let now = node::clock();
    let mut authority = Authority::open(ca)?;
    let fleet = match target {
        Target::Folder(_) => authority.fleet().clone(),
        Target::Node(root) => root.node()?.fleet,
    };
    let issued = authority.issue(id, key, valid_for, now)?;
    let (list, number) = authority.list(autonomy_signing::DEFAULT_CRL_VALIDITY, now)?;
    let new = Certificates {
        certificate: Some(issued.certificate_pem.clone().into_bytes()),
        key: Some(issued.private_pem.as_bytes().to_vec()),
        key_mode: None,
        ca: Some(authority.certificate().as_bytes().to_vec()),
        crl: Some(list.into_bytes()),
        attest: target.read()?.attest,
    };
    let (_, findings) = files::judge(&new, &fleet, id, now, Duration::from_millis(0));
    files::must_be_good(&findings)?;
    target.write(&new, "cert issue")?;
    show(&issued, id, number, target, output);
    Ok(exit::DONE)
}

fn show(issued: &Issued, id: &Name, number: u64, target: &Target, output: Output) {
    let (serial, expires) = (&issued.serial, issued.expires);
    if output == Output::Json {
        let told = json!({ "node": id, "serial": serial, "expires": expires, "crlNumber": number });
        return ui::out(&format!("{told}\n"));
    }
    ui::out(&ui::printable(&format!(
        "certificate of `{id}`: serial {serial}, valid until {expires}\nwritten to {}\n",
        target.shown(),
    )));
}
