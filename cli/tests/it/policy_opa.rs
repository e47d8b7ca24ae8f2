//! Plain OPA bundles. No `opa` program can be had here: the archives are Python's, the signature openssl's, the hashes as OPA's
//! documentation lays them down.

use std::process::Command;

use serde_json::Value;

use crate::policy::json;
use crate::world::{Ran, World};

/// Writes a bundle as `opa build` does: paths begin with a slash, folders may be entries. The first argument is the file, the
/// second JSON: paths and texts, and under `sign` the private key.
const MAKER: &str = r#"
import base64, hashlib, io, json, subprocess, sys, tarfile, tempfile
out, spec = sys.argv[1], json.loads(sys.argv[2])
files = spec["files"]
b64 = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()
def digest(name, text):
    if name.split("/")[-1] in ("data.json", ".manifest"):
        text = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
if "sign" in spec:
    listed = [{"name": n, "hash": digest(n, t), "algorithm": "SHA-256"} for n, t in files.items() if n not in spec.get("unlisted", [])]
    head = b64(json.dumps({"alg": "ES256", "typ": "JWT"}).encode())
    body = b64(json.dumps({"files": listed, "keyid": "harbor"}).encode())
    with tempfile.NamedTemporaryFile() as text:
        text.write(f"{head}.{body}".encode()); text.flush()
        der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", spec["sign"], text.name], check=True, capture_output=True).stdout
    r = der[4:4 + der[3]]; s = der[6 + der[3]:]
    raw = r.lstrip(b"\0").rjust(32, b"\0") + s.lstrip(b"\0").rjust(32, b"\0")
    files[".signatures.json"] = json.dumps({"signatures": [f"{head}.{body}.{b64(raw)}"]})
