//! The slots of a node without a manifest: what gets in, what decides, and a power cut at every verb.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use autonomy_policy::slots::{Promotable, Slot, judge};
use autonomy_policy::{BuildOptions, Origin, Slots, build};
use autonomy_schema::node::Node;
use autonomy_schema::root::{Role, RoleKeys, TrustRoot};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Code, Document as _, Duration, Mode, Reasons, RelPath, Sha256, Time};
use autonomy_signing::Signer;
use autonomy_stateroot::{AttestFiles, Image, Query as _, SimDisk, StateRoot, durable, init_on, layout};
use autonomy_trust::{Purpose, Signed};
use serde_json::json;

use crate::fixture::{files, options};

const PASSWORD: &[u8] = b"harbor";
const ATTEST: AttestFiles<'static> = AttestFiles { key_pem: "private", pub_pem: "public" };

fn time(text: &str) -> Time {
    text.parse().unwrap()
}

/// Two keys: the first has role `policy`, the second every other. Unlocking is slow by design, so they are made once.
fn signers() -> &'static [Signer; 2] {
    static SIGNERS: OnceLock<[Signer; 2]> = OnceLock::new();
    SIGNERS.get_or_init(|| {
        [(); 2].map(|()| {
            let pair = autonomy_signing::generate(PASSWORD).unwrap();
            Signer::from_encrypted_pem(&pair.private_pem, PASSWORD).unwrap()
        })
    })
}

fn lines(signer: &Signer, bytes: &[u8]) -> Vec<u8> {
    (signer.sign_line(bytes).unwrap() + "\n").into_bytes()
}

fn trust_root() -> (Vec<u8>, Vec<u8>) {
    let [policy, other] = signers();
    let one = |signer: &Signer| RoleKeys { keys: [signer.key_id()].into(), threshold: 1 };
    let root = TrustRoot {
        api_version: ApiVersion::default(),
        kind: Kind::TrustRoot,
        version: 1,
        expires_at: time("2030-01-01T00:00:00Z"),
        keys: signers().iter().map(|signer| (signer.key_id(), signer.public_pem().to_owned())).collect(),
        roles: BTreeMap::from([
            (Role::Root, one(other)),
            (Role::Manifest, one(other)),
            (Role::Artifact, one(other)),
            (Role::Policy, one(policy)),
        ]),
        max_serial_step: 100,
        max_time_step: Duration::from_millis(365 * 86_400_000),
        reset_time_mark: None,
    };
    let bytes = root.to_canonical().unwrap();
    let signatures = lines(other, &bytes);
    (bytes, signatures)
}

fn node() -> (SimDisk, StateRoot) {
    let node: Node = serde_json::from_value(json!({
        "apiVersion": "autonomy/v1", "kind": "Node", "nodeId": "node-a", "fleet": "harbor", "hardware": "x86_64",
    }))
    .unwrap();
    let disk = SimDisk::new();
    let (bytes, signatures) = trust_root();
    let root = init_on(Arc::new(disk.clone()), &node, &bytes, &signatures, &ATTEST).unwrap();
    (disk, root)
}

/// A bundle of this version, for tools.
fn packed(version: &str, entries: &[(&str, &str)]) -> Vec<u8> {
    build(&files(entries), &BuildOptions { version: version.parse().unwrap(), ..options() }).unwrap()
}

const TOOL: &str = "package autonomy.tool\n\ndefault allow := false\n\nallow if input.kind == \"tool.echo\"\n";

fn tool(version: &str) -> Vec<u8> {
    packed(version, &[("tool.rego", TOOL)])
}

fn judged_by(signer: &Signer, bytes: &[u8], clock: &str) -> Result<Promotable, Reasons> {
    let (_, root) = node();
    let loaded = autonomy_sets::load(&root).unwrap();
    let signatures = lines(signer, bytes);
    judge(Signed { bytes, signatures: &signatures }, &loaded.context(time(clock), Purpose::Change))
}

fn judged(bytes: &[u8]) -> Result<Promotable, Reasons> {
    judged_by(&signers()[0], bytes, "2026-11-29T00:00:00Z")
}

fn good(version: &str) -> Promotable {
    judged(&tool(version)).unwrap()
}

fn promote(root: &StateRoot, new: &Promotable) -> bool {
    root.lock("test").is_ok_and(|held| Slots::new(root).promote(&held, new).is_ok())
}

fn version(root: &StateRoot) -> (String, Origin) {
    let active = Slots::new(root).active().unwrap();
    (active.bundle.manifest().policy_bundle_version.to_string(), active.origin)
}

fn bundle_file(bytes: &[u8], name: &'static str) -> RelPath {
    layout::policy_bundle(Sha256::of(bytes)).join(&RelPath::fixed(name))
}

