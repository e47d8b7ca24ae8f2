//! Keys from fixed secrets, and a world in which everything is in order until a test breaks one thing.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_schema::floors::{Floors, StreamFloor};
use autonomy_schema::node::Node;
use autonomy_schema::root::{Role, RoleKeys, TrustRoot};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Code, Document as _, Duration, Reasons, Sha256, StateManifest, Time, bundle, canonical};
use autonomy_trust::{Context, PinnedRoot, PublicKey, Purpose, Signed, Verified, verify_manifest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};

/// A private key made from a number.
#[derive(Clone)]
pub(crate) enum Key {
    P256(p256::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
}

pub(crate) fn p256_key(secret: u8) -> Key {
    Key::P256(p256::ecdsa::SigningKey::from_slice(&[secret; 32]).expect("a scalar below the order"))
}

pub(crate) fn ed25519_key(secret: u8) -> Key {
    Key::Ed25519(ed25519_dalek::SigningKey::from_bytes(&[secret; 32]))
}

impl Key {
    pub(crate) fn pem(&self) -> String {
        let pem = match self {
            Key::P256(key) => key.verifying_key().to_public_key_pem(LineEnding::LF),
            Key::Ed25519(key) => key.verifying_key().to_public_key_pem(LineEnding::LF),
        };
        pem.expect("encodes")
    }

    pub(crate) fn id(&self) -> Sha256 {
        PublicKey::parse_pem(&self.pem()).expect("a key").id()
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Key::P256(key) => {
                let signature: p256::ecdsa::DerSignature = key.sign(bytes);
                signature.as_bytes().to_vec()
            }
            Key::Ed25519(key) => key.sign(bytes).to_bytes().to_vec(),
        }
    }

    /// A bundle line as it should be.
    pub(crate) fn line(&self, bytes: &[u8]) -> String {
        bundle_line(&self.sign(bytes), Sha256::of(bytes), self.id())
    }

    /// A bare base64 signature.
    pub(crate) fn bare(&self, bytes: &[u8]) -> String {
        STANDARD.encode(self.sign(bytes))
    }
}

pub(crate) fn bundle_line(signature: &[u8], digest: Sha256, hint: Sha256) -> String {
    bundle::line(signature, digest, hint, |part| STANDARD.encode(part))
}

pub(crate) fn lines(keys: &[Key], bytes: &[u8]) -> Vec<u8> {
    keys.iter().map(|key| key.line(bytes) + "\n").collect::<String>().into_bytes()
}

/// The keys of the world, by role; the third manifest key is Ed25519.
pub(crate) fn root_keys() -> Vec<Key> {
    vec![p256_key(1), p256_key(2), p256_key(3)]
}

pub(crate) fn manifest_keys() -> Vec<Key> {
    vec![p256_key(11), p256_key(12), ed25519_key(13)]
}

pub(crate) fn artifact_keys() -> Vec<Key> {
    vec![p256_key(21), ed25519_key(22)]
}

pub(crate) fn offline_keys() -> Vec<Key> {
    vec![p256_key(31), p256_key(32)]
}

pub(crate) fn role(keys: &[Key], threshold: u64) -> RoleKeys {
    RoleKeys { keys: keys.iter().map(Key::id).collect::<BTreeSet<_>>(), threshold }
}

/// Version 3: root 2 of 3, manifest 2 of 3, offline 2 of 2, artifact 1 of 2.
pub(crate) fn trust_root() -> TrustRoot {
    let everyone = [root_keys(), manifest_keys(), artifact_keys(), offline_keys()].concat();
    TrustRoot {
        api_version: ApiVersion::default(),
        kind: Kind::TrustRoot,
        version: 3,
        expires_at: time("2028-01-01T00:00:00Z"),
        keys: everyone.iter().map(|key| (key.id(), key.pem())).collect(),
        roles: BTreeMap::from([
            (Role::Root, role(&root_keys(), 2)),
            (Role::Manifest, role(&manifest_keys(), 2)),
            (Role::Offline, role(&offline_keys(), 2)),
            (Role::Artifact, role(&artifact_keys(), 1)),
        ]),
        max_serial_step: 1000,
        max_time_step: Duration::from_millis(365 * 86_400_000),
        reset_time_mark: None,
    }
}

/// A root's canonical bytes and the lines of `signers` over them.
pub(crate) fn signed_root(root: &TrustRoot, signers: &[Key]) -> (Vec<u8>, Vec<u8>) {
    let bytes = root.to_canonical().expect("canonical");
    let signatures = lines(signers, &bytes);
    (bytes, signatures)
}

