//! Two real daemons: what node A activated goes to node B over mutual TLS, and everything that people see of it.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::edged::program;
use crate::node::Site;

/// Long for a step of a relay on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that runs; it is killed with its test.
pub(crate) struct Daemon {
    child: Child,
    lines: Receiver<Value>,
    seen: Vec<Value>,
    pub(crate) listen: String,
    pub(crate) metrics: String,
}

impl Daemon {
    pub(crate) fn start(site: &Site, node: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program());
        command.current_dir(site.world.path(".")).args(["run", "--state-root", node]);
        command.env_remove("AUTONOMY_STATE_ROOT").envs(environment.iter().copied()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().expect("stderr"));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "event": "not JSON", "line": line }));
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut daemon = Self { child, lines, seen: Vec::new(), listen: String::new(), metrics: String::new() };
        let ready = daemon.wait_for("edge.ready");
        ready["listen"].as_str().expect("address").clone_into(&mut daemon.listen);
        ready["metrics"].as_str().expect("address").clone_into(&mut daemon.metrics);
        daemon
    }

    /// The next line with this event.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, event: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.seen.push(line.clone());
            if line["event"] == event {
                return line;
            }
        }
        panic!("no `{event}` among {:#?}", self.seen);
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("waits") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end; {:#?}", self.seen);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn edgectl(site: &Site, node: &str, arguments: &str) -> Output {
    let program: PathBuf = program().with_file_name("edgectl");
    let mut command = Command::new(program);
    command.current_dir(site.world.path(".")).args(arguments.split_whitespace()).args(["--state-root", node]);
    command.env_remove("AUTONOMY_STATE_ROOT").stdin(Stdio::null()).output().expect("runs")
}

#[track_caller]
pub(crate) fn said(output: &Output, exit: i32) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(exit), "{all}");
    text
}

