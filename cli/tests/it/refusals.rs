//! Bad input, through the binary: exit code, reason code, and a state root that is as it was.

use serde_json::{Value, json};

use crate::node::Site;

/// Flips one bit in the middle of a file.
fn flip(site: &Site, path: &str) {
    let mut bytes = site.world.read(path);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    site.world.write(path, bytes);
}

#[test]
fn signatures_and_bytes() {
    let site = Site::running();
    site.set("two", 2);
    let spoilt = |name: &str, spoil: &dyn Fn(&str)| {
        site.copy("two", name);
        spoil(name);
    };
    let lines = |name: &str| -> Vec<String> {
        let text = String::from_utf8(site.world.read(&format!("{name}/manifest.json.sigstore.jsonl"))).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    };
    spoilt("one-of-two", &|s| site.world.write(&format!("{s}/manifest.json.sigstore.jsonl"), lines(s)[0].clone()));
    site.refuses("one-of-two", 3, "below_threshold");
    spoilt("one-key-twice", &|s| {
        let first = lines(s)[0].clone();
        site.world.write(&format!("{s}/manifest.json.sigstore.jsonl"), format!("{first}\n{first}\n"));
    });
    site.refuses("one-key-twice", 3, "below_threshold");
    spoilt("no-signatures", &|s| {
        std::fs::remove_file(site.world.path(&format!("{s}/manifest.json.sigstore.jsonl"))).expect("removes");
    });
    site.refuses("no-signatures", 3, "below_threshold");
    spoilt("lock-unsigned", &|s| site.world.write(&format!("{s}/autonomy.lock.json.sigstore.jsonl"), ""));
    site.refuses("lock-unsigned", 3, "below_threshold");
    spoilt("garbage-signature", &|s| site.world.write(&format!("{s}/manifest.json.sigstore.jsonl"), "{]\n"));
    site.refuses("garbage-signature", 3, "bad_signature_line");
    for (name, file, code) in [
        ("manifest-flipped", "manifest.json", "below_threshold"),
        ("lock-flipped", "autonomy.lock.json", "digest_mismatch"),
        ("policy-flipped", "policy.tar.gz", "digest_mismatch"),
        ("artifact-flipped", "artifacts/bin/agent", "digest_mismatch"),
        ("index-flipped", "segments/agent.idx", "digest_mismatch"),
    ] {
        spoilt(name, &|s| flip(&site, &format!("{s}/{file}")));
        site.refuses(name, 3, code);
    }
    spoilt("longer", &|s| site.world.write(&format!("{s}/artifacts/bin/agent"), format!("{}x", crate::node::AGENT)));
    site.refuses("longer", 3, "size_mismatch");
    spoilt("shorter", &|s| site.world.write(&format!("{s}/artifacts/bin/agent"), "#!"));
    site.refuses("shorter", 3, "size_mismatch");
    spoilt("extra", &|s| site.world.write(&format!("{s}/artifacts/bin/more"), "x"));
    site.refuses("extra", 3, "extraneous_file");
    spoilt("missing", &|s| {
        std::fs::remove_file(site.world.path(&format!("{s}/artifacts/etc/tools.json"))).expect("removes");
    });
    site.refuses("missing", 9, "missing_file");
    spoilt("symlink", &|s| {
        let path = site.world.path(&format!("{s}/artifacts/bin/agent"));
        std::fs::remove_file(&path).expect("removes");
        std::os::unix::fs::symlink("/etc/passwd", &path).expect("links");
    });
    site.refuses("symlink", 3, "symlink_refused");
    spoilt("gigabyte", &|s| {
        let file = std::fs::File::options().write(true).open(site.world.path(&format!("{s}/manifest.json")));
        file.expect("opens").set_len(1 << 30).expect("grows");
    });
    site.refuses("gigabyte", 3, "document_too_large");
    // The untouched set still goes: nothing above blocked it.
    site.node("apply two --auto-approve").exits(0);
    site.is_whole(&[2]);
}

