//! `autonomy sign`: adds one line to a document's `.sigstore.jsonl`.

use std::path::{Path, PathBuf};

use autonomy_schema::backup::Backup;
use autonomy_schema::document::{self, MAX_DOCUMENT_BYTES};
use autonomy_schema::evidence::Evidence;
use autonomy_schema::facts::Facts;
use autonomy_schema::floors::Floors;
use autonomy_schema::journal::Journal;
use autonomy_schema::lock::Lock;
use autonomy_schema::node::Node;
use autonomy_schema::os::OsFingerprint;
use autonomy_schema::plan_doc::PlanDoc;
use autonomy_schema::policy_override::PolicyOverride;
use autonomy_schema::receipt::Receipt;
use autonomy_schema::revocation::Revocation;
use autonomy_schema::root::TrustRoot;
use autonomy_schema::version::Kind;
use autonomy_schema::{Code, Document, Mode, Reason, Reasons, Sha256, StateManifest, set};
use autonomy_trust::MAX_DETACHED_BYTES;

use crate::failure::{Failure, exit};
use crate::{files, keys, ui};

/// `autonomy sign`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A document (`manifest.json`, `autonomy.lock.json`, `root.json`) or a policy bundle.
    file: PathBuf,
    /// The private key.
    #[arg(long, value_name = "FILE", required_unless_present = "detached_signature")]
    key: Option<PathBuf>,
    /// A signature over the file that was made elsewhere, by a token, a key service or openssl.
    #[arg(long, value_name = "FILE", conflicts_with = "key", requires = "public_key")]
    detached_signature: Option<PathBuf>,
    /// The public key that the detached signature must verify with.
    #[arg(long, value_name = "FILE", conflicts_with = "key", requires = "detached_signature")]
    public_key: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let bytes = files::read(&args.file, set::MAX_POLICY_BYTES)?;
    let what = describe(&args.file, &bytes)?;
    let beside = signatures_of(&args.file);
    let existing = files::read_if_there(&beside, set::MAX_SIGNATURES_BYTES)?.unwrap_or_default();
    let (line, key) = match (&args.key, &args.detached_signature, &args.public_key) {
        (Some(key), ..) => signed_here(key, &bytes)?,
        (None, Some(signature), Some(key)) => signed_elsewhere(signature, key, &bytes)?,
        (None, ..) => return Err(Failure::Usage("--key, or --detached-signature with --public-key".to_owned())),
    };
    let lines = autonomy_signing::add_line(&existing, &line, key);
    files::replace(&beside, &lines)?;
    let count = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    ui::out(&format!(
        "signed {what}\n  key        {key}\n  signatures {count} in {}\n",
        ui::printable(&beside.display().to_string())
    ));
    Ok(exit::DONE)
}

/// The line that a private key makes, and the key's id.
fn signed_here(key: &Path, bytes: &[u8]) -> Result<(String, Sha256), Failure> {
    let signer = keys::signer(key)?;
    let line = signer
        .sign_line(bytes)
        .map_err(|error| Failure::because(Code::WrongKey, format!("cannot sign with {}: {error}", key.display())))?;
    Ok((line, signer.key_id()))
}

/// The line for a signature that was made elsewhere, once it is shown to be right, and the key's id.
fn signed_elsewhere(signature: &Path, key: &Path, bytes: &[u8]) -> Result<(String, Sha256), Failure> {
    let public = keys::public(key)?;
    let detached = files::read(signature, MAX_DETACHED_BYTES as u64)?;
    let line = public.detached_line(bytes, &detached).map_err(|error| {
        let reason = Reason::new(Code::BadSignatureLine, format!("{}: {error}", signature.display()))
            .with_remedy("sign the file as it is now, with the private half of that very key");
        Failure::refused(reason, false)
    })?;
    Ok((line, public.id()))
}

/// The file that holds the signatures of `file`.
pub(crate) fn signatures_of(file: &Path) -> PathBuf {
    let mut beside = file.as_os_str().to_owned();
    beside.push(set::SIGNATURES_SUFFIX);
    PathBuf::from(beside)
}

