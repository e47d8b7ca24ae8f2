//! `autonomy render`: from what people write to the set that signers sign. Nothing is half done: the set is built
//! beside its place and moved there at the end.

use std::path::{Path, PathBuf};

use autonomy_schema::author::{self, Inputs, ResolveError};
use autonomy_schema::document;
use autonomy_schema::segments::Measured;
use autonomy_schema::{Blake3, Code, Document as _, StateManifest, set};
use clap::ValueEnum;
use serde_json::json;

use crate::failure::{Failure, exit};
use crate::ui;

mod measure;
mod output;
mod source;
mod tree;

use measure::Copier;
pub(crate) use measure::{Measure, Unmeasured};
pub(crate) use source::{Source, SourcedArtifact, StandIns};
pub(crate) use tree::{MeasuredTree, measure_tree};

/// `autonomy render`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder with `manifest.yaml`; `overlays/SITE` beside `base` is merged over it.
    folder: PathBuf,
    /// Where to write the set. It must not exist, or hold an earlier set; signatures over unchanged bytes are kept.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How to print what was rendered.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let source = Source::load(&args.folder, &StandIns::new())?;
    let staging = output::Staging::beside(&args.out)?;
    let copier = Copier::new(&source, &staging);
    let rendered = build(&source, &copier)?;
    copier.finish();
    for (name, file) in &rendered.inputs.artifacts {
        staging.write(&set::segment_index(name), &file.index)?;
    }
    staging.write(set::POLICY, &rendered.policy)?;
    staging.write(set::MANIFEST, &rendered.bytes)?;
    staging.write(set::LOCK, &rendered.inputs.lock.bytes)?;
    let kept = staging.keep_from(&args.out)?;
    staging.commit(&args.out)?;
    match args.output {
        Output::Text => ui::out(&text(args, &rendered, kept)),
        Output::Json => {
            let value = json(&rendered, kept);
            ui::out(&format!("{value}\n"));
        }
    }
    Ok(exit::DONE)
}

/// What a source renders to. Artifacts are where the measurer left them.
pub(crate) struct Rendered {
    /// The manifest.
    pub(crate) manifest: StateManifest,
    /// Its canonical bytes.
    pub(crate) bytes: Vec<u8>,
    /// BLAKE3 of its bytes.
    pub(crate) fingerprint: Blake3,
    /// What it pins; the lock and the segment indices are here.
    pub(crate) inputs: Inputs,
    /// The bytes of the policy bundle.
    pub(crate) policy: Vec<u8>,
}

/// Renders a source: the one body behind every verb that renders.
pub(crate) fn build(source: &Source, measurer: &dyn Measure) -> Result<Rendered, Failure> {
    let (inputs, policy) = measure::measure(source, measurer)?;
    let manifest = author::resolve(&source.authored, &inputs).map_err(|error| unresolved(source, error))?;
    let bytes = manifest
        .to_canonical()
        .map_err(|error| Failure::because(Code::BadValue, format!("cannot write the manifest: {error}")))?;
    if bytes.len() > document::MAX_DOCUMENT_BYTES {
        let message = format!("the rendered manifest has {} bytes; split the release", bytes.len());
        return Err(Failure::because(Code::DocumentTooLarge, message));
    }
    let fingerprint = document::fingerprint(&bytes);
    Ok(Rendered { manifest, bytes, fingerprint, inputs, policy })
}

/// Puts the reasons of a manifest that cannot be pinned at their places.
fn unresolved(source: &Source, error: ResolveError) -> Failure {
    match error {
        ResolveError::Invalid(reasons) => source.failure(source.located.locate(reasons)),
        ResolveError::Canonical(error) => Failure::because(Code::BadValue, error.to_string()),
    }
}

fn text(args: &Args, rendered: &Rendered, kept: output::Kept) -> String {
    let Rendered { manifest, inputs, fingerprint, .. } = rendered;
    let (metadata, spec) = (&manifest.metadata, &manifest.spec);
    let channel = metadata.channel.as_ref().map_or_else(String::new, |channel| format!(", channel {channel}"));
    let size: u64 = inputs.artifacts.values().map(|file| file.size).sum();
    let segments: u64 = inputs.artifacts.values().map(Measured::count).sum();
    let policy = &inputs.lock.lock.policy_bundle;
    let place = |path: &Path| ui::printable(&path.display().to_string());
    let mut lines = vec![
        format!("rendered {} to {}", place(&args.folder), place(&args.out)),
        format!(
            "  manifest    {} serial {}, release {}{channel}",
            metadata.name, metadata.serial, spec.release.version
        ),
        format!("  fingerprint {fingerprint}"),
        format!("  lock        {}", spec.lock.fingerprint),
        format!("  policy      {} ({})", policy.digest, policy.semver),
        format!("  artifacts   {} files, {size} bytes, {segments} segments", spec.artifacts.len()),
    ];
    let documents = [(set::MANIFEST, kept.manifest), (set::LOCK, kept.lock)];
    let kept = documents.iter().filter(|(_, kept)| *kept);
    lines.extend(kept.map(|(name, _)| format!("  signatures  kept those of {name}, which has not changed")));
    let unsigned = documents.iter().filter(|(_, kept)| !*kept);
    lines.extend(unsigned.map(|(name, _)| format!("next: autonomy sign {} --key KEY", place(&args.out.join(name)))));
    lines.push(String::new());
    lines.join("\n")
}

fn json(rendered: &Rendered, kept: output::Kept) -> serde_json::Value {
    let Rendered { manifest, inputs, fingerprint, .. } = rendered;
    let artifacts = inputs.artifacts.iter().map(|(name, file)| {
        json!({ "name": name, "size": file.size, "digest": file.sha256, "blake3": file.blake3, "segments": file.count() })
    });
    json!({
        "name": manifest.metadata.name,
        "serial": manifest.metadata.serial,
        "release": manifest.spec.release.version,
        "fingerprint": fingerprint,
        "lock": { "fingerprint": manifest.spec.lock.fingerprint, "digest": manifest.spec.lock.digest },
        "policy": { "digest": inputs.policy.digest, "size": inputs.policy.size },
        "artifacts": artifacts.collect::<Vec<_>>(),
        "signatures_kept": { "manifest": kept.manifest, "lock": kept.lock },
    })
}
