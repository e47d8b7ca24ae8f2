//! The life of a node, through the binary: plans that write nothing, two processes, services that fail, drift, the
//! supervisor.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node::Site;
use crate::world::PASSWORD;

/// Starts `autonomy` on the node and does not wait for it.
pub(crate) fn start(site: &Site, arguments: &str, output: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_autonomy"))
        .args(arguments.split_whitespace())
        .current_dir(site.world.path(""))
        .env_clear()
        .env("COSIGN_PASSWORD", PASSWORD)
        .env("AUTONOMY_STATE_ROOT", "node")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(output)
        .spawn()
        .expect("starts")
}

/// Waits for something, at most 20 seconds.
#[track_caller]
pub(crate) fn await_that(what: &str, mut happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Gives every following release these service steps.
fn services(site: &Site, commands: &[&[&str]]) {
    let steps: Vec<Value> = commands.iter().map(|command| json!({ "command": command })).collect();
    let path = "manifests/base/manifest.yaml";
    let text = String::from_utf8(site.world.read(path)).expect("UTF-8");
    let mut kept: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with("  services:") {
            kept.push(format!("  services: {}", serde_json::to_string(&steps).expect("JSON")));
        } else if !line.starts_with("    - { command:") {
            kept.push(line.to_owned());
        }
    }
    site.world.write(path, kept.join("\n"));
}

#[test]
fn verbs_that_only_look_write_nothing() {
    let site = Site::running();
    site.set("two", 2);
    let before = site.snapshot_all();
    let file = site.world.path("facts.json");
    for verb in [
        "plan two",
        "plan two --output json",
        "plan two --output markdown",
        "plan two --verify-content",
        "plan one",
        "facts",
        "facts --os",
        "epoch show",
        "status",
        "status --output json",
        "verify two",
    ] {
        site.node(verb).exits(0);
        let after = site.snapshot_all();
        let changed: Vec<_> =
            before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path)).collect();
        assert!(changed.is_empty(), "`{verb}` changed {changed:?}");
    }
    std::fs::write(&file, site.node("facts --output json").exits(0).stdout()).expect("writes");
    site.world.run("verify two --trust-root root.json --node-facts facts.json").exits(0);
    site.node("plan two --detailed-exitcode").exits(2);
    site.node("plan one --detailed-exitcode").exits(0);
    let json = |verb: &str| site.node(verb).exits(0).stdout();
    assert_eq!(json("plan two --output json"), json("plan two --output json"), "the same plan twice");
    assert!(before == site.snapshot_all());
}

#[test]
fn a_second_apply_names_the_first() {
    let site = Site::running();
    services(&site, &[&["/bin/sleep", "4"]]);
    site.set("two", 2);
    site.set("three", 3);
    let mut first = start(&site, "apply two --auto-approve", Stdio::null());
    await_that("the switch", || site.world.read("node/journal/apply.json").windows(8).any(|w| w == b"switched"));
    let second = site.node("apply three --auto-approve").exits(6).warns("locked: ");
    assert!(second.stderr().contains(&first.id().to_string()), "{}", second.stderr());
    assert!(second.stderr().contains("apply"), "{}", second.stderr());
    let status = site.node("status").exits(0).stdout();
    assert!(status.contains(&format!("held by process {}", first.id())), "{status}");
    assert!(first.wait().expect("ends").success());
    site.is_whole(&[2]);
}

#[test]
fn a_service_that_fails_leads_back_and_is_not_tried_again() {
    let site = Site::running();
    let good = std::fs::read_link(site.world.path("node/current")).expect("current");
    services(&site, &[&["/bin/sh", "-c", "echo the port is taken >&2; exit 7"]]);
    site.set("two", 2);
    let failed = site.node("apply two --auto-approve").exits(8).warns("service_failed: ").warns("the port is taken");
    assert!(failed.stderr().contains("The switch was undone."), "{}", failed.stderr());
    assert_eq!(std::fs::read_link(site.world.path("node/current")).expect("current"), good);
    site.is_whole(&[1]);
    site.refuses("two", 5, "pinned");
    // On a node without an earlier release nothing is left active.
    let fresh = Site::bare();
    services(&fresh, &[&["/bin/false"]]);
    fresh.set("one", 1);
    fresh.node("apply one --auto-approve").exits(8);
    assert!(!fresh.world.has("node/current"));
}

