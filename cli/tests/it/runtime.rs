//! The tool server, through the binary: a signed policy decides what an agent may do.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node::Site;

/// Asks before everything else: echo, files and pages may be used, a shell may not.
pub(crate) const TOOL: &str = r#"package autonomy.tool

default allow := false

allow if input.kind in {"tool.echo", "tool.http_get", "tool.file_read", "tool.file_write", "tool.unheard_of"}

deny contains "no shells here" if input.kind == "tool.shell"

deny contains "say it nicely" if contains(input.params.message, "rude")
"#;

/// A node that runs release 1 with such a policy.
pub(crate) fn site(tool: &str) -> Site {
    let site = Site::bare();
    release(&site, "one", 1, tool);
    site.node("apply one --auto-approve").exits(0);
    site
}

/// Renders and signs a release with this policy of tools.
pub(crate) fn release(site: &Site, set: &str, serial: u64, tool: &str) {
    site.world.write("manifests/base/policy/tool.rego", tool);
    site.set(set, serial);
}

/// A runtime that serves.
pub(crate) struct Runtime {
    pub(crate) child: Child,
    pub(crate) at: String,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // It has ended already where the test asked it to.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An answer: code, headers in lower case, body.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Answer {
    /// The codes of its reasons.
    pub(crate) fn codes(&self) -> Vec<&str> {
        self.body["reasons"].as_array().into_iter().flatten().filter_map(|reason| reason["code"].as_str()).collect()
    }
}

impl Runtime {
    pub(crate) fn start(site: &Site, arguments: &str) -> Self {
        let mut command = site.world.command(&format!("runtime start --state-root node --output json {arguments}"));
        if !arguments.contains("--listen") && !arguments.contains("--unix-socket") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::spawn(site, &mut command)
    }

    /// Starts a command that says where it listens.
    pub(crate) fn spawn(site: &Site, command: &mut Command) -> Self {
        let log = std::fs::File::create(site.world.path("runtime.log")).expect("log");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("reads");
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            let log = String::from_utf8_lossy(&site.world.read("runtime.log")).into_owned();
            panic!("it does not serve: {line}{log}")
        });
        Self { child, at: said["listen"].as_str().expect("listen").to_owned() }
    }

    /// Sends these very bytes and reads to the end.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.at).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
        // It may answer and close before all is sent.
        stream.write_all(bytes).ok();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).ok();
        answer(&text)
    }

    /// A request with headers of one's own.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            self.at,
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", b"")
    }

    /// A call with a body of one's own.
    pub(crate) fn post(&self, body: &[u8]) -> Answer {
        self.request("POST", "/v1/tool", "Content-Type: application/json\r\n", body)
    }

    pub(crate) fn call(&self, kind: &str, params: &Value) -> Answer {
        self.post(json!({ "kind": kind, "params": params }).to_string().as_bytes())
    }

    /// Waits until `/readyz` says so.
    #[track_caller]
    pub(crate) fn waits_until(&self, what: &str, is_so: impl Fn(&Answer) -> bool) -> Answer {
        let since = Instant::now();
        loop {
            let ready = self.get("/readyz");
            if is_so(&ready) {
                return ready;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "{what}: {}", ready.body);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }
}

fn answer(text: &[u8]) -> Answer {
    let split = text.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(text.len());
    let head = String::from_utf8_lossy(&text[..split]).to_lowercase();
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = text.get(split + 4..).unwrap_or_default();
    // Chunked bodies are those of documents; each is one chunk.
    let whole = serde_json::from_slice(body).ok();
    let text = || Value::from(String::from_utf8_lossy(body).into_owned());
    Answer { code, head, body: whole.unwrap_or_else(text) }
}

/// The records of a kind in the runtime's log.
pub(crate) fn records(state_root: &Path, kind: &str) -> Vec<Value> {
    let log = std::fs::read(state_root.join("telemetry/runtime/telemetry.wal")).expect("log");
    let (mut at, mut found) = (0, Vec::new());
    while at < log.len() {
        let length = u32::from_be_bytes(log[at..at + 4].try_into().expect("four bytes")) as usize;
        let record: Value = serde_json::from_slice(&log[at + 4..at + 4 + length]).expect("JSON");
        found.push(record);
        at += 4 + length;
    }
    found.retain(|record| record["kind"] == kind);
    found
}