#[test]
fn an_oversized_manifest_is_not_read_into_memory() {
    let site = Site::running();
    site.copy("one", "big");
    let file = std::fs::File::options().write(true).open(site.world.path("big/manifest.json"));
    file.expect("opens").set_len(1 << 30).expect("grows");
    // Less address space than the file has bytes.
    let script = format!("ulimit -v 700000; exec '{}' verify big --state-root node", env!("CARGO_BIN_EXE_autonomy"));
    let output =
        std::process::Command::new("sh").args(["-c", &script]).current_dir(site.world.path("")).output().expect("runs");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("document_too_large: "));
}

#[test]
fn what_two_signers_signed_and_still_is_refused() {
    let site = Site::running();
    site.set("two", 2);
    let doctored = |name: &str, exit: i32, code: &str, change: &dyn Fn(&mut Value)| {
        site.copy("two", name);
        site.doctor(name, |value| change(value));
        site.refuses(name, exit, code);
    };
    doctored("expired", 3, "expired", &|m| {
        m["metadata"]["issuedAt"] = json!("2026-01-01T00:00:00Z");
        m["metadata"]["expiresAt"] = json!("2026-02-01T00:00:00Z");
    });
    doctored("other-fleet", 3, "scope_mismatch", &|m| m["spec"]["scope"]["fleet"] = json!("mine"));
    doctored("other-node", 3, "scope_mismatch", &|m| m["spec"]["scope"]["nodes"] = json!(["node-b"]));
    doctored("other-hardware", 3, "scope_mismatch", &|m| m["spec"]["scope"]["hardware"] = json!(["riscv64"]));
    doctored("other-label", 3, "scope_mismatch", &|m| m["spec"]["scope"]["matchLabels"] = json!({"site": "pier-9"}));
    doctored("other-stream", 3, "wrong_stream", &|m| m["metadata"]["name"] = json!("other"));
    doctored("far-serial", 3, "serial_step", &|m| m["metadata"]["serial"] = json!(1_000_000));
    doctored("critical", 3, "unknown_critical", &|m| m["metadata"]["critical"] = json!(["spec.warp"]));
    doctored("field", 3, "unknown_field", &|m| m["spec"]["warp"] = json!(9));
    doctored("new-tool", 3, "tool_too_old", &|m| m["metadata"]["minTool"] = json!("99.0.0"));
    doctored("climbs", 3, "unsafe_path", &|m| m["spec"]["artifacts"][0]["path"] = json!("../x"));
    doctored("absolute", 3, "unsafe_path", &|m| m["spec"]["artifacts"][0]["path"] = json!("/etc/x"));
    doctored("case", 3, "case_collision", &|m| {
        let mut twin = m["spec"]["artifacts"][0].clone();
        twin["name"] = json!("twin");
        twin["path"] = json!("BIN/agent");
        m["spec"]["artifacts"].as_array_mut().expect("list").push(twin);
    });
    doctored("kind", 3, "role_mismatch", &|m| m["kind"] = json!("Lock"));
    doctored("major", 3, "unknown_version", &|m| m["apiVersion"] = json!("autonomy/v2"));
    doctored("revokes-itself", 3, "revoked", &|m| {
        m["spec"]["revoked"] = json!({"number": 1, "keys": [key_id(&site, "a.pub")]});
    });
    let bytes = site.world.read("two/manifest.json");
    let value: Value = serde_json::from_slice(&bytes).expect("JSON");
    site.copy("two", "pretty");
    site.sign_raw("pretty", &serde_json::to_vec_pretty(&value).expect("JSON"));
    site.refuses("pretty", 3, "not_canonical");
    site.copy("two", "trailing");
    site.sign_raw("trailing", &[&bytes[..], b"x"].concat());
    site.refuses("trailing", 3, "syntax");
}

/// The id of a public key, as `autonomy trust` computes it.
fn key_id(site: &Site, name: &str) -> String {
    let pem = String::from_utf8(site.world.read(name)).expect("PEM");
    autonomy_signing::public_key_id(&pem).expect("key").to_string()
}

