//! `autonomy push`: a set into a registry.

use autonomy_oci::Reference;
use autonomy_reconciler::{Pushed, push};
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Push a signed set to a registry, for `autonomy plan oci://HOST/REPOSITORY:TAG` elsewhere. What the registry has already
/// is not sent. Lock, policy and signatures are attached as referrers.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The set: a folder, `oci:PATH`, a git repository, or another registry.
    source: String,
    /// Where to: `oci://HOST[:PORT]/REPOSITORY:TAG`.
    reference: String,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    reach: node::ReachArgs,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    send(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn send(args: &Args, global: &Global) -> Result<u8, Failure> {
    let reference = node::reference(&args.reference)?;
    let (Some(tag), None) = (reference.tag(), reference.digest()) else {
        return Err(Failure::Usage(format!("{reference} names no tag to push to; write `oci://HOST/REPOSITORY:TAG`")));
    };
    let source = node::source(&args.source, &args.reach, global)?;
    let registry = args.reach.connect(&reference)?;
    let bar = ui::progress(Some(0), "pushing");
    let pushed = push(source.shared(), &registry, tag, &|done, total| node::advance(&bar, done, total));
    bar.finish_and_clear();
    show(args, &reference, &pushed?);
    Ok(exit::DONE)
}

fn show(args: &Args, reference: &Reference, pushed: &Pushed) {
    let Pushed { manifest, fingerprint, digest, artifact, policy, files, bytes } = pushed;
    let name = &manifest.metadata.name;
    if args.output == Output::Json {
        let value = json!({
            "manifest": fingerprint, "stream": name, "serial": manifest.metadata.serial, "reference": reference.to_string(),
            "digest": digest, "artifact": artifact, "policy": policy, "files": files, "bytes": bytes,
        });
        return ui::out(&format!("{value}\n"));
    }
    let place = format!("oci://{}/{}", reference.authority(), reference.repository());
    let artifact = artifact.map_or_else(String::new, |digest| format!("\n  artifact {digest}"));
    let text = format!(
        "Pushed {name} {} (serial {}) to {reference}.\n  manifest {fingerprint}\n  digest   {digest}{artifact}\n  policy   {policy}\n  {files} files, {bytes} bytes\nNext: autonomy plan {place}@{digest}\n",
        manifest.spec.release.version, manifest.metadata.serial,
    );
    ui::out(&ui::printable(&text));
}
