//! Trust roots over the years: rotated, carried by media, imported; and what was admitted under the old ones.

use std::path::Path;

use serde_json::Value;

use crate::node::Site;
use crate::world::World;

const ALL: &str = "a.pub,b.pub,c.pub";

/// Root 2 replaces `c` by `d`; root 3 takes `a` and `b` out of everything but root; root 4 changes nothing but the expiry.
fn rotate(world: &World) {
    std::fs::create_dir_all(world.path("stick/roots")).expect("folder");
    world.keys(&["d", "e"]);
    let root = |args: &str| world.run(&format!("trust rotate {args} --expires 3y")).exits(0);
    let two = "--role root=a.pub,b.pub,d.pub:2 --role manifest=a.pub,b.pub,d.pub:2";
    root(&format!("--from root.json {two} --sign a.key --sign b.key --out stick/roots/2.root.json"));
    let three = "--role manifest=d.pub,e.pub:2 --role artifact=d.pub,e.pub:1";
    root(&format!("--from stick/roots/2.root.json {three} --sign a.key --sign d.key --out stick/roots/3.root.json"));
    root("--from stick/roots/3.root.json --sign b.key --sign d.key --out stick/roots/4.root.json");
}

fn version(site: &Site) -> Value {
    serde_json::from_str(&site.node("trust show --output json").exits(0).stdout()).expect("JSON")
}

fn copy_roots(site: &Site, to: &str, versions: &[u64]) {
    std::fs::create_dir_all(site.world.path(to)).expect("folder");
    for version in versions {
        for file in [format!("{version}.root.json"), format!("{version}.root.json.sigstore.jsonl")] {
            let from = site.world.path(&format!("stick/roots/{file}"));
            std::fs::copy(from, site.world.path(to).join(&file)).expect("copies");
        }
    }
}

/// A set of this serial, signed by `d` and `e`, who sign under root 3.
fn newer_set(site: &Site, name: &str, serial: u64) {
    site.set(name, serial);
    for file in ["manifest.json", "autonomy.lock.json"] {
        std::fs::remove_file(site.world.path(&format!("{name}/{file}.sigstore.jsonl"))).expect("removes");
        for key in ["d", "e"] {
            site.world.run(&format!("sign {name}/{file} --key {key}.key")).exits(0);
        }
    }
}

#[test]
fn a_node_three_versions_behind_walks_the_chain_one_version_at_a_time() {
    let site = Site::running();
    rotate(&site.world);
    let before = site.snapshot();
    let walked = site.node("trust verify stick").exits(0).stdout();
    for version in [2, 3, 4] {
        assert!(walked.contains(&format!("version {version} holds")), "{walked}");
    }
    assert_eq!(site.snapshot(), before, "verify writes nothing");
    let said = site.node("trust import stick").exits(0).stdout();
    assert_eq!(said.matches("Pinned trust root version").count(), 3, "{said}");
    let shown = version(&site);
    assert_eq!(shown["version"], 4);
    let earlier: Vec<u64> =
        shown["earlier"].as_array().expect("list").iter().filter_map(|root| root["version"].as_u64()).collect();
    assert_eq!(earlier, [3, 2, 1], "what was admitted under them is still here");
    assert_eq!(shown["floors"]["rootVersion"], 4);
    site.node("trust import stick").exits(0);
    assert!(site.node("trust import stick").stdout().contains("Nothing newer"), "an import can be repeated");
    site.node("fsck").exits(0);
    let history = site.node("history --output json").exits(0).stdout();
    assert!(history.contains("trust import"), "{history}");
    let told = site.node("history").exits(0).stdout();
    assert!(told.contains("roots       2, 3, 4"), "{told}");
    // The file beside the root is the pinned root's, for people with openssl.
    let beside = site.world.read("node/trust/root.json.sigstore.jsonl");
    assert_eq!(beside, site.world.read("stick/roots/4.root.json.sigstore.jsonl"));
}

