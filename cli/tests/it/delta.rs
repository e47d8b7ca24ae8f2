//! Sets that leave out what the receiver has: made by `export --since` and `--for`, completed by every verb that reads them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::export::{document, index};
use crate::kill;
use crate::node::{AGENT, Site, Snapshot};
use crate::registry::{Registry, skopeo};

/// Bytes of the agent: some hundred segments.
const SIZE: usize = 4 << 20;
const TITLE: &str = "org.opencontainers.image.title";
const PACK: &str = "application/vnd.autonomy.set.pack.v1";

fn noise(name: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_derive_key(name).finalize_xof().fill(&mut bytes);
    bytes
}

/// A large agent: a script, and after its end what the shell never reads.
fn agent(len: usize) -> Vec<u8> {
    [AGENT.as_bytes(), &noise("autonomy test delta", len)].concat()
}

/// Replaces or inserts pieces of `len` bytes, spread over the file and half of each.
fn edited(mut bytes: Vec<u8>, edits: usize, len: usize, name: &str) -> Vec<u8> {
    let step = bytes.len() / (edits + 1);
    // From the end, so that insertions move nothing that is still to be edited.
    for edit in (0..edits).rev() {
        let (at, fresh) = (step * (edit + 1), noise(&format!("{name} {edit}"), len));
        let end = if edit % 2 == 0 { at } else { at + len };
        bytes.splice(at..end, fresh);
    }
    bytes
}

/// A node with a large agent at release 1; sets `one`, `two`, `three`, each some edits after the other.
fn site() -> Site {
    let site = Site::bare();
    let mut bytes = agent(SIZE);
    // Edits at other places each time, so that each release has segments that no other one has.
    for (name, serial, edits) in [("one", 1, 4), ("two", 2, 6), ("three", 3, 0)] {
        site.world.write("build/agent", &bytes);
        site.set(name, serial);
        bytes = edited(bytes, edits, 3000, name);
    }
    site.node("apply one --auto-approve").exits(0);
    site
}

/// Bytes of all files of a medium.
fn size(site: &Site, medium: &str) -> usize {
    site.world.tree(medium).values().map(|(_, bytes)| bytes.len()).sum()
}

/// The layers of a set of a medium.
fn layers(site: &Site, medium: &str, at: usize) -> Vec<Value> {
    let (_, manifest) = document(site, medium, &index(site, medium)["manifests"][at]);
    manifest["layers"].as_array().expect("layers").clone()
}

/// The path of the only pack of a medium.
fn pack_of(site: &Site, medium: &str) -> String {
    let packs: Vec<Value> = layers(site, medium, 0).into_iter().filter(|layer| layer["mediaType"] == PACK).collect();
    assert_eq!(packs.len(), 1);
    document(site, medium, &packs[0]).0
}

fn export(site: &Site, arguments: &str) -> Value {
    let told = site.world.run(&format!("export {arguments} --output json")).exits(0).stdout();
    serde_json::from_str(&told).expect("JSON")
}

#[track_caller]
fn runs(site: &Site, set: &str) {
    let here = site.world.tree("node/current/artifacts");
    let there = site.world.tree(&format!("{set}/artifacts"));
    assert!(
        here.iter().map(|(path, (_, bytes))| (path, bytes)).eq(there.iter().map(|(path, (_, bytes))| (path, bytes)))
    );
}

#[test]
fn a_delta_is_planned_imported_and_reconciled_like_a_whole_set() {
    let site = site();
    let since = site.fingerprint("one");
    let told = export(&site, &format!("two --to stick --since {since} --base one"));
    assert_eq!(told["bases"], json!([since]));
    assert_eq!((&told["left_out"], &told["packs"]), (&json!(4), &json!(1)), "{told}");
    assert!(size(&site, "stick") < SIZE / 10, "{told}");
    let titles: Vec<Value> =
        layers(&site, "stick", 0).into_iter().map(|layer| layer["annotations"][TITLE].clone()).collect();
    assert!(
        titles.contains(&json!("segments/agent.idx")) && !titles.contains(&json!("artifacts/bin/agent")),
        "{titles:?}"
    );
    export(&site, &format!("two --to again --since {since} --base one"));
    assert_eq!(site.world.tree("stick"), site.world.tree("again"), "twice the same");
    // As if it were whole.
    let before = site.snapshot_all();
    let id = |source: &str| {
        let plan = site.node(&format!("plan {source} --output json")).exits(0).stdout();
        serde_json::from_str::<Value>(&plan).expect("JSON")["plan_id"].clone()
    };
    assert_eq!(id("two"), id("oci:stick"));
    let shown = site.node("import stick --preview").exits(0).stdout();
    assert!(shown.contains("takes: harbor-gateways"), "{shown}");
    assert!(before == site.snapshot_all(), "looking wrote to the state root");
    site.node("import stick").exits(0);
    std::fs::remove_dir_all(site.world.path("stick")).expect("removes");
    site.node("reconcile --once").exits(0);
    site.is_whole(&[2]);
    runs(&site, "two");
    site.node("apply oci:again --auto-approve").exits(0);
    // What the node built it hands on whole.
    site.node("export --to onward").exits(0);
    site.world.run("verify oci:onward --trust-root root.json").exits(0);
}

