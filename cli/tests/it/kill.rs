//! SIGKILL and failing system calls on the real file system, injected by strace.

use std::collections::BTreeMap;
use std::process::Command;

use crate::node::Site;
use crate::world::PASSWORD;

/// System calls that change a file system.
const CHANGES: &str = "pwrite64,ftruncate,fsync,fdatasync,syncfs,rename,renameat,renameat2,linkat,symlinkat,mkdirat,unlinkat,fchmod,fchmodat";
/// How many of them are hit.
const HITS: usize = 20;

/// Runs `autonomy apply two` under strace.
fn traced(site: &Site, options: &[&str]) -> std::process::Output {
    Command::new("strace")
        .args(["-f", "-qq", "-o", "trace.txt"])
        .args(options)
        .args([env!("CARGO_BIN_EXE_autonomy"), "apply", "two", "--auto-approve", "--state-root", "node"])
        .current_dir(site.world.path(""))
        .env("COSIGN_PASSWORD", PASSWORD)
        .output()
        .expect("strace (ci/setup-tests installs it)")
}

/// A copy of the node as it was, and back.
fn keep(site: &Site) {
    let status = Command::new("cp").arg("-a").arg(site.world.path("node")).arg(site.world.path("kept")).status();
    assert!(status.expect("cp").success());
}

fn restore(site: &Site) {
    std::fs::remove_dir_all(site.world.path("node")).expect("removes");
    let status = Command::new("cp").arg("-a").arg(site.world.path("kept")).arg(site.world.path("node")).status();
    assert!(status.expect("cp").success());
}

/// The calls of a whole apply, in order: name, and how many of that name the thread made so far. strace counts each
/// name by itself.
fn calls(site: &Site, names: &str) -> Vec<(String, usize)> {
    let whole = traced(site, &["-e", &format!("trace={names}")]);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let trace = String::from_utf8(site.world.read("trace.txt")).expect("UTF-8");
    restore(site);
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let calls = trace.lines().filter_map(|line| {
        // `-f` puts the thread first; a line without `NAME(` is the end of an earlier one.
        let (thread, rest) = line.split_once(' ')?;
        let (name, _) = rest.trim_start().split_once('(')?;
        let count = counts.entry((thread, name)).or_default();
        *count += 1;
        Some((name.to_owned(), *count))
    });
    calls.collect()
}

#[test]
fn killed_at_twenty_spread_system_calls() {
    let site = Site::running();
    site.set("two", 2);
    keep(&site);
    let calls = calls(&site, CHANGES);
    assert!(calls.len() > 2 * HITS, "{} calls are too few to spread over", calls.len());
    let mut killed = 0;
    for hit in 0..HITS {
        let (name, at) = &calls[hit * (calls.len() - 1) / (HITS - 1)];
        let inject = format!("inject={name}:signal=SIGKILL:when={at}");
        let output = traced(&site, &["-e", &format!("trace={CHANGES}"), "-e", &inject]);
        if !output.status.success() {
            killed += 1;
        }
        site.node("status").exits(0);
        site.node("apply two --auto-approve").exits(0);
        site.is_whole(&[2]);
        let floors = String::from_utf8(site.world.read("node/trust/floors.json")).expect("UTF-8");
        assert!(floors.contains("\"serial\":2"), "{floors}");
        assert!(site.node("plan two").exits(0).stdout().contains("No changes."), "killed at {name} number {at}");
        restore(&site);
    }
    // A name that another thread shares may count otherwise; the last call may be of a cache.
    assert!(killed >= HITS - 2, "only {killed} of {HITS} were killed");
}

#[test]
fn a_full_disk_in_the_middle_leaves_the_old_generation_whole() {
    let site = Site::running();
    site.set("two", 2);
    keep(&site);
    let calls = calls(&site, "pwrite64").len();
    for at in [2, calls / 3, calls / 2] {
        let inject = format!("inject=pwrite64:error=ENOSPC:when={at}+");
        let output = traced(&site, &["-e", "trace=pwrite64", "-e", &inject]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "ENOSPC from write {at} of {calls} on: {said}");
        assert!(said.contains("io_error: ") && said.contains("No space left"), "{said}");
        site.is_whole(&[1]);
        site.node("apply two --auto-approve").exits(0);
        site.is_whole(&[2]);
        restore(&site);
    }
}