#[test]
fn staged_then_applied_and_repeats() {
    let site = Site::running();
    site.set("two", 2);
    let staged = site.node("apply two --stage-only --auto-approve").exits(0);
    assert!(staged.stdout().contains("Nothing of it is active."), "{}", staged.stdout());
    site.is_whole(&[1]);
    let status = site.node("status").exits(0).stdout();
    assert!(status.contains("is staged; `autonomy apply` of its set goes on from there"), "{status}");
    let applied = site.node("apply two --auto-approve --json").exits(0).stdout();
    let lines: Vec<Value> = applied.lines().map(|line| serde_json::from_str(line).expect("JSON Lines")).collect();
    assert_eq!(lines[0]["type"], "version");
    assert!(lines.iter().any(|line| line["type"] == "planned_change"));
    assert_eq!(lines.last().map(|line| &line["outcome"]), Some(&json!("applied")));
    site.is_whole(&[2]);
    let generations = std::fs::read_dir(site.world.path("node/generations")).expect("folder").count();
    site.node("apply two --auto-approve").exits(0);
    assert_eq!(std::fs::read_dir(site.world.path("node/generations")).expect("folder").count(), generations);
    let outbox: Vec<_> = std::fs::read_dir(site.world.path("node/outbox")).expect("outbox").collect();
    assert_eq!(outbox.len(), 2, "both releases wait for the relay");
}

#[test]
fn drift_of_every_kind_is_shown_and_repaired() {
    let site = Site::running();
    let at = |name: &str| site.world.path(&format!("node/current/artifacts/{name}"));
    std::fs::write(at("etc/settings.toml"), "tampered").expect("content");
    std::fs::remove_file(at("etc/tools.json")).expect("missing");
    std::fs::write(at("etc/stray"), "x").expect("extra");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(at("bin/agent"), mode).expect("mode");
    let plan = site.node("plan one").exits(0).stdout();
    for word in ["drift_content", "drift_missing", "drift_extra", "drift_mode"] {
        assert!(plan.contains(word), "no {word} in\n{plan}");
    }
    site.node("apply one --auto-approve").exits(0);
    site.is_whole(&[1]);
    let current = std::fs::read_link(site.world.path("node/current")).expect("current");
    assert!(current.to_string_lossy().ends_with("-2"), "{}", current.display());
    assert!(site.node("plan one").exits(0).stdout().contains("No changes."));
}

#[test]
fn the_supervisor_runs_the_signed_agent_and_replaces_it() {
    let site = Site::bare();
    // `cat` waits for ever on the pipe that the test holds; bytes after the end of an ELF file do not matter to it.
    let cat = std::fs::read("/bin/cat").expect("cat");
    services(&site, &[&["/bin/true"]]);
    site.world.write("build/agent", &cat);
    site.set("one", 1);
    site.world.write("build/agent", [&cat[..], b"release two"].concat());
    site.set("two", 2);
    site.node("apply one --auto-approve").exits(0);
    let mut supervisor = start(&site, "run", Stdio::piped());
    let pid = || children(supervisor.id());
    let runs = |set: &str| {
        let signed = site.world.read(&format!("{set}/artifacts/bin/agent"));
        pid().first().is_some_and(|pid| std::fs::read(format!("/proc/{pid}/exe")).is_ok_and(|bytes| bytes == signed))
    };
    await_that("release one", || runs("one"));
    let first = pid();
    site.node("apply two --auto-approve").exits(0);
    await_that("release two", || runs("two"));
    assert!(!Path::new(&format!("/proc/{}", first[0])).exists(), "the old agent ended");
    // An agent that dies is started again.
    let second = pid();
    Command::new("kill").args(["-9", &second[0]]).status().expect("kill");
    await_that("the restart", || runs("two") && pid() != second);
    let last = pid();
    Command::new("kill").arg(supervisor.id().to_string()).status().expect("kill");
    assert!(supervisor.wait().expect("ends").success());
    assert!(!Path::new(&format!("/proc/{}", last[0])).exists(), "the agent ended with its supervisor");
    let mut said = String::new();
    supervisor.stderr.take().expect("stderr").read_to_string(&mut said).expect("reads");
    assert!(said.contains("the generation changed"), "{said}");
}

/// Process ids of the children of a process.
fn children(parent: u32) -> Vec<String> {
    let list = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    list.split_whitespace().map(str::to_owned).collect()
}
