//! Who may ask the runtime, by what it judges, and what becomes of it when that changes.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::node::Site;
use crate::runtime::{Runtime, TOOL, records, release, site};

fn echo() -> Value {
    json!({ "message": "ahoy" })
}

#[test]
fn an_apply_swaps_the_policy_under_a_running_runtime() {
    let site = site(TOOL);
    let runtime = Runtime::start(&site, "");
    let first = runtime.call("tool.echo", &echo());
    assert_eq!(first.code, 200);
    release(
        &site,
        "two",
        2,
        "package autonomy.tool\n\nallow := true\n\ndeny contains \"quiet now\" if input.kind == \"tool.echo\"\n",
    );
    let before = first.body["policy_ref"]["digest"].as_str().expect("digest").to_owned();
    let after = autonomy_schema::Sha256::of(&site.world.read("two/policy.tar.gz")).to_string();
    // Calls go on while it is applied: each is answered, wholly by the one policy or by the other.
    let (ends, seen) = (AtomicBool::new(false), std::sync::Mutex::new((0, 0)));
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                let answer = runtime.call("tool.echo", &echo());
                let by = answer.body["policy_ref"]["digest"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{}", answer.body))
                    .to_owned();
                let mut seen = seen.lock().expect("lock");
                if by == before {
                    assert_eq!(answer.code, 200, "{}", answer.body);
                    seen.0 += 1;
                } else {
                    assert_eq!((by.as_str(), answer.code), (after.as_str(), 403), "{}", answer.body);
                    assert_eq!(answer.body["reasons"][0]["message"], "quiet now");
                    seen.1 += 1;
                }
            }
        });
        site.node("apply two --auto-approve").exits(0);
        runtime.waits_until("the new policy serves", |ready| ready.body["policy_ref"]["digest"] == after.as_str());
        assert_eq!(runtime.call("tool.echo", &echo()).code, 403);
        ends.store(true, Ordering::Relaxed);
        calls.join().expect("every call was answered");
    });
    let seen = seen.into_inner().expect("lock");
    assert!(seen.0 > 0 && seen.1 > 0, "{seen:?}");
    let told = records(&site.world.path("node"), "runtime.policy.serving");
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1]["body"]["policy"]["digest"], after.as_str());
    // The way back is a swap too.
    site.node("rollback --auto-approve").exits(0);
    runtime.signal("-HUP");
    runtime.waits_until("the old policy serves again", |ready| ready.body["policy_ref"]["digest"] == before.as_str());
    assert_eq!(runtime.call("tool.echo", &echo()).code, 200);
}

#[test]
fn a_release_without_rules_for_tools_denies_all_until_the_next_one() {
    let site = site(TOOL);
    let runtime = Runtime::start(&site, "");
    release(&site, "two", 2, "package autonomy.other\n\nallow := true\n");
    site.node("apply two --auto-approve").exits(0);
    let closed = runtime.waits_until("nothing is allowed", |ready| ready.code == 503);
    assert_eq!(closed.codes(), ["no_policy"]);
    let denied = runtime.call("tool.echo", &echo());
    assert_eq!((denied.code, denied.codes()), (403, vec!["no_policy"]), "{}", denied.body);
    release(&site, "three", 3, TOOL);
    site.node("apply three --auto-approve").exits(0);
    runtime.waits_until("it is asked again", |ready| ready.code == 200);
    assert_eq!(runtime.call("tool.echo", &echo()).code, 200);
}

#[test]
fn what_the_lock_does_not_bind_is_not_served() {
    let site = site(TOOL);
    let runtime = Runtime::start(&site, "");
    let generation = std::fs::read_link(site.world.path("node/current")).expect("link");
    let inside = |name: &str| format!("node/{}/{name}", generation.display());
    let spoil = |name: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let path = site.world.path(&inside(name));
        let kept = std::fs::read(&path).expect("reads");
        // The artifacts of a generation are links to objects; whoever tampers replaces them.
        std::fs::remove_file(&path).expect("removes");
        std::fs::write(&path, change(kept.clone())).expect("writes");
        (path, kept)
    };
    for name in ["autonomy.lock.json", "autonomy.lock.json.sigstore.jsonl", "artifacts/bin/agent"] {
        let (path, kept) = spoil(name, &|mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        });
        let closed = runtime.waits_until(name, |ready| ready.code == 503);
        assert_eq!(closed.codes(), ["lock_invalid"], "{name}");
        assert_eq!(runtime.call("tool.echo", &echo()).codes(), ["lock_invalid"], "{name}");
        // Nor does it start; where no lock is demanded it does.
        site.node("runtime start --listen 127.0.0.1:0").exits(3).warns("lock_invalid: ");
        let lax = Runtime::start(&site, "--require-lock=false");
        assert_eq!(lax.call("tool.echo", &echo()).code, 200, "{name}");
        assert_eq!(lax.get("/readyz").body["lock"], Value::Null);
        drop(lax);
        std::fs::write(&path, kept).expect("writes");
        runtime.waits_until("it is whole again", |ready| ready.code == 200);
    }
    let (path, kept) = spoil("policy.tar.gz", &|_| b"no bundle".to_vec());
    let closed = runtime.waits_until("no policy", |ready| ready.code == 503);
    assert!(!closed.codes().is_empty());
    assert_eq!(runtime.call("tool.echo", &echo()).code, 403);
    // Without lock and policy it starts where neither is demanded, and denies all.
    site.node("runtime start --listen 127.0.0.1:0 --require-lock=false").exits(4).warns("no_policy: ");
    let lax = Runtime::start(&site, "--require-lock=false --require-policy=false");
    assert_eq!(lax.call("tool.echo", &echo()).codes(), ["no_policy"]);
    assert_eq!(lax.get("/readyz").code, 503);
    std::fs::write(&path, kept).expect("writes");
    runtime.waits_until("it is whole again", |ready| ready.code == 200);
}