#[test]
fn a_gap_is_named_and_what_came_before_it_stays() {
    let site = Site::running();
    rotate(&site.world);
    copy_roots(&site, "gap", &[2, 4]);
    site.node("trust verify gap").exits(3).warns("root_gap: the medium holds trust root version 4, and not version 3");
    site.node("trust import gap").exits(3).warns("root_gap: ");
    assert_eq!(version(&site)["version"], 2);
    copy_roots(&site, "gap", &[3]);
    site.node("trust import gap").exits(0);
    assert_eq!(version(&site)["version"], 4);
    // A root under a wrong name is a gap as well.
    let fresh = Site::running();
    std::fs::create_dir(fresh.world.path("named")).expect("folder");
    for file in ["root.json", "root.json.sigstore.jsonl"] {
        std::fs::copy(site.world.path(&format!("stick/roots/4.{file}")), fresh.world.path(&format!("named/2.{file}")))
            .expect("copies");
    }
    let before = fresh.snapshot();
    fresh.node("trust import named").exits(3).warns("root 2: ");
    assert_eq!(fresh.snapshot(), before);
}

#[test]
fn a_missing_signature_and_a_fork_are_named_and_change_nothing() {
    let site = Site::running();
    rotate(&site.world);
    copy_roots(&site, "thin", &[2]);
    let lines = site.world.read("thin/2.root.json.sigstore.jsonl");
    let first = lines.split_inclusive(|byte| *byte == b'\n').next().expect("a line");
    site.world.write("thin/2.root.json.sigstore.jsonl", first);
    let before = site.snapshot();
    site.node("trust import thin").exits(3).warns("root_signature: root 2: ");
    assert_eq!(site.snapshot(), before);
    // Another root 2, by the same people: somebody plays two games.
    site.node("trust import stick").exits(0);
    let other = "--role root=a.pub,b.pub,d.pub:2 --expires 9y --sign a.key --sign b.key --out fork/2.root.json";
    std::fs::create_dir(site.world.path("fork")).expect("folder");
    site.world.run(&format!("trust rotate --from root.json {other}")).exits(0);
    let before = site.snapshot();
    site.node("trust import fork").exits(3).warns("root_forked: root 2: ");
    assert_eq!(site.snapshot(), before);
    assert_eq!(version(&site)["version"], 4);
}

#[test]
fn a_set_brings_its_roots_and_a_refused_one_pins_none() {
    let site = Site::running();
    rotate(&site.world);
    newer_set(&site, "two", 2);
    site.node("plan two").exits(3).warns("below_threshold: ");
    copy_roots(&site, "two/roots", &[2, 3, 4]);
    let plan = site.node("plan two").exits(0).stdout();
    assert!(plan.contains("trust.root") && plan.contains("root_rotated"), "{plan}");
    assert!(site.node("verify two").exits(0).stdout().contains("4, which the set brings after 1"));
    // Refused for another reason: nothing of it stays.
    site.node("suspend --reason audit --owner ops").exits(0);
    let before = site.snapshot();
    site.node("apply two --auto-approve").exits(10);
    assert_eq!(site.snapshot(), before);
    site.node("resume").exits(0);
    site.node("plan two --out plan.json").exits(0);
    site.node("apply plan.json --source two").exits(0);
    assert_eq!(version(&site)["version"], 4);
    assert!(!site.node("plan two").exits(0).stdout().contains("root_rotated"));
    // A set whose manifest is active already may still bring a root.
    let last = "--from two/roots/4.root.json --expires 4y --sign a.key --sign d.key --out two/roots/5.root.json";
    site.world.run(&format!("trust rotate {last}")).exits(0);
    let said = site.node("apply two --auto-approve").exits(0).stdout();
    assert!(said.contains("newer trust root is pinned"), "{said}");
    assert_eq!(version(&site)["version"], 5);
    // One that is forged refuses the set.
    let lines = site.world.read("two/roots/5.root.json.sigstore.jsonl");
    std::fs::copy(site.world.path("two/roots/5.root.json"), site.world.path("two/roots/6.root.json")).expect("copies");
    site.world.write("two/roots/6.root.json.sigstore.jsonl", lines);
    site.node("plan two").exits(3).warns("root 6: ");
}

