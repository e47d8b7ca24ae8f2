//! Media that are worn out, full, pulled out, hostile, or FAT32. They are real: loop-mounted images, tmpfs, a FAT of its own
//! driver, failing system calls from strace. Mounting needs root; see `disks.rs`.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::disks::{Mount, may_mount, run};
use crate::hostile::with_policy;
use crate::import::inbox;
use crate::kill::traced;
use crate::node::{AGENT, Site};

/// An agent of 600,000 bytes that does nothing, so that a set needs several volumes.
fn large_agent(site: &Site) {
    let mut agent = format!("{AGENT}\n").into_bytes();
    let mut noise = vec![0; 600_000];
    blake3::Hasher::new_derive_key("autonomy test noise").finalize_xof().fill(&mut noise);
    agent.extend(noise);
    site.world.write("build/agent", agent);
}

/// The node runs release 1; release 2 is large.
pub(crate) fn with_large_set() -> Site {
    let site = Site::running();
    large_agent(&site);
    site.set("two", 2);
    site
}

/// The same, and `stick` holds release 2 in volumes, of which one may be lost.
pub(crate) fn in_volumes() -> Site {
    let site = with_large_set();
    site.world.run("export two --to stick --split 128KiB --parity 1").exits(0);
    site
}

pub(crate) fn names(site: &Site, folder: &str) -> Vec<String> {
    site.world.tree(folder).into_keys().collect()
}

pub(crate) fn remove(site: &Site, path: &str) {
    std::fs::remove_file(site.world.path(path)).expect("removes");
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
    // The next driver must not start beside one that is still ending: what was removed counts as free on the disk only once
    // its driver has ended, and the next one reads the count when it starts and goes on from there.
    let unmount = |mounted: Mount| {
        drop(mounted);
        await_sound(&site);
    };
    // This driver loses the end of a write that ends within a sector, save with `direct_io`, where it cannot read to the end
    // of a file. `export --split` finds the first out by itself, when it reads the volumes back for their parity.
    for (verb, volumes, options) in
        [("export two --to stick", 0, "rw+"), ("export two --to stick --split 128KiB --parity 1", 5, "rw+,direct_io")]
    {
        let mounted = mount(options);
        site.world.run(verb).exits(0);
        unmount(mounted);
        let mounted = mount("rw+");
        site.node("import stick").exits(0);
        let written = names(&site, "stick");
        assert!(written.iter().any(|name| name.starts_with("receipts/node-a-")), "{written:?}");
        assert!(written.iter().filter(|name| name.starts_with("vol-")).count() >= volumes, "{written:?}");
        let unfinished =
            |name: &String| ["part", "tmp"].iter().any(|end| Path::new(name).extension().is_some_and(|is| is == *end));
        assert!(!written.iter().any(unfinished), "{written:?}");
        names_are_safe(&written);
        // The file system's own checker finds nothing to mend, once the driver has written all, and what was written is
        // still there.
        unmount(mounted);
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
        unmount(mounted);
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
