//! Confirmation and health, through the binary: in time, too late, across reboots; commands that misbehave.

use std::process::Stdio;
use std::time::{Duration, Instant};

use autonomy_schema::canonical;
use serde_json::{Value, json};

use crate::life::{await_that, start};
use crate::node::Site;

/// A node that runs release 1, and `two`, which wants this of its node.
fn site(change: impl FnOnce(&mut Value)) -> Site {
    let site = Site::running();
    site.set("two", 2);
    site.doctor("two", |manifest| change(&mut manifest["spec"]));
    site
}

/// A node whose release 2 waits to be confirmed.
pub(crate) fn waiting() -> Site {
    let site = site(|spec| spec["confirm"] = json!({ "within": "5m" }));
    site.node("apply two --auto-approve").exits(0);
    site
}

/// Edits the wait in the journal: what a reboot or the passing of time would have done to it.
fn edit_wait(site: &Site, node: &str, edit: impl FnOnce(&mut Value)) {
    let path = format!("{node}/journal/apply.json");
    let mut journal: Value = serde_json::from_slice(&site.world.read(&path)).expect("JSON");
    edit(&mut journal["waiting"]);
    site.world.write(&path, canonical::to_bytes(&journal).expect("canonical"));
}

/// The kernel's boot id is another one than when the wait began.
pub(crate) fn reboot(site: &Site) {
    edit_wait(site, "node", |waiting| waiting["bootId"] = json!("00000000-0000-4000-8000-000000000000"));
}

/// The window opened at the beginning of this boot, and was short.
pub(crate) fn run_out(site: &Site, node: &str) {
    edit_wait(site, node, |waiting| {
        waiting["sinceMs"] = json!(0);
        waiting["within"] = json!("1ms");
    });
}

fn current(site: &Site) -> String {
    let link = std::fs::read_link(site.world.path("node/current")).expect("current");
    link.file_name().expect("name").to_string_lossy().into_owned()
}

#[test]
fn a_release_is_confirmed_in_time_and_goes_on_to_peers_then() {
    let site = waiting();
    let outbox = || std::fs::read_dir(site.world.path("node/outbox")).expect("outbox").count();
    assert_eq!(outbox(), 1, "what nobody confirmed is not passed on");
    assert!(!current(&site).is_empty() && site.world.has("node/lkg"));
    assert_ne!(
        std::fs::read_link(site.world.path("node/lkg")).expect("lkg"),
        std::fs::read_link(site.world.path("node/current")).expect("current")
    );
    // Nothing holds the lock meanwhile, and looking does not touch the wait.
    let before = site.snapshot_all();
    for verb in ["plan two", "status", "facts", "generations", "history", "confirm --expire", "gc --dry-run"] {
        site.node(verb);
    }
    assert!(before == site.snapshot_all(), "a verb that only looks changed something");
    assert!(site.node("plan two").exits(0).stdout().contains("No changes."));
    let other = site.fingerprint("one");
    site.node(&format!("confirm {other}")).exits(1).warns("not_waiting: ");
    let said = site.node(&format!("confirm {}", site.fingerprint("two"))).exits(0).stdout();
    assert!(said.contains("is the last known good generation"), "{said}");
    assert_eq!(outbox(), 2);
    assert!(site.node("confirm").exits(0).stdout().contains("is confirmed"), "said twice");
    site.is_whole(&[2]);
    assert!(site.node("confirm --expire").exits(0).stdout().contains("Nothing waits"));
}