#[test]
fn what_an_earlier_root_admitted_is_mended_and_returned_to_and_no_more() {
    let site = Site::running();
    rotate(&site.world);
    newer_set(&site, "two", 2);
    copy_roots(&site, "two/roots", &[2, 3, 4]);
    site.node("apply two --auto-approve").exits(0);
    site.node("fsck").exits(0);
    site.node("backup --out node.tar").exits(0);
    site.world.run("restore node.tar --state-root elsewhere --auto-approve").exits(0);
    assert_eq!(site.world.tree("elsewhere/trust/roots"), site.world.tree("node/trust/roots"));
    let name = site.node("generations --output json").exits(0).stdout();
    let list: Value = serde_json::from_str(&name).expect("JSON");
    let first = list.as_array().or(list["generations"].as_array()).expect("list")[0].clone();
    let first = first["generation"].as_str().or(first["name"].as_str()).expect("name").to_owned();
    site.node(&format!("rollback {first} --auto-approve")).exits(0);
    // The active manifest is the old one: it is repaired, though its signers sign nothing new any more.
    let agent = site.world.path("node/current/artifacts/bin/agent");
    std::fs::remove_file(&agent).expect("removes");
    site.node("apply one --auto-approve").exits(0);
    assert!(agent.exists());
    site.set("three", 3);
    site.node("plan three").exits(3).warns("below_threshold: ");
    site.node("fsck --repair").exits(0);
    // Without the kept roots nobody vouches for it; a medium, or a backup, brings them again.
    std::fs::copy(site.world.path("root.json"), site.world.path("stick/roots/1.root.json")).expect("copies");
    let signatures = site.world.read("root.json.sigstore.jsonl");
    site.world.write("stick/roots/1.root.json.sigstore.jsonl", signatures);
    for mend in ["trust import stick", "restore node.tar --auto-approve"] {
        std::fs::remove_dir_all(site.world.path("node/trust/roots")).expect("removes");
        site.node("fsck").exits(11).warns("is signed by 0 of the 2 keys");
        site.node("apply one --auto-approve").exits(3).warns("below_threshold");
        site.node(mend).exits(0);
        site.node("fsck").exits(0);
        site.node("apply one --auto-approve").exits(0);
    }
}

#[test]
fn damage_to_a_kept_root_is_told_and_mended_and_wedges_nothing() {
    let site = Site::running();
    rotate(&site.world);
    site.node("trust import stick").exits(0);
    let rot = |path: &str| {
        let mut bytes = site.world.read(path);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        site.world.write(path, bytes);
    };
    // Either copy of the pinned root's signatures may rot; the other one serves, and mends it.
    for path in ["node/trust/roots/4.root.json.sigstore.jsonl", "node/trust/root.json.sigstore.jsonl"] {
        rot(path);
        assert_eq!(version(&site)["version"], 4, "{path}");
        site.node("suspend --reason x --owner y").exits(0);
        site.node("resume").exits(0);
        assert_eq!(site.world.read(path), site.world.read("stick/roots/4.root.json.sigstore.jsonl"), "{path}");
    }
    // An earlier one that rots, or is no file at all, is told by name.
    rot("node/trust/roots/2.root.json");
    site.node("fsck").exits(11).warns("trust/roots/2.root.json");
    site.node("trust import stick").exits(0);
    site.node("fsck").exits(0);
    std::fs::remove_file(site.world.path("node/trust/roots/3.root.json")).expect("removes");
    std::fs::create_dir(site.world.path("node/trust/roots/3.root.json")).expect("folder");
    assert_eq!(version(&site)["version"], 4);
    site.node("plan one").exits(3);
}

