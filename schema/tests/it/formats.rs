//! The samples of `docs/formats/samples` are read, and JSON Schemas match `golden/schemas`. `AUTONOMY_UPDATE=1`
//! writes what is derived instead of comparing it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use autonomy_schema::author::{AuthoredManifest, BuiltLock, BuiltPolicy, Inputs, Located, resolve};
use autonomy_schema::document::{Document, parse};
use autonomy_schema::lock::{Lock, LockedInputs, LockedPolicy};
use autonomy_schema::version::Kind;
use autonomy_schema::{Sha256, StateManifest, json_schema, segments};

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
        resolve(&authored, &Inputs { artifacts, policy, lock: BuiltLock { lock, bytes } }).expect("resolves");
    check(&repository().join("docs/formats/samples/manifest.json"), &manifest.to_canonical().expect("canonical"));
}

#[test]
fn json_schemas_match_the_golden_ones() {
    for kind in Kind::ALL {
        let mut text = serde_json::to_string_pretty(&json_schema::json_schema(*kind)).expect("serialises");
        text.push('\n');
        check(&repository().join(format!("golden/schemas/{kind}.json")), text.as_bytes());
    }
}
