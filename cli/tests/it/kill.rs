//! SIGKILL and failing system calls on the real file system, injected by strace.

use std::collections::BTreeMap;
use std::process::Command;

use crate::node::Site;
use crate::world::PASSWORD;

/// System calls that change a file system.
pub(crate) const CHANGES: &str = "pwrite64,ftruncate,fsync,fdatasync,syncfs,rename,renameat,renameat2,linkat,symlinkat,mkdirat,unlinkat,fchmod,fchmodat";
/// How many of them are hit.
const HITS: usize = 20;

const APPLY: &str = "apply two --auto-approve";

/// Runs a verb on the node under strace.
pub(crate) fn traced(site: &Site, verb: &str, options: &[&str]) -> std::process::Output {
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

/// A copy of the node as it was, and back.
pub(crate) fn keep(site: &Site) {
    let status = Command::new("cp").arg("-a").arg(site.world.path("node")).arg(site.world.path("kept")).status();
    assert!(status.expect("cp").success());
}

pub(crate) fn restore(site: &Site) {
    std::fs::remove_dir_all(site.world.path("node")).expect("removes");
    let status = Command::new("cp").arg("-a").arg(site.world.path("kept")).arg(site.world.path("node")).status();
    assert!(status.expect("cp").success());
}

/// The calls of a whole run, in order: name, and how many of that name the thread made so far. strace counts each
/// name by itself.
pub(crate) fn calls(site: &Site, verb: &str, names: &str) -> Vec<(String, usize)> {
    let whole = traced(site, verb, &["-e", &format!("trace={names}")]);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let trace = String::from_utf8(site.world.read("trace.txt")).expect("UTF-8");
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

/// Runs a verb and kills it at this call; gives whether it died.
pub(crate) fn kill(site: &Site, verb: &str, (name, at): &(String, usize)) -> bool {
    let inject = format!("inject={name}:signal=SIGKILL:when={at}");
    !traced(site, verb, &["-e", &format!("trace={CHANGES}"), "-e", &inject]).status.success()
}

#[test]
fn killed_at_twenty_spread_system_calls() {
    let site = Site::running();
    site.set("two", 2);
    keep(&site);
    let calls = calls(&site, APPLY, CHANGES);
    restore(&site);
    assert!(calls.len() > 2 * HITS, "{} calls are too few to spread over", calls.len());
    let mut killed = 0;
    for hit in 0..HITS {
        let call = &calls[hit * (calls.len() - 1) / (HITS - 1)];
        killed += usize::from(kill(&site, APPLY, call));
        site.node("status").exits(0);
        site.node("apply two --auto-approve").exits(0);
        site.is_whole(&[2]);
        let floors = String::from_utf8(site.world.read("node/trust/floors.json")).expect("UTF-8");
        assert!(floors.contains("\"serial\":2"), "{floors}");
        assert!(site.node("plan two").exits(0).stdout().contains("No changes."), "killed at {call:?}");
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
    let calls = calls(&site, APPLY, "pwrite64").len();
    restore(&site);
    for at in [2, calls / 3, calls / 2] {
        let inject = format!("inject=pwrite64:error=ENOSPC:when={at}+");
        let output = traced(&site, APPLY, &["-e", "trace=pwrite64", "-e", &inject]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "ENOSPC from write {at} of {calls} on: {said}");
        assert!(said.contains("io_error: ") && said.contains("No space left"), "{said}");
        site.is_whole(&[1]);
        site.node("apply two --auto-approve").exits(0);
        site.is_whole(&[2]);
        restore(&site);
    }
}

#[test]
fn killed_again_while_it_recovers() {
    let site = Site::running();
    site.set("two", 2);
    keep(&site);
    let first = calls(&site, APPLY, CHANGES);
    // Before the switch, about it, and after it.
    for hit in [first.len() / 3, first.len() * 2 / 3, first.len() * 4 / 5, first.len() * 9 / 10] {
        restore(&site);
        kill(&site, APPLY, &first[hit]);
        for again in [3, 9, 17] {
            kill(&site, APPLY, first.get(again).expect("many calls"));
            site.node("status").exits(0);
            site.is_whole(&[1, 2]);
        }
        site.node(APPLY).exits(0);
        site.is_whole(&[2]);
        assert!(site.node("plan two").exits(0).stdout().contains("No changes."), "killed at {:?}", first[hit]);
        let tmp = std::fs::read_dir(site.world.path("node/objects")).expect("objects");
        let left = tmp.filter(|entry| entry.as_ref().expect("entry").file_name().to_string_lossy().starts_with('.'));
        assert_eq!(left.count(), 0, "half-written objects are left");
    }
}

#[test]
fn an_init_that_is_killed_can_be_run_again() {
    let site = Site::bare();
    site.set("one", 1);
    let init = "init --node-id node-a --fleet harbor --label site=pier-7 --hardware x86_64 --trust-root root.json";
    let clear = || std::fs::remove_dir_all(site.world.path("node")).expect("removes");
    clear();
    let calls = calls(&site, init, CHANGES);
    site.node(init).exits(1).warns("already");
    for hit in 0..HITS / 2 {
        clear();
        let call = &calls[hit * (calls.len() - 1) / (HITS / 2 - 1)];
        kill(&site, init, call);
        if site.world.has("node/node.yaml") {
            site.node("status").exits(0);
        } else {
            site.node(init).exits(0);
        }
        site.node("apply one --auto-approve").exits(0);
        site.is_whole(&[1]);
    }
}

#[test]
fn a_first_activation_that_is_killed_leaves_nothing_or_the_release() {
    let site = Site::bare();
    site.set("two", 2);
    keep(&site);
    let calls = calls(&site, APPLY, CHANGES);
    for part in 1..6 {
        restore(&site);
        kill(&site, APPLY, &calls[calls.len() * part / 6]);
        site.node("status").exits(0);
        if site.world.has("node/current") {
            site.is_whole(&[2]);
        }
        site.node(APPLY).exits(0);
        site.is_whole(&[2]);
    }
}
