//! Sets on media: written by `export`, read by every verb as `oci:PATH`, carried by skopeo through a real registry.

use serde_json::{Value, json};

use crate::node::Site;
use crate::registry::{Registry, skopeo};

/// A site with a medium that holds release 2; the node runs release 1.
fn with_medium() -> Site {
    let site = Site::running();
    site.set("two", 2);
    site.world.run("export two --to stick").exits(0);
    site
}

pub(crate) fn index(site: &Site, medium: &str) -> Value {
    serde_json::from_slice(&site.world.read(&format!("{medium}/index.json"))).expect("JSON")
}

/// The path of a blob, and the document in it.
pub(crate) fn document(site: &Site, medium: &str, descriptor: &Value) -> (String, Value) {
    let hex = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("digest");
    let path = format!("{medium}/blobs/sha256/{hex}");
    let value = serde_json::from_slice(&site.world.read(&path)).unwrap_or_default();
    (path, value)
}

/// The blob of a file of the only set of a medium.
pub(crate) fn blob_of(site: &Site, medium: &str, title: &str) -> String {
    let (_, manifest) = document(site, medium, &index(site, medium)["manifests"][0]);
    let layers = manifest["layers"].as_array().expect("layers");
    let layer = layers.iter().find(|layer| layer["annotations"]["org.opencontainers.image.title"] == title);
    document(site, medium, layer.expect(title)).0
}

#[test]
fn a_set_travels_on_a_medium_and_is_applied_from_there() {
    let site = with_medium();
    let exported = site.world.run("export two --to again --output json").exits(0).stdout();
    let exported: Value = serde_json::from_str(&exported).expect("JSON");
    assert_eq!(exported["manifest"], site.fingerprint("two").to_string());
    assert_eq!(site.world.tree("stick"), site.world.tree("again"), "an export is a pure function of its set");
    let before = site.snapshot_all();
    let folder = site.node("plan two --output json").exits(0).stdout();
    let medium = site.node("plan oci:stick --output json").exits(0).stdout();
    let id = |plan: &str| serde_json::from_str::<Value>(plan).expect("JSON")["plan_id"].clone();
    assert_eq!(id(&folder), id(&medium), "the way that a set came is no part of what is done");
    assert!(before == site.snapshot_all(), "planning wrote to the state root");
    site.world.run("verify oci:stick --trust-root root.json").exits(0);
    site.node("plan oci:stick --out plan.json").exits(0);
    site.node("apply plan.json").exits(0);
    site.is_whole(&[2]);
    site.node("reconcile --once --source oci:stick").exits(0);
    site.node("diff oci:stick").exits(0);
}

#[test]
fn what_a_node_runs_is_exported_with_its_roots_and_seeds_another_node() {
    let site = Site::running();
    let inside = site.node("export --to node/stick").exits(64);
    assert!(inside.stderr().contains("inside the state root"), "{}", inside.stderr());
    let before = site.snapshot_all();
    site.node("export --to stick").exits(0);
    assert!(before == site.snapshot_all(), "an export writes nothing to the state root");
    let titles = document(&site, "stick", &index(&site, "stick")["manifests"][0]).1["layers"].clone();
    let titles = titles.to_string();
    assert!(titles.contains("roots/1.root.json.sigstore.jsonl"), "{titles}");
    site.world
        .run("init --state-root peer --node-id peer --fleet harbor --trust-root root.json --label site=pier-7")
        .exits(0);
    site.world.run("apply oci:stick --auto-approve --state-root peer").exits(0);
    site.world.run("export --to onward --state-root peer").exits(0);
    assert_eq!(site.world.tree("stick"), site.world.tree("onward"), "a node hands on the very same bytes");
}

#[test]
fn a_medium_keeps_several_sets_and_each_is_named() {
    let site = with_medium();
    site.set("three", 3);
    site.world.run("export three --to stick --tag newest").exits(0);
    let unnamed = site.node("plan oci:stick").exits(3).warns("bad_value: ");
    assert!(unnamed.stderr().contains("`newest`"), "{}", unnamed.stderr());
    site.node("plan oci:stick:nowhere").exits(1).warns("source_not_found: ");
    site.node("apply oci:stick:harbor-gateways-2 --auto-approve").exits(0);
    site.is_whole(&[2]);
    // The same tag again moves it; what nothing names any more goes.
    site.set("four", 4);
    site.world.run("export four --to stick --tag newest").exits(0);
    site.node("apply oci:stick:newest --auto-approve").exits(0);
    site.is_whole(&[4]);
    let digest = index(&site, "stick")["manifests"][1]["digest"].as_str().expect("digest").to_owned();
    site.node(&format!("diff oci:stick@{digest}")).exits(0);
}

