//! `edged precheck` on a node, through the real binary: every exit code, what is rebuilt, what is told.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::disks::{Mount, may_mount, run};
use crate::node::Site;

/// Built beside `autonomy`.
pub(crate) fn program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_autonomy")).with_file_name("edged")
}

/// What one run said and how it ended.
pub(crate) struct Looked {
    pub(crate) exit: i32,
    pub(crate) report: Value,
    pub(crate) stderr: String,
}

impl Looked {
    /// The codes of errors, sorted.
    pub(crate) fn errors(&self) -> Vec<&str> {
        let findings = self.report["findings"].as_array().expect("findings");
        let errors = findings.iter().filter(|finding| finding["severity"] == "error");
        errors.filter_map(|finding| finding["code"].as_str()).collect()
    }

    #[track_caller]
    pub(crate) fn is(self, exit: i32, errors: &[&str]) -> Self {
        assert_eq!((self.exit, self.errors()), (exit, errors.to_vec()), "{:#}\n{}", self.report, self.stderr);
        assert_eq!(self.report["exit"], exit);
        self
    }
}

/// Runs a precheck of the site's node, whose operating system lies in `os`.
pub(crate) fn look(site: &Site, more: &str) -> Looked {
    let mut command = Command::new(program());
    command.current_dir(site.world.path(".")).args(["precheck", "--output", "json"]);
    command.args(more.split_whitespace());
    if !more.contains("--state-root") {
        command.args(["--state-root", "node"]);
    }
    if !more.contains("--os-root") {
        command.args(["--os-root", "os"]);
    }
    let ran = command.env_remove("AUTONOMY_STATE_ROOT").output().expect("runs");
    let report = serde_json::from_slice(&ran.stdout).unwrap_or(Value::Null);
    Looked { exit: ran.status.code().unwrap_or(-1), report, stderr: String::from_utf8_lossy(&ran.stderr).into_owned() }
}