#[test]
fn a_delta_of_edits_and_insertions_is_a_fraction_of_the_artifact() {
    let site = Site::bare();
    let whole = 32 << 20;
    // As the bench has it, on an eighth of the size: 5 edits of 64 KiB in 32 MiB for 40 in 256 MiB.
    let bytes = agent(whole);
    site.world.write("build/agent", &bytes);
    site.set("one", 1);
    site.world.write("build/agent", edited(bytes, 5, 64 << 10, "edit"));
    site.set("two", 2);
    site.node("apply one --auto-approve").exits(0);
    export(&site, &format!("two --to stick --since {} --base one", site.fingerprint("one")));
    let delta = size(&site, "stick");
    assert!(delta * 100 <= whole * 3, "{delta} bytes are more than 3 % of {whole}");
    site.node("apply oci:stick --auto-approve").exits(0);
    runs(&site, "two");
}

#[test]
fn a_set_for_several_nodes_is_built_by_each_of_them() {
    let site = site();
    // The peer never had release 1, node-a has both.
    site.world
        .run("init --state-root peer --node-id peer --fleet harbor --trust-root root.json --label site=pier-7 --hardware x86_64")
        .exits(0);
    site.world.run("apply two --auto-approve --state-root peer").exits(0);
    site.node("apply two --auto-approve").exits(0);
    site.node("facts --out a.json").exits(0);
    site.world.run("facts --out b.json --state-root peer").exits(0);
    let facts: Value = serde_json::from_slice(&site.world.read("a.json")).expect("JSON");
    assert_eq!(facts["observed"]["kept"].as_array().expect("kept").len(), 2, "{facts}");
    let told = export(&site, "three --to stick --for a.json --for b.json --state-root node");
    assert_eq!(told["bases"].as_array().expect("bases").len(), 2, "{told}");
    assert!(size(&site, "stick") < SIZE / 10, "{told}");
    for node in ["node", "peer"] {
        site.world.run(&format!("import stick --state-root {node}")).exits(0);
        site.world.run(&format!("reconcile --once --state-root {node}")).exits(0);
        let agent = site.world.read(&format!("{node}/current/artifacts/bin/agent"));
        assert!(agent == site.world.read("three/artifacts/bin/agent"), "{node}");
    }
    // What only one of them has is no base: with a node that has nothing, the set is whole.
    site.world
        .run("init --state-root fresh --node-id fresh --fleet harbor --trust-root root.json --label site=pier-7 --hardware x86_64")
        .exits(0);
    site.world.run("facts --out c.json --state-root fresh").exits(0);
    let told = export(&site, "three --to whole --for a.json --for c.json --state-root node");
    assert_eq!((&told["left_out"], &told["packs"], &told["bases"]), (&json!(0), &json!(0), &json!([])), "{told}");
    site.world.run("apply oci:whole --auto-approve --state-root fresh").exits(0);
}

#[test]
fn what_did_not_change_needs_no_pack() {
    let site = Site::running();
    site.set("two", 2);
    let told = export(&site, &format!("two --to stick --since {} --state-root node", site.fingerprint("one")));
    assert_eq!((&told["left_out"], &told["packs"]), (&json!(4), &json!(0)), "{told}");
    site.node("apply oci:stick --auto-approve").exits(0);
    site.is_whole(&[2]);
}

#[test]
fn a_chain_of_deltas_on_one_medium_needs_only_its_first_base() {
    let site = site();
    export(&site, &format!("two --to stick --since {} --base one", site.fingerprint("one")));
    // The second finds its base at the target, as far as a base is asked for: its segment indices.
    let told = export(&site, &format!("three --to stick --since {}", site.fingerprint("two")));
    assert_eq!(told["packs"], 1, "{told}");
    let shown = site.node("import stick --preview --output json").exits(0).stdout();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let standing = |at: usize| (shown["sets"][at]["serial"].clone(), shown["sets"][at]["standing"].clone());
    assert_eq!([standing(0), standing(1)], [(json!(2), json!("takes")), (json!(3), json!("takes"))], "{shown}");
    // Straight to the second, and through the inbox.
    site.node("plan oci:stick:harbor-gateways-3").exits(0);
    site.node("import stick").exits(0);
    site.node("reconcile --once").exits(0);
    site.is_whole(&[3]);
    runs(&site, "three");
}

