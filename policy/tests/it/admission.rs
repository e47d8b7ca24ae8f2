//! Admission: the right plan, the right facts, the right policy, or nothing.

use std::collections::{BTreeMap, BTreeSet};

use autonomy_plan::{Desired, Plan, plan};
use autonomy_policy::{AdmittedPlan, Asked, Bundle, admit, asked, build, verdicts};
use autonomy_schema::facts::TrustFacts;
use autonomy_schema::facts::{BoundFacts, Facts, FloorFacts, GenerationFacts, NodeFacts, ObservedFacts};
use autonomy_schema::floors::Floors;
use autonomy_schema::manifest::StateManifest;
use autonomy_schema::os::OsFacts;
use autonomy_schema::reason::{Code, Reasons};
use autonomy_schema::root::{Role, RoleKeys, TrustRoot};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Document as _, Duration, Sha256, canonical};
use autonomy_trust::{AttestKey, Context, PinnedRoot, PublicKey, Purpose, Signed, Verified, verify_manifest};
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
use serde_json::{Value, json};

use crate::fixture::{UPDATE, files, options};

/// Allows what the tests ask, and shows that rules see manifest, plan and facts.
const POLICY: &str = r#"package autonomy.update

default allow := false

allow if {
    input.manifest.metadata.serial >= 1
    input.plan.manifest.serial == input.manifest.metadata.serial
    input.facts.bound.node.id == "node-a"
    input.facts.observed.clock == "2026-11-25T09:00:00Z"
}

deny contains msg if {
    input.manifest.spec.release.version == "6.6.6"
    msg := sprintf("release %s is not welcome", [input.manifest.spec.release.version])
}
"#;

