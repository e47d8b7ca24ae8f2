//! Media that are worn out, full, pulled out, hostile, or FAT32. They are real: loop-mounted images, tmpfs, a FAT of its own
//! driver, failing system calls from strace. Mounting needs root; see `disks.rs`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::disks::{Mount, may_mount, run};
use crate::hostile::with_policy;
use crate::import::{inbox, standings};
use crate::node::{AGENT, Site};
use crate::world::{PASSWORD, Ran};

/// An agent of 600,000 bytes that does nothing, so that a set needs several volumes.
fn large_agent(site: &Site) {
    let mut agent = format!("{AGENT}\n").into_bytes();
    let mut noise = vec![0; 600_000];
    blake3::Hasher::new_derive_key("autonomy test noise").finalize_xof().fill(&mut noise);
    agent.extend(noise);
    site.world.write("build/agent", agent);
}

/// The node runs release 1; release 2 is large.
fn with_large_set() -> Site {
    let site = Site::running();
    large_agent(&site);
    site.set("two", 2);
    site
}

/// The same, and `stick` holds release 2 in volumes, of which one may be lost.
fn in_volumes() -> Site {
    let site = with_large_set();
    site.world.run("export two --to stick --split 128KiB --parity 1").exits(0);
    site
}

fn plan_id(plan: &Ran) -> Value {
    serde_json::from_str::<Value>(&plan.stdout()).expect("JSON")["plan_id"].clone()
}

fn names(site: &Site, folder: &str) -> Vec<String> {
    site.world.tree(folder).into_keys().collect()
}

fn remove(site: &Site, path: &str) {
    std::fs::remove_file(site.world.path(path)).expect("removes");
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

#[test]
fn newer_roots_and_revocations_travel_along_and_count_first() {
    let site = Site::running();
    site.set("two", 2);
    let rotate = "trust rotate --from root.json --expires 3y --sign a.key --sign b.key --out 2.root.json";
    site.world.run(rotate).exits(0);
    std::fs::create_dir_all(site.world.path("news/roots")).expect("folder");
    for (from, to) in [("root.json", "1.root.json"), ("2.root.json", "2.root.json")] {
        for end in ["", ".sigstore.jsonl"] {
            let bytes = site.world.read(&format!("{from}{end}"));
            site.world.write(&format!("news/roots/{to}{end}"), bytes);
        }
    }
    site.world.run("trust revoke --number 4 --manifest two --out news/revocation.json").exits(0);
    // What nobody signed does not go along.
    site.world.run("export two --to stick --trust news").exits(3).warns("below_threshold: ");
    for key in ["a", "b"] {
        site.world.run(&format!("sign news/revocation.json --key {key}.key")).exits(0);
    }
    site.world.run("export two --to stick --trust news --split 128KiB --parity 1").exits(0);
    remove(&site, "stick/vol-000");
    let before = site.snapshot_all();
    let shown = site.node("import stick --preview").exits(0).stdout();
    assert!(shown.contains("brings: trust root version 2") && shown.contains("brings: revocation list 4"), "{shown}");
    assert!(before == site.snapshot_all(), "a preview writes nothing");
    let told = site.node("import stick").exits(3).warns("revoked: ").stdout();
    assert!(told.contains("pinned: trust root version 2\ncounts from now on: revocation list 4\n"), "{told}");
    assert_eq!(inbox(&site), Vec::<String>::new(), "a set that the same medium revokes does not come");
    site.is_whole(&[1]);
    // The node hands both on; one that knows more passes the older list over.
    site.node("export --to onward").exits(0);
    site.world
        .run("init --state-root peer --node-id peer --fleet harbor --trust-root root.json --label site=pier-7")
        .exits(0);
    // Release 1 knows nothing of the list, so no node takes it any more.
    let told = site.world.run("import onward --state-root peer").exits(3).warns("revocation_number_lowered: ").stdout();
    assert!(told.contains("pinned: trust root version 2") && told.contains("revocation list 4"), "{told}");
    let shown = site.world.run("trust show --output json --state-root peer").exits(0).stdout();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["floors"]["revoked"]["number"], 4, "{shown}");
    let make = "trust revoke --from news/revocation.json --key c.pub --out next.json";
    site.world.run(make).exits(0);
    std::fs::create_dir(site.world.path("next")).expect("folder");
    std::fs::rename(site.world.path("next.json"), site.world.path("next/revocation.json")).expect("renames");
    for key in ["a", "b"] {
        site.world.run(&format!("sign next/revocation.json --key {key}.key")).exits(0);
    }
    site.world.run("trust import next --state-root peer").exits(0);
    let told = site.world.run("import onward --output json --state-root peer").exits(3).stdout();
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["trust"], serde_json::json!({ "roots": [], "revocation": null, "reasons": [] }));
}

