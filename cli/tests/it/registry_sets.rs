//! Sets through a real registry: pushed, planned, applied, pulled, followed.

use serde_json::Value;

use crate::node::Site;
use crate::reconcile::{Loop, await_round};
use crate::registry::Registry;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A site whose node runs release 1, and a registry that has release 2 under the tag `2`; its digest.
fn pushed() -> (Site, Registry, String) {
    let site = Site::running();
    site.set("two", 2);
    let registry = Registry::start(&site);
    let said = site.world.run(&format!("push two {}:2 --output json", registry.repository())).exits(0).stdout();
    let digest = json(&said)["digest"].as_str().expect("digest").to_owned();
    (site, registry, digest)
}

#[test]
fn a_set_is_pushed_planned_and_applied_by_tag_and_by_digest() {
    let (site, registry, digest) = pushed();
    let place = registry.repository();
    let exported = json(&site.world.run("export two --to stick --output json").exits(0).stdout());
    assert_eq!(exported["digest"], digest, "a medium and a registry have the same OCI manifest");
    let before = site.snapshot_all();
    let plan = json(&site.node(&format!("plan {place}:2 --output json")).exits(0).stdout());
    let folder = json(&site.node("plan two --output json").exits(0).stdout());
    assert_eq!(plan["plan_id"], folder["plan_id"], "the way that a set came is no part of what is done");
    assert_eq!(plan["revision"], format!("oci:{digest}"));
    assert!(before == site.snapshot_all(), "planning wrote to the state root");
    site.world.run(&format!("verify {place}@{digest} --trust-root root.json")).exits(0);
    site.node(&format!("apply {place}@{digest} --auto-approve")).exits(0);
    site.is_whole(&[2]);
    site.node(&format!("diff {place}:2")).exits(0);
    site.world.run(&format!("export {place}:2 --to onward")).exits(0);
    assert_eq!(site.world.tree("stick"), site.world.tree("onward"), "what comes from a registry is the same bytes");
    site.node(&format!("plan {place}:nowhere")).exits(1).warns("source_not_found: ");
    site.node(&format!("plan {place}@sha256:{}", "0".repeat(64))).exits(1).warns("source_not_found: ");
    site.node(&format!("plan {place}")).exits(3).warns("bad_value: ");
}

#[test]
fn what_a_release_refers_to_is_in_the_repository_and_has_its_referrers() {
    let (site, registry, digest) = pushed();
    let place = registry.repository();
    let manifest = json(&String::from_utf8(site.world.read("two/manifest.json")).expect("UTF-8"));
    let refers = |name: &str| {
        let text = manifest["spec"]["release"][name].as_str().expect(name).to_owned();
        text.split_once('@').expect("pinned").1.to_owned()
    };
    let kinds = |digest: &str| {
        let said = site.world.run(&format!("oci referrers {place}@{digest} --output json")).exits(0).stdout();
        let listed = json(&said)["referrers"].as_array().expect("referrers").clone();
        let kinds = listed.iter().map(|it| it["artifactType"].as_str().expect("type").to_owned());
        kinds.map(|kind| kind.trim_start_matches("application/vnd.autonomy.").to_owned()).collect::<Vec<_>>()
    };
    let (lock, policy) = ("lock.v1+json", "policy.v1.tar+gzip");
    assert_eq!(kinds(&refers("artifactRef")), [lock, policy], "of the agent");
    assert_eq!(kinds(&refers("policyRef")), [""; 0], "of the policy");
    assert_eq!(kinds(&digest), [lock, policy, "signatures.v1+jsonl"], "of the set");
    let one = site.world.run(&format!("oci referrers {place}:2 --artifact-type application/vnd.autonomy.{lock}"));
    assert_eq!(one.exits(0).stdout().lines().count(), 2);
}

