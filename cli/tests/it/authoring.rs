//! Render, sign, lock, policy, keys and trust: what operators do before a node sees anything.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::world::World;

const BASE: &str = "manifests/base/manifest.yaml";
const OVERLAY: &str = "manifests/overlays/pier-7/manifest.yaml";
const RENDER: &str = "render manifests/overlays/pier-7 --out set";

/// The names in a folder, to show that nothing was left behind.
fn names(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.path("")).expect("folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn render_gives_the_same_bytes_from_anywhere_and_exactly_the_files_of_a_set() {
    let (world, other) = (World::fleet(), World::fleet());
    world.run(RENDER).exits(0);
    let absolute = other.path("manifests/overlays/pier-7");
    other.run(&format!("render {} --out deep/er/set --output json", absolute.display())).exits(0);
    let set = world.tree("set");
    assert_eq!(set, other.tree("deep/er/set"));
    let files: Vec<_> = set.iter().map(|(name, (mode, _))| format!("{name} {mode:o}")).collect();
    let expected = [
        "artifacts/bin/agent 755",
        "artifacts/etc/prompt.txt 644",
        "artifacts/etc/settings.toml 644",
        "artifacts/etc/tools.json 644",
        "autonomy.lock.json 644",
        "manifest.json 644",
        "policy.tar.gz 644",
        "segments/agent.idx 644",
        "segments/prompt.idx 644",
        "segments/settings.idx 644",
        "segments/tools.idx 644",
    ];
    assert_eq!(files, expected);
    assert_eq!(names(&world), ["build", "manifests", "set"]);
    world.run(RENDER).exits(0);
    assert_eq!(set, world.tree("set"), "a second run changed the set");
}

#[test]
fn both_piers_of_the_example_fleet_render_and_differ_in_site_and_peers() {
    let world = World::fleet();
    for (pier, peers) in [("pier-7", ["pier-7-crane", "pier-7-gate"].as_slice()), ("pier-8", &["pier-8-gate"])] {
        world.run(&format!("render manifests/overlays/{pier} --out {pier}")).exits(0);
        let manifest = world.read(&format!("{pier}/manifest.json"));
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        assert_eq!(manifest["spec"]["scope"]["matchLabels"]["site"], pier);
        let list = manifest["spec"]["relay"]["peers"].as_array().expect("peers");
        assert_eq!(list.iter().map(|peer| peer["id"].as_str().expect("id")).collect::<Vec<_>>(), peers);
    }
    assert_ne!(world.read("pier-7/manifest.json"), world.read("pier-8/manifest.json"));
    assert_eq!(world.read("pier-7/policy.tar.gz"), world.read("pier-8/policy.tar.gz"));
}

#[test]
fn signatures_are_kept_only_where_the_signed_bytes_did_not_change() {
    let world = World::fleet();
    world.keys(&["a"]);
    world.run(RENDER).exits(0);
    world.run("sign set/manifest.json --key a.key").exits(0);
    world.run("sign set/autonomy.lock.json --key a.key").exits(0);
    std::fs::create_dir(world.path("set/roots")).expect("folder");
    world.write("set/roots/1.root.json", "{}");
    let signed = world.tree("set");
    world.run(RENDER).exits(0);
    assert_eq!(signed, world.tree("set"));
    // Another serial: the lock is the same, the manifest is not.
    world.edit(BASE, "serial: 1 ", "serial: 2 ");
    world.run(RENDER).exits(0);
    assert!(!world.has("set/manifest.json.sigstore.jsonl"));
    assert_eq!(world.read("set/autonomy.lock.json.sigstore.jsonl"), signed["autonomy.lock.json.sigstore.jsonl"].1);
    assert!(world.has("set/roots/1.root.json"));
    // Another agent: neither is the same.
    world.write("build/agent", "another agent");
    world.run(RENDER).exits(0);
    assert!(!world.has("set/autonomy.lock.json.sigstore.jsonl"));
}