/// Runs `autonomy` under strace.
fn traced(site: &Site, verb: &str, options: &[&str]) -> std::process::Output {
    Command::new("strace")
        .args(["-f", "-qq", "-o", "trace.txt"])
        .args(options)
        .arg(env!("CARGO_BIN_EXE_autonomy"))
        .args(verb.split_whitespace())
        .args(["--state-root", "node"])
        .current_dir(site.world.path(""))
        .env("COSIGN_PASSWORD", PASSWORD)
        .output()
        .expect("strace (ci/setup-tests installs it)")
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

/// The largest file below a folder.
fn largest(site: &Site, folder: &str) -> String {
    let tree = site.world.tree(folder);
    let (name, _) = tree.iter().max_by_key(|(_, (_, bytes))| bytes.len()).expect("files");
    format!("{folder}/{name}")
}

#[test]
fn a_bad_sector_is_named_or_made_good() {
    let site = in_volumes();
    site.world.run("export two --to whole").exits(0);
    let blob = largest(&site, "whole");
    let path = site.world.path(&blob);
    let path = path.to_str().expect("UTF-8");
    let before = site.snapshot();
    let failed =
        traced(&site, "import whole", &["-P", path, "-e", "trace=read", "-e", "inject=read:error=EIO:when=2+"]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("io_error: cannot read `artifacts/bin/agent`"), "{said}");
    let after = site.snapshot();
    let changed: Vec<_> = before.keys().chain(after.keys()).filter(|at| before.get(*at) != after.get(*at)).collect();
    assert!(changed.is_empty(), "{changed:?}");
    // The same of a volume is made good.
    let volume = site.world.path("stick/vol-002");
    let volume = volume.to_str().expect("UTF-8");
    let made_good =
        traced(&site, "import stick", &["-P", volume, "-e", "trace=pread64", "-e", "inject=pread64:error=EIO:when=2+"]);
    let said = String::from_utf8_lossy(&made_good.stderr).into_owned();
    assert_eq!(made_good.status.code(), Some(0), "{said}");
    assert!(said.contains("`vol-002` of `stick` has a damaged block"), "{said}");
    site.node("reconcile --once").exits(0);
    site.is_whole(&[2]);
}

/// A file system of its own in an image, mounted at `stick`.
fn loop_mounted(site: &Site) -> Mount {
    let (image, stick) = (site.world.path("image"), site.world.path("stick"));
    if !image.exists() {
        std::fs::File::create(&image).and_then(|file| file.set_len(24 << 20)).expect("image");
        run("mkfs.ext4", &["-q", "-F", "image"], site);
        std::fs::create_dir(&stick).expect("folder");
    }
    run("mount", &["-o", "loop", "image", "stick"], site);
    std::fs::remove_dir(stick.join("lost+found")).ok();
    Mount(stick)
}

#[test]
fn a_stick_that_is_pulled_out_is_an_error_with_a_name() {
    if !may_mount() {
        return;
    }
    let site = with_large_set();
    let mount = loop_mounted(&site);
    site.world.run("export two --to stick").exits(0);
    // Nothing of it is in memory any more.
    drop(mount);
    let mount = loop_mounted(&site);
    // Every read of the stick takes its time, so that it can be pulled out in the middle.
    let mut child = Command::new("strace")
        .args(["-f", "-qq", "-o", "trace.txt", "-e", "trace=read,pread64", "-e"])
        .arg("inject=read:delay_enter=50000")
        .arg(env!("CARGO_BIN_EXE_autonomy"))
        .args(["import", "stick", "--state-root", "node"])
        .current_dir(site.world.path(""))
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace");
    await_open(&site, &mut child);
    // What the kernel does when the device is gone: all that is not in memory fails from now on.
    let pull = "import fcntl, os, struct; fcntl.ioctl(os.open('stick', os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
    run("python3", &["-c", pull], &site);
    drop(mount);
    let ended = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("io_error: cannot read `"), "{said}");
    site.is_whole(&[1]);
    assert_eq!(inbox(&site), Vec::<String>::new());
    assert_eq!(names(&site, "stick"), Vec::<String>::new(), "what was meant for the stick lies where it was mounted");
    site.node("import stick").exits(1).warns("source_not_found: ");
    // Put in again, it is taken.
    let _mount = loop_mounted(&site);
    site.node("import stick").exits(0);
    site.node("reconcile --once").exits(0);
    site.is_whole(&[2]);
}