#[test]
fn without_a_bundle_there_is_no_policy() {
    let (_, root) = node();
    assert!(Slots::new(&root).active().unwrap_err().has(Code::NoPolicy));
}

#[test]
fn what_is_loaded_decides_and_what_was_before_is_kept() {
    let (_, root) = node();
    assert!(promote(&root, &good("1.0.0")));
    assert_eq!(version(&root), ("1.0.0".to_owned(), Origin::Current));
    assert!(promote(&root, &good("2.0.0")));
    assert_eq!(version(&root), ("2.0.0".to_owned(), Origin::Current));
    let slots = Slots::new(&root);
    let lkg = slots.held(Slot::Lkg).unwrap().unwrap();
    assert_eq!(lkg.bundle.digest(), Sha256::of(&tool("1.0.0")));
    assert_eq!(lkg.signers, [signers()[0].key_id()]);

    let held = root.lock("test").unwrap();
    let again = slots.promote(&held, &good("2.0.0")).unwrap();
    assert!(!again.changed && again.lkg == Some(Sha256::of(&tool("1.0.0"))), "{again:?}");
    slots.roll_back(&held).unwrap();
    assert_eq!(version(&root), ("1.0.0".to_owned(), Origin::Current));
    slots.roll_back(&held).unwrap();
    assert_eq!(version(&root), ("2.0.0".to_owned(), Origin::Current));
}

#[test]
fn a_bundle_that_must_not_decide_is_refused() {
    let code = |result: Result<Promotable, Reasons>| result.unwrap_err().as_slice()[0].code;
    // Signed by a key of another role, or under a root that has expired.
    assert_eq!(code(judged_by(&signers()[1], &tool("1.0.0"), "2026-11-29T00:00:00Z")), Code::BelowThreshold);
    assert_eq!(code(judged_by(&signers()[0], &tool("1.0.0"), "2031-01-01T00:00:00Z")), Code::Expired);
    assert_eq!(code(judged(b"no bundle")), Code::Syntax);
    assert_eq!(
        code(judged(&packed("1.0.0", &[("u.rego", "package autonomy.update\n\nallow := true\n")]))),
        Code::PolicyError
    );
    let newer = BuildOptions { required_runtime_version: Some(">=99.0.0".to_owned()), ..options() };
    assert_eq!(code(judged(&build(&files(&[("tool.rego", TOOL)]), &newer).unwrap())), Code::PolicyError);
    let failing = "package autonomy.tool_test\n\nimport data.autonomy.tool\n\ntest_shell if {\n\ttool.allow with input as {\"kind\": \"tool.shell\"}\n}\n";
    let refused = judged(&packed("1.0.0", &[("tool.rego", TOOL), ("tool_test.rego", failing)])).unwrap_err();
    assert_eq!(refused.as_slice()[0].code, Code::PolicyTestFailed);
    assert!(refused.to_string().contains("tool_test.rego:5: `data.autonomy.tool_test.test_shell`"), "{refused}");
    assert_eq!(refused.exit(), 1);
}

