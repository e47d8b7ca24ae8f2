//! `autonomy export`: a set onto a medium.

use std::path::PathBuf;

use autonomy_reconciler::{Exported, active_set, export};
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Write a signed set into an OCI image layout, such as on a USB stick, for `autonomy plan oci:DIR` elsewhere.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The set: a folder, `oci:PATH`, or a git repository; what this node runs when absent.
    source: Option<String>,
    /// The folder to write to; one that holds a layout already keeps its other sets.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The tag in the layout; by default `<stream>-<serial>`.
    #[arg(long, value_name = "TAG", value_parser = tag)]
    tag: Option<String>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    reach: node::ReachArgs,
}

/// A tag as registries take it (distribution-spec 1.1, "Pulling manifests").
fn tag(text: &str) -> Result<String, String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let fits = text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-') && text.len() <= 128;
    if fits { Ok(text.to_owned()) } else { Err("a tag is at most 128 letters, digits, `_`, `.` and `-`".to_owned()) }
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    write(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn write(args: &Args, global: &Global) -> Result<u8, Failure> {
    let bar = ui::progress(Some(0), "exporting");
    let progress = |done, total| node::advance(&bar, done, total);
    let exported = if let Some(source) = &args.source {
        let source = node::source(source, &args.reach, global)?;
        export(source.set(), &args.to, args.tag.as_deref(), &progress)
    } else {
        let (root, state_root) = node::state_root(global)?;
        if node::lies_inside(&args.to, &state_root)? {
            let message = format!("{} lies inside the state root; export to another place", args.to.display());
            return Err(Failure::Usage(message));
        }
        active_set(&root).and_then(|set| export(&set, &args.to, args.tag.as_deref(), &progress))
    };
    bar.finish_and_clear();
    show(args, &exported?);
    Ok(exit::DONE)
}

fn show(args: &Args, exported: &Exported) {
    let Exported { manifest, fingerprint, tag, digest, files, bytes } = exported;
    let name = &manifest.metadata.name;
    if args.output == Output::Json {
        let value = json!({
            "manifest": fingerprint, "stream": name, "serial": manifest.metadata.serial, "tag": tag, "digest": digest,
            "files": files, "bytes": bytes,
        });
        return ui::out(&format!("{value}\n"));
    }
    let to = args.to.display().to_string();
    let text = format!(
        "Exported {name} {} (serial {}) to {to}.\n  manifest {fingerprint}\n  tag      {tag}\n  digest   {digest}\n  {files} files, {bytes} bytes\nNext: autonomy plan oci:{to}:{tag}\n",
        manifest.spec.release.version, manifest.metadata.serial,
    );
    ui::out(&ui::printable(&text));
}