/// Waits until the process holds a file of the stick open.
fn await_open(site: &Site, child: &mut Child) {
    let stick = site.world.path("stick").canonicalize().expect("stick");
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(30) {
        assert!(child.try_wait().expect("waits").is_none(), "it ended before the stick was pulled out");
        let open = std::fs::read_dir("/proc").expect("proc").flatten().any(|process| {
            let exe = std::fs::read_link(process.path().join("exe")).unwrap_or_default();
            exe == Path::new(env!("CARGO_BIN_EXE_autonomy"))
                && std::fs::read_dir(process.path().join("fd")).is_ok_and(|fds| {
                    fds.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(&stick)))
                })
        });
        if open {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("nothing of the stick was opened");
}

#[test]
fn a_full_medium_ends_an_export_which_is_taken_up_again() {
    if !may_mount() {
        return;
    }
    let site = with_large_set();
    for (folder, split) in [("stick", ""), ("parts", " --split 128KiB --parity 1")] {
        std::fs::create_dir(site.world.path(folder)).expect("folder");
        run("mount", &["-t", "tmpfs", "-o", "size=400k,mode=0700", "tmpfs", folder], &site);
        let _mount = Mount(site.world.path(folder));
        let said = site.world.run(&format!("export two --to {folder}{split}")).exits(1).warns("io_error: ").stderr();
        assert!(said.contains("No space left"), "{said}");
        assert!(!site.world.has(&format!("{folder}/index.json")) && !site.world.has(&format!("{folder}/vol-000")));
        run("mount", &["-o", "remount,size=8m", folder], &site);
        site.world.run(&format!("export two --to {folder}{split}")).exits(0);
        site.node(&format!("plan oci:{folder}")).exits(0);
    }
}

#[test]
fn a_full_disk_ends_an_import_which_is_taken_up_again() {
    if !may_mount() {
        return;
    }
    let site = in_volumes();
    std::fs::rename(site.world.path("node"), site.world.path("old")).expect("renames");
    std::fs::create_dir(site.world.path("node")).expect("folder");
    run("mount", &["-t", "tmpfs", "-o", "size=700k,mode=0700", "tmpfs", "node"], &site);
    let _mount = Mount(site.world.path("node"));
    run("cp", &["-a", "old/.", "node"], &site);
    let said = site.node("import stick").exits(1).warns("io_error: ").stderr();
    assert!(said.contains("No space left"), "{said}");
    site.is_whole(&[1]);
    run("mount", &["-o", "remount,size=90m", "node"], &site);
    site.node("import stick").exits(0);
    site.node("reconcile --once").exits(0);
    site.is_whole(&[2]);
}

