//! Peers with a good certificate and bad intentions, against daemons that run: what they send is answered, told, and goes nowhere.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use autonomy_schema::receipt::ReceiptName;
use autonomy_schema::{Blake3, canonical};
use autonomy_trust::AttestKey;
use serde_json::{Value, json};

use crate::node::Site;
use crate::relay::{Daemon, edgectl, fleet, json_of, relayed, status_until};
use crate::relay_kills::{agent, copy, metric};

/// Several looks of a daemon at what there is to be sent.
const LOOKS: Duration = Duration::from_secs(3);

/// A node of the fleet that runs no daemon of ours.
pub(crate) fn rogue(site: &Site, id: &str) {
    site.world
        .run(&format!("init --state-root {id} --node-id {id} --fleet harbor --hardware x86_64 --trust-root root.json"))
        .exits(0);
    site.world.run(&format!("cert issue --ca ca --state-root {id}")).exits(0);
}

/// What goes over the wire first: the set without its artifacts.
pub(crate) fn archive(site: &Site, set: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, (_, bytes)) in site.world.tree(set).iter().filter(|(path, _)| !path.starts_with("artifacts/")) {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, path, bytes.as_slice()).expect("tar");
    }
    archive.into_inner().expect("tar")
}

/// Every segment of a set, as one pack.
pub(crate) fn pack(site: &Site, set: &str) -> Vec<u8> {
    let manifest: Value = serde_json::from_slice(&site.world.read(&format!("{set}/manifest.json"))).expect("JSON");
    let mut packed = Vec::new();
    for artifact in manifest["spec"]["artifacts"].as_array().expect("artifacts") {
        let text = |field: &str| artifact[field].as_str().expect("text");
        let index = site.world.read(&format!("{set}/segments/{}.idx", text("name")));
        let bytes = site.world.read(&format!("{set}/artifacts/{}", text("path")));
        let mut at = 0;
        for entry in index.chunks(40) {
            let length = u64::from_le_bytes(entry[32..].try_into().expect("eight"));
            let end = at + usize::try_from(length).expect("fits");
            packed.extend_from_slice(&entry[..36]);
            packed.extend_from_slice(&bytes[at..end]);
            at = end;
        }
    }
    packed
}

/// Sends a body to node `to` as node `from`, with curl; gives the status and the answer.
pub(crate) fn send(site: &Site, from: &str, (to, daemon): (&str, &Daemon), path: &str, body: &[u8]) -> (u16, Value) {
    site.world.write("body", body);
    let port = daemon.listen.rsplit_once(':').expect("port").1;
    let (method, media) =
        if path == "/v1/packs" { ("POST", "application/vnd.autonomy.pack.v1") } else { ("PUT", "application/x-tar") };
    let ran = Command::new("curl")
        .current_dir(site.world.path("."))
        .args(["--silent", "--show-error", "--http2", "--max-time", "30", "--write-out", "%{http_code}"])
        .args(["--cacert", "ca/ca.crt", "--cert", &format!("{from}/identity/node.crt")])
        .args(["--key", &format!("{from}/identity/node.key"), "--resolve", &format!("{to}:{port}:127.0.0.1")])
        .args(["--request", method, "--header", &format!("content-type: {media}"), "--data-binary", "@body"])
        .arg(format!("https://{to}:{port}{path}"))
        .output()
        .expect("curl (ci/setup-tests installs it)");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    let (answer, status) = said.rsplit_once('\n').unwrap_or_else(|| panic!("{path}: {said} {ran:?}"));
    (status.parse().expect("status"), serde_json::from_str(answer).expect("JSON"))
}