#[test]
fn without_a_word_in_time_the_node_returns_and_does_not_try_again() {
    let site = waiting();
    run_out(&site, "node");
    // Too late is too late, also for the one who comes to say it.
    site.copy("node", "later");
    site.world.run("confirm --state-root later").exits(8).warns("confirm_expired: ");
    site.node("confirm --expire").exits(8).warns("confirm_expired: nobody confirmed");
    assert!(current(&site).starts_with("1-"));
    site.is_whole(&[1]);
    site.refuses("two", 5, "pinned");
    let pin = site.fingerprint("two").hex();
    site.node("unpin 00000000").exits(1).warns("not_pinned: ");
    site.node(&format!("unpin {}", &pin[..12])).exits(0);
    site.node("apply two --auto-approve").exits(0);
    site.node("confirm").exits(0);
    site.is_whole(&[2]);
}

#[test]
fn one_reboot_restarts_the_window_and_a_second_one_returns() {
    let site = waiting();
    reboot(&site);
    let status = site.node("status").exits(0).stdout();
    assert!(status.contains("the machine was started anew"), "{status}");
    site.node("confirm --expire").exits(0).warns("begins again, once");
    let status = site.node("status").exits(0).stdout();
    assert!(status.contains("or after another reboot"), "{status}");
    site.node("confirm --expire").exits(0);
    assert!(current(&site).starts_with("2-"));
    reboot(&site);
    site.node("confirm --expire").exits(8).warns("the machine was started anew twice");
    site.is_whole(&[1]);
}

/// Another boot id and another time since boot, as the kernel itself says them: in namespaces of their own.
#[test]
fn the_kernels_own_boot_id_and_clock_decide() {
    if std::env::var_os("AUTONOMY_SKIP_MOUNT").is_some() {
        println!("NOT RUN: AUTONOMY_SKIP_MOUNT is set");
        return;
    }
    let site = waiting();
    site.world.write("boot_id", "11111111-2222-4333-8444-555555555555\n");
    let binary = env!("CARGO_BIN_EXE_autonomy");
    let in_namespace = |flags: &str, before: &str, verb: &str| {
        let script = format!("{before} exec {binary} {verb} --state-root node");
        let ran = std::process::Command::new("unshare")
            .args(flags.split_whitespace())
            .args(["--", "/bin/sh", "-c", &script])
            .current_dir(site.world.path(""))
            .env("NO_COLOR", "1")
            .output()
            .expect("unshare");
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    // An hour passes, whatever the wall clock says: this is BOOTTIME, which nobody sets.
    let passed = "--fork --time --boottime 3600";
    let status = in_namespace(passed, "", "status");
    assert_eq!(status.0, Some(0), "{}", status.1);
    let mount = "mount --bind boot_id /proc/sys/kernel/random/boot_id &&";
    let rebooted = in_namespace("--mount", mount, "confirm --expire");
    assert_eq!(rebooted.0, Some(0), "{}", rebooted.1);
    assert!(rebooted.1.contains("begins again, once"), "{}", rebooted.1);
    // Back on the first boot id: that is a second reboot.
    site.node("confirm --expire").exits(8).warns("started anew twice");
    site.is_whole(&[1]);
    let site_two = waiting();
    let script = format!("exec {binary} confirm --expire --state-root node");
    let ran = std::process::Command::new("unshare")
        .args(passed.split_whitespace())
        .args(["--", "/bin/sh", "-c", &script])
        .current_dir(site_two.world.path(""))
        .output()
        .expect("unshare");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(8), "{said}");
    assert!(said.contains("within 5m"), "{said}");
}

