//! The fleet that is attacked: its keys, its trust root, its first release and the next one.

use std::collections::BTreeMap;

use autonomy_policy::BuildOptions;
use autonomy_schema::lock::{Lock, LockedInputs, LockedPolicy};
use autonomy_schema::manifest::StateManifest;
use autonomy_schema::segments::{self, Measured};
use autonomy_schema::{Blake3, Document as _, RelPath, Sha256, canonical, document, set};
use serde_json::{Value, json};

use crate::Made;
use crate::case::Files;
use crate::keys::Key;

/// The stream.
pub(crate) const STREAM: &str = "harbor-gateways";
/// Serial of the first release.
pub(crate) const FIRST: u64 = 42;
/// Serial of the next one.
pub(crate) const NEXT: u64 = 43;
/// When the documents were issued: before the first version of the tool was released.
pub(crate) const ISSUED: &str = "2026-11-20T09:00:00Z";
/// When they expire: the corpus shall not rot.
pub(crate) const EXPIRES: &str = "2099-01-01T00:00:00Z";
/// The largest artifact that a case measures.
const MAX_ARTIFACT: u64 = 64 << 20;
/// The policy of the fleet.
pub(crate) const POLICY: &str = r#"package autonomy.update

import rego.v1

default allow := false

allow if input.manifest.metadata.name == "harbor-gateways"

deny contains "channel beta is not for this fleet" if input.manifest.metadata.channel == "beta"
"#;

/// Every key.
pub(crate) struct Keys {
    pub(crate) root: [Key; 3],
    pub(crate) manifest: [Key; 3],
    /// A manifest key that the first release revokes.
    pub(crate) revoked: Key,
    pub(crate) artifact: [Key; 2],
    pub(crate) offline: [Key; 2],
    /// Keys that no root names.
    pub(crate) stranger: [Key; 2],
}

impl Keys {
    fn new() -> Made<Self> {
        Ok(Self {
            root: [Key::p256("root-1")?, Key::p256("root-2")?, Key::ed25519("root-3")?],
            manifest: [Key::p256("manifest-1")?, Key::p256("manifest-2")?, Key::ed25519("manifest-3")?],
            revoked: Key::p256("manifest-revoked")?,
            artifact: [Key::p256("artifact-1")?, Key::ed25519("artifact-2")?],
            offline: [Key::p256("offline-1")?, Key::p256("offline-2")?],
            stranger: [Key::p256("stranger-1")?, Key::ed25519("stranger-2")?],
        })
    }

    /// Every key, for their files.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Key> {
        let fleet = self.root.iter().chain(&self.manifest).chain([&self.revoked]).chain(&self.artifact);
        fleet.chain(&self.offline).chain(&self.stranger)
    }
}

/// A release before it is signed: everything may still be changed.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) manifest: Value,
    pub(crate) lock: Lock,
    pub(crate) policy: Vec<u8>,
    /// Artifacts and their indices, by their paths in the set.
    pub(crate) files: Files,
}

/// The fleet.
pub(crate) struct World {
    pub(crate) keys: Keys,
    /// The set that the node runs.
    pub(crate) first: Files,
    /// The good next set.
    pub(crate) next: Files,
    /// The next release, unsigned.
    pub(crate) draft: Draft,
    /// A release that the first one revokes.
    pub(crate) withdrawn: Files,
}

impl World {
    pub(crate) fn new() -> Made<Self> {
        let keys = Keys::new()?;
        let empty = World {
            keys,
            first: Files::new(),
            next: Files::new(),
            draft: draft(FIRST, "1.4.2", "hold")?,
            withdrawn: Files::new(),
        };
        let mut withdrawn = draft(44, "1.5.1", "leak")?;
        withdrawn.manifest["spec"]["revoked"] = json!({ "number": 4 });
        let withdrawn = empty.signed(&withdrawn)?;
        let revoked = json!({
            "number": 4, "manifests": [Blake3::of(file(&withdrawn, set::MANIFEST)?)], "keys": [empty.keys.revoked.id()],
        });
        let mut first = empty.draft.clone();
        first.manifest["spec"]["revoked"] = revoked.clone();
        let first = empty.signed(&first)?;
        let mut next = draft(NEXT, "1.5.0", "observe")?;
        next.manifest["spec"]["revoked"] = revoked;
        next.manifest["metadata"]["parent"] = json!(Blake3::of(file(&first, set::MANIFEST)?));
        // What is good here must be good for the tool as well.
        document::parse::<StateManifest>(&canonical::to_bytes(&next.manifest)?)
            .map_err(|reasons| reasons.to_string())?;
        let files = empty.signed(&next)?;
        Ok(World { first, next: files, draft: next, withdrawn, ..empty })
    }

