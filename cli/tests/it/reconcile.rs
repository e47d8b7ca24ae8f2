//! The loop, through the binary: rounds, health, metrics, signals.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node::Site;

/// Far longer than anything here takes; a test that waits this long has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// A loop that ends with the test.
pub(crate) struct Loop(Child);

impl Drop for Loop {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Loop {
    /// Starts it; its rounds go to `rounds.jsonl`, its messages to `messages.txt`.
    pub(crate) fn start(site: &Site, source: &str) -> Self {
        Self::start_on(site, source, "unix:loop.sock")
    }

    /// The same, with its endpoint at another place.
    fn start_on(site: &Site, source: &str, listen: &str) -> Self {
        let file = |name: &str| std::fs::File::create(site.world.path(name)).expect("file");
        let child = Command::new(env!("CARGO_BIN_EXE_autonomy"))
            .args(["reconcile", "--state-root", "node", "--interval", "1s", "--json"])
            .args(["--source", source, "--listen", listen])
            .current_dir(site.world.path(""))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(file("rounds.jsonl"))
            .stderr(file("messages.txt"))
            .spawn()
            .expect("starts");
        Self(child)
    }

    /// Asks it to end; gives its exit code.
    pub(crate) fn end(self) -> Option<i32> {
        self.end_by("-TERM")
    }

