//! Media in volumes: read like a folder, made good where parity can, named where it cannot, replaced and never mixed.

use std::path::Path;

use serde_json::Value;

use crate::import::{inbox, standings};
use crate::kill::traced;
use crate::media::{in_volumes, names, remove};
use crate::registry::Registry;
use crate::world::Ran;

fn plan_id(plan: &Ran) -> Value {
    serde_json::from_str::<Value>(&plan.stdout()).expect("JSON")["plan_id"].clone()
}

#[test]
fn a_split_medium_is_read_like_a_folder() {
    let site = in_volumes();
    let volumes = names(&site, "stick");
    assert!(volumes.len() > 5, "{volumes:?}");
    assert!(volumes.iter().enumerate().all(|(at, name)| *name == format!("vol-{at:03}")), "{volumes:?}");
    assert!(site.world.tree("stick").values().all(|(_, bytes)| bytes.len() <= 128 << 10));
    site.world.run("export two --to again --split 131072B --parity 1").exits(0);
    assert_eq!(site.world.tree("stick"), site.world.tree("again"), "an export is a pure function of its set");
    let before = site.snapshot_all();
    let folder = plan_id(&site.node("plan two --output json").exits(0));
    assert_eq!(folder, plan_id(&site.node("plan oci:stick --output json").exits(0)));
    let shown = site.node("import stick --preview --output json").exits(0);
    assert_eq!(standings(&shown.stdout()), [(2, "takes".to_owned())]);
    assert_eq!(shown.stderr(), "");
    assert!(before == site.snapshot_all(), "a preview writes nothing");
    site.node("import stick").exits(0);
    site.node("reconcile --once").exits(0);
    site.is_whole(&[2]);
    // What lies in volumes goes onto another medium as from any source.
    site.world.run("export oci:stick --to whole").exits(0);
    site.world.run("export two --to direct").exits(0);
    assert_eq!(site.world.tree("whole"), site.world.tree("direct"));
}

#[test]
fn a_lost_volume_is_made_good_and_named() {
    let site = in_volumes();
    remove(&site, "stick/vol-001");
    let said = site.node("plan oci:stick").exits(0).stderr();
    assert!(
        said.contains("warning: `vol-001` of `stick` is missing") && said.contains("no more may be lost"),
        "{said}"
    );
    site.node("import stick --preview").exits(0).warns("`vol-001`");
    let told = site.node("import stick --output json").exits(0);
    let told: Value = serde_json::from_str(&told.stdout()).expect("JSON");
    assert!(told["warnings"].to_string().contains("vol-001"), "{told}");
    site.node("reconcile --once").exits(0);
    site.is_whole(&[2]);
    site.node("reconcile --once --source oci:stick").exits(0).warns("`vol-001`");
}

#[test]
fn a_damaged_volume_is_made_good_and_named() {
    let site = in_volumes();
    let mut bytes = site.world.read("stick/vol-002");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    site.world.write("stick/vol-002", bytes);
    site.node("import stick").exits(0).warns("`vol-002` of `stick` has a damaged block");
    site.node("reconcile --once").exits(0);
    site.is_whole(&[2]);
}

#[test]
fn more_lost_volumes_than_parity_are_named_and_nothing_changes() {
    let site = in_volumes();
    let before = site.snapshot();
    let kept = site.world.read("stick/vol-003");
    remove(&site, "stick/vol-001");
    remove(&site, "stick/vol-003");
    for verb in ["import stick", "import stick --preview", "plan oci:stick", "apply oci:stick --auto-approve"] {
        let said = site.node(verb).exits(9).warns("missing_file: ").stderr();
        assert!(said.contains("vol-001") && said.contains("vol-003"), "{verb}: {said}");
    }
    assert!(before == site.snapshot(), "a refusal changed the state root");
    // One of them is found again.
    site.world.write("stick/vol-003", kept);
    site.node("import stick").exits(0).warns("`vol-001`");
    assert_eq!(inbox(&site).len(), 1);
}

#[test]
fn what_is_wrong_with_volumes_is_named() {
    let site = in_volumes();
    site.set("three", 3);
    site.world.run("export three --to other --split 128KiB --parity 1").exits(0);
    let spoil = |name: &str, how: &dyn Fn(&Path)| {
        site.copy("stick", name);
        how(&site.world.path(name));
    };
    let write = |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).expect("writes");
    spoil("mixed", &|at| write(&at.join("vol-002"), &site.world.read("other/vol-002")));
    spoil("beside", &|at| write(&at.join("autorun.inf"), b"more"));
    spoil("linked", &|at| {
        std::fs::remove_file(at.join("vol-000")).expect("removes");
        std::os::unix::fs::symlink(site.world.path("stick/vol-000"), at.join("vol-000")).expect("links");
    });
    spoil("worn", &|at| {
        for entry in std::fs::read_dir(at).expect("folder") {
            write(&entry.expect("entry").path(), &[0; 9000]);
        }
    });
    let before = site.snapshot();
    for (medium, exit, code) in [
        ("mixed", 3, "extraneous_file: "),
        ("beside", 3, "extraneous_file: "),
        ("linked", 3, "symlink_refused: "),
        ("worn", 9, "missing_file: "),
    ] {
        site.node(&format!("import {medium}")).exits(exit).warns(code);
        site.node(&format!("apply oci:{medium} --auto-approve")).exits(exit).warns(code);
    }
    assert!(before == site.snapshot(), "a refusal changed the state root");
}

