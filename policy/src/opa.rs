//! Plain bundles of the Open Policy Agent: `.manifest`, `data.json`, `*.rego`, and perhaps `.signatures.json`.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_schema::digest::Sha256;
use autonomy_schema::manifest::semver_text::Version;
use autonomy_schema::path::{Name, RelPath};
use autonomy_schema::time::Time;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bundle::{self, BundleError, DATA, PolicyManifest};
use crate::engine;

/// File name of the manifest.
pub(crate) const MANIFEST: &str = ".manifest";
/// File name of the signature.
const SIGNATURES: &str = ".signatures.json";
/// The name of a bundle that has none.
const NAME: &str = "opa-bundle";
/// Most roots of one bundle.
const MAX_ROOTS: usize = 1_000;

/// What a plain OPA bundle says beside what every bundle says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opa {
    /// Its revision, whatever that is.
    pub revision: Option<String>,
    /// The parts of `data` that it may define, such as `autonomy/tool`; `""` is all of it.
    pub roots: Vec<String>,
    /// What `.signatures.json` holds.
    pub signature: Option<OpaSignature>,
}

/// The signature of an OPA bundle: its hashes are those of the files; who made it is not known before
/// [`OpaSignature::is_by`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpaSignature {
    signed: String,
    signature: Vec<u8>,
    /// The algorithm that it names.
    pub algorithm: String,
    /// The key that it names.
    pub key: Option<String>,
}

