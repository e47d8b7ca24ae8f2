//! What a hostile medium, a careless machine or a script may do beyond the table of refusals: bundles that are bombs,
//! pipes in the place of files, terminal escapes in signed texts, a closed or full stdout, damage of the state root.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use autonomy_schema::lock::Lock;
use autonomy_schema::{Document as _, Sha256, document};
use serde_json::{Value, json};

use crate::node::Site;
use crate::world::PASSWORD;

/// Puts these bytes into the set as the policy bundle, pinned and signed by two.
pub(crate) fn with_policy(site: &Site, name: &str, bytes: &[u8]) {
    site.copy("two", name);
    site.world.write(&format!("{name}/policy.tar.gz"), bytes);
    let mut lock: Lock = document::parse(&site.world.read(&format!("{name}/autonomy.lock.json"))).expect("lock");
    lock.policy_bundle.digest = Sha256::of(bytes);
    lock.behavioral_fingerprint = lock.computed_fingerprint().expect("fingerprint");
    let lock_bytes = lock.to_canonical().expect("lock");
    site.world.write(&format!("{name}/autonomy.lock.json"), &lock_bytes);
    site.sign(name);
    site.doctor(name, |manifest| {
        let spec = &mut manifest["spec"];
        spec["lock"]["digest"] = json!(Sha256::of(&lock_bytes));
        spec["lock"]["size"] = json!(lock_bytes.len());
        spec["lock"]["fingerprint"] = json!(lock.behavioral_fingerprint);
        spec["release"]["targetLockFingerprint"] = json!(lock.behavioral_fingerprint);
        spec["release"].as_object_mut().expect("release").remove("policyRef");
        manifest["spec"]["policy"]["digest"] = json!(Sha256::of(bytes));
        manifest["spec"]["policy"]["size"] = json!(bytes.len());
    });
}

/// What a shell makes of `script`, in the folder of the site.
fn shell(site: &Site, script: &str) -> std::process::Output {
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(site.world.path(""))
        .env("AUTONOMY", env!("CARGO_BIN_EXE_autonomy"))
        .env("AUTONOMY_STATE_ROOT", "node")
        .env("COSIGN_PASSWORD", PASSWORD)
        .output();
    output.expect("sh")
}

#[test]
fn policy_bundles_that_are_none_or_are_bombs() {
    let site = Site::running();
    site.set("two", 2);
    with_policy(&site, "no-archive", b"not gzip at all");
    site.refuses("no-archive", 4, "policy_error");
    // Four times the cap: as zeros, and as a tar of one file.
    let bomb = shell(&site, "head -c 268435456 /dev/zero | gzip -1").stdout;
    with_policy(&site, "bomb", &bomb);
    site.refuses("bomb", 4, "policy_error");
    let large = shell(&site, "truncate -s 256M update.rego && tar -cf - update.rego | gzip -1; rm update.rego").stdout;
    with_policy(&site, "large", &large);
    let capped = shell(&site, "ulimit -v 500000; exec $AUTONOMY plan large");
    assert_eq!(capped.status.code(), Some(4), "{}", String::from_utf8_lossy(&capped.stderr));
    site.refuses("large", 4, "policy_error");
    let linked = shell(&site, "ln -s /etc/passwd update.rego && tar -czf - update.rego; rm update.rego").stdout;
    with_policy(&site, "linked", &linked);
    site.refuses("linked", 4, "policy_error");
    // A pin above the cap is refused by the pin alone.
    site.copy("two", "huge-pin");
    site.doctor("huge-pin", |manifest| manifest["spec"]["policy"]["size"] = json!(1_u64 << 40));
    site.refuses("huge-pin", 3, "document_too_large");
}

