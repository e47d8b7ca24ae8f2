//! A small fleet: one manifest, one node, and what success would make of the node.

use std::collections::BTreeSet;

use autonomy_plan::{Desired, Plan, plan};
use autonomy_schema::canonical;
use autonomy_schema::document;
use autonomy_schema::facts::{ArtifactFact, BoundFacts, Drift, DriftKind, Facts, FloorFacts, GenerationFacts};
use autonomy_schema::facts::{NodeFacts, ObservedFacts, TrustFacts};
use autonomy_schema::floors::StreamFloor;
use autonomy_schema::manifest::StateManifest;
use autonomy_schema::os::OsFacts;
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Sha256};
use serde_json::{Value, json};

pub(crate) fn artifact(path: &str, content: &str, mode: &str) -> Value {
    let index = format!("index of {content}");
    json!({
        "name": path.replace('/', "."), "type": "file", "path": path, "mode": mode, "size": content.len(),
        "digest": Sha256::of(content.as_bytes()), "blake3": Blake3::of(content.as_bytes()),
        "segments": { "index": Blake3::of(index.as_bytes()), "count": 1, "size": 40 },
    })
}

/// The JSON of release 1: two artifacts, a unit, two peers of which one is the node itself.
pub(crate) fn release_1() -> Value {
    json!({
        "apiVersion": "autonomy/v1", "kind": "StateManifest",
        "metadata": {
            "name": "harbor-gateways", "serial": 41, "channel": "stable",
            "issuedAt": "2026-11-20T09:00:00Z", "expiresAt": "2027-02-20T09:00:00Z",
        },
        "spec": {
            "scope": { "fleet": "harbor" },
            "release": { "version": "1.4.1", "targetLockFingerprint": Blake3::of(b"lock 1") },
            "lock": {
                "path": "autonomy.lock.json", "size": 812,
                "digest": Sha256::of(b"lock 1"), "fingerprint": Blake3::of(b"lock 1"),
            },
            "artifacts": [artifact("bin/agent", "agent 1", "0755"), artifact("etc/agent.toml", "level = 1", "0644")],
            "policy": { "path": "policy.tar.gz", "size": 2048, "digest": Sha256::of(b"policy 1"), "default": "deny" },
            "services": [{ "unit": "agent.service", "action": "restart" }],
            "relay": {
                "peers": [
                    { "id": "node-a", "address": "10.0.0.1:7443" },
                    { "id": "node-b", "address": "10.0.0.2:7443" },
                ],
            },
        },
    })
}

/// The JSON of release 2: the agent changes, a file comes, a file goes, the policy changes, a peer comes.
pub(crate) fn release_2() -> Value {
    let mut manifest = release_1();
    manifest["metadata"]["serial"] = json!(42);
    manifest["metadata"]["parent"] = json!(parse(&release_1()).1);
    let spec = &mut manifest["spec"];
    spec["release"] = json!({ "version": "1.4.2", "targetLockFingerprint": Blake3::of(b"lock 2") });
    spec["lock"]["digest"] = json!(Sha256::of(b"lock 2"));
    spec["lock"]["fingerprint"] = json!(Blake3::of(b"lock 2"));
    spec["artifacts"] = json!([artifact("bin/agent", "agent two", "0755"), artifact("share/map", "a map", "0644")]);
    spec["policy"]["digest"] = json!(Sha256::of(b"policy 2"));
    spec["relay"]["peers"].as_array_mut().unwrap().push(json!({ "id": "node-c", "address": "10.0.0.3:7443" }));
    manifest
}

/// The manifest with these reconstruction steps.
pub(crate) fn with_steps(manifest: &Value, steps: &Value) -> Value {
    let mut manifest = manifest.clone();
    manifest["spec"]["reconstruction"] = json!({ "steps": steps });
    manifest
}

/// One step of every kind: a folder, the agent and a run of it, a file, a link, and a unit from an artifact.
pub(crate) fn every_step() -> Value {
    json!([
        { "directory": { "path": "/opt/harbor", "mode": "0755" } },
        { "copyBinary": { "artifact": "bin.agent", "to": "/usr/local/bin/agent", "mode": "0755" } },
        { "verifyConfig": { "command": ["/usr/local/bin/agent", "--selfcheck"] } },
        { "writeFile": { "to": "/etc/autonomy/agent.env", "content": "LEVEL=1\n", "mode": "0644" } },
        { "symlink": { "at": "/usr/local/bin/harbor", "target": "agent" } },
        { "systemdUnit": { "name": "agent.service", "artifact": "etc.agent.toml", "enable": true } },
    ])
}

