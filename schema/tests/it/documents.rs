//! Laws of documents: what is written is read back the same; one meaning has one digest, however its author
//! ordered it; bytes that differ mean something else or nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use autonomy_schema::author::{AuthoredManifest, BuiltLock, BuiltPolicy, Inputs, Located, check, resolve};
use autonomy_schema::document::{Document, fingerprint, parse};
use autonomy_schema::lock::{Lock, LockedInputs, LockedPolicy};
use autonomy_schema::segments::measure;
use autonomy_schema::version::Kind;
use autonomy_schema::{Code, Sha256, StateManifest};
use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Map, Value, json};

/// Authored manifests without contradictions: any subset of the optional parts, texts that need escapes.
fn authored() -> impl Strategy<Value = Value> {
    let parts = [
        (
            "services",
            json!([{"unit": "a@1.service", "action": "reload"}, {"command": ["bin/agent", "ä \"quoted\" \\ \u{1}"]}]),
        ),
        ("preconditions", json!([{"fact": "os.kernel", "atLeast": "5.15"}, {"fact": "node.label.x", "equals": ""}])),
        ("precheck", json!({"minFreeBytes": 9_007_199_254_740_991_u64, "certExpiryWindow": "250ms"})),
        (
            "relay",
            json!({"peers": [{"id": "b", "address": "[::1]:7443"}], "window": "20m", "storage": {"evictionPercent": 100}}),
        ),
        ("health", json!({"command": ["/bin/true"], "timeout": "30s"})),
        ("confirm", json!({"within": "90m"})),
        ("window", json!({"days": ["sat", "sun"], "from": "02:00", "to": "04:00", "zone": "UTC"})),
        ("revoked", json!({"number": 4, "manifests": [format!("blake3:{}", "0a".repeat(32))]})),
        ("reconstruction", json!({"steps": [{"symlink": {"at": "/opt/a", "target": "b"}}]})),
    ];
    let names = prop::collection::btree_set("[a-zA-Z0-9][a-zA-Z0-9._-]{0,12}", 0..6);
    let labels = prop::collection::btree_map("[a-z]{1,8}", "\\PC{0,12}", 0..4);
    let modes = prop::sample::select(vec!["0755", "0644", "0400", "0000"]);
    let metadata = (1..=9_007_199_254_740_991_u64, prop::option::of("[a-z]{1,9}"), any::<bool>());
    (subsequence(parts.to_vec(), 0..=parts.len()), names, labels, modes, metadata).prop_map(
        |(parts, names, labels, mode, (serial, channel, critical))| {
            let mut artifacts = vec![json!({"name": "agent", "path": "bin/agent", "mode": mode, "source": "agent"})];
            // Names that differ in case only would collide.
            let distinct: BTreeMap<String, String> = names
                .into_iter()
                .map(|name| (name.to_lowercase(), name))
                .filter(|(folded, _)| folded != "agent")
                .collect();
            artifacts.extend(
                distinct.values().map(|name| json!({"name": name, "path": format!("d/{name}"), "source": name})),
            );
            let mut spec = Map::from_iter([
                ("scope".to_owned(), json!({"fleet": "harbor", "matchLabels": labels})),
                ("release".to_owned(), json!({"version": "1.4.2-rc.1+b5"})),
                ("artifacts".to_owned(), Value::Array(artifacts)),
                ("policy".to_owned(), json!({"source": "policy"})),
            ]);
            spec.extend(parts.into_iter().map(|(name, value)| (name.to_owned(), value)));
            let critical = if critical { json!(["spec.scope.fleet"]) } else { json!([]) };
            let metadata = json!({"name": "s", "serial": serial, "issuedAt": "2026-11-20T09:00:00Z",
                "expiresAt": "2027-02-20T09:00:00Z", "channel": channel, "critical": critical});
            json!({"apiVersion": "autonomy/v1", "kind": "StateManifest", "metadata": metadata, "spec": spec})
        },
    )
}

/// Writes a value as block YAML, the keys of every mapping rotated by `turn`, comments between.
fn yaml(value: &Value, turn: usize, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut keys: Vec<_> = fields.iter().collect();
            let by = turn % keys.len();
            keys.rotate_left(by);
            for (key, child) in keys {
                write!(out, "\n{pad}# {key}\n{pad}{}:", Value::from(key.as_str())).expect("writes");
                yaml(child, turn, indent + 2, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                write!(out, "\n{pad}-").expect("writes");
                yaml(item, turn, indent + 2, out);
            }
        }
        // A JSON string is a YAML string in double quotes.
        scalar @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_)) => write!(out, " {scalar}").expect("writes"),
    }
}

