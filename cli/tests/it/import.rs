//! The inbox: `import` verifies and stores what lies on a medium, `reconcile` takes it.

use serde_json::Value;

use crate::node::Site;

fn inbox(site: &Site) -> Vec<String> {
    let entries = std::fs::read_dir(site.world.path("node/inbox")).expect("inbox");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A medium with releases 2 and 3, the later first; the node runs release 1.
fn with_medium() -> Site {
    let site = Site::running();
    for (name, serial) in [("two", 2), ("three", 3)] {
        site.set(name, serial);
    }
    site.world.run("export three --to stick").exits(0);
    site.world.run("export two --to stick").exits(0);
    site
}

fn standings(output: &str) -> Vec<(u64, String)> {
    let value: Value = serde_json::from_str(output).expect("JSON");
    let sets = value["sets"].as_array().expect("sets").clone();
    let row =
        |set: &Value| (set["serial"].as_u64().expect("serial"), set["standing"].as_str().expect("word").to_owned());
    sets.iter().map(row).collect()
}

#[test]
fn a_medium_is_shown_stored_and_reconciled() {
    let site = with_medium();
    let before = site.snapshot_all();
    let shown = site.node("import stick --preview --output json").exits(0).stdout();
    assert_eq!(standings(&shown), [(2, "takes".to_owned()), (3, "takes".to_owned())], "by signed serial");
    assert!(before == site.snapshot_all(), "a preview writes nothing");
    site.node("reconcile --once").exits(0);
    site.is_whole(&[1]);
    let told = site.node("import stick").exits(0).stdout();
    assert!(told.contains("imported: harbor-gateways") && told.contains("reconcile --once"), "{told}");
    site.is_whole(&[1]);
    assert_eq!(inbox(&site).len(), 2);
    // The stick is not needed any more.
    std::fs::remove_dir_all(site.world.path("stick")).expect("removes");
    let fingerprint = site.fingerprint("two");
    site.node(&format!("plan inbox:{fingerprint}")).exits(0);
    site.node("fsck").exits(0);
    site.node("reconcile --once").exits(0);
    site.is_whole(&[3]);
    assert_eq!(inbox(&site), Vec::<String>::new(), "what the node has left behind is cleared");
    site.node("reconcile --once").exits(0);
    site.node("plan inbox").exits(1).warns("source_not_found: ");
    let audit = String::from_utf8(site.world.read("node/audit/audit.jsonl")).expect("UTF-8");
    assert!(audit.contains(&fingerprint.to_string()), "the import is on record: {audit}");
}

#[test]
fn the_same_again_changes_nothing_and_garbage_collection_takes_nothing_that_waits() {
    let site = with_medium();
    site.node("import stick").exits(0);
    let waiting = site.world.tree("node/inbox");
    let again = site.node("import stick --output json").exits(0).stdout();
    assert!(standings(&again).iter().all(|(_, word)| word == "here"), "{again}");
    assert!(waiting == site.world.tree("node/inbox"));
    let generation = std::fs::read_link(site.world.path("node/current")).expect("link");
    let generation = generation.file_name().expect("name").to_string_lossy().into_owned();
    std::fs::create_dir_all(site.world.path("node/edge")).expect("folder");
    let pins = serde_json::json!({ "generation": generation, "manifests": [], "objects": [] });
    site.world.write("node/edge/pins.json", pins.to_string());
    site.node("gc --keep 0").exits(0);
    assert!(waiting == site.world.tree("node/inbox"), "gc took what waits");
    // A set by itself is a medium too.
    site.set("four", 4);
    site.node("import four").exits(0);
    site.node("reconcile --once").exits(0);
    site.is_whole(&[4]);
}

#[test]
fn what_does_not_verify_is_not_stored_and_what_does_is() {
    let site = with_medium();
    // Release 2 is damaged on the medium, release 3 is not.
    site.copy("two", "forged");
    site.world.write("forged/manifest.json.sigstore.jsonl", site.world.read("two/autonomy.lock.json.sigstore.jsonl"));
    site.world.run("export forged --to stick --tag harbor-gateways-2").exits(0);
    let preview = site.node("import stick --preview").exits(3).warns("below_threshold: ");
    assert!(preview.stdout().contains("refused: harbor-gateways"), "{}", preview.stdout());
    site.node("import stick").exits(3).warns("below_threshold: ");
    assert_eq!(inbox(&site), [site.fingerprint("three").hex()], "the good one came");
    site.node("reconcile --once").exits(0);
    site.is_whole(&[3]);
    // Older than what runs: nothing of the medium is for this node any more.
    site.world.run("export two --to old").exits(0);
    site.node("import old").exits(3).warns("serial_too_low: ");
    assert_eq!(inbox(&site), Vec::<String>::new());
    std::fs::create_dir(site.world.path("bare")).expect("folder");
    site.node("import bare").exits(1).warns("source_not_found: ");
    site.node("import nowhere").exits(1).warns("source_not_found: ");
}

#[test]
fn one_bad_set_on_a_medium_does_not_keep_the_others_from_coming() {
    for (spoilt, exit, code) in [("lost", 9, "missing_file: "), ("garbage", 3, "digest_mismatch: ")] {
        let site = with_medium();
        let index: Value = serde_json::from_slice(&site.world.read("stick/index.json")).expect("JSON");
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
            format!("stick/blobs/sha256/{}", digest.expect("digest"))
        };
        // The second entry is release 2. Its own manifest is no other set's.
        let of_two = blob(&index["manifests"][1]);
        if spoilt == "garbage" {
            site.world.write(&of_two, "{".repeat(site.world.read(&of_two).len()));
        } else {
            let manifest: Value = serde_json::from_slice(&site.world.read(&of_two)).expect("JSON");
            let title = |layer: &&Value| layer["annotations"]["org.opencontainers.image.title"] == "manifest.json";
            let layer = manifest["layers"].as_array().expect("layers").iter().find(title).expect("manifest");
            std::fs::remove_file(site.world.path(&blob(layer))).expect("removes");
        }
        site.node("import stick").exits(exit).warns(code);
        assert_eq!(inbox(&site), [site.fingerprint("three").hex()], "the good one came");
        let audit = String::from_utf8(site.world.read("node/audit/audit.jsonl")).expect("UTF-8");
        assert!(audit.contains("partly"), "{audit}");
    }
}

