//! `autonomy cert import`: certificates of another PKI become the node's.

use std::path::PathBuf;

use autonomy_schema::Duration;
use autonomy_stateroot::Certificates;
use autonomy_trust::MAX_CRL_BYTES;
use serde_json::json;

use crate::Global;
use crate::commands::cert::files::{self as pem, DEFAULT_WINDOW, MAX_PEM, Target};
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::{files, ui};

/// `autonomy cert import`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node's certificate, then its intermediates (PEM).
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// Its private key (PEM, not encrypted, mode 0600).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The CAs to trust (PEM).
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The revocation list of the certificate's issuer, and more if there are more issuers (PEM).
    #[arg(long, value_name = "FILE")]
    crl: PathBuf,
    /// What ends within it is warned of.
    #[arg(long, value_name = "DURATION", default_value = DEFAULT_WINDOW)]
    window: Duration,
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
    let target = Target::new(None, global)?;
    let (root, _) = node::state_root(global)?;
    let own = root.node()?;
    let new = Certificates {
        certificate: Some(files::read(&args.cert, MAX_PEM)?),
        key: Some(pem::private(&args.key)?.to_vec()),
        key_mode: None,
        ca: Some(files::read(&args.ca, MAX_PEM)?),
        crl: Some(files::read(&args.crl, MAX_CRL_BYTES)?),
        attest: target.read()?.attest,
    };
    let (identity, findings) = pem::judge(&new, &own.fleet, &own.node_id, node::clock(), args.window);
    pem::must_be_good(&findings)?;
    target.write(&new, "cert import")?;
    let serial = identity.serial.unwrap_or_default();
    if args.json() {
        ui::out(&format!("{}\n", json!({ "node": own.node_id, "serial": serial, "expires": identity.expires })));
    } else {
        let until = identity.expires.map_or_else(String::new, |until| format!(", valid until {until}"));
        ui::out(&ui::printable(&format!("certificate of `{}`: serial {serial}{until}\n", own.node_id)));
    }
    Ok(exit::DONE)
}