#[test]
fn a_failed_render_leaves_the_earlier_set_and_nothing_else() {
    let world = World::fleet();
    world.run(RENDER).exits(0);
    let before = world.tree("set");
    world.write("manifests/base/policy/more.rego", "package autonomy.update\nx := ");
    world.run(RENDER).exits(1).warns("does not compile");
    assert_eq!(before, world.tree("set"));
    assert_eq!(names(&world), ["build", "manifests", "set"]);
}

#[test]
fn render_never_deletes_what_is_no_set() {
    let world = World::fleet();
    std::fs::create_dir(world.path("set")).expect("folder");
    world.write("set/diary.txt", "dear diary");
    world.run(RENDER).exits(64).warns("diary.txt");
    world.write("set/manifest.json", "{}");
    world.run(RENDER).exits(64).warns("diary.txt");
    assert_eq!(world.read("set/diary.txt"), b"dear diary");
    world.run("render manifests/overlays/pier-7 --out .").exits(64);
    world.run("render manifests/overlays/pier-7 --out build/agent").exits(64);
    symlink(world.path("build"), world.path("link")).expect("links");
    world.run("render manifests/overlays/pier-7 --out link").exits(64);
    assert!(world.has("build/agent"));
}

#[test]
fn errors_name_file_line_and_column_in_base_and_overlay() {
    let world = World::fleet();
    world.edit(BASE, "window: 10m", "window: 1m");
    world.edit(OVERLAY, "10.7.0.12:7443", "10.7.0.12");
    let ran = world.run(RENDER).exits(1);
    let stderr = ran.stderr();
    assert!(stderr.contains("bad_value: manifests/base/manifest.yaml:37:5: `spec.relay.window` 1m"), "{stderr}");
    let place = "bad_value: manifests/overlays/pier-7/manifest.yaml:7:29: `spec.relay.peers.0.address`";
    assert!(stderr.contains(place), "{stderr}");
    assert!(stderr.contains("window: 1m"), "no snippet:\n{stderr}");
    assert_eq!(ran.stdout(), "");
}

/// Found by ci/fuzz: a quoted key could begin a line of its own, which scripts would read as a second reason.
#[test]
fn a_key_with_a_line_end_does_not_begin_a_second_line() {
    let world = World::fleet();
    world.edit(BASE, "spec:\n", "spec:\n  \"x\\nexpired: everything\": 1\n");
    let stderr = world.run(RENDER).exits(1).stderr();
    assert!(stderr.contains("unknown_field: manifests/base/manifest.yaml"), "{stderr}");
    assert!(stderr.lines().all(|line| !line.starts_with("expired")), "{stderr}");
}

#[test]
fn sources_that_are_no_files_are_told_with_their_place_and_never_waited_for() {
    let world = World::fleet();
    std::fs::remove_file(world.path("build/agent")).expect("removes");
    std::fs::remove_file(world.path("manifests/base/tools.json")).expect("removes");
    std::fs::create_dir(world.path("manifests/base/tools.json")).expect("folder");
    let ran = world.run(RENDER).exits(1);
    ran.warns("source_not_found: manifests/base/manifest.yaml:23").warns("not a regular file");
    let fifo = std::process::Command::new("mkfifo").arg(world.path("build/agent")).status().expect("runs");
    assert!(fifo.success());
    world.run(RENDER).exits(1).warns("not a regular file");
    world.run("render manifests/overlays/pier-9 --out set").exits(1).warns("source_not_found");
}

#[test]
fn an_authored_lock_must_bind_what_is_rendered() {
    let world = World::fleet();
    world.run(RENDER).exits(0);
    std::fs::copy(world.path("set/autonomy.lock.json"), world.path("manifests/base/own.lock.json")).expect("copies");
    world.edit(BASE, "  inputs: ", "  lock: own.lock.json\n  inputs: ");
    let before = world.tree("set");
    world.run(RENDER).exits(0);
    assert_eq!(before, world.tree("set"));
    world.write("build/agent", "another agent");
    world.run(RENDER).exits(1).warns("digest_mismatch: manifests/base/manifest.yaml:");
}

