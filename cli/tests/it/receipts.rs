//! Receipts: made by `import`, carried by the medium, verified by `receipts collect`.

use std::path::Path;

use autonomy_schema::{Blake3, document::parse, receipt::Receipt};
use autonomy_trust::AttestKey;
use serde_json::{Value, json};

use crate::disks::{Mount, may_mount, run};
use crate::node::Site;

/// A node that runs release 1; `stick` holds release 2; `keys` holds the node's public key.
fn with_medium() -> Site {
    let site = Site::running();
    // That it runs release 1 is signed for as well; the stories here begin with the medium.
    std::fs::remove_dir_all(site.world.path("node/receipts")).expect("removes");
    site.set("two", 2);
    site.world.run("export two --to stick").exits(0);
    std::fs::create_dir(site.world.path("keys")).expect("folder");
    site.world.write("keys/node-a.pub", site.world.read("node/identity/attest.pub"));
    site
}

/// The receipts in a folder: file names without their end, by counter.
fn receipts(site: &Site, folder: &str) -> Vec<(String, Receipt)> {
    let tree = site.world.tree(folder);
    let documents = tree.into_iter().filter(|(name, _)| Path::new(name).extension().is_some_and(|end| end == "json"));
    let mut found: Vec<_> =
        documents.map(|(name, (_, bytes))| (name, parse::<Receipt>(&bytes).expect("a receipt"))).collect();
    found.sort_by_key(|(_, receipt)| receipt.counter);
    found
}

/// Result and counter of each.
fn words(site: &Site, folder: &str) -> Vec<(u64, &'static str)> {
    receipts(site, folder).into_iter().map(|(_, receipt)| (receipt.counter, receipt.result.as_str())).collect()
}

/// What `receipts collect` says of each: counter, standing, whether it is new.
fn collected(output: &str) -> Vec<(u64, String, bool)> {
    let value: Value = serde_json::from_str(output).expect("JSON");
    let rows = value["receipts"].as_array().expect("receipts").iter();
    rows.map(|row| {
        let counter = row["receipt"]["counter"].as_u64().unwrap_or_default();
        (counter, row["standing"].as_str().expect("word").to_owned(), row["new"] == true)
    })
    .collect()
}

/// A receipt of this node, changed and signed with its own key.
fn forge(site: &Site, from: &str, to: &str, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&site.world.read(from)).expect("JSON");
    change(&mut value);
    let bytes = autonomy_schema::canonical::to_bytes(&value).expect("canonical");
    let pem = String::from_utf8(site.world.read("node/identity/attest.key")).expect("PEM");
    let line = AttestKey::from_pem(&pem).expect("key").sign_line(&bytes).expect("signs");
    site.world.write(to, bytes);
    site.world.write(&format!("{to}.sigstore.jsonl"), line + "\n");
}

#[test]
fn an_import_leaves_signed_receipts_on_the_medium_which_the_operator_collects() {
    let site = with_medium();
    site.node("import stick").exits(0);
    let left = receipts(&site, "stick/receipts");
    let [(name, receipt)] = left.as_slice() else { panic!("{left:?}") };
    assert_eq!(receipt.manifest, site.fingerprint("two"));
    assert_eq!((receipt.node_id.as_str(), receipt.boot_epoch, receipt.counter), ("node-a", 0, 1));
    assert_eq!(site.world.read(&format!("stick/receipts/{name}")), site.world.read(&format!("node/receipts/{name}")));
    // The same again says nothing new; that it runs is news.
    site.node("import stick").exits(0);
    assert_eq!(words(&site, "stick/receipts"), [(1, "stored")]);
    site.node("reconcile --once").exits(0);
    site.node("import stick").exits(0);
    assert_eq!(words(&site, "stick/receipts"), [(1, "stored"), (2, "active")]);
    // A receipt that was lost on the way is left again.
    std::fs::remove_dir_all(site.world.path("stick/receipts")).expect("removes");
    site.node("import stick").exits(0);
    assert_eq!(words(&site, "stick/receipts"), [(2, "active")]);
    site.node("plan oci:stick").exits(0);
    // The operator has the node's key in a folder, or keeps it in a state root.
    for medium in ["stick", "stick/receipts", "node/receipts"] {
        let told = site.world.run(&format!("receipts collect {medium} --keys keys")).exits(0).stdout();
        assert!(told.contains("verified: node-a 2: active blake3:"), "{medium}: {told}");
    }
    site.world.run("init --state-root office --node-id office --fleet harbor --trust-root root.json").exits(0);
    site.world.write("office/trust/nodes/node-a.pub", site.world.read("keys/node-a.pub"));
    let collect = "receipts collect stick --state-root office --output json";
    let told = site.world.run(collect).exits(0).stdout();
    assert_eq!(collected(&told), [(2, "verified".to_owned(), true)]);
    assert_eq!(words(&site, "office/receipts"), [(2, "active")]);
    let told = site.world.run(collect).exits(0).stdout();
    assert_eq!(collected(&told), [(2, "verified".to_owned(), false)]);
    let audit = String::from_utf8(site.world.read("office/audit/audit.jsonl")).expect("UTF-8");
    assert!(audit.contains("receipts collect") && audit.contains("collected"), "{audit}");
    site.world.run("fsck --state-root office").exits(0);
    site.node("fsck").exits(0);
}