    /// The set of a draft, signed as the trust root demands: two manifest keys, one artifact key.
    pub(crate) fn signed(&self, draft: &Draft) -> Made<Files> {
        let manifest = canonical::to_bytes(&draft.manifest)?;
        let lock = draft.lock.to_canonical()?;
        let mut files = draft.files.clone();
        files.insert(set::LOCK_SIGNATURES.to_owned(), lines(&[&self.keys.artifact[0]], &lock)?);
        files.insert(set::LOCK.to_owned(), lock);
        files.insert(set::POLICY.to_owned(), draft.policy.clone());
        self.with_manifest(files, manifest)
    }

    /// The set `files` with these very bytes as its manifest, whatever they are, signed by two.
    pub(crate) fn with_manifest(&self, mut files: Files, manifest: Vec<u8>) -> Made<Files> {
        let [one, two, _] = &self.keys.manifest;
        files.insert(set::MANIFEST_SIGNATURES.to_owned(), lines(&[one, two], &manifest)?);
        files.insert(set::MANIFEST.to_owned(), manifest);
        Ok(files)
    }

    /// The next set with another manifest, signed by two.
    pub(crate) fn doctored(&self, change: impl FnOnce(&mut Value)) -> Made<Files> {
        let mut manifest = self.draft.manifest.clone();
        change(&mut manifest);
        self.with_manifest(self.next.clone(), canonical::to_bytes(&manifest)?)
    }

    /// The next set with a manifest whose text is edited, and so no longer canonical; signed by two.
    pub(crate) fn edited(&self, from: &str, to: &str) -> Made<Files> {
        let text = String::from_utf8(self.manifest().to_vec())?;
        if text.matches(from).count() != 1 {
            return Err(format!("`{from}` does not occur once in the manifest").into());
        }
        self.with_manifest(self.next.clone(), text.replace(from, to).into_bytes())
    }

    /// The next set with other lines under its manifest.
    pub(crate) fn signed_with(&self, lines: &[String]) -> Files {
        let mut files = self.next.clone();
        let text: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
        files.insert(set::MANIFEST_SIGNATURES.to_owned(), text);
        files
    }

    /// The next set with another file.
    pub(crate) fn with(&self, path: &str, bytes: impl Into<Vec<u8>>) -> Files {
        let mut files = self.next.clone();
        files.insert(path.to_owned(), bytes.into());
        files
    }

    /// The bytes of the next manifest.
    pub(crate) fn manifest(&self) -> &[u8] {
        self.next.get(set::MANIFEST).map(Vec::as_slice).unwrap_or_default()
    }

    /// The bytes of the next lock.
    pub(crate) fn lock(&self) -> &[u8] {
        self.next.get(set::LOCK).map(Vec::as_slice).unwrap_or_default()
    }

    /// The trust root, unsigned.
    pub(crate) fn root(&self) -> Value {
        let keys = &self.keys;
        let named: BTreeMap<String, String> = keys
            .all()
            .filter(|key| !key.name().starts_with("stranger"))
            .map(|key| (key.id().to_string(), key.public_pem()))
            .collect();
        let role = |keys: &[&Key], threshold: u64| {
            let mut ids: Vec<String> = keys.iter().map(|key| key.id().to_string()).collect();
            ids.sort();
            json!({ "keys": ids, "threshold": threshold })
        };
        let manifest: Vec<&Key> = keys.manifest.iter().chain([&keys.revoked]).collect();
        json!({
            "apiVersion": "autonomy/v1", "kind": "TrustRoot", "version": 3, "expiresAt": EXPIRES, "keys": named,
            "roles": {
                "root": role(&keys.root.each_ref(), 2), "manifest": role(&manifest, 2),
                "offline": role(&keys.offline.each_ref(), 2), "artifact": role(&keys.artifact.each_ref(), 1),
            },
            "maxSerialStep": 1000, "maxTimeStep": "365d",
        })
    }

    /// A trust root and its lines, by two root keys.
    pub(crate) fn signed_root(&self, root: &Value) -> Made<[(&'static str, Vec<u8>); 2]> {
        let bytes = canonical::to_bytes(root)?;
        let [one, two, _] = &self.keys.root;
        let signatures = lines(&[one, two], &bytes)?;
        Ok([("root.json", bytes), ("root.json.sigstore.jsonl", signatures)])
    }
}

/// One line of each key over `bytes`.
pub(crate) fn lines(keys: &[&Key], bytes: &[u8]) -> Made<Vec<u8>> {
    let mut text = String::new();
    for key in keys {
        text.push_str(&key.line(bytes)?);
        text.push('\n');
    }
    Ok(text.into_bytes())
}

/// A file that is known to be there.
pub(crate) fn file<'a>(files: &'a Files, path: &str) -> Made<&'a [u8]> {
    files.get(path).map(Vec::as_slice).ok_or_else(|| format!("the set has no `{path}`").into())
}

