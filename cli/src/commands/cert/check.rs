//! `autonomy cert check`: would a peer accept this node, now and for a while?

use std::path::PathBuf;

use autonomy_schema::{Duration, Name, Reasons, Time};
use autonomy_trust::{Identity, IdentityFinding, Severity};
use serde_json::{Value, json};

use crate::Global;
use crate::commands::cert::files::{self, DEFAULT_WINDOW};
use crate::commands::cert::issue::own_id;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// `autonomy cert check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder with `node.crt`, `node.key`, `ca.crt` and `crl.pem`; without it, the state root's.
    #[arg(long, value_name = "DIR", requires = "id", requires = "fleet")]
    dir: Option<PathBuf>,
    /// Id of the node.
    #[arg(long)]
    id: Option<Name>,
    /// Fleet of the node.
    #[arg(long)]
    fleet: Option<Name>,
    /// What ends within it is a finding.
    #[arg(long, value_name = "DURATION", default_value = DEFAULT_WINDOW)]
    window: Duration,
    /// Judge as of this time instead of the clock.
    #[arg(long, value_name = "TIME")]
    now: Option<Time>,
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
    let (found, fleet, id) = if let (Some(dir), Some(fleet), Some(id)) = (&args.dir, &args.fleet, &args.id) {
        (files::in_folder(dir)?, fleet.clone(), id.clone())
    } else {
        let (root, _) = node::state_root(global)?;
        let own = root.node()?;
        let id = own_id(own.node_id, args.id.as_ref())?;
        (files::in_state_root(&root)?, args.fleet.clone().unwrap_or(own.fleet), id)
    };
    let now = args.now.unwrap_or_else(node::clock);
    let (identity, findings) = files::judge(&found, &fleet, &id, now, args.window);
    show(&identity, &findings, args.output);
    match Reasons::new(findings.into_iter().map(|finding| finding.reason).collect()) {
        None => Ok(exit::DONE),
        Some(reasons) => Err(Failure::Refused { reasons, json: false, exit: None, told: args.json() }),
    }
}

fn show(identity: &Identity, findings: &[IdentityFinding], output: Output) {
    if output == Output::Json {
        let findings: Vec<Value> = findings.iter().map(finding_json).collect();
        return ui::out(&format!("{}\n", json!({ "identity": identity_json(identity), "findings": findings })));
    }
    let lines = [
        ("certificate", identity.subject.clone()),
        ("serial", identity.serial.clone()),
        ("names", (!identity.uris.is_empty()).then(|| identity.uris.join(" "))),
        ("expires", identity.expires.map(|time| time.to_string())),
        ("CA", identity.ca_subject.clone()),
        ("CA expires", identity.ca_expires.map(|time| time.to_string())),
        ("list", identity.crl_number.map(|number| number.to_string())),
        ("next list", identity.crl_next_update.map(|time| time.to_string())),
        ("findings", Some(findings.len().to_string())),
    ];
    let lines = lines.into_iter().filter_map(|(what, value)| Some(format!("{what:<12} {}", value?)));
    ui::out(&ui::printable(&(lines.collect::<Vec<_>>().join("\n") + "\n")));
}

fn identity_json(identity: &Identity) -> Value {
    json!({
        "serial": identity.serial, "subject": identity.subject, "uris": identity.uris,
        "fleet": identity.peer.as_ref().map(|(fleet, _)| fleet), "node": identity.peer.as_ref().map(|(_, id)| id),
        "keyId": identity.key_id, "notBefore": identity.not_before, "expires": identity.expires,
        "ca": identity.ca, "caSubject": identity.ca_subject, "caExpires": identity.ca_expires,
        "crlNumber": identity.crl_number, "crlThisUpdate": identity.crl_this_update,
        "crlNextUpdate": identity.crl_next_update,
    })
}

fn finding_json(finding: &IdentityFinding) -> Value {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let reason = &finding.reason;
    json!({ "code": reason.code, "severity": severity, "message": reason.message, "remedy": reason.remedy })
}