files.update(spec.get("after", {}))
with tarfile.open(out, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
    for folder in spec.get("folders", []):
        entry = tarfile.TarInfo(folder); entry.type = tarfile.DIRTYPE; entry.mode = 0o755; tar.addfile(entry)
    for name, text in files.items():
        entry = tarfile.TarInfo(spec.get("prefix", "/") + name); data = text.encode(); entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
"#;

const RULES: &str = "package autonomy.tool\n\nimport data.autonomy.limits\n\ndefault allow := false\n\nallow if input.kind in limits.kinds\n";
const DATA: &str = r#"{ "autonomy": {"limits": {"max": 3, "kinds": ["tool.echo"]}} }"#;
const MANIFEST: &str = r#"{"roots": ["autonomy/tool", "/autonomy/limits/"], "revision": "1.4.0", "rego_version": 1, "metadata": {"name": "pier"}}"#;

fn spec() -> Value {
    serde_json::json!({ "files": { "data.json": DATA, "rules/tool.rego": RULES, ".manifest": MANIFEST } })
}

fn make(world: &World, file: &str, spec: &Value) {
    let ran = Command::new("python3")
        .args(["-c", MAKER, file, &spec.to_string()])
        .current_dir(world.path("."))
        .output()
        .expect("python3");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

fn refused(world: &World, spec: &Value, code: &str, says: &str) {
    make(world, "bad.tar.gz", spec);
    world.run("policy inspect bad.tar.gz").exits(3).warns(&format!("{code}: ")).warns(says);
}

fn eval(world: &World, file: &str, kind: &str) -> Ran {
    world.write("input.json", format!("{{\"kind\": \"{kind}\"}}"));
    world.run(&format!("policy eval --bundle {file} --query data.autonomy.tool.allow --input input.json")).exits(0)
}

#[test]
fn a_plain_bundle_is_read_and_decides() {
    let world = World::empty();
    for (file, prefix) in [("slash.tar.gz", "/"), ("dot.tar.gz", "./"), ("bare.tar.gz", "")] {
        let mut spec = spec();
        spec["prefix"] = prefix.into();
        spec["folders"] = serde_json::json!(["./", "rules"]);
        make(&world, file, &spec);
        let told = json(&world.run(&format!("policy inspect {file} --output json")).exits(0));
        assert_eq!((told["name"].as_str(), told["version"].as_str()), (Some("pier"), Some("1.4.0")));
        assert_eq!(told["opa"]["roots"], serde_json::json!(["autonomy/tool", "autonomy/limits"]));
        assert_eq!(told["opa"]["signature"], Value::Null);
        assert_eq!(eval(&world, file, "tool.echo").stdout(), "true\n");
        assert_eq!(eval(&world, file, "tool.shell").stdout(), "false\n");
        world.run(&format!("policy verify {file}")).exits(0);
    }
    let mut nameless = spec();
    nameless["files"][".manifest"] = r#"{"revision": "cafe", "metadata": {"name": "no name at all"}}"#.into();
    make(&world, "nameless.tar.gz", &nameless);
    let told = json(&world.run("policy inspect nameless.tar.gz --output json").exits(0));
    assert_eq!((told["name"].as_str(), told["version"].as_str()), (Some("opa-bundle"), Some("0.0.0")));
    assert_eq!((told["opa"]["revision"].as_str(), told["opa"]["roots"][0].as_str()), (Some("cafe"), Some("")));
}

#[test]
fn roots_bind_packages_and_data() {
    let world = World::empty();
    let with = |file: &str, text: &str| {
        let mut spec = spec();
        spec["files"][file] = text.into();
        spec
    };
    let outside = "lies below none of its roots";
    refused(&world, &with("more.rego", "package autonomy.update\n\nallow := true\n"), "bad_value", outside);
    refused(&world, &with("more.rego", "package autonomy.toolbox\n\nallow := true\n"), "bad_value", outside);
    refused(&world, &with("more.rego", "package autonomy\n\ntool.allow := true\n"), "bad_value", outside);
    refused(&world, &with("more.rego", "package autonomy\n.tool\n\nallow := true\n"), "bad_value", "joined by dots");
    refused(&world, &with("other/data.json", "{}"), "bad_value", outside);
    refused(&world, &with("autonomy/data.json", r#"{"stray": 1}"#), "bad_value", outside);
    refused(&world, &with("autonomy/data.json", r#"{"limits/x": 1}"#), "bad_value", outside);
    refused(&world, &with(".manifest", r#"{"roots": ["autonomy", "autonomy/tool"]}"#), "bad_value", "overlap");
    refused(&world, &with(".manifest", r#"{"roots": []}"#), "bad_value", outside);
    refused(&world, &with(".manifest", r#"{"rego_version": 0}"#), "bad_value", "another Rego");
    refused(&world, &with(".manifest", r#"{"wasm": [{"module": "/policy.wasm"}]}"#), "bad_value", "WebAssembly");
    refused(&world, &with(".manifest", r#"{"surprise": 1}"#), "syntax", "surprise");
    refused(&world, &with("data.yaml", "a: 1"), "bad_value", "data.json");
    refused(&world, &with("../up.rego", RULES), "unsafe_path", "");
    refused(&world, &with("/rooted.rego", RULES), "unsafe_path", "");
}

#[test]
fn our_own_bundles_stay_strict() {
    let world = crate::policy::policy();
    crate::policy::build(&world, "1.0.0", "p.tar.gz");
    let repack = "import sys, tarfile\nwith tarfile.open('p.tar.gz') as old, tarfile.open('q.tar.gz', 'w:gz', \
                  format=tarfile.USTAR_FORMAT) as new:\n for entry in old:\n  data = old.extractfile(entry); entry.name = '/' + \
                  entry.name; new.addfile(entry, data)\n";
    let ran = Command::new("python3").args(["-c", repack]).current_dir(world.path(".")).status().expect("python3");
    assert!(ran.success());
    world.run("policy inspect q.tar.gz").exits(3).warns("unsafe_path: ");
}

#[test]
fn a_signed_one_is_checked_file_by_file_and_against_the_key() {
    let world = World::empty();
    for key in ["right", "wrong"] {
        let script = format!(
            "openssl ecparam -name prime256v1 -genkey -noout -out {key}.pem && openssl ec -in {key}.pem -pubout -out {key}.pub"
        );
        let made =
            Command::new("/bin/sh").args(["-c", &script]).current_dir(world.path(".")).output().expect("openssl");
        assert!(made.status.success());
    }
    let mut signed = spec();
    signed["sign"] = "right.pem".into();
    make(&world, "signed.tar.gz", &signed);
    let told = json(&world.run("policy verify signed.tar.gz --output json").exits(0));
    assert_eq!(told["opa_signature"], "unverified");
    assert!(world.run("policy inspect signed.tar.gz").exits(0).stdout().contains("who made it is not verified"));
    let told = json(&world.run("policy verify signed.tar.gz --verification-key right.pub --output json").exits(0));
    assert_eq!(told["opa_signature"], "verified");
    world.run("policy verify signed.tar.gz --verification-key wrong.pub").exits(3).warns("below_threshold: ");
    make(&world, "plain.tar.gz", &spec());
    world.run("policy verify plain.tar.gz --verification-key right.pub").exits(3).warns("holds no `.signatures.json`");

    let mut changed = signed.clone();
    changed["after"] = serde_json::json!({ "rules/tool.rego": RULES.replace("false", "true") });
    refused(&world, &changed, "digest_mismatch", "rules/tool.rego");
    let mut changed = signed.clone();
    changed["after"] = serde_json::json!({ "data.json": DATA.replace("tool.echo", "tool.shell") });
    refused(&world, &changed, "digest_mismatch", "data.json");
    // White space and the order of keys do not count, as OPA has it.
    let mut same = signed.clone();
    same["after"] = serde_json::json!({ "data.json": r#"{"autonomy":{"limits":{"kinds":["tool.echo"],"max":3}}}"# });
    make(&world, "same.tar.gz", &same);
    world.run("policy verify same.tar.gz --verification-key right.pub").exits(0);
    let mut more = signed.clone();
    more["after"] = serde_json::json!({ "rules/more.rego": "package autonomy.tool.more\n" });
    refused(&world, &more, "bad_value", "does not list `rules/more.rego`");
    let mut fewer = signed.clone();
    fewer["unlisted"] = serde_json::json!([".manifest"]);
    refused(&world, &fewer, "bad_value", "does not list `.manifest`");
    let mut broken = signed;
    broken["after"] = serde_json::json!({ ".signatures.json": r#"{"signatures": ["a.b"]}"# });
    refused(&world, &broken, "bad_value", "three parts");
}