/// The manifest with every default written out, and its fingerprint.
pub(crate) fn parse(json: &Value) -> (StateManifest, Blake3) {
    let manifest: StateManifest = serde_json::from_value(json.clone()).unwrap();
    let bytes = canonical::to_bytes(&manifest).unwrap();
    assert_eq!(document::parse::<StateManifest>(&bytes).unwrap(), manifest);
    (manifest, Blake3::of(&bytes))
}

/// A node on which nothing was ever activated.
pub(crate) fn fresh() -> Facts {
    Facts {
        api_version: ApiVersion::default(),
        kind: Kind::Facts,
        bound: BoundFacts {
            node: NodeFacts {
                id: "node-a".parse().unwrap(),
                fleet: "harbor".parse().unwrap(),
                hardware: "x86_64".parse().unwrap(),
                labels: [("site".to_owned(), "pier-7".to_owned())].into(),
                destinations: Vec::new(),
            },
            os: OsFacts { kernel: "6.1.0-26-amd64".to_owned(), ..OsFacts::default() },
            trust: TrustFacts { root_version: 1, root: Blake3::of(b"root") },
            floors: FloorFacts::default(),
            current: None,
            lkg: None,
            boot: None,
            identity: autonomy_schema::facts::IdentityFacts::default(),
            drift: Vec::new(),
            outbox: BTreeSet::new(),
            pinned: BTreeSet::new(),
            unfinished: false,
            awaiting: None,
        },
        observed: ObservedFacts {
            clock: "2026-11-25T09:00:00Z".parse().unwrap(),
            time_mark: None,
            free_bytes: 1 << 30,
            used_bytes: 1 << 20,
            suspended: false,
            kept: std::collections::BTreeSet::new(),
            certificate_expires: None,
            crl_due: None,
            durability: None,
            findings: Vec::new(),
        },
    }
}

/// What a node is after it applied `json` with success.
pub(crate) fn after(json: &Value, before: &Facts) -> Facts {
    let (manifest, fingerprint) = parse(json);
    let (metadata, spec) = (&manifest.metadata, &manifest.spec);
    let mut artifacts: Vec<ArtifactFact> = spec.artifacts.iter().filter_map(ArtifactFact::of).collect();
    artifacts.sort_by(|a, b| a.path.cmp(&b.path));
    let mut facts = before.clone();
    let generation = format!("{}-{}-1", metadata.serial, fingerprint.short());
    facts.bound.current = Some(GenerationFacts {
        generation: generation.parse().unwrap(),
        manifest: fingerprint,
        stream: metadata.name.clone(),
        serial: metadata.serial,
        release: spec.release.version.to_string(),
        lock: spec.lock.fingerprint,
        policy: spec.policy.digest,
        revoked: None,
        edge: Blake3::of(spec.relay.edge_toml().as_bytes()),
        artifacts,
        reconstruction: autonomy_schema::facts::RebuildFact::all_of(spec),
    });
    facts.bound.lkg = Some(generation.parse().unwrap());
    facts.bound.drift = Vec::new();
    facts.bound.floors.promoted = true;
    facts.bound.floors.stream = Some(metadata.name.clone());
    let floor = StreamFloor { serial: metadata.serial, manifest: fingerprint };
    facts.bound.floors.streams.insert(metadata.name.clone(), floor);
    if spec.relay.peers.iter().any(|peer| peer.id != facts.bound.node.id) {
        facts.bound.outbox.insert(fingerprint);
    }
    facts
}

pub(crate) fn drift(path: &str, kind: DriftKind, expected: &str, actual: &str) -> Drift {
    Drift::generation(path.parse().unwrap(), kind, expected, actual)
}

pub(crate) fn planned(json: &Value, facts: &Facts) -> Plan {
    let (manifest, fingerprint) = parse(json);
    plan(&Desired { policy_semver: Some("1.0.0"), ..Desired::new(&manifest, fingerprint) }, facts).unwrap()
}

/// The steps, one line each: mark, address, reason code.
pub(crate) fn lines(plan: &Plan) -> Vec<String> {
    let line = |step: &autonomy_schema::plan_doc::Step| {
        format!("{} {} {}", step.action.mark(), step.address, step.reason.code)
    };
    plan.doc().steps.iter().map(line).collect()
}
