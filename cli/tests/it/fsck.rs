//! Damage of every kind, through the binary: told, mended from what is whole, and nothing else touched.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use autonomy_schema::Blake3;
use autonomy_schema::manifest::ArtifactType;
use autonomy_stateroot::layout;
use serde_json::Value;

use crate::node::Site;
use crate::rollback::second;

/// Demands damage that names this, and that the repair ends it.
#[track_caller]
fn mends(site: &Site, names: &str) {
    let before = site.snapshot_all();
    let found = site.node("fsck").exits(11).warns("corrupt_state: ");
    assert!(found.stdout().contains(names), "no {names} in\n{}", found.stdout());
    assert!(before == site.snapshot_all(), "looking writes nothing");
    let mended = site.node("fsck --repair").exits(0);
    assert!(mended.stdout().contains("The state root is sound"), "{}", mended.stdout());
    site.node("fsck").exits(0);
}

fn link(site: &Site, name: &str) -> String {
    let link = std::fs::read_link(site.world.path(name)).expect("link");
    link.file_name().expect("name").to_string_lossy().into_owned()
}

#[test]
fn a_sound_node_is_sound_and_a_repair_of_it_changes_nothing() {
    let site = second();
    let found: Value = serde_json::from_str(&site.node("fsck --output json").exits(0).stdout()).expect("JSON");
    assert_eq!(found["report"]["findings"], serde_json::json!([]));
    assert_eq!(found["report"]["generations"], 2);
    let before = site.snapshot();
    site.node("fsck --repair").exits(0);
    assert!(before == site.snapshot());
}

#[test]
fn a_generation_edited_by_hand_is_staged_again_beside() {
    let site = second();
    let good = link(&site, "node/current");
    let other = std::fs::read_dir(site.world.path("node/generations")).expect("list").flatten();
    let other = other.map(|e| e.file_name().to_string_lossy().into_owned()).find(|name| *name != good).expect("one");
    // A file of its own in the place of the link to the object: the object is whole.
    let agent = site.world.path(&format!("node/generations/{good}/artifacts/bin/agent"));
    std::fs::remove_file(&agent).expect("removed");
    std::fs::write(&agent, "tampered").expect("tampered");
    let untouched = site.world.tree(&format!("node/generations/{other}"));
    mends(&site, "bin/agent");
    let now = link(&site, "node/current");
    assert!(now != good && now.ends_with("-2"), "{now}");
    assert_eq!(link(&site, "node/lkg"), now);
    assert_eq!(untouched, site.world.tree(&format!("node/generations/{other}")), "what is right is not touched");
    assert!(site.world.has(&format!("node/quarantine/{good}")), "the damaged one is kept");
    site.is_whole(&[2]);
    assert!(site.node("plan two").exits(0).stdout().contains("No changes."));
    let history = site.node("history --limit 1").exits(0).stdout();
    assert!(history.contains("fsck --repair  repaired"), "{history}");
}

#[test]
fn documents_links_and_folders_of_a_generation() {
    for (spoil, names) in [
        ("rm edge.toml", "edge.toml"),
        ("echo x >> policy.tar.gz && cp policy.tar.gz p && rm p", "policy.tar.gz"),
        ("chmod 0777 artifacts/bin/agent", "agent"),
        ("rm -r artifacts/etc && ln -s /etc artifacts/etc", "artifacts/etc"),
        ("echo stray > artifacts/stray", "stray"),
        ("echo '{}' > manifest.json", "generations/"),
        (": > manifest.json.sigstore.jsonl", "generations/"),
    ] {
        let site = second();
        let ran = std::process::Command::new("/bin/sh")
            .args(["-c", spoil])
            .current_dir(site.world.path("node/current"))
            .status()
            .expect("sh");
        assert!(ran.success(), "{spoil}");
        let found = site.node("fsck").exits(11);
        assert!(found.stdout().contains(names), "{spoil}: {}", found.stdout());
        // Signed documents lie in the generation alone, and the bytes of a changed object nowhere else.
        let repaired = site.node("fsck --repair --from two");
        assert!(repaired.stdout().contains("The state root is sound"), "{spoil}: {}", repaired.stdout());
        repaired.exits(0);
        site.is_whole(&[2]);
    }
}

