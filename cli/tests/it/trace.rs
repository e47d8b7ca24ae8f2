//! The chain of custody: from receipts in a state root and beside it, as text, JSON and a picture.

use std::path::Path;

use autonomy_schema::canonical;
use autonomy_trust::AttestKey;
use serde_json::{Value, json};

use crate::node::Site;

const NODES: [&str; 5] = ["node-a", "node-b", "node-c", "node-d", "node-e"];

/// Five nodes, whose keys lie in `keys`.
struct Fleet {
    site: Site,
    manifest: String,
}

impl Fleet {
    fn new() -> Self {
        let site = Site::running();
        std::fs::create_dir(site.world.path("keys")).expect("folder");
        for node in &NODES[1..] {
            let init = format!("init --state-root {node} --node-id {node} --fleet harbor --trust-root root.json");
            site.world.run(&init).exits(0);
        }
        let manifest = site.fingerprint("one").to_string();
        let fleet = Self { site, manifest };
        for node in NODES {
            let key = fleet.site.world.read(&format!("{}/identity/attest.pub", folder(node)));
            fleet.site.world.write(&format!("keys/{node}.pub"), key);
        }
        fleet
    }

    /// Node, result, giver, counter, minute: a receipt with the key of `by`, in the folder.
    fn receipt(&self, into: &str, by: &str, (node, result, from, counter, minute): (&str, &str, &str, u64, u32)) {
        let mut value = json!({
            "apiVersion": "autonomy/v1", "kind": "Receipt", "nodeId": node, "manifest": self.manifest, "result": result,
            "bootEpoch": 1, "counter": counter, "time": format!("2026-11-29T10:{minute:02}:00Z"),
        });
        if !from.is_empty() {
            value["from"] = from.into();
        }
        let bytes = canonical::to_bytes(&value).expect("canonical");
        let pem = self.site.world.read(&format!("{}/identity/attest.key", folder(by)));
        let key = AttestKey::from_pem(&String::from_utf8(pem).expect("PEM")).expect("key");
        let line = key.sign_line(&bytes).expect("signs");
        std::fs::create_dir_all(self.site.world.path(into)).expect("folder");
        let name = format!("{into}/{node}-{}-{counter}.json", &key.id().hex()[..8]);
        self.site.world.write(&name, bytes);
        self.site.world.write(&format!("{name}.sigstore.jsonl"), line + "\n");
    }
}

/// Where the state root of a node lies.
fn folder(node: &str) -> &str {
    if node == "node-a" { "node" } else { node }
}

/// A stick to A; A gave it to B and C, B to D, and E has it from somebody who is not known.
fn known_fleet() -> Fleet {
    let fleet = Fleet::new();
    for receipt in [
        ("node-a", "stored", "", 11, 0),
        ("node-a", "active", "", 12, 1),
        ("node-b", "stored", "node-a", 1, 3),
        ("node-b", "active", "", 2, 4),
        ("node-c", "stored", "node-a", 1, 3),
        ("node-d", "stored", "node-b", 1, 6),
        ("node-d", "active", "", 2, 7),
        ("node-e", "stored", "node-x", 1, 9),
    ] {
        fleet.receipt("collected", receipt.0, receipt);
    }
    std::fs::remove_file(fleet.site.world.path("keys/node-e.pub")).expect("removes");
    fleet
}

