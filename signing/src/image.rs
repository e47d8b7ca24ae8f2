//! Signatures of OCI images and artifacts as cosign writes them; the formats and where they are laid down:
//! `autonomy_schema::image`. A signature over the manifest's own bytes is [`Signer::sign_line`].

use std::collections::BTreeMap;

use autonomy_schema::Sha256;
use autonomy_schema::bundle::{MEDIA_TYPE, PublicKeyHint, VerificationMaterial};
use autonomy_schema::image::{
    Critical, Envelope, EnvelopeSignature, Identity, Image, ImageBundle, PAYLOAD_TYPE, PREDICATE_TYPE,
    SIMPLE_SIGNING_TYPE, STATEMENT_TYPE, SimpleSigning, Statement, Subject, pae,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;

use crate::signer::{SignError, Signer};

/// What Go's `encoding/json` escapes in strings and `serde_json` does not.
const GO_ESCAPES: [(&str, &str); 5] =
    [("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u{2028}", "\\u2028"), ("\u{2029}", "\\u2029")];

/// The payload that cosign 1 and 2 sign for the manifest with `digest`, byte for byte. `docker_reference` is the
/// repository without tag or digest.
pub fn simple_signing_payload(docker_reference: &str, digest: Sha256) -> Vec<u8> {
    let payload = SimpleSigning {
        critical: Critical {
            identity: Identity { docker_reference: docker_reference.to_owned() },
            image: Image { docker_manifest_digest: digest },
            signature_type: SIMPLE_SIGNING_TYPE.to_owned(),
        },
        optional: None,
    };
    go_json(&payload).into_bytes()
}

/// The base64 signature over `payload`, for the annotation `dev.cosignproject.cosign/signature`.
pub fn sign_payload(signer: &Signer, payload: &[u8]) -> Result<String, SignError> {
    Ok(STANDARD.encode(signer.sign(payload)?))
}

/// The Sigstore bundle v0.3 that cosign 3 attaches to the manifest with `digest`, without log entries and time stamps.
pub fn dsse_bundle(signer: &Signer, digest: Sha256) -> Result<Vec<u8>, SignError> {
    let statement = go_json(&Statement {
        statement_type: STATEMENT_TYPE.to_owned(),
        subject: vec![Subject {
            digest: BTreeMap::from([(Sha256::ALGORITHM.to_owned(), digest.hex())]),
            annotations: json!({}),
        }],
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: json!({}),
    });
    let signature = signer.sign(&pae(PAYLOAD_TYPE, statement.as_bytes()))?;
    let bundle = ImageBundle {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: VerificationMaterial {
            public_key: Some(PublicKeyHint { hint: STANDARD.encode(signer.key_id().as_bytes()) }),
        },
        dsse_envelope: Some(Envelope {
            payload: STANDARD.encode(statement),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![EnvelopeSignature { sig: STANDARD.encode(signature) }],
        }),
        message_signature: None,
    };
    Ok(go_json(&bundle).into_bytes())
}

/// Compact JSON in the order of the fields, with Go's escapes. In JSON these characters stand in strings alone.
fn go_json<T: Serialize>(value: &T) -> String {
    // Strings alone: serialisation cannot fail.
    let text = serde_json::to_string(value).unwrap_or_default();
    GO_ESCAPES.iter().fold(text, |text, (from, to)| text.replace(from, to))
}