#[test]
fn what_is_whole_nowhere_needs_a_set_and_the_right_one() {
    let site = second();
    // The object itself: every generation that links it is damaged.
    let settings = site.world.path("node/current/artifacts/etc/settings.toml");
    std::fs::write(&settings, "tampered").expect("tampered");
    let refused = site.node("fsck --repair").exits(11).warns("corrupt_state: ");
    assert!(refused.stdout().contains("failed "), "{}", refused.stdout());
    site.set("three", 3);
    site.node("fsck --repair --from nowhere").exits(1);
    // Another manifest holds the same bytes of that file; only its documents would be wrong.
    site.node("fsck --repair --from three").exits(0);
    site.is_whole(&[2]);
    // A forged set helps nobody.
    let manifest = site.world.path("node/current/manifest.json");
    std::fs::write(&manifest, "{}").expect("damaged");
    site.copy("two", "forged");
    site.world.write("forged/manifest.json.sigstore.jsonl", "");
    site.node("fsck --repair --from forged").exits(11);
    site.node("fsck --repair --from one").exits(11);
    site.node("fsck --repair --from two").exits(0);
    site.is_whole(&[2]);
}

#[test]
fn objects_links_modes_and_floors() {
    let site = second();
    let object = std::fs::read_dir(site.world.path("node/objects")).expect("objects").flatten().next().expect("one");
    // An object that lost its name, and one with another's bytes beside whole generations.
    let copy = site.world.path("copy");
    std::fs::copy(object.path(), &copy).expect("copied");
    std::fs::remove_file(object.path()).expect("removed");
    std::fs::write(object.path(), "not these").expect("written");
    mends(&site, "its bytes do not hash to its name");
    assert_eq!(std::fs::read(object.path()).expect("object"), std::fs::read(&copy).expect("copy"));
    let (current, lkg) = (site.world.path("node/current"), site.world.path("node/lkg"));
    let target = std::fs::read_link(&current).expect("link");
    // The active link is gone, points nowhere, or is a folder; then the same with the last known good one.
    for path in [&current, &lkg] {
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        std::fs::remove_file(path).expect("removed");
        mends(&site, &name);
        std::fs::remove_file(path).expect("removed");
        std::os::unix::fs::symlink("generations/9-000000000000-1", path).expect("link");
        mends(&site, "which is not there");
        std::fs::remove_file(path).expect("removed");
        std::fs::create_dir(path).expect("folder");
        mends(&site, "not a symbolic link");
        assert_eq!(std::fs::read_link(path).expect("link"), target);
    }
    for (path, mode) in [("node/identity/attest.key", 0o644), ("node/trust", 0o777)] {
        std::fs::set_permissions(site.world.path(path), std::fs::Permissions::from_mode(mode)).expect("mode");
        mends(&site, "its mode is");
    }
    // Floors that somebody lowered.
    let floors = String::from_utf8(site.world.read("node/trust/floors.json")).expect("UTF-8");
    site.world.write("node/trust/floors.json", floors.replace("\"serial\":2", "\"serial\":1"));
    mends(&site, "lies below what");
    // Entries of the outbox that point nowhere; what a removal left behind; orphans do no harm.
    let entry = site.world.path(&format!("node/outbox/{}", "0".repeat(64)));
    std::os::unix::fs::symlink("../generations/9-000000000000-1", &entry).expect("link");
    mends(&site, "points to no generation");
    std::fs::create_dir_all(site.world.path("node/generations/.gc-1-0-1/artifacts")).expect("leftover");
    site.world.write("node/objects/.tmp-0-0644", "half");
    site.world.write("node/stranger", "x");
    let notices = site.node("fsck").exits(0).stdout();
    for word in ["a removal or a restore that was cut off", ".tmp-0-0644", "stranger"] {
        assert!(notices.contains(word), "{notices}");
    }
    site.node("fsck --repair").exits(0);
    assert!(!site.world.has("node/generations/.gc-1-0-1") && site.world.has("node/stranger"));
    site.is_whole(&[2]);
}