#[test]
fn a_damaged_pin_is_mended_from_what_is_kept_and_never_by_an_older_root() {
    let site = Site::running();
    rotate(&site.world);
    site.node("backup --out old.tar").exits(0);
    site.node("trust import stick").exits(0);
    let root = site.world.read("node/trust/root.json");
    site.world.write("node/trust/root.json", &root[..100]);
    site.node("plan one").exits(11).warns("corrupt_state: `trust/root.json`");
    // Root 1 would let people sign again who are gone.
    site.node("restore old.tar --auto-approve").exits(3).warns("root_gap: `trust/root.json` is damaged");
    site.node("fsck").exits(11).warns("trust/root.json");
    site.node("fsck --repair").exits(0);
    assert_eq!(site.world.read("node/trust/root.json"), root);
    assert_eq!(version(&site)["version"], 4);
    // Somebody puts the old one there by hand: seen, and mended.
    for file in ["root.json", "root.json.sigstore.jsonl"] {
        std::fs::copy(site.world.path(file), site.world.path(&format!("node/trust/{file}"))).expect("copies");
    }
    site.node("fsck").exits(11).warns("version 1 is pinned, and this node has seen version 4");
    site.node("plan one").exits(3).warns("root_gap");
    // A fork of what is kept does not pass in between.
    std::fs::create_dir(site.world.path("fork")).expect("folder");
    let other = "--role root=a.pub,b.pub,d.pub:2 --expires 9y --sign a.key --sign b.key --out fork/2.root.json";
    site.world.run(&format!("trust rotate --from root.json {other}")).exits(0);
    let before = site.snapshot();
    site.node("trust import fork").exits(3).warns("root_forked: trust root version 2 is kept here");
    assert_eq!(site.snapshot(), before);
    site.node("fsck --repair").exits(0);
    assert_eq!(version(&site)["version"], 4);
}

#[test]
fn what_somebody_adds_to_the_lines_of_a_root_is_not_kept() {
    let site = Site::running();
    rotate(&site.world);
    let path = "stick/roots/2.root.json.sigstore.jsonl";
    let good = site.world.read(path);
    site.world.keys(&["f"]);
    site.world.run("sign stick/roots/2.root.json --key f.key").exits(0);
    assert_ne!(site.world.read(path), good);
    site.node("trust import stick").exits(0);
    assert_eq!(site.world.read("node/trust/roots/2.root.json.sigstore.jsonl"), good);
}

#[test]
fn a_set_that_brings_a_root_may_be_staged_followed_and_planned_from_facts() {
    let site = Site::running();
    rotate(&site.world);
    newer_set(&site, "two", 2);
    copy_roots(&site, "two/roots", &[2, 3, 4]);
    // From facts: the set must bring what the node lacks, whatever root is at hand here.
    site.node("facts --out facts.json").exits(0);
    let elsewhere = |root: &str| site.world.run(&format!("plan two --facts facts.json --trust-root {root}"));
    assert!(elsewhere("root.json").exits(0).stdout().contains("root_rotated"));
    assert!(elsewhere("stick/roots/4.root.json").exits(0).stdout().contains("root_rotated"));
    std::fs::rename(site.world.path("two/roots"), site.world.path("away")).expect("moves");
    elsewhere("stick/roots/4.root.json").exits(3).warns("root_gap: the node has trust root version 1");
    site.world
        .run("verify two --trust-root stick/roots/4.root.json --node-facts facts.json")
        .exits(3)
        .warns("root_gap");
    std::fs::rename(site.world.path("away"), site.world.path("two/roots")).expect("moves");
    // Staged: nothing is pinned yet, and nobody takes it for damage.
    site.node("apply two --stage-only --auto-approve").exits(0);
    assert_eq!(version(&site)["version"], 1);
    site.node("fsck").exits(0);
    site.node("fsck --repair").exits(0);
    site.node("apply two --auto-approve").exits(0);
    assert_eq!(version(&site)["version"], 4);
    // The loop pins what the set brings, also when nothing else is new.
    let last = "--from two/roots/4.root.json --expires 4y --sign a.key --sign d.key --out two/roots/5.root.json";
    site.world.run(&format!("trust rotate {last}")).exits(0);
    let said = site.node("reconcile --source two --once").exits(0).stdout();
    assert!(said.contains("rotated: a newer trust root is pinned"), "{said}");
    assert_eq!(version(&site)["version"], 5);
}