#[test]
fn a_medium_for_several_nodes_gives_each_its_own() {
    let site = with_medium();
    site.copy("two", "other");
    site.doctor("other", |manifest| manifest["spec"]["scope"]["matchLabels"]["site"] = "pier-8".into());
    site.world.run("export other --to stick --tag pier-8").exits(0);
    let told = site.node("import stick").exits(0).stdout();
    assert!(told.contains("not for this node: "), "{told}");
    assert_eq!(inbox(&site).len(), 2);
    site.world.run("export other --to alone").exits(0);
    site.node("import alone").exits(3).warns("scope_mismatch: ");
}

#[test]
fn a_cut_off_import_is_taken_up_again_and_two_at_once_do_not_mix() {
    let site = with_medium();
    let part = format!("node/inbox/.import-{}", site.fingerprint("two").hex());
    std::fs::create_dir_all(site.world.path(&format!("{part}/artifacts"))).expect("folder");
    site.world.write(&format!("{part}/artifacts/half"), "half");
    std::thread::scope(|scope| {
        let both: Vec<_> = (0..2).map(|_| scope.spawn(|| site.node("import stick"))).collect();
        for ran in both {
            let ran = ran.join().expect("joins");
            assert!([0, 6].contains(&ran.code()), "{}", ran.stderr());
        }
    });
    assert_eq!(inbox(&site).len(), 2, "{:?}", inbox(&site));
    site.node("apply inbox --auto-approve").exits(0);
    site.is_whole(&[3]);
}