#[test]
fn a_missing_base_is_named_on_both_sides() {
    let site = site();
    let unknown = format!("two --to stick --since {}", site.fingerprint("three"));
    let refused = site.node(&format!("export {unknown} --output json")).exits(1).warns("source_not_found: ");
    assert!(refused.stdout().contains("`--base SOURCE`"), "{}", refused.stdout());
    assert!(!site.world.has("stick"), "a refused export writes nothing");
    site.world.run("export two --to stick --base one").exits(64);
    // Release 2 is what the set builds on, and the node runs release 1.
    export(&site, &format!("three --to stick --since {} --base two", site.fingerprint("two")));
    for verb in ["plan oci:stick", "import stick --preview", "import stick", "apply oci:stick --auto-approve"] {
        let said = site.node(verb).exits(9).warns("missing_file: ").stderr();
        assert!(said.contains("artifacts/bin/agent` cannot be put together") && said.contains("segments ("), "{said}");
        assert!(said.contains(&site.fingerprint("two").to_string()), "{said}");
    }
    let told = site.node("import stick --output json").exits(9).stdout();
    assert!(told.contains("autonomy export --for FACTS"), "{told}");
    site.is_whole(&[1]);
    // Without a node there is nothing to build on at all.
    site.world.run("verify oci:stick --trust-root root.json").exits(9).warns("missing_file: ");
    site.node("apply two --auto-approve").exits(0);
    site.node("import stick").exits(0);
}

/// What a refusal leaves as it was: all but the receipts that tell of it.
fn unsigned(site: &Site) -> Snapshot {
    let mut seen = site.snapshot();
    seen.retain(|path, _| path != "receipts" && !path.starts_with("receipts/"));
    seen
}

#[test]
fn what_is_wrong_with_a_pack_is_named_and_changes_nothing() {
    let site = site();
    export(&site, &format!("two --to stick --since {} --base one", site.fingerprint("one")));
    let spoil = |name: &str, how: &dyn Fn(&mut Vec<u8>)| {
        site.copy("stick", name);
        let pack = pack_of(&site, name);
        let mut bytes = site.world.read(&pack);
        how(&mut bytes);
        site.world.write(&pack, bytes);
    };
    spoil("flipped", &|bytes| *bytes.last_mut().expect("bytes") ^= 1);
    spoil("truncated", &|bytes| bytes.truncate(bytes.len() - 1));
    spoil("longer", &|bytes| bytes.push(0));
    spoil("magic", &|bytes| bytes[0] ^= 1);
    spoil("count", &|bytes| bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes()));
    spoil("length", &|bytes| bytes[44..48].copy_from_slice(&u32::MAX.to_le_bytes()));
    spoil("shorter", &|bytes| {
        let length = u32::from_le_bytes(bytes[44..48].try_into().expect("four"));
        bytes[44..48].copy_from_slice(&(length - 1).to_le_bytes());
    });
    spoil("other", &|bytes| bytes[12] ^= 1);
    site.copy("stick", "lost");
    std::fs::remove_file(site.world.path(&pack_of(&site, "lost"))).expect("removes");
    for (medium, exit, code) in [
        ("flipped", 3, "digest_mismatch"),
        ("truncated", 3, "size_mismatch"),
        ("longer", 3, "size_mismatch"),
        ("magic", 3, "bad_value"),
        ("count", 3, "bad_value"),
        ("length", 3, "bad_value"),
        ("shorter", 3, "bad_value"),
        ("other", 9, "missing_file"),
        ("lost", 9, "missing_file"),
    ] {
        site.refuses(&format!("oci:{medium}"), exit, code);
        let before = unsigned(&site);
        site.node(&format!("import {medium}")).exits(exit).warns(&format!("{code}: "));
        assert!(before == unsigned(&site), "{medium}");
    }
    site.node("import stick").exits(0);
}

#[test]
fn damage_here_is_told_and_a_whole_set_mends_it() {
    let site = site();
    export(&site, &format!("two --to stick --since {} --base one", site.fingerprint("one")));
    let object = std::fs::canonicalize(site.world.path("node/current")).expect("link").join("artifacts/bin/agent");
    let mut bytes = std::fs::read(&object).expect("reads");
    bytes[SIZE / 2 + 700_000] ^= 1;
    std::fs::write(&object, &bytes).expect("writes");
    let refused = site.node("import stick").exits(3).warns("digest_mismatch: ");
    assert!(refused.stderr().contains("of generation 1-"), "{}", refused.stderr());
    bytes.truncate(SIZE / 2);
    std::fs::write(&object, &bytes).expect("writes");
    let refused = site.node("import stick").exits(3).warns("size_mismatch: ");
    assert!(refused.stderr().contains("of generation 1-"), "{}", refused.stderr());
    site.world.run("export two --to whole").exits(0);
    site.node("import whole").exits(0);
    site.node("reconcile --once").exits(0);
    runs(&site, "two");
}