#[test]
fn keys_are_private_and_never_overwritten() {
    let world = World::empty();
    world.keys(&["a"]);
    let mode = world.path("a.key").metadata().expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(world.read("a.key").starts_with(b"-----BEGIN ENCRYPTED"));
    let before = world.tree("");
    world.run("keygen --output-key-prefix a").exits(64).warns("never overwritten");
    std::fs::remove_file(world.path("a.key")).expect("removes");
    world.run("keygen --output-key-prefix a").exits(64);
    assert!(!world.has("a.key"));
    assert_eq!(world.read("a.pub"), before["a.pub"].1);
    world.run("keygen --output-key-prefix e --type ed25519").exits(0);
    world.run("keygen --output-key-prefix r --type rsa").exits(64);
    world.run("keygen --output-key-prefix no/such/folder/k").exits(1);
}

#[test]
fn signing_refuses_loose_keys_wrong_passwords_and_bytes_that_no_reader_takes() {
    let world = World::fleet();
    world.keys(&["a", "b"]);
    world.run(RENDER).exits(0);
    world.run_with("sign set/manifest.json --key a.key", "wrong").exits(1).warns("wrong_key");
    world.run("sign set/manifest.json --key a.pub").exits(1).warns("wrong_key");
    std::fs::set_permissions(world.path("b.key"), std::fs::Permissions::from_mode(0o640)).expect("mode");
    world.run("sign set/manifest.json --key b.key").exits(1).warns("chmod 0600");
    let manifest = world.read("set/manifest.json");
    world.write("loose.json", [&manifest[..], b"\n"].concat());
    world.run("sign loose.json --key a.key").exits(3).warns("not_canonical");
    world.write("foreign.json", r#"{"hello":"world"}"#);
    world.run("sign foreign.json --key a.key").exits(3);
    world.write("note.txt", "pay 100");
    world.run("sign note.txt --key a.key").exits(3);
    world.run("sign absent.json --key a.key").exits(1).warns("source_not_found");
    assert!(world.tree("").keys().all(|name| !name.ends_with(".sigstore.jsonl")));
}

#[test]
fn one_key_leaves_one_line_and_the_order_of_signing_does_not_matter() {
    let world = World::fleet();
    world.keys(&["a", "b"]);
    world.run(RENDER).exits(0);
    let lines = |text: &[u8]| String::from_utf8_lossy(text).lines().count();
    for key in ["a", "b", "a"] {
        world.run(&format!("sign set/manifest.json --key {key}.key")).exits(0);
    }
    let signatures = world.read("set/manifest.json.sigstore.jsonl");
    assert_eq!(lines(&signatures), 2);
    std::fs::remove_file(world.path("set/manifest.json.sigstore.jsonl")).expect("removes");
    for key in ["b", "a"] {
        world.run(&format!("sign set/manifest.json --key {key}.key")).exits(0);
    }
    let again = world.read("set/manifest.json.sigstore.jsonl");
    assert_eq!(lines(&again), 2);
    // ECDSA signatures may differ from run to run; the order of the keys may not.
    let hints = |text: &[u8]| {
        let text = String::from_utf8_lossy(text).into_owned();
        text.lines().map(|line| line.split("\"hint\":\"").nth(1).expect("hint")[..44].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(hints(&signatures), hints(&again));
    world.run("sign set/policy.tar.gz --key a.key").exits(0);
}

#[test]
fn a_trust_root_that_no_node_would_pin_is_not_written() {
    let world = World::empty();
    world.keys(&["a", "b", "c"]);
    let before = names(&world);
    let new = |rest: &str| world.run(&format!("trust new --out root.json {rest}"));
    let roles = "--role root=a.pub,b.pub,c.pub:2 --role manifest=a.pub:1";
    new(&format!("{roles} --expires 2y --sign a.key")).exits(3).warns("root_signature");
    new(&format!("{roles} --expires 2y --sign a.key --sign a.key")).exits(3).warns("root_signature");
    new("--role root=a.pub:2 --expires 2y --sign a.key").exits(3).warns("bad_value");
    new("--role manifest=a.pub:1 --expires 2y --sign a.key").exits(3).warns("roles.root");
    new("--role root=a.pub,a.pub:2 --expires 2y --sign a.key").exits(64).warns("named already");
    new("--role root=a.pub:1 --role root=b.pub:1 --expires 2y --sign a.key").exits(64).warns("given twice");
    new("--role root=a.key:1 --expires 2y --sign a.key").exits(1).warns("wrong_key");
    new(&format!("{roles} --expires 2020-01-01T00:00:00Z --sign a.key --sign b.key")).exits(3).warns("expired");
    new(&format!("{roles} --expires soon --sign a.key --sign b.key")).exits(64);
    assert_eq!(names(&world), before);
    new(&format!("{roles} --expires 2y --sign b.key --sign c.key")).exits(0);
    assert!(world.has("root.json") && world.has("root.json.sigstore.jsonl"));
    new(&format!("{roles} --expires 2y --sign b.key --sign c.key")).exits(64).warns("exists");
}

#[test]
fn policy_bundles_are_reproducible_and_hold_no_links() {
    let world = World::fleet();
    let build = |out: &str| {
        world.run(&format!("policy build --in manifests/base/policy --out {out} --name harbor --version 1.2.3"))
    };
    build("one.tar.gz").exits(0);
    world.write("manifests/base/policy/README.md", "not part of it");
    build("two.tar.gz").exits(0);
    assert_eq!(world.read("one.tar.gz"), world.read("two.tar.gz"));
    symlink("/etc/hostname", world.path("manifests/base/policy/x.rego")).expect("links");
    build("three.tar.gz").exits(3).warns("symlink_refused");
    assert!(!world.has("three.tar.gz"));
    world.run("policy build --in absent --out x --name n --version 1.0.0").exits(1).warns("source_not_found");
    world.run("policy build --in build --out x --name n --version 1.0.0").exits(3);
    world.run("policy build --in build --out x --name n --version 1.0").exits(64);
}

#[test]
fn a_lock_built_by_hand_is_the_one_that_render_builds() {
    let world = World::fleet();
    world.run(RENDER).exits(0);
    let inputs = "--prompt manifests/base/prompt.txt --tool-inputs manifests/base/tools.json";
    world.run(&format!("lock build --agent build/agent --policy set/policy.tar.gz {inputs} --out own.json")).exits(0);
    assert_eq!(world.read("own.json"), world.read("set/autonomy.lock.json"));
    let fingerprint = world.run("lock fingerprint own.json").exits(0).stdout();
    assert!(fingerprint.starts_with("blake3:") && fingerprint.len() == 72, "{fingerprint}");
    world.run("lock verify own.json --dir set").exits(0);
    world.write("set/artifacts/bin/agent", "tampered");
    world.run("lock verify own.json --dir set").exits(3).warns("digest_mismatch: the agent");
    world.run("lock verify own.json").exits(0);
    let flipped = String::from_utf8(world.read("own.json")).expect("UTF-8").replace("\"semver\":\"1", "\"semver\":\"2");
    world.write("own.json", flipped);
    world.run("lock verify own.json").exits(3).warns("digest_mismatch");
}

#[test]
fn schemas_codes_and_completions_are_printed() {
    let world = World::empty();
    for kind in world.run("schema").exits(0).stdout().lines() {
        let kind = kind.split_whitespace().next().expect("kind");
        let golden = format!("{}/../golden/schemas/{kind}.json", env!("CARGO_MANIFEST_DIR"));
        let golden = std::fs::read_to_string(golden).expect("golden");
        assert_eq!(world.run(&format!("schema {kind}")).exits(0).stdout(), golden);
    }
    world.run("schema Manifest").exits(64);
    let listed = world.run("explain").exits(0).stdout();
    let codes = autonomy_schema::Code::ALL.iter().map(|code| (code.as_str(), code.explain()));
    let whys = autonomy_plan::Why::ALL.iter().map(|why| (why.as_str(), why.explain()));
    for (code, explained) in codes.chain(whys) {
        assert!(listed.lines().any(|line| line.split_whitespace().next() == Some(code)), "{code}");
        assert!(world.run(&format!("explain {code}")).exits(0).stdout().contains(explained), "{code}");
    }
    assert!(world.run("explain serial_conflict").exits(0).stdout().contains("exit 3"));
    world.run("explain serial").exits(64).warns("serial_conflict");
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.run(&format!("completions {shell}")).exits(0).stdout().contains("render"));
    }
}