#[test]
fn pipes_and_folders_in_the_place_of_files_are_refused_without_waiting() {
    let site = Site::running();
    site.set("two", 2);
    let names = ["manifest.json", "manifest.json.sigstore.jsonl", "autonomy.lock.json", "policy.tar.gz"];
    for (at, name) in names.into_iter().chain(["artifacts/bin/agent", "segments/agent.idx"]).enumerate() {
        let set = format!("pipe-{at}");
        site.copy("two", &set);
        shell(&site, &format!("rm {set}/{name} && mkfifo {set}/{name}"));
        let output = shell(&site, &format!("timeout 10 $AUTONOMY apply {set} --auto-approve"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{name}: {said}");
        assert!(said.contains("symlink_refused: "), "{name}: {said}");
    }
    site.copy("two", "folder");
    shell(&site, "rm folder/manifest.json && mkdir folder/manifest.json");
    site.refuses("folder", 9, "missing_file");
    shell(&site, "rm node/node.yaml && mkfifo node/node.yaml");
    let output = shell(&site, "timeout 10 $AUTONOMY status");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn signed_texts_do_not_steer_the_terminal_nor_forge_a_reason_line() {
    let site = Site::running();
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}";
    // The active policy speaks, so it takes a release that brings it.
    site.world.write(
        "manifests/base/policy/evil.rego",
        "package autonomy.update\n\nimport rego.v1\n\ndeny contains message if {\n\tinput.manifest.metadata.serial \
         > 2\n\tmessage := \"\\u001b[2Jno\\nlocked: forged\"\n}\n",
    );
    site.set("two", 2);
    site.node("apply two --auto-approve").exits(0);
    site.set("three", 3);
    let clean = |what: &str, text: &str| {
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{what}: {text:?}");
    };
    for verb in ["plan three", "plan three --output markdown", "plan three --output json", "apply three --json"] {
        let ran = site.node(verb).exits(4).warns("policy_denied: ");
        clean(verb, &(ran.stdout() + &ran.stderr()));
        assert!(!ran.stderr().lines().any(|line| line.starts_with("locked:")), "{verb}: {}", ran.stderr());
    }
    // Two signers signed escapes in every free text that there is.
    site.copy("three", "texts");
    site.doctor("texts", |manifest| {
        manifest["spec"]["services"] = json!([{ "command": [format!("/bin/{evil}"), evil] }]);
        manifest["spec"]["release"]["artifactRef"] = json!(evil);
        manifest["spec"]["preconditions"] = json!([{ "fact": evil, "equals": evil }]);
    });
    for verb in ["verify texts", "plan texts", "plan texts --output markdown", "apply texts --auto-approve"] {
        let ran = site.node(verb);
        clean(verb, &(ran.stdout() + &ran.stderr()));
    }
    // A service's output comes back in a reason, and stays in the journal for `status`.
    let fresh = Site::bare();
    fresh.set("one", 1);
    fresh.doctor("one", |manifest| {
        let say = "printf 'a\\033[2Jb\\nlocked: forged\\n' >&2; exit 1";
        manifest["spec"]["services"] = json!([{ "command": ["/bin/sh", "-c", say] }]);
    });
    let failed = fresh.node("apply one --auto-approve").exits(8);
    let status = fresh.node("status").exits(0);
    clean("apply", &failed.stderr());
    clean("status", &status.stdout());
    assert_eq!(failed.stderr().matches("\nlocked:").count(), 0, "{}", failed.stderr());
}

#[test]
fn every_verb_repeats_its_reasons_as_json() {
    let site = Site::running();
    site.copy("one", "spoilt");
    site.world.write("spoilt/manifest.json", "{}");
    let codes = |ran: &crate::world::Ran| -> Vec<String> {
        let value: Value = serde_json::from_str(&ran.stdout()).unwrap_or_else(|_| panic!("no JSON: {}", ran.stdout()));
        let reasons = value["reasons"].as_array().expect("reasons");
        reasons.iter().map(|reason| reason["code"].as_str().expect("code").to_owned()).collect()
    };
    for verb in ["plan spoilt --output json", "verify spoilt --output json"] {
        let codes = codes(&site.node(verb).exits(3));
        assert!(codes.contains(&"below_threshold".to_owned()), "{verb}: {codes:?}");
    }
    for verb in ["plan nowhere --output json", "verify nowhere --output json"] {
        assert_eq!(codes(&site.node(verb).exits(1)), ["source_not_found"], "{verb}");
    }
    for verb in ["facts", "status", "plan one", "verify one"] {
        let ran = site.world.run(&format!("{verb} --output json --state-root nowhere")).exits(1);
        assert_eq!(codes(&ran), ["not_initialized"], "{verb}");
    }
    // A stream of `apply` ends in its result, however early the refusal came.
    let stream = |arguments: &str, exit: i32, code: &str| {
        let text = site.world.run(arguments).exits(exit).stdout();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON Lines")).collect();
        assert_eq!(lines.first().map(|line| &line["type"]), Some(&json!("version")), "{arguments}: {text}");
        let last = lines.last().expect("result");
        assert_eq!((&last["type"], &last["exit"]), (&json!("result"), &json!(exit)), "{arguments}: {text}");
        assert_eq!(last["reasons"][0]["code"], code, "{arguments}: {text}");
    };
    stream("apply one --json --state-root nowhere", 1, "not_initialized");
    stream("apply nowhere --json --state-root node", 1, "source_not_found");
    site.set("two", 2);
    stream("apply two --json --state-root node", 64, "consent_missing");
    let before = site.snapshot_all();
    assert!(before == site.snapshot_all());
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure_and_a_closed_pipe_is_none() {
    let site = Site::running();
    for verb in ["facts --output json", "status", "plan one", "verify one", "schema", "explain"] {
        let output = shell(&site, &format!("$AUTONOMY {verb} >/dev/full"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{verb}: {said}");
        assert!(said.contains("io_error: "), "{verb}: {said}");
        // `true` reads nothing; the pipe is closed before or while the verb writes.
        let output = shell(&site, &format!("{{ $AUTONOMY {verb}; echo $? >&3; }} 3>code | true; cat code"));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{verb}");
    }
}

#[test]
fn damage_of_the_state_root_is_named_and_never_taken_for_a_first_start() {
    let site = Site::running();
    site.set("two", 2);
    let all = ["status", "facts", "plan two", "apply two --auto-approve", "plan one"];
    let damaged = |what: &str, spoil: &str, mend: &str, verbs: &[&str]| {
        assert!(shell(&site, spoil).status.success(), "{spoil}");
        let before = site.snapshot();
        for verb in verbs {
            site.node(verb).exits(11).warns("corrupt_state: ").warns(what);
        }
        assert!(before == site.snapshot(), "`{spoil}`: a refusal changed the state root");
        assert!(shell(&site, mend).status.success(), "{mend}");
    };
    let keep = "cp -P node/current kept && rm node/current";
    let back = "rm -rf node/current; mv kept node/current";
    damaged(
        "manifest.json",
        "mv node/generations gone; mkdir -m 700 node/generations",
        "rmdir node/generations; mv gone node/generations",
        &all,
    );
    damaged(
        "manifest.json",
        "mv node/current/manifest.json kept.json",
        "mv kept.json node/current/manifest.json",
        &all,
    );
    damaged(
        "manifest.json",
        "cp node/current/manifest.json kept.json; echo '{}' >node/current/manifest.json",
        "mv kept.json node/current/manifest.json",
        &[&all[..], &["run"]].concat(),
    );
    damaged("`current`", &format!("{keep} && ln -s /etc node/current"), back, &all);
    damaged("`current`", &format!("{keep} && ln -s ../generations/x node/current"), back, &all);
    damaged("`current`", &format!("{keep} && mkdir node/current"), back, &all);
    damaged("nothing is active", keep, back, &["plan two", "apply two --auto-approve", "plan one"]);
    damaged(
        "trust/root.json",
        "mv node/trust/root.json kept.json",
        "mv kept.json node/trust/root.json",
        &["plan two", "apply two --auto-approve", "verify two"],
    );
    // The file that people may edit is told with its place.
    let yaml = site.world.read("node/node.yaml");
    site.world.write("node/node.yaml", "{[");
    for verb in ["status", "plan two", "apply two --auto-approve"] {
        site.node(verb).exits(3).warns("syntax: node.yaml:1:");
    }
    site.world.write("node/node.yaml", yaml);
    // A folder that is a link out of the state root.
    shell(&site, "mv node/objects elsewhere && ln -s ../elsewhere node/objects");
    site.node("apply two --auto-approve").exits(5).warns("state_root_unsafe: ").warns("objects");
    shell(&site, "rm node/objects && mv elsewhere node/objects");
    symlink(site.world.path("node"), site.world.path("link")).expect("links");
    site.world.run("status --state-root link").exits(5).warns("state_root_unsafe: ");
    site.node("apply two --auto-approve").exits(0);
    site.is_whole(&[2]);
}

#[test]
fn an_object_that_is_damaged_does_not_reach_the_next_generation() {
    let site = Site::running();
    site.world.write("manifests/base/settings.toml", "level = \"new\"\n");
    site.set("two", 2);
    // The object is shared with the next release; same length, and the cache is gone.
    let tools = site.world.read("two/artifacts/etc/tools.json");
    let mut spoilt = tools.clone();
    spoilt[0] ^= 1;
    site.world.write("node/current/artifacts/etc/tools.json", spoilt);
    std::fs::remove_file(site.world.path("node/cache/files")).expect("cache");
    site.node("apply two --auto-approve").exits(0);
    site.is_whole(&[2]);
    assert_eq!(site.world.read("node/current/artifacts/etc/tools.json"), tools);
}

#[test]
fn the_umask_neither_opens_nor_breaks_a_state_root() {
    for umask in ["000", "077", "777"] {
        let site = Site::bare();
        site.set("one", 1);
        let init = "init --node-id n --fleet harbor --label site=pier-7 --hardware x86_64 --trust-root root.json";
        let script = format!(
            "rm -rf node; umask {umask}; $AUTONOMY {init} >/dev/null && $AUTONOMY apply one --auto-approve >/dev/null"
        );
        let output = shell(&site, &script);
        assert!(output.status.success(), "umask {umask}: {}", String::from_utf8_lossy(&output.stderr));
        site.is_whole(&[1]);
        for (path, (mode, ..)) in site.snapshot_all() {
            let (kind, mode) = (mode & 0o170_000, mode & 0o777);
            let link = kind == 0o120_000;
            let artifact = path.contains("/artifacts/") || path.contains("/segments/") || path.starts_with("objects/");
            let public = path == "identity/attest.pub";
            let right = match kind {
                0o040_000 => mode == 0o700,
                _ => link || artifact || (public && mode == 0o644) || mode == 0o600,
            };
            assert!(right, "umask {umask}: {path} has mode {mode:o}");
        }
    }
}

#[test]
fn another_user_is_refused() {
    let site = Site::running();
    if std::env::var_os("AUTONOMY_SKIP_MOUNT").is_some() {
        eprintln!("NOT RUN: AUTONOMY_SKIP_MOUNT is set (this test changes its user, which needs root)");
        return;
    }
    // Copied, as others may not look into the folder of the build.
    shell(&site, "cp $AUTONOMY tool && chmod 755 tool . && chown -R 12345 node && chmod 700 node");
    let output = shell(&site, "./tool status");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("state_root_unsafe: ") && said.contains("12345"), "{said}");
    shell(&site, "chown -R 0 node");
    let output = shell(&site, "setpriv --reuid 12345 --regid 12345 --clear-groups ./tool apply one --auto-approve");
    assert!(matches!(output.status.code(), Some(1 | 5)), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::metadata(site.world.path("node")).expect("node").permissions().mode() & 0o777 == 0o700);
}

#[test]
fn a_failed_release_does_not_keep_the_active_one_from_being_repaired() {
    let site = Site::running();
    site.set("two", 2);
    site.doctor("two", |manifest| manifest["spec"]["services"] = json!([{ "command": ["/bin/false"] }]));
    site.node("apply two --auto-approve").exits(8);
    site.is_whole(&[1]);
    assert!(site.node("plan one").exits(0).stdout().contains("No changes."));
    std::fs::write(site.world.path("node/current/artifacts/etc/tools.json"), "tampered").expect("writes");
    site.node("apply one --auto-approve").exits(0);
    site.is_whole(&[1]);
    let floors = String::from_utf8(site.world.read("node/trust/floors.json")).expect("UTF-8");
    assert!(floors.contains("\"serial\":2"), "{floors}");
    // Other bytes with a lower serial stay refused, and the failed release stays pinned.
    site.world.write("manifests/base/settings.toml", "level = \"other\"\n");
    site.set("other-one", 1);
    site.refuses("other-one", 3, "serial_too_low");
    site.refuses("two", 5, "pinned");
}
