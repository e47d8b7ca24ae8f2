//! What an operating system is known by, and what is recorded of those before it.

use autonomy_schema::evidence::{Evidence, Rebuilt};
use autonomy_schema::os::{OsFacts, OsFingerprint};
use autonomy_schema::version::{ApiVersion, Kind};
use autonomy_schema::{Blake3, Document as _, Time};
use autonomy_stateroot::{EvidenceBytes, StateRoot, os_facts};
use serde_json::{Value, json};

use crate::node::Site;
use crate::world::World;

/// A folder that looks like the root of an operating system.
fn image(world: &World, name: &str, kernel: &str) {
    for folder in ["etc", "proc/sys/kernel"] {
        std::fs::create_dir_all(world.path(&format!("{name}/{folder}"))).expect("folder");
    }
    world.write(&format!("{name}/etc/os-release"), "ID=debian\nVERSION_ID=\"12\"\n");
    world.write(&format!("{name}/etc/machine-id"), "0123456789abcdef0123456789abcdef\n");
    world.write(&format!("{name}/proc/sys/kernel/osrelease"), format!("{kernel}\n"));
    world.write(&format!("{name}/proc/sys/kernel/arch"), "x86_64\n");
    world.write(&format!("{name}/proc/cmdline"), "BOOT_IMAGE=/vmlinuz root=/dev/sda2 quiet\n");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What `edged precheck` leaves when it sees a node: a record, and evidence once something was replaced.
fn record(site: &Site, os: &OsFacts, epoch: u64, before: Option<&OsFacts>) {
    let root = StateRoot::open(&site.world.path("node")).expect("state root");
    let held = root.lock("test").expect("lock");
    let captured_at: Time = "2026-11-25T09:00:00Z".parse().expect("time");
    let composite = os.composite().expect("canonical");
    if let Some(before) = before {
        let evidence = Evidence {
            api_version: ApiVersion::default(),
            kind: Kind::Evidence,
            node_id: "node-a".parse().expect("name"),
            boot_epoch: epoch,
            previous_fingerprint: before.composite().expect("canonical"),
            new_fingerprint: composite,
            changed: os.changed_since(before),
            manifest: Some(Blake3::of(b"manifest")),
            plan_id: None,
            files: vec![Rebuilt { path: "/opt/x".to_owned(), blake3: Blake3::of(b"x") }],
            previous_evidence: None,
            time: captured_at,
        };
        let bytes = evidence.to_canonical().expect("canonical");
        root.put_evidence(&held, &EvidenceBytes { bytes, signatures: b"not judged here\n".to_vec() }).expect("put");
    }
    let os = OsFingerprint {
        api_version: ApiVersion::default(),
        kind: Kind::OsFingerprint,
        composite,
        components: os.clone(),
        boot_epoch: epoch,
        captured_at,
    };
    root.write_os_fingerprint(&held, &os).expect("record");
}

#[test]
fn facts_of_an_image_need_no_state_root_and_give_the_composite_over_what_they_show() {
    let world = World::empty();
    image(&world, "image", "6.1.0-26-amd64");
    let text = world.run("facts --os --os-root image").exits(0).stdout();
    for line in [
        "kernel          6.1.0-26-amd64\n",
        "versionId       12\n",
        "bootParameters  root=/dev/sda2\n",
        "buildId         -\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("0123456789abcdef"), "machine-id(5) is confidential: {text}");
    let shown = json(&world.run("facts --os --os-root image --output json").exits(0).stdout());
    let components = autonomy_schema::canonical::to_bytes(&shown["components"]).expect("canonical");
    assert_eq!(shown["composite"], json!(Blake3::of(&components)));
    assert_eq!(shown["components"].as_object().map(serde_json::Map::len), Some(7));
    assert!(
        shown.get("recorded").is_none() && text.ends_with(&format!("{}\n", shown["composite"].as_str().expect("text")))
    );
    // However the path of the running root is written, it is `uname` that is asked.
    let running = json(&world.run("facts --os --output json").exits(0).stdout());
    assert_eq!(running["components"]["kernel"], json!(os_facts("/".as_ref()).kernel));
    assert_eq!(json(&world.run("facts --os --os-root /usr/.. --output json").exits(0).stdout()), running);
    world.run("facts --os --os-root nowhere").exits(1).warns("source_not_found: cannot open nowhere");
    world.run("facts --os --out f").exits(64);
}

#[test]
fn a_mismatch_names_what_changed_from_what_to_what() {
    let site = Site::bare();
    image(&site.world, "old", "6.1.0-26-amd64");
    image(&site.world, "new", "6.12.0-1-amd64");
    let facts = |image: &str, more: &str| site.node(&format!("facts --os --os-root {image} {more}")).exits(0).stdout();
    assert!(json(&facts("old", "--output json")).get("recorded").is_none(), "nothing is recorded yet");
    let old = os_facts(&site.world.path("old"));
    record(&site, &old, 1, None);
    let same = "Nothing changed since boot epoch 1 was recorded at 2026-11-25T09:00:00Z.\n";
    assert!(facts("old", "").ends_with(same), "{}", facts("old", ""));
    let before = site.snapshot_all();
    let text = facts("new", "");
    let changed = "1 component changed since boot epoch 1 was recorded at 2026-11-25T09:00:00Z:\n  \
                   kernel          6.1.0-26-amd64 → 6.12.0-1-amd64\n";
    assert!(text.ends_with(changed), "{text}");
    let shown = json(&facts("new", "--output json"));
    let expected = json!([{ "component": "kernel", "old": "6.1.0-26-amd64", "new": "6.12.0-1-amd64" }]);
    assert_eq!((&shown["recorded"]["changed"], &shown["recorded"]["boot_epoch"]), (&expected, &json!(1)));
    assert_eq!(shown["recorded"]["composite"], json!(old.composite().expect("canonical")));
    assert!(before == site.snapshot_all(), "it writes nothing");
    let damaged = r#"{"apiVersion":"autonomy/v1"}"#;
    site.world.write("node/bootstrap/os_fingerprint.json", damaged);
    site.node("facts --os --output json").exits(11).warns("corrupt_state: ");
}

#[test]
fn epochs_are_shown_with_what_their_evidence_says() {
    let site = Site::bare();
    let show = |more: &str| site.node(&format!("epoch show {more}")).exits(0).stdout();
    assert!(show("").starts_with("No operating system is recorded on this node.\n"), "{}", show(""));
    let none = json(&show("--output json"));
    assert_eq!((&none["boot_epoch"], &none["evidence"]["current"]), (&json!(0), &Value::Null));

    let old = OsFacts { kernel: "6.1".to_owned(), ..OsFacts::default() };
    let new = OsFacts { kernel: "6.12".to_owned(), ..OsFacts::default() };
    record(&site, &old, 1, None);
    assert!(show("").contains("Evidence   none"), "{}", show(""));
    record(&site, &new, 2, Some(&old));
    let text = show("");
    for line in [
        "Boot epoch 2\n",
        "Since      2026-11-25T09:00:00Z\n",
        ": 1 file was put in place for ",
        "Changed    kernel 6.1 → 6.12\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let shown = json(&show("--output json"));
    assert_eq!((&shown["boot_epoch"], &shown["composite"]), (&json!(2), &json!(new.composite().expect("canonical"))));
    assert_eq!(shown["evidence"]["current"]["changed"][0]["component"], "kernel");
    assert_eq!(shown["evidence"]["previous"], Value::Null);
    record(&site, &old, 3, Some(&new));
    assert!(show("").contains("Before it  of boot epoch 2, "), "{}", show(""));
    assert_eq!(json(&show("--output json"))["evidence"]["previous"]["bootEpoch"], 2);

    site.world.write("node/epoch/current/evidence.json", "{");
    let ran = site.node("epoch show --output json").exits(11).warns("corrupt_state: `epoch/current/evidence.json`: ");
    assert_eq!(json(&ran.stdout())["reasons"][0]["code"], "corrupt_state");
}

#[test]
fn reconstruction_is_planned_and_node_yaml_alone_allows_other_folders() {
    let site = Site::running();
    image(&site.world, "image", "6.1.0-26-amd64");
    site.set("two", 2);
    site.doctor("two", |manifest| {
        let file = |to: &str| json!({ "writeFile": { "to": to, "content": "LEVEL=1\n", "mode": "0644" } });
        let steps = json!([file("/etc/autonomy/agent.env"), file("/srv/agent/agent.env")]);
        manifest["spec"]["reconstruction"] = json!({ "steps": steps });
    });
    let refused = site.node("plan two --os-root image --output json").exits(5).warns("destination_refused: ");
    let line = "`reconstruction./srv/agent/agent.env`: this node lets reconstruction write only below /usr/local/, ";
    assert!(refused.stderr().contains(line), "{}", refused.stderr());
    site.world.edit("node/node.yaml", "hardware: ", "destinations: [ /srv/agent ]\nhardware: ");
    let plan = json(&site.node("plan two --os-root image --output json").exits(0).stdout());
    let steps: Vec<&str> =
        plan["steps"].as_array().expect("steps").iter().filter_map(|step| step["address"].as_str()).collect();
    let at = |address: &str| {
        steps.iter().position(|step| *step == address).unwrap_or_else(|| panic!("{address} in {steps:?}"))
    };
    let (first, second) = (at("reconstruction./etc/autonomy/agent.env"), at("reconstruction./srv/agent/agent.env"));
    assert!(at("generation") < first && first + 1 == second, "{steps:?}");
    assert_eq!(plan["forecast"]["reconstruction"], json!({ "files": 2 }));
    assert!(!plan.to_string().contains("LEVEL=1"), "a plan holds no content of files");
    assert_eq!(plan["steps"][first]["after"]["state"], json!(format!("{} 0644", Blake3::of(b"LEVEL=1\n"))));
}

#[test]
fn what_was_rebuilt_is_no_change_until_somebody_changes_it_and_then_it_is_put_right() {
    let site = Site::running();
    image(&site.world, "image", "6.1.0-26-amd64");
    let with = |set: &str, serial: u64, steps: &Value| {
        site.set(set, serial);
        site.doctor(set, |manifest| manifest["spec"]["reconstruction"] = json!({ "steps": steps }));
    };
    let folder = json!({ "directory": { "path": "/opt/harbor", "mode": "0750" } });
    let file = json!({ "writeFile": { "to": "/opt/harbor/agent.env", "content": "LEVEL=1\n", "mode": "0644" } });
    let link = json!({ "symlink": { "at": "/opt/current", "target": "harbor" } });
    let node = |verb: &str| site.node(&format!("{verb} --os-root image"));
    std::fs::create_dir(site.world.path("image/opt")).expect("folder");
    with("two", 2, &json!([folder, file, link]));
    node("apply two --auto-approve").exits(0);
    assert_eq!(site.world.read("image/opt/harbor/agent.env"), b"LEVEL=1\n");
    let plan = node("plan two --detailed-exitcode").exits(0);
    assert!(plan.stdout().contains("No changes."), "{}", plan.stdout());

    site.world.write("image/opt/harbor/agent.env", "LEVEL=9\n");
    std::fs::remove_file(site.world.path("image/opt/current")).expect("removes");
    let plan = node("plan two").exits(0).stdout();
    for line in [
        "Drift: 2 differences from the active manifest:",
        "    + reconstruction./opt/current  ",
        "    ~ reconstruction./opt/harbor/agent.env  its content was changed after reconstruction wrote it (drift_content)",
        "  -/+ generation  ",
    ] {
        assert!(plan.contains(line), "{line} in {plan}");
    }
    assert!(!plan.contains("reconstruction./opt/harbor  "), "{plan}");
    node("apply two --auto-approve").exits(0);
    assert_eq!(site.world.read("image/opt/harbor/agent.env"), b"LEVEL=1\n");
    assert_eq!(std::fs::read_link(site.world.path("image/opt/current")).expect("link"), std::path::Path::new("harbor"));
    node("plan two --detailed-exitcode").exits(0);

    // What the next manifest no longer names is left, and the plan says so; a return names what it will do.
    with("three", 3, &json!([folder]));
    let plan = node("plan three").exits(0).stdout();
    assert!(plan.contains("left as they are: /opt/current, /opt/harbor/agent.env\n"), "{plan}");
    node("apply three --auto-approve").exits(0);
    assert!(site.world.has("image/opt/harbor/agent.env") && site.world.has("image/opt/current"));
    std::fs::remove_file(site.world.path("image/opt/harbor/agent.env")).expect("removes");
    let back = node("rollback --auto-approve").exits(0).stdout();
    assert!(back.contains("    + reconstruction./opt/harbor/agent.env  "), "{back}");
    assert_eq!(site.world.read("image/opt/harbor/agent.env"), b"LEVEL=1\n");
}