#[test]
fn what_runs_is_signed_for_when_nothing_takes_it_back_any_more() {
    let active = |site: &Site| -> Vec<(Blake3, &'static str)> {
        let own = receipts(site, "node/receipts");
        own.into_iter().map(|(_, receipt)| (receipt.manifest, receipt.result.as_str())).collect()
    };
    // Without a wait, at once, and once.
    let site = Site::running();
    let one = (site.fingerprint("one"), "active");
    assert_eq!(active(&site), [one]);
    site.node("apply one --auto-approve").exits(0);
    assert_eq!(active(&site), [one]);
    // With one, when it is confirmed.
    let site = crate::confirm::waiting();
    let (one, two) = ((site.fingerprint("one"), "active"), (site.fingerprint("two"), "active"));
    assert_eq!(active(&site), [one]);
    site.node("confirm").exits(0);
    assert_eq!(active(&site), [one, two]);
    // Not at all, when nobody did.
    let site = crate::confirm::waiting();
    crate::confirm::run_out(&site, "node");
    site.node("confirm --expire").exits(8);
    assert_eq!(active(&site), [(site.fingerprint("one"), "active")]);
    site.node("fsck").exits(0);
}

#[test]
fn openssl_agrees_that_the_node_signed() {
    let site = with_medium();
    site.node("import stick").exits(0);
    let (name, _) = receipts(&site, "stick/receipts").remove(0);
    let line = site.world.read(&format!("stick/receipts/{name}.sigstore.jsonl"));
    let line: Value = serde_json::from_slice(&line).expect("JSON");
    site.world.write("signature", line["messageSignature"]["signature"].as_str().expect("signature"));
    run("sh", &["-c", "base64 -d signature >signature.der"], &site);
    let receipt = format!("stick/receipts/{name}");
    let verify = ["dgst", "-sha256", "-verify", "keys/node-a.pub", "-signature", "signature.der", receipt.as_str()];
    run("openssl", &verify, &site);
}

#[test]
fn what_was_refused_and_what_is_for_others_is_not_signed_for() {
    let site = with_medium();
    site.copy("two", "forged");
    site.world.write("forged/manifest.json.sigstore.jsonl", site.world.read("two/autonomy.lock.json.sigstore.jsonl"));
    site.world.run("export forged --to bad").exits(0);
    let before = site.snapshot();
    site.node("import bad").exits(3).warns("below_threshold: ");
    assert!(!site.world.has("bad/receipts") && before == site.snapshot());
    site.copy("two", "other");
    site.doctor("other", |manifest| manifest["spec"]["scope"]["matchLabels"]["site"] = "pier-8".into());
    site.world.run("export other --to others").exits(0);
    site.node("import others").exits(3).warns("scope_mismatch: ");
    assert!(!site.world.has("others/receipts"));
    // A set by itself is closed: the receipt stays at home.
    site.set("three", 3);
    site.node("import three").exits(0);
    assert!(!site.world.has("three/receipts"));
    assert_eq!(words(&site, "node/receipts"), [(1, "stored")]);
    assert_eq!(site.world.run("receipts collect three").exits(0).stdout(), "no receipts\n");
}