#[test]
fn damage_that_only_a_backup_mends_is_told_and_left_alone() {
    for (path, names) in [
        ("node/node.yaml", "node.yaml"),
        ("node/trust/root.json", "trust/root.json"),
        ("node/trust/floors.json", "trust/floors.json"),
        ("node/pins.json", "pins.json"),
        ("node/audit/audit.jsonl", "audit/audit.jsonl"),
        ("node/telemetry/autonomy/telemetry.safe_seq", "telemetry/autonomy"),
    ] {
        let site = second();
        site.world.write(path, "garbage, and much of it\nand more\n");
        let found = site.node("fsck").exits(11);
        assert!(found.stdout().contains(names), "{path}: {}", found.stdout());
        let kept = site.world.read(path);
        site.node("fsck --repair").exits(11);
        assert_eq!(site.world.read(path), kept, "{path} is left for people");
        assert!(Path::new(&site.world.path("node/current")).exists());
    }
}

#[test]
fn a_journal_cut_at_every_byte_loses_nothing() {
    let site = second();
    let path = "node/journal/apply.json";
    let whole = site.world.read(path);
    for cut in (0..whole.len()).step_by(if std::env::var_os("AUTONOMY_SOAK").is_some() { 1 } else { 41 }) {
        site.world.write(path, &whole[..cut]);
        site.node("apply two --auto-approve").exits(11).warns("corrupt_state: ");
        site.node("fsck --repair").exits(0);
        site.is_whole(&[2]);
    }
    // One that a newer tool wrote is not ours to judge.
    let newer = String::from_utf8(whole).expect("UTF-8").replace("autonomy/v1", "autonomy/v2");
    site.world.write(path, &newer);
    site.node("apply two --auto-approve").exits(11).warns("unknown_version");
    site.node("fsck --repair").exits(11).warns("unknown_version");
    assert_eq!(site.world.read(path), newer.as_bytes());
}

#[test]
fn without_its_journal_what_was_never_confirmed_proves_itself_again() {
    let site = crate::confirm::waiting();
    let path = "node/journal/apply.json";
    let whole = site.world.read(path);
    for cut in (1..whole.len()).step_by(if std::env::var_os("AUTONOMY_SOAK").is_some() { 1 } else { 211 }) {
        site.world.write(path, &whole[..cut]);
        site.node("fsck --repair").exits(0);
        let status = site.node("status").exits(0).stdout();
        assert!(status.contains("`autonomy confirm` within"), "cut at {cut}: {status}");
    }
    site.world.write(path, "{");
    let mended = site.node("fsck --repair").exits(0).stdout();
    assert!(mended.contains("ran its services and checks again"), "{mended}");
    // It waits again: nobody has confirmed it.
    let status = site.node("status").exits(0).stdout();
    assert!(status.contains("`autonomy confirm` within"), "{status}");
    site.node("confirm").exits(0);
    site.is_whole(&[2]);
}

#[test]
fn keys_plans_trails_and_folders() {
    let flip = |site: &Site, path: &str| {
        let mut bytes = site.world.read(path);
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        site.world.write(path, bytes);
    };
    let site = second();
    let current = link(&site, "node/current");
    // The plan that made a generation is staged again without it: nobody knows any more what it said.
    flip(&site, &format!("node/generations/{current}/plan.json"));
    mends(&site, "the plan that made it was edited or damaged");
    assert!(!site.world.has("node/current/plan.json"));
    // Folders that are empty for the most part, and those that are not.
    for folder in ["inbox", "quarantine", "trust/nodes", "outbox"] {
        std::fs::remove_dir_all(site.world.path(&format!("node/{folder}"))).expect("removed");
        mends(&site, "the folder is missing");
    }
    // Objects that are gone while generations hold their bytes: sharing is lost, and made again.
    std::fs::remove_dir_all(site.world.path("node/objects")).expect("removed");
    mends(&site, "the folder is missing");
    assert!(std::fs::read_dir(site.world.path("node/objects")).expect("objects").count() > 0);
    site.is_whole(&[2]);
    // A journal that speaks of another generation than the active one.
    let site = crate::confirm::waiting();
    std::fs::remove_file(site.world.path("node/current")).expect("removed");
    std::os::unix::fs::symlink(
        std::fs::read_link(site.world.path("node/lkg")).expect("lkg"),
        site.world.path("node/current"),
    )
    .expect("link");
    mends(&site, "`current` points to 1-");
    site.is_whole(&[1]);
    for path in ["node/identity/attest.key", "node/identity/attest.pub", "node/audit/audit.jsonl"] {
        let site = second();
        let whole = site.world.read(path);
        for spoilt in [Vec::new(), whole[..whole.len() / 2].to_vec()] {
            // Half a trail that ends in half a line is what a power loss leaves.
            if path.ends_with("jsonl") && !spoilt.is_empty() {
                continue;
            }
            site.world.write(path, &spoilt);
            site.node("fsck").exits(11).warns(path.trim_start_matches("node/"));
        }
    }
    // Without `node.yaml` it is still no fresh folder.
    let site = second();
    std::fs::remove_file(site.world.path("node/node.yaml")).expect("removed");
    site.node("status").exits(11).warns("although the folder has generations");
}