#[test]
fn a_newer_release_takes_over_and_a_stage_only_one_does_not() {
    let site = waiting();
    site.set("three", 3);
    site.node("apply three --stage-only --auto-approve").exits(0);
    let status = site.node("status").exits(0).stdout();
    assert!(status.contains("`autonomy confirm` within") && status.contains("is staged"), "{status}");
    // What is staged does not stop the clock of what waits.
    let path = "node/journal/apply.json";
    let mut journal: Value = serde_json::from_slice(&site.world.read(path)).expect("JSON");
    let saved = site.world.read(path);
    journal["supersedes"]["waiting"]["sinceMs"] = json!(0);
    journal["supersedes"]["waiting"]["within"] = json!("1ms");
    site.world.write(path, canonical::to_bytes(&journal).expect("canonical"));
    site.copy("node", "late");
    site.world.run("confirm --expire --state-root late").exits(8).warns("confirm_expired: ");
    assert!(std::fs::read_link(site.world.path("late/current")).expect("current").to_string_lossy().contains("/1-"));
    site.world.write(path, &saved);
    // Carried on, it takes over: release 2 neither failed nor was confirmed.
    site.node("apply three --auto-approve").exits(0);
    site.is_whole(&[3]);
    let status: Value = serde_json::from_str(&site.node("status --output json").exits(0).stdout()).expect("JSON");
    assert_eq!(status["pinned"], json!([]));
    assert_eq!(status["awaiting"], Value::Null);
    assert!(status["lkg"].as_str().is_some_and(|lkg| lkg.starts_with("3-")));
}

#[test]
fn the_supervisor_returns_where_there_is_no_timer() {
    let site = waiting();
    run_out(&site, "node");
    let mut supervisor = start(&site, "run", Stdio::null());
    await_that("the return", || current(&site).starts_with("1-"));
    std::process::Command::new("kill").arg(supervisor.id().to_string()).status().expect("kill");
    supervisor.wait().expect("ends");
    site.is_whole(&[1]);
}

#[test]
fn the_loop_returns_in_time() {
    let site = site(|spec| spec["confirm"] = json!({ "within": "3s" }));
    let started = Instant::now();
    let mut child = start(&site, "reconcile --source two --interval 60s", Stdio::null());
    await_that("release 2", || current(&site).starts_with("2-"));
    await_that("the return", || current(&site).starts_with("1-"));
    assert!(started.elapsed() < Duration::from_secs(20), "the loop woke up for it, long before its interval");
    std::process::Command::new("kill").arg(child.id().to_string()).status().expect("kill");
    child.wait().expect("ends");
    site.is_whole(&[1]);
}

/// Processes whose command line holds this word.
fn processes(word: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("proc").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).replace('\0', " ").contains(word)).count()
}

#[test]
fn health_commands_that_misbehave() {
    let shell = |script: &str| json!({ "command": ["/bin/sh", "-c", script], "timeout": "2s" });
    let cases = [
        (json!({ "command": ["bin/absent"], "timeout": "2s" }), "cannot start"),
        (shell("sleep 611"), "took longer than 2000 ms and was killed"),
        (shell("setsid sleep 612 & setsid sleep 612 & sleep 612"), "took longer than 2000 ms and was killed"),
        (
            json!({ "command": ["/bin/sh", "-c", "head -c 1073741824 /dev/zero; echo the end; exit 3"], "timeout": "1m" }),
            "the end",
        ),
        (shell("kill -9 $$"), "ended by signal 9"),
        (
            shell(
                "dd if=/dev/zero of=/tmp/autonomy-health-$$ bs=1M count=80 2>/dev/null; r=$?; rm -f /tmp/autonomy-health-$$; exit $r",
            ),
            "exit status",
        ),
    ];
    let site = site(|_| {});
    for (health, says) in cases {
        site.copy("node", "try");
        site.doctor("two", |manifest| manifest["spec"]["health"] = health.clone());
        let ran =
            site.world.run("apply two --auto-approve --state-root try").exits(8).warns("health_failed: ").warns(says);
        assert!(ran.stderr().len() < 12_000, "{health}: {} bytes", ran.stderr().len());
        let current = std::fs::read_link(site.world.path("try/current")).expect("current");
        assert!(current.to_string_lossy().contains("/1-"), "{health}");
        let pins = std::fs::read_to_string(site.world.path("try/pins.json")).expect("pins");
        assert!(pins.contains(&site.fingerprint("two").hex()), "{health}: {pins}");
        std::fs::remove_dir_all(site.world.path("try")).expect("removed");
    }
    assert_eq!(processes("sleep 611") + processes("sleep 612"), 0, "what the command started ended with it");
}