#[test]
fn unknown_signers_are_listed_as_unverified_and_forgeries_are_refused() {
    let site = with_medium();
    site.node("import stick").exits(0);
    let told = site.world.run("receipts collect stick --output json").exits(0).stdout();
    assert_eq!(collected(&told), [(1, "unverified".to_owned(), false)]);
    let (name, _) = receipts(&site, "stick/receipts").remove(0);
    let genuine = format!("stick/receipts/{name}");
    let collect = |site: &Site, exit: i32, code: &str| {
        let ran = site.world.run("receipts collect stick --keys keys --output json").exits(exit).warns(code);
        let rows = collected(&ran.stdout());
        assert!(rows.contains(&(1, "verified".to_owned(), true)), "{rows:?}");
        assert_eq!(rows.iter().filter(|(_, word, _)| word == "bad").count(), 1, "{rows:?}");
        assert!(!site.world.has("node/receipts/x.json"));
    };
    // The bytes were changed after they were signed.
    let text = String::from_utf8(site.world.read(&genuine)).expect("UTF-8");
    site.world.write("stick/receipts/x.json", text.replace("\"counter\":1", "\"counter\":9"));
    let signature = site.world.read(&format!("{genuine}.sigstore.jsonl"));
    site.world.write("stick/receipts/x.json.sigstore.jsonl", &signature);
    collect(&site, 3, "bad_signature_line: ");
    // Nobody signed; another document; the key of one node under the name of another; a link.
    std::fs::remove_file(site.world.path("stick/receipts/x.json.sigstore.jsonl")).expect("removes");
    collect(&site, 3, "bad_signature_line: ");
    forge(&site, &genuine, "stick/receipts/x.json", |receipt| receipt["kind"] = json!("Facts"));
    collect(&site, 3, "role_mismatch: ");
    forge(&site, &genuine, "stick/receipts/x.json", |receipt| receipt["nodeId"] = json!("node-b"));
    collect(&site, 3, "scope_mismatch: ");
    site.world.write("stick/receipts/x.json", vec![b' '; 20 << 10]);
    collect(&site, 3, "document_too_large: ");
    std::fs::remove_file(site.world.path("stick/receipts/x.json")).expect("removes");
    std::os::unix::fs::symlink(site.world.path(&genuine), site.world.path("stick/receipts/x.json")).expect("links");
    collect(&site, 3, "symlink_refused: ");
    std::fs::remove_file(site.world.path("stick/receipts/x.json")).expect("removes");
    // Another key is known of the node than the one that signed.
    site.world.write("keys/node-a.pub", site.world.read("a.pub"));
    let told = site.world.run("receipts collect stick --keys keys --output json").exits(3).warns("below_threshold: ");
    assert_eq!(collected(&told.stdout()), [(1, "bad".to_owned(), false)]);
}

#[test]
fn a_counter_that_is_used_twice_or_runs_against_the_clock_is_told() {
    let site = with_medium();
    site.node("import stick").exits(0);
    site.world.run("init --state-root office --node-id office --fleet harbor --trust-root root.json").exits(0);
    site.world.run("receipts collect stick --keys keys --state-root office").exits(0);
    let (name, _) = receipts(&site, "stick/receipts").remove(0);
    let genuine = format!("stick/receipts/{name}");
    std::fs::create_dir_all(site.world.path("again/receipts")).expect("folder");
    // The node's state was set back, and it counts anew.
    let other = Blake3::of(b"another manifest").to_string();
    forge(&site, &genuine, "again/receipts/x.json", |receipt| receipt["manifest"] = json!(other));
    site.world.run("receipts collect again --keys keys --state-root office").exits(3).warns("receipt_replayed: ");
    assert_eq!(receipts(&site, "office/receipts").len(), 1, "the first one is the one that is kept");
    // Two on one medium, away from any state root.
    site.copy("again", "both");
    for end in ["", ".sigstore.jsonl"] {
        let bytes = site.world.read(&format!("{genuine}{end}"));
        site.world.write(&format!("both/receipts/{name}{end}"), bytes);
    }
    site.world.run("receipts collect both --keys keys").exits(3).warns("receipt_replayed: ");
    forge(&site, &genuine, "again/receipts/x.json", |receipt| {
        receipt["counter"] = json!(2);
        receipt["time"] = json!("2020-01-01T00:00:00Z");
    });
    let told = site.world.run("receipts collect again --keys keys --state-root office").exits(0);
    assert!(told.stderr().contains("its clock or its state went back"), "{}", told.stderr());
}