/// Values that mean the same as leaving them out, by their path.
fn defaults() -> [(&'static str, Value); 13] {
    [
        ("spec/services", json!([])),
        ("spec/preconditions", json!([])),
        ("spec/scope/nodes", json!([])),
        ("spec/scope/hardware", json!([])),
        ("spec/scope/matchLabels", json!({})),
        ("spec/policy/default", json!("deny")),
        ("spec/revoked", json!({"number": 0, "manifests": [], "keys": []})),
        ("spec/reconstruction", json!({"steps": []})),
        (
            "spec/relay",
            json!({
                "successCondition": "one_peer", "peers": [], "maxRetryCount": 5, "backoffBase": "30000ms", "window": "600s",
                "bandwidth": {"bytesPerSecond": 0, "dailyQuotaBytes": 0},
                "ingestQuota": {"bytesPerSecond": 10_485_760, "burstBytes": 67_108_864},
                "storage": {"diskCeilingBytes": 0, "evictionPercent": 90},
            }),
        ),
        ("spec/artifacts/0/type", json!("file")),
        ("spec/artifacts/1/mode", json!("0644")),
        ("metadata/critical", json!([])),
        ("spec/precheck", json!({"durability": "standard"})),
    ]
}

/// Puts a default where nothing is written, and only there.
fn write_out(value: &mut Value, path: &str, default: Value) {
    let (above, last) = path.rsplit_once('/').expect("a path");
    if let Some(Value::Object(fields)) = value.pointer_mut(&format!("/{above}")) {
        fields.entry(last.to_owned()).or_insert(default);
    }
}

fn render(text: &str) -> StateManifest {
    let located = Located::parse("m.yaml", text).unwrap_or_else(|errors| panic!("{}\n{text}", errors[0]));
    let authored = located
        .decode::<AuthoredManifest>(Kind::StateManifest)
        .unwrap_or_else(|errors| panic!("{}\n{text}", errors[0]));
    assert_eq!(check(&authored).expect("canonical"), []);
    let file = measure(&b"an agent"[..], 100).expect("measures");
    let policy = BuiltPolicy { size: 6, digest: Sha256::of(b"policy") };
    let locked = LockedPolicy { digest: policy.digest, semver: "1.0.0".parse().expect("version") };
    let inputs = LockedInputs { prompt_hash: Sha256::of(b""), tool_inputs_hash: Sha256::of(b"") };
    let lock = Lock::new(file.sha256, locked, inputs).expect("lock");
    let lock = BuiltLock { bytes: lock.to_canonical().expect("canonical"), lock };
    let names = authored.spec.artifacts.iter().map(|artifact| artifact.name.clone());
    let artifacts = names.map(|name| (name, file.clone())).collect();
    resolve(&authored, &Inputs { artifacts, trees: BTreeMap::new(), policy, lock }).expect("resolves")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back_the_same(value in authored()) {
        let manifest = render(&value.to_string());
        let bytes = manifest.to_canonical().expect("canonical");
        let read = parse::<StateManifest>(&bytes).unwrap_or_else(|reasons| panic!("{reasons}"));
        prop_assert_eq!(&read, &manifest);
        prop_assert_eq!(read.to_canonical().expect("canonical"), bytes);
    }

    #[test]
    fn the_order_of_keys_comments_and_layout_do_not_change_a_byte(value in authored(), turn in 0_usize..10) {
        let mut block = String::new();
        yaml(&value, turn, 0, &mut block);
        let flow = render(&value.to_string()).to_canonical().expect("canonical");
        let block = render(&block).to_canonical().expect("canonical");
        prop_assert_eq!(fingerprint(&flow), fingerprint(&block));
        prop_assert_eq!(flow, block);
    }

    #[test]
    fn a_default_that_is_written_out_does_not_change_a_byte(value in authored(), which in any::<u16>()) {
        let plain = render(&value.to_string()).to_canonical().expect("canonical");
        let mut spelled = value;
        for (at, (path, default)) in defaults().into_iter().enumerate() {
            if which >> at & 1 == 1 {
                write_out(&mut spelled, path, default);
            }
        }
        let spelled = render(&spelled.to_string()).to_canonical().expect("canonical");
        prop_assert_eq!(String::from_utf8(plain), String::from_utf8(spelled));
    }

    #[test]
    fn other_bytes_never_mean_the_same(value in authored(), at in any::<prop::sample::Index>(), byte in any::<u8>(), edit in 0..3) {
        let manifest = render(&value.to_string());
        let bytes = manifest.to_canonical().expect("canonical");
        let at = at.index(bytes.len());
        let mut other = bytes.clone();
        match edit {
            0 => other[at] = byte,
            1 => other.insert(at, byte),
            _ => drop(other.remove(at)),
        }
        if other != bytes && let Ok(read) = parse::<StateManifest>(&other) {
            prop_assert_ne!(read, manifest);
        }
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}:,&*!|>\"'#%@a-c0-9 \n\t-]{0,80}") {
        let _refused = (parse::<StateManifest>(&bytes).is_ok(), Located::parse_bytes("x", &bytes).is_ok());
        let _refused = (parse::<Lock>(text.as_bytes()).is_ok(), Located::parse("x", &text).is_ok());
    }
}

