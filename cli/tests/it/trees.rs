//! Artifacts of type `tree`, from the author's folder to the generation and back.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::node::Site;
use crate::registry::Registry;
use autonomy_schema::Sha256;

const AGENT: &str = "- { name: agent,";
const MODELS: &str = "- { name: models, type: tree, path: data/models, source: ../../models }\n    - { name: agent,";

/// The release has a tree; release 1, without it, is active.
fn with_tree() -> Site {
    let site = Site::running();
    let agent = String::from_utf8(site.world.read("manifests/base/manifest.yaml")).expect("UTF-8");
    assert!(agent.contains(AGENT), "{agent}");
    site.world.edit("manifests/base/manifest.yaml", AGENT, MODELS);
    for folder in ["models/empty", "models/a/deep", "models/b"] {
        std::fs::create_dir_all(site.world.path(folder)).expect("folder");
    }
    site.world.write("models/a/deep/weights", vec![7; 200_000]);
    site.world.write("models/a-b", "sorts before a/deep");
    site.world.write("models/b/none", "");
    site.world.write("models/run", "#!/bin/sh\n");
    std::fs::set_permissions(site.world.path("models/run"), PermissionsExt::from_mode(0o700)).expect("mode");
    site.set("two", 2);
    site
}

#[track_caller]
fn no_changes(site: &Site, set: &str) {
    let plan = site.node(&format!("plan {set}")).exits(0).stdout();
    assert!(plan.contains("No changes"), "{plan}");
}

fn mode(site: &Site, path: &str) -> u32 {
    std::fs::metadata(site.world.path(path)).expect("there").permissions().mode() & 0o777
}

#[test]
fn a_tree_is_planned_as_one_step_applied_whole_and_updated_file_by_file() {
    let site = with_tree();
    site.world.run("verify two --trust-root root.json").exits(0);
    let plan = site.node("plan two").exits(0).stdout();
    assert!(plan.contains("+ artifact.data/models"), "{plan}");
    assert_eq!(plan.matches("data/models").count(), 1, "{plan}");
    site.node("apply two --auto-approve").exits(0);
    site.is_whole(&[2]);
    let files = site.world.tree("node/current/artifacts/data/models");
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["a-b", "a/deep/weights", "b/none", "run"]);
    assert_eq!((mode(&site, "node/current/artifacts/data/models/run"), files["a-b"].0 & 0o777), (0o755, 0o644));
    no_changes(&site, "two");
    site.node("fsck").exits(0);
    // One file changes, one goes, one comes: the others are the same objects.
    let inode =
        |path: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(site.world.path(path)).expect("there"));
    let kept = inode("node/current/artifacts/data/models/a/deep/weights");
    site.world.write("models/a-b", "other");
    std::fs::remove_file(site.world.path("models/b/none")).expect("removes");
    site.world.write("models/new", "new");
    site.set("three", 3);
    let plan = site.node("plan three").exits(0).stdout();
    assert!(plan.contains("~ artifact.data/models") && plan.contains("(content_changed)"), "{plan}");
    site.node("apply three --auto-approve").exits(0);
    site.is_whole(&[3]);
    let names: Vec<String> = site.world.tree("node/current/artifacts/data/models").into_keys().collect();
    assert_eq!(names, ["a-b", "a/deep/weights", "new", "run"]);
    assert_eq!(inode("node/current/artifacts/data/models/a/deep/weights"), kept);
    // A mode alone is a change of the index.
    std::fs::set_permissions(site.world.path("models/new"), PermissionsExt::from_mode(0o744)).expect("mode");
    site.set("four", 4);
    let plan = site.node("plan four").exits(0).stdout();
    assert!(plan.contains("~ artifact.data/models") && plan.contains("(content_changed)"), "{plan}");
    site.node("apply four --auto-approve").exits(0);
    assert_eq!(mode(&site, "node/current/artifacts/data/models/new"), 0o755);
    site.node("rollback --auto-approve").exits(0);
    site.is_whole(&[3]);
    site.node("fsck").exits(0);
}

#[test]
fn what_differs_in_a_tree_is_told_file_by_file_and_repaired() {
    let site = with_tree();
    site.node("apply two --auto-approve").exits(0);
    let current = std::fs::canonicalize(site.world.path("node/current")).expect("link");
    let file = current.join("artifacts/data/models/a/deep/weights");
    std::fs::remove_file(&file).expect("removes");
    std::fs::write(&file, vec![8; 200_000]).expect("writes");
    std::fs::write(current.join("artifacts/data/models/stray"), "x").expect("writes");
    let plan = site.node("plan two").exits(0).stdout();
    assert!(plan.contains("artifact.data/models/a/deep/weights"), "{plan}");
    assert!(plan.contains("artifact.data/models/stray"), "{plan}");
    site.node("apply two --auto-approve").exits(0);
    no_changes(&site, "two");
    // The index itself: what it names is then not told as strange.
    let current = std::fs::canonicalize(site.world.path("node/current")).expect("link");
    let index = current.join("trees/models.jsonl");
    std::fs::remove_file(&index).expect("removes");
    std::fs::write(&index, "{}\n").expect("writes");
    let plan = site.node("plan two").exits(0).stdout();
    assert!(plan.contains("trees/models.jsonl"), "{plan}");
    assert!(!plan.contains("a/deep/weights"), "{plan}");
    site.node("fsck").exits(11);
    site.node("fsck --repair --from two").exits(0);
    site.node("fsck").exits(0);
    no_changes(&site, "two");
}