#[test]
fn a_signed_policy_decides_and_its_decision_is_durable() {
    let site = site(TOOL);
    let runtime = Runtime::start(&site, "");
    let echo = runtime.call("tool.echo", &json!({ "message": "ahoy", "password": "hunter2" }));
    assert_eq!(
        (echo.code, echo.codes()),
        (400, vec!["bad_request"]),
        "allowed, and it has no such parameter: {}",
        echo.body
    );
    let echo = runtime.call("tool.echo", &json!({ "message": "ahoy" }));
    assert_eq!(echo.code, 200, "{}", echo.body);
    assert_eq!(echo.body["decision"], "allow");
    assert_eq!(echo.body["result"], json!({ "message": "ahoy" }));
    assert_eq!(echo.body["rule"], "data.autonomy.tool.allow");
    let shell = runtime.call("tool.shell", &json!({ "argv": ["/bin/true"] }));
    assert_eq!((shell.code, shell.codes()), (403, vec!["policy_denied"]), "{}", shell.body);
    assert_eq!(shell.body["reasons"][0]["message"], "no shells here");
    assert_eq!(shell.body["rule"], "data.autonomy.tool.deny");
    let policy = site.world.read("one/policy.tar.gz");
    assert_eq!(shell.body["policy_ref"]["digest"], autonomy_schema::Sha256::of(&policy).to_string());
    // On record, in the order in which they were decided, and what is secret is not.
    let found = records(&site.world.path("node"), "tool.decision");
    let told: Vec<_> = found.iter().map(|record| (&record["body"]["tool"], &record["body"]["decision"])).collect();
    let wanted = [("tool.echo", "allow"), ("tool.echo", "allow"), ("tool.shell", "deny")];
    assert_eq!(told.len(), wanted.len());
    for (told, wanted) in told.iter().zip(wanted) {
        assert_eq!((told.0.as_str(), told.1.as_str()), (Some(wanted.0), Some(wanted.1)));
    }
    assert_eq!(found[0]["body"]["params"], json!({ "message": "ahoy", "password": "[redacted]" }));
    assert_eq!(found[2]["body"]["policy"]["digest"], shell.body["policy_ref"]["digest"]);
    assert_eq!(shell.body["decision_id"], format!("runtime:wal:{}", found[2]["seq"]));
    assert_eq!(found[2]["body"]["input_digest"], shell.body["input_digest"]);
    let input =
        autonomy_schema::canonical::to_bytes(&json!({ "kind": "tool.shell", "params": { "argv": ["/bin/true"] } }));
    assert_eq!(shell.body["input_digest"], autonomy_schema::Blake3::of(&input.expect("canonical")).to_string());
    // With curl, as people ask.
    let curl = Command::new("curl")
        .args([
            "-sS",
            "-w",
            "%{http_code}",
            "-H",
            "Content-Type: application/json",
            "-d",
            r#"{"kind":"tool.shell","params":{}}"#,
        ])
        .arg(format!("http://{}/v1/tool", runtime.at))
        .output()
        .expect("curl");
    let said = String::from_utf8_lossy(&curl.stdout).into_owned();
    assert!(said.ends_with("403") && said.contains("no shells here"), "{said}");
    let ready = runtime.get("/readyz");
    assert_eq!((ready.code, ready.body["status"].as_str()), (200, Some("ready")));
    let lock: Value = serde_json::from_slice(&site.world.read("one/autonomy.lock.json")).expect("JSON");
    assert_eq!(ready.body["lock"], lock["behavioral_fingerprint"]);
    assert_eq!(runtime.get("/healthz").code, 200);
}

#[test]
fn the_runtime_ends_gracefully() {
    let site = site(TOOL);
    let mut runtime = Runtime::start(&site, "");
    assert_eq!(runtime.call("tool.echo", &json!({ "message": "x" })).code, 200);
    runtime.signal("-TERM");
    let status = runtime.child.wait().expect("ends");
    assert_eq!(status.code(), Some(0));
    assert_eq!(records(&site.world.path("node"), "runtime.ended").len(), 1);
    site.node("fsck").exits(0);
}