fn sample() -> Value {
    serde_json::from_str(include_str!("../../../docs/formats/samples/manifest.json")).expect("JSON")
}

#[test]
fn an_unknown_minor_is_read_and_its_unknown_fields_are_passed_over() {
    let mut value = sample();
    value["apiVersion"] = json!("autonomy/v1.7");
    value["spec"]["quorum"] = json!({"of": 2});
    let bytes = autonomy_schema::canonical::to_bytes(&value).expect("canonical");
    let manifest = parse::<StateManifest>(&bytes).unwrap_or_else(|reasons| panic!("{reasons}"));
    assert_eq!(manifest.api_version.minor, 7);
    // A field that is known may be critical.
    value["metadata"]["critical"] = json!(["spec.artifacts"]);
    parse::<StateManifest>(&autonomy_schema::canonical::to_bytes(&value).expect("canonical")).expect("understood");
}

#[test]
fn a_list_one_longer_than_its_cap_is_refused_and_one_at_its_cap_is_read() {
    let with = |count: usize| {
        let mut value = sample();
        let nothing = autonomy_schema::Blake3::of(b"");
        let index = json!({"blake3": nothing, "digest": Sha256::of(b""), "size": 0});
        let segments = json!({"count": 0, "index": nothing, "size": 0});
        let trees = (0..count).map(|at| {
            json!({"name": format!("t{at}"), "path": format!("t{at}"), "type": "tree", "index": index, "size": 0,
                "digest": Sha256::of(b""), "blake3": nothing, "segments": segments})
        });
        value["spec"]["artifacts"] = Value::Array(trees.collect());
        // So many, each with all of its pins, are more bytes than a document may have: the rule is asked by itself.
        serde_json::from_value::<StateManifest>(value).expect("a manifest").validate()
    };
    assert_eq!(with(autonomy_schema::manifest::MAX_ARTIFACTS), []);
    let reasons = with(autonomy_schema::manifest::MAX_ARTIFACTS + 1);
    assert_eq!(reasons.iter().map(|reason| reason.code).collect::<Vec<_>>(), [Code::LimitExceeded]);
}

#[test]
fn as_many_artifacts_as_a_manifest_may_hold_can_be_authored() {
    let mut text = String::from(
        "apiVersion: autonomy/v1\nkind: StateManifest\nmetadata: {name: s, serial: 1, issuedAt: 2026-11-20T09:00:00Z, \
         expiresAt: 2027-02-20T09:00:00Z}\nspec:\n  scope: {fleet: f}\n  release: {version: 1.0.0}\n  policy: {source: p}\n  \
         artifacts:\n",
    );
    for at in 0..autonomy_schema::manifest::MAX_ARTIFACTS {
        writeln!(text, "  - {{name: n{at}, type: file, path: f{at}, mode: \"0644\", source: s}}").expect("writes");
    }
    let located = Located::parse("m.yaml", &text).unwrap_or_else(|errors| panic!("{}", errors[0]));
    located.decode::<AuthoredManifest>(Kind::StateManifest).expect("decodes");
}

#[test]
fn an_error_in_a_merged_document_names_the_file_that_made_it() {
    let base = Located::parse("base.yaml", "spec:\n  relay:\n    window: 10m\n    backoffBase: 30s\n").expect("base");
    let overlay = Located::parse(
        "pier-7.yaml",
        "apiVersion: autonomy/v1\nkind: StateManifest\nmetadata: {name: s, serial: 1, issuedAt: 2026-11-20T09:00:00Z, \
         expiresAt: 2027-02-20T09:00:00Z}\nspec:\n  scope: {fleet: f}\n  release: {version: 1.0.0}\n  policy: {source: p}\n  \
         artifacts: []\n  relay:\n    window: 1m\n",
    );
    let merged = base.merged(overlay.expect("overlay"));
    let authored = merged.decode::<AuthoredManifest>(Kind::StateManifest).expect("decodes");
    let problems = merged.locate(check(&authored).expect("canonical"));
    let place = problems[0].mark.as_ref().map(|mark| (mark.file.as_str(), mark.line));
    assert_eq!((problems.len(), problems[0].code, place), (1, Code::BadValue, Some(("pier-7.yaml", 10))));
}