/// Refuses a path where a document, or signatures of one, lie already.
pub(crate) fn must_be_new(out: &Path, why: &str) -> Result<(), Failure> {
    files::must_not_exist(out, why)?;
    files::must_not_exist(&signatures_of(out), why)
}

/// Writes a new document that nobody has signed yet.
pub(crate) fn write_unsigned(out: &Path, why: &str, document: &impl Document) -> Result<(), Failure> {
    must_be_new(out, why)?;
    Reasons::check(document.validate())?;
    let bytes = document.to_canonical();
    let bytes = bytes.map_err(|error| Failure::because(Code::BadValue, format!("cannot write it: {error}")))?;
    files::create_new(out, &bytes, Mode::FILE)
}

/// What is about to be signed, in words. A signature says that somebody meant these bytes, so bytes that no reader
/// would accept are refused before the password is asked for.
fn describe(file: &Path, bytes: &[u8]) -> Result<String, Failure> {
    let place = ui::printable(&file.display().to_string());
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let bundle = autonomy_policy::Bundle::load(bytes)
            .map_err(|error| Failure::because(Code::BadValue, format!("{place} is not a policy bundle: {error}")))?;
        let manifest = bundle.manifest();
        return Ok(format!("{place}: policy bundle {} {}", manifest.name, manifest.policy_bundle_version));
    }
    let kind = kind_of(bytes);
    let summary = match kind {
        Kind::StateManifest => manifest_summary(&document::parse(bytes)?),
        Kind::Lock => format!("{}", document::parse::<Lock>(bytes)?.behavioral_fingerprint),
        Kind::TrustRoot => {
            let root = document::parse::<TrustRoot>(bytes)?;
            format!("version {}, expires {}", root.version, root.expires_at)
        }
        Kind::Facts => plain::<Facts>(bytes)?,
        Kind::Plan => plain::<PlanDoc>(bytes)?,
        Kind::Journal => plain::<Journal>(bytes)?,
        Kind::Floors => plain::<Floors>(bytes)?,
        Kind::Node => plain::<Node>(bytes)?,
        Kind::Backup => plain::<Backup>(bytes)?,
        Kind::Receipt => plain::<Receipt>(bytes)?,
        Kind::OsFingerprint => plain::<OsFingerprint>(bytes)?,
        Kind::Evidence => plain::<Evidence>(bytes)?,
        Kind::Revocation => {
            let revoked = document::parse::<Revocation>(bytes)?.revoked;
            format!("{}: {} manifests, {} keys", revoked.number, revoked.manifests.len(), revoked.keys.len())
        }
        Kind::PolicyOverride => {
            let found = document::parse::<PolicyOverride>(bytes)?;
            format!("of manifest {} until {}: {}", found.manifest, found.expires_at, ui::printable(&found.reason))
        }
    };
    Ok(format!("{place}: {kind} {summary}\n  document   {}", document::fingerprint(bytes)))
}

/// The kind that the bytes claim; a manifest when they claim none, so that its parser says what is wrong.
fn kind_of(bytes: &[u8]) -> Kind {
    let capped = bytes.get(..MAX_DOCUMENT_BYTES).unwrap_or(bytes);
    let value = serde_json::from_slice::<serde_json::Value>(capped).unwrap_or_default();
    let claimed = value.get("kind").and_then(serde_json::Value::as_str);
    Kind::ALL.iter().copied().find(|kind| Some(kind.as_str()) == claimed).unwrap_or(Kind::StateManifest)
}

fn plain<T: Document>(bytes: &[u8]) -> Result<String, Reasons> {
    document::parse::<T>(bytes).map(|_| String::new())
}

fn manifest_summary(manifest: &StateManifest) -> String {
    let (metadata, scope) = (&manifest.metadata, &manifest.spec.scope);
    let mut audience = vec![format!("fleet {}", scope.fleet)];
    audience.extend(scope.match_labels.iter().map(|(key, value)| format!("{key}={value}")));
    ui::printable(&format!(
        "{} serial {}, release {}, for {}, until {}",
        metadata.name,
        metadata.serial,
        manifest.spec.release.version,
        audience.join(" "),
        metadata.expires_at
    ))
}
