//! The samples of `docs/formats/samples` are read, and JSON Schemas match `golden/schemas`. `AUTONOMY_UPDATE=1`
//! writes what is derived instead of comparing it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autonomy_schema::author::{AuthoredManifest, BuiltLock, BuiltPolicy, Inputs, Located, resolve};
use autonomy_schema::backup::{Backup, BackupEntry, EntryType};
use autonomy_schema::document::{Document, parse};
use autonomy_schema::evidence::{Evidence, Rebuilt};
use autonomy_schema::lock::{Lock, LockedInputs, LockedPolicy};
use autonomy_schema::os::{OsFacts, OsFingerprint};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Mode, Name, RelPath, Sha256, StateManifest, Time, json_schema, segments};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares with the recorded bytes, or records them.
fn check(path: &Path, bytes: &[u8]) {
    if std::env::var_os("AUTONOMY_UPDATE").is_some() {
        std::fs::write(path, bytes).expect("writes");
    }
    let recorded = std::fs::read(path).unwrap_or_default();
    assert!(recorded == bytes, "{} differs; look at the change, then run with AUTONOMY_UPDATE=1", path.display());
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(repository().join("docs/formats/samples").join(name)).expect("sample exists")
}

fn round_trips<T: Document>(name: &str) {
    let bytes = sample(name);
    let document = parse::<T>(&bytes).unwrap_or_else(|reasons| panic!("{name}: {reasons}"));
    assert_eq!(document.to_canonical().expect("canonical"), bytes, "{name} does not round-trip");
}

#[test]
fn samples_of_every_kind_are_read_and_written_back_unchanged() {
    round_trips::<StateManifest>("manifest.json");
    round_trips::<Lock>("autonomy.lock.json");
    round_trips::<autonomy_schema::root::TrustRoot>("trust-root.json");
    round_trips::<autonomy_schema::facts::Facts>("facts.json");
    round_trips::<autonomy_schema::plan_doc::PlanDoc>("plan.json");
    round_trips::<autonomy_schema::journal::Journal>("journal.json");
    round_trips::<autonomy_schema::floors::Floors>("floors.json");
    round_trips::<autonomy_schema::node::Node>("node.json");
    round_trips::<Backup>("backup.json");
    round_trips::<OsFingerprint>("os-fingerprint.json");
    round_trips::<Evidence>("evidence.json");
    round_trips::<autonomy_schema::receipt::Receipt>("receipt.json");
    round_trips::<autonomy_schema::revocation::Revocation>("revocation.json");
    round_trips::<autonomy_schema::policy_override::PolicyOverride>("policy-override.json");
}

#[test]
fn the_authored_sample_renders_to_the_rendered_one() {
    let text = String::from_utf8(sample("manifest.authored.yaml")).expect("UTF-8");
    let located = Located::parse("manifest.authored.yaml", &text).expect("parses");
    let authored = located.decode::<AuthoredManifest>(Kind::StateManifest).expect("decodes");
    let measured = |bytes: &[u8]| segments::measure(bytes, 1 << 20).expect("measures");
    let agent = measured(b"\x7fELF, an agent of few bytes");
    let policy = BuiltPolicy { size: 6, digest: Sha256::of(b"policy") };
    let locked = LockedPolicy { digest: policy.digest, semver: "2.0.0".parse().expect("version") };
    let inputs = LockedInputs { prompt_hash: Sha256::of(b"prompt"), tool_inputs_hash: Sha256::of(b"{}") };
    let lock = Lock::new(agent.sha256, locked, inputs).expect("lock");
    let bytes = lock.to_canonical().expect("canonical");
    check(&repository().join("docs/formats/samples/autonomy.lock.json"), &bytes);
    let artifacts = BTreeMap::from([
        ("agent".parse().expect("name"), agent),
        ("settings".parse().expect("name"), measured(b"level = \"info\"\n")),
    ]);
    let manifest =
        resolve(&authored, &Inputs { artifacts, trees: BTreeMap::new(), policy, lock: BuiltLock { lock, bytes } })
            .expect("resolves");
    check(&repository().join("docs/formats/samples/manifest.json"), &manifest.to_canonical().expect("canonical"));
}