#[test]
fn a_node_that_runs_nothing_starts_no_runtime_unless_it_may_deny_all() {
    let site = Site::bare();
    site.node("runtime start --listen 127.0.0.1:0").exits(3).warns("lock_invalid: ");
    site.node("runtime start --listen 127.0.0.1:0 --require-lock=false").exits(4).warns("no_policy: ");
    let runtime = Runtime::start(&site, "--require-lock=false --require-policy=false");
    let denied = runtime.call("tool.echo", &echo());
    assert_eq!((denied.code, denied.codes(), &denied.body["policy_ref"]), (403, vec!["no_policy"], &Value::Null));
    // A release makes it serve.
    release(&site, "one", 1, TOOL);
    site.node("apply one --auto-approve").exits(0);
    runtime.waits_until("it serves", |ready| ready.code == 200);
    assert_eq!(runtime.call("tool.echo", &echo()).code, 200);
}

#[test]
fn a_token_is_demanded_of_everybody_who_asks() {
    let site = site(TOOL);
    let private = |name: &str, text: &str, mode: u32| {
        site.world.write(name, text);
        std::fs::set_permissions(site.world.path(name), std::fs::Permissions::from_mode(mode)).expect("mode");
    };
    private("token", "correct-horse-battery\n", 0o600);
    private("open", "correct-horse-battery\n", 0o644);
    private("short", "horse\n", 0o600);
    site.node("runtime start --listen 0.0.0.0:0").exits(64).warns("--token-file");
    site.node("runtime start --listen 127.0.0.1:0 --token-file open").exits(3).warns("key_exposed: ");
    site.node("runtime start --listen 127.0.0.1:0 --token-file short").exits(1).warns("wrong_key: ");
    let mut runtime = Runtime::start(&site, "--listen 0.0.0.0:0 --token-file token");
    runtime.at = format!("127.0.0.1:{}", runtime.at.rsplit_once(':').expect("port").1);
    let body = json!({ "kind": "tool.echo", "params": echo() }).to_string();
    let ask = |authorization: &str| {
        let headers = format!("Content-Type: application/json\r\n{authorization}");
        runtime.request("POST", "/v1/tool", &headers, body.as_bytes())
    };
    assert_eq!(ask("Authorization: Bearer correct-horse-battery\r\n").code, 200);
    for wrong in [
        "",
        "Authorization: Bearer correct-horse-batterx\r\n",
        "Authorization: Bearer correct-horse-battery-staple\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Basic correct-horse-battery\r\n",
        "Authorization: correct-horse-battery\r\n",
        "Authorization: Bearer wrong-wrong-wrong\r\nAuthorization: Bearer correct-horse-battery\r\n",
    ] {
        let refused = ask(wrong);
        assert_eq!((refused.code, refused.codes()), (401, vec!["unauthorized"]), "{wrong}");
        assert!(refused.head.contains("www-authenticate: bearer"), "{}", refused.head);
    }
    for path in ["/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(runtime.get(path).code, 401, "{path}");
    }
    assert_eq!(runtime.get("/healthz").code, 200);
    let log = String::from_utf8(site.world.read("runtime.log")).expect("UTF-8");
    assert!(!log.contains("horse") && log.contains("unencrypted"), "{log}");
}