#[test]
fn a_restore_brings_a_newer_root_only_where_the_pinned_one_leads_to_it() {
    let site = Site::running();
    rotate(&site.world);
    site.node("backup --out old.tar").exits(0);
    site.node("trust import stick").exits(0);
    site.node("backup --out new.tar").exits(0);
    // An older backup takes nothing back.
    site.node("restore old.tar --auto-approve").exits(0);
    assert_eq!(version(&site)["version"], 4);
    // The node of the older backup follows to the root of the newer one.
    site.world.run("restore old.tar --state-root back --auto-approve").exits(0);
    site.world.run("restore new.tar --state-root back --auto-approve").exits(0);
    let shown: Value =
        serde_json::from_str(&site.world.run("trust show --output json --state-root back").exits(0).stdout())
            .expect("JSON");
    assert_eq!(shown["version"], 4);
    site.world.run("plan one --state-root back").exits(0);
}

#[test]
fn an_expired_root_changes_nothing_and_still_lets_a_newer_one_in() {
    let site = Site::bare();
    let mut root: Value = serde_json::from_slice(&site.world.read("root.json")).expect("JSON");
    root["expiresAt"] = "2026-11-26T00:00:00Z".into();
    let bytes = autonomy_schema::canonical::to_bytes(&root).expect("canonical");
    std::fs::create_dir_all(site.world.path("stick/roots")).expect("folder");
    site.world.write("short.json", &bytes);
    for key in ["a", "b"] {
        site.world.run(&format!("sign short.json --key {key}.key")).exits(0);
    }
    let init = "init --node-id node-a --fleet harbor --label site=pier-7 --hardware x86_64 --trust-root short.json";
    site.world.run(&format!("{init} --state-root late")).exits(0);
    site.set("one", 1);
    site.world.run("plan one --state-root late").exits(3).warns("expired: trust root version 1 expired");
    let next = "--from short.json --expires 2y --sign a.key --sign c.key --out stick/roots/2.root.json";
    site.world.run(&format!("trust rotate {next}")).exits(0);
    site.world.run("trust import stick --state-root late").exits(0);
    site.world.run("apply one --auto-approve --state-root late").exits(0);
}

