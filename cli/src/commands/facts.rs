//! `autonomy facts`: what the node knows of itself.

use std::path::PathBuf;

use autonomy_schema::{Code, Document as _, Time};

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::{files, ui};

mod os;

/// Show what the node knows of itself. Writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The clock to use.
    #[arg(long, value_name = "TIME")]
    now: Option<Time>,
    /// Read every file, whatever the stat cache says.
    #[arg(long)]
    verify_content: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Write them to a file, for `autonomy plan --facts` on another machine, instead of printing them.
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    out: Option<PathBuf>,
    /// Show the components of the operating system's fingerprint, and what changed since it was recorded; needs no state
    /// root.
    #[arg(long, conflicts_with_all = ["out", "now", "verify_content"])]
    os: bool,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    let shown = if args.os { os::show(args.output, global) } else { show(args, global) };
    shown.map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn show(args: &Args, global: &Global) -> Result<u8, Failure> {
    let (root, _) = node::state_root(global)?;
    let mut facts = node::facts(global, &root, args.now, args.verify_content)?;
    facts.observed.kept = autonomy_reconciler::kept_manifests(&root)?;
    let broken = |error: autonomy_schema::canonical::CanonicalError| Failure::because(Code::IoError, error.to_string());
    if let Some(out) = &args.out {
        let mut bytes = facts.to_canonical().map_err(broken)?;
        bytes.push(b'\n');
        return files::replace(out, &bytes).map(|()| exit::DONE);
    }
    match args.output {
        Output::Json => {
            let bytes = facts.to_canonical().map_err(broken)?;
            ui::out(&format!("{}\n", String::from_utf8_lossy(&bytes)));
        }
        Output::Text => {
            let mut text = String::from("Bound facts (a plan is bound to them):\n");
            for (name, value) in facts.bound.named().map_err(broken)? {
                text.push_str(&ui::printable(&format!("  {name:<32} {value}")));
                text.push('\n');
            }
            text.push_str("Observed facts:\n");
            for (name, value) in facts.observed.named() {
                text.push_str(&ui::printable(&format!("  {name:<32} {value}")));
                text.push('\n');
            }
            ui::out(&text);
        }
    }
    Ok(exit::DONE)
}