#[test]
fn fi_a_relayed_manifest_that_is_forged_old_or_foreign_is_quarantined_and_reaches_no_third_node() {
    let site = fleet();
    rogue(&site, "node-m");
    let mut c = Daemon::start(&site, "b", &[]);
    relayed(&site, "five", 5, &c.listen, &json!({}));
    let mut a = Daemon::start(&site, "node", &[]);
    a.wait_for("edge.set.done");
    c.wait_for("edge.peer.connected");
    let before = metric(&c, "autonomy_edge_requests_total{code=\"201\"}");
    // One byte of what was signed; the same serial with other bytes; a lower serial; another fleet.
    site.set("forged", 6);
    let text = String::from_utf8(site.world.read("forged/manifest.json")).expect("UTF-8");
    site.world.write("forged/manifest.json", text.replace("\"1.4.2\"", "\"9.9.9\""));
    site.set("other", 5);
    site.doctor("other", |manifest| manifest["metadata"]["channel"] = json!("beta"));
    site.set("old", 4);
    site.set("foreign", 6);
    site.doctor("foreign", |manifest| manifest["spec"]["scope"]["fleet"] = json!("island"));
    let cases = [
        ("forged", "below_threshold"),
        ("other", "serial_conflict"),
        ("old", "serial_too_low"),
        ("foreign", "scope_mismatch"),
    ];
    for (at, (set, code)) in (1..).zip(cases) {
        let fingerprint = site.fingerprint(set);
        let body = archive(&site, set);
        let (status, answer) = send(&site, "node-m", ("node-a", &a), &format!("/v1/manifests/{fingerprint}"), &body);
        assert_eq!(status, 422, "{set}: {answer}");
        let codes: Vec<&str> = answer["reasons"]
            .as_array()
            .expect("reasons")
            .iter()
            .filter_map(|reason| reason["code"].as_str())
            .collect();
        assert!(codes.contains(&code), "{set}: {codes:?}");
        // Who has not heard of the newer serial yet may be honest: it is told, and takes no place in quarantine.
        let is_late = set == "old";
        let told = a.wait_for(if is_late { "edge.manifest.late" } else { "edge.manifest.quarantined" });
        assert_eq!((&told["peer"], &told["manifest"]), (&json!("node-m"), &json!(fingerprint)), "{told}");
        assert!(told["reasons"].as_str().expect("reasons").contains(code), "{told}");
        let kept = format!("node/quarantine/received-{}.tar", fingerprint.hex());
        assert_eq!(site.world.has(&kept).then(|| site.world.read(&kept)), (!is_late).then_some(body), "{set}");
        assert_eq!(metric(&a, "autonomy_edge_requests_total{code=\"422\"}"), at, "{set}");
        // Its segments are not taken either.
        assert!(!site.world.has(&format!("node/edge/sets/{}", fingerprint.hex())), "{set}");
    }
    let (status, answer) = send(&site, "node-m", ("node-a", &a), "/v1/packs", &pack(&site, "forged"));
    let results = answer["results"].as_array().expect("results");
    assert!(
        status == 200 && results.iter().all(|result| result["status"] == "refused" && result["reason"] == "not_named"),
        "{answer}"
    );
    // A good set of the same peer goes on to the third node, and nothing else does.
    site.set("good", 6);
    site.doctor("good", |manifest| manifest["spec"]["scope"]["matchLabels"] = json!({ "site": "pier-9" }));
    let good = site.fingerprint("good");
    let (status, answer) =
        send(&site, "node-m", ("node-a", &a), &format!("/v1/manifests/{good}"), &archive(&site, "good"));
    assert_eq!(status, 201, "{answer}");
    let (status, answer) = send(&site, "node-m", ("node-a", &a), "/v1/packs", &pack(&site, "good"));
    assert_eq!(status, 200, "{answer}");
    a.wait_for("edge.set.done");
    assert!(site.world.has(&format!("b/edge/sets/{}/artifacts", good.hex())), "{:?}", site.world.tree("b/edge").keys());
    std::thread::sleep(LOOKS);
    let held: Vec<String> =
        site.world.tree("b/edge/sets").into_keys().filter(|path| !path.starts_with(good.hex().as_str())).collect();
    assert!(held.is_empty() && site.world.tree("b/quarantine").is_empty(), "{held:?}");
    assert_eq!(metric(&c, "autonomy_edge_requests_total{code=\"422\"}"), 0);
    let inbox: Vec<String> = site.world.tree("b/inbox").into_keys().collect();
    let five = site.fingerprint("five");
    assert!(inbox.iter().all(|path| path.starts_with(five.hex().as_str())), "{inbox:?}");
    assert!(metric(&c, "autonomy_edge_requests_total{code=\"201\"}") > before, "the good one did reach it");
}