#[test]
fn a_healthy_command_leaves_nothing_behind_and_has_limits() {
    let script = "setsid sleep 613 & test $(ulimit -c) = 0 && test $(ulimit -n) -le 1024 && test -z \"$HOME\"";
    let site = site(|spec| spec["health"] = json!({ "command": ["/bin/sh", "-c", script], "timeout": "5s" }));
    site.node("apply two --auto-approve").exits(0);
    assert_eq!(processes("sleep 613"), 0, "a daemon that forked away was ended");
    site.is_whole(&[2]);
    let history = site.node("history").exits(0).stdout();
    assert!(history.contains("~ health"), "{history}");
}

#[test]
fn a_check_dies_with_the_apply_that_asked() {
    let site = site(|spec| {
        spec["health"] = json!({ "command": ["/bin/sh", "-c", "setsid sleep 614 & sleep 614"], "timeout": "5m" });
    });
    let mut apply = start(&site, "apply two --auto-approve", Stdio::null());
    await_that("the health command", || processes("sleep 614") >= 2);
    apply.kill().expect("SIGKILL");
    apply.wait().expect("ends");
    await_that("the end of what it started", || processes("sleep 614") == 0);
    let status = site.node("status").exits(0).stdout();
    assert!(status.contains("was cut off after its switch"), "{status}");
}

fn repository() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// From a failed update to the automatic return and the next good one.
#[test]
fn the_story_is_told() {
    let output = std::process::Command::new(repository().join("examples/automatic-return/run"))
        .env("AUTONOMY", env!("CARGO_BIN_EXE_autonomy"))
        .output()
        .expect("runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let places: Vec<Option<usize>> = [
        "is active. Run `autonomy confirm` within 5s, or 1-",
        "Returned: confirm_expired: ",
        "Confirmed. 3-",
        "Returned. 1-",
        "The state root is sound",
    ]
    .map(|text| told.find(text))
    .into();
    assert!(places.is_sorted() && places[0].is_some(), "{places:?} in\n{told}");
}

/// The unit's own command line, and what systemd says to the files. That systemd fires them is shown in
/// `ci/guest`: here it is not process 1.
#[test]
fn the_units_are_sound_and_their_command_returns() {
    let site = waiting();
    run_out(&site, "node");
    let binary = env!("CARGO_BIN_EXE_autonomy");
    let state_root = site.world.path("node").display().to_string();
    for unit in ["autonomy-confirm.service", "autonomy-confirm.timer"] {
        let text = std::fs::read_to_string(repository().join("units").join(unit)).expect("unit");
        let text = text.replace("/usr/local/bin/autonomy", binary).replace("/var/lib/autonomy", &state_root);
        site.world.write(unit, &text);
    }
    let verified = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no", "autonomy-confirm.service", "autonomy-confirm.timer"])
        .current_dir(site.world.path(""))
        .output()
        .expect("systemd-analyze");
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    let ours = said.lines().filter(|line| line.contains("autonomy-confirm")).collect::<Vec<_>>();
    assert!(verified.status.success() && ours.is_empty(), "{said}");
    let service = String::from_utf8(site.world.read("autonomy-confirm.service")).expect("UTF-8");
    let value = |name: &str| {
        let line = service.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name}")).to_owned()
    };
    let command = value("ExecStart");
    let mut words = command.split(' ');
    let (name, root) = value("Environment").split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("pair");
    let ran = std::process::Command::new(words.next().expect("program"))
        .args(words)
        .env_clear()
        .env(name, root)
        .current_dir("/")
        .output()
        .expect("runs");
    let code = ran.status.code().expect("code");
    assert_eq!(code, 8, "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(value("SuccessExitStatus").split(' ').any(|success| success == code.to_string()));
    site.is_whole(&[1]);
}