fn key() -> AttestKey {
    let key = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    AttestKey::from_pem(&p256::SecretKey::from(&key).to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap()
}

fn packed(rego: &str) -> Vec<u8> {
    build(&files(&[("update.rego", rego)]), &options()).unwrap()
}

fn bundle() -> Bundle {
    Bundle::load(&packed(POLICY)).unwrap()
}

fn manifest(edit: impl Fn(&mut Value)) -> StateManifest {
    let mut json = json!({
        "apiVersion": "autonomy/v1", "kind": "StateManifest",
        "metadata": {
            "name": "harbor-gateways", "serial": 1,
            "issuedAt": "2026-11-20T09:00:00Z", "expiresAt": "2027-02-20T09:00:00Z",
        },
        "spec": {
            "scope": { "fleet": "harbor" },
            "release": { "version": "1.0.0", "targetLockFingerprint": Blake3::of(b"lock") },
            "lock": {
                "path": "autonomy.lock.json", "size": 800,
                "digest": Sha256::of(b"lock"), "fingerprint": Blake3::of(b"lock"),
            },
            "artifacts": [],
            "policy": { "path": "policy.tar.gz", "size": 1000, "digest": Sha256::of(&packed(POLICY)) },
        },
    });
    edit(&mut json);
    serde_json::from_value(json).unwrap()
}

fn verified(manifest: &StateManifest) -> Verified<StateManifest> {
    let key = key();
    let pem = key.public_pem().to_owned();
    let id = PublicKey::parse_pem(&pem).unwrap().id();
    let role = RoleKeys { keys: BTreeSet::from([id]), threshold: 1 };
    let root = TrustRoot {
        api_version: ApiVersion::default(),
        kind: Kind::TrustRoot,
        version: 1,
        expires_at: "2028-01-01T00:00:00Z".parse().unwrap(),
        keys: BTreeMap::from([(id, pem)]),
        roles: [Role::Root, Role::Manifest, Role::Artifact].map(|name| (name, role.clone())).into(),
        max_serial_step: 1000,
        max_time_step: Duration::from_millis(365 * 86_400_000),
        reset_time_mark: None,
    };
    let root = root.to_canonical().unwrap();
    let line = |bytes: &[u8]| (key.sign_line(bytes).unwrap() + "\n").into_bytes();
    let root = PinnedRoot::first(Signed { bytes: &root, signatures: &line(&root) }).unwrap();
    let bytes = canonical::to_bytes(manifest).unwrap();
    let clock = "2026-11-25T09:00:00Z".parse().unwrap();
    let context = Context {
        root: &root,
        floors: &Floors::default(),
        clock,
        released: clock,
        node: None,
        purpose: Purpose::Change,
    };
    verify_manifest(Signed { bytes: &bytes, signatures: &line(&bytes) }, &context).unwrap()
}

fn facts() -> Facts {
    Facts {
        api_version: ApiVersion::default(),
        kind: Kind::Facts,
        bound: BoundFacts {
            node: NodeFacts {
                id: "node-a".parse().unwrap(),
                fleet: "harbor".parse().unwrap(),
                hardware: "x86_64".parse().unwrap(),
                labels: BTreeMap::new(),
                destinations: Vec::new(),
            },
            os: OsFacts::default(),
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
            used_bytes: 0,
            suspended: false,
            kept: std::collections::BTreeSet::new(),
            certificate_expires: None,
            crl_due: None,
            durability: None,
            findings: Vec::new(),
        },
    }
}

/// A node that runs something with this policy.
fn active(policy: &[u8]) -> Facts {
    let mut facts = facts();
    facts.bound.floors.promoted = true;
    facts.bound.current = Some(GenerationFacts {
        generation: "1-000000000000-1".parse().unwrap(),
        manifest: Blake3::of(b"older"),
        stream: "harbor-gateways".parse().unwrap(),
        serial: 1,
        release: "0.9.0".to_owned(),
        lock: Blake3::of(b"older"),
        policy: Sha256::of(policy),
        revoked: None,
        edge: Blake3::of(b"older"),
        artifacts: Vec::new(),
        reconstruction: Vec::new(),
    });
    facts
}

fn planned(manifest: &StateManifest, facts: &Facts) -> Plan {
    let fingerprint = Blake3::of(&canonical::to_bytes(manifest).unwrap());
    plan(&Desired::new(manifest, fingerprint), facts).unwrap()
}

fn try_admit(manifest: &StateManifest, facts: &Facts, bundle: &Bundle) -> Result<AdmittedPlan, Reasons> {
    admit(planned(manifest, facts), verified(manifest), facts, bundle, None)
}

fn plain() -> StateManifest {
    manifest(|_| {})
}

#[test]
fn first_activation_asks_the_incoming_policy() {
    assert_eq!(asked(&facts()), Asked::Incoming);
    let admitted = try_admit(&plain(), &facts(), &bundle()).unwrap();
    assert_eq!(admitted.plan().doc().manifest.fingerprint, admitted.manifest().fingerprint());
    assert!(admitted.plan().switches());
}

#[test]
fn an_active_node_asks_its_own_policy() {
    let strict = format!("{UPDATE}deny contains \"never\" if true\n");
    let facts = active(&packed(&strict));
    assert_eq!(asked(&facts), Asked::Active);
    let own = Bundle::load(&packed(&strict)).unwrap();
    let reasons = try_admit(&plain(), &facts, &own).unwrap_err();
    assert_eq!(reasons.to_string(), "policy_denied: never");
    // The incoming bundle would allow it, and is not asked.
    let reasons = try_admit(&plain(), &facts, &bundle()).unwrap_err();
    assert!(reasons.has(Code::PolicyError), "{reasons}");
    assert!(try_admit(&plain(), &active(&packed(POLICY)), &bundle()).is_ok());
}

#[test]
fn a_node_that_lost_its_generation_is_not_in_first_activation() {
    let mut facts = facts();
    facts.bound.floors.promoted = true;
    assert_eq!(asked(&facts), Asked::Active);
    assert!(try_admit(&plain(), &facts, &bundle()).unwrap_err().has(Code::PolicyError));
}

#[test]
fn every_deny_message_is_a_reason_of_its_own() {
    let hostile = manifest(|json| json["spec"]["release"]["version"] = json!("6.6.6"));
    let reasons = try_admit(&hostile, &facts(), &bundle()).unwrap_err();
    assert_eq!(reasons.to_string(), "policy_denied: release 6.6.6 is not welcome");
    assert_eq!(reasons.exit(), 4);
    let several = format!("{UPDATE}deny contains x if some x in {{\"b\", \"a\"}}\n");
    let reasons = try_admit(&plain(), &active(&packed(&several)), &Bundle::load(&packed(&several)).unwrap());
    assert_eq!(reasons.unwrap_err().to_string(), "policy_denied: a\npolicy_denied: b");
}

#[test]
fn a_policy_that_does_not_speak_denies_and_one_that_breaks_is_an_error() {
    for (rego, code) in [
        (UPDATE.to_owned(), Code::PolicyDenied),
        ("package other\n".to_owned(), Code::PolicyError),
        (format!("{UPDATE}allow := 1 if true\n"), Code::PolicyError),
        ("package autonomy.update\n\nallow if time.now_ns() > 0\n".to_owned(), Code::PolicyError),
    ] {
        let own = Bundle::load(&packed(&rego)).unwrap();
        let reasons = try_admit(&plain(), &active(&packed(&rego)), &own).unwrap_err();
        assert!(reasons.has(code), "{rego}: {reasons}");
    }
}

#[test]
fn a_plan_of_another_manifest_is_refused() {
    let other = manifest(|json| json["metadata"]["serial"] = json!(2));
    let reasons = admit(planned(&plain(), &facts()), verified(&other), &facts(), &bundle(), None).unwrap_err();
    assert!(reasons.has(Code::StalePlan), "{reasons}");
    assert_eq!(reasons.exit(), 7);
}

#[test]
fn a_plan_from_other_facts_is_refused() {
    let mut moved = facts();
    moved.bound.os.kernel = "6.6".to_owned();
    let reasons = admit(planned(&plain(), &facts()), verified(&plain()), &moved, &bundle(), None).unwrap_err();
    assert!(reasons.has(Code::StalePlan), "{reasons}");
    // What is only observed may move.
    let mut later = facts();
    later.observed.free_bytes = 5;
    assert!(admit(planned(&plain(), &facts()), verified(&plain()), &later, &bundle(), None).is_ok());
}

#[test]
fn a_blocked_plan_is_refused_whatever_the_policy_says() {
    let step = json!({ "directory": { "path": "/srv/x", "mode": "0755" } });
    let outside = manifest(|json| json["spec"]["reconstruction"] = json!({ "steps": [step] }));
    let reasons = try_admit(&outside, &facts(), &bundle()).unwrap_err();
    assert!(reasons.has(Code::DestinationRefused) && reasons.exit() == 5, "{reasons}");
    let mut pinned = facts();
    pinned.bound.pinned.insert(verified(&plain()).fingerprint());
    assert!(try_admit(&plain(), &pinned, &bundle()).unwrap_err().has(Code::Pinned));
}

#[test]
fn plan_and_apply_ask_the_same_question() {
    // Rules see neither verdicts nor source, which only a report has.
    let rego = "package autonomy.update\n\nallow if {\n  input.plan.verdicts == {\"precheck\": [], \"policy\": []}\n  not input.plan.source\n}\n";
    let facts = active(&packed(rego));
    let bundle = Bundle::load(&packed(rego)).unwrap();
    let plan = planned(&plain(), &facts);
    let precheck = autonomy_plan::prechecks(&plain(), &plan, &facts);
    assert!(!precheck.is_empty());
    let found = autonomy_schema::plan_doc::Verdicts { precheck, policy: Vec::new() };
    let doc =
        autonomy_plan::report(&plan, found, autonomy_plan::Origin { source: Some("fleet"), revision: None }, None);
    let shown = verdicts(&bundle, &plain(), &doc, &facts);
    assert!(shown.iter().all(|verdict| verdict.ok), "{shown:?}");
    assert_eq!(shown, verdicts(&bundle, &plain(), plan.doc(), &facts));
}