/// A release of the fleet.
fn draft(serial: u64, version: &str, mode: &str) -> Made<Draft> {
    let agent = format!("#!/bin/sh\n# The agent of release {version}.\nexit 0\n");
    let settings = format!("release = \"{version}\"\nmode = \"{mode}\"\n");
    let policy = policy(POLICY, version)?;
    let lock = lock(agent.as_bytes(), &policy, version)?;
    let mut draft = Draft {
        manifest: json!({
            "apiVersion": "autonomy/v1", "kind": "StateManifest",
            "metadata": {
                "name": STREAM, "serial": serial, "channel": "stable", "issuedAt": ISSUED, "expiresAt": EXPIRES,
                "rootVersion": 3, "minTool": "0.1.0",
            },
            "spec": {
                "scope": { "fleet": "harbor", "hardware": ["x86_64"], "matchLabels": { "site": "pier-7" } },
                "release": { "version": version },
                "lock": { "path": set::LOCK }, "artifacts": [], "policy": { "path": set::POLICY, "default": "deny" },
            },
        }),
        lock,
        policy,
        files: Files::new(),
    };
    draft.add("agent", "bin/agent", agent.as_bytes())?;
    draft.add("settings", "etc/settings.toml", settings.as_bytes())?;
    draft.pin()?;
    Ok(draft)
}

fn lock(agent: &[u8], policy: &[u8], version: &str) -> Made<Lock> {
    let policy = LockedPolicy { digest: Sha256::of(policy), semver: version.parse()? };
    let inputs = LockedInputs { prompt_hash: Sha256::of(b""), tool_inputs_hash: Sha256::of(b"") };
    Ok(Lock::new(Sha256::of(agent), policy, inputs)?)
}

/// A bundle of one module.
pub(crate) fn policy(rego: &str, version: &str) -> Made<Vec<u8>> {
    let options = BuildOptions {
        name: "harbor".parse()?,
        version: version.parse()?,
        required_runtime_version: None,
        created_at: ISSUED.parse()?,
    };
    let modules = BTreeMap::from([(RelPath::fixed("update.rego"), rego.as_bytes().to_vec())]);
    Ok(autonomy_policy::build(&modules, &options)?)
}

impl Draft {
    /// Adds an artifact with its index and its pins.
    pub(crate) fn add(&mut self, name: &str, path: &str, bytes: &[u8]) -> Made<()> {
        let measured = self.add_entry(name, path, bytes)?;
        self.files.insert(format!("artifacts/{path}"), bytes.to_vec());
        self.files.insert(format!("segments/{name}.idx"), measured.index);
        Ok(())
    }

    /// Adds an artifact to the manifest alone.
    pub(crate) fn add_entry(&mut self, name: &str, path: &str, bytes: &[u8]) -> Made<Measured> {
        let measured = segments::measure(bytes, MAX_ARTIFACT)?;
        let mode = if path.starts_with("bin/") { "0755" } else { "0644" };
        let (index, count, size) = (Blake3::of(&measured.index), measured.count(), measured.index.len());
        let entry = json!({
            "name": name, "type": "file", "path": path, "mode": mode, "size": measured.size, "digest": measured.sha256,
            "blake3": measured.blake3,
            "segments": { "index": index, "count": count, "size": size },
        });
        let list = self.manifest["spec"]["artifacts"].as_array_mut().ok_or("the manifest has no artifacts")?;
        list.push(entry);
        Ok(measured)
    }

    /// Pins lock and policy as they are.
    pub(crate) fn pin(&mut self) -> Made<()> {
        let bytes = self.lock.to_canonical()?;
        let spec = &mut self.manifest["spec"];
        spec["lock"]["digest"] = json!(Sha256::of(&bytes));
        spec["lock"]["size"] = json!(bytes.len());
        spec["lock"]["fingerprint"] = json!(self.lock.behavioral_fingerprint);
        spec["release"]["targetLockFingerprint"] = json!(self.lock.behavioral_fingerprint);
        spec["policy"]["digest"] = json!(Sha256::of(&self.policy));
        spec["policy"]["size"] = json!(self.policy.len());
        Ok(())
    }

    /// Another policy bundle, bound by the lock and pinned.
    pub(crate) fn with_policy(mut self, policy: Vec<u8>) -> Made<Self> {
        self.lock.policy_bundle.digest = Sha256::of(&policy);
        self.policy = policy;
        self.rebound()
    }

    /// The lock's fingerprint computed anew, and pinned.
    pub(crate) fn rebound(mut self) -> Made<Self> {
        self.lock.behavioral_fingerprint = self.lock.computed_fingerprint()?;
        self.pin()?;
        Ok(self)
    }
}