#[test]
fn an_older_split_export_gives_way_and_other_things_do_not() {
    let site = in_volumes();
    site.node("import stick").exits(0);
    assert!(site.world.has("stick/receipts"));
    let before = names(&site, "stick").len();
    // What a run left that was cut off is no hindrance, to nobody.
    site.world.write("stick/.vol-000.tmp", "half");
    site.node("import stick").exits(0);
    site.set("three", 3);
    site.world.run("export three --to stick --split 256KiB").exits(0);
    assert!(names(&site, "stick").len() < before && site.world.has("stick/receipts"));
    site.node("import stick").exits(0);
    assert_eq!(inbox(&site).len(), 2);
    site.world.run("export two --to stick").exits(3).warns("bad_value: ");
    site.world.run("export two --to whole").exits(0);
    site.world.run("export two --to whole --split 128KiB").exits(3).warns("extraneous_file: ");
    site.node("plan oci:whole").exits(0);
    for wrong in [
        "--parity 1",
        "--split 128",
        "--split 1KiB",
        "--split -1KiB",
        "--split 99999999999GiB",
        "--split 1GiB --parity 256",
    ] {
        site.world.run(&format!("export two --to wrong {wrong}")).exits(64);
    }
    assert!(!site.world.has("wrong"));
}

/// Spread over a whole run: writes, syncs, removals, names.
#[test]
fn a_split_export_that_is_killed_leaves_one_export_or_none_and_is_written_anew() {
    const CALLS: &str = "pwrite64,fsync,unlinkat,renameat,renameat2";
    let site = in_volumes();
    site.set("three", 3);
    site.copy("stick", "kept");
    let export = "export three --to stick --split 128KiB --parity 1";
    assert!(traced(&site, export, &["-e", &format!("trace={CALLS}")]).status.success());
    let trace = String::from_utf8(site.world.read("trace.txt")).expect("UTF-8");
    let mut counts = std::collections::BTreeMap::new();
    let calls: Vec<(&str, usize)> = trace
        .lines()
        .filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('))
        .map(|(name, _)| {
            let count = counts.entry(name).or_insert(0);
            *count += 1;
            (name, *count)
        })
        .collect();
    let named = calls.iter().filter(|(name, _)| name.starts_with("renameat")).count();
    assert!(named > 5, "{calls:?}");
    // All of the end, where names change, and some of what comes before.
    let end = calls.len() - 3 * named;
    for at in (0..end).step_by(end / 4).chain(end..calls.len()) {
        std::fs::remove_dir_all(site.world.path("stick")).expect("removes");
        site.copy("kept", "stick");
        let (name, count) = calls[at];
        let inject = format!("inject={name}:signal=SIGKILL:when={count}");
        let killed = traced(&site, export, &["-e", &format!("trace={CALLS}"), "-e", &inject]);
        assert!(!killed.status.success(), "{name} {count}");
        let shown = site.node("import stick --preview --output json");
        // One of the two, whole; or what is missing is named. Never a mixture.
        match shown.code() {
            0 => assert!([2, 3].contains(&standings(&shown.stdout())[0].0), "{name} {count}: {}", shown.stdout()),
            code => assert!([1, 9].contains(&code), "{name} {count}: {}", shown.stderr()),
        }
        site.world.run(export).exits(0);
        let shown = site.node("import stick --preview --output json").exits(0).stdout();
        assert_eq!(standings(&shown), [(3, "takes".to_owned())]);
        assert!(!names(&site, "stick").iter().any(|name| name.starts_with('.')));
    }
}

#[test]
fn a_copy_of_what_is_lost_blames_the_medium_that_lacks_it() {
    let site = in_volumes();
    remove(&site, "stick/vol-001");
    remove(&site, "stick/vol-002");
    let registry = Registry::start(&site);
    for to in ["oci:whole".to_owned(), format!("{}:2", registry.repository())] {
        let ran =
            site.world.run(&format!("oci copy oci:stick:harbor-gateways-2 {to}")).exits(9).warns("missing_file: ");
        assert!(ran.stderr().contains("`vol-001`") && !ran.stderr().contains("cannot write"), "{}", ran.stderr());
    }
}