#[test]
fn a_tree_that_is_not_as_its_index_says_is_refused() {
    let site = with_tree();
    let cases: [(&str, &str, i32, &str); 5] = [
        ("changed", "artifacts/data/models/a-b", 3, "digest_mismatch"),
        ("missing", "artifacts/data/models/run", 9, "missing_file"),
        ("extra", "artifacts/data/models/extra", 3, "extraneous_file"),
        ("index", "trees/models.jsonl", 3, "digest_mismatch"),
        ("gone", "trees/models.jsonl", 9, "missing_file"),
    ];
    for (name, file, exit, code) in cases {
        site.copy("two", name);
        let path = site.world.path(&format!("{name}/{file}"));
        match name {
            "missing" | "gone" => std::fs::remove_file(path).expect("removes"),
            "index" => {
                let text = std::fs::read_to_string(&path).expect("reads");
                std::fs::write(path, text.replace("0755", "0777")).expect("writes");
            }
            "changed" => std::fs::write(path, "sorts before a/deeq").expect("writes"),
            _ => std::fs::write(path, "sorts").expect("writes"),
        }
        site.refuses(name, exit, code);
    }
    site.copy("two", "link");
    let path = site.world.path("link/artifacts/data/models/run");
    std::fs::remove_file(&path).expect("removes");
    symlink("a-b", &path).expect("links");
    site.refuses("link", 3, "symlink_refused");
}

/// Signed, and nonsense: what a signer's broken tool could make.
#[test]
fn an_index_that_is_signed_and_wrong_is_refused() {
    let site = with_tree();
    let index = String::from_utf8(site.world.read("two/trees/models.jsonl")).expect("UTF-8");
    let lines: Vec<&str> = index.lines().collect();
    let one = lines[0];
    let cases = [
        ("order", format!("{}\n{}\n", lines[1], lines[0]), "is not after the path before it"),
        ("climb", one.replace("\"a-b\"", "\"../a-b\"") + "\n", "unsafe_path"),
        ("space", one.replace("\":", "\": ") + "\n", "is not canonical JSON"),
        ("newline", one.to_owned(), "has no newline"),
        ("case", format!("{}\n{one}\n", one.replace("a-b", "A-B")), "differs only in case"),
        (
            "folder",
            format!("{}\n{}\n", one.replace("a-b", "A"), one.replace("a-b", "a/x")),
            "in a folder that has the name of a file",
        ),
        ("sum", format!("{one}\n"), "the files add up to"),
        ("field", one.replace("\"path\"", "\"owner\":1,\"path\"") + "\n", "unknown field"),
    ];
    for (name, text, why) in cases {
        site.copy("two", name);
        site.world.write(&format!("{name}/trees/models.jsonl"), &text);
        site.doctor(name, |manifest| {
            let artifacts = manifest["spec"]["artifacts"].as_array_mut().expect("list");
            let tree = artifacts.iter_mut().find(|artifact| artifact["name"] == "models").expect("tree");
            tree["index"] = serde_json::json!({
                "blake3": autonomy_schema::Blake3::of(text.as_bytes()), "digest": Sha256::of(text.as_bytes()),
                "size": text.len(),
            });
        });
        let ran = site.node(&format!("apply {name} --auto-approve"));
        assert!(ran.stderr().contains(why), "{name}: {}", ran.stderr());
        assert!([2, 3].contains(&ran.code()), "{name}: {} {}", ran.code(), ran.stderr());
        site.is_whole(&[1]);
    }
}

#[test]
fn what_no_tree_can_hold_is_refused_when_it_is_rendered() {
    let render = |site: &Site| site.world.run("render manifests/overlays/pier-7 --out bad");
    let site = with_tree();
    symlink("/etc/passwd", site.world.path("models/link")).expect("links");
    render(&site).exits(1).warns("is a link or special file");
    std::fs::remove_file(site.world.path("models/link")).expect("removes");
    site.world.write("models/RUN", "x");
    render(&site).exits(1).warns("differs only in case");
    std::fs::remove_file(site.world.path("models/RUN")).expect("removes");
    site.world.edit("manifests/base/manifest.yaml", "type: tree,", "type: tree, mode: \"0644\",");
    render(&site).exits(1).warns("is a tree, whose files have modes of their own");
    site.world.edit("manifests/base/manifest.yaml", "source: ../../models", "source: ../../nowhere");
    render(&site).exits(1).warns("nowhere");
    assert!(!site.world.has("bad"));
}