#[test]
fn clients_with_a_certificate_of_the_ca_are_let_in_and_nobody_else() {
    let site = site(TOOL);
    let openssl = |arguments: &str| {
        let ran = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(site.world.path(""))
            .output()
            .expect("openssl");
        assert!(ran.status.success(), "{arguments}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for ca in ["ca", "stranger"] {
        openssl(&format!("req -x509 {key} -keyout {ca}.key -out {ca}.crt -days 30 -subj /CN={ca}"));
    }
    for (name, ca, san) in
        [("server", "ca", "IP:127.0.0.1"), ("client", "ca", "DNS:agent"), ("other", "stranger", "DNS:agent")]
    {
        openssl(&format!(
            "req -x509 -CA {ca}.crt -CAkey {ca}.key {key} -keyout {name}.key -out {name}.crt -days 30 -subj /CN={name} -addext subjectAltName={san} -addext basicConstraints=critical,CA:FALSE"
        ));
        std::fs::set_permissions(site.world.path(&format!("{name}.key")), std::fs::Permissions::from_mode(0o600))
            .expect("mode");
    }
    let runtime =
        Runtime::start(&site, "--listen 127.0.0.1:0 --tls-cert server.crt --tls-key server.key --client-ca ca.crt");
    let curl = |arguments: &str| {
        let ran = Command::new("curl")
            .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: application/json"])
            .args(["-d", r#"{"kind":"tool.echo","params":{"message":"x"}}"#])
            .args(arguments.split_whitespace())
            .arg(format!("https://{}/v1/tool", runtime.at))
            .current_dir(site.world.path(""))
            .output()
            .expect("curl");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    assert_eq!(curl("--cacert ca.crt --cert client.crt --key client.key"), "200");
    assert_eq!(curl("--cacert ca.crt"), "000");
    assert_eq!(curl("--cacert ca.crt --cert other.crt --key other.key"), "000");
    assert_eq!(
        curl("--cacert stranger.crt --cert client.crt --key client.key"),
        "000",
        "curl does not know the server"
    );
    assert_eq!(curl("--cacert ca.crt --tls-max 1.2 --cert client.crt --key client.key"), "000");
}

#[test]
fn a_unix_socket_is_for_its_user_alone_and_goes_away() {
    let site = site(TOOL);
    let path = site.world.path("runtime.sock");
    let mut runtime = Runtime::start(&site, "--unix-socket runtime.sock");
    let metadata = path.symlink_metadata().expect("socket");
    assert_eq!(metadata.mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).expect("connects");
    let body = json!({ "kind": "tool.echo", "params": echo() }).to_string();
    let head = format!(
        "POST /v1/tool HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("reads");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("ahoy"), "{answer}");
    // A second one does not take the first one's place.
    site.node("runtime start --unix-socket runtime.sock").exits(1).warns("something is there already");
    runtime.signal("-TERM");
    assert_eq!(runtime.child.wait().expect("ends").code(), Some(0));
    assert!(!path.exists());
    // What a killed one left is no obstacle, what is no socket is.
    let mut killed = Runtime::start(&site, "--unix-socket runtime.sock");
    killed.child.kill().expect("kills");
    killed.child.wait().expect("ends");
    assert!(path.exists());
    drop(Runtime::start(&site, "--unix-socket runtime.sock"));
    site.world.write("file", "x");
    site.node("runtime start --unix-socket file").exits(1).warns("something is there already");
}

#[test]
fn the_openapi_document_and_the_metrics_tell_what_there_is() {
    let site = site(TOOL);
    let runtime = Runtime::start(&site, "");
    runtime.call("tool.echo", &echo());
    runtime.call("tool.shell", &json!({}));
    let document = runtime.get("/openapi.json");
    assert_eq!(
        (document.code, document.body["openapi"].as_str().map(|version| version.starts_with("3."))),
        (200, Some(true))
    );
    let paths: Vec<&String> = document.body["paths"].as_object().expect("paths").keys().collect();
    assert_eq!(paths, ["/healthz", "/metrics", "/openapi.json", "/readyz", "/v1/tool"]);
    let codes: Vec<&String> =
        document.body["paths"]["/v1/tool"]["post"]["responses"].as_object().expect("codes").keys().collect();
    assert_eq!(codes, ["200", "400", "401", "403", "405", "408", "413", "415", "429"]);
    // Every reference leads somewhere, and the answers have the fields that it draws.
    let text = document.body.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().expect("end")) {
        assert!(document.body.pointer(reference).is_some(), "{reference}");
    }
    let drawn =
        document.body["components"]["schemas"]["Decided"]["properties"].as_object().expect("properties").clone();
    let answer = runtime.call("tool.shell", &json!({}));
    for field in answer.body.as_object().expect("object").keys() {
        assert!(drawn.contains_key(field), "{field}");
    }
    let metrics = runtime.get("/metrics");
    let text = metrics.body.as_str().expect("text");
    for line in [
        "autonomy_runtime_decisions_total{decision=\"allow\"} 1",
        "autonomy_runtime_decisions_total{decision=\"deny\"} 2",
        "autonomy_runtime_tool_runs_total{tool=\"tool.echo\",result=\"done\"} 1",
        "autonomy_runtime_requests_total{code=\"403\"} 2",
        "autonomy_runtime_policy_swaps_total 1",
        "# EOF",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}