#[test]
fn a_current_that_cannot_be_believed_gives_way_to_the_last_known_good_one() {
    let spoilt: [(&'static str, fn(&[u8]) -> Vec<u8>, Code); 3] = [
        ("policy.tar.gz", |bytes| [bytes, b"x"].concat(), Code::CorruptState),
        ("policy.tar.gz.sigstore.jsonl", |_| Vec::new(), Code::BelowThreshold),
        ("policy.tar.gz.sigstore.jsonl", |bytes| lines(&signers()[1], bytes), Code::BelowThreshold),
    ];
    for (file, spoil, code) in spoilt {
        let (disk, root) = node();
        assert!(promote(&root, &good("1.0.0")) && promote(&root, &good("2.0.0")));
        let two = tool("2.0.0");
        durable::replace(&disk, &bundle_file(&two, file), &spoil(&two), Mode::PRIVATE).unwrap();
        let active = Slots::new(&root).active().unwrap();
        assert_eq!(active.origin, Origin::Lkg);
        assert_eq!(active.bundle.digest(), Sha256::of(&tool("1.0.0")));
        assert!(active.fallback.unwrap().has(code), "{file}");

        // What is not believed does not become the last known good one.
        assert!(promote(&root, &good("3.0.0")));
        assert_eq!(Slots::new(&root).held(Slot::Lkg).unwrap().unwrap().bundle.digest(), Sha256::of(&tool("1.0.0")));

        durable::point(&disk, &layout::policy_current(), "../identity").unwrap();
        let one = bundle_file(&tool("1.0.0"), "policy.tar.gz");
        durable::replace(&disk, &one, b"x", Mode::PRIVATE).unwrap();
        let refused = Slots::new(&root).active().unwrap_err();
        assert_eq!(refused.as_slice().len(), 2, "{refused}");
    }
}

#[test]
fn an_unsigned_bundle_put_there_by_hand_decides_nothing() {
    let (disk, root) = node();
    let bytes = tool("1.0.0");
    durable::ensure_dir(&disk, &layout::policy_bundle(Sha256::of(&bytes))).unwrap();
    durable::replace(&disk, &bundle_file(&bytes, "policy.tar.gz"), &bytes, Mode::PRIVATE).unwrap();
    durable::point(&disk, &layout::policy_current(), &layout::policy_link(Sha256::of(&bytes))).unwrap();
    assert!(Slots::new(&root).active().unwrap_err().has(Code::BelowThreshold));
}

/// Runs `step` on copies of a disk that `start` makes, cut at each verb, and hands every survivor to `check`, with
/// whether the step had come to its end.
fn at_every_verb(start: impl Fn() -> SimDisk, step: impl Fn(&SimDisk) -> bool, check: impl Fn(&SimDisk, bool)) {
    let whole = start();
    let before = whole.verbs();
    assert!(step(&whole), "the step must work when nobody stops it");
    let after = whole.verbs();
    assert!(after > before, "the step must have verbs to stop at");
    for stop in before + 1..=after + 1 {
        for image in Image::EACH {
            let disk = start();
            disk.stop_at(stop);
            let done = step(&disk);
            assert_eq!(done, stop > after, "stopped at {stop} of {after}");
            check(&disk.crash(image), done);
        }
    }
}

fn on(disk: &SimDisk) -> StateRoot {
    StateRoot::on(Arc::new(disk.clone()))
}

fn decides(disk: &SimDisk) -> Option<String> {
    match Slots::new(&on(disk)).active() {
        Ok(active) => {
            assert_eq!((active.origin, active.fallback), (Origin::Current, None));
            Some(active.bundle.manifest().policy_bundle_version.to_string())
        }
        Err(reasons) => {
            assert!(reasons.has(Code::NoPolicy), "{reasons}");
            None
        }
    }
}

#[test]
fn the_first_bundle_decides_or_none() {
    let new = good("1.0.0");
    at_every_verb(
        || node().0,
        |disk| promote(&on(disk), &new),
        |disk, done| {
            let seen = decides(disk);
            assert!(seen.as_deref() == Some("1.0.0") || (!done && seen.is_none()), "{seen:?}");
            assert!(promote(&on(disk), &new), "and it can be loaded again");
            assert_eq!(decides(disk).as_deref(), Some("1.0.0"));
        },
    );
}

#[test]
fn a_power_cut_at_every_verb_of_a_load_leaves_the_old_policy_or_the_new_one() {
    let [one, two, three] = ["1.0.0", "2.0.0", "3.0.0"].map(good);
    let start = || {
        let disk = node().0;
        assert!(promote(&on(&disk), &one) && promote(&on(&disk), &two));
        disk
    };
    at_every_verb(
        start,
        |disk| promote(&on(disk), &three),
        |disk, done| {
            let seen = decides(disk);
            assert!(seen.as_deref() == Some("3.0.0") || (!done && seen.as_deref() == Some("2.0.0")), "{seen:?}");
            let lkg = Slots::new(&on(disk)).held(Slot::Lkg).unwrap().unwrap().bundle.digest();
            let [first, second] = [&one, &two].map(|bundle| bundle.bundle().digest());
            assert!(lkg == second || (!done && lkg == first), "the last known good one is whole");
            assert!(promote(&on(disk), &three), "and it can be loaded again");
            assert_eq!(decides(disk).as_deref(), Some("3.0.0"));
        },
    );
}

#[test]
fn a_power_cut_at_every_verb_of_a_rollback_leaves_the_old_policy_or_the_other() {
    let [one, two] = ["1.0.0", "2.0.0"].map(good);
    let start = || {
        let disk = node().0;
        assert!(promote(&on(&disk), &one) && promote(&on(&disk), &two));
        disk
    };
    let back = |disk: &SimDisk| {
        let root = on(disk);
        root.lock("test").is_ok_and(|held| Slots::new(&root).roll_back(&held).is_ok())
    };
    at_every_verb(start, back, |disk, done| {
        let seen = decides(disk);
        assert!(seen.as_deref() == Some("1.0.0") || (!done && seen.as_deref() == Some("2.0.0")), "{seen:?}");
        assert!(disk.read_link(&layout::policy_lkg()).unwrap().is_some());
        assert!(promote(&on(disk), &two), "and the other can be loaded again");
        assert_eq!(decides(disk).as_deref(), Some("2.0.0"));
    });
}
