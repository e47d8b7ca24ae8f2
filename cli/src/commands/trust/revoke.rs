//! `autonomy trust revoke`: a revocation list by itself.

use std::path::{Path, PathBuf};

use autonomy_schema::manifest::Revoked;
use autonomy_schema::revocation::Revocation;
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Sha256, document};

use crate::commands::sign::write_unsigned;
use crate::failure::{Failure, exit};
use crate::{files, keys, ui};

/// Make a revocation list: the whole list, which replaces the one before it. Sign it with keys of role `manifest` or `root`
/// (`autonomy sign`), and bring it to nodes with `autonomy trust import DIR`, as `revocation.json`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The list before it, whose entries stay; the number is then one higher.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Its number, above every one that nodes have seen, in manifests too.
    #[arg(
        long,
        required_unless_present = "from",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=super::make::MAX_NUMBER)
    )]
    number: Option<u64>,
    /// A manifest: its fingerprint, or the file.
    #[arg(long = "manifest", value_name = "FINGERPRINT|FILE", value_parser = parse_manifest)]
    manifests: Vec<Named<Blake3>>,
    /// A key: its id, or the public key.
    #[arg(long = "key", value_name = "ID|FILE", value_parser = parse_key)]
    keys: Vec<Named<Sha256>>,
    /// Why, for people.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Where to write it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Something that is named by its digest or by a file.
#[derive(Clone, Debug)]
pub(crate) enum Named<T> {
    Digest(T),
    File(PathBuf),
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let why = "write the new list to another file, and name the old one with --from";
    let mut revoked = args.from.as_deref().map_or_else(|| Ok(Revoked::default()), entries_of)?;
    revoked.number = args.number.unwrap_or(revoked.number.saturating_add(1));
    for named in &args.manifests {
        let manifest = fingerprint(named)?;
        if !revoked.manifests.contains(&manifest) {
            revoked.manifests.push(manifest);
        }
    }
    for named in &args.keys {
        let id = match named {
            Named::Digest(id) => *id,
            Named::File(path) => keys::public(path)?.id(),
        };
        if !revoked.keys.contains(&id) {
            revoked.keys.push(id);
        }
    }
    if revoked.number > super::make::MAX_NUMBER {
        return Err(Failure::Usage(
            "no list can follow the one of --from: its number is the largest there is".to_owned(),
        ));
    }
    let (api_version, kind) = (ApiVersion::default(), Kind::Revocation);
    let list = Revocation { api_version, kind, revoked, reason: args.reason.clone() };
    write_unsigned(&args.out, why, &list)?;
    ui::out(&format!(
        "revocation list {} with {} manifests and {} keys in {}; it counts once signed\n",
        list.revoked.number,
        list.revoked.manifests.len(),
        list.revoked.keys.len(),
        ui::printable(&args.out.display().to_string()),
    ));
    Ok(exit::DONE)
}

fn entries_of(path: &Path) -> Result<Revoked, Failure> {
    let bytes = files::read(path, document::MAX_DOCUMENT_BYTES as u64)?;
    Ok(document::parse::<Revocation>(&bytes)?.revoked)
}

/// The fingerprint that is meant; of a file, that of its bytes, which must be a manifest.
pub(crate) fn fingerprint(named: &Named<Blake3>) -> Result<Blake3, Failure> {
    let path = match named {
        Named::Digest(fingerprint) => return Ok(*fingerprint),
        Named::File(path) if path.is_dir() => path.join(autonomy_schema::set::MANIFEST),
        Named::File(path) => path.clone(),
    };
    let bytes = files::read(&path, document::MAX_DOCUMENT_BYTES as u64)?;
    document::parse::<autonomy_schema::StateManifest>(&bytes)?;
    Ok(document::fingerprint(&bytes))
}

/// `blake3:…`, or a file.
pub(crate) fn parse_manifest(text: &str) -> Result<Named<Blake3>, String> {
    parse(text, "blake3:")
}

fn parse_key(text: &str) -> Result<Named<Sha256>, String> {
    parse(text, "sha256:")
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str, prefix: &str) -> Result<Named<T>, String> {
    if text.starts_with(prefix) {
        return text.parse().map(Named::Digest).map_err(|error: T::Err| error.to_string());
    }
    Ok(Named::File(PathBuf::from(text)))
}
