//! `autonomy export`: a set onto a medium.

use std::path::PathBuf;
use std::sync::Arc;

use autonomy_oci::TRUST_TAG;
use autonomy_reconciler::{
    Audience, Exported, MIN_VOLUME_BYTES, Receiver, Shipment, Split, active_set, export, judge_trust, node_trust,
};
use autonomy_schema::Blake3;
use autonomy_stateroot::{DirSet, SetSource, StateRoot};
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

/// Write a signed set into an OCI image layout, such as on a USB stick, for `autonomy plan oci:DIR` elsewhere.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("delta").multiple(true))]
pub(crate) struct Args {
    /// The set: a folder, `oci:PATH`, or a git repository; what this node runs when absent.
    source: Option<String>,
    /// The folder to write to; one that holds a layout already keeps its other sets.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The tag in the layout; by default `<stream>-<serial>`.
    #[arg(long, value_name = "TAG", value_parser = tag)]
    tag: Option<String>,
    /// Leave out what nodes have that keep the set of this manifest; with several, what is common to all of them.
    #[arg(long, value_name = "FINGERPRINT", group = "delta")]
    since: Vec<Blake3>,
    /// Leave out what a node has, as `autonomy facts --out FILE` told there; for several nodes, what all of them have.
    #[arg(long = "for", value_name = "FILE", group = "delta")]
    nodes: Vec<PathBuf>,
    /// A set that nodes have, where neither this node nor the target holds it.
    #[arg(long, value_name = "SOURCE", requires = "delta")]
    base: Vec<String>,
    /// A folder with trust roots and `revocation.json`, as `autonomy trust import` takes it, to go along; without it, what the
    /// state root has of both, if one is given.
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
    /// Write volumes of at most this size, such as `700MiB`, in the place of one layout: `vol-000`, `vol-001`, … They replace
    /// volumes that lie there.
    #[arg(long, value_name = "SIZE", value_parser = volume_size)]
    split: Option<u64>,
    /// So many volumes may be lost or damaged: as many more are written.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "split")]
    parity: u8,
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
    if text == TRUST_TAG {
        return Err(format!("`{TRUST_TAG}` is the tag of what nodes trust; choose another one"));
    }
    if fits { Ok(text.to_owned()) } else { Err("a tag is at most 128 letters, digits, `_`, `.` and `-`".to_owned()) }
}

/// A size with its unit: `B`, `KiB`, `MiB` or `GiB`.
fn volume_size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("B", 0)];
    let wrong = || "a size is a whole number with its unit: `B`, `KiB`, `MiB` or `GiB`, such as `4GiB`".to_owned();
    let unit = UNITS.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (digits, shift) = unit.ok_or_else(wrong)?;
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    let size = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).ok_or_else(wrong)?;
    if size < MIN_VOLUME_BYTES {
        return Err(format!(
            "a volume of {size} bytes has no room for one block; at least {MIN_VOLUME_BYTES}B are needed"
        ));
    }
    Ok(size)
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<u8, Failure> {
    write(args, global).map_err(|failure| failure.with_json(args.output == Output::Json))
}

fn write(args: &Args, global: &Global) -> Result<u8, Failure> {
    let mut receivers: Vec<Receiver> = args.since.iter().copied().map(Receiver::since).collect();
    for file in &args.nodes {
        receivers.push(Receiver::node(&node::facts_file(file)?));
    }
    let bases = args.base.iter().map(|base| node::source(base, &args.reach, global));
    let bases = bases.collect::<Result<Vec<_>, Failure>>()?;
    let bases = bases.iter().map(node::Opened::set).collect();
    let bar = ui::progress(Some(0), "exporting");
    let progress = |done, total| node::advance(&bar, done, total);
    let split = args.split.map(|volume_bytes| Split { volume_bytes, parity: args.parity });
    let trust = trust(args, global)?;
    let written = |set: Arc<dyn SetSource>, root: Option<&StateRoot>| {
        let audience = Audience { receivers, root, bases };
        let trust = trust.as_deref();
        let shipment = Shipment { tag: args.tag.as_deref(), audience, split, trust, ..Shipment::default() };
        export(set, &args.to, &shipment, &progress)
    };
    let exported = if let Some(source) = &args.source {
        let source = node::source(source, &args.reach, global)?;
        // Only a delta asks what a node here has.
        let delta = !(args.since.is_empty() && args.nodes.is_empty());
        let root = global.state_root.as_deref().filter(|_| delta).map(StateRoot::open).transpose()?;
        written(source.shared(), root.as_ref())
    } else {
        let (root, state_root) = node::state_root(global)?;
        if node::lies_inside(&args.to, &state_root)? {
            let message = format!("{} lies inside the state root; export to another place", args.to.display());
            return Err(Failure::Usage(message));
        }
        active_set(&root).and_then(|set| written(Arc::new(set), Some(&root)))
    };
    bar.finish_and_clear();
    show(args, &exported?);
    Ok(exit::DONE)
}

/// What goes along of whom nodes trust.
fn trust(args: &Args, global: &Global) -> Result<Option<Box<dyn SetSource>>, Failure> {
    if let Some(folder) = &args.trust {
        let folder = DirSet::open(folder).map_err(|error| Failure::refused(error.to_reason(), false))?;
        judge_trust(&folder, node::clock())?;
        return Ok(Some(Box::new(folder)));
    }
    if global.state_root.is_none() {
        return Ok(None);
    }
    let (root, _) = node::state_root(global)?;
    let (trust, warning) = node_trust(&root, node::clock())?;
    ui::warn(warning.as_deref());
    Ok(Some(Box::new(trust)))
}

fn show(args: &Args, exported: &Exported) {
    let Exported { manifest, fingerprint, tag, digest, files, bytes, .. } = exported;
    let Exported { left_out, packs, packed, set_bytes, bases, .. } = exported;
    let name = &manifest.metadata.name;
    if args.output == Output::Json {
        let value = json!({
            "manifest": fingerprint, "stream": name, "serial": manifest.metadata.serial, "tag": tag, "digest": digest,
            "files": files, "bytes": bytes, "set_bytes": set_bytes, "bases": bases, "left_out": left_out, "packs": packs,
            "packed": packed, "trust": exported.trust, "volumes": exported.volumes.map(|volumes| json!({
                "set": volumes.set, "data": volumes.data, "parity": volumes.parity, "bytes": volumes.bytes,
            })),
        });
        return ui::out(&format!("{value}\n"));
    }
    let to = args.to.display().to_string();
    let mut lines = vec![
        format!("Exported {name} {} (serial {}) to {to}.", manifest.spec.release.version, manifest.metadata.serial),
        format!("  manifest {fingerprint}"),
        format!("  tag      {tag}"),
        format!("  digest   {digest}"),
        format!("  {files} files, {bytes} bytes"),
    ];
    if *left_out > 0 {
        let (artifacts, packs) = (plural(*left_out, "artifact"), plural(*packs, "pack"));
        lines.push(format!(
            "  {artifacts} left out, put together from {packs} of {packed} bytes; the whole set has {set_bytes} bytes"
        ));
    }
    lines.extend(bases.iter().map(|base| format!("  needs    {base}")));
    if let Some(volumes) = exported.volumes {
        let (data, parity, bytes) = (plural(volumes.data.into(), "volume"), volumes.parity, volumes.bytes);
        lines.push(format!("  {data} and {parity} of parity, {bytes} bytes"));
    }
    lines.push(format!("Next: autonomy plan oci:{to}:{tag}\n"));
    ui::out(&ui::printable(&lines.join("\n")));
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