impl OpaSignature {
    /// Whether the signature is this key's, by ES256.
    pub fn is_by(&self, key: &autonomy_trust::PublicKey) -> bool {
        // A JWS has the two numbers of an ECDSA signature one after the other, in 64 bytes.
        self.algorithm == "ES256"
            && self.signature.len() == 64
            && key.detached_line(self.signed.as_bytes(), &self.signature).is_ok()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    #[serde(default)]
    revision: Option<String>,
    #[serde(default)]
    roots: Option<Vec<String>>,
    #[serde(default)]
    rego_version: Option<u64>,
    #[serde(default)]
    file_rego_versions: Option<BTreeMap<String, u64>>,
    #[serde(default)]
    wasm: Option<Vec<Value>>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

/// What the files of a plain OPA bundle are.
pub(crate) struct Read {
    pub(crate) manifest: PolicyManifest,
    pub(crate) opa: Opa,
    pub(crate) modules: BTreeMap<String, String>,
    pub(crate) data: Value,
}

pub(crate) fn read(mut files: BTreeMap<RelPath, Vec<u8>>) -> Result<Read, BundleError> {
    let signatures = RelPath::fixed(SIGNATURES);
    let signatures = files.remove(&signatures).map(|text| (signatures, text));
    let signature = match signatures {
        Some((path, text)) => Some(signature(&path, &text, &files)?),
        None => None,
    };
    let bundle_hash = bundle::hash(&files)?;
    let path = RelPath::fixed(MANIFEST);
    let text = files.remove(&path).ok_or(BundleError::NoManifest)?;
    let manifest: Manifest = parse(&path, &text)?;
    let other_version = manifest.file_rego_versions.iter().flatten().map(|(_, version)| version);
    if manifest.rego_version.iter().chain(other_version).any(|version| *version != 1) {
        return Err(BundleError::Opa("it is written in another Rego than v1".to_owned()));
    }
    if manifest.wasm.is_some_and(|modules| !modules.is_empty()) {
        return Err(BundleError::Opa("it decides by WebAssembly, which is not read here".to_owned()));
    }
    let name = manifest.metadata.as_ref().and_then(|metadata| metadata.get("name")).and_then(Value::as_str);
    let name: Option<Name> = name.and_then(|name| name.parse().ok());
    let version: Option<Version> = manifest.revision.as_ref().and_then(|revision| revision.parse().ok());
    let (modules, data) = bundle::contents(files)?;
    let roots = roots(manifest.roots)?;
    within(&roots, &modules, &data)?;
    Ok(Read {
        manifest: PolicyManifest {
            name: name.unwrap_or_else(|| Name::fixed(NAME)),
            policy_bundle_version: version
                .map_or_else(|| "0.0.0".parse(), Ok)
                .map_err(|_never| BundleError::NoManifest)?,
            required_runtime_version: None,
            bundle_hash,
            created_at: Time::EPOCH,
        },
        opa: Opa { revision: manifest.revision, roots, signature },
        modules,
        data,
    })
}

fn parse<'a, T: Deserialize<'a>>(path: &RelPath, text: &'a [u8]) -> Result<T, BundleError> {
    serde_json::from_slice(text).map_err(|source| BundleError::Json { path: path.clone(), source })
}

/// The roots, without slashes at their ends; none of them lies in another.
fn roots(roots: Option<Vec<String>>) -> Result<Vec<String>, BundleError> {
    let roots = roots.unwrap_or_else(|| vec![String::new()]);
    if roots.len() > MAX_ROOTS {
        return Err(BundleError::Opa(format!("it has more than {MAX_ROOTS} roots")));
    }
    let roots: Vec<String> = roots.iter().map(|root| root.trim_matches('/').to_owned()).collect();
    for (at, root) in roots.iter().enumerate() {
        if let Some(other) = roots.iter().skip(at + 1).find(|other| covers(root, other) || covers(other, root)) {
            return Err(BundleError::Opa(format!("its roots `{root}` and `{other}` overlap")));
        }
    }
    Ok(roots)
}

/// Whether a path lies at or below a root.
fn covers(root: &str, path: &str) -> bool {
    root.is_empty() || path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// Packages and data lie below the roots.
fn within(roots: &[String], modules: &BTreeMap<String, String>, data: &Value) -> Result<(), BundleError> {
    let covered = |path: &str| roots.iter().any(|root| covers(root, path));
    for (file, text) in modules {
        let package = engine::package(file, text).map_err(|why| BundleError::Opa(format!("`{file}`: {why}")))?;
        if !covered(&package) {
            return Err(BundleError::Opa(format!(
                "`{file}` has package `{package}`, which lies below none of its roots"
            )));
        }
    }
    let mut open = vec![(String::new(), data)];
    while let Some((path, value)) = open.pop() {
        if covered(&path) {
            continue;
        }
        // Above a root there are objects alone.
        let above = path.is_empty() || roots.iter().any(|root| covers(&path, root));
        match value {
            Value::Object(fields) if above => open.extend(fields.iter().map(|(key, value)| {
                // A key with a slash in it is one step, and must not look like two.
                let key = key.replace('/', "%2F");
                (if path.is_empty() { key } else { format!("{path}/{key}") }, value)
            })),
            Value::Object(_) | Value::Array(_) | Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {
                return Err(BundleError::Opa(format!("its data at `{path}` lies below none of its roots")));
            }
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Signatures {
    signatures: Vec<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    files: Vec<Hashed>,
    #[serde(default)]
    keyid: Option<String>,
}

#[derive(Deserialize)]
struct Hashed {
    name: String,
    hash: String,
    #[serde(default = "sha256")]
    algorithm: String,
}

fn sha256() -> String {
    "SHA-256".to_owned()
}

/// The signature, once its list of hashes is that of the files.
fn signature(path: &RelPath, text: &[u8], files: &BTreeMap<RelPath, Vec<u8>>) -> Result<OpaSignature, BundleError> {
    let wrong = |why: &str| BundleError::Opa(format!("`{path}`: {why}"));
    let Signatures { signatures } = parse(path, text)?;
    let [token] = signatures.as_slice() else { return Err(wrong("it must hold one signature")) };
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(wrong("its signature has not three parts"));
    };
    let decode =
        |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_not_base64| wrong("its signature is not base64url"));
    let signed = format!("{header}.{payload}");
    let Header { alg, kid } = parse(path, &decode(header)?)?;
    let Payload { files: listed, keyid } = parse(path, &decode(payload)?)?;
    let mut seen = BTreeSet::new();
    for Hashed { name, hash, algorithm } in listed {
        if algorithm != "SHA-256" {
            return Err(wrong("it hashes by another algorithm than SHA-256"));
        }
        let found = name.parse::<RelPath>().ok().and_then(|name| files.get_key_value(&name));
        let Some((name, content)) = found else { return Err(wrong("it lists a file that is not there")) };
        if hash_of(name, content)?.hex() != hash {
            return Err(BundleError::OpaHash(name.clone()));
        }
        seen.insert(name);
    }
    if let Some(other) = files.keys().find(|file| !seen.contains(file)) {
        return Err(wrong(&format!("it does not list `{other}`")));
    }
    Ok(OpaSignature { signed, signature: decode(signature)?, algorithm: alg, key: keyid.or(kid) })
}

/// The hash of a file as OPA takes it: documents by their content, with sorted keys and without white space.
fn hash_of(path: &RelPath, content: &[u8]) -> Result<Sha256, BundleError> {
    if !matches!(path.file_name(), DATA | MANIFEST) {
        return Ok(Sha256::of(content));
    }
    let value: Value = parse(path, content)?;
    let mut text = Vec::new();
    Sorted(&value)
        .serialize(&mut serde_json::Serializer::new(&mut text))
        .map_err(|source| BundleError::Json { path: path.clone(), source })?;
    Ok(Sha256::of(&text))
}

/// A value with its keys sorted, whatever order a map of the JSON library keeps.
struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let sorted: BTreeMap<&str, Sorted<'_>> =
                    fields.iter().map(|(key, value)| (key.as_str(), Sorted(value))).collect();
                sorted.serialize(serializer)
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Sorted)),
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                scalar.serialize(serializer)
            }
        }
    }
}
