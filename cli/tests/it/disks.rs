//! File systems that are full, read-only, or not local. They are mounted for real, which needs root; without it, or
//! with `AUTONOMY_SKIP_MOUNT` set, the test says that it did not run.

use std::path::PathBuf;
use std::process::Command;

use crate::node::Site;

/// A mount that goes away with the test.
pub(crate) struct Mount(pub(crate) PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

pub(crate) fn may_mount() -> bool {
    if std::env::var_os("AUTONOMY_SKIP_MOUNT").is_some() {
        eprintln!("NOT RUN: AUTONOMY_SKIP_MOUNT is set");
        return false;
    }
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    assert!(root, "mounting needs root; set AUTONOMY_SKIP_MOUNT to leave these tests out");
    true
}

pub(crate) fn run(program: &str, arguments: &[&str], site: &Site) {
    let status = Command::new(program).args(arguments).current_dir(site.world.path("")).status();
    let status = status.unwrap_or_else(|error| panic!("{program} (ci/setup-tests installs it): {error}"));
    assert!(status.success(), "{program} {arguments:?}");
}

#[test]
fn a_disk_without_room_is_refused_before_anything_is_written() {
    if !may_mount() {
        return;
    }
    let site = Site::running();
    site.set("two", 2);
    std::fs::rename(site.world.path("node"), site.world.path("old")).expect("renames");
    std::fs::create_dir(site.world.path("node")).expect("folder");
    // The manifest wants 64 MiB to stay free.
    run("mount", &["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", "node"], &site);
    let _mount = Mount(site.world.path("node"));
    run("cp", &["-a", "old/.", "node"], &site);
    site.refuses("two", 5, "disk_full");
    site.is_whole(&[1]);
}

#[test]
fn a_pull_to_a_disk_without_room_is_refused_before_its_blobs_come() {
    if !may_mount() {
        return;
    }
    let site = Site::running();
    site.world.write("build/agent", [crate::node::AGENT.as_bytes(), &vec![7; 300_000]].concat());
    site.set("two", 2);
    let registry = crate::registry::Registry::start(&site);
    let place = format!("{}:2", registry.repository());
    site.world.run(&format!("push two {place}")).exits(0);
    std::fs::create_dir(site.world.path("got")).expect("folder");
    run("mount", &["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", "got"], &site);
    let _mount = Mount(site.world.path("got"));
    site.world.run(&format!("pull {place} --to got --trust-root root.json")).exits(5).warns("disk_full: ");
    assert!(site.world.tree("got").is_empty(), "something came: {:?}", site.world.tree("got").keys());
    run("mount", &["-o", "remount,size=8m", "got"], &site);
    site.world.run(&format!("pull {place} --to got --trust-root root.json")).exits(0);
}

#[test]
fn a_full_medium_ends_a_backup_and_a_restore_and_half_of_neither_counts() {
    if !may_mount() {
        return;
    }
    let site = Site::running();
    for folder in ["stick", "again"] {
        std::fs::create_dir(site.world.path(folder)).expect("folder");
        run("mount", &["-t", "tmpfs", "-o", "size=32k,mode=0700", "tmpfs", folder], &site);
    }
    let _mounts = [Mount(site.world.path("stick")), Mount(site.world.path("again"))];
    site.node("backup --out stick/node.backup").exits(1).warns("io_error: ");
    assert_eq!(std::fs::read_dir(site.world.path("stick")).expect("stick").count(), 0, "no half file stays");
    site.node("backup --out node.backup").exits(0);
    site.world.run("restore node.backup --state-root again").exits(1).warns("io_error: ");
    assert!(!site.world.has("again/node.yaml"));
    run("mount", &["-o", "remount,size=8m", "again"], &site);
    site.world.run("restore node.backup --state-root again").exits(0);
    site.world.run("apply one --auto-approve --state-root again").exits(0);
}

#[test]
fn a_read_only_state_root_is_an_error_and_stays_as_it_is() {
    if !may_mount() {
        return;
    }
    let site = Site::running();
    site.set("two", 2);
    run("mount", &["--bind", "node", "node"], &site);
    let _mount = Mount(site.world.path("node"));
    run("mount", &["-o", "remount,ro,bind", "node"], &site);
    let before = site.snapshot_all();
    site.node("apply two --auto-approve").exits(1).warns("io_error: ");
    site.node("plan two").exits(0);
    site.node("status").exits(0);
    assert!(before == site.snapshot_all());
}

#[test]
fn a_state_root_on_fuse_is_refused() {
    if !may_mount() {
        return;
    }
    let site = Site::running();
    site.set("two", 2);
    std::fs::rename(site.world.path("node"), site.world.path("old")).expect("renames");
    std::fs::create_dir(site.world.path("node")).expect("folder");
    run("bindfs", &["old", "node"], &site);
    let _mount = Mount(site.world.path("node"));
    site.node("apply two --auto-approve").exits(5).warns("state_root_unsafe: ");
    site.node("status").exits(5).warns("state_root_unsafe: ");
}

#[test]
fn a_disk_that_fills_up_in_the_middle_leaves_the_old_generation_whole() {
    if !may_mount() {
        return;
    }
    let site = Site::running();
    site.set("two", 2);
    std::fs::rename(site.world.path("node"), site.world.path("old")).expect("renames");
    std::fs::create_dir(site.world.path("node")).expect("folder");
    run("mount", &["-t", "tmpfs", "-o", "size=90m,mode=0700", "tmpfs", "node"], &site);
    let _mount = Mount(site.world.path("node"));
    run("cp", &["-a", "old/.", "node"], &site);
    // No forecast knows of inodes: with a few left, the failure comes from the disk, and in the middle.
    let used = std::fs::read_dir(site.world.path("node")).map(|_| site.snapshot_all().len()).expect("node");
    for left in [1, 4, 9] {
        run("mount", &["-o", &format!("remount,nr_inodes={}", used + left), "node"], &site);
        let failed = site.node("apply two --auto-approve").exits(1).warns("io_error: ");
        assert!(failed.stderr().contains("No space left"), "{}", failed.stderr());
        site.node("status").exits(0);
        site.is_whole(&[1]);
    }
    run("mount", &["-o", "remount,nr_inodes=10000", "node"], &site);
    site.node("apply two --auto-approve").exits(0);
    site.is_whole(&[2]);
}
