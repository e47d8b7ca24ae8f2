//! `autonomy keygen`: a key pair for signing, in cosign's encrypted format.

use std::path::PathBuf;

use autonomy_schema::{Code, Mode};
use clap::ValueEnum;

use crate::failure::{Failure, exit};
use crate::{files, ui};

/// `autonomy keygen`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The pair is written to `PREFIX.key` (private, mode 0600) and `PREFIX.pub`.
    #[arg(long, value_name = "PREFIX")]
    output_key_prefix: PathBuf,
    /// The algorithm.
    #[arg(long = "type", value_enum, default_value_t = Algorithm::EcdsaP256)]
    algorithm: Algorithm,
}

#[derive(Clone, Copy, ValueEnum)]
enum Algorithm {
    /// ECDSA over P-256 with SHA-256, what cosign makes.
    #[value(name = "ecdsa-p256")]
    EcdsaP256,
    /// Ed25519.
    Ed25519,
}

pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let with_suffix = |suffix: &str| {
        let mut path = args.output_key_prefix.clone().into_os_string();
        path.push(suffix);
        PathBuf::from(path)
    };
    let (private, public) = (with_suffix(".key"), with_suffix(".pub"));
    let why = "a key is never overwritten; choose another prefix, or move it away";
    files::must_not_exist(&private, why)?;
    files::must_not_exist(&public, why)?;
    let password = ui::password("password of the new private key: ", true)?;
    let algorithm = match args.algorithm {
        Algorithm::EcdsaP256 => autonomy_signing::Algorithm::EcdsaP256,
        Algorithm::Ed25519 => autonomy_signing::Algorithm::Ed25519,
    };
    let generated = autonomy_signing::generate_with(algorithm, password.as_bytes());
    let pair = generated.map_err(|error| Failure::because(Code::WrongKey, format!("cannot make a key: {error}")))?;
    files::create_new(&private, pair.private_pem.as_bytes(), Mode::PRIVATE)?;
    if let Err(failure) = files::create_new(&public, pair.public_pem.as_bytes(), Mode::FILE) {
        // Half a pair is of no use, and would stand in the way of the next try.
        std::fs::remove_file(&private).ok();
        return Err(failure);
    }
    let id = autonomy_signing::public_key_id(&pair.public_pem)
        .map_err(|error| Failure::because(Code::WrongKey, format!("cannot read the new key: {error}")))?;
    let warning = if password.is_empty() { "the password is empty: whoever has the file can sign\n" } else { "" };
    ui::err(warning);
    ui::out(&format!("private {} (0600, encrypted)\npublic  {}\nkey id  {id}\n", private.display(), public.display()));
    Ok(exit::DONE)
}
