//! Key files that the operator names.

use std::path::Path;

use autonomy_schema::Code;
use autonomy_signing::Signer;
use autonomy_trust::PublicKey;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::{files, ui};

/// Largest key file; cosign's encrypted P-256 keys have under 1 KiB.
const MAX_KEY_FILE: u64 = 16 << 10;

/// Reads and unlocks a private key; asks for the password where `COSIGN_PASSWORD` is not set.
pub(crate) fn signer(path: &Path) -> Result<Signer, Failure> {
    let wrong = |why: String| Failure::because(Code::WrongKey, format!("{}: {why}", path.display()));
    let bytes = Zeroizing::new(files::read_private(path, MAX_KEY_FILE, Code::WrongKey)?);
    let pem = std::str::from_utf8(&bytes).map_err(|error| wrong(format!("not a PEM file: {error}")))?;
    let password = ui::password(&format!("password of {}: ", path.display()), false)?;
    Signer::from_encrypted_pem(pem, password.as_bytes()).map_err(|error| wrong(error.to_string()))
}

/// Reads a public key.
pub(crate) fn public(path: &Path) -> Result<PublicKey, Failure> {
    let wrong = |why: String| Failure::because(Code::WrongKey, format!("{}: {why}", path.display()));
    let bytes = files::read(path, MAX_KEY_FILE)?;
    let pem = std::str::from_utf8(&bytes).map_err(|error| wrong(format!("not a PEM file: {error}")))?;
    PublicKey::parse_pem(pem).map_err(|error| wrong(error.to_string()))
}