#[test]
fn a_fat32_stick_takes_all_that_is_written() {
    if !may_mount() {
        return;
    }
    let site = with_large_set();
    std::fs::File::create(site.world.path("image")).and_then(|file| file.set_len(48 << 20)).expect("image");
    run("mkfs.vfat", &["-F", "32", "image"], &site);
    std::fs::create_dir(site.world.path("stick")).expect("folder");
    let mount = |options: &str| {
        run("fusefat", &["-o", options, "image", "stick"], &site);
        Mount(site.world.path("stick"))
    };
    // This driver loses the end of a write that ends within a sector, save with `direct_io`, where it cannot read to the end
    // of a file. `export --split` finds the first out by itself, when it reads the volumes back for their parity.
    for (verb, volumes, options) in
        [("export two --to stick", 0, "rw+"), ("export two --to stick --split 128KiB --parity 1", 5, "rw+,direct_io")]
    {
        let mounted = mount(options);
        site.world.run(verb).exits(0);
        drop(mounted);
        await_sound(&site);
        let mounted = mount("rw+");
        site.node("import stick").exits(0);
        let written = names(&site, "stick");
        assert!(written.iter().any(|name| name.starts_with("receipts/node-a-")), "{written:?}");
        assert!(written.iter().filter(|name| name.starts_with("vol-")).count() >= volumes, "{written:?}");
        let unfinished =
            |name: &String| ["part", "tmp"].iter().any(|end| Path::new(name).extension().is_some_and(|is| is == *end));
        assert!(!written.iter().any(unfinished), "{written:?}");
        names_are_safe(&written);
        drop(mounted);
        // The file system's own checker finds nothing to mend, once the driver has written all, and what was written is
        // still there.
        await_sound(&site);
        let mounted = mount("rw+");
        assert_eq!(names(&site, "stick"), written);
        site.node("plan oci:stick").exits(0);
        site.world.run("receipts collect stick").exits(0);
        for name in &written {
            remove(&site, &format!("stick/{name}"));
        }
        for folder in ["blobs/sha256", "blobs"] {
            std::fs::remove_dir(site.world.path(&format!("stick/{folder}"))).ok();
        }
        drop(mounted);
    }
    site.node("reconcile --once").exits(0);
    site.is_whole(&[2]);
}

/// Waits until nobody has the image open and fsck finds nothing to mend: the driver writes on after it was unmounted.
fn await_sound(site: &Site) {
    let since = Instant::now();
    let is_sound = || {
        let checked = Command::new("fsck.vfat").args(["-n", "image"]).current_dir(site.world.path("")).status();
        checked.expect("fsck.vfat (ci/setup-tests installs it)").success()
    };
    while is_served(&site.world.path("image")) || !is_sound() {
        assert!(since.elapsed() < Duration::from_secs(20), "fsck.vfat finds something to mend");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a process has a file open.
fn is_served(file: &Path) -> bool {
    let file = file.canonicalize().expect("image");
    std::fs::read_dir("/proc").expect("proc").flatten().any(|process| {
        std::fs::read_dir(process.path().join("fd"))
            .is_ok_and(|fds| fds.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == file)))
    })
}

/// Names that FAT32 takes, and keeps apart.
fn names_are_safe(names: &[String]) {
    let mut folded = std::collections::BTreeSet::new();
    for name in names {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        for part in name.split('/') {
            let stem = part.split('.').next().unwrap_or_default();
            assert!(part.chars().all(plain) && !part.ends_with('.') && part.len() < 200, "{name}");
            assert!(!["con", "prn", "aux", "nul", "com1", "lpt1"].contains(&stem), "{name}");
        }
        assert!(folded.insert(name.to_lowercase()), "{name} differs from another in case alone");
    }
}