#[test]
fn serials_and_the_alarm_of_two_manifests_with_one() {
    let site = Site::running();
    site.set("two", 2);
    site.node("apply two --auto-approve").exits(0);
    site.refuses("one", 3, "serial_too_low");
    site.world.write("manifests/base/settings.toml", "level = \"other\"\n");
    site.set("other-two", 2);
    site.refuses("other-two", 3, "serial_conflict");
    let kept = format!("node/quarantine/{}/manifest.json", site.fingerprint("other-two").hex());
    assert_eq!(site.world.read(&kept), site.world.read("other-two/manifest.json"), "the second one is kept");
    assert_eq!(site.world.read("node/current/manifest.json"), site.world.read("two/manifest.json"), "and the first");
}

#[test]
fn policy_consent_and_what_the_platform_does_not_give() {
    let site = Site::running();
    site.world.edit("manifests/base/manifest.yaml", "channel: stable", "channel: beta");
    site.set("beta", 2);
    site.refuses("beta", 4, "policy_denied");
    site.node("plan beta").exits(4).warns("policy_denied: channel beta is not for this node");
    site.world.edit("manifests/base/manifest.yaml", "channel: beta", "channel: stable");
    site.set("two", 2);
    let before = site.snapshot();
    site.node("apply two").exits(64).warns("consent_missing: ");
    assert!(before == site.snapshot(), "without consent nothing changes");
    let features: [(&str, Value, &str, &str); 2] = [
        (
            "reconstruction",
            json!({"steps": [{"directory": {"path": "/srv/x", "mode": "0755"}}]}),
            "destination_refused",
            "    ! reconstruction./srv/x  ",
        ),
        // No facts say that this root of an operating system has control groups.
        (
            "precheck",
            json!({"minFreeBytes": 0, "certExpiryWindow": "7d", "durability": "high"}),
            "assurance_reduced",
            "  no  assurance_reduced: ",
        ),
    ];
    std::fs::create_dir(site.world.path("bare")).expect("folder");
    for (field, value, code, line) in features {
        site.copy("two", field);
        site.doctor(field, |m| m["spec"][field] = value);
        let plan = site.node(&format!("plan {field} --os-root bare")).exits(5).warns(&format!("{code}: "));
        assert!(plan.stdout().contains(line), "{}", plan.stdout());
        site.refuses(&format!("{field} --os-root bare"), 5, code);
    }
}

#[test]
fn a_damaged_or_foreign_state_root() {
    let site = Site::running();
    site.set("two", 2);
    site.node("apply nowhere --auto-approve").exits(1).warns("source_not_found: ");
    site.world.run("status --state-root nowhere").exits(1);
    std::fs::create_dir(site.world.path("empty")).expect("folder");
    site.world.run("status --state-root empty").exits(1).warns("not_initialized: ");
    let spoil = |file: &str, bytes: Option<&str>, exit: i32, code: &str, verbs: &[&str]| {
        let path = format!("node/{file}");
        let kept = site.world.read(&path);
        match bytes {
            Some(bytes) => site.world.write(&path, bytes),
            None => std::fs::remove_file(site.world.path(&path)).expect("removes"),
        }
        for verb in verbs {
            site.node(verb).exits(exit).warns(&format!("{code}: "));
        }
        site.world.write(&path, kept);
    };
    let (plan, apply) = ("plan two", "apply two --auto-approve");
    spoil("trust/floors.json", None, 11, "floors_unreadable", &[plan, apply]);
    spoil("trust/floors.json", Some("{}"), 11, "floors_unreadable", &[plan, apply]);
    spoil("journal/apply.json", Some("half a jour"), 11, "corrupt_state", &[plan, apply]);
    // A plan writes no record, so it does not look at the trail.
    spoil("audit/audit.jsonl", Some("{}\n"), 11, "corrupt_state", &[apply]);
    site.node("apply two --auto-approve").exits(0);
    let node = site.world.path("node");
    let mode = |bits: u32| {
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(bits);
        std::fs::set_permissions(&node, permissions).expect("chmod");
    };
    mode(0o770);
    site.node("status").exits(5).warns("state_root_unsafe: ");
    mode(0o700);
    site.node("status").exits(0);
}

#[test]
fn names_from_outside_do_not_steer_the_terminal() {
    let site = Site::running();
    site.copy("one", "evil");
    site.world.write("evil/artifacts/\u{1b}[2J", "x");
    let ran = site.node("verify evil").exits(3);
    assert!(!ran.stderr().contains('\u{1b}'), "{:?}", ran.stderr());
}
