//! `autonomy oci`: registries and image layouts, beyond push and pull.

use autonomy_oci::spec::{Descriptor, MANIFEST_TYPE, Manifest};
use autonomy_oci::{Attached, Registry, single_file};
use autonomy_schema::{Code, Reason, Sha256};
use clap::Subcommand;
use serde_json::json;

use crate::Global;
use crate::failure::{Failure, exit};
use crate::node::{self, Output};
use crate::ui;

mod attach_lock;
mod attach_policy;
mod attach_signature;
mod copy;
mod probe;
mod referrers;
mod verify;

/// `autonomy oci`.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Ask a registry what it is and how it lists referrers.
    Probe(probe::Args),
    /// List what refers to a manifest: locks, policies, signatures.
    Referrers(referrers::Args),
    /// Attach a lock, with its signatures, to an artifact or a set.
    AttachLock(attach_lock::Args),
    /// Attach a policy bundle to an artifact or a set.
    AttachPolicy(attach_policy::Args),
    /// Sign a manifest as cosign does, under its tag and as a bundle.
    AttachSignature(attach_signature::Args),
    /// Copy a manifest with all that it names between registries and image layouts.
    Copy(copy::Args),
    /// Verify cosign's signatures of a manifest with pinned keys.
    Verify(verify::Args),
}

/// What all of these take.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    registry: node::RegistryArgs,
}

impl Common {
    /// The registry of a reference.
    fn connect(&self, reference: &str) -> Result<Registry, Failure> {
        self.registry.connect(&node::reference(reference)?)
    }

    /// Prints a result in the wanted form.
    fn show(&self, value: &serde_json::Value, text: &str) {
        match self.output {
            Output::Json => ui::out(&format!("{value}\n")),
            Output::Text => ui::out(&ui::printable(text)),
        }
    }
}

pub(crate) fn run(command: &Command, global: &Global) -> Result<u8, Failure> {
    let (ran, common) = match command {
        Command::Probe(args) => (probe::run(args), &args.common),
        Command::Referrers(args) => (referrers::run(args), &args.common),
        Command::AttachLock(args) => (attach_lock::run(args), &args.common),
        Command::AttachPolicy(args) => (attach_policy::run(args), &args.common),
        Command::AttachSignature(args) => (attach_signature::run(args), &args.common),
        Command::Copy(args) => (copy::run(args), &args.common),
        Command::Verify(args) => (verify::run(args, global), &args.common),
    };
    ran.map_err(|failure| failure.with_json(common.output == Output::Json))
}

/// The manifest that a reference names: how it is pointed to, and its bytes.
fn named(registry: &Registry) -> Result<(Descriptor, Vec<u8>), Failure> {
    let (media_type, bytes) = registry.named().map_err(|error| Failure::refused(error.to_reason(), false))?;
    Ok((Descriptor::of(&media_type, &bytes), bytes))
}

/// Attaches files to what the reference names, and says so. `check` is told the digest of the file that the subject is
/// about, where it is a single one.
fn attach(
    common: &Common,
    reference: &str,
    kind: &str,
    files: &[Attached<'_>],
    check: &dyn Fn(Sha256) -> Result<(), Reason>,
) -> Result<u8, Failure> {
    let registry = common.connect(reference)?;
    let (subject, bytes) = named(&registry)?;
    if subject.media_type == MANIFEST_TYPE
        && let Some(file) = single_file(&Manifest::parse(&bytes).map_err(|reason| Failure::refused(reason, false))?)
    {
        check(file.digest).map_err(|reason| Failure::refused(reason, false))?;
    }
    let attached = registry.push_attachment(kind, &subject, files).and_then(|manifest| registry.attach(&[manifest]));
    let attached = attached.map_err(|error| Failure::refused(error.to_reason(), false))?;
    let digest = attached.first().map(|entry| entry.digest);
    let value = json!({ "subject": subject.digest, "artifactType": kind, "digest": digest });
    let referrer = digest.map_or_else(String::new, |digest| format!("\n  referrer {digest}"));
    let text = format!("Attached to {reference}.\n  subject  {}{referrer}\n  type     {kind}\n", subject.digest);
    common.show(&value, &text);
    Ok(exit::DONE)
}

/// A file that belongs to another artifact than the one that it is attached to.
fn other(what: &str, says: Sha256, subject: Sha256) -> Reason {
    let message = format!("{what} {says}, and the artifact at hand is {subject}");
    Reason::new(Code::DigestMismatch, message).with_remedy("attach it to the artifact that it was made for")
}