/// A small operating system with cgroup v2, and nothing where reconstruction writes.
pub(crate) fn os(site: &Site, folder: &str, kernel: &str) {
    let write = |path: &str, text: &str| {
        let path = site.world.path(&format!("{folder}/{path}"));
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folders");
        std::fs::write(path, text).expect("writes");
    };
    write("proc/sys/kernel/osrelease", kernel);
    write("proc/sys/kernel/arch", "x86_64\n");
    write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda1 quiet\n");
    write("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
    write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    write("sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
}

/// A node that runs a release with reconstruction steps under the operating system in `os`, and relays nothing.
pub(crate) fn rebuilding() -> Site {
    let site = Site::bare();
    os(&site, "os", "6.1.0-1");
    site.set("one", 1);
    site.doctor("one", |manifest| {
        let spec = manifest["spec"].as_object_mut().expect("spec");
        spec.remove("relay");
        let steps = json!({ "steps": [
            { "copyBinary": { "artifact": "agent", "to": "/usr/local/bin/agent", "mode": "0755" } },
            { "writeFile": { "to": "/etc/autonomy/agent.conf", "content": "greeting = hello\n", "mode": "0640" } },
            { "symlink": { "at": "/opt/agent", "target": "/usr/local/bin/agent" } },
            { "directory": { "path": "/opt/state", "mode": "0750" } },
        ] });
        spec.insert("reconstruction".to_owned(), steps);
    });
    site.node("apply one --auto-approve --os-root os").exits(0);
    site
}

#[test]
fn a_replaced_system_is_seen_rebuilt_and_counted() {
    let site = rebuilding();
    assert!(site.world.has("os/usr/local/bin/agent"), "apply carries the steps out as well");
    let first = look(&site, "").is(0, &[]);
    assert_eq!((first.report["boot_epoch"].as_u64(), &first.report["reconstructed"]), (Some(1), &json!([])));
    os(&site, "new", "6.1.0-2");
    let before = site.snapshot_all();
    let dry = look(&site, "--os-root new --dry-run").is(0, &[]);
    assert_eq!(dry.report["reconstructed"].as_array().map(Vec::len), Some(4), "{}", dry.report);
    assert!(before == site.snapshot_all() && !site.world.has("new/usr"), "a dry run writes nothing");
    let facts = site.node("facts --output json --os-root new").exits(0).stdout();
    let facts: Value = serde_json::from_str(&facts).expect("JSON");
    assert!(facts["observed"]["findings"].to_string().contains("os_changed"), "{facts}");
    let second = look(&site, "--os-root new").is(0, &[]);
    assert_eq!(second.report["boot_epoch"], 2);
    let changed = &second.report["fingerprint"]["changed"];
    assert_eq!(changed, &json!([{ "component": "kernel", "old": "6.1.0-1", "new": "6.1.0-2" }]));
    assert_eq!(site.world.read("new/usr/local/bin/agent"), site.world.read("one/artifacts/bin/agent"));
    let shown: Value = serde_json::from_str(&site.node("epoch show --output json").exits(0).stdout()).expect("JSON");
    assert_eq!(shown["boot_epoch"], 2, "{shown}");
    let told = site.node("epoch verify --output json").exits(0).stdout();
    let verified: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((verified["verified"].as_u64(), &verified["chain"]["current"]["bootEpoch"]), (Some(1), &json!(2)));
    let again = look(&site, "--os-root new").is(0, &[]);
    assert_eq!(again.report["reconstructed"], json!([]));
}

#[test]
fn evidence_is_what_openssl_verifies_and_a_forged_one_counts_for_nothing() {
    let site = rebuilding();
    look(&site, "").is(0, &[]);
    os(&site, "new", "6.1.0-2");
    look(&site, "--os-root new").is(0, &[]);
    let bundle = site.world.read("node/epoch/current/evidence.json.sigstore.jsonl");
    let bundle: Value = serde_json::from_slice(&bundle).expect("JSON");
    let signature = bundle["messageSignature"]["signature"].as_str().expect("signature").to_owned();
    site.world.write("evidence.sig.b64", signature);
    let script = "base64 -d evidence.sig.b64 > evidence.sig && openssl dgst -sha256 -verify node/identity/attest.pub -signature \
                  evidence.sig node/epoch/current/evidence.json";
    let verified = Command::new("sh").args(["-c", script]).current_dir(site.world.path(".")).output().expect("runs");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    // 11 there, 2 here; fsck sets it aside, and the epoch goes on.
    let path = "node/epoch/current/evidence.json";
    let text = String::from_utf8(site.world.read(path)).expect("UTF-8").replace("\"bootEpoch\":2", "\"bootEpoch\":7");
    site.world.write(path, text);
    site.node("epoch verify").exits(11).warns("evidence_forged: ");
    look(&site, "--os-root new").is(2, &["evidence_forged"]);
    site.node("fsck --os-root new").exits(11);
    site.node("fsck --repair --os-root new").exits(0);
    assert_eq!(look(&site, "--os-root new").is(0, &[]).report["boot_epoch"], 2);
    os(&site, "newest", "6.1.0-3");
    assert_eq!(look(&site, "--os-root newest").is(0, &[]).report["boot_epoch"], 3);
}

#[test]
fn a_step_that_fails_ends_with_5_and_the_next_run_does_it_again() {
    let site = rebuilding();
    look(&site, "").is(0, &[]);
    os(&site, "new", "6.1.0-2");
    std::fs::create_dir_all(site.world.path("new/usr/local/bin/agent")).expect("folder");
    let failed = look(&site, "--os-root new").is(5, &["reconstruction_failed"]);
    assert_eq!(failed.report["boot_epoch"], 1);
    std::fs::remove_dir(site.world.path("new/usr/local/bin/agent")).expect("removes");
    std::os::unix::fs::symlink("/etc/shadow", site.world.path("new/usr/local/bin/agent")).expect("links");
    look(&site, "--os-root new").is(5, &["destination_refused"]);
    std::fs::remove_file(site.world.path("new/usr/local/bin/agent")).expect("removes");
    assert_eq!(look(&site, "--os-root new").is(0, &[]).report["boot_epoch"], 2);
}

#[test]
fn each_part_of_the_node_has_its_exit_code_and_the_lowest_wins() {
    let site = rebuilding();
    look(&site, "").is(0, &[]);
    let mode = |path: &str, bits| {
        std::fs::set_permissions(site.world.path(path), std::fs::Permissions::from_mode(bits)).expect("mode");
    };
    // 1: clock, configuration.
    look(&site, "--now 2020-01-01T00:00:00Z").is(1, &["clock_behind", "clock_behind", "clock_behind"]);
    std::fs::create_dir_all(site.world.path("node/edge")).expect("folder");
    site.world.write("node/edge/local.toml", "listen = \"0.0.0.0:7443\"\nstranger = 1\n");
    let both = look(&site, "");
    assert_eq!(both.exit, 1, "{}", both.report);
    assert!(both.errors().contains(&"bad_value") && both.errors().contains(&"certificate_missing"), "{}", both.report);
    // 3: a node that takes part in a relay needs certificates.
    site.world.write("node/edge/local.toml", "listen = \"0.0.0.0:7443\"\n");
    look(&site, "").is(3, &["certificate_missing"]);
    std::fs::remove_file(site.world.path("node/edge/local.toml")).expect("removes");
    // 3: a private key that others may read.
    mode("node/identity/attest.key", 0o644);
    look(&site, "").is(3, &["key_exposed"]);
    mode("node/identity/attest.key", 0o600);
    // 2: the state root.
    let record = site.world.read("node/bootstrap/os_fingerprint.json");
    site.world.write("node/bootstrap/os_fingerprint.json", &record[..40]);
    look(&site, "").is(2, &["corrupt_state"]);
    site.world.write("node/bootstrap/os_fingerprint.json", &record);
    mode("node", 0o777);
    look(&site, "").is(2, &["state_root_unsafe"]);
    mode("node", 0o700);
    look(&site, "--state-root absent").is(2, &["not_initialized"]);
    look(&site, "").is(0, &[]);
}

#[test]
fn text_and_json_tell_the_same_and_a_held_lock_is_named() {
    let site = rebuilding();
    let mut command = Command::new(program());
    command.current_dir(site.world.path(".")).args(["precheck", "--state-root", "node", "--os-root", "os"]);
    let text = String::from_utf8(command.output().expect("runs").stdout).expect("UTF-8");
    assert!(text.contains("boot epoch        1\n") && text.contains("remedy: "), "{text}");
    let lock = std::fs::File::open(site.world.path("node/LOCK")).expect("lock");
    lock.lock().expect("locks");
    look(&site, "").is(2, &["locked"]);
    look(&site, "--dry-run").is(0, &[]);
}

#[test]
fn certificates_are_rotated_by_a_ca_on_the_node_when_they_are_due() {
    let site = rebuilding();
    std::fs::create_dir_all(site.world.path("node/edge")).expect("folder");
    site.world.write("node/edge/local.toml", "listen = \"0.0.0.0:7443\"\n");
    site.world.run("cert ca init --dir ca --fleet harbor").exits(0);
    look(&site, "").is(3, &["certificate_missing"]);
    let first = look(&site, "--rotate-certs --ca ca").is(0, &[]);
    let serial = first.report["rotated"].as_str().expect("rotated").to_owned();
    site.node("cert check").exits(0);
    let again = look(&site, "--rotate-certs --ca ca").is(0, &[]);
    assert_eq!(again.report.get("rotated"), None, "nothing is due");
    let facts = site.node("facts --output json --os-root os").exits(0).stdout();
    let facts: Value = serde_json::from_str(&facts).expect("JSON");
    assert_eq!(facts["bound"]["identity"]["certificate"], serial.as_str(), "{facts}");
    // 90 days: 87 later it ends within the window of 7 days, and the list has ended long ago.
    let later = in_days(87);
    let due = look(&site, &format!("--now {later}"));
    assert_eq!(due.exit, 3, "{}", due.report);
    let rotated = look(&site, &format!("--rotate-certs --ca ca --now {later}")).is(0, &[]);
    assert_ne!(rotated.report["rotated"], serial.as_str());
    let listed = String::from_utf8(site.world.read("ca/ca.json")).expect("UTF-8");
    assert!(
        listed.contains(&serial) && listed.contains(rotated.report["rotated"].as_str().expect("rotated")),
        "{listed}"
    );
    // A CA that this node does not trust, one of another fleet, no CA at all: nothing is replaced.
    site.world.run("cert ca init --dir stranger --fleet harbor").exits(0);
    let stranger = look(&site, &format!("--rotate-certs --ca stranger --now {}", in_days(174)));
    assert!(stranger.errors().contains(&"certificate_untrusted") && stranger.exit == 3, "{}", stranger.report);
    site.world.run("cert ca init --dir other --fleet other").exits(0);
    let much_later = in_days(174);
    look(&site, &format!("--rotate-certs --ca absent --now {much_later}"));
    let refused = look(&site, &format!("--rotate-certs --ca other --now {much_later}"));
    assert!(refused.errors().contains(&"scope_mismatch") && refused.exit == 3, "{}", refused.report);
    assert_eq!(refused.report.get("rotated"), None);
}

#[test]
fn a_unit_that_systemd_refuses_is_not_enabled_and_a_good_one_is() {
    let site = Site::bare();
    os(&site, "os", "6.1.0-1");
    os(&site, "new", "6.1.0-2");
    std::fs::create_dir_all(site.world.path("build")).expect("folder");
    for (unit, exit) in
        [("[Service]\nExecStart=/usr/local/bin/absent\n[Install]\nWantedBy=multi-user.target\n", 8), (UNIT, 0)]
    {
        site.world.write("build/agent", unit);
        let name = format!("set-{exit}");
        site.set(&name, if exit == 0 { 2 } else { 1 });
        site.doctor(&name, |manifest| {
            let spec = manifest["spec"].as_object_mut().expect("spec");
            spec.remove("relay");
            let steps = json!({ "steps": [
                { "writeFile": { "to": "/usr/local/bin/probe", "content": "#!/bin/sh\n", "mode": "0755" } },
                { "systemdUnit": { "name": "probe.service", "artifact": "agent", "enable": true } },
            ] });
            spec.insert("reconstruction".to_owned(), steps);
            spec.remove("health");
            spec.remove("services");
        });
        let ran = site.node(&format!("apply {name} --auto-approve --os-root os")).exits(exit);
        let link = site.world.path("os/etc/systemd/system/multi-user.target.wants/probe.service");
        assert_eq!(link.symlink_metadata().is_ok(), exit == 0, "{}", ran.stderr());
        // What the refused release alone wanted is taken back with it.
        assert_eq!(site.world.has("os/etc/systemd/system/probe.service"), exit == 0, "{}", ran.stderr());
        assert_eq!(site.world.has("os/usr/local/bin/probe"), exit == 0);
    }
    look(&site, "").is(0, &[]);
    look(&site, "--os-root new").is(0, &[]);
    let link = site.world.path("new/etc/systemd/system/multi-user.target.wants/probe.service");
    assert_eq!(std::fs::read_link(link).expect("link"), Path::new("/etc/systemd/system/probe.service"));
}

/// A unit whose program a step writes.
const UNIT: &str = "[Service]\nExecStart=/usr/local/bin/probe\n[Install]\nWantedBy=multi-user.target\n";

/// So many days from now.
fn in_days(days: u64) -> String {
    let ran = Command::new("date")
        .args(["-u", "-d", &format!("+{days} days"), "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .expect("runs");
    String::from_utf8(ran.stdout).expect("UTF-8").trim().to_owned()
}

#[test]
fn a_full_or_read_only_system_ends_with_5_and_is_made_good_later() {
    let site = rebuilding();
    look(&site, "").is(0, &[]);
    if !may_mount() {
        return;
    }
    std::fs::create_dir(site.world.path("new")).expect("folder");
    run("mount", &["-t", "tmpfs", "-o", "size=64k", "tmpfs", "new"], &site);
    let mounted = Mount(site.world.path("new"));
    os(&site, "new", "6.1.0-2");
    // Writes until nothing more fits.
    let mut filler = std::fs::File::create(site.world.path("new/filler")).expect("file");
    while std::io::Write::write_all(&mut filler, &[7; 512]).is_ok() {}
    drop(filler);
    let full = look(&site, "--os-root new").is(5, &["reconstruction_failed"]);
    assert!(full.report.to_string().contains("No space left"), "{}", full.report);
    std::fs::remove_file(site.world.path("new/filler")).expect("removes");
    run("mount", &["-o", "remount,ro", "new"], &site);
    let read_only = look(&site, "--os-root new").is(5, &["reconstruction_failed"]);
    assert!(read_only.report.to_string().contains("Read-only file system"), "{}", read_only.report);
    assert_eq!(read_only.report["boot_epoch"], 1);
    run("mount", &["-o", "remount,rw", "new"], &site);
    assert_eq!(look(&site, "--os-root new").is(0, &[]).report["boot_epoch"], 2);
    drop(mounted);
}