#[test]
fn the_chain_of_custody_is_told_and_drawn_the_same_every_time() {
    let fleet = known_fleet();
    let world = &fleet.site.world;
    let trace = format!("trace {} --receipts collected --keys keys", fleet.manifest);
    let told = world.run(&format!("{trace} --svg one.svg")).exits(0).stdout();
    for line in [
        "hop 0  node-a  from no peer: a medium, a registry, git or a folder brought it\n",
        "hop 1  node-b  from node-a\n       stored  2026-11-29T10:03:00Z  boot epoch 1, receipt 1, verified, key ",
        "hop 2  node-d  from node-b\n",
        "hop 0  node-x  no receipt of it is here\n",
        "       stored  2026-11-29T10:09:00Z  boot epoch 1, receipt 1, key not known\n",
        "  no receipt says that node-c runs it\n",
        "  node-x gave it to node-e, and no receipt of node-x is here: how it came there is not known\n",
    ] {
        assert!(told.contains(line), "no `{line}` in\n{told}");
    }
    // The same receipts, in two folders and each twice.
    world.run(&format!("{trace} --receipts collected --svg two.svg")).exits(0);
    let drawn = world.read("one.svg");
    assert_eq!(drawn, world.read("two.svg"));
    let drawn = String::from_utf8(drawn).expect("UTF-8").replace(&fleet.manifest, "blake3:…");
    for stranger in ["<script", "href", "@import", "url(http", "<image", "on"] {
        let harmless = drawn.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(stranger == "on" || !harmless.contains(stranger), "{stranger} in\n{drawn}");
    }
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/trace/fleet.svg");
    if std::env::var_os("AUTONOMY_UPDATE").is_some() {
        std::fs::create_dir_all(recorded.parent().expect("parent")).expect("folder");
        std::fs::write(&recorded, &drawn).expect("writes");
    }
    let recorded = std::fs::read_to_string(&recorded).unwrap_or_default();
    assert_eq!(drawn, recorded, "look at the picture, then run with AUTONOMY_UPDATE=1");
    let json = world.run(&format!("{trace} --output json")).exits(0).stdout();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let hop = json!({ "from": "node-b", "to": "node-d", "time": "2026-11-29T10:06:00Z" });
    assert!(json["hops"].as_array().expect("hops").contains(&hop), "{json:#}");
    let nodes: Vec<&str> =
        json["nodes"].as_array().expect("nodes").iter().filter_map(|it| it["node"].as_str()).collect();
    assert_eq!(nodes, ["node-a", "node-x", "node-b", "node-c", "node-e", "node-d"]);
}

#[test]
fn receipts_that_are_forged_are_left_out_and_refused() {
    let fleet = known_fleet();
    let world = &fleet.site.world;
    // D signs that it is B; B signs two receipts with one counter.
    fleet.receipt("forged", "node-d", ("node-b", "active", "", 7, 30));
    fleet.receipt("forged", "node-b", ("node-b", "stored", "node-d", 1, 5));
    let trace = format!("trace {} --receipts collected --receipts forged --keys keys --output json", fleet.manifest);
    let ran = world.run(&trace).exits(3).warns("scope_mismatch: ").warns("receipt_replayed: ");
    let json: Value = serde_json::from_str(&ran.stdout()).expect("JSON");
    assert_eq!(json["reasons"].as_array().expect("reasons").len(), 2, "{json:#}");
    let stolen = json!({ "from": "node-d", "to": "node-b", "time": "2026-11-29T10:05:00Z" });
    assert!(!json["hops"].as_array().expect("hops").contains(&stolen), "{json:#}");
    // A receipt for another manifest that is forged is nothing to this chain.
    let elsewhere = format!("trace {} --receipts collected --receipts forged --keys keys", "00".repeat(32));
    let told = world.run(&elsewhere).exits(0).stdout();
    assert!(told.contains("\nno receipts\n"), "{told}");
}

#[test]
fn a_trace_of_the_latest_needs_a_node_and_writes_nothing() {
    let fleet = known_fleet();
    let site = &fleet.site;
    let before = site.snapshot_all();
    let told = site.node("trace latest --receipts collected --keys keys").exits(0).stdout();
    assert!(told.contains("Release    harbor-gateways 1.4.2, serial 1\n"), "{told}");
    assert!(told.contains("  pier-7-crane is a peer of this release, and no receipt of it is here\n"), "{told}");
    let digits = &fleet.manifest["blake3:".len()..][..8];
    assert_eq!(site.node(&format!("trace {digits} --receipts collected --keys keys")).exits(0).stdout(), told);
    site.node("trace latest --svg node/x.svg").exits(64);
    assert!(before == site.snapshot_all());
    site.world.run("trace latest --receipts collected").exits(1).warns("source_not_found: ");
    site.world.run("trace abc --receipts collected").exits(3).warns("bad_digest: ");
    site.world.run("trace 0123456789 --receipts collected").exits(1).warns("source_not_found: ");
    site.world.run("trace latest --receipts nowhere --state-root node").exits(1);
}
