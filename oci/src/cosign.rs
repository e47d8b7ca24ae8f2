//! Where cosign keeps its signatures in a registry: layers of the manifest under the tag `sha256-<hex>.sig`
//! (sigstore/cosign `specs/SIGNATURE_SPEC.md`), and bundles as referrers (`specs/BUNDLE_SPEC.md`). What is in them is
//! judged by `trust`.

use autonomy_schema::bundle::MEDIA_TYPE as BUNDLE_TYPE;
use autonomy_schema::image::{MAX_BYTES, PREDICATE_TYPE, SIGNATURE_ANNOTATION, SIMPLE_SIGNING_MEDIA_TYPE};
use autonomy_schema::oci::EMPTY_CONFIG;
use autonomy_schema::{Reason, Sha256};
use serde_json::json;

use crate::registry::{Registry, RegistryError};
use crate::spec::{Descriptor, EMPTY_TYPE, MANIFEST_TYPE, Manifest};

/// Most signatures that are read of one manifest.
const MAX_SIGNATURES: usize = 64;
/// Media type of the config of images, which cosign gives its signatures.
const IMAGE_CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// How often a list of signatures that others change is written.
const TRIES: usize = 10;

/// A signature as cosign 1 and 2 keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimpleSignature {
    /// What is signed.
    pub payload: Vec<u8>,
    /// The signature in base64.
    pub signature: String,
}

impl SimpleSignature {
    fn layer(&self) -> Descriptor {
        Descriptor::of(SIMPLE_SIGNING_MEDIA_TYPE, &self.payload).with(SIGNATURE_ANNOTATION, &self.signature)
    }
}

/// The tag under which cosign keeps the signatures of a manifest.
pub fn signature_tag(manifest: Sha256) -> String {
    format!("sha256-{}.sig", manifest.hex())
}

impl Registry {
    /// The signatures under cosign's tag; none where it is absent.
    pub fn simple_signatures(&self, manifest: Sha256) -> Result<Vec<SimpleSignature>, Reason> {
        let mut found = Vec::new();
        for layer in self.signature_layers(manifest)?.into_iter().take(MAX_SIGNATURES) {
            let Some(signature) = layer.annotations.get(SIGNATURE_ANNOTATION) else { continue };
            let payload = self.pull_bytes(&layer, MAX_BYTES as u64).map_err(|error| error.to_reason())?;
            found.push(SimpleSignature { payload, signature: signature.clone() });
        }
        Ok(found)
    }

    fn signature_layers(&self, manifest: Sha256) -> Result<Vec<Descriptor>, Reason> {
        match self.manifest(&signature_tag(manifest)) {
            Ok((_, bytes)) => {
                let layers = Manifest::parse(&bytes)?.layers.into_iter();
                Ok(layers.filter(|layer| layer.media_type == SIMPLE_SIGNING_MEDIA_TYPE).collect())
            }
            Err(RegistryError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error.to_reason()),
        }
    }

    /// Adds a signature under cosign's tag. Others who add at the same time are treated as with referrers
    /// ([`Registry::attach`]).
    pub fn add_simple_signature(&self, manifest: Sha256, signature: &SimpleSignature) -> Result<(), Reason> {
        let tag = signature_tag(manifest);
        self.push_bytes(SIMPLE_SIGNING_MEDIA_TYPE, &signature.payload).map_err(|error| error.to_reason())?;
        let mut wanted = vec![signature.layer()];
        for turn in 0..TRIES {
            let mut layers = self.signature_layers(manifest)?;
            let missing: Vec<Descriptor> = wanted.iter().filter(|layer| !layers.contains(layer)).cloned().collect();
            if missing.is_empty() {
                return Ok(());
            }
            layers.extend(missing);
            let bytes = self.signature_manifest(&layers).map_err(|error| error.to_reason())?;
            self.push_manifest(MANIFEST_TYPE, &bytes, &tag).map_err(|error| error.to_reason())?;
            self.settle(&wanted, turn).map_err(|error| error.to_reason())?;
            wanted = layers;
        }
        Err(RegistryError::Contended { tag, tries: TRIES }.to_reason())
    }

    /// The image that cosign makes of signatures: its layers are the payloads, its config is that of an image.
    fn signature_manifest(&self, layers: &[Descriptor]) -> Result<Vec<u8>, RegistryError> {
        let diff_ids: Vec<Sha256> = layers.iter().map(|layer| layer.digest).collect();
        let history: Vec<_> = layers.iter().map(|_| json!({ "created": "0001-01-01T00:00:00Z" })).collect();
        let config = json!({
            "architecture": "", "config": {}, "created": "0001-01-01T00:00:00Z", "history": history, "os": "",
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.push_bytes(IMAGE_CONFIG_TYPE, config.to_string().as_bytes())?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            artifact_type: None,
            config,
            layers: layers.to_vec(),
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        };
        manifest.to_bytes().map_err(|error| RegistryError::Unfit {
            what: "the list of signatures".to_owned(),
            problem: error.to_string(),
        })
    }

    /// The Sigstore bundles that refer to a manifest.
    pub fn bundles(&self, manifest: Sha256) -> Result<Vec<Vec<u8>>, Reason> {
        let referrers = self.referrers(manifest, Some(BUNDLE_TYPE)).map_err(|error| error.to_reason())?;
        let mut found = Vec::new();
        for referrer in referrers.into_iter().take(MAX_SIGNATURES) {
            let (_, bytes) = self.manifest(&referrer.digest.to_string()).map_err(|error| error.to_reason())?;
            let layers = Manifest::parse(&bytes)?.layers;
            let bundle = layers.iter().find(|layer| layer.media_type == BUNDLE_TYPE);
            if let Some(bundle) = bundle {
                found.push(self.pull_bytes(bundle, MAX_BYTES as u64).map_err(|error| error.to_reason())?);
            }
        }
        Ok(found)
    }

    /// Adds a bundle with a signed statement as a referrer, as cosign 3 does.
    pub fn add_bundle(&self, subject: &Descriptor, bundle: &[u8]) -> Result<Descriptor, RegistryError> {
        self.push_bytes(EMPTY_TYPE, EMPTY_CONFIG)?;
        let mut manifest = Manifest::artifact(BUNDLE_TYPE, vec![self.push_bytes(BUNDLE_TYPE, bundle)?]);
        manifest.subject = Some(Descriptor::new(&subject.media_type, subject.digest, subject.size));
        let annotations = [
            ("dev.sigstore.bundle.content", "dsse-envelope"),
            ("dev.sigstore.bundle.predicateType", PREDICATE_TYPE),
            // `created` is part of the layout; a time of ours would give the same signature another digest.
            ("org.opencontainers.image.created", "1970-01-01T00:00:00Z"),
        ];
        manifest.annotations.extend(annotations.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let bytes = manifest
            .to_bytes()
            .map_err(|error| RegistryError::Unfit { what: "the bundle".to_owned(), problem: error.to_string() })?;
        self.attach(&[bytes]).map(|mut entries| entries.swap_remove(0))
    }
}