/// A program in Python beside this file, which ends with its test.
struct Script(Child);

impl Script {
    fn start(site: &Site, name: &str, arguments: &[&str]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/rogues").join(name);
        let mut command = Command::new("python3");
        command.arg(path).args(arguments).current_dir(site.world.path(".")).stdin(Stdio::null());
        Self(command.spawn().expect("python3 (ci/setup-tests installs it)"))
    }

    /// Waits for a file that it writes when it is ready.
    #[track_caller]
    fn says(&mut self, site: &Site, file: &str) -> String {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until && self.0.try_wait().expect("waits").is_none() {
            if site.world.has(file) {
                return String::from_utf8(site.world.read(file)).expect("UTF-8");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it wrote no `{file}`");
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A receipt about this manifest that node `names` seems to have signed, with the key of the node in `by`.
fn receipt(site: &Site, by: &str, names: &str, manifest: Blake3, counter: u64) -> Value {
    let value = json!({
        "apiVersion": "autonomy/v1", "kind": "Receipt", "nodeId": names, "manifest": manifest, "result": "stored",
        "bootEpoch": 1, "counter": counter, "time": "2026-11-29T10:00:00Z", "from": "node-a",
    });
    let bytes = canonical::to_bytes(&value).expect("canonical");
    let pem = site.world.read(&format!("{by}/identity/attest.key"));
    let key = AttestKey::from_pem(&String::from_utf8(pem).expect("PEM")).expect("key");
    let line = key.sign_line(&bytes).expect("signs");
    json!({ "document": String::from_utf8(bytes).expect("UTF-8"), "signatures": line + "\n" })
}

/// Who is in the chain of custody.
fn chain(site: &Site, manifest: Blake3) -> Vec<String> {
    let told = site.node(&format!("trace {manifest} --output json")).exits(0).stdout();
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let nodes = told["nodes"].as_array().expect("nodes").iter();
    nodes.filter_map(|node| node["node"].as_str().map(str::to_owned)).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn fi_a_peer_that_says_stored_with_receipts_of_others_gets_no_custody() {
    let site = fleet();
    rogue(&site, "node-c");
    let mut liar = Script::start(&site, "liar.py", &["b/identity", "liar.port", "answer.json"]);
    let address = liar.says(&site, "liar.port");
    relayed(&site, "one", 1, &address, &json!({}));
    let fingerprint = site.fingerprint("one");
    // The key of C is known to A, that of D is not.
    let key = site.world.read("node-c/identity/attest.pub");
    std::fs::create_dir_all(site.world.path("node/trust/nodes")).expect("folder");
    site.world.write("node/trust/nodes/node-c.pub", key);
    let receipts = [
        receipt(&site, "b", "node-b", Blake3::of(b"another"), 1),
        receipt(&site, "b", "node-c", fingerprint, 2),
        receipt(&site, "b", "node-d", fingerprint, 3),
    ];
    let answer =
        json!({ "manifest": fingerprint, "state": "stored", "missing": [], "more": false, "receipts": receipts });
    site.world.write("answer.json", answer.to_string());
    let mut a = Daemon::start(&site, "node", &[]);
    let refused = [a.wait_for("edge.receipt.refused"), a.wait_for("edge.receipt.refused")];
    let reasons: Vec<&str> = refused.iter().filter_map(|line| line["reasons"].as_str()).collect();
    assert!(reasons[0].contains("bad_value") && reasons[1].contains("below_threshold"), "{reasons:?}");
    assert!(refused.iter().all(|line| line["peer"] == "node-b"), "{refused:?}");
    a.wait_for("edge.set.done");
    // The word of the peer ends the delivery, and proves nothing: no receipt is kept, nobody is in the chain.
    let kept: Vec<String> = site
        .world
        .tree("node/receipts")
        .into_keys()
        .filter(|name| ReceiptName::is_like(name) && !name.starts_with("node-a-"))
        .collect();
    assert!(kept.is_empty(), "{kept:?}");
    assert_eq!(chain(&site, fingerprint), names(&["node-a"]));
    let status = status_until(&site, "node", |status| status["deliveries"][0]["done"] == true);
    assert_eq!(status["rows"].as_array().map(Vec::len), Some(1), "no segment was sent: {status:#}");
}

#[test]
fn fi_two_nodes_from_one_disk_image_are_told_by_their_counters_and_custody_is_not_mixed_up() {
    let site = fleet();
    copy(&site, "b", "twin");
    let mut b = Daemon::start(&site, "b", &[]);
    let mut twin = Daemon::start(&site, "twin", &[]);
    // The same id at one address, and later at another.
    relayed(&site, "one", 1, &b.listen, &json!({}));
    let mut a = Daemon::start(&site, "node", &[]);
    a.wait_for("edge.set.done");
    relayed(&site, "two", 2, &twin.listen, &json!({}));
    let refused = a.wait_for("edge.receipt.refused");
    assert!(refused["reasons"].as_str().expect("reasons").contains("receipt_replayed"), "{refused}");
    a.wait_for("edge.set.done");
    let (one, two) = (site.fingerprint("one"), site.fingerprint("two"));
    let has = |node: &str, of: Blake3| site.world.has(&format!("{node}/inbox/{}/manifest.json", of.hex()));
    assert_eq!([has("b", one), has("b", two), has("twin", one), has("twin", two)], [true, false, false, true]);
    // The counter was used: the first receipt stays, the second counts for nothing.
    assert_eq!((chain(&site, one), chain(&site, two)), (names(&["node-a", "node-b"]), names(&["node-a"])));
    // Each goes on by itself, under one name and one quota.
    for (node, daemon) in [("b", &mut b), ("twin", &mut twin)] {
        site.world.run(&format!("reconcile --once --state-root {node}")).exits(0);
        json_of(&edgectl(&site, node, "relay status --output json"), 0);
        daemon.signal("TERM");
        assert_eq!(daemon.end(), Some(0));
    }
}

#[test]
fn fi_peers_that_send_garbage_stall_and_flood_harm_neither_the_daemon_nor_the_others() {
    let site = fleet();
    for id in ["node-m", "node-n"] {
        rogue(&site, id);
    }
    site.world.write("build/agent", agent(4 << 20));
    let mut b = Daemon::start(&site, "b", &[]);
    let (host, port) = b.listen.rsplit_once(':').expect("address");
    let mut storm = Script::start(&site, "storm.py", &["node-m/identity", "node-n/identity", host, port, "storm.on"]);
    assert_eq!(storm.says(&site, "storm.on"), "all stand\n");
    // While half bodies and slow headers stand, and streams come by the thousand, a set goes through.
    relayed(&site, "one", 1, &b.listen, &json!({}));
    let mut a = Daemon::start(&site, "node", &[]);
    a.wait_for("edge.set.done");
    assert!(storm.0.try_wait().expect("waits").is_none(), "the storm goes on");
    assert!(site.world.has(&format!("b/inbox/{}/manifest.json", site.fingerprint("one").hex())));
    let used = metric(&b, "autonomy_edge_requests_total{code=\"422\"}");
    assert!(used >= 1, "a segment of a wrong hash was answered");
    assert!(metric(&b, "autonomy_edge_requests_total{code=\"413\"}") >= 1, "an endless body was cut off");
    assert!(metric(&b, "autonomy_edge_rejected_connections_total{reason=\"not_tls\"}") >= 1, "garbage was rejected");
    let status = String::from_utf8(std::fs::read(format!("/proc/{}/status", b.id())).expect("status")).expect("UTF-8");
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(peak.expect("VmHWM") < 96 << 10, "{status}");
    drop(storm);
    b.signal("TERM");
    assert_eq!(b.end(), Some(0));
}