#[test]
fn a_node_counts_on_when_its_counter_is_lost_and_signs_nothing_when_it_is_damaged() {
    let site = with_medium();
    site.node("import stick").exits(0);
    std::fs::remove_file(site.world.path("node/receipts/counter")).expect("removes");
    site.node("reconcile --once").exits(0);
    site.node("import stick").exits(0);
    assert_eq!(words(&site, "node/receipts"), [(1, "stored"), (2, "active")]);
    site.world.write("node/receipts/counter", "{");
    site.set("three", 3);
    site.world.run("export three --to stick").exits(0);
    let said = site.node("import stick").exits(0).stderr();
    assert!(said.contains("warning: no receipts were made: corrupt_state: `receipts/counter`"), "{said}");
    site.node("reconcile --once").exits(0);
    site.is_whole(&[3]);
}

#[test]
fn a_medium_that_takes_no_receipt_is_a_warning_and_the_receipt_is_kept() {
    if !may_mount() {
        return;
    }
    let site = with_medium();
    run("mount", &["--bind", "stick", "stick"], &site);
    let read_only = Mount(site.world.path("stick"));
    run("mount", &["-o", "remount,ro,bind", "stick"], &site);
    let said = site.node("import stick").exits(0).stderr();
    assert!(said.contains("warning: the receipts stay here") && said.contains("Read-only"), "{said}");
    drop(read_only);
    assert!(!site.world.has("stick/receipts"));
    assert_eq!(words(&site, "node/receipts"), [(1, "stored")]);
    // Full: the whole stick has not a byte left.
    std::fs::create_dir(site.world.path("full")).expect("folder");
    run("mount", &["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", "full"], &site);
    let _mount = Mount(site.world.path("full"));
    run("cp", &["-r", "stick/.", "full"], &site);
    std::fs::create_dir(site.world.path("full/receipts")).expect("folder");
    run("sh", &["-c", "cat /dev/zero >full/receipts/fill 2>/dev/null || true"], &site);
    let said = site.node("import full").exits(0).stderr();
    assert!(said.contains("warning: the receipts stay here") && said.contains("No space left"), "{said}");
    std::fs::remove_file(site.world.path("full/receipts/fill")).expect("removes");
    site.node("import full").exits(0);
    assert_eq!(words(&site, "full/receipts"), [(1, "stored")]);
}

/// What differs from run to run, as `<…>`.
fn normalized(told: &str) -> String {
    let mut out = String::new();
    for line in told.lines() {
        let words = line.split(' ').map(|word| {
            let word = word.replace("inbox:blake3:", "blake3:");
            let bare = word.trim_start_matches('(').trim_end_matches([',', '.', ':', ';', ')']);
            let (begin, end) = word.split_once(bare).unwrap_or_default();
            let shown = match bare.split_once(':') {
                Some(("blake3" | "sha256", _)) => "<digest>".to_owned(),
                _ if bare.ends_with('Z') && bare.contains('T') => "<time>".to_owned(),
                _ => bare.split(['-', '/']).fold(bare.to_owned(), |text, part| {
                    let hex = part.len() >= 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
                    if hex { text.replace(part, "<hex>") } else { text }
                }),
            };
            format!("{begin}{shown}{end}")
        });
        let mut words: Vec<String> = words.collect();
        for at in 1..words.len() {
            if words[at].trim_end_matches([',', '.']) == "bytes" {
                "<n>".clone_into(&mut words[at - 1]);
            }
        }
        out += words.join(" ").trim_end();
        out.push('\n');
    }
    out
}

#[test]
fn the_story_of_the_stick_is_told() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sneakernet");
    let output =
        std::process::Command::new(example.join("run")).env("AUTONOMY", env!("CARGO_BIN_EXE_autonomy")).output();
    let output = output.expect("runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let (told, recorded) = (normalized(&told), example.join("output.txt"));
    if std::env::var_os("AUTONOMY_UPDATE").is_some() {
        std::fs::write(&recorded, &told).expect("writes");
    }
    let recorded = std::fs::read_to_string(&recorded).unwrap_or_default();
    assert_eq!(told, recorded, "output.txt differs; look at the change, then run with AUTONOMY_UPDATE=1");
}
