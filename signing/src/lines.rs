//! Putting a signature line into a `.sigstore.jsonl`.

use autonomy_schema::Sha256;
use autonomy_schema::bundle::Bundle;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// `existing` with `line`, which `key` made: in place of the line that the same key made before, and without lines
/// over other bytes, which would have the whole file refused. Sorted by key id, so that the result does not depend
/// on the order of signing. Lines that are not bundles (bare signatures) are kept, last.
pub fn add_line(existing: &[u8], line: &str, key: Sha256) -> Vec<u8> {
    let digest = read(line.as_bytes()).map(|bundle| bundle.message_signature.message_digest.digest);
    let mut keyed = vec![(key, line.trim().as_bytes().to_vec())];
    let mut others: Vec<Vec<u8>> = Vec::new();
    for old in existing.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|old| !old.is_empty()) {
        let Some(bundle) = read(old) else {
            others.push(old.to_vec());
            continue;
        };
        if digest.as_ref().is_some_and(|digest| *digest != bundle.message_signature.message_digest.digest) {
            continue;
        }
        match hint(&bundle) {
            Some(signer) if signer == key => {}
            Some(signer) => keyed.push((signer, old.to_vec())),
            None => others.push(old.to_vec()),
        }
    }
    keyed.sort();
    others.sort();
    keyed.into_iter().map(|(_, line)| line).chain(others).flat_map(|line| line.into_iter().chain([b'\n'])).collect()
}

fn read(line: &[u8]) -> Option<Bundle> {
    serde_json::from_slice(line).ok()
}

fn hint(bundle: &Bundle) -> Option<Sha256> {
    let hint = STANDARD.decode(&bundle.verification_material.public_key.as_ref()?.hint).ok()?;
    <[u8; 32]>::try_from(hint.as_slice()).ok().map(Sha256::from_bytes)
}