#[test]
fn a_poisoned_time_mark_comes_down_by_a_root_and_stays_down() {
    let site = Site::running();
    // A manifest from a year ahead, which the time step still lets in.
    site.set("two", 2);
    site.doctor("two", |manifest| manifest["metadata"]["issuedAt"] = "2027-11-20T00:00:00Z".into());
    site.node("apply two --auto-approve").exits(0);
    let mark = |site: &Site| version(site)["floors"]["timeMark"].as_str().expect("a mark").to_owned();
    assert_eq!(mark(&site), "2027-11-20T00:00:00Z");
    std::fs::create_dir_all(site.world.path("stick/roots")).expect("folder");
    let reset = "--expires 3y --reset-time-mark 2026-11-25T00:00:00Z --sign a.key --sign b.key";
    site.world.run(&format!("trust rotate --from root.json {reset} --out stick/roots/2.root.json")).exits(0);
    site.node("trust import stick").exits(0);
    assert_eq!(mark(&site), "2026-11-25T00:00:00Z");
    // What runs had lifted it, and nobody takes that for a floor that was lowered.
    site.node("fsck").exits(0);
    site.node("fsck --repair").exits(0);
    assert!(!site.node("plan --refresh-only").exits(0).stdout().contains("drift_lowered"));
    site.node("backup --out node.tar").exits(0);
    site.node("restore node.tar --auto-approve").exits(0);
    let next = "--from stick/roots/2.root.json --expires 4y --sign a.key --sign b.key --out stick/roots/3.root.json";
    site.world.run(&format!("trust rotate {next}")).exits(0);
    site.node("trust import stick").exits(0);
    assert!(!site.node("plan --refresh-only").exits(0).stdout().contains("drift_lowered"));
    assert_eq!(mark(&site), "2026-11-25T00:00:00Z");
    // Nor by a repair of it.
    std::fs::remove_file(site.world.path("node/current/artifacts/bin/agent")).expect("removes");
    site.node("apply two --auto-approve").exits(0);
    assert_eq!(mark(&site), "2026-11-25T00:00:00Z");
    // From here on it rises again as it should.
    site.set("three", 3);
    site.doctor("three", |manifest| manifest["metadata"]["issuedAt"] = "2026-11-26T00:00:00Z".into());
    site.node("apply three --auto-approve").exits(0);
    assert_eq!(mark(&site), "2026-11-26T00:00:00Z");
}

#[test]
fn a_root_is_signed_by_people_who_never_meet() {
    let site = Site::running();
    let world = &site.world;
    world
        .run("trust rotate --from root.json --expires 2y --sign a.key --out 2.root.json")
        .exits(3)
        .warns("root_signature");
    assert!(!world.has("2.root.json"), "what a node would refuse is not written");
    let partial = "trust rotate --from root.json --expires 2y --partial --out 2.root.json";
    assert!(world.run(partial).exits(0).stdout().contains("No node takes it yet"));
    std::fs::create_dir(world.path("stick")).expect("folder");
    for key in ["c", "a"] {
        world.run("trust verify . --trust-root root.json").exits(3).warns("root_signature");
        world.run(&format!("sign 2.root.json --key {key}.key")).exits(0);
    }
    world.run("trust verify . --trust-root root.json").exits(0);
    site.node("trust import .").exits(0);
    assert_eq!(version(&site)["version"], 2);
}

#[test]
fn wrong_use_is_told_and_writes_nothing() {
    let site = Site::running();
    let world = &site.world;
    let before = site.snapshot();
    let rotate = "trust rotate --from root.json --expires 2y --out 2.root.json";
    world.run(rotate).exits(64);
    world.run(&format!("{rotate} --sign nobody.key")).exits(1).warns("nobody.key");
    world.run(&format!("{rotate} --sign a.key --sign b.key --without-role root")).exits(3).warns("roles.root");
    let both = "--role manifest=a.pub:1 --without-role manifest";
    world.run(&format!("{rotate} --sign a.key --sign b.key {both}")).exits(64).warns("contradict");
    world.run(&format!("{rotate} --sign a.key --sign b.key --without-role captain")).exits(64);
    world.run("trust rotate --from nothing.json --expires 2y --sign a.key --out 2.root.json").exits(1);
    world
        .run(&format!("trust new --role root={ALL}:2 --expires 2y --sign a.key --sign b.key --out root.json"))
        .exits(64);
    assert!(!world.has("2.root.json") && !world.has("2.root.json.sigstore.jsonl"));
    site.node("trust import nowhere").exits(1).warns("source_not_found");
    std::fs::create_dir(world.path("empty")).expect("folder");
    site.node("trust import empty").exits(9).warns("missing_file: ");
    std::fs::create_dir(world.path("linked")).expect("folder");
    std::os::unix::fs::symlink(Path::new("../root.json"), world.path("linked/2.root.json")).expect("link");
    site.node("trust import linked").exits(3).warns("symlink_refused");
    assert_eq!(site.snapshot(), before);
}