    /// The same with another signal.
    fn end_by(mut self, signal: &str) -> Option<i32> {
        let killed = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(killed.expect("kill").success());
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("waits") {
                return status.code();
            }
            assert!(start.elapsed() < LIMIT, "{signal} did not end it");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Waits for a round that satisfies `wanted`.
#[track_caller]
pub(crate) fn await_round(site: &Site, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let text = String::from_utf8(site.world.read("rounds.jsonl")).expect("UTF-8");
        let rounds = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(round) = rounds.into_iter().find(|round| wanted(round)) {
            return round;
        }
        let messages = String::from_utf8_lossy(&site.world.read("messages.txt")).into_owned();
        assert!(start.elapsed() < LIMIT, "no {what} in\n{text}{messages}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `GET path` over the loop's socket: status and body.
fn get(socket: &Path, path: &str) -> (u16, String) {
    ask(UnixStream::connect(socket).expect("connects"), path)
}

fn ask(mut stream: impl Read + Write, path: &str) -> (u16, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

/// Puts another set where the loop looks, by one rename.
fn point(site: &Site, set: &str) {
    std::os::unix::fs::symlink(set, site.world.path("next")).expect("link");
    std::fs::rename(site.world.path("next"), site.world.path("source")).expect("renames");
}

fn outcome(round: &Value) -> &str {
    round["outcome"].as_str().unwrap_or_default()
}

#[test]
fn one_round_has_the_exit_code_of_what_it_came_to() {
    let site = Site::bare();
    site.set("one", 1);
    site.node("reconcile --source one --once").exits(0);
    site.is_whole(&[1]);
    let told = site.node("reconcile --source one --once").exits(0).stdout();
    assert!(told.contains("unchanged"), "{told}");
    site.node("reconcile --source nowhere --once").exits(1).warns("source_not_found: ");
    site.set("two", 2);
    site.node("suspend").exits(0);
    site.node("reconcile --source two --once").exits(10).warns("suspended: ");
    site.node("resume").exits(0);
    site.world.write("two/artifacts/more", "x");
    site.node("reconcile --source two --once").exits(3).warns("extraneous_file: ");
    std::fs::remove_file(site.world.path("two/artifacts/more")).expect("removes");
    site.node("reconcile --source two --once --json").exits(0);
    site.is_whole(&[2]);
    site.node("reconcile --source two --interval 10ms").exits(64);
    site.node("reconcile --source two --listen 0.0.0.0:9000").exits(64).warns("not on loopback");
    site.node("reconcile").exits(64);
}

#[test]
fn the_loop_follows_tells_and_ends() {
    let site = Site::bare();
    site.set("one", 1);
    site.set("two", 2);
    point(&site, "one");
    let running = Loop::start(&site, "source");
    await_round(&site, "first activation", |round| outcome(round) == "applied");
    point(&site, "two");
    await_round(&site, "update", |round| {
        outcome(round) == "applied" && round["generation"].as_str().is_some_and(|name| name.starts_with("2-"))
    });
    let socket = site.world.path("loop.sock");
    assert_eq!(get(&socket, "/healthz").0, 200);
    let (status, body) = get(&socket, "/readyz");
    assert_eq!(status, 200, "{body}");
    assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON")["outcome"], "applied");
    let (status, metrics) = get(&socket, "/metrics");
    assert_eq!(status, 200);
    for line in ["autonomy_reconcile_rounds_total{outcome=\"applied\"} 2", "autonomy_reconcile_held 0", "# EOF"] {
        assert!(metrics.contains(line), "no `{line}` in\n{metrics}");
    }
    assert_eq!(get(&socket, "/other").0, 404);
    // Drift is repaired without being asked.
    std::fs::write(site.world.path("node/current/artifacts/etc/tools.json"), "{}").expect("drift");
    await_round(&site, "repair", |round| {
        outcome(round) == "applied" && round["generation"].as_str().is_some_and(|name| name.ends_with("-2"))
    });
    // A source that vanishes is a named error, and the node goes on.
    std::fs::remove_file(site.world.path("source")).expect("removes");
    await_round(&site, "failure", |round| {
        outcome(round) == "failed" && round["reasons"][0]["code"] == "source_not_found"
    });
    assert_eq!(get(&socket, "/readyz").0, 503);
    site.is_whole(&[2]);
    point(&site, "two");
    assert_eq!(running.end(), Some(0));
    assert!(!socket.exists(), "the socket is gone");
    site.is_whole(&[2]);
}

#[test]
fn what_was_refused_is_not_tried_again_until_something_moves() {
    let site = Site::running();
    site.set("bad", 2);
    site.doctor("bad", |m| m["spec"]["services"] = json!([{"command": ["/bin/false"]}]));
    point(&site, "bad");
    let running = Loop::start(&site, "source");
    await_round(&site, "roll-back", |round| {
        outcome(round) == "returned" && round["reasons"][0]["code"] == "service_failed"
    });
    await_round(&site, "the pin", |round| outcome(round) == "refused" && round["reasons"][0]["code"] == "pinned");
    site.set("three", 3);
    point(&site, "three");
    await_round(&site, "recovery", |round| outcome(round) == "applied");
    assert_eq!(running.end(), Some(0));
    let rounds = String::from_utf8(site.world.read("rounds.jsonl")).expect("UTF-8");
    let failed = rounds.lines().filter(|line| line.contains("service_failed")).count();
    assert_eq!(failed, 1, "the release that failed ran once: {rounds}");
    site.is_whole(&[3]);
}

#[test]
fn a_suspended_loop_waits_and_goes_on_when_resumed() {
    let site = Site::running();
    site.set("two", 2);
    point(&site, "two");
    site.node("suspend").exits(0);
    let running = Loop::start(&site, "source");
    await_round(&site, "held", |round| outcome(round) == "held" && round["reasons"][0]["code"] == "suspended");
    assert_eq!(get(&site.world.path("loop.sock"), "/readyz").0, 200);
    site.node("resume").exits(0);
    await_round(&site, "applied", |round| outcome(round) == "applied");
    assert_eq!(running.end_by("-INT"), Some(0));
    let rounds = String::from_utf8(site.world.read("rounds.jsonl")).expect("UTF-8");
    assert_eq!(rounds.lines().filter(|line| line.contains("\"held\"")).count(), 1, "told once: {rounds}");
}

#[test]
fn health_is_served_on_loopback_as_well() {
    let site = Site::running();
    point(&site, "one");
    let running = Loop::start_on(&site, "source", "127.0.0.1:0");
    await_round(&site, "a round", |round| outcome(round) == "unchanged");
    let told = String::from_utf8(site.world.read("messages.txt")).expect("UTF-8");
    let address = told.lines().find_map(|line| line.strip_prefix("Health and metrics on ")).expect("an address");
    let connect = || std::net::TcpStream::connect(address).expect("connects");
    assert_eq!(ask(connect(), "/readyz").0, 200);
    assert!(ask(connect(), "/metrics").1.contains("autonomy_reconcile_rounds_total{outcome=\"unchanged\"} 1"));
    assert_eq!(running.end(), Some(0));
}

/// Puts a set into the inbox as `edged` does: whole, and in one rename.
fn hand_over(site: &Site, set: &str) {
    let name = site.fingerprint(set).hex();
    site.copy(set, "node/inbox/.part");
    std::fs::rename(site.world.path("node/inbox/.part"), site.world.path(&format!("node/inbox/{name}")))
        .expect("renames");
}

#[test]
fn what_a_peer_relays_is_taken_from_the_inbox_while_the_loop_runs() {
    let site = Site::running();
    let follow = Loop::start(&site, "inbox");
    // A set that is still being received is none, and of an empty inbox nothing is told.
    site.set("two", 2);
    site.copy("two", "node/inbox/.part");
    std::thread::sleep(Duration::from_millis(1500));
    let rounds = String::from_utf8(site.world.read("rounds.jsonl")).expect("UTF-8");
    assert_eq!(rounds, "");
    std::fs::remove_dir_all(site.world.path("node/inbox/.part")).expect("removes");
    let two = site.fingerprint("two").to_string();
    hand_over(&site, "two");
    await_round(&site, "release 2", |round| outcome(round) == "applied" && round["tip"] == format!("inbox:{two}"));
    // Two at once: the newer one is what runs, and nothing stays behind.
    site.set("three", 3);
    site.set("four", 4);
    hand_over(&site, "three");
    hand_over(&site, "four");
    let four = format!("inbox:{}", site.fingerprint("four"));
    await_round(&site, "release 4", |round| outcome(round) == "applied" && round["tip"] == four);
    // One that was changed on the way is refused, and keeps nothing newer away.
    site.set("five", 5);
    site.copy("five", "spoiled");
    site.world.write("spoiled/artifacts/etc/prompt.txt", "another prompt");
    hand_over(&site, "spoiled");
    await_round(&site, "refusal", |round| outcome(round) == "refused");
    site.set("six", 6);
    hand_over(&site, "six");
    let six = format!("inbox:{}", site.fingerprint("six"));
    await_round(&site, "release 6", |round| outcome(round) == "applied" && round["tip"] == six);
    assert_eq!(follow.end(), Some(0));
    assert_eq!(crate::import::inbox(&site), Vec::<String>::new());
    // The node signs that it runs what came.
    let told = site.node("trace latest").exits(0).stdout();
    assert!(told.contains("\n       active  "), "{told}");
}

#[test]
fn sets_of_other_streams_and_for_other_nodes_keep_nothing_from_the_inbox() {
    let site = Site::running();
    site.set("other", 9);
    site.doctor("other", |manifest| manifest["metadata"]["name"] = "another-stream".into());
    site.set("elsewhere", 8);
    site.doctor("elsewhere", |manifest| manifest["spec"]["scope"]["matchLabels"]["site"] = "pier-8".into());
    site.set("two", 2);
    for set in ["other", "elsewhere", "two"] {
        hand_over(&site, set);
    }
    site.node("reconcile --once").exits(0);
    site.node("generations").exits(0);
    let runs: Value = serde_json::from_str(&site.node("status --output json").exits(0).stdout()).expect("JSON");
    assert_eq!(runs["active"]["serial"], 2, "{runs:#}");
}
