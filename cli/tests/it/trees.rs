//! Artifacts of type `tree`, from the author's folder to the generation and back.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::node::Site;
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
            "where another path has a folder",
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