#[test]
fn names_and_sizes_on_a_medium_are_those_that_fat32_takes() {
    let site = with_medium();
    let mut folded = std::collections::BTreeSet::new();
    for (path, (mode, bytes)) in site.world.tree("stick") {
        let plain = path.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '/' | '-' | '.'));
        assert!(plain && path.len() < 200, "{path}");
        assert!(folded.insert(path.to_ascii_lowercase()), "{path} differs from another in case alone");
        assert!(mode & 0o170_000 == 0o100_000 || mode & 0o170_000 == 0, "{path} is no plain file");
        assert!((bytes.len() as u64) < (4 << 30));
    }
}

#[test]
fn what_is_wrong_with_a_medium_is_named_and_changes_nothing() {
    let site = with_medium();
    let spoil = |name: &str, how: &dyn Fn(&str)| {
        site.copy("stick", name);
        how(name);
    };
    let path = |name: &str| site.world.path(name);
    spoil("lost", &|name| std::fs::remove_file(path(&blob_of(&site, name, "artifacts/bin/agent"))).expect("removes"));
    spoil("short", &|name| {
        let blob = blob_of(&site, name, "policy.tar.gz");
        let bytes = site.world.read(&blob);
        site.world.write(&blob, &bytes[..bytes.len() - 1]);
    });
    spoil("flipped", &|name| {
        let blob = blob_of(&site, name, "artifacts/bin/agent");
        let mut bytes = site.world.read(&blob);
        bytes[3] ^= 1;
        site.world.write(&blob, bytes);
    });
    spoil("manifest", &|name| {
        let (blob, mut manifest) = document(&site, name, &index(&site, name)["manifests"][0]);
        manifest["layers"][0]["size"] = json!(1);
        site.world.write(&blob, manifest.to_string());
    });
    spoil("extra", &|name| site.world.write(&format!("{name}/blobs/sha256/{}", "0".repeat(64)), "more"));
    spoil("autorun", &|name| site.world.write(&format!("{name}/autorun.inf"), "more"));
    spoil("linked", &|name| {
        let blob = path(&blob_of(&site, name, "artifacts/bin/agent"));
        std::fs::remove_file(&blob).expect("removes");
        std::os::unix::fs::symlink(path("two/artifacts/bin/agent"), blob).expect("links");
    });
    spoil("unmarked", &|name| std::fs::remove_file(path(&format!("{name}/oci-layout"))).expect("removes"));
    spoil("future", &|name| site.world.write(&format!("{name}/oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#));
    spoil("unlisted", &|name| std::fs::remove_file(path(&format!("{name}/index.json"))).expect("removes"));
    spoil("garbage", &|name| site.world.write(&format!("{name}/index.json"), "{"));
    spoil("huge", &|name| site.world.write(&format!("{name}/index.json"), vec![b' '; (4 << 20) + 1]));
    spoil("empty", &|name| site.world.write(&format!("{name}/index.json"), r#"{"schemaVersion":2,"manifests":[]}"#));
    for (medium, exit, code) in [
        ("oci:lost", 9, "missing_file"),
        ("oci:short", 3, "size_mismatch"),
        ("oci:flipped", 3, "digest_mismatch"),
        ("oci:manifest", 3, "size_mismatch"),
        ("oci:extra", 3, "extraneous_file"),
        ("oci:autorun", 3, "extraneous_file"),
        ("oci:linked", 3, "symlink_refused"),
        ("oci:unmarked", 1, "source_not_found"),
        ("oci:future", 3, "unknown_version"),
        ("oci:unlisted", 9, "missing_file"),
        ("oci:garbage", 3, "bad_value"),
        ("oci:huge", 3, "document_too_large"),
        ("oci:empty", 1, "source_not_found"),
        ("oci:nowhere", 1, "source_not_found"),
        ("oci:", 3, "bad_value"),
        ("oci:stick:", 3, "bad_value"),
        ("oci:stick@sha256:12", 3, "bad_value"),
    ] {
        let before = site.snapshot();
        site.node(&format!("apply {medium} --auto-approve")).exits(exit).warns(&format!("{code}: "));
        assert!(before == site.snapshot(), "{medium} changed the state root");
    }
    site.is_whole(&[1]);
}

#[test]
fn a_set_that_no_node_would_take_is_not_exported() {
    let site = Site::running();
    site.set("two", 2);
    for name in ["unsigned", "other", "stray", "indexed"] {
        site.copy("two", name);
    }
    std::fs::remove_file(site.world.path("unsigned/manifest.json.sigstore.jsonl")).expect("removes");
    site.world.write("other/artifacts/bin/agent", "#!/bin/sh\nexit 1\n");
    site.world.write("stray/more", "");
    let mut indexed = site.world.read("indexed/segments/agent.idx");
    indexed[0] ^= 1;
    site.world.write("indexed/segments/agent.idx", indexed);
    for (set, exit, code) in [
        ("unsigned", 9, "missing_file: "),
        ("other", 3, "digest_mismatch: "),
        ("stray", 3, "extraneous_file: "),
        ("indexed", 3, "digest_mismatch: "),
    ] {
        site.world.run(&format!("export {set} --to {set}-stick")).exits(exit).warns(code);
        assert!(!site.world.has(&format!("{set}-stick/index.json")), "{set}: a refused set is on the medium");
    }
    site.world.run("export two --to two").exits(1).warns("source_not_found: ");
    site.world.run("export two --to stick --tag a/b").exits(64);
    site.world.run("init --state-root fresh --node-id f --fleet harbor --trust-root root.json").exits(0);
    site.world.run("export --to stick --state-root fresh").exits(1).warns("source_not_found: ");
    // A refused export leaves no half file for the next one, which writes what it must.
    site.world.run("export two --to other-stick").exits(0);
    site.node("apply oci:other-stick --auto-approve").exits(0);
}

#[test]
fn an_export_that_was_cut_off_is_taken_up_again() {
    let site = with_medium();
    let whole = site.world.tree("stick");
    // Cut off before the frame was written: blobs alone, and one of them half.
    site.copy("stick", "cut");
    for name in ["oci-layout", "index.json"] {
        std::fs::remove_file(site.world.path(&format!("cut/{name}"))).expect("removes");
    }
    site.world.write("cut/blobs/sha256/incoming.part", "half");
    // A blob whose bytes were lost by the medium is written anew.
    let blob = blob_of(&site, "stick", "artifacts/bin/agent").replacen("stick", "cut", 1);
    site.world.write(&blob, "other bytes");
    site.world.run("export two --to cut").exits(0);
    assert_eq!(site.world.tree("cut"), whole);
    // Cut off while a second set came: the first is still whole and alone.
    site.set("three", 3);
    site.world.write("stick/blobs/sha256/incoming.part", "half");
    site.world.run("export three --to stick").exits(0);
    site.node("apply oci:stick:harbor-gateways-3 --auto-approve").exits(0);
}

#[test]
fn skopeo_carries_a_medium_through_a_registry_and_back() {
    let site = with_medium();
    let registry = Registry::start(&site);
    let remote = format!("docker://127.0.0.1:{}/fleet/harbor:2", registry.port);
    skopeo(&site, &["copy", "--dest-tls-verify=false", "oci:stick:harbor-gateways-2", &remote]);
    skopeo(&site, &["copy", "--src-tls-verify=false", &remote, "oci:back:harbor-gateways-2"]);
    let digest = |medium: &str| index(&site, medium)["manifests"][0]["digest"].clone();
    assert_eq!(digest("stick"), digest("back"), "skopeo changed the manifest");
    let raw = skopeo(&site, &["inspect", "--raw", "oci:stick:harbor-gateways-2"]);
    let raw: Value = serde_json::from_str(&raw).expect("JSON");
    assert_eq!(raw["artifactType"], "application/vnd.autonomy.set.v1");
    site.node("apply oci:back --auto-approve").exits(0);
    site.is_whole(&[2]);
}

#[test]
fn an_export_follows_no_link_and_a_half_one_spoils_nothing() {
    let site = with_medium();
    // The place of the blobs is a link: nothing is written or removed behind it.
    std::fs::create_dir_all(site.world.path("elsewhere/sha256")).expect("folders");
    site.world.write("elsewhere/sha256/incoming.part", "somebody's");
    std::fs::create_dir(site.world.path("trap")).expect("folder");
    std::os::unix::fs::symlink("../elsewhere", site.world.path("trap/blobs")).expect("links");
    let before = site.world.tree("elsewhere");
    site.world.run("export two --to trap").exits(3).warns("symlink_refused: ");
    assert!(before == site.world.tree("elsewhere"), "something was written behind the link");
    // What a cut-off export leaves does not keep the sets from coming that were there before.
    site.world.write("stick/blobs/sha256/incoming.part", "half");
    site.world.write("stick/index.part", "half");
    site.node("import stick --preview").exits(0);
    // Cut off between the marker and the index.
    site.copy("stick", "begun");
    std::fs::remove_file(site.world.path("begun/index.json")).expect("removes");
    site.world.run("export two --to begun").exits(0);
    site.node("plan oci:begun").exits(0);
    // What nodes trust has a tag of its own.
    site.world.run("export two --to stick --tag trust").exits(64);
    // One export at a time.
    let folder = std::fs::File::open(site.world.path("stick")).expect("opens");
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).expect("locks");
    site.world.run("export two --to stick").exits(6).warns("locked: ");
}