#[test]
fn case_pairs_and_names_that_fat32_refuses_in_a_set_do_not_reach_the_medium() {
    let site = Site::bare();
    let base = "manifests/base/manifest.yaml";
    let text = String::from_utf8(site.world.read(base)).expect("UTF-8");
    let prompt = "    - { name: prompt,";
    assert_eq!(text.matches(prompt).count(), 1, "{text}");
    let more = [("one", "etc/CON.x_y"), ("two", "etc/trail..")]
        .map(|(name, path)| format!("    - {{ name: {name}, path: {path}, source: settings.toml }}\n"));
    site.world.write(base, text.replace(prompt, &format!("{}{prompt}", more.concat())));
    site.set("one", 1);
    site.world.run("export one --to stick").exits(0);
    site.node("import stick").exits(0);
    names_are_safe(&names(&site, "stick"));
    site.node("reconcile --once").exits(0);
    site.is_whole(&[1]);
    // Two that are one there are no set at all.
    let text = String::from_utf8(site.world.read(base)).expect("UTF-8");
    site.world.write(base, text.replace("etc/trail..", "etc/con.X_Y"));
    site.world.run("render manifests/overlays/pier-7 --out pair").exits(1).warns("case_collision");
}

#[test]
fn links_extra_and_missing_blobs_do_not_come() {
    let site = with_large_set();
    site.world.run("export two --to stick").exits(0);
    let blob = largest(&site, "stick");
    for (medium, exit, code) in
        [("linked", 3, "symlink_refused: "), ("extra", 3, "extraneous_file: "), ("missing", 9, "missing_file: ")]
    {
        site.copy("stick", medium);
        let at = site.world.path(&blob.replacen("stick", medium, 1));
        match medium {
            "linked" => {
                std::fs::remove_file(&at).expect("removes");
                std::os::unix::fs::symlink(site.world.path(&blob), &at).expect("links");
            }
            "extra" => site.world.write(&format!("{medium}/blobs/sha256/{}", "0".repeat(64)), "more"),
            _ => std::fs::remove_file(&at).expect("removes"),
        }
        let before = site.snapshot();
        site.node(&format!("import {medium}")).exits(exit).warns(code);
        assert!(before == site.snapshot(), "{medium} changed the state root");
    }
    // A link in the place of the receipts leads nowhere.
    std::fs::create_dir(site.world.path("elsewhere")).expect("folder");
    std::os::unix::fs::symlink(site.world.path("elsewhere"), site.world.path("stick/receipts")).expect("links");
    site.node("import stick").exits(3).warns("symlink_refused: ");
    assert_eq!(names(&site, "elsewhere"), Vec::<String>::new());
    remove(&site, "stick/receipts");
    site.node("import stick").exits(0);
    site.is_whole(&[1]);
}

#[test]
fn a_bomb_in_the_place_of_a_policy_is_not_unpacked_by_an_import_and_not_applied() {
    let site = Site::running();
    site.set("two", 2);
    let script = "truncate -s 256M update.rego && tar -cf - update.rego | gzip -1; rm update.rego";
    let bomb = Command::new("sh").args(["-c", script]).current_dir(site.world.path("")).output().expect("sh").stdout;
    with_policy(&site, "bomb", &bomb);
    site.world.run("export bomb --to stick").exits(0);
    let capped = Command::new("sh")
        .args(["-c", "ulimit -v 500000; exec \"$0\" import stick --state-root node", env!("CARGO_BIN_EXE_autonomy")])
        .current_dir(site.world.path(""))
        .output()
        .expect("sh");
    assert_eq!(capped.status.code(), Some(0), "{}", String::from_utf8_lossy(&capped.stderr));
    site.node("reconcile --once").exits(4).warns("policy_error: ");
    site.is_whole(&[1]);
}