#[test]
fn a_generation_that_is_gone_comes_back_from_its_set() {
    let site = second();
    let current = link(&site, "node/current");
    std::fs::remove_dir_all(site.world.path(&format!("node/generations/{current}"))).expect("removed");
    let found = site.node("fsck").exits(11);
    assert!(found.stdout().contains("which is not there"), "{}", found.stdout());
    site.node("fsck --repair --from one").exits(11);
    let mended = site.node("fsck --repair --from two").exits(0).stdout();
    assert!(mended.contains("which was gone, is staged again"), "{mended}");
    assert_eq!(link(&site, "node/lkg"), link(&site, "node/current"));
    site.is_whole(&[2]);
}

#[test]
fn what_the_relay_daemon_keeps_is_known_and_a_stranger_there_is_told() {
    let site = Site::running();
    let hex = site.fingerprint("one").hex();
    for folder in ["edge", "edge/sets", &format!("edge/sets/{hex}"), "segments", "receipts"] {
        std::fs::create_dir_all(site.world.path(&format!("node/{folder}"))).expect("folder");
        private(&site, folder, 0o700);
    }
    let _socket = std::os::unix::net::UnixListener::bind(site.world.path("node/edge/edged.sock")).expect("binds");
    let (payload, index) = (Blake3::of(b"payload"), Blake3::of(b"index"));
    let parts = [ArtifactType::File, ArtifactType::Tree].map(|kind| layout::partial(payload, index, kind).to_string());
    let kept = [
        "edge/relay.redb",
        "edge/edged.lock",
        "edge/status.json",
        "edge/local.toml",
        "edge/sets/.body-7",
        "receipts/LOCK",
    ];
    for file in kept.into_iter().chain(parts.iter().map(String::as_str)) {
        site.world.write(&format!("node/{file}"), r#"{"pid":1}"#);
        private(&site, file, 0o600);
    }
    let findings = |site: &Site| -> Vec<String> {
        let told: Value = serde_json::from_str(&site.node("fsck --output json").stdout()).expect("JSON");
        let findings = told["report"]["findings"].as_array().expect("findings").iter();
        findings
            .map(|it| format!("{} {}", it["severity"].as_str().expect("word"), it["path"].as_str().expect("path")))
            .collect()
    };
    assert_eq!(findings(&site), Vec::<String>::new());
    // Others may read the ledger; what nobody of ours made.
    private(&site, "edge/relay.redb", 0o644);
    site.world.write("node/edge/status.json", "{");
    for stranger in ["edge/notes.txt", "edge/sets/file", "segments/x"] {
        site.world.write(&format!("node/{stranger}"), "");
    }
    assert_eq!(
        findings(&site),
        [
            "damage edge/relay.redb",
            "notice edge/notes.txt",
            "notice edge/sets/file",
            "notice edge/status.json",
            "notice segments/x"
        ]
    );
    site.node("fsck --repair").exits(0);
    assert_eq!(
        std::fs::metadata(site.world.path("node/edge/relay.redb")).expect("file").permissions().mode() & 0o777,
        0o600
    );
    // None of it but the operator's own settings goes into a backup.
    site.node("backup --out node.backup").exits(0);
    site.world.run("restore node.backup --state-root again").exits(0);
    assert!(site.world.has("again/edge/local.toml") && !site.world.has("again/edge/relay.redb"));
    assert!(!site.world.has("again/edge/edged.sock") && !site.world.has("again/segments"));
}

fn private(site: &Site, path: &str, mode: u32) {
    let path = site.world.path(&format!("node/{path}"));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
}