#[test]
fn one_folder_has_one_index_whatever_order_and_modes_it_was_made_in() {
    let fingerprint = |site: &Site, out: &str| {
        site.world.run(&format!("render manifests/overlays/pier-7 --out {out}")).exits(0);
        site.fingerprint(out)
    };
    let site = with_tree();
    let first = fingerprint(&site, "first");
    std::fs::rename(site.world.path("models"), site.world.path("before")).expect("renames");
    for (name, (bits, bytes)) in site.world.tree("before").into_iter().rev() {
        let path = site.world.path(&format!("models/{name}"));
        std::fs::create_dir_all(path.parent().expect("folder")).expect("folder");
        std::fs::write(&path, bytes).expect("writes");
        // Only whether the owner may run it counts.
        let bits = if bits & 0o100 == 0 { 0o600 } else { 0o711 };
        std::fs::set_permissions(path, PermissionsExt::from_mode(bits)).expect("mode");
    }
    assert_eq!(fingerprint(&site, "second"), first);
}

/// Tree files and everything else of a set, without what only one of the two forms has.
fn size_of(site: &Site, folder: &str) -> u64 {
    site.world.tree(folder).values().map(|(_, bytes)| bytes.len() as u64).sum()
}

#[test]
fn on_a_medium_a_tree_is_one_blob_and_a_change_of_one_file_moves_little_more() {
    let site = with_tree();
    let mut noise = vec![0; 3_000_000];
    blake3::Hasher::new_derive_key("autonomy test tree").finalize_xof().fill(&mut noise);
    site.world.write("models/big", &noise);
    for at in 0..300 {
        let bytes = format!("file {at}\n").repeat(at);
        site.world.write(&format!("models/a/{at}.txt"), bytes);
    }
    site.set("two", 2);
    site.world.run("export two --to stick").exits(0);
    let blobs = site.world.tree("stick/blobs/sha256").len();
    assert!(blobs < 25, "{blobs} blobs for 305 files");
    site.node("plan oci:stick").exits(0);
    site.node("import stick").exits(0);
    site.node("fsck").exits(0);
    site.node("reconcile --once").exits(0);
    site.is_whole(&[2]);
    assert!(site.world.tree("node/current/artifacts/data/models") == site.world.tree("two/artifacts/data/models"));
    // The node's own generation, exported, is the same set.
    site.node("export --to own").exits(0);
    let digest = |stick: &str| {
        let index: serde_json::Value =
            serde_json::from_slice(&site.world.read(&format!("{stick}/index.json"))).expect("JSON");
        site.world.run(&format!("verify oci:{stick} --trust-root root.json")).exits(0);
        index["manifests"][0]["digest"].clone()
    };
    assert!(digest("own").is_string() && digest("stick").is_string());

    noise[1_500_000] ^= 1;
    site.world.write("models/big", &noise);
    std::fs::remove_file(site.world.path("models/a/7.txt")).expect("removes");
    site.world.write("models/a/late", "late");
    site.set("three", 3);
    let since = site.fingerprint("two");
    site.world.run(&format!("export three --to delta --since {since} --base two")).exits(0);
    let (whole, delta) = (size_of(&site, "three"), size_of(&site, "delta"));
    assert!(delta * 5 < whole, "{delta} of {whole} bytes");
    site.node("import delta --preview").exits(0);
    site.node("import delta").exits(0);
    site.node("reconcile --once").exits(0);
    site.is_whole(&[3]);
    assert!(site.world.tree("node/current/artifacts/data/models") == site.world.tree("three/artifacts/data/models"));
    site.node("fsck").exits(0);
    // A node without the base is told so.
    let other = with_tree();
    let delta = site.world.path("delta");
    other.node(&format!("import {}", delta.display())).exits(9).warns("missing_file: ");
    other.is_whole(&[1]);
}

#[test]
fn in_a_registry_a_tree_is_one_blob_and_a_pulled_folder_is_a_set() {
    let site = with_tree();
    let registry = Registry::start(&site);
    let reference = format!("{}:2", registry.repository());
    site.world.run(&format!("push two {reference}")).exits(0);
    site.world.run("export two --to stick").exits(0);
    let pulled = site.world.run(&format!("pull {reference} --to pulled --trust-root root.json"));
    pulled.exits(0);
    assert!(site.world.has("pulled/trees/models.payload"));
    site.world.run("verify pulled --trust-root root.json").exits(0);
    let again = site.world.run(&format!("pull {reference} --to pulled --trust-root root.json"));
    again.exits(0);
    site.node(&format!("apply {reference} --auto-approve")).exits(0);
    site.is_whole(&[2]);
    assert!(site.world.tree("node/current/artifacts/data/models") == site.world.tree("two/artifacts/data/models"));
    site.node("plan pulled").exits(0);
    site.node("import pulled --preview").exits(0);
    site.node("fsck").exits(0);
}
