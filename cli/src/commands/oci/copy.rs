//! `autonomy oci copy`: manifests with all that they name, from here to there.

use std::path::Path;
use std::sync::Arc;

use autonomy_oci::{CopyFrom, CopyTo, Layout, LayoutRef, LayoutWriter, Pick, copy, reference};
use autonomy_schema::Reason;
use serde_json::json;

use super::Common;
use crate::failure::{Failure, exit};
use crate::ui;

/// Copy a manifest with all that it names between registries (`oci://HOST/REPOSITORY:TAG`) and image layouts
/// (`oci:PATH[:TAG]`). No byte of it changes; what is there already is not sent.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// From where.
    from: String,
    /// To where; into a layout without a tag, the tag of the source.
    to: String,
    /// Also what refers to it, and cosign's signatures.
    #[arg(long)]
    referrers: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let refused = |reason: Reason| Failure::refused(reason, false);
    let layout = |text: &str| text.parse::<LayoutRef>().map_err(refused);
    let (from, tag) = if args.from.starts_with(reference::SCHEME) {
        let registry = args.common.connect(&args.from)?;
        let tag = registry.reference().tag().map(str::to_owned);
        (CopyFrom::Registry(Box::new(registry)), tag)
    } else {
        let wanted = layout(&args.from)?;
        let tag = if let Some(Pick::Tag(tag)) = &wanted.pick { Some(tag.clone()) } else { None };
        (CopyFrom::Layout(Arc::new(Layout::open(&wanted.path)?), wanted), tag)
    };
    let to = if args.to.starts_with(reference::SCHEME) {
        CopyTo::Registry(Box::new(args.common.connect(&args.to)?))
    } else {
        let LayoutRef { path, pick } = layout(&args.to)?;
        let tag = match pick {
            None => tag,
            Some(Pick::Tag(tag)) => Some(tag),
            Some(Pick::Digest(_)) => return Err(Failure::Usage(format!("{} is no place to copy to", args.to))),
        };
        CopyTo::Layout(open(&path)?, tag)
    };
    let scratch = tempfile::Builder::new().prefix("autonomy-").tempdir();
    let scratch = scratch.map_err(|error| Failure::io("make a folder in", &std::env::temp_dir(), &error))?;
    let bar = ui::progress(None, "copying");
    let copied = copy(&from, to, args.referrers, scratch.path(), &|bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    let copied = copied?;
    let value = json!({
        "digest": copied.digest, "manifests": copied.manifests, "blobs": copied.blobs, "bytes": copied.bytes,
    });
    let digest = copied.digest.map(|digest| format!("\n  digest   {digest}")).unwrap_or_default();
    let text = format!(
        "Copied {} to {}.{digest}\n  {} manifests, {} blobs sent, {} bytes\n",
        args.from, args.to, copied.manifests, copied.blobs, copied.bytes
    );
    args.common.show(&value, &text);
    Ok(exit::DONE)
}

fn open(path: &Path) -> Result<LayoutWriter, Failure> {
    LayoutWriter::open(path).map_err(|error| Failure::refused(error.to_reason(), false))
}