pub(crate) fn pin(root: &TrustRoot, signers: &[Key]) -> Result<PinnedRoot, Reasons> {
    let (bytes, signatures) = signed_root(root, signers);
    PinnedRoot::first(Signed { bytes: &bytes, signatures: &signatures })
}

pub(crate) fn time(text: &str) -> Time {
    text.parse().expect("a time")
}

pub(crate) fn node() -> Node {
    Node {
        api_version: ApiVersion::default(),
        kind: Kind::Node,
        node_id: "node-a".parse().expect("a name"),
        fleet: "harbor".parse().expect("a name"),
        hardware: "x86_64".parse().expect("a name"),
        labels: BTreeMap::from([("site".to_owned(), "pier-7".to_owned())]),
        destinations: Vec::new(),
    }
}

/// Everything that a manifest is judged by.
pub(crate) struct World {
    pub(crate) root: TrustRoot,
    pub(crate) manifest: Value,
    pub(crate) signers: Vec<Key>,
    pub(crate) floors: Floors,
    pub(crate) clock: Time,
    pub(crate) node: Option<Node>,
    pub(crate) purpose: Purpose,
}

impl World {
    /// Serial 42 on a node that has seen 41.
    pub(crate) fn new() -> Self {
        let sample = include_bytes!("../../../docs/formats/samples/manifest.json");
        let mut manifest: Value = serde_json::from_slice(sample).expect("the sample");
        manifest["metadata"] = json!({
            "name": "harbor-gateways", "serial": 42, "channel": "stable", "rootVersion": 3, "minTool": "0.1.0",
            "issuedAt": "2026-11-20T09:00:00Z", "expiresAt": "2027-02-20T09:00:00Z",
        });
        manifest["spec"]["scope"] = json!({"fleet": "harbor"});
        manifest["spec"]["revoked"] = json!({"number": 4});
        let mut floors = Floors { promoted: true, root_version: 3, ..Floors::default() };
        let stream: autonomy_schema::Name = "harbor-gateways".parse().expect("a name");
        floors.streams.insert(stream.clone(), StreamFloor { serial: 41, manifest: Blake3::of(b"serial 41") });
        floors.stream = Some(stream);
        floors.revoked.number = 4;
        floors.time_mark = Some(time("2026-10-01T00:00:00Z"));
        Self {
            root: trust_root(),
            manifest,
            signers: manifest_keys()[..2].to_vec(),
            floors,
            clock: time("2026-11-21T00:00:00Z"),
            node: Some(node()),
            purpose: Purpose::Change,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        canonical::to_bytes(&self.manifest).expect("canonical")
    }

    pub(crate) fn verify(&self) -> Result<Verified<StateManifest>, Reasons> {
        let bytes = self.bytes();
        self.verify_bytes(&bytes, &lines(&self.signers, &bytes))
    }

    pub(crate) fn verify_bytes(&self, bytes: &[u8], signatures: &[u8]) -> Result<Verified<StateManifest>, Reasons> {
        self.with_context(|context| verify_manifest(Signed { bytes, signatures }, context))
    }

    pub(crate) fn with_context<T>(&self, act: impl FnOnce(&Context<'_>) -> T) -> T {
        let root = pin(&self.root, &root_keys()[..2]).expect("the world's root is in order");
        act(&Context {
            root: &root,
            floors: &self.floors,
            clock: self.clock,
            released: time("2026-11-01T00:00:00Z"),
            node: self.node.as_ref(),
            purpose: self.purpose,
        })
    }

    /// The codes of the refusal.
    pub(crate) fn codes(&self) -> Vec<Code> {
        codes(self.verify())
    }
}

/// The codes of a refusal, which must be sorted; empty when it passed.
pub(crate) fn codes<T>(result: Result<T, Reasons>) -> Vec<Code> {
    let reasons = result.err().map(Reasons::into_vec).unwrap_or_default();
    assert!(reasons.is_sorted(), "{reasons:?}");
    for reason in &reasons {
        assert!(!reason.message.is_empty() && !reason.message.contains('\n'), "{reason:?}");
    }
    reasons.into_iter().map(|reason| reason.code).collect()
}

/// A tiny fixed-seed generator, so that no test needs randomness.
pub(crate) fn junk(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| step()).collect()
}