#[test]
fn an_import_of_a_delta_that_is_killed_is_taken_up_again() {
    let site = site();
    export(&site, &format!("two --to stick --since {} --base one", site.fingerprint("one")));
    kill::keep(&site);
    let calls = kill::calls(&site, "import stick", kill::CHANGES);
    kill::restore(&site);
    let mut killed = 0;
    for hit in 0..8 {
        killed += usize::from(kill::kill(&site, "import stick", &calls[hit * (calls.len() - 1) / 7]));
        site.node("import stick").exits(0);
        site.node("reconcile --once").exits(0);
        site.is_whole(&[2]);
        kill::restore(&site);
    }
    assert!(killed > 4, "{killed}");
}

#[test]
fn skopeo_carries_a_delta_through_a_registry_and_back() {
    let site = site();
    export(&site, &format!("two --to stick --since {} --base one", site.fingerprint("one")));
    let registry = Registry::start(&site);
    let remote = format!("docker://127.0.0.1:{}/fleet/harbor:2", registry.port);
    skopeo(&site, &["copy", "--dest-tls-verify=false", "oci:stick:harbor-gateways-2", &remote]);
    skopeo(&site, &["copy", "--src-tls-verify=false", &remote, "oci:back:harbor-gateways-2"]);
    site.node("import back").exits(0);
    site.node("reconcile --once").exits(0);
    site.is_whole(&[2]);
}

#[test]
fn an_artifact_of_four_gib_is_no_file_of_a_medium() {
    let site = Site::running();
    site.set("two", 2);
    // Sparse, and all but its first segment the same one, so that nothing large is read or written.
    let (vast, segment) = (4u64 << 30, 64usize << 10);
    let file = std::fs::File::options().write(true).open(site.world.path("two/artifacts/bin/agent")).expect("opens");
    file.set_len(vast).expect("grows");
    let mut first = AGENT.as_bytes().to_vec();
    first.resize(segment, 0);
    let zeros = vec![0; segment];
    let mut entries = vec![*blake3::hash(&first).as_bytes()];
    entries.resize(usize::try_from(vast).expect("64 bits") / segment, *blake3::hash(&zeros).as_bytes());
    let length = (segment as u64).to_le_bytes();
    let list: Vec<u8> = entries.iter().flat_map(|id| id.iter().chain(&length)).copied().collect();
    site.world.write("two/segments/agent.idx", &list);
    site.doctor("two", |manifest| {
        let artifact = &mut manifest["spec"]["artifacts"][0];
        artifact["size"] = vast.into();
        artifact["segments"] = json!({
            "index": format!("blake3:{}", blake3::hash(&list).to_hex()), "count": entries.len(), "size": list.len(),
        });
    });
    let told = export(&site, "two --to stick");
    assert_eq!((&told["left_out"], &told["packs"]), (&json!(1), &json!(1)), "{told}");
    assert!(told["packed"].as_u64().expect("bytes") < 3 * segment as u64, "each segment once: {told}");
    assert!(size(&site, "stick") < 4 << 20);
}

#[test]
fn segments_that_artifacts_share_are_counted_once() {
    let site = site();
    let stat = || {
        let told = site.node("segments stat --output json").exits(0).stdout();
        serde_json::from_str::<BTreeMap<String, Value>>(&told).expect("JSON")
    };
    let number = |stat: &BTreeMap<String, Value>, name: &str| stat[name].as_u64().expect("number");
    let one = stat();
    assert_eq!((number(&one, "sets"), number(&one, "artifacts"), number(&one, "objects")), (1, 4, 4));
    assert_eq!(one["logical_bytes"], one["object_bytes"]);
    assert_eq!(one["object_bytes"], one["segment_bytes"], "noise repeats nothing");
    site.node("apply two --auto-approve").exits(0);
    let two = stat();
    // Only the agent changed: three files are shared whole, and most of the agent by segments.
    assert_eq!((number(&two, "sets"), number(&two, "artifacts"), number(&two, "objects")), (2, 8, 5));
    assert!(number(&two, "logical_bytes") > number(&two, "object_bytes"));
    assert!(number(&two, "segment_bytes") < number(&one, "segment_bytes") + SIZE as u64 / 10, "{two:?}");
    assert!(number(&two, "segment_ratio_percent") > 180, "{two:?}");
    let text = site.node("segments stat").exits(0).stdout();
    assert!(text.contains("8 artifacts of 2 sets") && text.contains(" : 1"), "{text}");
    let before = site.snapshot_all();
    site.node("segments stat").exits(0);
    assert!(before == site.snapshot_all(), "it writes nothing");
}