#[test]
fn the_sample_of_a_backup_list_is_sealed() {
    let plain = |path: &'static str, kind| BackupEntry {
        path: RelPath::fixed(path),
        kind,
        mode: None,
        size: None,
        blake3: None,
        target: None,
    };
    let folder = |path| BackupEntry { mode: Some(Mode::from_bits(0o700)), ..plain(path, EntryType::Folder) };
    let floors = sample("floors.json");
    let backup = Backup {
        api_version: ApiVersion::default(),
        kind: Kind::Backup,
        node_id: Name::fixed("node-a"),
        fleet: Name::fixed("harbor"),
        tool_version: "0.1.0".to_owned(),
        created_at: Time::from_unix(1_795_600_000),
        floors: BTreeMap::from([(Name::fixed("harbor-gateways"), 42)]),
        entries: vec![
            BackupEntry {
                target: Some("generations/42-00000000002a-1".to_owned()),
                ..plain("current", EntryType::Symlink)
            },
            folder("trust"),
            BackupEntry {
                mode: Some(Mode::PRIVATE),
                size: Some(floors.len() as u64),
                blake3: Some(Blake3::of(&floors)),
                ..plain("trust/floors.json", EntryType::File)
            },
        ],
        fingerprint: Blake3::of(b""),
    };
    let bytes = backup.seal().and_then(|sealed| sealed.to_canonical()).expect("canonical");
    check(&repository().join("docs/formats/samples/backup.json"), &bytes);
}

/// What a node was recorded to run on, and the evidence that led there: a newer kernel, and a file that was put in its place.
#[test]
fn the_samples_of_a_replaced_operating_system_belong_together() {
    let bookworm = OsFacts {
        kernel: "6.1.0-26-amd64".to_owned(),
        machine: "x86_64".to_owned(),
        id: "debian".to_owned(),
        version_id: "12".to_owned(),
        machine_id: Blake3::of(b"a digest of some machine-id").to_string(),
        boot_parameters: "root=/dev/sda2".to_owned(),
        ..OsFacts::default()
    };
    let trixie = OsFacts { kernel: "6.12.48+deb13-amd64".to_owned(), version_id: "13".to_owned(), ..bookworm.clone() };
    let captured_at = Time::from_unix(1_795_600_000);
    let recorded = OsFingerprint {
        api_version: ApiVersion::default(),
        kind: Kind::OsFingerprint,
        composite: trixie.composite().expect("canonical"),
        components: trixie.clone(),
        boot_epoch: 2,
        captured_at,
    };
    let evidence = Evidence {
        api_version: ApiVersion::default(),
        kind: Kind::Evidence,
        node_id: Name::fixed("node-a"),
        boot_epoch: 2,
        previous_fingerprint: bookworm.composite().expect("canonical"),
        new_fingerprint: recorded.composite,
        changed: trixie.changed_since(&bookworm),
        manifest: Some(Blake3::of(b"manifest")),
        plan_id: Some(Blake3::of(b"plan")),
        files: vec![Rebuilt { path: "/usr/local/bin/agent".to_owned(), blake3: Blake3::of(b"agent") }],
        previous_evidence: None,
        time: captured_at,
    };
    let samples = repository().join("docs/formats/samples");
    check(&samples.join("os-fingerprint.json"), &recorded.to_canonical().expect("canonical"));
    check(&samples.join("evidence.json"), &evidence.to_canonical().expect("canonical"));
}

#[test]
fn json_schemas_match_the_golden_ones() {
    for kind in Kind::ALL {
        let mut text = serde_json::to_string_pretty(&json_schema::json_schema(*kind)).expect("serialises");
        text.push('\n');
        check(&repository().join(format!("golden/schemas/{kind}.json")), text.as_bytes());
    }
}