#[test]
fn what_the_registry_has_is_not_sent_again_and_a_tag_moves() {
    let (site, registry, digest) = pushed();
    let (place, blobs) = (registry.repository(), registry.blobs());
    let again = site.world.run(&format!("push two {place}:2 --output json")).exits(0).stdout();
    assert_eq!((json(&again)["digest"].as_str(), registry.blobs()), (Some(&*digest), blobs));
    site.set("three", 3);
    site.world.run(&format!("push three {place}:2")).exits(0);
    site.node(&format!("apply {place}:2 --auto-approve")).exits(0);
    site.is_whole(&[3]);
    // The one before is still there by its digest, and older than what runs.
    site.node(&format!("apply {place}@{digest} --auto-approve")).exits(3).warns("serial_too_low: ");
    site.world.run(&format!("push two {place}@{digest}")).exits(64);
    site.copy("two", "unsigned");
    std::fs::remove_file(site.world.path("unsigned/manifest.json.sigstore.jsonl")).expect("removes");
    site.world.run(&format!("push unsigned {place}:4")).exits(9).warns("missing_file: ");
    site.node(&format!("plan {place}:4")).exits(1).warns("source_not_found: ");
}

#[test]
fn a_set_is_pulled_into_a_folder_and_verified_there() {
    let (site, registry, digest) = pushed();
    let place = registry.repository();
    let said = site.world.run(&format!("pull {place}:2 --to got --output json")).exits(0).stdout();
    assert_eq!((json(&said)["verified"].as_bool(), json(&said)["digest"].as_str()), (Some(false), Some(&*digest)));
    let files =
        |name: &str| site.world.tree(name).into_iter().map(|(path, (_, bytes))| (path, bytes)).collect::<Vec<_>>();
    assert!(files("two") == files("got"), "what came is what was pushed");
    let said =
        site.world.run(&format!("pull {place}:2 --to got --trust-root root.json --output json")).exits(0).stdout();
    assert_eq!(json(&said)["verified"], true);
    assert_eq!(json(&said)["signers"].as_array().map(Vec::len), Some(2));
    site.node(&format!("pull {place}:2 --to got")).exits(0);
    site.node(&format!("pull {place}:2 --to node/got")).exits(64);
    // Spoilt here and there, it is mended.
    site.world.write("got/artifacts/bin/agent", "other bytes");
    std::fs::remove_file(site.world.path("got/policy.tar.gz")).expect("removes");
    site.world.run(&format!("pull {place}:2 --to got --trust-root root.json")).exits(0);
    assert!(files("two") == files("got"));
    // What is somebody's is not touched, and nothing is written through a link.
    site.world.write("got/notes.txt", "mine");
    site.world.run(&format!("pull {place}:2 --to got")).exits(3).warns("extraneous_file: ");
    assert_eq!(site.world.read("got/notes.txt"), b"mine");
    std::fs::remove_file(site.world.path("got/notes.txt")).expect("removes");
    std::fs::remove_dir_all(site.world.path("got/artifacts")).expect("removes");
    std::fs::create_dir(site.world.path("elsewhere")).expect("folder");
    std::os::unix::fs::symlink(site.world.path("elsewhere"), site.world.path("got/artifacts")).expect("links");
    site.world.run(&format!("pull {place}:2 --to got")).exits(3).warns("symlink_refused: ");
    assert!(site.world.tree("elsewhere").is_empty());
    // Nobody's set is pulled as well as said to be so.
    site.copy("two", "forged");
    site.world.write("forged/manifest.json.sigstore.jsonl", "\n");
    site.world.run(&format!("push forged {place}:forged")).exits(0);
    site.world
        .run(&format!("pull {place}:forged --to forgery --trust-root root.json"))
        .exits(3)
        .warns("below_threshold: ");
    site.node(&format!("apply {place}:forged --auto-approve")).exits(3).warns("below_threshold: ");
    site.is_whole(&[1]);
}

#[test]
fn a_node_follows_a_tag() {
    let site = Site::bare();
    for (name, serial) in [("one", 1), ("two", 2)] {
        site.set(name, serial);
    }
    let registry = Registry::start(&site);
    let place = format!("{}:stable", registry.repository());
    site.world.run(&format!("push one {place}")).exits(0);
    let _running = Loop::start(&site, &place);
    let applied = |prefix: &'static str| {
        await_round(&site, prefix, move |round| {
            round["outcome"] == "applied" && round["generation"].as_str().is_some_and(|name| name.starts_with(prefix))
        })
    };
    assert!(applied("1-")["tip"].as_str().is_some_and(|tip| tip.starts_with("oci:sha256:")));
    site.world.run(&format!("push two {place}")).exits(0);
    applied("2-");
    site.is_whole(&[2]);
}