#[track_caller]
pub(crate) fn json_of(output: &Output, exit: i32) -> Value {
    let text = said(output, exit);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Waits until the status of a node is as wanted.
#[track_caller]
pub(crate) fn status_until(site: &Site, node: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let status = json_of(&edgectl(site, node, "relay status --output json"), 0);
        if wanted(&status) {
            return status;
        }
        assert!(Instant::now() < until, "it never came: {status:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The operator's own settings of a node.
fn settle(site: &Site, node: &str, text: &str) {
    let folder = site.world.path(&format!("{node}/edge"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).expect("folder");
    site.world.write(&format!("{node}/edge/local.toml"), text);
}

/// Two nodes of one fleet with certificates; B runs nothing yet and takes what comes.
pub(crate) fn fleet() -> Site {
    let site = Site::bare();
    site.world
        .run("init --state-root b --node-id node-b --fleet harbor --label site=pier-7 --hardware x86_64 --trust-root root.json")
        .exits(0);
    site.world.run("cert ca init --dir ca --fleet harbor").exits(0);
    site.world.run("cert issue --ca ca --state-root node").exits(0);
    site.world.run("cert issue --ca ca --state-root b").exits(0);
    for node in ["node", "b"] {
        settle(&site, node, "listen = \"127.0.0.1:0\" # any port\nmetrics = \"127.0.0.1:0\"\n");
    }
    site
}

/// A set whose manifest names node B at this address, active on A.
pub(crate) fn relayed(site: &Site, name: &str, serial: u64, address: &str, relay: &Value) {
    site.set(name, serial);
    site.doctor(name, |manifest| {
        let mut wanted =
            json!({ "peers": [{ "id": "node-b", "address": address }], "backoffBase": "200ms", "window": "10s" });
        for (key, value) in relay.as_object().expect("object") {
            wanted[key] = value.clone();
        }
        let relay = manifest["spec"]["relay"].as_object_mut().expect("relay");
        relay.extend(wanted.as_object().expect("object").clone());
    });
    site.node(&format!("apply {name} --auto-approve")).exits(0);
}

#[test]
fn what_one_node_runs_is_in_the_inbox_of_the_other_and_everybody_is_told() {
    let site = fleet();
    let mut b = Daemon::start(&site, "b", &[]);
    relayed(&site, "one", 1, &b.listen, &json!({}));
    let fingerprint = site.fingerprint("one");
    let mut a = Daemon::start(&site, "node", &[]);
    a.wait_for("edge.set.done");
    // B has it where the reconciler looks, and A the receipt that B signed.
    assert!(site.world.has(&format!("b/inbox/{}/manifest.json", fingerprint.hex())));
    site.world.run("reconcile --once --state-root b").exits(0);
    assert_eq!(site.world.read("b/current/manifest.json"), site.world.read("one/manifest.json"));
    let status = status_until(&site, "node", |status| status["counters"]["acked"].as_u64() > Some(1));
    assert_eq!(status["deliveries"][0]["delivered"], json!(["node-b"]), "{status:#}");
    let rows = status["rows"].as_array().expect("rows");
    assert!(
        rows.iter().all(|row| row["state"] == "acked" && row["attempts"] == 1 && row["peer"] == "node-b"),
        "{rows:#?}"
    );
    assert!(rows.iter().any(|row| row["segment"] == "manifest"), "{rows:#?}");
    let receipts = std::fs::read_dir(site.world.path("node/receipts")).expect("receipts");
    let names: Vec<String> = receipts.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    assert!(
        names.iter().any(|name| name.starts_with("node-b-") && autonomy_schema::receipt::ReceiptName::is_like(name)),
        "{names:?}"
    );
    // For people.
    let text = said(&edgectl(&site, "node", "relay status"), 0);
    for told in ["node-a (running, pid ", "node-b", "9437184 B/s", "done", "0 failed, 0 dead letters"] {
        assert!(text.contains(told), "no `{told}` in\n{text}");
    }
    let listed = said(&edgectl(&site, "b", "segments list"), 0);
    assert_eq!(listed, "no set is being received\n");
    // gc knows what the relay needs.
    let pins: Value = serde_json::from_slice(&site.world.read("node/edge/pins.json")).expect("JSON");
    assert_eq!(pins["generation"], status["generation"], "{pins}");
    site.node("gc").exits(0);
    // A second daemon is told who serves.
    let second =
        Command::new(program()).current_dir(site.world.path(".")).args(["run", "--state-root", "node"]).output();
    let second = second.expect("runs");
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(6) && told.contains("locked") && told.contains("pid "), "{told}");
    // The next release goes the same way, while both run; the rows of the old one go.
    relayed(&site, "two", 2, &b.listen, &json!({}));
    a.wait_for("edge.set.done");
    let second = site.fingerprint("two");
    assert!(site.world.has(&format!("b/inbox/{}/manifest.json", second.hex())));
    status_until(&site, "node", |status| {
        let rows = status["rows"].as_array().expect("rows");
        !rows.is_empty() && rows.iter().all(|row| row["manifest"] == second.to_string())
    });
    // Drained, by hand and by signal; what is known stays readable.
    said(&edgectl(&site, "node", "drain"), 0);
    assert_eq!(a.end(), Some(0));
    b.signal("TERM");
    assert_eq!(b.end(), Some(0));
    let down = edgectl(&site, "node", "relay status");
    assert!(said(&down, 0).contains("(down, pid "), "{down:?}");
    assert!(String::from_utf8_lossy(&down.stderr).contains("edged does not run"), "{down:?}");
    let refused = edgectl(&site, "node", "drain --output json");
    assert_eq!(json_of(&refused, 1)["reasons"][0]["code"], "edged_down");
}

#[test]
fn bandwidth_is_set_with_comments_kept_and_a_wrong_file_changes_nothing() {
    let site = fleet();
    let mut b = Daemon::start(&site, "b", &[]);
    let set = json_of(&edgectl(&site, "b", "relay config set-bandwidth 1000000 --output json"), 0);
    assert_eq!(set, json!({ "bytes_per_second": 1_000_000, "in_force": true }));
    b.wait_for("edge.config.reloaded");
    let text = String::from_utf8(site.world.read("b/edge/local.toml")).expect("UTF-8");
    assert!(text.contains("# any port") && text.contains("bytes_per_second = 1000000"), "{text}");
    let shown = said(&edgectl(&site, "b", "relay config get"), 0);
    assert!(shown.contains("1000000 B/s (from edge/local.toml)"), "{shown}");
    // On SIGHUP the old one stays, and it is told; at the start it is refused.
    site.world.write("b/edge/local.toml", format!("{text}peers = []\n"));
    b.signal("HUP");
    b.wait_for("edge.config.refused");
    let refused = edgectl(&site, "b", "relay config set-bandwidth 5 --output json");
    assert_eq!(json_of(&refused, 1)["reasons"][0]["code"], "bad_config");
    b.signal("TERM");
    assert_eq!(b.end(), Some(0));
    let start = Command::new(program()).current_dir(site.world.path(".")).args(["run", "--state-root", "b"]).output();
    let start = start.expect("runs");
    assert!(
        start.status.code() == Some(1) && String::from_utf8_lossy(&start.stderr).contains("bad_config"),
        "{start:?}"
    );
    site.world.write("b/edge/local.toml", text);
    // Without a daemon it is for the next start.
    let set = json_of(&edgectl(&site, "b", "relay config set-bandwidth 0 --output json"), 0);
    assert_eq!(set["in_force"], false);
}

#[test]
fn a_dead_letter_is_listed_exported_and_purged_and_never_tried_again() {
    let site = fleet();
    // B trusts another root, so it refuses what A sends: 422, every time.
    site.world.run("trust new --role root=c.pub:1 --role manifest=c.pub:1 --role artifact=c.pub:1 --expires 2y --sign c.key --out other.json").exits(0);
    std::fs::remove_dir_all(site.world.path("b")).expect("removes");
    site.world
        .run("init --state-root b --node-id node-b --fleet harbor --hardware x86_64 --trust-root other.json")
        .exits(0);
    site.world.run("cert issue --ca ca --state-root b").exits(0);
    settle(&site, "b", "listen = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"\n");
    let b = Daemon::start(&site, "b", &[]);
    relayed(&site, "one", 1, &b.listen, &json!({ "maxRetryCount": 2 }));
    let mut a = Daemon::start(&site, "node", &[]);
    a.wait_for("edge.deadletter");
    let fingerprint = site.fingerprint("one").to_string();
    let listed = json_of(&edgectl(&site, "node", "relay deadletter list --output json"), 0);
    let row = &listed["rows"][0];
    assert_eq!(
        (&row["manifest"], &row["segment"], &row["state"], &row["attempts"]),
        (&json!(fingerprint), &json!("manifest"), &json!("deadletter"), &json!(2))
    );
    assert!(row["last_error"].as_str().expect("error").contains("422"), "{row}");
    let text = said(&edgectl(&site, "node", "relay deadletter list"), 0);
    assert!(text.contains("node-b") && text.contains("deadletter"), "{text}");
    let bundle = json_of(&edgectl(&site, "node", "relay deadletter export --peer node-b"), 0);
    assert_eq!(
        (&bundle["kind"], &bundle["rows"][0], &bundle["node"]),
        (&json!("DeadLetterEvidence"), row, &json!("node-a"))
    );
    assert!(!bundle.to_string().contains("PRIVATE"));
    let inspected = said(&edgectl(&site, "node", "relay deadletter inspect"), 0);
    assert!(inspected.contains("sign a new manifest"), "{inspected}");
    // There is no retry, and the help says why.
    let retry = edgectl(&site, "node", "relay deadletter retry --all");
    said(&retry, 64);
    let told = String::from_utf8_lossy(&retry.stderr).into_owned();
    assert!(told.contains("no_retry") && told.contains("sign a new manifest with a higher serial"), "{told}");
    let help = said(&edgectl(&site, "node", "relay deadletter --help"), 0);
    assert!(help.contains("There is no retry, by design") && help.contains("new delivery"), "{help}");
    // Nobody to ask.
    assert_eq!(
        json_of(&edgectl(&site, "node", "relay deadletter purge --output json"), 64)["reasons"][0]["code"],
        "consent_missing"
    );
    assert_eq!(
        json_of(&edgectl(&site, "node", "relay deadletter purge --auto-approve --output json"), 0),
        json!({ "purged": 1 })
    );
    assert_eq!(said(&edgectl(&site, "node", "relay deadletter list"), 0), "no dead letters\n");
    // Its count outlives the daemon: a new one does not try it again.
    a.signal("KILL");
    a.end();
    let mut a = Daemon::start(&site, "node", &[]);
    a.wait_for("edge.set.begun");
    let status = status_until(&site, "node", |status| status["counters"]["purged"] == 1);
    assert_eq!(status["counters"]["inflight"], 0, "{status:#}");
    std::thread::sleep(Duration::from_secs(2));
    let status = json_of(&edgectl(&site, "node", "relay status --output json"), 0);
    assert_eq!((&status["counters"]["purged"], &status["rows"]), (&json!(1), &json!([])), "{status:#}");
}

#[test]
fn fi_killed_between_the_durable_attempt_and_its_first_byte_the_count_stands_and_is_not_repeated() {
    let site = fleet();
    let mut b = Daemon::start(&site, "b", &[]);
    relayed(&site, "one", 1, &b.listen, &json!({}));
    // Each of these records one attempt, and is killed before a byte of it leaves.
    for attempts in 1..=2 {
        let mut a = Daemon::start(&site, "node", &[("AUTONOMY_EDGE_STOP_BEFORE_SEND", "1")]);
        a.wait_for("edge.failpoint");
        a.signal("KILL");
        a.end();
        assert!(
            !site.world.has(&format!("b/edge/sets/{}", site.fingerprint("one").hex())),
            "attempt {attempts}: B got something"
        );
    }
    let mut a = Daemon::start(&site, "node", &[]);
    a.wait_for("edge.set.done");
    let status = status_until(&site, "node", |status| status["deliveries"][0]["done"] == true);
    let rows = status["rows"].as_array().expect("rows");
    let manifest = rows.iter().find(|row| row["segment"] == "manifest").expect("row");
    assert_eq!((&manifest["attempts"], &manifest["state"]), (&json!(3), &json!("acked")), "{rows:#?}");
    b.signal("TERM");
    assert_eq!(b.end(), Some(0));
}
